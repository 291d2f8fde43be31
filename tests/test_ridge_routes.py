"""Every way of solving a ridge problem gives the same effects: against scikit-learn, and against each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_samples
from sklearn.linear_model import Ridge

from gpmap_cli.dataset.coding import CodedGenotypes, GenotypeCoding, Projection, Samples
from gpmap_cli.dataset.disk_genotypes import DiskGenotypes
from gpmap_cli.errors import InputError
from gpmap_cli.models.ridge import Ridge as RidgeModel
from gpmap_cli.models.ridge import Settings
from gpmap_cli.solvers import ridge_iterative
from gpmap_cli.solvers.leave_one_out import leave_one_out_errors
from gpmap_cli.solvers.missing import row_weights
from gpmap_cli.solvers.ridge import linear_prediction, path_of, solve_ridge
from gpmap_cli.solvers.ridge_criteria import Criterion
from gpmap_cli.solvers.ridge_factors import FactorSource
from gpmap_cli.solvers.ridge_problem import PATH_EXPONENTS, RidgeProblem
from gpmap_cli.solvers.ridge_routes import choose_route
from gpmap_cli.solvers.ridge_system import System
from gpmap_cli.training.context import FitContext, Silent
from gpmap_cli.training.settings import TrainingSettings

ROUTES = ("primal", "dual", "iterative")
TIGHT = 1e-10  # iteration goes as far as it is asked to


def linked(num_samples, num_loci, num_environments=3, ploidy=1, kind="calls", missing=0.1, seed=0):
    """Neighbouring loci alike, phenotypes missing in other samples in every environment."""
    rng = np.random.default_rng(seed)
    founders = rng.integers(0, ploidy + 1, (num_samples, max(2, num_loci // 3)))
    counts = founders[:, np.sort(rng.integers(0, founders.shape[1], num_loci))]
    counts = np.where(rng.random(counts.shape) < 0.1, rng.integers(0, ploidy + 1, counts.shape), counts)
    phenotypes = (2.0 * counts / ploidy - 1) @ rng.normal(size=(num_loci, num_environments)) / np.sqrt(num_loci)
    phenotypes += 2 + rng.normal(size=phenotypes.shape)
    phenotypes[rng.random(phenotypes.shape) < missing] = np.nan
    stored = counts.astype(np.int8)
    if kind in ("missing", "covariates"):
        stored[rng.random(stored.shape) < 0.05] = -1
    if kind == "dosages":
        stored = np.clip(counts + rng.uniform(-0.4, 0.4, counts.shape), 0, ploidy).astype(np.float16)
        stored[rng.random(stored.shape) < 0.05] = np.nan
    projection = None
    if kind == "covariates":
        projection = Projection(rng.normal(size=(num_samples, 2)), rng.normal(size=(2, num_loci)))
    return CodedGenotypes(stored, GenotypeCoding.learn(stored, ploidy), projection), phenotypes


def problem_of(genotypes, phenotypes, weights=None):
    weights = (~np.isnan(phenotypes)).astype(float) if weights is None else weights
    return RidgeProblem(genotypes, phenotypes, weights, "cpu")


def factors_of(genotypes, phenotypes, form="primal", weights=None):
    """Factors of the first environment's group."""
    problem = problem_of(genotypes, phenotypes, weights)
    return problem, FactorSource(problem, form).factors(problem.groups()[0], None, False)


def reference(genotypes, phenotypes, penalty, weights=None):
    """Effects (L, E), intercepts and predictions of scikit-learn, each environment by its own samples."""
    x = genotypes.rows(slice(None))
    models = []
    for column in range(phenotypes.shape[1]):
        known = ~np.isnan(phenotypes[:, column])
        weight = None if weights is None else weights[known, column]
        models.append(Ridge(alpha=penalty).fit(x[known], phenotypes[known, column], sample_weight=weight))
    effects = np.stack([model.coef_ for model in models], axis=1)
    return effects, np.array([model.intercept_ for model in models])


def close(found, expected, relative=1e-6):
    np.testing.assert_allclose(found, expected, rtol=0, atol=relative * np.abs(expected).max())


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("kind", ["calls", "missing", "dosages", "covariates"])
@pytest.mark.parametrize(("num_samples", "num_loci", "ploidy"), [(300, 40, 1), (60, 150, 1), (150, 60, 2)])
def test_every_route_equals_scikit_learn(route, kind, num_samples, num_loci, ploidy):
    genotypes, phenotypes = linked(num_samples, num_loci, ploidy=ploidy, kind=kind)
    solution = solve_ridge(genotypes, phenotypes, 3.7, None, "cpu", route=route, tolerance=TIGHT)
    effects, intercept = reference(genotypes, phenotypes, 3.7)
    close(solution.weights, effects)
    close(solution.intercept, intercept)
    fitted = linear_prediction(genotypes, solution.weights, solution.intercept)
    close(fitted, genotypes.rows(slice(None)) @ effects + intercept)
    assert solution.route == route


