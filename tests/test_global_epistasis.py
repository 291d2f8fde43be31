"""Latent additive traits under monotone curves: the curve, the joint fit, what is recovered from simulated truth."""

from __future__ import annotations

import itertools
from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest
from conftest import make_samples, split_samples
from sklearn.linear_model import Ridge as SklearnRidge

from gpmap_cli.dataset.coding import CodedGenotypes, GenotypeCoding, PhenotypeScale, Samples
from gpmap_cli.errors import InputError
from gpmap_cli.metrics import r2_score
from gpmap_cli.models.global_epistasis import GlobalEpistasis, Settings
from gpmap_cli.models.ridge import Ridge
from gpmap_cli.models.ridge import Settings as RidgeSettings
from gpmap_cli.run_dir.layout import RunDirectory
from gpmap_cli.run_dir.model_tables import write_tables
from gpmap_cli.solvers.global_epistasis import LatentTraitSolver
from gpmap_cli.solvers.latent_effects import (
    Objective,
    _ByLocus,
    _BySample,
    leave_one_out_penalty,
    principal_coordinates,
)
from gpmap_cli.solvers.monotone_curve import Curve, CurveBasis, _constrained_minimum, straight_line
from gpmap_cli.training.context import FitContext
from gpmap_cli.training.settings import TrainingSettings

SHAPES = {
    "sigmoid": lambda t: 1 / (1 + np.exp(-3 * t)),
    "exponential": lambda t: np.exp(0.8 * t),
    "saturating": lambda t: -np.exp(-0.8 * t),
    "floor": lambda t: np.maximum(t, 0),
    "line": lambda t: t,
}


class Simulated:
    """Training, validation and test samples of one latent trait t = x . w of variance 1 and phenotype h(t) + noise."""

    def __init__(self, shape, num_samples=2000, num_loci=20, noise=0.3, seed=0, num_test=4000):
        rng = np.random.default_rng(seed)
        stored = rng.integers(0, 2, (num_samples + num_test, num_loci)).astype(np.int8)
        self.weights = rng.normal(size=num_loci)
        self.weights /= np.linalg.norm(self.weights)
        latent = (2.0 * stored - 1) @ self.weights
        self.value = SHAPES[shape](latent)
        self.value = self.value / self.value.std()
        phenotype = self.value + noise * rng.normal(size=len(stored))
        first, second = int(0.8 * num_samples), num_samples
        self.parts = [np.arange(first), np.arange(first, second), np.arange(second, len(stored))]
        coding = GenotypeCoding.learn(stored[self.parts[0]], 1)
        self.scale = PhenotypeScale.learn(phenotype[self.parts[0], None])
        phenotype = self.scale.standardise(phenotype[:, None])
        self.train, self.validation, self.test = (
            Samples(CodedGenotypes(stored[rows], coding), phenotype[rows]) for rows in self.parts
        )
        self.latent = latent[self.parts[2]]
        self.truth = self.scale.standardise(self.value[self.parts[2], None])[:, 0]
        self.ceiling = r2_score(self.test.phenotypes[:, 0], self.truth)

    def fitted(self, model):
        return fit(model, self.train, self.validation)

    def test_r2(self, model):
        return r2_score(self.test.phenotypes[:, 0], model.predict(self.test.genotypes)[:, 0])


def fit(model, train, validation, seed=0):
    names = tuple(f"e{number}" for number in range(train.phenotypes.shape[1]))
    training = TrainingSettings("test", epochs=1, batch_size=32, learning_rate=0.01, initial_scale=0.3)
    model.fit(train, validation, FitContext(seed, names, training))
    return model


def curve_data(num_samples=400, seed=0):
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=num_samples)
    phenotype = np.where(latent < 0.3, -0.3, 2 * latent) + 0.5 * rng.normal(size=num_samples)
    return latent, phenotype, rng.uniform(0.2, 3, num_samples)


# The curve


def test_a_straight_line_is_straight_everywhere():
    latent = np.linspace(-9, 9, 101)
    line = straight_line(-1.5, 2.0, 7, 0.25)
    np.testing.assert_allclose(line.value(latent), latent + 0.25, atol=1e-13)
    np.testing.assert_allclose(line.slope(latent), 1, atol=1e-13)


