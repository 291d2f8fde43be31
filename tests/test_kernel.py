"""Kernel regression against explicit matrices: covariances, likelihood, every form of the solver, errors, weights."""

from __future__ import annotations

import gzip
import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_samples, split_samples

from gpmap_cli.dataset.coding import CodedGenotypes, GenotypeCoding, Samples
from gpmap_cli.errors import FitFailed, InputError, Problem
from gpmap_cli.models import kernel as kernel_model
from gpmap_cli.models.kernel import Kernel, Settings
from gpmap_cli.settings import Group, fill
from gpmap_cli.solvers import kernel_gradients, memory
from gpmap_cli.solvers.covariance_groups import covariance_state, covariances_of_state, same_covariances
from gpmap_cli.solvers.epistasis_kernels import EpistasisKernels
from gpmap_cli.solvers.genotype_covariance import (
    GaussianCovariance,
    LocusScale,
    OrdersCovariance,
    covariance_matrix,
    kernel_product,
)
from gpmap_cli.solvers.inducing_samples import InducingSystem
from gpmap_cli.solvers.kernel_choice import pattern_search
from gpmap_cli.solvers.kernel_families import ChoiceSamples, GaussianFamily
from gpmap_cli.solvers.kernel_gradients import IterativeSystem
from gpmap_cli.solvers.kernel_regression import DenseSystem, Measured, safe_cholesky
from gpmap_cli.solvers.pairwise import pairwise_prediction, solve_pairwise
from gpmap_cli.solvers.pivoted_cholesky import low_rank_kernel
from gpmap_cli.solvers.restricted_likelihood import GaussianComponents, RestrictedLikelihood, SummedComponents
from gpmap_cli.training.context import FitContext
from gpmap_cli.training.settings import TrainingSettings

TRAINING = TrainingSettings("test", epochs=1, batch_size=32, learning_rate=0.01)


def genotypes_of(num_samples=60, num_loci=7, seed=0, ploidy=1, missing=0.0):
    return make_samples(num_samples, num_loci, seed=seed, ploidy=ploidy, missing=missing).genotypes


def gaussian(genotypes, bandwidth=0.8, shares=(1.0, 0.0), rarity=0.0):
    scale = LocusScale.learn(genotypes, "cpu")
    return GaussianCovariance(bandwidth * scale.unit(rarity), scale.mean, scale.relationship, shares)


def matrix_of(covariance, left, right=None, dtype=torch.float64):
    right = left if right is None else right
    return covariance_matrix(covariance, left, right, torch.empty(len(left), len(right), dtype=dtype)).numpy()


def measured_of(genotypes, y, noise=None):
    """Phenotypes (n, E), NaN missing; noise (n, E) relative variances."""
    known = ~np.isnan(y)
    relative = known.astype(float) if noise is None else np.where(known, noise, 0.0)
    return Measured(genotypes, torch.from_numpy(y), torch.from_numpy(relative))


def explicit(kernel, cross, diagonal, y, noise):
    """Generalised least squares mean, prediction, its error variance, and the REML variance, by plain inverses."""
    inverse, ones = np.linalg.inv(kernel + np.diag(noise)), np.ones(len(y))
    total = ones @ inverse @ ones
    mean = ones @ inverse @ y / total
    predicted = mean + cross @ inverse @ (y - mean)
    variance = diagonal - np.einsum("ij,jk,ik->i", cross, inverse, cross) + (1 - cross @ inverse @ ones) ** 2 / total
    return mean, predicted, variance, (y - mean) @ inverse @ (y - mean) / (len(y) - 1)


def fit(samples, validation=None, seed=0, **settings):
    names = tuple(f"e{number}" for number in range(samples.phenotypes.shape[1]))
    nothing = Samples(samples.genotypes.take(np.arange(0)), samples.phenotypes[:0])
    model = Kernel(Settings(**{"ard": False, "penalty_choice": "reml", **settings}))
    model.fit(samples, nothing if validation is None else validation, FitContext(seed, names, TRAINING))
    return model


# Covariances


@pytest.mark.parametrize("ploidy", [1, 2])
def test_the_gaussian_covariance_is_the_explicit_one(ploidy):
    genotypes = genotypes_of(ploidy=ploidy, missing=0.1)
    x = genotypes.rows(slice(None))
    squared = ((x[:, None] - x) ** 2).sum(axis=2)
    off_diagonal = squared[~np.eye(len(x), dtype=bool)]
    expected = np.exp(-0.8 * squared / off_diagonal.mean())
    np.testing.assert_allclose(matrix_of(gaussian(genotypes), genotypes), expected, atol=1e-12)
    z = x - x.mean(axis=0)
    additive = z @ z.T / np.mean((z**2).sum(axis=1))
    mixed = gaussian(genotypes, shares=(0.3, 0.7))
    np.testing.assert_allclose(matrix_of(mixed, genotypes), 0.3 * expected + 0.7 * additive, atol=1e-12)
    np.testing.assert_allclose(
        mixed.diagonal(torch.from_numpy(x)).numpy(), np.diag(0.3 * expected + 0.7 * additive), atol=1e-12
    )