@pytest.mark.parametrize("penalty", [0.01, 3.0, 1e4])
def test_iteration_keeps_its_tolerance(penalty):
    """At the tolerance of a run, the normal equations hold to one in a million of X'y, at any penalty."""
    genotypes, phenotypes = linked(200, 120, missing=0)
    weights = solve_ridge(genotypes, phenotypes, penalty, None, "cpu", route="iterative").weights
    x = genotypes.rows(slice(None))
    x, y = x - x.mean(axis=0), phenotypes - phenotypes.mean(axis=0)
    residual = x.T @ (y - x @ weights) - penalty * weights
    assert (np.linalg.norm(residual, axis=0) <= 1.01e-6 * np.linalg.norm(x.T @ y, axis=0)).all()


def test_the_space_is_shared(monkeypatch):
    """Environments of the same loci take fewer steps together than alone: what the method is for."""
    monkeypatch.setattr(ridge_iterative, "NUM_PROBES", 0)
    genotypes, phenotypes = linked(400, 300, num_environments=8)
    steps = []
    for columns in (range(8), range(1)):
        counter = Counter()
        solve_ridge(genotypes, phenotypes[:, columns], 3.0, None, "cpu", route="iterative", reporter=counter)
        steps.append(counter.steps)
    assert steps[0] < steps[1] / 2


class Counter(Silent):
    def __init__(self):
        self.steps, self.notes = 0, []

    def step(self, loss):
        self.steps += 1

    def note(self, text):
        self.notes.append(text)


def test_a_fit_that_does_not_converge_says_so(monkeypatch):
    monkeypatch.setattr(ridge_iterative, "_MOST_STEPS", 3)
    genotypes, phenotypes = linked(400, 300)
    counter = Counter()
    solution = solve_ridge(genotypes, phenotypes, 3.0, None, "cpu", route="iterative", reporter=counter)
    assert "NOT converged" in counter.notes[-1]
    assert np.isfinite(solution.weights).all()


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("shape", [(200, 30), (50, 120)])
def test_weights_are_those_of_weighted_least_squares(route, shape):
    genotypes, phenotypes = linked(*shape)
    std = np.random.default_rng(5).uniform(0.3, 3.0, phenotypes.shape)
    weights = row_weights(phenotypes, std)
    known = ~np.isnan(phenotypes)
    np.testing.assert_allclose(weights.sum(axis=0), known.sum(axis=0))
    np.testing.assert_allclose((weights * std**2)[:, 0][known[:, 0]].std(), 0, atol=1e-9)
    solution = solve_ridge(genotypes, phenotypes, 2.5, None, "cpu", route=route, weights=weights, tolerance=TIGHT)
    effects, intercept = reference(genotypes, phenotypes, 2.5, weights)
    close(solution.weights, effects)
    close(solution.intercept, intercept)


@pytest.mark.parametrize("form", ["primal", "dual"])
@pytest.mark.parametrize("shape", [(40, 12), (25, 40)])
def test_weighted_leave_one_out_errors_are_those_of_leaving_one_out(form, shape):
    genotypes, phenotypes = linked(*shape, num_environments=1, missing=0.2)
    weights = row_weights(phenotypes, np.random.default_rng(5).uniform(0.3, 2.0, phenotypes.shape))
    _, factors = factors_of(genotypes, phenotypes, form, weights)
    x, rows = genotypes.rows(slice(None)), np.flatnonzero(weights[:, 0])
    for penalty in (0.5, 50.0):
        errors = 0.0
        for out in rows:
            rest = rows[rows != out]
            model = Ridge(alpha=penalty).fit(x[rest], phenotypes[rest, 0], sample_weight=weights[rest, 0])
            errors += weights[out, 0] * (phenotypes[out, 0] - model.predict(x[[out]])[0]) ** 2
        found = leave_one_out_errors(factors, np.array([penalty]))[0, 0]
        np.testing.assert_allclose(found, errors / weights.sum(), rtol=1e-9)


