"""Residuals, exact tests and significance of scanned terms, against regressions written out and SciPy."""

from __future__ import annotations

from itertools import combinations

import mpmath
import numpy as np
import pytest
from scan_examples import example, joint_fit
from scipy import stats

from gpmap_cli.scan.background import residual_phenotypes
from gpmap_cli.scan.exact_tests import test_terms as tests_of_terms
from gpmap_cli.scan.p_values import correlation_t, least_t, least_z, log10_p
from gpmap_cli.scan.results import judged
from gpmap_cli.scan.search import Options, scan_order
from gpmap_cli.scan.significance import (
    bonferroni,
    false_discovery,
    permutation_p,
    permutation_threshold,
    thresholds,
)
from gpmap_cli.scan.tallies import BINS_PER_UNIT, NUM_BINS


@pytest.mark.parametrize("df", [1, 2.5, 30, 1000, 72_000, 10**7])
def test_p_values_are_those_of_the_t_distribution(df):
    t = np.array([1e-3, 0.1, 0.5, 1, 2, 3, 5, 8, -15, 30])
    assert log10_p(t, df) == pytest.approx((np.log(2) + stats.t.logsf(np.abs(t), df)) / np.log(10), rel=1e-8)
    assert log10_p(0.0, df) == pytest.approx(0, abs=1e-12)
    assert least_t(-9, df) == pytest.approx(stats.t.isf(0.5e-9, df), rel=1e-8)


def test_p_values_far_below_the_smallest_number():
    df = mpmath.mpf(72_000)
    constant = mpmath.gamma((df + 1) / 2) / mpmath.gamma(df / 2) / mpmath.sqrt(mpmath.pi * df)
    tail = 2 * mpmath.quad(lambda t: constant * (1 + t**2 / df) ** (-(df + 1) / 2), [100, 100.2, 101, 104])
    assert log10_p(100.0, 72_000) == pytest.approx(float(mpmath.log10(tail)), rel=1e-9)
    assert log10_p(1e6, 72_000) < -100_000
    assert np.isnan(log10_p(np.nan, 10))
    assert np.isfinite(log10_p(1e200, 5))


def test_statistics_of_correlations():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 40))
    r, p = stats.pearsonr(x, y + x)
    z = r * np.sqrt(39)
    assert 10 ** log10_p(correlation_t(z, 40, 38), 38) == pytest.approx(p, rel=1e-9)
    assert least_z(np.log10(p), 40, 38) == pytest.approx(z, rel=1e-9)


def with_covariates(background, ploidy=1, arithmetic="int8", num_samples=803):
    data = example(arithmetic, ploidy, num_samples=num_samples)
    rng = np.random.default_rng(9)
    design = rng.normal(size=(num_samples, 2))
    data.y += data.x @ rng.normal(size=(11, 3)) + design @ rng.normal(size=(2, 3))
    return data, design, residual_phenotypes(data.genotypes, data.coded, data.y, design, background)