def test_on_the_hypercube_it_is_the_diffusion_kernel():
    genotypes = genotypes_of(80, 9, seed=4)
    x = genotypes.rows(slice(None))
    hamming = (x[:, None] != x).sum(axis=2)
    t, scale = 0.1, LocusScale.learn(genotypes, "cpu")
    rate = torch.full((9,), -np.log((1 - t) / (1 + t)) / 4, dtype=torch.float64)
    covariance = GaussianCovariance(rate, scale.mean, scale.relationship, (1.0, 0.0))
    np.testing.assert_allclose(matrix_of(covariance, genotypes), ((1 - t) / (1 + t)) ** hamming, atol=1e-12)


def test_rare_alleles_weigh_more_with_rarity():
    rng = np.random.default_rng(0)
    stored = (rng.random((300, 5)) < [0.5, 0.3, 0.1, 0.03, 0.0]).astype(np.int8)
    genotypes = CodedGenotypes(stored, GenotypeCoding.learn(stored, 1))
    x, scale = genotypes.rows(slice(None)), LocusScale.learn(genotypes, "cpu")
    standardised = np.delete((x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-9), 4, axis=1)
    squared = ((standardised[:, None] - standardised) ** 2).sum(axis=2)
    expected = np.exp(-squared / squared[~np.eye(300, dtype=bool)].mean())
    np.testing.assert_allclose(matrix_of(gaussian(genotypes, 1.0, rarity=1.0), genotypes), expected, atol=1e-12)
    assert not scale.are_alike
    assert scale.unit(0.0)[4] == 0


def test_orders_are_weighted_epistasis_kernels():
    genotypes = genotypes_of()
    kernels = EpistasisKernels.learn(genotypes, 3, "cpu")
    covariance = OrdersCovariance(kernels, (0.5, 0.3, 0.2))
    expected = sum(share * part.numpy() for share, part in zip((0.5, 0.3, 0.2), kernels.dense(genotypes), strict=True))
    np.testing.assert_allclose(matrix_of(covariance, genotypes), expected, atol=1e-12)
    diagonal = covariance.diagonal(torch.from_numpy(genotypes.rows(slice(None)))).numpy()
    np.testing.assert_allclose(diagonal, np.diag(expected), atol=1e-12)


def test_blocks_change_nothing(monkeypatch):
    genotypes, other = genotypes_of(), genotypes_of(31, seed=5)
    covariance, weights = gaussian(genotypes), torch.randn(60, 2, dtype=torch.float64)
    whole = matrix_of(covariance, other, genotypes)
    monkeypatch.setattr("gpmap_cli.solvers.genotype_covariance._ROWS", 7)
    monkeypatch.setattr("gpmap_cli.solvers.genotype_covariance.row_slices.__defaults__", (7,))
    np.testing.assert_allclose(matrix_of(covariance, other, genotypes), whole, atol=1e-14)
    np.testing.assert_allclose(
        kernel_product(covariance, other, genotypes, weights).numpy(), whole @ weights.numpy(), atol=1e-12
    )


def test_the_same_covariances_share_their_work_and_survive_as_arrays():
    genotypes = genotypes_of()
    kernels = EpistasisKernels.learn(genotypes, 2, "cpu")
    gaussians = [gaussian(genotypes), gaussian(genotypes, 2.0), gaussian(genotypes)]
    orders = [OrdersCovariance(kernels, (0.5, 0.5)), OrdersCovariance(kernels, (0.1, 0.9))]
    assert [group.tolist() for group in same_covariances(gaussians)] == [[0, 2], [1]]
    assert [group.tolist() for group in same_covariances(orders)] == [[0], [1]]
    for covariances in (gaussians, orders):
        for before, after in zip(covariances, covariances_of_state(covariance_state(covariances)), strict=True):
            np.testing.assert_array_equal(matrix_of(before, genotypes), matrix_of(after, genotypes))


# Restricted likelihood


def textbook_criterion(covariance, y):
    """-2 log likelihood of n - 1 orthonormal contrasts without the mean, its scale profiled out."""
    size = len(y)
    contrast = np.linalg.svd(np.eye(size) - 1 / size)[0][:, : size - 1]
    inner, z = contrast.T @ covariance @ contrast, contrast.T @ y
    return (size - 1) * np.log(z @ np.linalg.inv(inner) @ z / (size - 1)) + np.linalg.slogdet(inner)[1]


def components_of(kind, genotypes):
    scale, x = LocusScale.learn(genotypes, "cpu"), torch.from_numpy(genotypes.rows(slice(None)))
    x = x - scale.mean
    if kind == "orders":
        return SummedComponents(EpistasisKernels.learn(genotypes, 3, "cpu").dense(genotypes)), 3
    additive = x @ x.T / scale.relationship if kind == "additive" else None
    by_locus = kind == "by_locus"
    size = (x.shape[1] if by_locus else 1) + (2 if additive is not None else 1)
    return GaussianComponents(x, scale.unit(0.0), by_locus, additive), size


