"""Ridge regression of all environments jointly, against explicit matrices and against the truth."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_samples

from gpmap_cli import models
from gpmap_cli.dataset.coding import CodedGenotypes, GenotypeCoding, Samples
from gpmap_cli.metrics import r2_score
from gpmap_cli.solvers.multi_ridge import MultiProblem, solve_effects
from gpmap_cli.solvers.multi_ridge_variances import estimate_variances
from gpmap_cli.training.context import FitContext
from gpmap_cli.training.settings import TrainingSettings

QUICK = TrainingSettings("test", epochs=1, batch_size=32, learning_rate=0.01)
GENETIC = np.array([[0.3, 0.25, -0.1], [0.25, 0.4, 0.0], [-0.1, 0.0, 0.2]])
RESIDUAL = np.array([0.5, 0.2, 0.9])


def cross(num_samples, num_loci, genetic, residual, seed=0, num_measured=None):
    """A cross whose effects have this covariance; the first environment is measured in so many samples only."""
    rng = np.random.default_rng(seed)
    genotypes = rng.integers(0, 2, (num_samples, num_loci)).astype(np.int8)
    coded = CodedGenotypes(genotypes, GenotypeCoding.learn(genotypes, 1))
    effects = rng.multivariate_normal(np.zeros(len(genetic)), genetic, num_loci)
    value = coded.rows(slice(None)) @ effects
    phenotypes = 2.0 + value + rng.normal(size=value.shape) * np.sqrt(residual)
    if num_measured is not None:
        phenotypes[rng.permutation(num_samples)[num_measured:], 0] = np.nan
    return coded, phenotypes, value


def ones(phenotypes):
    return (~np.isnan(phenotypes)).astype(np.float64)


def by_hand(coded, phenotypes, weights, genetic, residual):
    """BLUP of effects (L, E) and GLS intercepts, by the inverse of the covariance of all cells, and log likelihood."""
    x = coded.rows(slice(None))
    rows, columns = np.nonzero(weights)
    covariance = genetic[np.ix_(columns, columns)] * (x[rows] @ x[rows].T)
    covariance += np.diag(residual[columns] / weights[rows, columns])
    inverse = np.linalg.inv(covariance)
    fixed = np.eye(len(genetic))[columns]
    y = phenotypes[rows, columns]
    within = fixed.T @ inverse @ fixed
    intercept = np.linalg.solve(within, fixed.T @ inverse @ y)
    weighted = inverse @ (y - fixed @ intercept)
    effects = np.einsum("cl,ce,c->le", x[rows], genetic[:, columns].T, weighted)
    likelihood = np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(within)[1] + weighted @ (y - fixed @ intercept)
    return effects, intercept, -0.5 * likelihood


@pytest.mark.parametrize("most_bytes", [1.5e9, 0], ids=["matrices", "products"])
@pytest.mark.parametrize("kind", ["missing", "weighted", "diploid", "correlation of one"])
def test_it_is_multivariate_blup(kind, most_bytes):
    samples = make_samples(60, 9, 3, missing=0.2, ploidy=2 if kind == "diploid" else 1)
    weights = ones(samples.phenotypes)
    samples.phenotypes[5:, 0] = np.nan  # a handful
    weights[5:, 0] = 0
    genetic = GENETIC
    if kind == "weighted":
        weights *= np.random.default_rng(1).uniform(0.5, 2.0, weights.shape)
    if kind == "correlation of one":
        genetic = np.full((3, 3), 0.3)
    problem = MultiProblem(samples.genotypes, samples.phenotypes, weights, "cpu", most_bytes)
    assert problem.has_grams == (most_bytes > 0)
    effects, intercept = solve_effects(problem, genetic, RESIDUAL)
    expected, expected_intercept, _ = by_hand(samples.genotypes, samples.phenotypes, weights, genetic, RESIDUAL)
    np.testing.assert_allclose(effects, expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(intercept, expected_intercept, rtol=1e-6, atol=1e-8)


def test_without_a_prior_variances_are_of_greatest_likelihood():
    genetic = 0.1 * GENETIC  # so weak that much of the effects stays unknown
    coded, phenotypes, _ = cross(150, 12, genetic, RESIDUAL)
    phenotypes[np.random.default_rng(3).random(phenotypes.shape) < 0.2] = np.nan
    found = estimate_variances(MultiProblem(coded, phenotypes, ones(phenotypes), "cpu"), 0.0, 0)

    def likelihood(genetic, residual):
        return by_hand(coded, phenotypes, ones(phenotypes), genetic, residual)[2]

    top = likelihood(found.genetic, found.residual)
    assert top > likelihood(genetic, RESIDUAL)
    rng = np.random.default_rng(4)
    for _ in range(20):  # no way leads further up by more than a thousandth
        turn = np.eye(3) + 0.02 * rng.normal(size=(3, 3))
        residual = found.residual * np.exp(0.02 * rng.normal(size=3))
        assert likelihood(turn @ found.genetic @ turn.T, residual) < top + 1e-3


@pytest.mark.parametrize("most_bytes", [1.5e9, 0], ids=["matrices", "products"])
def test_draws_find_what_the_exact_steps_find(monkeypatch, most_bytes):
    coded, phenotypes, _ = cross(300, 60, 0.02 * GENETIC, RESIDUAL, num_measured=15)
    exact = estimate_variances(MultiProblem(coded, phenotypes, ones(phenotypes), "cpu"), 10.0, 0)
    monkeypatch.setattr("gpmap_cli.solvers.multi_ridge_variances._EXACT_UP_TO", 0)
    drawn = estimate_variances(MultiProblem(coded, phenotypes, ones(phenotypes), "cpu", most_bytes), 10.0, 0)
    np.testing.assert_allclose(drawn.correlation, exact.correlation, atol=0.06)
    np.testing.assert_allclose(drawn.residual, exact.residual, rtol=0.05)
    np.testing.assert_allclose(np.diag(drawn.genetic), np.diag(exact.genetic), rtol=0.25)


def test_correlations_are_found_and_an_environment_of_few_phenotypes_is_taken_to_be_like_the_others():
    genetic = 0.01 * np.array([[1.0, 0.8, 0.8, 0.8], [0.8, 1, 0.8, 0.8], [0.8, 0.8, 1, 0.8], [0.8, 0.8, 0.8, 1]])
    coded, phenotypes, _ = cross(600, 100, genetic, np.ones(4), num_measured=10)
    found = estimate_variances(MultiProblem(coded, phenotypes, ones(phenotypes), "cpu"), 10.0, 0)
    np.testing.assert_allclose(found.correlation[1:, 1:][np.tril_indices(3, -1)], 0.8, atol=0.12)
    assert (found.correlation[0, 1:] > 0.5).all()
    assert 0.3 < found.genetic[0, 0] / found.genetic[1, 1] < 3


def fitted(name, coded, phenotypes, **settings):
    phenotypes = (phenotypes - np.nanmean(phenotypes, axis=0)) / np.nanstd(phenotypes, axis=0)
    model = models.model_class(name)(models.settings_class(name)(**settings))
    names = tuple(f"e{number}" for number in range(phenotypes.shape[1]))
    samples = Samples(coded, phenotypes)
    model.fit(samples, samples, FitContext(0, names, QUICK))
    return model


def test_few_phenotypes_go_further_with_correlated_environments():
    genetic = 0.01 * (0.9 * np.ones((3, 3)) + 0.1 * np.eye(3))
    gains = []
    for seed in range(3):
        coded, phenotypes, value = cross(800, 100, genetic, np.full(3, 0.5), seed, num_measured=40)
        train, test = np.arange(600), np.arange(600, 800)
        train_phenotypes = phenotypes[train]
        scores = []
        for name, columns in (("multi_ridge", [0, 1, 2]), ("ridge", [0])):
            model = fitted(name, coded.take(train), train_phenotypes[:, columns])
            predicted = model.predict(coded.take(test))[:, 0]
            known = train_phenotypes[:, 0]
            scores.append(r2_score(value[test, 0], predicted * np.nanstd(known) + np.nanmean(known) - 2.0))
        gains.append(scores[0] - scores[1])
    assert min(gains) > 0.3


def test_one_environment_is_ridge_by_restricted_likelihood():
    samples = make_samples(300, 20, 1, order=1)
    ours = fitted("multi_ridge", samples.genotypes, samples.phenotypes)
    ridge = fitted("ridge", samples.genotypes, samples.phenotypes, penalty_choice="reml")
    np.testing.assert_allclose(ours.predict(samples.genotypes), ridge.predict(samples.genotypes), atol=0.01)


def test_the_tables_name_both_environments(gpmap):
    result = gpmap(
        *("train", "model=multi_ridge", "data.num_samples=200", "data.num_loci=6", "data.environments=[23C,30C]"),
        "hydra.run.dir=run",
    )
    assert result.returncode == 0, result.stderr
    import pandas as pd

    table = pd.read_csv("run/genetic_correlation.csv.gz")
    assert list(table) == ["environment", "environment_2", "additive_genetic_correlation"]
    assert table.loc[0, ["environment", "environment_2"]].tolist() == ["30C", "23C"]
    assert abs(table.additive_genetic_correlation[0]) <= 1
    assert len(pd.read_csv("run/effects.csv.gz")) == 12
