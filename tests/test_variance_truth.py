"""Variance components against simulated truth, over many seeds: bias, and how often intervals cover."""

from __future__ import annotations

import numpy as np
import pytest
from variance_examples import coded, explicit, in_parts, linked

from gpmap_cli.variance.haseman_elston import haseman_elston
from gpmap_cli.variance.reml import noise_profile, refine_by_reml


def simulated(seed, num_samples, num_loci, independent, directional=False):
    """Phenotypes of additive, pairwise and residual variance near 0.4, 0.2, 0.4; their shares in these samples.

    Effects N(0, 1), or directional, N(0.5, 0.5^2) and then scaled.
    """
    rng = np.random.default_rng([seed, 77])
    stored = linked(rng, num_samples, num_loci)
    if independent:
        stored = rng.integers(0, 2, stored.shape).astype(np.int8)
    genotypes = coded(stored)
    parts = []
    for features, size in zip(explicit(genotypes, 2), (0.4, 0.2), strict=True):
        part = features @ rng.normal(size=features.shape[1])
        if directional:
            part = features @ rng.normal(0.5, 0.5, features.shape[1])
            part /= part.std()
        parts.append(part * np.sqrt(size))
    parts.append(rng.normal(size=num_samples) * np.sqrt(0.4))
    y = sum(parts)
    return genotypes, y[:, None], np.array([part.var(ddof=1) for part in parts]) / y.var(ddof=1)


@pytest.mark.parametrize("independent", [True, False])
@pytest.mark.parametrize(
    ("by_reml", "num_samples", "num_loci"),
    [(False, 300, 60), (True, 250, 14), (True, 300, 40)],  # REML among effects, among samples
)
def test_estimates_are_unbiased_and_intervals_cover(independent, by_reml, num_samples, num_loci):
    misses, inside = [], []
    for seed in range(60):
        genotypes, y, truth = simulated(seed, num_samples, num_loci, independent)
        found = haseman_elston(genotypes, y, 2, "cpu", seed)
        if by_reml:
            found = refine_by_reml(found, genotypes, y, "cpu")
        misses.append(found.variance[0] - truth * found.total)
        low, high = found.share_interval
        inside.append((low[0] <= truth) & (truth <= high[0]))
    misses = np.array(misses)
    # Six such means of three components are looked at: one in a hundred of these tests would fail by chance.
    assert (np.abs(misses.mean(axis=0)) < 3.4 * misses.std(axis=0) / np.sqrt(60)).all()
    assert 0.9 <= np.mean(inside) <= 0.99


@pytest.mark.parametrize("directional", [False, True])
def test_directional_effects_of_linked_loci_are_shared_out(monkeypatch, directional):
    """Where linked loci act in one direction, more varies than effects of mean zero would make vary."""
    in_parts(monkeypatch)
    misses, inside = [], []
    for seed in range(60):
        genotypes, y, truth = simulated(seed, 600, 40, independent=False, directional=directional)
        found = refine_by_reml(haseman_elston(genotypes, y, 2, "cpu", seed, 0), genotypes, y, "cpu", seed)
        misses.append(found.share[0] - truth)
        low, high = found.share_interval
        inside.append((low[0] <= truth) & (truth <= high[0]))
    assert found.method == "REML in 3 parts of the samples"
    misses = np.array(misses)
    assert (np.abs(misses.mean(axis=0)) < 3.4 * misses.std(axis=0) / np.sqrt(60)).all()
    assert 0.9 <= np.mean(inside) <= 0.99


def test_directional_effects_of_few_loci_are_shared_out():
    """Among effects; the whole of the directional part is within the additive and the pairwise component."""
    misses = []
    for seed in range(40):
        genotypes, y, truth = simulated(seed, 250, 14, independent=False, directional=True)
        misses.append(refine_by_reml(haseman_elston(genotypes, y, 2, "cpu"), genotypes, y, "cpu").share[0] - truth)
    misses = np.array(misses)
    assert (np.abs(misses.mean(axis=0)) < 3.4 * misses.std(axis=0) / np.sqrt(40)).all()