def test_the_slope_is_the_derivative_of_the_value_inside_and_beyond_the_knots():
    curve = Curve(-1.0, 0.25, np.cumsum(np.random.default_rng(0).uniform(0, 1, 12)))
    latent = np.linspace(-2, 2.5, 181) + 1e-3
    numeric = (curve.value(latent + 1e-6) - curve.value(latent - 1e-6)) / 2e-6
    np.testing.assert_allclose(curve.slope(latent), numeric, atol=1e-7)
    assert len(np.unique(curve.slope(latent[latent > 1.3]).round(9))) == 1  # the tangent
    rescaled = curve.rescaled(0.3, 2.0)
    np.testing.assert_allclose(rescaled.value((latent - 0.3) / 2), curve.value(latent), atol=1e-12)


@pytest.mark.parametrize("smoothness", [1e-8, 1e-4, 1e-1])
def test_the_fitted_curve_is_monotone_and_no_feasible_curve_is_better(smoothness):
    latent, phenotype, weights = curve_data()
    basis = CurveBasis(latent, weights, 15)
    found = basis.fit(latent, phenotype, weights, smoothness)
    grid = np.linspace(-5, 5, 1001)
    assert found.curve.slope(grid).min() >= 0
    assert (found.differences >= 0).all()
    if smoothness < 1e-2:
        assert (found.differences == 0).any()  # the truth is flat on the left, so some constraint is at work
    np.testing.assert_allclose(weights @ found.slope / weights.sum(), 1, atol=1e-9)

    def objective(differences, constant):
        curve = Curve(basis.start, basis.step, constant + np.concatenate([[0], np.cumsum(differences)]))
        bends = np.diff(differences) ** 2 * (basis.std / basis.step) ** 3
        error = weights @ (phenotype - curve.value(latent)) ** 2
        return error + smoothness * weights.sum() * bends.sum(), weights @ curve.slope(latent) / weights.sum()

    best, constant = objective(found.differences, found.curve.coefficients[0])[0], found.curve.coefficients[0]
    np.testing.assert_allclose(best - found.penalty, weights @ (phenotype - found.fitted) ** 2, rtol=1e-9)
    rng = np.random.default_rng(1)
    for size in (1e-4, 1e-3, 1e-1):
        for _ in range(200):
            differences = np.maximum(found.differences + size * rng.normal(size=len(found.differences)), 0)
            differences /= objective(differences, 0)[1]
            assert objective(differences, constant + size * rng.normal())[0] >= best - 1e-9


def test_a_smooth_enough_curve_is_straight():
    latent, phenotype, weights = curve_data()
    curve = CurveBasis(latent, weights, 15).fit(latent, phenotype, weights, 1e7).curve
    np.testing.assert_allclose(curve.slope(latent), 1, atol=1e-5)


def test_the_constrained_minimum_is_the_best_of_all_sets_of_constraints():
    rng = np.random.default_rng(0)
    for _ in range(300):
        factor, linear, raises = rng.normal(size=(5, 5)), 3 * rng.normal(size=5), rng.uniform(0.1, 1, 4)
        quadratic = factor @ factor.T + 0.1 * np.eye(5)
        least = np.inf
        for held in itertools.product([False, True], repeat=4):
            free = [0, *(1 + np.flatnonzero(~np.array(held)))]
            row = np.concatenate([[0], raises])[free]
            if len(free) > 1:
                system = np.block([[quadratic[np.ix_(free, free)], row[:, None]], [row[None, :], np.zeros((1, 1))]])
                x = np.zeros(5)
                x[free] = np.linalg.solve(system, np.append(linear[free], 1))[:-1]
                if (x[1:] >= 0).all():
                    least = min(least, x @ quadratic @ x / 2 - linear @ x)
        found = _constrained_minimum(quadratic, linear, raises, np.array([0, *np.full(4, 1 / raises.sum())]))
        assert (found[1:] >= 0).all()
        np.testing.assert_allclose(raises @ found[1:], 1, atol=1e-9)
        np.testing.assert_allclose(found @ quadratic @ found / 2 - linear @ found, least, rtol=1e-7, atol=1e-7)


# The joint fit


