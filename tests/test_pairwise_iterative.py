"""The matrix-free pairwise regression against the explicit one: the same effects, whatever is missing or weighted."""

from __future__ import annotations

import csv
import gzip

import numpy as np
import pytest
import torch
from conftest import make_samples, split_samples
from sklearn.linear_model import Ridge
from test_linear_solvers import data, explicit_pairs, skewed
from variance_examples import coded, linked

from gpmap_cli import models
from gpmap_cli.dataset.coding import Samples
from gpmap_cli.errors import InputError
from gpmap_cli.solvers import pair_products, pairwise
from gpmap_cli.solvers.missing import row_weights
from gpmap_cli.solvers.pair_features import pair_indices
from gpmap_cli.solvers.pair_gradients import PairRegression, predict_pairs
from gpmap_cli.solvers.pair_search import penalties_by_validation, squared_errors
from gpmap_cli.training.context import FitContext
from gpmap_cli.training.settings import TrainingSettings

PENALTIES = np.array([[2.0, 30.0], [0.5, 300.0]])


@pytest.fixture(params=[7, 1000])
def small_panels(request, monkeypatch):
    """Panels narrower than the loci are many, and blocks of few rows: what large data meet."""
    monkeypatch.setattr(pair_products, "_PANEL", request.param)
    monkeypatch.setattr(pair_products, "_BLOCK_VALUES", 1)


def explicit_fit(genotypes, phenotypes, penalties, weights=None):
    """scikit-learn on explicit features, environment by environment, scaled so that one penalty serves both parts."""
    x = genotypes.rows(slice(None))
    features = explicit_pairs(genotypes, *penalties)
    known = ~np.isnan(phenotypes)
    model = Ridge(alpha=1.0, solver="cholesky").fit(
        features[known], phenotypes[known], None if weights is None else weights[known]
    )
    return model.predict(features), model.coef_[x.shape[1] :] / np.sqrt(penalties[1])


@pytest.mark.parametrize("kind", ["balanced", "missing", "diploid", "skewed"])
@pytest.mark.parametrize("single", [True, False])
def test_it_equals_the_explicit_regression(kind, single, small_panels):
    shape = (300, 20)
    genotypes, phenotypes = (
        skewed(shape)
        if kind == "skewed"
        else data(shape, 0.1 if kind == "missing" else 0.0, 2 if kind == "diploid" else 1)
    )
    phenotypes = phenotypes.copy()
    phenotypes[np.random.default_rng(3).random(phenotypes.shape) < 0.1] = np.nan
    solution = PairRegression(genotypes, phenotypes, None, "cpu", single).solve(PENALTIES, tolerance=1e-9)
    predicted = predict_pairs(solution, genotypes)
    first, second = pair_indices(20)
    for e in range(2):
        expected, pairs = explicit_fit(genotypes, phenotypes[:, e], PENALTIES[e])
        found = solution.effects.pairs[e].numpy()[first, second]
        assert np.abs(found - pairs).max() < 1e-6 * np.abs(pairs).max()
        np.testing.assert_allclose(predicted[:, e], expected, atol=1e-5)  # predictions are in single precision
        assert (torch.tril(solution.effects.pairs[e]) == 0).all()


def test_in_coded_genotypes_it_is_the_same_function():
    genotypes, phenotypes = skewed((200, 12))
    regression = PairRegression(genotypes, phenotypes, None, "cpu", False)
    solution = regression.solve(PENALTIES, tolerance=1e-10)
    whole = pairwise.in_coded_genotypes(solution, [regression.pair_means(e) for e in range(2)])
    for e in range(2):
        expected = explicit_fit(genotypes, phenotypes[:, e], PENALTIES[e])[0]
        np.testing.assert_allclose(pairwise.pairwise_prediction(genotypes, whole)[:, e], expected, atol=1e-8)


def test_weights_are_those_of_weighted_least_squares():
    rng = np.random.default_rng(1)
    genotypes, phenotypes = skewed((150, 9))
    phenotypes = phenotypes.copy()
    phenotypes[:7, 1] = np.nan
    std = rng.uniform(0.2, 3.0, phenotypes.shape)
    weights = row_weights(phenotypes, std)
    np.testing.assert_allclose(weights[:, 0], std[:, 0] ** -2 / (std[:, 0] ** -2).mean())
    np.testing.assert_allclose(weights[7:, 1], std[7:, 1] ** -2 / (std[7:, 1] ** -2).mean())
    assert (weights[:7, 1] == 0).all()
    solution = PairRegression(genotypes, phenotypes, weights, "cpu", False).solve(PENALTIES, tolerance=1e-10)
    first, second = pair_indices(9)
    for e in range(2):
        x = genotypes.rows(slice(None))
        z = x - x.mean(axis=0)  # of all samples, as the solver centres loci
        features = np.concatenate(
            [z / np.sqrt(PENALTIES[e, 0]), z[:, first] * z[:, second] / np.sqrt(PENALTIES[e, 1])], axis=1
        )
        known = ~np.isnan(phenotypes[:, e])
        model = Ridge(alpha=1.0).fit(features[known], phenotypes[known, e], weights[known, e])
        np.testing.assert_allclose(predict_pairs(solution, genotypes)[:, e], model.predict(features), atol=1e-5)


