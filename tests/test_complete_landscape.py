"""The Gaussian process on all genotypes of a few loci against its dense formula, and what its choices are worth."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from conftest import make_samples, split_samples

from gpmap_cli.dataset.coding import CodedGenotypes, Samples
from gpmap_cli.metrics import r2_score
from gpmap_cli.models.transformer import Settings, Transformer
from gpmap_cli.solvers import complete_landscape
from gpmap_cli.solvers.complete_landscape import CompleteLandscape, can_fit_landscape, fit_landscape
from gpmap_cli.training.context import FitContext
from gpmap_cli.training.settings import TrainingSettings


def samples_of_every_order(num_samples=600, num_loci=7, seed=0):
    """Repeated genotypes, phenotypes with terms of orders one to four, a fifth of them missing in each environment."""
    samples = make_samples(num_samples=num_samples, num_loci=num_loci, seed=seed)
    x = 2.0 * samples.genotypes.stored - 1
    rng = np.random.default_rng(seed)
    y = np.stack([x[:, 0] + x[:, :4].prod(axis=1) + x[:, 2:5].prod(axis=1), x[:, 4] * x[:, 5] - x[:, 1]], axis=1)
    y = y + 0.5 * rng.normal(size=y.shape)
    y[rng.random(y.shape) < 0.2] = np.nan
    return Samples(samples.genotypes, y)


def dense_prediction(train, genotypes, rates, penalty, column):
    """mean + k(x, .) (K + penalty)^-1 (y - mean) over the samples themselves."""
    known = ~np.isnan(train.phenotypes[:, column])
    y = train.phenotypes[known, column]
    e = np.exp(-rates)
    ratio = (1 - e) / (1 + e)

    def kernel(left, right):
        return np.where(left[:, None] != right[None], ratio, 1.0).prod(axis=2)

    own = train.genotypes.stored[known]
    alpha = np.linalg.solve(kernel(own, own) + penalty * np.eye(len(y)), y - y.mean())
    return y.mean() + kernel(genotypes, own) @ alpha


def test_it_is_kernel_regression_on_the_samples():
    """Samples of one genotype are pooled, environments have rows of their own: the same as the dense solution."""
    train, validation = split_samples(samples_of_every_order(), 200)
    found = fit_landscape(train, validation, "cpu")
    predicted = found.predict(validation.genotypes)
    for column in range(2):
        expected = dense_prediction(
            train, validation.genotypes.stored, found.rates[column], found.penalty[column], column
        )
        np.testing.assert_allclose(predicted[:, column], expected, atol=1e-5)


def test_the_gradient_is_that_of_the_validation_error():
    train, validation = split_samples(samples_of_every_order(num_loci=6), 200)
    mean = np.nanmean(train.phenotypes, axis=0)
    measured, choosing = (complete_landscape._Cells.of(part, mean, "cpu") for part in (train, validation))
    cube = complete_landscape._Cube(6, "cpu", torch.float64)
    zero = torch.zeros_like(measured.mean)
    logs = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 7)) * 0.3)

    def of(values):
        error, gradient, _, _ = complete_landscape._error_and_gradient(cube, values, measured, choosing, zero, zero)
        return error.log(), gradient

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(complete_landscape, "_ROUGHLY", 1e-12)
        _, gradient = of(logs)
        for place in range(7):
            moved = torch.zeros_like(logs)
            moved[:, place] = 1e-5
            slope = (of(logs + moved)[0] - of(logs - moved)[0]) / 2e-5
            torch.testing.assert_close(gradient[:, place], slope, rtol=1e-5, atol=1e-7)


def test_rates_are_low_where_loci_matter_and_choosing_helps(monkeypatch):
    train, validation = split_samples(samples_of_every_order(num_samples=900), 400)
    test = samples_of_every_order(num_samples=1000, seed=5)

    def score():
        found = fit_landscape(train, validation, "cpu")
        predicted = found.predict(test.genotypes)
        return found, np.mean([r2_score(test.phenotypes[:, e], predicted[:, e]) for e in range(2)])

    found, chosen = score()
    assert found.rates[0, 6] > found.rates[0, :5].max()  # the last locus does nothing
    monkeypatch.setattr(complete_landscape, "_STEPS", 1)
    assert chosen > score()[1] + 0.005


def test_between_the_corners_it_is_linear_in_each_locus():
    """A missing genotype takes its training mean: the mean over the genotypes that it may be."""
    values = np.random.default_rng(0).normal(size=(8, 2))
    landscape = CompleteLandscape(values, np.ones((2, 3)), np.ones(2))
    coding = make_samples(num_loci=3).genotypes.coding
    stored = np.array([[0, -1, 1], [-1, -1, -1], [1, 0, 0]], np.int8)
    share = (1 + coding.fill) / 2
    expected = np.zeros((3, 2))
    for row, genotype in enumerate(stored):
        for corner in itertools.product((0, 1), repeat=3):
            chances = [
                float(g == c) if g != -1 else (share[locus] if c else 1 - share[locus])
                for locus, (g, c) in enumerate(zip(genotype, corner, strict=True))
            ]
            expected[row] += np.prod(chances) * values[corner[0] + 2 * corner[1] + 4 * corner[2]]
    np.testing.assert_allclose(landscape.predict(CodedGenotypes(stored, coding)), expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("changes", "possible"),
    [
        ({}, True),
        ({"ploidy": 2}, False),
        ({"missing": 0.1}, False),  # genotypes that are no corner
    ],
)
def test_where_it_is_fitted(changes, possible):
    train, validation = split_samples(make_samples(**{"num_samples": 700, "num_loci": 7, **changes}), 200)
    assert can_fit_landscape(train, validation) is possible


def test_many_loci_have_too_many_genotypes(monkeypatch):
    parts = split_samples(make_samples(num_samples=700, num_loci=7), 200)
    monkeypatch.setattr(complete_landscape, "_MOST_LOCI", 6)
    assert not can_fit_landscape(*parts)
    monkeypatch.setattr(complete_landscape, "_MOST_LOCI", 7)
    assert can_fit_landscape(*parts)
    monkeypatch.setattr(complete_landscape, "_LEAST_SHARE", 4)
    assert not can_fit_landscape(*parts)


def test_few_validation_samples_choose_no_rates():
    samples = make_samples(num_samples=700, num_loci=7)
    assert not can_fit_landscape(*split_samples(samples, 159))
    assert can_fit_landscape(*split_samples(samples, 160))


def test_the_transformer_is_better_for_it_and_keeps_it():
    """Terms of every order with a noise that a network of two epochs has not learned to see through."""
    train, validation = split_samples(samples_of_every_order(num_samples=900), 400)
    test = samples_of_every_order(num_samples=1000, seed=5)
    short = TrainingSettings("test", 2, 64, 0.01, optimizer="muon", weight_decay=1.0)
    scores = []
    for landscape in ("none", "auto"):
        settings = Settings(num_units=8, num_blocks=0, landscape=landscape)
        model = Transformer(settings)
        model.fit(train, validation, FitContext(0, ("a", "b"), short))
        again = Transformer.from_state(settings, model.state())
        predicted = model.predict(test.genotypes)
        np.testing.assert_array_equal(again.predict(test.genotypes), predicted)
        assert again.num_parameters == model.num_parameters
        scores.append(r2_score(test.phenotypes[:, 0], predicted[:, 0]))
    assert scores[1] > scores[0] + 0.05
    assert list(model.describe()) == [
        "share of the network",
        "share of the linear fit",
        "share of the Gaussian process",
    ]
    np.testing.assert_allclose(sum(map(np.array, model.describe().values())), 1.0)