def objective_of(shape, weights=None, smoothness=1e-5, penalty=3.0, seed=0):
    samples = make_samples(*shape, num_environments=1, seed=seed)
    phenotype = np.exp(samples.phenotypes[:, 0])
    weights = np.ones(shape[0]) if weights is None else weights
    coordinates = principal_coordinates(samples.genotypes, weights, "cpu")
    straight = Objective(coordinates, phenotype, weights, penalty)
    start = straight.minimise(np.zeros(len(coordinates.values)), 1e-12)
    basis = CurveBasis(start.latent, weights, 12)
    return replace(straight, basis=basis, smoothness=smoothness), start


@pytest.mark.parametrize("shape", [(150, 10), (30, 60)])
@pytest.mark.parametrize("is_straight", [True, False])
def test_the_gradient_is_that_of_finite_differences(shape, is_straight):
    rng = np.random.default_rng(2)
    objective, start = objective_of(shape, rng.uniform(0.1, 2, shape[0]))
    if is_straight:
        objective = replace(objective, basis=None)
    v = start.v + 0.1 * rng.normal(size=len(start.v))

    def value(at):
        return objective.at(objective.coordinates.latent(at), at)[0]

    _, by_latent, fitted = objective.at(objective.coordinates.latent(v), v)
    assert is_straight or (fitted.curve.differences == 0).any()
    gradient = objective.gradient(by_latent, v)
    for place in range(len(v)):
        step = np.zeros(len(v))
        step[place] = 1e-5
        numeric = (value(v + step) - value(v - step)) / 2e-5
        np.testing.assert_allclose(gradient[place], numeric, rtol=1e-5, atol=1e-5)


def test_a_straight_curve_is_ridge_regression():
    objective, fitted = objective_of((120, 15))
    x = make_samples(120, 15, 1).genotypes.rows(slice(None))
    x, y = x - x.mean(axis=0), objective.phenotype - objective.phenotype.mean()
    expected = np.linalg.solve(x.T @ x + 3.0 * np.eye(15), x.T @ y)
    np.testing.assert_allclose(objective.coordinates.effects(fitted.v), expected, atol=1e-6)


def test_both_coordinates_give_the_same_fit():
    samples = make_samples(50, 50, 1)
    weights = np.random.default_rng(4).uniform(0.1, 3, 50)
    phenotype, results = np.exp(samples.phenotypes[:, 0]), []
    for kind in (_ByLocus, _BySample):
        coordinates = kind(samples.genotypes, weights, "cpu")
        straight = Objective(coordinates, phenotype, weights, 5.0).minimise(np.zeros(50), 1e-13)
        basis = CurveBasis(straight.latent, weights, 8)
        curved = Objective(coordinates, phenotype, weights, 5.0, basis, 1e-3).minimise(straight.v, 1e-13)
        assert straight.converged
        assert curved.converged
        results.append((coordinates.effects(straight.v), coordinates.effects(curved.v), curved.fitted()))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_minimum_is_found_from_other_starts():
    objective, start = objective_of((400, 10))
    found = objective.minimise(start.v, 1e-12)
    least = objective.at(found.latent, found.v)[0]
    rng = np.random.default_rng(0)
    for _ in range(5):
        v = start.v + 0.3 * np.linalg.norm(start.v) * rng.normal(size=len(start.v))
        other = objective.minimise(v, 1e-12)
        assert other.converged
        np.testing.assert_allclose(objective.at(other.latent, other.v)[0], least, rtol=1e-8)


def test_row_weights_do_what_replicated_rows_do():
    samples = make_samples(100, 8, 1)
    counts = np.random.default_rng(3).integers(1, 5, 100)
    rows = np.repeat(np.arange(100), counts)
    phenotype, results = np.exp(samples.phenotypes[:, 0]), []
    for genotypes, y, weights, factor in (
        (samples.genotypes, phenotype, counts / counts.mean(), 1.0),
        (samples.genotypes.take(rows), phenotype[rows], np.ones(len(rows)), counts.mean()),
    ):
        coordinates = principal_coordinates(genotypes, weights, "cpu")
        straight = Objective(coordinates, y, weights, 2.0 * factor).minimise(np.zeros(8), 1e-13)
        basis = CurveBasis(straight.latent, weights, 10)
        curved = Objective(coordinates, y, weights, 2.0 * factor, basis, 1e-4).minimise(straight.v, 1e-13)
        shift = coordinates.mean @ coordinates.effects(curved.v)
        latent = samples.genotypes.rows(slice(None)) @ coordinates.effects(curved.v) - shift
        results.append((coordinates.effects(straight.v), curved.curve.curve.value(latent)))
    np.testing.assert_allclose(results[0][0], results[1][0], atol=1e-6)
    np.testing.assert_allclose(results[0][1], results[1][1], atol=1e-5)