# 5 loci: among effects; 130: among samples
@pytest.mark.parametrize(("num_loci", "by_reml"), [(5, True), (130, True), (30, False)])
def test_covariates_take_degrees_of_freedom(num_loci, by_reml):
    """Half as many covariates as samples: residuals are half of what was there, spread over half the samples."""
    found = []
    for seed in range(60):
        rng = np.random.default_rng([seed, 9])
        genotypes = coded(linked(rng, 120, num_loci))
        design = rng.normal(size=(120, 60))
        design -= design.mean(axis=0)
        part = explicit(genotypes, 1)[0] @ rng.normal(size=num_loci)
        y = part / part.std() + design @ rng.normal(size=60) + rng.normal(size=120)
        y = (y - design @ np.linalg.lstsq(design, y, rcond=None)[0])[:, None]
        estimate = haseman_elston(genotypes, y, 1, "cpu", seed, covariates=design)
        if by_reml:
            estimate = refine_by_reml(estimate, genotypes, y, "cpu", covariates=design)
        found.append([*estimate.variance[0], estimate.total[0]])
    found = np.array(found)
    assert (np.abs(found.mean(axis=0) - [1, 1, 2]) < 3.4 * found.std(axis=0) / np.sqrt(60)).all()


@pytest.mark.parametrize("num_loci", [14, 40])  # among effects, among samples
def test_measurement_errors_make_estimates_better(num_loci):
    """Errors of one sample in two are six times those of the other."""
    misses, inside = {"weighted": [], "not": []}, []
    for seed in range(60):
        genotypes, y, _ = simulated(seed, 300, num_loci, independent=False)
        rng = np.random.default_rng([seed, 10])
        errors = rng.permutation(np.repeat([0.2, 1.2], 150))[:, None]
        error = errors * rng.normal(size=(300, 1))
        features = explicit(genotypes, 2)
        parts = [f @ rng.normal(size=f.shape[1]) * s**0.5 for f, s in zip(features, (0.4, 0.2), strict=True)]
        y = sum(parts)[:, None] + error
        truth = np.array([*(part.var(ddof=1) for part in parts), error.var(ddof=1)])
        start = haseman_elston(genotypes, y, 2, "cpu", seed, 0)
        found = refine_by_reml(start, genotypes, y, "cpu", noise=noise_profile(y, errors))
        misses["weighted"].append(found.variance[0] - truth)
        misses["not"].append(refine_by_reml(start, genotypes, y, "cpu").variance[0] - truth)
        inside.append(np.abs(found.variance[0] - truth) < 1.96 * found.std_error[0])
    weighted, without_errors = np.array(misses["weighted"]), np.array(misses["not"])
    assert (np.abs(weighted.mean(axis=0)) < 3.4 * weighted.std(axis=0) / np.sqrt(60)).all()
    assert 0.9 <= np.mean(inside) <= 0.99
    assert np.square(weighted).mean() < 0.7 * np.square(without_errors).mean()


def test_reml_errs_less_than_haseman_elston_on_linked_loci():
    misses = {"he": [], "reml": []}
    for seed in range(30):
        genotypes, y, truth = simulated(seed, 250, 14, independent=False)
        start = haseman_elston(genotypes, y, 2, "cpu", seed, 0)
        misses["he"].append(start.share[0] - truth)
        misses["reml"].append(refine_by_reml(start, genotypes, y, "cpu").share[0] - truth)
    assert np.square(misses["reml"]).mean() < 0.5 * np.square(misses["he"]).mean()


def test_genetic_correlation_is_found_with_its_error():
    rng = np.random.default_rng(5)
    genotypes = coded(rng.integers(0, 2, (1500, 200)).astype(np.int8))
    x = genotypes.rows(slice(None))
    misses = []
    for _ in range(12):
        effects = rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], 200) / np.sqrt(200)
        y = x @ effects + 0.7 * rng.normal(size=(1500, 2))
        found = haseman_elston(genotypes, y, 1, "cpu")
        true = np.corrcoef(effects.T)[0, 1]
        misses.append((found.correlation[0, 1] - true) / found.correlation_std_error[0, 1])
        assert abs(found.correlation[0, 1] - true) < 0.15
    assert np.abs(misses).max() < 3
