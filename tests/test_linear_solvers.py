"""Ridge and all-pairs regression against explicit features, and the identities they must keep."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_samples
from sklearn.linear_model import Ridge

from gpmap_cli.dataset.coding import CodedGenotypes, GenotypeCoding
from gpmap_cli.solvers import pairwise, ridge
from gpmap_cli.solvers.leave_one_out import leave_one_out_errors
from gpmap_cli.solvers.missing import shared_rows
from gpmap_cli.solvers.pair_features import pair_gram, pair_indices
from gpmap_cli.solvers.ridge_factors import FactorSource
from gpmap_cli.solvers.ridge_problem import RidgeProblem

WIDE, TALL = (30, 50), (300, 20)  # fewer samples than loci, and more


def data(shape, missing=0.0, ploidy=1, seed=0):
    samples = make_samples(*shape, seed=seed, ploidy=ploidy)
    stored = samples.genotypes.stored
    if missing:
        stored[np.random.default_rng(1).random(stored.shape) < missing] = -1
    genotypes = CodedGenotypes(stored, GenotypeCoding.learn(stored, ploidy))
    return genotypes, samples.phenotypes


def factors(genotypes, phenotypes, form=None):
    """What ridge factorises for phenotypes without a missing one, by the smaller side unless another is asked for."""
    problem = RidgeProblem(genotypes, phenotypes, np.ones(phenotypes.shape), "cpu")
    form = form or ("primal" if len(genotypes) >= genotypes.num_loci else "dual")
    return FactorSource(problem, form).factors(problem.groups()[0], None, last=True)


def skewed(shape, seed=0):
    """Allele frequencies far from one half, so that centring matters."""
    rng = np.random.default_rng(seed)
    stored = (rng.random(shape) < rng.uniform(0.1, 0.4, shape[1])).astype(np.int8)
    phenotypes = rng.normal(size=(shape[0], 2)) + 3 * stored[:, [0]] * stored[:, [1]]
    return CodedGenotypes(stored, GenotypeCoding.learn(stored, 1)), phenotypes


def explicit_pairs(genotypes, additive_penalty, pair_penalty):
    """Centred loci and centred products of centred loci, scaled so that one penalty of 1 serves both."""
    x = genotypes.rows(slice(None))
    z = x - x.mean(axis=0)
    first, second = np.triu_indices(z.shape[1], 1)
    return np.concatenate([z / np.sqrt(additive_penalty), z[:, first] * z[:, second] / np.sqrt(pair_penalty)], axis=1)


@pytest.mark.parametrize("shape", [WIDE, TALL])
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_ridge_equals_scikit_learn(shape, missing):
    genotypes, phenotypes = data(shape, missing)
    solution = ridge.solve_ridge(genotypes, phenotypes, 3.7, None, "cpu")
    reference = Ridge(alpha=3.7).fit(genotypes.rows(slice(None)), phenotypes)
    np.testing.assert_allclose(solution.weights, reference.coef_.T, atol=1e-12)
    np.testing.assert_allclose(solution.intercept, reference.intercept_, atol=1e-12)


@pytest.mark.parametrize("shape", [(40, 12), (25, 40)])
def test_leave_one_out_errors_are_those_of_leaving_one_out(shape):
    genotypes, phenotypes = data(shape)
    x = genotypes.rows(slice(None))
    path = np.array([0.5, 5.0, 500.0])
    fast = leave_one_out_errors(factors(genotypes, phenotypes), path)
    for place, penalty in enumerate(path):
        errors = []
        for out in range(len(x)):
            rest = np.arange(len(x)) != out
            model = Ridge(alpha=penalty).fit(x[rest], phenotypes[rest])
            errors.append((phenotypes[out] - model.predict(x[[out]])[0]) ** 2)
        np.testing.assert_allclose(fast[place], np.mean(errors, axis=0), rtol=1e-9)


def test_primal_equals_dual_ridge():
    genotypes, phenotypes = data((40, 35))
    primal, dual = (factors(genotypes, phenotypes, form) for form in ("primal", "dual"))
    given = np.array([2.0, 2.0]), np.arange(2)
    np.testing.assert_allclose(primal.weights(*given), dual.weights(*given), atol=1e-11)
    path = np.array([0.1, 1.0, 10.0])
    np.testing.assert_allclose(leave_one_out_errors(primal, path), leave_one_out_errors(dual, path), rtol=1e-9)


def test_the_chosen_penalty_has_less_error_than_others():
    genotypes, phenotypes = data(TALL, seed=4)
    chosen = ridge.solve_ridge(genotypes, phenotypes, None, None, "cpu").penalty
    exact = factors(genotypes, phenotypes)
    for column, penalty in enumerate(chosen):
        here, lower, higher = leave_one_out_errors(exact, np.array([penalty, penalty / 3, penalty * 3]))[:, column]
        assert here < lower
        assert here < higher


def test_the_penalty_can_be_chosen_by_validation():
    genotypes, phenotypes = data((300, 40))
    rng = np.random.default_rng(2)
    train, validation = np.arange(100), np.arange(100, 300)
    noisy = rng.normal(size=phenotypes.shape)  # nothing to learn: the largest penalty must win
    chosen = ridge.solve_ridge(
        genotypes.take(train), noisy[train], None, (genotypes.take(validation), np.zeros((200, 2))), "cpu"
    )
    assert (chosen.penalty > 1e4).all()


def test_an_infinite_penalty_predicts_the_training_mean():
    genotypes, phenotypes = data(TALL)
    phenotypes = phenotypes + 5
    for solution in (
        ridge.solve_ridge(genotypes, phenotypes, 1e15, None, "cpu"),
        pairwise.solve_pairwise(genotypes, phenotypes, (1e15, 1e15), None, "cpu", print),
    ):
        predicted = (
            pairwise.pairwise_prediction(genotypes, solution)
            if isinstance(solution, pairwise.PairwiseSolution)
            else ridge.linear_prediction(genotypes, solution.weights, solution.intercept)
        )
        np.testing.assert_allclose(predicted, np.tile(phenotypes.mean(axis=0), (len(genotypes), 1)), rtol=1e-6)


@pytest.mark.parametrize("flipped", [slice(0, 3), slice(None)])
def test_flipping_allele_labels_changes_no_linear_prediction(flipped):
    genotypes, phenotypes = data(TALL)
    stored = genotypes.stored.copy()
    stored[:, flipped] = 1 - stored[:, flipped]
    other = CodedGenotypes(stored, GenotypeCoding.learn(stored, 1))
    for fit in (
        lambda g: ridge.linear_prediction(g, *_weights(ridge.solve_ridge(g, phenotypes, None, None, "cpu"))),
        lambda g: pairwise.pairwise_prediction(
            g, pairwise.solve_pairwise(g, phenotypes, (None, None), None, "cpu", print)
        ),
    ):
        np.testing.assert_allclose(fit(other), fit(genotypes), atol=1e-8)


def _weights(solution):
    return solution.weights, solution.intercept


@pytest.mark.parametrize("shape", [(400, 12), (50, 14)])
@pytest.mark.parametrize("kind", ["balanced", "missing", "diploid", "skewed"])
def test_pairwise_equals_explicit_features(shape, kind):
    genotypes, phenotypes = (
        skewed(shape)
        if kind == "skewed"
        else data(shape, 0.1 if kind == "missing" else 0.0, 2 if kind == "diploid" else 1)
    )
    features = explicit_pairs(genotypes, 2.0, 30.0)
    expected = Ridge(alpha=1.0, solver="svd").fit(features, phenotypes).predict(features)
    for system in (pairwise._Primal, pairwise._Dual):
        solution = system(genotypes, phenotypes, "cpu").solution((2.0, 30.0))
        np.testing.assert_allclose(pairwise.pairwise_prediction(genotypes, solution), expected, atol=1e-9)


def test_primal_and_dual_agree_on_the_restricted_likelihood():
    genotypes, phenotypes = skewed((60, 9))
    primal, dual = (form(genotypes, phenotypes, "cpu") for form in (pairwise._Primal, pairwise._Dual))
    for penalties in ((1.0, 1.0), (0.01, 300.0), (1e4, 2.0)):
        np.testing.assert_allclose(
            primal.restricted_likelihood(penalties), dual.restricted_likelihood(penalties), rtol=1e-9
        )


def test_the_restricted_likelihood_is_that_of_the_mixed_model():
    """Against the textbook formula, with the intercept projected out by an orthonormal contrast."""
    genotypes, phenotypes = skewed((40, 6))
    features = explicit_pairs(genotypes, 2.0, 5.0)
    features = features - features.mean(axis=0)
    contrast = np.linalg.svd(np.eye(40) - 1 / 40)[0][:, :39]
    covariance = contrast.T @ (np.eye(40) + features @ features.T) @ contrast
    y = contrast.T @ phenotypes
    quadratic = np.einsum("ne,nm,me->e", y, np.linalg.inv(covariance), y)
    expected = 39 * np.log(quadratic / 39) + np.linalg.slogdet(covariance)[1]
    found = pairwise._Primal(genotypes, phenotypes, "cpu").restricted_likelihood((2.0, 5.0))
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_the_search_finds_the_best_penalties():
    genotypes, phenotypes = data((300, 10), seed=5)
    solution = pairwise.solve_pairwise(genotypes, phenotypes, (None, None), None, "cpu", print)
    system = pairwise._Primal(genotypes, phenotypes, "cpu")
    for column, (additive, pair) in enumerate(solution.penalties):
        here = system.restricted_likelihood((additive, pair))[column]
        for a, p in ((3, 1), (1 / 3, 1), (1, 3), (1, 1 / 3)):
            assert here <= system.restricted_likelihood((additive * a, pair * p))[column]


def test_fixed_penalties_are_kept():
    genotypes, phenotypes = data(TALL)
    solution = pairwise.solve_pairwise(genotypes, phenotypes, (7.0, None), None, "cpu", print)
    assert (solution.penalties[:, 0] == 7.0).all()
    assert (solution.penalties[:, 1] != 7.0).all()


def test_purely_pairwise_truth_is_found_exactly():
    rng = np.random.default_rng(3)
    stored = rng.integers(0, 2, (500, 8)).astype(np.int8)
    x = 2.0 * stored - 1
    truth = rng.normal(size=28)
    first, second = pair_indices(8)
    phenotype = (x[:, first] * x[:, second]) @ truth
    genotypes = CodedGenotypes(stored, GenotypeCoding.learn(stored, 1))
    solution = pairwise.solve_pairwise(genotypes, phenotype[:, None], (None, None), None, "cpu", print)
    np.testing.assert_allclose(solution.pairs[:, 0], truth, atol=1e-4)
    np.testing.assert_allclose(solution.additive, 0, atol=1e-4)


def test_single_precision_sums_are_exact():
    """The fast path for hard calls and the double-precision path give the same sums."""
    genotypes, phenotypes = skewed((3000, 15))
    dosages = CodedGenotypes(genotypes.stored.astype(np.float32), genotypes.coding)
    assert genotypes.is_plus_minus_one
    assert not dosages.is_plus_minus_one
    y = torch.from_numpy(phenotypes - phenotypes.mean(axis=0))
    for fast, slow in zip(pair_gram(genotypes, y, "cpu"), pair_gram(dosages, y, "cpu"), strict=True):
        np.testing.assert_allclose(fast, slow, atol=1e-8)


def test_one_locus_has_no_pairs():
    genotypes, phenotypes = data((50, 2))
    single = CodedGenotypes(genotypes.stored[:, :1], GenotypeCoding.learn(genotypes.stored[:, :1], 1))
    solution = pairwise.solve_pairwise(single, phenotypes, (None, None), None, "cpu", print)
    assert solution.pairs.shape == (0, 2)
    assert np.isfinite(pairwise.pairwise_prediction(single, solution)).all()


def test_environments_measured_in_the_same_samples_share_their_work():
    phenotypes = np.zeros((5, 4))
    phenotypes[0, 1] = phenotypes[0, 3] = np.nan
    groups = shared_rows(phenotypes)
    assert [group.columns.tolist() for group in groups] == [[0, 2], [1, 3]]
    assert [group.rows.tolist() for group in groups] == [[0, 1, 2, 3, 4], [1, 2, 3, 4]]