@pytest.mark.parametrize("form", ["primal", "dual"])
def test_the_restricted_likelihood_is_that_of_the_mixed_model(form):
    """Against the textbook formula, with the intercept projected out by an orthonormal contrast."""
    genotypes, phenotypes = linked(40, 15, num_environments=1, missing=0)
    _, factors = factors_of(genotypes, phenotypes, form)
    x = genotypes.rows(slice(None))
    contrast = np.linalg.svd(np.eye(40) - 1 / 40)[0][:, :39]
    y = contrast.T @ phenotypes[:, 0]
    for penalty in (0.3, 30.0):
        covariance = contrast.T @ (np.eye(40) + x @ x.T / penalty) @ contrast
        expected = 39 * np.log(y @ np.linalg.solve(covariance, y) / 39) + np.linalg.slogdet(covariance)[1]
        np.testing.assert_allclose(factors.likelihoods(np.array([penalty]))[0, 0], expected, rtol=1e-9)


def criterion_of_space(genotypes, phenotypes, choice, validation=None):
    """The criterion after iteration at a middle penalty, and after the space has become everything."""
    system = System(problem_of(genotypes, phenotypes), 0 if validation else 64, validation, 0)
    criterion = Criterion(system, choice, validation)
    iteration = ridge_iterative._Iteration(system, None, criterion, 1e-8)
    while iteration.advance():
        pass
    paths, values = criterion.paths()
    return paths[:, 0], values[:, 0]


def exact_gcv(factors, path):
    """From the eigenvalues: n RSS / (n - 1 - trace H)^2."""
    values, rotated = factors._values.numpy(), factors._rotated[:, 0].numpy()
    total, n = float(factors._total[0]), float(factors.num_samples)
    shifted = values + path[:, None]
    rss = total - ((values + 2 * path[:, None]) / shifted**2) @ rotated**2
    return n * rss / (n - 1 - (values / shifted).sum(axis=1)) ** 2


MIDDLE = slice(20, 61)  # penalties of additive variance up to 50 times the residual's


def test_generalised_cross_validation_in_the_space():
    """Near the exact one along the path, and the penalty it chooses costs next to nothing in leave-one-out error."""
    genotypes, phenotypes = linked(500, 200, num_environments=1)
    problem, factors = factors_of(genotypes, phenotypes)
    path, found = criterion_of_space(genotypes, phenotypes, "loo")
    np.testing.assert_allclose(path, factors.scale * 10.0**PATH_EXPONENTS, rtol=1e-9)
    np.testing.assert_allclose(found[MIDDLE], exact_gcv(factors, path)[MIDDLE], rtol=0.03)
    chosen = solve_ridge(genotypes, phenotypes, None, None, "cpu", route="iterative").penalty
    best = path_of(factors, problem, "loo")[1].min()
    assert leave_one_out_errors(factors, chosen)[0, 0] < 1.003 * best


def test_restricted_likelihood_in_the_space():
    genotypes, phenotypes = linked(500, 200, num_environments=1)
    problem, factors = factors_of(genotypes, phenotypes)
    _, found = criterion_of_space(genotypes, phenotypes, "reml")
    exact = path_of(factors, problem, "reml")[1][:, 0]
    np.testing.assert_allclose((found - found[-1])[MIDDLE], (exact - exact[-1])[MIDDLE], atol=4)
    by_space, exactly = (
        solve_ridge(genotypes, phenotypes, None, None, "cpu", route=route, choice="reml").penalty[0]
        for route in ("iterative", "primal")
    )
    assert abs(np.log(by_space / exactly)) < 0.3


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("choice", ["loo", "reml"])
def test_where_the_space_is_everything_its_criteria_are_exact(route, choice):
    """As many dimensions as loci: no trace is estimated any more. Then all routes choose one penalty."""
    genotypes, phenotypes = linked(300, 12, missing=0)
    chosen = solve_ridge(genotypes, phenotypes, None, None, "cpu", route=route, choice=choice).penalty
    if route == "iterative" and choice == "loo":
        _, factors = factors_of(genotypes, phenotypes)
        path = factors.scale * 10.0**PATH_EXPONENTS
        assert abs(np.log(chosen[0] / path[exact_gcv(factors, path).argmin()])) < np.log(path[1] / path[0])
    else:
        expected = solve_ridge(genotypes, phenotypes, None, None, "cpu", route="primal", choice=choice).penalty
        np.testing.assert_allclose(chosen, expected, rtol=1e-3)