@pytest.mark.parametrize("shape", [(25, 8), (15, 25)])
def test_the_weighted_leave_one_out_penalty_is_that_of_leaving_one_out(shape):
    samples = make_samples(*shape, num_environments=1)
    x, y = (
        samples.genotypes.rows(slice(None)),
        samples.phenotypes[:, 0] + np.random.default_rng(1).normal(size=shape[0]),
    )
    weights = np.random.default_rng(2).uniform(0.2, 4, shape[0])
    weights /= weights.mean()
    coordinates = principal_coordinates(samples.genotypes, weights, "cpu")
    path = coordinates.values.sum() / weights.sum() * 10 ** np.linspace(-5, 5, 61)
    errors = np.zeros(len(path))
    for place, penalty in enumerate(path):
        for out in range(len(x)):
            rest = np.arange(len(x)) != out
            model = SklearnRidge(alpha=penalty).fit(x[rest], y[rest], weights[rest])
            errors[place] += weights[out] * (y[out] - model.predict(x[[out]])[0]) ** 2
    assert leave_one_out_penalty(coordinates, y, weights) == pytest.approx(path[np.argmin(errors)])


# The model


@pytest.mark.parametrize("shape", ["sigmoid", "exponential", "saturating", "floor"])
def test_a_bent_scale_is_straightened(shape):
    simulated = Simulated(shape)
    model, ridge = simulated.fitted(GlobalEpistasis(Settings())), simulated.fitted(Ridge(RidgeSettings()))
    curved, straight = simulated.test_r2(model), simulated.test_r2(ridge)
    assert curved > simulated.ceiling - 0.012
    assert curved > straight + 0.05
    assert model.describe()["converged"] == [True]
    assert model.describe()["nonlinearity"][0] > 0.05
    effects, curve = model.tables()["effects"], model.tables()["curve"]
    latent_effect = np.empty(20)
    latent_effect[effects["locus"]] = effects["latent_effect"]
    assert np.corrcoef(latent_effect, simulated.weights)[0, 1] > 0.998
    order = np.argsort(simulated.weights)
    assert latent_effect[order[0]] < 0 < latent_effect[order[-1]]  # signs, decreasing ones too, are the truth's
    # The true curve, against the true latent trait, at those of the middle 98 %.
    assert (curve["slope"] >= 0).all()
    assert (np.diff(curve["phenotype"]) >= -1e-12).all()
    middle = (simulated.latent > -2.3) & (simulated.latent < 2.3)
    found = np.interp(simulated.latent, curve["latent"], curve["phenotype"])
    assert np.abs(found - simulated.truth)[middle].max() < 0.12
    assert np.sqrt(np.mean((found - simulated.truth)[middle] ** 2)) < 0.04


