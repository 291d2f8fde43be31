"""Variance components against textbook formulas and against each other; the command `gpmap variance`."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from conftest import make_samples
from variance_examples import coded, explicit, in_parts, linked

from gpmap_cli.errors import InputError
from gpmap_cli.solvers.epistasis_kernels import EpistasisKernels
from gpmap_cli.variance.fixed_basis import fixed_basis, without
from gpmap_cli.variance.haseman_elston import haseman_elston, num_sample_pairs
from gpmap_cli.variance.reml import noise_profile, refine_by_reml
from gpmap_cli.variance.reml_effects import effect_systems
from gpmap_cli.variance.reml_samples import AmongSamples, SampleKernels


@pytest.mark.parametrize("ploidy", [1, 2])
def test_kernels_are_products_of_all_sets_of_loci(ploidy):
    samples = make_samples(40, 7, ploidy=ploidy)
    kernels = EpistasisKernels.learn(samples.genotypes, 4, "cpu")
    for found, features in zip(kernels.dense(samples.genotypes), explicit(samples.genotypes, 4), strict=True):
        np.testing.assert_allclose(found.numpy(), features @ features.T, atol=1e-10)
    for found, features in zip(kernels.diagonals(samples.genotypes), explicit(samples.genotypes, 4), strict=True):
        np.testing.assert_allclose(found.numpy(), (features**2).sum(axis=1), atol=1e-10)


def test_blocks_of_kernels_make_up_the_whole(monkeypatch):
    from gpmap_cli.solvers import epistasis_kernels

    samples = make_samples(50, 6)
    whole = EpistasisKernels.learn(samples.genotypes, 3, "cpu").dense(samples.genotypes)
    monkeypatch.setattr(epistasis_kernels, "_BLOCK", 16)
    parts = EpistasisKernels.learn(samples.genotypes, 3, "cpu").dense(samples.genotypes)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-12)


def test_there_are_no_sets_of_more_loci_than_there_are():
    samples = make_samples(30, 2)
    kernels = EpistasisKernels.learn(samples.genotypes, 4, "cpu")
    assert all(np.abs(kernel.numpy()).max() < 1e-10 for kernel in kernels.dense(samples.genotypes)[2:])
    found = haseman_elston(samples.genotypes, samples.phenotypes, 4, "cpu")
    assert np.isfinite(found.variance).all()
    assert (np.abs(found.variance[:, 2:4]) < 1e-9).all()


@pytest.mark.parametrize("num_covariates", [0, 3])
def test_haseman_elston_solves_the_estimating_equations(monkeypatch, num_covariates):
    """Written out with whole matrices, for environments that are measured in different samples."""
    from gpmap_cli.solvers import epistasis_kernels

    monkeypatch.setattr(epistasis_kernels, "_BLOCK", 32)
    rng = np.random.default_rng(0)
    genotypes = coded(linked(rng, 80, 9))
    y = rng.normal(size=(80, 2)) + genotypes.rows(slice(None))[:, [0, 3]]
    y[rng.random(y.shape) < [0.1, 0.6]] = np.nan
    covariates = rng.normal(size=(80, num_covariates))
    kernels = [features @ features.T for features in explicit(genotypes, 2)] + [np.eye(80)]
    projections, filled = [], []
    for e in range(2):
        mask = (~np.isnan(y[:, e])).astype(float)
        fixed = mask[:, None] * np.concatenate([np.ones((80, 1)), covariates], axis=1)
        projections.append(np.diag(mask) - fixed @ np.linalg.pinv(fixed))
        filled.append(projections[e] @ np.nan_to_num(y[:, e]))

    def solve(e, f):
        pe, pf = projections[e], projections[f]
        traces = [[np.trace(pe @ k @ pf @ m) for m in kernels] for k in kernels]
        return np.linalg.solve(traces, [filled[e] @ k @ filled[f] for k in kernels])

    found = haseman_elston(genotypes, y, 2, "cpu", covariates=covariates)
    np.testing.assert_allclose(found.parameter, [solve(0, 0), solve(1, 1)], rtol=1e-4, atol=1e-6)
    covariance = solve(0, 1)[0]
    expected = covariance / np.sqrt(solve(0, 0)[0] * solve(1, 1)[0])
    np.testing.assert_allclose(found.correlation[0, 1], expected, rtol=1e-4)
    for e in range(2):
        freedom = (~np.isnan(y[:, e])).sum() - 1 - num_covariates
        np.testing.assert_allclose(found.total[e], filled[e] @ filled[e] / freedom)
        np.testing.assert_allclose(found.variance[e].sum(), found.total[e], rtol=1e-5)


def test_progress_is_counted_to_the_end():
    samples = make_samples(70, 5)
    for num_probes in (0, 4):
        done = []
        haseman_elston(samples.genotypes, samples.phenotypes, 2, "cpu", 0, num_probes, done.append)
        assert sum(done) == num_sample_pairs(70, num_probes)


def among_samples(genotypes, y, covariates=None, noise=None):
    """Kernels of order 1 and 2; errors alike where no `noise` is given."""
    basis = fixed_basis(np.zeros((len(y), 0)) if covariates is None else covariates)
    shared = SampleKernels.of(EpistasisKernels.learn(genotypes, 2, "cpu"), genotypes, basis)
    return AmongSamples(shared, torch.from_numpy(y), torch.from_numpy(np.ones(len(y)) if noise is None else noise))


@pytest.mark.parametrize(("num_covariates", "unlike"), [(0, False), (3, False), (2, True)])
@pytest.mark.parametrize("theta", [[0.5, 0.3, 0.4], [0.9, -0.002, 0.3]])
def test_both_forms_of_the_likelihood_agree(theta, num_covariates, unlike):
    rng = np.random.default_rng(1)
    genotypes = coded(linked(rng, 60, 6))
    y = rng.normal(size=60)
    covariates = rng.normal(size=(60, num_covariates))
    noise = rng.uniform(0.3, 1.7, 60) if unlike else np.ones(60)
    systems = (
        among_samples(genotypes, y, covariates, noise),
        *effect_systems(genotypes, y[:, None], 2, "cpu", covariates, noise[:, None]),
    )
    reference = [system.at(np.array([0.1, 0.1, 1.0])).likelihood for system in systems]
    points = [system.at(np.array(theta)) for system in systems]
    gains = [point.likelihood - start for point, start in zip(points, reference, strict=True)]
    np.testing.assert_allclose(gains[0], gains[1], rtol=1e-7)
    for one, other in zip(points[0].derivatives(), points[1].derivatives(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    one, other = (point.realised(with_spread=True) for point in points)
    np.testing.assert_allclose(one.values, other.values, rtol=1e-6)
    np.testing.assert_allclose(one.spread, other.spread, rtol=1e-6)


def test_the_score_is_the_slope_of_the_likelihood():
    rng = np.random.default_rng(2)
    genotypes = coded(linked(rng, 50, 12))
    system = among_samples(genotypes, rng.normal(size=50))
    theta = np.array([0.4, 0.2, 0.6])
    score = system.at(theta).derivatives()[0]
    for k in range(3):
        up, down = theta.copy(), theta.copy()
        up[k] += 1e-5
        down[k] -= 1e-5
        slope = (system.at(up).likelihood - system.at(down).likelihood) / 2e-5
        np.testing.assert_allclose(score[k], slope, rtol=1e-5)


@pytest.mark.parametrize(("num_covariates", "unlike"), [(0, False), (4, False), (4, True)])
def test_the_likelihood_is_that_of_contrasts_free_of_mean_and_covariates(num_covariates, unlike):
    rng = np.random.default_rng(3)
    genotypes = coded(linked(rng, 30, 8))
    features = explicit(genotypes, 2)
    y = rng.normal(size=30)
    covariates = rng.normal(size=(30, num_covariates))
    noise = rng.uniform(0.3, 1.7, 30) if unlike else np.ones(30)
    system = among_samples(genotypes, y, covariates, noise)
    fixed = np.concatenate([np.ones((30, 1)), covariates], axis=1)
    size = 29 - num_covariates
    contrast = np.linalg.svd(np.eye(30) - fixed @ np.linalg.pinv(fixed))[0][:, :size]
    z = contrast.T @ y

    def expected(theta):
        inner = theta[2] * contrast.T @ np.diag(noise) @ contrast
        for value, part in zip(theta, features, strict=False):
            free = contrast.T @ part
            total = free.sum(axis=1)
            inner += value * free @ free.T + 1000 * z @ z / (total @ total) * np.outer(total, total)
        return -0.5 * (np.linalg.slogdet(inner)[1] + z @ np.linalg.solve(inner, z))

    one, other = [0.5, 0.1, 0.4], [0.1, 0.6, 0.9]
    np.testing.assert_allclose(
        system.at(np.array(one)).likelihood - system.at(np.array(other)).likelihood,
        expected(one) - expected(other),
        rtol=1e-9,
    )


def test_every_sample_is_in_one_part(monkeypatch):
    """Environments measured in different samples go their own ways; the mean of the parts is what is reported."""
    in_parts(monkeypatch)
    from gpmap_cli.variance import reml

    samples = make_samples(700, 25)
    y = samples.phenotypes.copy()
    y[:230, 0] = np.nan  # 470: three parts
    y[:500, 1] = np.nan  # 200: small enough
    seen, realised = {}, reml._realised

    def noted(system, point, theta):
        found = realised(system, point, theta)
        seen.setdefault(len(system.y), []).append((system.y.numpy(), *found))
        return found

    monkeypatch.setattr(reml, "_realised", noted)
    done = []
    start = haseman_elston(samples.genotypes, y, 2, "cpu", 0, 0)
    found = refine_by_reml(start, samples.genotypes, y, "cpu", 0, done.append)
    assert sum(done) == reml.num_maxima(y, 25, 2) == 4
    parts = seen[156] + seen[157]
    assert sum(len(part) for part, _, _ in parts) == 470
    np.testing.assert_allclose(found.variance[0], np.mean([values for _, values, _ in parts], axis=0))
    errors = np.sqrt(np.sum([errors**2 for _, _, errors in parts], axis=0)) / 3
    np.testing.assert_allclose(found.std_error[0], errors)
    np.testing.assert_allclose(found.variance[1], seen[200][0][1])


def test_measurement_errors_are_taken_from_the_data(gpmap):
    words = ("variance", "data=yeast_synthetic", "data.num_samples=500", "data.num_loci=40", "order=1")
    found = {}
    for run, more in (("plain", ()), ("weighted", ("weighted=true",))):
        result = gpmap(*words, *more, f"hydra.run.dir={run}")
        assert result.returncode == 0, result.stderr
        with open(f"{run}/variance.csv") as file:
            found[run] = [float(row["share"]) for row in csv.DictReader(file)]
    assert not np.allclose(found["plain"], found["weighted"], atol=1e-4)
    np.testing.assert_allclose(found["plain"], found["weighted"], atol=0.3)


def test_measurement_errors_are_squares_of_mean_one():
    y = np.array([[1.0, 2.0], [np.nan, 1.0], [3.0, 0.0]])
    errors = np.array([[1.0, 2.0], [np.nan, 2.0], [3.0, 2.0]])
    np.testing.assert_allclose(noise_profile(y, errors), [[0.2, 1], [1, 1], [1.8, 1]])
    errors[0, 1] = 0
    with pytest.raises(InputError, match="above 0 for every phenotype"):
        noise_profile(y, errors)


def test_levels_that_say_the_same_take_their_freedom_once():
    rng = np.random.default_rng(4)
    number = rng.normal(1e3, 1, size=(50, 1))
    levels = np.eye(5)[rng.integers(0, 5, 50)]
    basis = fixed_basis(np.concatenate([number, 3 * number, levels, np.full((50, 1), 7.0)], axis=1))
    assert basis.shape == (50, 6)
    np.testing.assert_allclose(basis.T @ basis, np.eye(6), atol=1e-12)
    left = without(basis, np.concatenate([number, levels, np.ones((50, 1))], axis=1))
    np.testing.assert_allclose(left, 0, atol=1e-6)


def test_a_change_of_units_changes_no_share():
    samples = make_samples(150, 8)
    found = haseman_elston(samples.genotypes, samples.phenotypes, 2, "cpu")
    other = found.in_units(np.array([10.0, 0.1]))
    np.testing.assert_allclose(other.share, found.share)
    np.testing.assert_allclose(other.variance[0], 100 * found.variance[0])
    np.testing.assert_allclose(other.share_std_error, found.share_std_error)


def test_the_command_writes_what_it_prints(gpmap):
    made = gpmap(
        *("simulate", "data.num_samples=800", "data.num_loci=12", "data.order=2", "data.epsilon=0.5"),
        "data.environments=[23C,30C]",
        "hydra.run.dir=made",
    )
    assert made.returncode == 0, made.stderr
    result = gpmap("variance", "data=file", "data.path=made/dataset.h5", "order=3", "hydra.run.dir=v")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "v"
    with open("v/variance.json") as file:
        facts = json.load(file)
    assert facts["method"] == "REML"
    with open("v/variance.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["component"] for row in rows[:4]] == ["additive", "pairwise", "order_3", "residual"]
    for row in rows:
        shares = facts["environments"][row["environment"]][row["component"]]
        np.testing.assert_allclose(float(row["share"]), shares["share"], rtol=1e-6)
        if row["component"] == "residual":  # noise of a fifth of the standard deviation, and no third order
            assert abs(float(row["share"]) - 0.04 / 1.04) < 0.01
        if row["component"] == "order_3":
            assert abs(float(row["share"])) < 0.02
    again = gpmap("variance", "data=file", "data.path=made/dataset.h5", "order=3", "hydra.run.dir=v")
    assert again.returncode == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["order=0"], "order must be at least 1"),
        (["method=ml"], "method must be one of"),
        (["weighted=true"], "the data have no `phenotype_std`"),
        (["data=yeast_synthetic", "data.num_samples=50", "weighted=true", "method=haseman_elston"], "use method=reml"),
        (["data.num_samples=100000", "data.num_loci=100000"], "prune the loci"),
    ],
)
def test_what_cannot_be_estimated_is_refused(gpmap, monkeypatch, words, said):
    if "prune the loci" in said:
        monkeypatch.setattr("gpmap_cli.commands.variance._MOST_OPERATIONS", 1e6)
        words = []
    result = gpmap("variance", *words)
    assert result.returncode == 2
    assert said in result.stderr
    assert "hint:" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("words", "method"), [([], "Haseman"), (["method=reml"], "REML in 2 parts")])
def test_what_would_take_hours_goes_by_moments(gpmap, monkeypatch, words, method):
    in_parts(monkeypatch)
    monkeypatch.setattr("gpmap_cli.commands.variance._MOST_FOR_REML", 1e3)
    result = gpmap("variance", "data.num_samples=400", "data.num_loci=30", "data.order=2", *words)
    assert result.returncode == 0, result.stderr
    assert method in result.stdout


def test_an_environment_without_variance_is_named(gpmap, tmp_path):
    import h5py

    gpmap("simulate", "data.num_samples=100", "data.num_loci=5", "data.order=2", "hydra.run.dir=made")
    with h5py.File(tmp_path / "made" / "dataset.h5", "r+") as file:
        file["phenotypes"][:] = 1.0
    result = gpmap("variance", "data=file", "data.path=made/dataset.h5")
    assert result.returncode == 2
    assert "is constant" in result.stderr