@pytest.mark.parametrize("shape", [(200, 30), (50, 120)])
def test_validation_chooses_the_same_penalty_on_every_route(shape):
    genotypes, phenotypes = linked(shape[0] + 100, shape[1])
    train, rest = np.arange(shape[0]), np.arange(shape[0], shape[0] + 100)
    validation = (genotypes.take(rest), phenotypes[rest])
    found = [
        solve_ridge(
            genotypes.take(train), phenotypes[train], None, validation, "cpu", route=route, tolerance=1e-8
        ).penalty
        for route in ROUTES
    ]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-2)


@pytest.mark.parametrize("route", ROUTES)
def test_the_ends_of_the_path(route):
    """Nothing to learn: the stiffest penalty, and the mean. No noise: hardly any penalty, and the truth."""
    genotypes, _ = linked(300, 20, missing=0)
    x = genotypes.rows(slice(None))
    truth = np.random.default_rng(1).normal(size=20)
    phenotypes = np.stack([x @ truth, np.random.default_rng(2).normal(size=300)], axis=1)
    centred = x - x.mean(axis=0)
    noise = phenotypes[:, 1] - phenotypes[:, 1].mean()
    phenotypes[:, 1] = 4 + noise - centred @ np.linalg.lstsq(centred, noise, rcond=None)[0]  # no locus is related to it
    solution = solve_ridge(genotypes, phenotypes, None, None, "cpu", route=route)
    scale = ((x - x.mean(axis=0)) ** 2).sum() / 300
    np.testing.assert_allclose(solution.penalty, scale * np.array([1e-5, 1e5]), rtol=1e-6)
    np.testing.assert_allclose(solution.weights[:, 0], truth, atol=1e-3)
    predicted = linear_prediction(genotypes, solution.weights, solution.intercept)
    np.testing.assert_allclose(predicted[:, 1], phenotypes[:, 1].mean(), atol=1e-3)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("kind", ["calls", "dosages"])
def test_genotypes_on_disk_give_the_same_bits(tmp_path, route, kind):
    genotypes, phenotypes = linked(150, 60, kind=kind)
    on_disk = DiskGenotypes.write(tmp_path, [genotypes.stored], 60, genotypes.stored.dtype)
    found = [
        solve_ridge(CodedGenotypes(stored, genotypes.coding), phenotypes, None, None, "cpu", route=route).weights
        for stored in (genotypes.stored, on_disk)
    ]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("form", ["primal", "dual"])
def test_environments_share_sums_over_samples(form):
    """Taking the few missing samples away gives what each environment alone gives."""
    genotypes, phenotypes = linked(80, 60, num_environments=4)
    phenotypes[:, 0] = np.nan_to_num(phenotypes[:, 0])  # everybody
    phenotypes[10:70, 2] = np.nan  # most are missing: summed directly
    together = solve_ridge(genotypes, phenotypes, None, None, "cpu", route=form)
    for column in range(4):
        known = np.flatnonzero(~np.isnan(phenotypes[:, column]))
        alone = solve_ridge(genotypes.take(known), phenotypes[known][:, [column]], None, None, "cpu", route=form)
        np.testing.assert_allclose(together.penalty[column], alone.penalty[0], rtol=1e-9)
        np.testing.assert_allclose(together.weights[:, column], alone.weights[:, 0], atol=1e-11)


def test_dosages_and_calls_of_the_same_values_agree():
    """The exact single-precision sums of hard calls against double precision."""
    genotypes, phenotypes = linked(3000, 25, ploidy=2)
    dosages = CodedGenotypes(genotypes.stored.astype(np.float32), genotypes.coding)
    for form in ("gram", "kernel"):
        fast, slow = (getattr(problem_of(g, phenotypes).counts, form)() for g in (genotypes, dosages))
        assert torch.equal(fast, slow)


@pytest.mark.parametrize("penalty", [None, 5.0])
@pytest.mark.parametrize("shape", [(200, 30), (60, 90)])
def test_standard_errors_are_those_of_the_posterior(penalty, shape):
    genotypes, phenotypes = linked(*shape, num_environments=1)
    known = ~np.isnan(phenotypes[:, 0])
    x = genotypes.rows(known)
    x, y = x - x.mean(axis=0), phenotypes[known, 0] - phenotypes[known, 0].mean()
    for route in ROUTES:
        solution = solve_ridge(genotypes, phenotypes, penalty, None, "cpu", route=route)
        inverse = np.linalg.inv(x.T @ x + solution.penalty[0] * np.eye(shape[1]))
        variance = (y @ y - y @ x @ inverse @ x.T @ y) / (known.sum() - 1)
        expected = np.sqrt(variance * np.diag(inverse))
        np.testing.assert_allclose(solution.std_error[:, 0], expected, rtol=0.1 if route == "iterative" else 1e-3)