@pytest.mark.parametrize(("num_samples", "num_loci", "noise"), [(300, 20, 0.3), (2000, 20, 1.0), (200, 300, 0.5)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_on_additive_data_it_is_no_worse_than_ridge(num_samples, num_loci, noise, seed):
    simulated = Simulated("line", num_samples, num_loci, noise, seed)
    model, ridge = simulated.fitted(GlobalEpistasis(Settings())), simulated.fitted(Ridge(RidgeSettings()))
    assert simulated.test_r2(model) > simulated.test_r2(ridge) - 0.002
    if np.isinf(model.describe()["smoothness"][0]):
        np.testing.assert_allclose(
            model.predict(simulated.test.genotypes), ridge.predict(simulated.test.genotypes), atol=1e-5
        )
        assert model.describe()["nonlinearity"] == [0.0]


def test_a_straight_scale_is_mostly_called_straight():
    called = [
        Simulated("line", 300, 10, 0.5, seed, 10).fitted(GlobalEpistasis(Settings())).describe()["smoothness"][0]
        for seed in range(20)
    ]
    assert np.isinf(called).sum() >= 16


def test_more_loci_than_samples():
    simulated = Simulated("exponential", 800, 900, 0.05, seed=1)
    model, ridge = simulated.fitted(GlobalEpistasis(Settings())), simulated.fitted(Ridge(RidgeSettings()))
    assert simulated.test_r2(model) > simulated.test_r2(ridge) + 0.05
    assert np.isfinite(model.tables()["effects"]["std_error"]).all()


def test_without_validation_samples_folds_of_the_training_samples_choose():
    simulated = Simulated("floor", 1000)
    nobody = Samples(simulated.validation.genotypes, np.full_like(simulated.validation.phenotypes, np.nan))
    model = fit(GlobalEpistasis(Settings()), simulated.train, nobody)
    assert simulated.test_r2(model) > simulated.ceiling - 0.012
    assert model.describe()["nonlinearity"][0] > 0.1
    line = Simulated("line", 1000)
    nobody = Samples(line.validation.genotypes.take(np.arange(0)), np.empty((0, 1)))
    assert line.test_r2(fit(GlobalEpistasis(Settings()), line.train, nobody)) > line.ceiling - 0.01


def test_settings_given_are_kept():
    simulated = Simulated("sigmoid", 500)
    model = simulated.fitted(GlobalEpistasis(Settings(num_knots=9, penalty=7.5, smoothness=0.003)))
    assert model.describe()["penalty"] == [7.5]
    assert model.describe()["smoothness"] == [0.003]
    assert model.num_parameters == 20 + 9 + 2
    far_too_large = simulated.fitted(GlobalEpistasis(Settings(penalty=3000.0)))
    assert far_too_large.describe()["penalty"] == [3000.0]


def test_a_mirrored_phenotype_mirrors_the_predictions():
    simulated = Simulated("exponential", 500)
    mirrored = [Samples(part.genotypes, -part.phenotypes) for part in (simulated.train, simulated.validation)]
    one, other = simulated.fitted(GlobalEpistasis(Settings())), fit(GlobalEpistasis(Settings()), *mirrored)
    genotypes = simulated.test.genotypes
    np.testing.assert_allclose(one.predict(genotypes), -other.predict(genotypes), atol=1e-4)


def test_flipping_allele_labels_flips_effects():
    simulated = Simulated("sigmoid", 500)
    one = simulated.fitted(GlobalEpistasis(Settings()))
    stored = 1 - simulated.train.genotypes.stored
    coding = GenotypeCoding.learn(stored, 1)
    flipped = [
        Samples(CodedGenotypes(1 - part.genotypes.stored, coding), part.phenotypes)
        for part in (simulated.train, simulated.validation, simulated.test)
    ]
    other = fit(GlobalEpistasis(Settings()), *flipped[:2])
    np.testing.assert_allclose(
        one.predict(simulated.test.genotypes), other.predict(flipped[2].genotypes), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(one.state()["weights"], -other.state()["weights"], atol=1e-4)


def test_noisy_samples_count_less_when_weighted():
    simulated = Simulated("sigmoid", 600, noise=0.1)
    rng = np.random.default_rng(5)
    parts = []
    for part in (simulated.train, simulated.validation):
        noisy = rng.random(part.phenotypes.shape) < 0.5
        std = np.where(noisy, 3.0, 0.1)
        parts.append(Samples(part.genotypes, part.phenotypes + noisy * 3 * rng.normal(size=noisy.shape), std))
    weighted = fit(GlobalEpistasis(Settings(weighted=True)), *parts)
    plain = fit(GlobalEpistasis(Settings()), *parts)
    assert r2_score(simulated.truth, weighted.predict(simulated.test.genotypes)[:, 0]) > 0.97
    assert r2_score(simulated.truth, plain.predict(simulated.test.genotypes)[:, 0]) < 0.95
    nobody = replace(parts[1], phenotypes=np.full_like(parts[1].phenotypes, np.nan))
    in_folds = fit(GlobalEpistasis(Settings(weighted=True)), parts[0], nobody)
    assert r2_score(simulated.truth, in_folds.predict(simulated.test.genotypes)[:, 0]) > 0.97


def test_folds_keep_the_weights_of_their_rows():
    samples, weights = make_samples(20, 4, 1), np.linspace(0.5, 1.5, 20)
    solver = LatentTraitSolver(samples.genotypes, weights, np.arange(20) % 5, 10, None, None, "cpu")
    for number, (fitted, out, inside, coordinates) in enumerate(solver._folds):
        assert out.tolist() == list(range(number, 20, 5))
        assert sorted([*fitted, *out]) == list(range(20))
        np.testing.assert_allclose(inside, weights[fitted] / weights[fitted].mean())
        x = samples.genotypes.take(fitted).rows(slice(None))
        np.testing.assert_allclose(coordinates.mean, np.average(x, axis=0, weights=weights[fitted]))


def test_a_straight_weighted_fit_has_the_weighted_leave_one_out_penalty():
    simulated = Simulated("line", 300)
    std = np.random.default_rng(2).choice([0.01, 1.0], (240, 1))
    train = replace(simulated.train, phenotype_std=std)
    validation = replace(simulated.validation, phenotype_std=np.ones((60, 1)))
    model = fit(GlobalEpistasis(Settings(weighted=True)), train, validation)
    weights = (1 / std**2 / (1 / std**2).mean())[:, 0]
    coordinates = principal_coordinates(train.genotypes, weights, "cpu")
    expected = leave_one_out_penalty(coordinates, train.phenotypes[:, 0], weights)
    assert np.isinf(model.describe()["smoothness"]).all()
    assert model.describe()["penalty"] == [pytest.approx(expected)]


def test_every_environment_has_weights_of_its_own():
    simulated = Simulated("sigmoid", 300)
    rng = np.random.default_rng(5)
    parts = [
        Samples(part.genotypes, np.tile(part.phenotypes, 2), rng.uniform(0.1, 2, (len(part), 2)))
        for part in (simulated.train, simulated.validation)
    ]
    together = fit(GlobalEpistasis(Settings(weighted=True)), *parts).predict(simulated.test.genotypes)
    for column in range(2):
        own = [Samples(part.genotypes, part.phenotypes[:, [column]], part.phenotype_std[:, [column]]) for part in parts]
        alone = fit(GlobalEpistasis(Settings(weighted=True)), *own).predict(simulated.test.genotypes)
        np.testing.assert_allclose(together[:, [column]], alone, atol=1e-9)


def test_few_samples_can_be_weighted():
    samples = make_samples(num_samples=33)
    samples.phenotypes[:3, 1] = 0.0
    std = np.random.default_rng(0).uniform(0.1, 2, samples.phenotypes.shape)
    rows = (np.arange(3), np.arange(3, 33))
    parts = [Samples(samples.genotypes.take(part), samples.phenotypes[part], std[part]) for part in rows]
    assert np.isfinite(fit(GlobalEpistasis(Settings(weighted=True)), *parts).predict(samples.genotypes)).all()
    with pytest.raises(InputError, match="above 0"):
        fit(GlobalEpistasis(Settings(weighted=True)), replace(parts[0], phenotype_std=np.zeros((3, 2))), parts[1])


@pytest.mark.parametrize("shape", ["sigmoid", "line"])
def test_standard_errors_are_the_scatter_of_repeated_studies(shape):
    """At the same true effects, with noise drawn anew: estimates scatter as widely as their standard errors say."""
    rng = np.random.default_rng(7)
    stored = rng.integers(0, 2, (500, 6)).astype(np.int8)
    weights = np.array([0.7, -0.5, 0.4, 0.3, -0.1, 0.0])
    value = SHAPES[shape]((2.0 * stored - 1) @ weights)
    genotypes = CodedGenotypes(stored, GenotypeCoding.learn(stored, 1))
    effects, errors = [], []
    for _ in range(60):
        phenotype = (value + 0.15 * rng.normal(size=500))[:, None]
        train, validation = split_samples(Samples(genotypes, phenotype), 100)
        model = fit(GlobalEpistasis(Settings(num_knots=20, penalty=0.1, smoothness=1e-4)), train, validation)
        effects.append(model.state()["effect"][:, 0])
        errors.append(model.state()["std_error"][:, 0])
    ratio = np.std(effects, axis=0, ddof=1) / np.mean(errors, axis=0)
    assert 0.85 < np.sqrt(np.mean(ratio**2)) < 1.2
    assert ((ratio > 0.7) & (ratio < 1.4)).all()


def test_tables_and_description_survive_saving():
    simulated = Simulated("floor", 500)
    model = simulated.fitted(GlobalEpistasis(Settings()))
    again = GlobalEpistasis.from_state(Settings(), model.state())
    assert again.describe() == model.describe()
    for name, table in model.tables().items():
        for column, values in table.items():
            np.testing.assert_array_equal(again.tables()[name][column], values)
    effects = model.tables()["effects"]
    assert list(effects) == ["environment", "locus", "locus_2", "effect", "std_error", "latent_effect"]
    assert (np.diff(np.abs(effects["effect"])) <= 0).all()
    assert (effects["locus_2"] == -1).all()
    latent = model.state()["intercept"] + simulated.train.genotypes.rows(slice(None)) @ model.state()["weights"]
    np.testing.assert_allclose(latent.mean(), 0, atol=1e-9)
    np.testing.assert_allclose(latent.std(), 1, atol=1e-9)
    assert model.tables()["curve"]["latent"][[0, -1]] == pytest.approx([latent.min(), latent.max()])


def test_tables_are_written_in_the_phenotypes_units(tmp_path):
    """Phenotypes themselves are shifted and scaled, their differences scaled alone, other columns neither."""
    table = {
        "environment": np.array([0, 1]),
        "locus": np.array([1, 0]),
        "locus_2": np.array([-1, 1]),
        "phenotype": np.array([0.5, 1.0]),
        "slope": np.array([0.5, 1.0]),
        "effect": np.array([-1.0, 2.0]),
        "std_error": np.array([0.1, 0.2]),
        "latent": np.array([0.25, 0.75]),
    }
    scale = PhenotypeScale(np.array([10.0, 100.0]), np.array([2.0, 4.0]))
    write_tables(RunDirectory(tmp_path), {"curve": table}, ("a", "b"), ("23C", "30C"), scale)
    written = pd.read_csv(tmp_path / "curve.csv.gz", keep_default_na=False)
    assert written.to_dict("list") == {
        "environment": ["23C", "30C"],
        "locus": ["b", "a"],
        "locus_2": ["", "b"],
        "phenotype": [11.0, 104.0],
        "slope": [1.0, 4.0],
        "effect": [-2.0, 8.0],
        "std_error": [0.2, 0.8],
        "latent": [0.25, 0.75],
    }


def test_a_run_leaves_effects_and_curve_that_explain_its_predictions(gpmap, tmp_path):
    simulated = Simulated("sigmoid", 600, 5, num_test=10)
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["genotypes"] = np.concatenate([simulated.train.genotypes.stored, simulated.validation.genotypes.stored])
        phenotypes = np.concatenate([simulated.train.phenotypes, simulated.validation.phenotypes])
        file["phenotypes"] = (50 + 5 * phenotypes).astype(np.float32)
    assert gpmap("prepare", "source=arrays", "source.path=raw.h5", "out=data.h5").returncode == 0
    result = gpmap("train", "model=global_epistasis", "data=file", "data.path=data.h5", "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr
    effects, curve = (pd.read_csv(tmp_path / "run" / f"{name}.csv.gz") for name in ("effects", "curve"))
    predictions = pd.read_csv(tmp_path / "run" / "predictions.csv.gz")
    assert len(effects) == 5
    assert len(curve) == 101
    # One allele flipped at the mean latent trait changes the phenotype by twice the effect, if it is a small one.
    at_mean = np.interp(0, curve.latent, curve.slope)
    np.testing.assert_allclose(effects.effect, at_mean * effects.latent_effect, rtol=0.02)
    train = predictions[predictions.split == "train"].predicted
    assert curve.phenotype.iloc[[0, -1]].tolist() == pytest.approx([train.min(), train.max()], rel=1e-6)
    assert 40 < curve.phenotype.min() < curve.phenotype.max() < 60
