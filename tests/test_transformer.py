"""The transformer: what it computes, what it can learn, and the exact linear fit beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_samples, split_samples

from gpmap_cli.dataset.coding import Samples
from gpmap_cli.layers.genotype_transformer import AttentionBlock, GatedLayer, GenotypeTransformer
from gpmap_cli.metrics import r2_score
from gpmap_cli.models.transformer import Settings, Transformer
from gpmap_cli.settings import Group, fill
from gpmap_cli.solvers import linear_baseline
from gpmap_cli.solvers.linear_baseline import fit_linear_baseline
from gpmap_cli.training.batches import DeviceGenotypes
from gpmap_cli.training.context import FitContext, World
from gpmap_cli.training.problems import EveryEnvironment
from gpmap_cli.training.settings import TrainingSettings

FAST = TrainingSettings(
    "test", 40, 64, 0.01, optimizer="muon", weight_decay=1.0, max_gradient_norm=1.0, min_steps_per_epoch=20
)


def drawn(network, seed=0):
    network.double()
    network.draw(np.random.default_rng(seed))
    return network


def normed(z):
    return z / np.sqrt((z**2).mean(axis=-1, keepdims=True) + np.finfo(float).eps)


def softmax(scores):
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def silu(a):
    return a / (1 + np.exp(-a))


def test_an_attention_block_is_its_formula():
    block = drawn(AttentionBlock(6, 2))
    z = np.random.default_rng(1).normal(size=(3, 5, 6))
    weights = {name: value.detach().numpy() for name, value in block.named_parameters()}
    query, key, value = np.split(normed(z) @ weights["query_key_value"].T, 3, axis=2)
    heads = []
    for head in (slice(0, 3), slice(3, 6)):
        scores = query[:, :, head] @ key[:, :, head].transpose(0, 2, 1) / np.sqrt(3)
        heads.append(softmax(scores) @ value[:, :, head])
    expected = z + np.concatenate(heads, axis=2) @ weights["attended"].T
    gate, up = np.split(normed(expected) @ weights["gate_up"].T, 2, axis=2)
    expected = expected + (silu(gate) * up) @ weights["down"].T
    np.testing.assert_allclose(block(torch.from_numpy(z)).detach().numpy(), expected, rtol=1e-10)


def test_fused_attention_of_many_loci_is_the_plain_one(monkeypatch):
    block = drawn(AttentionBlock(6, 2))
    z = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 9, 6)))
    plain = block(z)
    monkeypatch.setattr("gpmap_cli.layers.genotype_transformer._FUSED_FROM", 1)
    torch.testing.assert_close(block(z), plain, rtol=1e-10, atol=1e-12)


def test_a_gated_layer_begins_as_a_product_and_bends():
    layer = drawn(GatedLayer(4, 3))
    h = np.random.default_rng(1).normal(size=(5, 4))
    a, b = np.split(normed(h) @ layer.weight.detach().numpy().T, 2, axis=1)
    out = layer(torch.from_numpy(h)).detach().numpy()
    np.testing.assert_allclose(out, np.concatenate([h, a * b], axis=1), rtol=1e-10)
    with torch.no_grad():
        layer.slope.fill_(1.5)
    bent = 2 * a / (1 + np.exp(-1.5 * a)) * b
    np.testing.assert_allclose(layer(torch.from_numpy(h)).detach().numpy()[:, 4:], bent, rtol=1e-10)


def test_a_fit_begins_at_zero_whatever_the_blocks():
    network = drawn(GenotypeTransformer(5, 2, 4, 2, 1, 2, 8, 3))
    assert (network(torch.ones(3, 5).double()) == 0).all()
    assert {one.ndim for one in network.matrices()} == {2}


def product_of_four(num_samples=3000, num_loci=8, seed=0):
    """Samples whose phenotypes are three fourth-order terms and a little noise."""
    samples = make_samples(num_samples=num_samples, num_loci=num_loci, num_environments=1, seed=seed)
    x = 2.0 * samples.genotypes.stored - 1
    y = x[:, :4].prod(axis=1) + x[:, 2:6].prod(axis=1) + x[:, 4:].prod(axis=1)
    y = y + 0.2 * np.random.default_rng(seed).normal(size=num_samples)
    return Samples(samples.genotypes, ((y - y.mean()) / y.std())[:, None])


def test_fourth_order_epistasis_is_learned_where_pairs_see_nothing():
    train, validation = split_samples(product_of_four())
    model = Transformer(Settings())
    model.fit(train, validation, FitContext(0, ("a",), FAST))
    test = product_of_four(seed=1)
    assert r2_score(test.phenotypes[:, 0], model.predict(test.genotypes)[:, 0]) > 0.9
    pairs = fit_linear_baseline(train, "pairwise", FitContext(0, ("a",), FAST)).predict(test.genotypes)
    assert r2_score(test.phenotypes[:, 0], pairs[:, 0]) < 0.1


def test_where_there_is_nothing_but_pairs_it_is_not_below_them():
    samples = make_samples(num_samples=400, num_loci=8, num_environments=1, order=2)
    train, validation = split_samples(samples)
    context = FitContext(0, ("a",), FAST)
    alone, beside = Transformer(Settings(linear="none")), Transformer(Settings())
    for model in (alone, beside):
        model.fit(train, validation, context)
    pairs = fit_linear_baseline(train, "pairwise", context)
    scores = [
        r2_score(validation.phenotypes[:, 0], f.predict(validation.genotypes)[:, 0]) for f in (alone, beside, pairs)
    ]
    assert scores[1] >= max(scores[0], scores[2])


def test_an_environment_without_validation_phenotypes_takes_the_shares_of_the_others(monkeypatch):
    """And beyond what pairs can be fitted for, the additive fit lends it what its correlations are worth."""
    monkeypatch.setattr(linear_baseline, "can_fit_pairs", lambda *_: False)
    rng = np.random.default_rng(0)
    samples = make_samples(num_samples=400, num_loci=20, num_environments=3, order=1)
    x = samples.genotypes.rows(slice(None))
    y = np.stack([x @ rng.normal(size=20)] * 3, axis=1) + 2 * rng.normal(size=(400, 3))
    y[:, 1] += x @ rng.normal(size=20) / 3
    train, validation = split_samples(Samples(samples.genotypes, (y - y.mean(axis=0)) / y.std(axis=0)), 100)
    few, none = train.phenotypes.copy(), validation.phenotypes.copy()
    few[12:, 2], none[:, 2] = np.nan, np.nan
    model = Transformer(Settings(num_units=8, num_blocks=0))
    context = FitContext(0, ("a", "b", "c"), FAST)
    model.fit(Samples(train.genotypes, few), Samples(validation.genotypes, none), context)
    np.testing.assert_allclose(model._shares[:, 2], model._shares[:, :2].mean(axis=1))
    own = linear_baseline.fit_linear_baseline(Samples(train.genotypes, few), "ridge", context)
    joint, alone = (f.predict(validation.genotypes)[:, 2] for f in (model._baseline, own))
    assert r2_score(validation.phenotypes[:, 2], joint) > r2_score(validation.phenotypes[:, 2], alone) + 0.1


def test_missing_phenotypes_are_masked_and_no_sample_is_thrown_away():
    """A phenotype that is missing may be anything; one that is there in another environment counts."""
    samples = make_samples(num_samples=200, num_environments=3, missing=0.3, seed=4)
    train, validation = split_samples(samples)
    first = Transformer(Settings(linear="none", num_units=8))
    first.fit(train, validation, FitContext(0, ("a", "b", "c"), FAST))
    gone = train.phenotypes.copy()
    partly = np.isnan(gone).any(axis=1) & ~np.isnan(gone).all(axis=1)
    gone[partly] = np.nan
    second = Transformer(Settings(linear="none", num_units=8))
    second.fit(Samples(train.genotypes, gone), validation, FitContext(0, ("a", "b", "c"), FAST))
    assert not np.array_equal(first.predict(samples.genotypes), second.predict(samples.genotypes))


def test_the_loss_is_of_measured_phenotypes_alone_and_the_mean_over_members():
    samples = make_samples(num_samples=40, num_environments=3, missing=0.4, seed=4)
    network = Transformer(Settings(num_members=2, num_units=4))._network(6, 3).double()
    rng = np.random.default_rng(0)
    for member in network.networks:
        member.draw(rng)
        with torch.no_grad():
            member.coefficients.copy_(torch.from_numpy(rng.normal(size=member.coefficients.shape)))
    genotypes = DeviceGenotypes(samples.genotypes, "cpu", "float64")
    problem = EveryEnvironment(network, genotypes, samples.phenotypes, genotypes, samples.phenotypes, 16, World())
    measured = ~np.isnan(samples.phenotypes)
    assert problem.num_examples == measured.any(axis=1).sum() < 40
    loss, count = problem.loss(torch.arange(problem.num_examples))
    predicted = network(genotypes[slice(0, 40)]).detach().numpy()
    assert count == measured.sum()
    expected = np.nansum((predicted - samples.phenotypes) ** 2) / 2
    np.testing.assert_allclose(float(loss.detach()), expected, rtol=1e-10)
    error, _ = problem.validate()
    np.testing.assert_allclose(error, ((predicted.mean(axis=0) - samples.phenotypes)[measured] ** 2).mean(), rtol=1e-10)


def test_members_are_averaged_and_differ():
    samples = make_samples()
    train, validation = split_samples(samples)
    model = Transformer(Settings(num_members=2, num_units=8, linear="none"))
    model.fit(train, validation, FitContext(0, ("a", "b"), FAST))
    state = model.state()
    one, other = (
        {
            name.replace(f"members.{number}.", "members.0."): array
            for name, array in state.items()
            if f"members.{1 - number}." not in name
        }
        for number in (0, 1)
    )
    alone = [
        Transformer.from_state(Settings(num_units=8, linear="none"), part).predict(samples.genotypes)
        for part in (one, other)
    ]
    assert not np.allclose(*alone)
    np.testing.assert_allclose(model.predict(samples.genotypes), (alone[0] + alone[1]) / 2, atol=1e-6)


def test_starting_from_another_fit():
    samples = make_samples(num_environments=3)
    train, validation = split_samples(samples)
    whole = Transformer(Settings(num_units=8))
    whole.fit(train, validation, FitContext(0, ("a", "b", "c"), FAST))
    none = TrainingSettings("test", 1, 32, 1e-12, schedule="constant")
    same = Transformer(Settings(num_units=8, linear="none"))
    same.fit(train, validation, FitContext(1, ("a", "b", "c"), none, start=whole.state()))
    np.testing.assert_allclose(same.predict(samples.genotypes), whole._of_network(samples.genotypes), atol=1e-5)
    one = [Samples(part.genotypes, part.phenotypes[:, :1]) for part in (train, validation)]
    new = Transformer(Settings(num_units=8, linear="none"))
    new.fit(*one, FitContext(1, ("d",), none, start=whole.state()))
    mean = whole._of_network(samples.genotypes).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(new.predict(samples.genotypes), mean, atol=1e-5)


def test_heads_must_divide_the_width():
    problems = []
    assert fill(Settings, {"width": 10, "num_heads": 4}, Group("model.", "transformer"), problems) is None
    assert "model.width must be a multiple of model.num_heads" in problems[0].message
    assert problems[0].hint == "set model.num_heads=2"


@pytest.mark.parametrize(("num_loci", "blocks"), [(128, 1), (129, 0)])
def test_blocks_by_the_number_of_loci(num_loci, blocks):
    network = Transformer(Settings(num_units=4))._network(num_loci, 1).networks[0]
    assert ("allele" in dict(network.named_parameters())) == bool(blocks)