@pytest.mark.parametrize("bad", [0.0, np.nan])
def test_weights_need_an_error_for_every_phenotype(bad):
    phenotypes = np.ones((3, 1))
    with pytest.raises(InputError, match="measurement error above 0"):
        row_weights(phenotypes, np.array([[1.0], [bad], [1.0]]))
    with pytest.raises(InputError, match="measurement error above 0"):
        row_weights(phenotypes, None)


def test_few_steps_suffice_for_linked_loci():
    """The preconditioner knows linkage: without it these take several times as many."""
    genotypes = coded(linked(np.random.default_rng(0), 2000, 60))
    phenotypes = np.random.default_rng(1).normal(size=(2000, 1))
    solution = PairRegression(genotypes, phenotypes, None, "cpu").solve(np.array([[500.0, 20_000.0]]))
    assert solution.steps <= 12
    assert solution.residual.max() < 1e-6


def test_it_starts_from_what_is_known():
    genotypes, phenotypes = data((200, 15))
    regression = PairRegression(genotypes, phenotypes, None, "cpu")
    first = regression.solve(PENALTIES)
    assert regression.solve(PENALTIES, first.effects).steps == 0
    assert regression.solve(PENALTIES * 1.05, first.effects).steps < first.steps


def test_the_penalties_by_validation_do_no_worse_than_where_they_start():
    train, validation = split_samples(make_samples(400, 15), 150)
    regression = PairRegression(train.genotypes, train.phenotypes, None, "cpu")
    start = np.array([[1e4, 1.0], [1e4, 1.0]])
    chosen = penalties_by_validation(
        regression, start, (False, False), validation.genotypes, validation.phenotypes, print
    )
    errors = [
        squared_errors(regression.solve(penalties), validation.genotypes, validation.phenotypes)
        for penalties in (start, chosen)
    ]
    assert (errors[1] < errors[0]).all()
    kept = penalties_by_validation(regression, start, (True, False), validation.genotypes, validation.phenotypes, print)
    assert (kept[:, 0] == 1e4).all()


def fit(settings, samples):
    train, validation = split_samples(samples)
    model = models.model_class("pairwise")(models.settings_class("pairwise")(**settings))
    environments = tuple(f"e{number}" for number in range(samples.phenotypes.shape[1]))
    model.fit(
        train,
        validation,
        FitContext(0, environments, TrainingSettings("test", epochs=1, batch_size=32, learning_rate=0.01)),
    )
    return model


def test_all_routes_lead_to_the_same_model():
    samples = make_samples(260, 12)
    fixed = {"additive_penalty": 3.0, "pair_penalty": 50.0}
    one, two, three = (
        fit({**fixed, "route": route}, samples).predict(samples.genotypes) for route in ("primal", "dual", "iterative")
    )
    np.testing.assert_allclose(two, one, atol=1e-9)
    np.testing.assert_allclose(three, one, atol=1e-6)


def test_variance_components_set_good_penalties():
    """In the iterative route: within a hundredth of the R^2 that restricted likelihood reaches."""
    samples = make_samples(900, 25)
    held_out = make_samples(900, 25, seed=8).genotypes
    one, other = (fit({"route": route}, samples).predict(held_out) for route in ("primal", "iterative"))
    assert np.corrcoef(one[:, 0], other[:, 0])[0, 1] > 0.99


