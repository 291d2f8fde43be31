"""The ways of computing the published network: all of them have the gradients of the formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_samples, split_samples
from test_gradient import SCHEDULE, Memory, ask_to_stop, same

from gpmap_cli.errors import Interrupted
from gpmap_cli.layers import attention_paths, block_attention, native_attention, sign_attention, worker_threads
from gpmap_cli.layers.attention_paths import FIRST, REST, Path
from gpmap_cli.layers.published_attention import PublishedAttention
from gpmap_cli.models.attention import Attention, Settings
from gpmap_cli.training.context import FitContext

PATHS = [f"{first}+{rest}" for first in FIRST for rest in REST]
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}
# Loci, d, environments, their slots, batch: one block for many samples and several, blocks of some rows (L = 520).
SHAPES = [(20, 4, 0, "own", 7), (130, 12, 0, "own", 9), (9, 3, 4, "own", 8), (30, 5, 3, "embedding", 6)]
SHAPES += [(520, 6, 0, "own", 2)]


def network_of(shape, largest=1.5):
    """A network all of whose layers matter, float64; the largest score of two loci in the first one is given."""
    num_loci, d, environments, slots, _ = shape
    network = PublishedAttention(num_loci, d, environments, slots).double()
    network.draw(np.random.default_rng(0), 1.0)
    weights = dict(network.named_parameters())
    with torch.no_grad():
        for name, parameter in weights.items():
            if name.startswith(("query", "key")):
                parameter *= 1.5 / len(parameter) ** 0.5 / d**0.25
            elif name.startswith("value"):
                parameter *= (2.0 if num_loci < 300 else 2.2) / len(parameter) ** 0.5
        weights["query_matrix_1"] *= largest / pair_scores(network).abs().max()
    return network


def pair_scores(network):
    """a (L, L) of the first layer, in float64."""
    embedding, d = network.get_parameter("random_matrix").detach(), network.embedding_dim
    scores = network.get_parameter("query_matrix_1") @ network.get_parameter("key_matrix_1").t()
    return embedding @ scores.detach()[:d, :d] @ embedding.t()


def examples_of(shape, dtype=torch.float64):
    num_loci, _, environments, _, batch = shape
    rng = np.random.default_rng(1)
    genotypes = torch.from_numpy(rng.choice([-1.0, 1.0], (batch, num_loci)))
    marked = torch.from_numpy(rng.integers(0, environments, batch)) if environments else None
    return genotypes.to(dtype), marked, torch.from_numpy(rng.normal(size=batch)).to(dtype)


def naive(network, genotypes, environments):
    """From the formulas, every tensor in full."""
    weights = dict(network.named_parameters())
    tokens = network.tokens(genotypes, environments)
    for layer in (1, 2, 3):
        query, key, value = (tokens @ weights[f"{kind}_matrix_{layer}"] for kind in ("query", "key", "value"))
        tokens = torch.softmax(query @ key.transpose(1, 2), dim=2) @ value
    return (tokens * weights["coeffs_attended"]).sum(dim=(1, 2)) + weights["offset"]


def answers(network, predict, genotypes, environments, targets):
    """Predictions, and the gradient of every parameter."""
    network.zero_grad()
    predicted = predict(genotypes, environments)
    ((predicted - targets) ** 2).mean().backward()
    return [predicted.detach().double(), *(parameter.grad.double() for parameter in network.parameters())]


def assert_like_naive(network, examples, path, dtype):
    """Relative to each parameter's gradient in float64, or to a hundredth of all of them (rounding where terms cancel);
    to all of them in float32, where the formulas themselves are no better for each."""
    genotypes, environments, targets = examples
    expected = answers(network, lambda *what: naive(network, *what), *examples)
    network.to(dtype)
    network.settle_path(path)
    found = answers(network, network, genotypes.to(dtype), environments, targets.to(dtype))
    network.double()
    size = torch.cat([each.flatten() for each in expected[1:]]).norm()
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        whole = theirs.norm() if number == 0 else size if dtype == torch.float32 else max(theirs.norm(), 0.01 * size)
        assert (ours - theirs).norm() <= TOLERANCES[dtype] * whole, list(dict(network.named_parameters()))[number - 1]


@pytest.fixture
def sign_sums(monkeypatch):
    """How often sums over pairs were made with cosh and sinh."""
    calls = []
    made = sign_attention.sums
    monkeypatch.setattr(sign_attention, "sums", lambda *what: calls.append(1) or made(*what))
    return calls


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_are_those_of_the_formulas(shape, path, dtype, sign_sums):
    assert_like_naive(network_of(shape), examples_of(shape), path, dtype)
    assert len(sign_sums) == path.startswith("sign")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("shape", SHAPES[2:4], ids=str)
@pytest.mark.parametrize("told", ["number", "coordinates"])
def test_all_environments_in_one_pass_are_each_by_itself(shape, path, told, sign_sums):
    network = network_of(shape)
    network.settle_path(path)
    genotypes = examples_of(shape)[0]
    marks = torch.arange(shape[2])
    if told == "coordinates":
        marks = torch.from_numpy(np.random.default_rng(2).normal(size=(4, shape[2])))
    each = torch.stack([network(genotypes, mark.repeat(len(genotypes), *[1] * mark.ndim)) for mark in marks], dim=1)
    sign_sums.clear()
    together = network.every_environment(genotypes, marks)
    # Compiled code takes the general way for one environment, and what environments share where there are several.
    assert len(sign_sums) == (path.startswith("sign") or path.endswith("native"))
    torch.testing.assert_close(together, each, rtol=1e-11, atol=1e-12)
    assert each.std(dim=1).min() > 1e-3  # environments differ
    together.square().sum().backward()
    gradients = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    each.square().sum().backward()
    for ours, parameter in zip(gradients, network.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("rest", REST)
@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[2]], ids=str)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_large_scores_take_the_general_way(shape, rest, dtype, sign_sums):
    """Scores of pairs beyond what cosh - sinh can round; both the outputs and the gradients come that way."""
    network = network_of(shape, 20.0)
    if dtype == torch.float64:
        assert_like_naive(network, examples_of(shape), f"sign+{rest}", dtype)
    else:
        network.float().settle_path(f"sign+{rest}")
        network(*examples_of(shape, dtype)[:2])
    assert not sign_sums


@pytest.mark.parametrize("rest", REST)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("kind", ["dosages", "one missing call, filled"])
def test_genotypes_that_are_no_signs_take_the_general_way(kind, rest, dtype, sign_sums):
    genotypes, environments, targets = examples_of(SHAPES[1])
    if kind == "dosages":
        genotypes = genotypes * torch.from_numpy(np.random.default_rng(2).uniform(0.5, 1, genotypes.shape))
    else:
        genotypes[3, 17] = 0.25
    assert_like_naive(network_of(SHAPES[1]), (genotypes, environments, targets), f"sign+{rest}", dtype)
    assert not sign_sums


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[4]], ids=["many samples a block", "some rows a block"])
def test_scores_whose_exponentials_overflow(shape, dtype):
    network = network_of(shape, 300.0)
    genotypes, _, targets = examples_of(shape)
    expected = answers(network, lambda *what: naive(network, *what), genotypes, None, targets)
    network.to(dtype).settle_path("general+blocks")
    found = answers(network, network, genotypes.to(dtype), None, targets.to(dtype))
    for ours, theirs in zip(found, expected, strict=True):
        # One score off by a rounding error of some hundred moves a weight by as much.
        assert (ours - theirs).norm() <= 1e5 * torch.finfo(dtype).eps * torch.cat(
            [e.flatten() for e in expected]
        ).norm()


@pytest.mark.parametrize("path", ["sign+blocks", "general+blocks"])
def test_no_tensor_of_all_pairs_of_a_batch_is_kept(path):
    network = network_of(SHAPES[1]).float()
    network.settle_path(path)
    genotypes, environments, _ = examples_of((130, 12, 0, "own", 40), torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        network(genotypes, environments)
    assert kept
    assert max(kept) < 40 * 130**2 / 4


def test_the_number_of_threads_changes_nothing_in_the_blocks():
    """Each piece of a batch is computed for itself: on two threads and on one the same bits."""
    network, rng = network_of(SHAPES[1]), np.random.default_rng(3)
    tokens = torch.from_numpy(rng.normal(size=(40, 130, 13))).requires_grad_()
    scores = [network._scores(layer) for layer in (1, 2, 3)]
    values = [network.get_parameter(f"value_matrix_{layer}") for layer in (1, 2)]
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            tokens.grad = None
            predicted = block_attention.predict(tokens, network.get_parameter("coeffs_attended"), scores, values)
            predicted.sum().backward(retain_graph=True)
            found.append((predicted.detach(), tokens.grad))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_what_goes_wrong_in_a_thread_is_raised(monkeypatch):
    def fail(piece):
        raise MemoryError(str(piece))

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(MemoryError):
            worker_threads.for_each(fail, [1, 2, 3])
        seen = []
        worker_threads.for_each(lambda _: seen.append((torch.get_num_threads(), torch.is_grad_enabled())), range(6))
        assert seen == [(1, False)] * 6
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_paths_have_names():
    assert [Path.named(name).name for name in PATHS] == PATHS
    for wrong in ("", "sign", "sign+none", "none+plain"):
        with pytest.raises(ValueError, match="no path"):
            Path.named(wrong)


def test_the_path_is_chosen_by_shape():
    def chosen(device, has_native, *sizes):
        return [attention_paths.choose(size, device, lambda: has_native).name for size in sizes]

    paths = ["general+plain", "general+blocks", "sign+blocks", "general+blocks"]
    assert chosen("cpu", False, 8, 80, 1164, 41_594) == paths
    assert chosen("cpu", True, 8, 80, 1164, 41_594) == ["general+plain"] + ["general+native"] * 3
    assert chosen("cuda", True, 100, 1164) == ["general+plain", "general+fused"]


def test_a_network_takes_compiled_code_where_there_is_any(monkeypatch):
    available = []
    monkeypatch.setattr(native_attention, "is_available", lambda *what: available.append(what) or True)
    assert PublishedAttention(20, 4).settle_path() == "general+native"
    assert PublishedAttention(20, 4, 3).double().settle_path() == "general+native"
    assert available == [(5, torch.float32), (8, torch.float64)]
    assert PublishedAttention(8, 4).settle_path() == "general+plain"


def test_a_stored_path_of_compiled_code_goes_on_without_it(monkeypatch):
    """To the same numbers up to rounding: by blocks."""
    shape = SHAPES[1]
    monkeypatch.setattr(native_attention, "_kernel", lambda *_: None)
    calls = []
    predict = block_attention.predict
    monkeypatch.setattr(block_attention, "predict", lambda *what: calls.append(1) or predict(*what))
    assert_like_naive(network_of(shape), examples_of(shape), "general+native", torch.float64)
    assert calls


def test_rows_of_very_different_scores_keep_their_weights():
    """Scores from -400 to 400, and the largest in the last block of tokens: no sum overflows or vanishes."""
    rng = np.random.default_rng(0)
    tokens = torch.from_numpy(rng.normal(size=(3, 150, 5)))
    tokens[:, 140] *= 20
    a, c = torch.from_numpy(rng.normal(size=(5, 5)) * 8), torch.from_numpy(rng.normal(size=(150, 5)))
    scores = tokens @ a @ tokens.transpose(1, 2)
    assert scores.max() > 400
    assert scores.min() < -400
    expected = ((torch.softmax(scores, dim=2) @ tokens) * c).sum(dim=(1, 2))
    for dtype, close in ((torch.float64, 1e-12), (torch.float32, 1e-3)):
        found = native_attention.predict(*(each.to(dtype) for each in (tokens, c)), [a.to(dtype)], [])
        if found is None:
            pytest.skip("no C compiler on this machine")
        assert torch.allclose(found.double(), expected, rtol=close, atol=close)


@pytest.mark.parametrize("where", ["tokens", "scores"])
def test_not_a_number_stays_not_a_number(where):
    tokens, a, c = torch.ones(2, 40, 5), torch.ones(5, 5), torch.ones(40, 5)
    (tokens[1] if where == "tokens" else a)[3, 2] = torch.nan
    found = native_attention.predict(tokens, c, [a], [])
    if found is None:
        pytest.skip("no C compiler on this machine")
    assert found.isnan().tolist() == [where == "scores", True]


def test_a_resumed_fit_goes_on_along_the_stored_path(monkeypatch):
    """Though a new fit would now take another one; and what it gives is bitwise what the whole run gives."""
    samples = make_samples(num_samples=210, num_environments=1, seed=1)

    def fit(store, stop_after=None):
        context = FitContext(0, ("a",), SCHEDULE, checkpoints=store)
        if stop_after is not None:
            ask_to_stop(context, store, stop_after)
        model = Attention(Settings(embedding_dim=4))
        model.fit(*split_samples(samples), context)
        return model.state()

    calls = []
    predict = block_attention.predict
    monkeypatch.setattr(block_attention, "predict", lambda *what: calls.append(1) or predict(*what))
    monkeypatch.setattr(attention_paths, "choose", lambda *_: Path("sign", "blocks"))
    reference = fit(Memory())
    assert calls
    store = Memory()
    with pytest.raises(Interrupted):
        fit(store, stop_after=3)
    assert store.saved[-1][1]["progress"]["path"] == "sign+blocks"
    store.save = Memory.save.__get__(store)
    monkeypatch.setattr(attention_paths, "choose", lambda *_: Path("general", "plain"))
    calls.clear()
    assert same(fit(store), reference)
    assert calls
    calls.clear()
    assert not same(fit(Memory()), reference)  # which the other path would not have given
    assert not calls
    # A checkpoint from before there was a choice.
    del store.saved[0][1]["progress"]["path"]
    store.saved = store.saved[:1]
    fit(store)