@pytest.mark.parametrize("background", ["additive", "none"])
@pytest.mark.parametrize(("arithmetic", "ploidy"), [("int8", 1), ("float64", 2)])
def test_residuals_and_tests_are_those_of_joint_least_squares(background, arithmetic, ploidy):
    data, design, found = with_covariates(background, ploidy, arithmetic)
    assert len(found.projections) == 3
    for environment in range(3):
        known = ~np.isnan(data.y[:, environment])
        columns = [np.ones(known.sum()), design[known]] + ([data.x[known]] if background == "additive" else [])
        whole = np.column_stack(columns)
        y = data.y[known, environment]
        left = y - whole @ np.linalg.lstsq(whole, y, rcond=None)[0]
        assert found.phenotypes.residuals[known, environment] == pytest.approx(left, abs=1e-11)
        assert (found.phenotypes.residuals[~known, environment] == 0).all()
        assert found.df[environment] == known.sum() - whole.shape[1]
        for order in (1, 2, 3, 4) if background == "none" else (2, 3, 4):
            loci = np.array(list(combinations(range(11), order))[::17], np.int32)
            tests = tests_of_terms(data.genotypes, found, environment, loci)
            for at, one in enumerate(loci):
                effect, error, t, df = joint_fit(whole, data.x[known], one, y)
                assert tests.effect[at] == pytest.approx(effect, abs=1e-10)
                assert tests.std_error[at] == pytest.approx(error, rel=1e-8)
                assert tests.log10_p[at] == pytest.approx(float(log10_p(t, df)), rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("order", [2, 3])
def test_loci_that_others_determine(order):
    """A duplicated and a constant locus: the fit does without them, and terms that say nothing new have p = 1."""
    data, design, _ = with_covariates("additive")
    data.genotypes[4], data.genotypes[7, :803] = data.genotypes[2], 1
    x = data.genotypes[:, :803].numpy().T.astype(float)
    found = residual_phenotypes(data.genotypes, data.coded, data.y, design, "additive")
    known = ~np.isnan(data.y[:, 1])
    whole = np.column_stack([np.ones(known.sum()), design[known], x[known]])
    assert found.df[1] == known.sum() - np.linalg.matrix_rank(whole) == known.sum() - 12
    loci = np.array(list(combinations(range(11), order)), np.int32)
    tests = tests_of_terms(data.genotypes, found, 1, loci)
    for at, one in enumerate(loci.tolist()):
        if 7 in one or {2, 4} <= set(one):
            assert np.isnan(tests.t[at])
            assert tests.log10_p[at] == 0
        else:
            assert tests.t[at] == pytest.approx(joint_fit(whole, x[known], one, data.y[known, 1])[2], rel=1e-7)


def test_more_loci_than_half_the_samples_are_taken_out_by_ridge_regression():
    data = example("int8", num_samples=60, num_loci=41, missing=(0.0, 0.2))
    rng = np.random.default_rng(2)
    design = rng.normal(size=(60, 1))
    data.y = data.x @ rng.normal(size=(41, 2)) + 3 * design + 0.1 * rng.normal(size=(60, 2)) + 0 * data.y
    found = residual_phenotypes(data.genotypes, data.coded, data.y, design, "additive")
    assert "ridge" in found.method
    assert not found.has_loci
    for environment in range(2):
        known = ~np.isnan(data.y[:, environment])
        left = found.phenotypes.residuals[known, environment]
        assert left.var() < 0.3 * data.y[known, environment].var()
        assert left.sum() == pytest.approx(0, abs=1e-9)
        assert left @ (design[known, 0] - design[known, 0].mean()) == pytest.approx(0, abs=1e-9)
    tests = tests_of_terms(data.genotypes, found, 0, np.array([[0, 1]], np.int32))
    residuals = found.phenotypes.residuals[:, 0]
    assert tests.t[0] == pytest.approx(
        joint_fit(np.column_stack([np.ones(60), design]), data.x, (0, 1), residuals)[2], rel=1e-7
    )


def counts_of(z):
    return np.bincount((np.abs(z) * BINS_PER_UNIT).astype(int), minlength=NUM_BINS)


def benjamini_hochberg(p):
    order = np.argsort(p)
    q = np.empty(len(p))
    q[order] = np.minimum.accumulate((p[order] * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1]
    return q


def test_false_discovery_rate_and_bonferroni_are_those_of_all_p_values():
    rng = np.random.default_rng(4)
    z = np.concatenate([rng.normal(size=5000), rng.normal(4.5, 1, size=60)])
    df, num_samples = 900.0, 902
    log_p = log10_p(correlation_t(z, num_samples, df), df)
    q = benjamini_hochberg(10**log_p)
    kept = np.argsort(log_p)[:200]
    found = false_discovery(log_p[kept], counts_of(z), num_samples, df)
    assert found == pytest.approx(q[kept], rel=0.02)
    assert bonferroni(log_p, len(z)) == pytest.approx(np.minimum(10**log_p * len(z), 1))
    limits = thresholds(counts_of(z), np.empty(0), 0.05, num_samples, df)
    assert (np.abs(z) >= limits.bonferroni).tolist() == (bonferroni(log_p, len(z)) <= 0.05).tolist()
    assert limits.permutation is None
    assert limits.discovery is not None
    wanted = int((q <= 0.05).sum())
    assert wanted - 2 <= limits.num_discovered == (np.abs(z) >= limits.discovery).sum() <= wanted


def test_a_few_kept_terms_hear_of_the_others():
    """Where many candidates are as strong as those kept, these are discovered more easily."""
    z = np.concatenate([np.full(500, 3.0), np.zeros(4500)])
    log_p = log10_p(correlation_t(z[:3], 902, 900), 900)
    assert false_discovery(log_p, counts_of(z), 902, 900) == pytest.approx(10**log_p * 10, rel=0.02)
    assert thresholds(counts_of(z), np.empty(0), 0.05, 902, 900).num_discovered == 500
    nothing = thresholds(counts_of(np.linspace(0, 1, 1000)), np.empty(0), 0.05, 902, 900)
    assert (nothing.discovery, nothing.num_discovered) == (None, 0)


def test_permutation_p_values_and_threshold_agree():
    largest = np.array([3.0, 4.0, 5.0, 6.0])
    assert permutation_p(np.array([2.0, -5.0, 5.1, 7.0]), largest).tolist() == [1.0, 0.6, 0.4, 0.2]
    assert permutation_threshold(largest, 0.05) is None
    assert permutation_threshold(largest, 0.2) == pytest.approx(6.0)
    assert permutation_threshold(largest, 0.4) == pytest.approx(5.0)
    for alpha in (0.2, 0.4, 0.61, 1.0):
        threshold = permutation_threshold(largest, alpha)
        assert permutation_p(np.array([threshold]), largest)[0] <= alpha
        if threshold > 0.1:
            assert permutation_p(np.array([threshold - 1e-9]), largest)[0] > alpha


def test_terms_are_judged_by_their_exact_tests():
    data, _, residuals = with_covariates("additive")
    found = scan_order(data.genotypes, residuals.phenotypes, 2, Options("int8", num_terms=55, permutations=19))
    terms = judged(found, data.genotypes, residuals, 1, 0.05)
    assert terms.num_candidates == len(terms.loci) == 55
    assert (np.diff(terms.tests.log10_p) >= 0).all()
    again = tests_of_terms(data.genotypes, residuals, 1, terms.loci)
    assert (again.t == terms.tests.t).all()
    assert terms.q == pytest.approx(benjamini_hochberg(10**terms.tests.log10_p), rel=1e-9)
    # The score statistic is nearly the t statistic where the other loci explain little of a product.
    assert terms.z_screen == pytest.approx(terms.tests.t, abs=0.25)
    assert terms.permutation.min() >= 1 / 20
    assert set(terms.passing(0.05)) == {"bonferroni", "fdr", "permutation"}