@pytest.mark.parametrize("directional", [False, True])
def test_linked_loci_of_one_direction_are_not_overfitted(directional):
    """Haseman-Elston regression takes almost nothing for residual there, and its penalties explain half as much."""
    rng = np.random.default_rng(12)
    genotypes = coded(linked(rng, 1500, 80))
    z = genotypes.rows(slice(None)) - genotypes.rows(slice(None)).mean(axis=0)
    mean = 0.5 if directional else 0.0
    upper = np.triu(rng.normal(mean, 0.5, (80, 80)), 1)
    parts = [z @ rng.normal(mean, 0.5, 80), ((z @ upper) * z).sum(axis=1), rng.normal(size=1500)]
    y = sum(size**0.5 * part / part.std() for size, part in zip((0.4, 0.2, 0.4), parts, strict=True))
    train, test = np.arange(1000), np.arange(1000, 1500)
    model = fit({"route": "iterative"}, Samples(genotypes.take(train), y[train, None]))
    misses = y[test] - model.predict(genotypes.take(test))[:, 0]
    assert 1 - misses.var() / y[test].var() > (0.5 if directional else 0.35)


@pytest.mark.parametrize("route", ["primal", "dual", "iterative"])
def test_effects_can_be_read_strongest_first(route):
    rng = np.random.default_rng(4)
    stored = (rng.random((500, 10)) < rng.uniform(0.3, 0.6, 10)).astype(np.int8)
    genotypes = coded(stored)
    x = genotypes.rows(slice(None))
    z = x - x[:450].mean(axis=0)
    y = (z[:, 2] - 0.8 * z[:, 3] * z[:, 7] + 0.3 * rng.normal(size=500))[:, None]
    model = fit({"route": route, "num_effects": 5}, Samples(genotypes, y))
    table = model.tables()["effects"]
    assert len(table["effect"]) == 10 + 5
    assert (np.diff(np.abs(table["effect"])) <= 0).all()
    top = [(table["locus"][place], table["locus_2"][place]) for place in range(2)]
    assert top == [(2, -1), (3, 7)]
    np.testing.assert_allclose(table["effect"][:2], [1.0, -0.8], atol=0.05)
    # The error of an effect of a balanced locus is about the residual's over the root of n times the locus's variance.
    np.testing.assert_allclose(table["std_error"][0], 0.3 / np.sqrt(450 * z[:, 2].var()), rtol=0.15)
    others = np.abs(table["effect"][2:]) / table["std_error"][2:]
    assert others.max() < 4.5


def test_errors_cover_the_effects():
    rng = np.random.default_rng(6)
    misses = []
    for _ in range(30):
        genotypes = coded(rng.integers(0, 2, (300, 8)).astype(np.int8))
        x = genotypes.rows(slice(None))
        additive = 0.3 * rng.normal(size=8)
        y = ((x - x[:250].mean(axis=0)) @ additive + rng.normal(size=300))[:, None]
        table = fit({"route": "iterative"}, Samples(genotypes, y)).tables()["effects"]
        alone = table["locus_2"] == -1
        misses.append((table["effect"][alone] - additive[table["locus"][alone]]) / table["std_error"][alone])
    assert 0.9 <= (np.abs(misses) < 1.96).mean() <= 0.99


def test_the_run_directory_holds_the_effects_by_name(gpmap):
    words = ["train", "model=pairwise", "data.num_samples=400", "data.num_loci=6", "data.order=2", "hydra.run.dir=run"]
    result = gpmap(*words, "model.route=iterative", "model.num_effects=3")
    assert result.returncode == 0, result.stderr
    assert "conjugate gradient steps" in result.stderr
    with gzip.open("run/effects.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["environment", "locus", "locus_2", "effect", "std_error"]
    assert len(rows) == 6 + 3
    assert {row["environment"] for row in rows} == {"30C"}
    pairs = [row for row in rows if row["locus_2"]]
    assert len(pairs) == 3
    assert pairs[0]["locus"] != pairs[0]["locus_2"]


def test_weighting_without_errors_is_refused(gpmap):
    result = gpmap("train", "model=pairwise", "data.num_samples=100", "model.weighted=true", "data.num_loci=5")
    assert result.returncode == 2
    assert "phenotype_std" in result.stderr


@pytest.mark.parametrize("num_samples", [53, 54, 120])
def test_hopeless_input_gives_finite_effects(num_samples):
    """Constant and duplicated loci, fewer samples than loci, a constant phenotype, three training samples."""
    samples = make_samples(num_samples=num_samples, num_loci=9)
    samples.genotypes.stored[:, 0] = 1
    samples.genotypes.stored[:, 1] = samples.genotypes.stored[:, 2]
    samples.phenotypes[:, 1] = 0.0
    model = fit({"route": "iterative"}, samples)
    assert np.isfinite(model.predict(samples.genotypes)).all()
    table = model.tables()["effects"]
    assert np.isfinite(table["effect"]).all()
    assert np.isfinite(table["std_error"]).all()
    np.testing.assert_allclose(model.predict(samples.genotypes)[:, 1], 0, atol=1e-12)