def test_standard_errors_where_the_space_is_a_part():
    """The information outside the space is estimated, and shared among the loci: right on average, about for each."""
    genotypes, phenotypes = linked(600, 300, num_environments=18)
    routes = ("primal", "iterative")
    exact, found = (solve_ridge(genotypes, phenotypes, 100.0, None, "cpu", route=one).std_error for one in routes)
    assert abs(np.log((found**2).mean() / (exact**2).mean())) < 0.03
    np.testing.assert_allclose(found, exact, rtol=0.05)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("choice", ["loo", "reml"])
@pytest.mark.parametrize("num_samples", [3, 4, 60])
def test_hopeless_input_gives_a_finite_answer(route, choice, num_samples):
    """Constant and duplicated loci, a constant phenotype, a phenotype of one sample."""
    genotypes, phenotypes = linked(num_samples, 10, missing=0)
    genotypes.stored[:, 0] = 1
    genotypes.stored[:, 1] = genotypes.stored[:, 2]
    phenotypes[:, 1] = 0.5
    phenotypes[1:, 2] = np.nan
    solution = solve_ridge(genotypes, phenotypes, None, None, "cpu", route=route, choice=choice)
    assert np.isfinite(solution.weights).all()
    assert np.isfinite(solution.std_error).all()
    np.testing.assert_allclose(solution.weights[:, 1:], 0, atol=1e-12)
    np.testing.assert_allclose(solution.intercept[1:], [0.5, phenotypes[0, 2]])
    np.testing.assert_allclose(solution.weights[0], 0, atol=1e-6)
    np.testing.assert_allclose(solution.weights[1], solution.weights[2], atol=1e-5)


def test_the_route_follows_the_cost():
    assert choose_route("auto", 200, 50, 2, 1) == "primal"
    assert choose_route("auto", 50, 200, 2, 1) == "dual"
    assert choose_route("auto", 72_213, 1_164, 18, 18) == "primal"
    assert choose_route("auto", 72_213, 41_594, 18, 18) == "iterative"
    assert choose_route("dual", 300, 50, 2, 1) == "dual"
    with pytest.raises(InputError, match="40000 x 40000"):
        choose_route("primal", 72_213, 40_000, 18, 18)


def fitted(settings, samples):
    context = FitContext(0, ("a", "b"), TrainingSettings("test", epochs=1, batch_size=8, learning_rate=0.1))
    model = RidgeModel(settings)
    model.fit(samples, samples, context)
    return model


def test_effects_are_in_a_table_the_strongest_first():
    samples = make_samples(num_loci=9)
    model = fitted(Settings(), samples)
    table = model.tables()["effects"]
    assert list(table) == ["environment", "locus", "effect", "std_error"]
    assert table["environment"].tolist() == [0] * 9 + [1] * 9
    for column in range(2):
        part = slice(9 * column, 9 * column + 9)
        assert sorted(table["locus"][part]) == list(range(9))
        assert (np.diff(np.abs(table["effect"][part])) <= 0).all()
        for name, of_loci in (("effect", "weights"), ("std_error", "std_error")):
            np.testing.assert_array_equal(model.state()[of_loci][table["locus"][part], column], table[name][part])


def test_measurement_errors_weight_a_fit():
    """Samples of huge error change nothing; without errors, or with an error of 0, weighting is refused."""
    samples = make_samples(num_samples=120)
    wild = samples.phenotypes.copy()
    wild[100:] += 1000
    std = np.ones_like(wild)
    std[100:] = 1e9
    weighted = fitted(Settings(penalty=1.0, weighted=True), Samples(samples.genotypes, wild, std))
    # 100 of 120 samples have all the weight, which is 1 on average.
    alone = fitted(Settings(penalty=1.0 / 1.2), Samples(samples.genotypes.take(np.arange(100)), wild[:100]))
    np.testing.assert_allclose(weighted.state()["weights"], alone.state()["weights"], atol=1e-6)
    with pytest.raises(InputError, match="phenotype_std"):
        fitted(Settings(weighted=True), samples)
    std[3, 1] = 0
    with pytest.raises(InputError, match="measurement error above 0"):
        fitted(Settings(weighted=True), Samples(samples.genotypes, wild, std))