KINDS = ["one_bandwidth", "by_locus", "additive", "orders"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_restricted_likelihood_is_that_of_contrasts(kind):
    samples = make_samples(40, 6)
    components, size = components_of(kind, samples.genotypes)
    rng = np.random.default_rng(1)
    y, noise = samples.phenotypes[:, 0] + 5, rng.uniform(0.5, 2, 40)
    likelihood = RestrictedLikelihood(components, torch.from_numpy(y), torch.from_numpy(noise))
    differences = []
    for _ in range(3):
        phi = torch.from_numpy(rng.normal(size=size))
        expected = textbook_criterion(components.build(phi).numpy() + np.diag(noise), y)
        differences.append(likelihood.criterion(phi) - expected)
    # The contrasts' determinant leaves out a constant, log n.
    np.testing.assert_allclose(differences, np.log(40), atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_its_gradient_is_that_of_differences(kind):
    samples = make_samples(40, 6)
    components, size = components_of(kind, samples.genotypes)
    rng = np.random.default_rng(2)
    y, noise = torch.from_numpy(samples.phenotypes[:, 0].copy()), torch.from_numpy(rng.uniform(0.5, 2, 40))
    likelihood = RestrictedLikelihood(components, y, noise)
    phi = torch.from_numpy(rng.normal(size=size))
    criterion, gradient, _ = likelihood.at(phi)
    assert criterion == pytest.approx(likelihood.criterion(phi))
    for place in range(size):
        step = torch.zeros(size, dtype=torch.float64)
        step[place] = 1e-5
        slope = (likelihood.criterion(phi + step) - likelihood.criterion(phi - step)) / 2e-5
        assert float(gradient[place]) == pytest.approx(slope, rel=1e-5, abs=1e-6)


def test_the_maximum_is_one_and_the_variances_are_found():
    """Data drawn from the model: bandwidth, genetic and residual variance come back."""
    genotypes = genotypes_of(500, 12, seed=3)
    rng = np.random.default_rng(5)
    kernel = matrix_of(gaussian(genotypes, 1.0), genotypes)
    y = 3.0 * np.linalg.cholesky(kernel + 1e-8 * np.eye(500)) @ rng.normal(size=500) + rng.normal(size=500)
    components, _ = components_of("one_bandwidth", genotypes)
    likelihood = RestrictedLikelihood(components, torch.from_numpy(y), torch.ones(500, dtype=torch.float64))
    best = likelihood.maximum(torch.zeros(2, dtype=torch.float64), 40)
    for move in ([0.2, 0.0], [-0.2, 0.0], [0.0, 0.2], [0.0, -0.2]):
        assert best.criterion < likelihood.criterion(best.phi + torch.tensor(move, dtype=torch.float64))
    assert best.residual_variance == pytest.approx(1.0, rel=0.3)
    assert float(best.phi[0].exp()) == pytest.approx(1.0, rel=0.5)


def test_a_bandwidth_for_each_locus_finds_those_that_matter():
    samples = make_samples(300, 8, num_environments=1, order=2)
    x = samples.genotypes.rows(slice(None))
    y = x[:, 0] * x[:, 1] + 0.1 * np.random.default_rng(0).normal(size=300)
    family = GaussianFamily(LocusScale.learn(samples.genotypes, "cpu"), False, by_locus=True)
    empty = samples.genotypes.take(np.arange(0))
    chosen_from = ChoiceSamples(
        samples.genotypes, torch.from_numpy(y), torch.ones(300).double(), empty, torch.empty(0).double()
    )
    rates = family.choose(chosen_from, None).covariance.rates.numpy()
    assert rates[:2].min() > 30 * rates[2:].max()


# The forms of the solver


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["gaussian", "orders"])
def test_dense_solution_and_error_variance_are_the_explicit_ones(kind, weighted):
    samples, other = make_samples(50, 6), genotypes_of(20, 6, seed=8)
    covariance = gaussian(samples.genotypes, shares=(0.6, 0.4))
    if kind == "orders":
        covariance = OrdersCovariance(EpistasisKernels.learn(samples.genotypes, 2, "cpu"), (0.6, 0.4))
    y, rng = samples.phenotypes + 2.0, np.random.default_rng(3)
    noise = rng.uniform(0.2, 3, y.shape) if weighted else np.ones(y.shape)
    penalties = np.array([0.1, 0.5])
    system = DenseSystem(covariance, measured_of(samples.genotypes, y, noise))
    solution, errors = system.solve(penalties), system.error_variance(penalties, other).numpy()
    predicted = solution.predict(torch.from_numpy(matrix_of(covariance, other, samples.genotypes))).numpy()
    diagonal = np.diag(matrix_of(covariance, other))
    for column, penalty in enumerate(penalties):
        mean, expected, variance, scale = explicit(
            matrix_of(covariance, samples.genotypes),
            matrix_of(covariance, other, samples.genotypes),
            diagonal,
            y[:, column],
            penalty * noise[:, column],
        )
        assert float(solution.mean[column]) == pytest.approx(mean)
        assert float(solution.variance[column]) == pytest.approx(scale)
        np.testing.assert_allclose(predicted[:, column], expected, rtol=1e-9)
        np.testing.assert_allclose(errors[:, column], variance, rtol=1e-8, atol=1e-12)


def factor_of(covariance, genotypes, most, enough=0.0, seed=0):
    return low_rank_kernel(covariance, genotypes, most, enough, np.random.default_rng(seed), "cpu").factor


def masked(samples, seed=0, share=0.3):
    y = samples.phenotypes.copy()
    y[np.random.default_rng(seed).random(y.shape) < share] = np.nan
    return y


@pytest.mark.parametrize("form", ["dense", "iterative", "inducing"])
def test_a_missing_phenotype_masks_only_its_own_cell(form):
    """All environments at once, each as if it were solved alone among its own samples."""
    samples = make_samples(200, 10, num_environments=3)
    y, covariance, penalties = masked(samples), gaussian(samples.genotypes), np.array([0.05, 0.3, 1.0])
    noise = np.random.default_rng(4).uniform(0.3, 3, y.shape)

    def system_of(genotypes, y, noise):
        measured = measured_of(genotypes, y, noise)
        if form == "dense":
            return DenseSystem(covariance, measured)
        if form == "iterative":
            return IterativeSystem(covariance, measured, factor_of(covariance, genotypes, 40))
        return InducingSystem(covariance, measured, samples.genotypes.take(np.arange(40)))

    together = system_of(samples.genotypes, y, noise).solve(penalties)
    for column in range(3):
        rows, own = np.flatnonzero(~np.isnan(y[:, column])), [column]
        part = system_of(samples.genotypes.take(rows), y[rows][:, own], noise[rows][:, own])
        alone = part.solve(penalties[own])
        alpha = together.alpha[:, column].numpy()
        np.testing.assert_allclose(alpha if form == "inducing" else alpha[rows], alone.alpha[:, 0], atol=2e-5)
        assert float(together.mean[column]) == pytest.approx(float(alone.mean[0]), abs=1e-5)
        assert float(together.variance[column]) == pytest.approx(float(alone.variance[0]), rel=1e-5)
        if form != "inducing":
            assert not alpha[np.isnan(y[:, column])].any()


def test_conjugate_gradients_give_the_dense_solution():
    samples = make_samples(700, 12, num_environments=2)
    covariance, penalties = gaussian(samples.genotypes, 1.5), np.array([0.01, 0.2])
    measured = measured_of(samples.genotypes, masked(samples))
    iterative = IterativeSystem(covariance, measured, factor_of(covariance, samples.genotypes, 150))
    dense = DenseSystem(covariance, measured)
    for tried in (penalties, 2 * penalties):  # the second starts from the first
        found, expected = iterative.solve(tried), dense.solve(tried)
        error = (found.alpha - expected.alpha).norm(dim=0) / expected.alpha.norm(dim=0)
        assert float(error.max()) < 1e-5
        kernel = torch.from_numpy(matrix_of(covariance, samples.genotypes))
        np.testing.assert_allclose(found.predict(kernel), expected.predict(kernel), rtol=0, atol=3e-6)
        np.testing.assert_allclose(found.variance, expected.variance, rtol=1e-6)
        assert 0 < found.num_steps < 60


def test_the_residual_is_below_one_millionth_in_double_precision():
    samples = make_samples(400, 12, num_environments=1)
    covariance = gaussian(samples.genotypes, 1.5)
    measured = measured_of(samples.genotypes, samples.phenotypes)
    found = IterativeSystem(covariance, measured, factor_of(covariance, samples.genotypes, 50)).solve(np.array([1e-3]))
    kernel = matrix_of(covariance, samples.genotypes).astype(np.float32).astype(np.float64)
    alpha, y = found.alpha[:, 0].numpy(), samples.phenotypes[:, 0]
    left = kernel @ alpha + 1e-3 * alpha + float(found.mean[0])
    assert np.linalg.norm(left - y) < 3e-6 * np.linalg.norm(y)


def test_preconditioning_saves_steps(monkeypatch):
    samples = make_samples(500, 12, num_environments=1)
    covariance, measured = gaussian(samples.genotypes), measured_of(samples.genotypes, samples.phenotypes)

    def solved(size):
        factor = factor_of(covariance, samples.genotypes, size)
        return IterativeSystem(covariance, measured, factor).solve(np.array([1e-3]))

    assert solved(250).num_steps < solved(2).num_steps / 3
    monkeypatch.setattr(kernel_gradients, "_MOST_STEPS", 1)
    monkeypatch.setattr(kernel_gradients, "_MOST_ROUNDS", 1)
    with pytest.raises(FitFailed, match="does not converge"):
        solved(2)


def test_pivots_give_the_low_rank_kernel_and_leave_little():
    """F F' is the projection on the pivots' columns, and far better than that on as many random ones."""
    samples = make_samples(600, 12)
    scale = LocusScale.learn(samples.genotypes, "cpu")
    rates = torch.tensor([0.5] * 3 + [0.1] * 3 + [1e-3] * 6, dtype=torch.float64)
    covariance = GaussianCovariance(rates, scale.mean, scale.relationship, (1.0, 0.0))
    found = low_rank_kernel(covariance, samples.genotypes, 60, 0.0, np.random.default_rng(0), "cpu")
    assert len(set(found.pivots.tolist())) == len(found.pivots) == found.factor.shape[1] <= 60
    whole = matrix_of(covariance, samples.genotypes)

    def projection(rows):
        return whole[:, rows] @ np.linalg.pinv(whole[np.ix_(rows, rows)], hermitian=True) @ whole[rows]

    np.testing.assert_allclose(found.factor @ found.factor.T, projection(found.pivots), atol=1e-4)
    left = np.trace(whole) - float((found.factor**2).sum())
    at_random = np.trace(whole - projection(np.arange(len(found.pivots))))
    assert left < at_random / 2


def test_pivots_end_where_enough_is_found_or_nothing_is_left():
    samples = make_samples(500, 4)  # 16 different genotypes
    covariance = gaussian(samples.genotypes)
    assert factor_of(covariance, samples.genotypes, 300).shape[1] <= 130
    few = factor_of(covariance, samples.genotypes, 300, enough=2.0)
    assert few.shape == (500, 0)
    found = factor_of(covariance, samples.genotypes, 300)
    np.testing.assert_allclose(found @ found.T, matrix_of(covariance, samples.genotypes), atol=1e-4)


def test_all_samples_as_inducing_ones_are_the_exact_regression():
    samples, other = make_samples(150, 12), genotypes_of(30, 12, seed=8)
    covariance, penalties = gaussian(samples.genotypes, 2.0), np.array([0.1, 0.5])
    noise = np.random.default_rng(4).uniform(0.3, 3, samples.phenotypes.shape)
    measured = measured_of(samples.genotypes, masked(samples), noise)
    inducing, dense = InducingSystem(covariance, measured, samples.genotypes), DenseSystem(covariance, measured)
    found, expected = inducing.solve(penalties), dense.solve(penalties)
    cross = torch.from_numpy(matrix_of(covariance, other, samples.genotypes))
    np.testing.assert_allclose(found.predict(cross), expected.predict(cross), atol=1e-6)
    np.testing.assert_allclose(found.variance, expected.variance, rtol=1e-6)
    np.testing.assert_allclose(
        inducing.error_variance(penalties, other), dense.error_variance(penalties, other), atol=1e-6
    )


def test_fewer_inducing_samples_are_the_subset_of_regressors():
    samples, other = make_samples(150, 12, num_environments=1), genotypes_of(30, 12, seed=8)
    covariance, y = gaussian(samples.genotypes, 2.0), samples.phenotypes[:, 0] + 1.0
    subset = samples.genotypes.take(np.arange(40))
    inducing = InducingSystem(covariance, measured_of(samples.genotypes, y[:, None]), subset)
    solution = inducing.solve(np.array([0.2]))
    inner = np.linalg.inv(matrix_of(covariance, subset))
    left, right = matrix_of(covariance, other, subset), matrix_of(covariance, subset, samples.genotypes)
    cross, kernel = left @ inner @ right, right.T @ inner @ right
    mean, expected, variance, scale = explicit(
        kernel, cross, np.diag(matrix_of(covariance, other)), y, np.full(150, 0.2)
    )
    assert float(solution.mean[0]) == pytest.approx(mean, rel=1e-6)
    assert float(solution.variance[0]) == pytest.approx(scale, rel=1e-6)
    np.testing.assert_allclose(solution.predict(torch.from_numpy(left))[:, 0], expected, atol=1e-7)
    np.testing.assert_allclose(inducing.error_variance(np.array([0.2]), other)[:, 0], variance, atol=1e-7)


def test_a_matrix_that_is_barely_singular_is_factorised():
    with_duplicates = torch.ones(5, 5, dtype=torch.float64)
    factor = safe_cholesky(with_duplicates)
    np.testing.assert_allclose(factor @ factor.T, torch.ones(5, 5).double(), atol=1e-6)
    with pytest.raises(FitFailed, match=r"larger model\.penalty"):
        safe_cholesky(-torch.eye(3, dtype=torch.float64))


# The model


def test_predictions_and_standard_deviations_of_the_model_are_the_explicit_ones():
    train, validation = split_samples(make_samples(150, 8))
    model = fit(train, bandwidth=1.3, penalty=0.2)
    covariance = gaussian(train.genotypes, 1.3)
    inputs = matrix_of(covariance, train.genotypes), matrix_of(covariance, validation.genotypes, train.genotypes)
    std = model.predict_std(validation.genotypes)
    for column in range(2):
        y = train.phenotypes[:, column]
        _, expected, variance, scale = explicit(*inputs, np.ones(50), y, np.full(100, 0.2))
        np.testing.assert_allclose(model.predict(validation.genotypes)[:, column], expected, rtol=1e-9)
        np.testing.assert_allclose(std[:, column], np.sqrt(scale * variance), rtol=1e-7)
        assert model.noise_std[column] == pytest.approx(np.sqrt(0.2 * scale))


def test_weighted_is_noise_in_proportion_to_squared_measurement_errors():
    train, validation = split_samples(make_samples(150, 8, num_environments=1))
    errors = np.random.default_rng(0).uniform(0.5, 2.0, train.phenotypes.shape)
    train = replace(train, phenotype_std=errors)
    model = fit(train, bandwidth=1.3, penalty=0.2, weighted=True)
    covariance = gaussian(train.genotypes, 1.3)
    noise = 0.2 * errors[:, 0] ** 2 / np.mean(errors[:, 0] ** 2)
    _, expected, variance, scale = explicit(
        matrix_of(covariance, train.genotypes),
        matrix_of(covariance, validation.genotypes, train.genotypes),
        np.ones(50),
        train.phenotypes[:, 0],
        noise,
    )
    np.testing.assert_allclose(model.predict(validation.genotypes)[:, 0], expected, rtol=1e-9)
    np.testing.assert_allclose(model.predict_std(validation.genotypes)[:, 0], np.sqrt(scale * variance), rtol=1e-7)
    assert not np.allclose(fit(train, bandwidth=1.3, penalty=0.2).predict(validation.genotypes)[:, 0], expected)


def test_weighted_without_errors_is_refused():
    train, _ = split_samples(make_samples())
    with pytest.raises(InputError, match="phenotype_std"):
        fit(train, weighted=True)


def test_coverage_of_intervals_on_data_of_the_model():
    """Genetic values drawn from a Gaussian process lie within 1.96 predicted standard deviations 95 % of the time."""
    genotypes = genotypes_of(700, 14, seed=6)
    rng = np.random.default_rng(7)
    kernel = matrix_of(gaussian(genotypes, 1.0), genotypes)
    genetic = np.linalg.cholesky(kernel + 1e-8 * np.eye(700)) @ rng.normal(size=(700, 3))
    y = genetic + 0.3 * rng.normal(size=genetic.shape)
    rows, out = np.arange(300), np.arange(300, 700)
    model = fit(Samples(genotypes.take(rows), y[rows]))
    std, predicted = model.predict_std(genotypes.take(out)), model.predict(genotypes.take(out))
    assert np.mean(np.abs(predicted - genetic[out]) < 1.96 * std) == pytest.approx(0.95, abs=0.03)
    with_noise = np.hypot(std, model.noise_std)
    assert np.mean(np.abs(predicted - y[out]) < 1.96 * with_noise) == pytest.approx(0.95, abs=0.03)
    np.testing.assert_allclose(model.noise_std, 0.3, rtol=0.35)


@pytest.mark.parametrize("kernel", ["gaussian", "orders"])
def test_the_forms_agree(kernel, monkeypatch):
    """Beyond the dense form's size conjugate gradients take over, beyond memory inducing samples: here all of them."""
    train, validation = split_samples(make_samples(300, 10, missing=0.1))
    settings = {"kernel": kernel, "num_inducing": 250, "standard_deviations": True}
    dense = fit(train, **settings)
    monkeypatch.setattr(kernel_model, "_LARGEST_DENSE", 100)
    iterative = fit(train, **settings)
    inducing = fit(train, **settings, memory_limit_gb=1e-6)
    assert [model.describe()["form"] for model in (dense, iterative, inducing)] == ["dense", "iterative", "inducing"]
    for model in (iterative, inducing):
        np.testing.assert_allclose(model.predict(validation.genotypes), dense.predict(validation.genotypes), atol=2e-3)
        np.testing.assert_allclose(
            model.predict_std(validation.genotypes), dense.predict_std(validation.genotypes), rtol=0.02
        )
        again = Kernel.from_state(model.settings, model.state())
        np.testing.assert_array_equal(again.predict(validation.genotypes), model.predict(validation.genotypes))
        np.testing.assert_array_equal(again.predict_std(validation.genotypes), model.predict_std(validation.genotypes))


def test_inducing_samples_alone_are_kept_unless_standard_deviations_are_wanted(monkeypatch):
    monkeypatch.setattr(kernel_model, "_LARGEST_DENSE", 100)
    train, validation = split_samples(make_samples(300, 10))
    small = fit(train, memory_limit_gb=1e-6, num_inducing=60)
    whole = fit(train, memory_limit_gb=1e-6, num_inducing=60, standard_deviations=True)
    assert 60 <= len(small.state()["genotypes_stored"]) <= 120  # of each environment its own
    assert whole.state()["genotypes_stored"].shape == (250, 10)
    assert small.predict_std(validation.genotypes) is None
    np.testing.assert_allclose(small.predict(validation.genotypes), whole.predict(validation.genotypes), rtol=1e-6)
    again = Kernel.from_state(small.settings, small.state())
    np.testing.assert_array_equal(again.predict(validation.genotypes), small.predict(validation.genotypes))


def test_orders_up_to_two_equal_the_pairwise_model_at_equal_penalties():
    train, validation = split_samples(make_samples(200, 8, num_environments=1))
    additive, pair = 3.0, 20.0
    solution = solve_pairwise(train.genotypes, train.phenotypes, (additive, pair), None, "cpu", print)
    kernels = EpistasisKernels.learn(train.genotypes, 2, "cpu")
    variances = kernels.scales.numpy() / [additive, pair]  # per unit of residual variance
    covariance = OrdersCovariance(kernels, tuple(variances / variances.sum()))
    system = DenseSystem(covariance, measured_of(train.genotypes, train.phenotypes))
    alpha = system.solve(np.array([1 / variances.sum()]))
    predicted = alpha.predict(torch.from_numpy(matrix_of(covariance, validation.genotypes, train.genotypes)))
    np.testing.assert_allclose(predicted, pairwise_prediction(validation.genotypes, solution), atol=1e-9)


def test_orders_up_to_two_by_reml_equal_the_pairwise_model_by_reml():
    train, validation = split_samples(make_samples(200, 8))
    solution = solve_pairwise(train.genotypes, train.phenotypes, (None, None), None, "cpu", print)
    predicted = fit(train, kernel="orders", max_order=2).predict(validation.genotypes)
    np.testing.assert_allclose(predicted, pairwise_prediction(validation.genotypes, solution), atol=0.02)


def test_validation_chooses_and_nothing_else():
    """Validation phenotypes are seen only where they choose; a family is kept where it has less validation error."""
    samples = make_samples(360, 6)
    samples.phenotypes[:] += np.random.default_rng(3).normal(size=samples.phenotypes.shape)
    train, validation = split_samples(samples, 160)
    shuffled = replace(validation, phenotypes=validation.phenotypes[::-1].copy())
    by_reml = [fit(train, other).predict(validation.genotypes) for other in (validation, shuffled)]
    np.testing.assert_array_equal(*by_reml)
    chosen = fit(train, validation, penalty_choice="validation")
    misled = fit(train, shuffled, penalty_choice="validation")
    assert (misled._penalty > 5 * chosen._penalty).all()
    fixed = fit(train, validation, penalty_choice="validation", penalty=0.3)
    assert (fixed._penalty == 0.3).all()


def test_a_bandwidth_for_each_locus_is_taken_where_validation_finds_it_better():
    rng = np.random.default_rng(1)
    genotypes = genotypes_of(800, 10, seed=1)
    x = genotypes.rows(slice(None))
    sparse = 2 * x[:, 0] * x[:, 1] * x[:, 2] + x[:, 3] + 0.2 * rng.normal(size=800)
    first, second = np.triu_indices(10, 1)
    dense = (x[:, first] * x[:, second]) @ rng.choice([-1.0, 1.0], size=45) / 3 + rng.normal(size=800)
    samples = Samples(genotypes, np.stack([sparse, dense], axis=1))
    model = fit(*split_samples(samples, 400), ard=None)
    rates = model.state()["rates"]
    assert rates[0, :3].min() > 10 * rates[0, 4:].max()
    table = model.tables()["rates"]
    np.testing.assert_array_equal(table["rate"].reshape(2, 10), rates)


def test_samples_beyond_those_of_the_likelihood_adjust_the_penalty(monkeypatch):
    train, validation = split_samples(make_samples(500, 8), 200)
    plain = fit(train, validation, num_likelihood_samples=60)
    adjusted = fit(train, validation, num_likelihood_samples=60, penalty_choice="validation")

    def error(model):
        return np.mean((model.predict(validation.genotypes) - validation.phenotypes) ** 2)

    assert error(adjusted) <= error(plain)
    assert (adjusted._penalty != plain._penalty).any()


def test_pattern_search_finds_the_least_error_on_free_axes():
    error = lambda place: (place[0] - 1.6) ** 2 + (place[1] + 2.4) ** 2  # noqa: E731
    assert pattern_search(error, (True, True)) == (1.5, -2.5)
    assert pattern_search(error, (False, True)) == (0.0, -2.5)


@pytest.mark.parametrize("kernel", ["gaussian", "orders"])
def test_hopeless_input(kernel):
    """Constant and duplicated loci, a constant phenotype, one that was measured once, three samples."""
    samples = make_samples(3, 6, num_environments=3)
    samples.genotypes.stored[:, 0] = 1
    samples.genotypes.stored[:, 1] = samples.genotypes.stored[:, 2]
    samples.genotypes.stored[1] = samples.genotypes.stored[0]
    samples.phenotypes[:, 1] = 0.0
    samples.phenotypes[1:, 2] = np.nan
    samples.phenotypes[0, 2] = 0.0
    model = fit(samples, kernel=kernel)
    other = genotypes_of(10, 6, seed=2)
    assert np.isfinite(model.predict(other)).all()
    assert np.isfinite(model.predict_std(other)).all()
    np.testing.assert_allclose(model.predict(other)[:, 1:], 0, atol=1e-12)
    constant = np.ones((30, 4), np.int8)
    nothing = Samples(
        CodedGenotypes(constant, GenotypeCoding.learn(constant, 1)), np.random.default_rng(0).normal(size=(30, 1))
    )
    np.testing.assert_allclose(
        fit(nothing, kernel=kernel).predict(nothing.genotypes), nothing.phenotypes.mean(), atol=1e-9
    )


def test_an_environment_without_phenotypes_is_refused():
    samples = make_samples(20)
    samples.phenotypes[:, 1] = np.nan
    with pytest.raises(InputError, match="`e1` has no phenotype"):
        fit(samples)


def problems_of(**settings):
    found: list[Problem] = []
    fill(Settings, settings, Group("model.", "kernel"), found)
    return [problem.message for problem in found]


def test_settings_that_contradict_each_other_are_refused():
    assert problems_of() == []
    assert problems_of(kernel="orders", max_order=2) == []
    assert "model.bandwidth belongs to kernel=gaussian" in problems_of(kernel="orders", bandwidth=1.0)
    assert "model.ard belongs to kernel=gaussian" in problems_of(kernel="orders", ard=True)
    assert len(problems_of(ard=True, bandwidth=1.0)) == 1
    assert len(problems_of(penalty=0.0)) == 1
    assert len(problems_of(num_likelihood_samples=10)) == 1
    # A setting that is wrong hides no problem of others.
    assert [text.split()[0] for text in problems_of(kernel="orders", ard="maybe", rarity=1.0, bandwidth=1.0)] == [
        "model.ard",
        "model.rarity",
        "model.bandwidth",
    ]


def test_memory_of_the_job_counts(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("3000\n")
    (tmp_path / "memory.current").write_text("1000\n")
    monkeypatch.setattr(memory, "_CONTROL_GROUP", tmp_path)
    assert memory.available_bytes("cpu") == 2000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes("cpu") > 2**20


# Commands


def table_of(path):
    with gzip.open(path) as stream:
        return pd.read_csv(io.BytesIO(stream.read()), dtype={"sample_id": str})


def test_commands_write_standard_deviations(gpmap, tmp_path):
    words = ("data.num_samples=200", "data.num_loci=6", "data.order=2")
    plain = gpmap("train", "model=kernel", *words, "hydra.run.dir=plain")
    assert plain.returncode == 0, plain.stderr
    assert not (tmp_path / "plain" / "prediction_std.csv.gz").exists()
    result = gpmap("train", "model=kernel", "model.standard_deviations=true", *words, "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr
    trained, predictions = (table_of(tmp_path / "run" / f"{name}.csv.gz") for name in ("prediction_std", "predictions"))
    assert list(trained) == ["split", "sample_id", "environment", "predicted_std", "predicted_std_with_noise"]
    keys = ["split", "sample_id", "environment"]
    pd.testing.assert_frame_equal(trained[keys], predictions[keys])
    assert (trained.predicted_std_with_noise > trained.predicted_std).all()
    for command in ("evaluate", "predict"):
        result = gpmap(command, "run=plain", f"hydra.run.dir={command}")
        assert result.returncode == 0, result.stderr
        written = table_of(tmp_path / command / "prediction_std.csv.gz")
        np.testing.assert_allclose(written.predicted_std, trained.predicted_std, rtol=1e-6)
    ridge = gpmap("train", "model=ridge", *words, "hydra.run.dir=ridge")
    assert ridge.returncode == 0, ridge.stderr
    assert gpmap("predict", "run=ridge", "hydra.run.dir=of_ridge").returncode == 0
    assert not (tmp_path / "of_ridge" / "prediction_std.csv.gz").exists()


def test_standard_deviations_are_in_the_units_of_the_phenotype(gpmap, tmp_path):
    """Ten times the phenotype, ten times the standard deviation."""
    import h5py

    assert (
        gpmap("simulate", "data.num_samples=150", "data.num_loci=5", "data.order=2", "hydra.run.dir=made").returncode
        == 0
    )
    path = tmp_path / "made" / "dataset.h5"
    small, large = [], []
    for factor, found in ((1.0, small), (10.0, large)):
        with h5py.File(path, "r+") as file:
            file["phenotypes"][...] = file["phenotypes"][...] * factor
        words = ("model=kernel", "model.standard_deviations=true", "data=file", f"data.path={path}")
        result = gpmap("train", *words, f"hydra.run.dir=times_{factor}")
        assert result.returncode == 0, result.stderr
        table = table_of(tmp_path / f"times_{factor}" / "prediction_std.csv.gz")
        found.append(table[["predicted_std", "predicted_std_with_noise"]].to_numpy())
    np.testing.assert_allclose(large[0], 10 * small[0], rtol=1e-3)
