"""Variance by epistasis order of a complete landscape, and what of it is noise.

Of the mean phenotype y of each of the 2^L genotypes, the variance of order k is V_k = sum_{|S| = k} beta_S^2, exactly,
and sum_k V_k is the variance of y. Where genotypes are in several samples, the mean variance within them is what the
variance of the phenotypes (each genotype counting once) has besides.

y carries noise of variance sigma_x^2 in genotype x, so that each coefficient has the sampling variance
s^2 = 2^-2L sum_x sigma_x^2, and V_k exceeds what it is without noise, B_k, by C(L, k) s^2 on average:

    B_k is estimated by V_k - C(L, k) s^2, of variance 4 b' Sigma b + 2 tr(Sigma Sigma) + C(L, k)^2 Var(s^2),

Sigma the sampling covariances of the coefficients of order k: b' Sigma b = 2^-2L sum_x sigma_x^2 g_k(x)^2 for the part
g_k of y that order k makes, and tr(Sigma Sigma) = 2^-2L sum_U w_U^2 C(|U|, |U|/2) C(L - |U|, k - |U|/2), w_U the
coefficients of sigma_x^2, over U of even size.

The noise is known from replicates where they have as many degrees of freedom as there are genotypes, else from
`phenotype_std`, else from what replicates there are. Without any, the mean square of the highest orders stands for it,
as in factorial experiments that are not replicated (Box, Hunter and Hunter 2005, chapter 5); what epistasis there is at
those orders makes the noise look larger, never smaller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.complete_landscape import CompleteLandscape
from gpmap_cli.variance.student_t import two_sided_p
from gpmap_cli.variance.walsh_hadamard import coefficients, orders, phenotypes_of

METHOD = "Walsh-Hadamard"
_ROUNDING = 2.0**-46 / 12  # variance of the rounding of a float32 phenotype y, over y^2: noise is never less


@dataclass(frozen=True)
class Noise:
    """What is known of the noise in the mean phenotype of each genotype.

    by_genotype: (2^L,) its variance; None: the same in all. of_coefficient: s^2, the sampling variance of every
    coefficient. freedom: degrees of freedom of s^2, inf where it is taken as known. pooled_above: the orders above it
    are taken to be noise, None where noise was measured.
    """

    source: str
    of_coefficient: float
    freedom: float
    by_genotype: NDArray[np.float64] | None = None
    pooled_above: int | None = None

    @property
    def variance_of_variance(self) -> float:
        """Var(s^2)."""
        return 2 * self.of_coefficient**2 / self.freedom


@dataclass(frozen=True)
class LandscapeVariance:
    """The variance of one environment by order, 1 to L, in the units of the phenotype squared.

    coefficients: beta_S (2^L,); order: |S| of each, (2^L,). variance: (L,) V_k. within: mean variance within genotypes.
    total: the variance of the phenotypes, sum_k V_k + within. noise: None where nothing tells it. noise_variance,
    beyond_noise, std_error: (L,), C(L, k) s^2, V_k less that, and its standard error; NaN where noise is not known, the
    last two also at orders that are taken to be noise.
    """

    coefficients: NDArray[np.float64]
    order: NDArray[np.uint8]
    variance: NDArray[np.float64]
    within: float
    total: float
    noise: Noise | None
    noise_variance: NDArray[np.float64]
    beyond_noise: NDArray[np.float64]
    std_error: NDArray[np.float64]

    @property
    def num_loci(self) -> int:
        return len(self.variance)

    @property
    def num_terms(self) -> NDArray[np.int64]:
        """C(L, k), (L,)."""
        return np.array([math.comb(self.num_loci, k) for k in range(1, self.num_loci + 1)])

    @property
    def coefficient_std_error(self) -> float:
        """s; NaN where noise is not known."""
        return math.nan if self.noise is None else math.sqrt(self.noise.of_coefficient)

    def z(self) -> NDArray[np.float64]:
        """beta_S / s, (2^L,); NaN of the mean, where noise is not known, and at orders that are taken to be noise."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = self.coefficients / self.coefficient_std_error
        found[0] = np.nan
        if self.noise is not None and self.noise.pooled_above is not None:
            found[self.order > self.noise.pooled_above] = np.nan
        return found

    def p_of(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Two-sided p-values of some of `z` (n,): normal where the noise is known, else Student's t."""
        return two_sided_p(z, math.inf if self.noise is None else self.noise.freedom)

    def components(self, max_order: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Variances and standard errors (max_order + 1,) of the orders to `max_order` and of all else, the residual.

        Without noise where it is known; orders of more loci than there are have none. The components add up to the
        total. The residual is what other orders and the noise make vary: but for the noise within the orders shown,
        sum_k C(L, k) s^2, it is seen, so that its variance is sum_k 2 C(L, k) s^4 + (sum_k C(L, k))^2 Var(s^2).
        """
        shown = min(max_order, self.num_loci)
        is_known = self.noise is not None and np.isfinite(self.beyond_noise[:shown]).all()
        variance, error = np.zeros(max_order + 1), np.zeros(max_order + 1)
        variance[:shown] = self.beyond_noise[:shown] if is_known else self.variance[:shown]
        variance[-1] = self.total - variance[:-1].sum()
        error[:shown] = self.std_error[:shown] if is_known else np.nan
        error[-1] = np.nan
        if is_known and self.noise is not None:
            count = float(self.num_terms[:shown].sum())
            own = 2 * count * self.noise.of_coefficient**2
            error[-1] = math.sqrt(own + count**2 * self.noise.variance_of_variance)
        return variance, error


def landscape_variance(
    landscape: CompleteLandscape,
    phenotypes: NDArray,
    phenotype_std: NDArray | None = None,
    max_order: int = 2,
) -> LandscapeVariance:
    """The variance by order of phenotypes (N,), of which every genotype has one, in float64.

    phenotype_std: (N,) measurement errors, NaN where unknown (taken to be as elsewhere). max_order: the orders above
    it, and above half the loci, stand for noise where there is no other measure. L^2 2^L additions where noise differs
    between genotypes, else L 2^L; some 8 arrays of 2^L numbers.
    """
    count = landscape.num_measured(phenotypes)
    if not count.all():
        raise ValueError("a genotype has no phenotype")
    mean = landscape.sums(phenotypes) / count
    within = landscape.sums((phenotypes - mean[landscape.genotype]) ** 2)
    found = coefficients(mean)
    order = orders(landscape.num_loci)
    variance = by_order(order, found**2)[1:]
    least = _ROUNDING * mean**2
    noise = _replicate_noise(within, count, least)
    if noise is None or noise.freedom < len(count):
        # Measurement errors may leave out what differs between replicates, but few replicates say little.
        noise = _measured_noise(landscape, phenotypes, phenotype_std, count, least) or noise
    noise = noise or _pooled_noise(variance, max_order)
    of_noise, beyond, errors = _without_noise(found, order, variance, noise)
    mean_within = float((within / count).mean())
    return LandscapeVariance(
        found, order, variance, mean_within, float(variance.sum()) + mean_within, noise, of_noise, beyond, errors
    )


def by_order(order: NDArray[np.uint8], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over the sets of each order 0 to L, (L + 1,)."""
    return np.bincount(order, values).astype(np.float64)


def _measured_noise(
    landscape: CompleteLandscape,
    phenotypes: NDArray,
    phenotype_std: NDArray | None,
    count: NDArray[np.int64],
    least: NDArray[np.float64],
) -> Noise | None:
    if phenotype_std is None:
        return None
    squares = np.where(np.isnan(phenotypes), np.nan, phenotype_std.astype(np.float64) ** 2)
    known = ~np.isnan(squares)
    if not known.any():
        return None
    measured = ~np.isnan(phenotypes)
    filled = np.where(known, squares, np.where(measured, squares[known].mean(), np.nan))
    by_genotype = np.maximum(landscape.sums(filled) / count**2, least)
    without = int((measured & ~known).sum())
    source = f"phenotype_std ({without:,} missing, taken to be as elsewhere)" if without else "phenotype_std"
    return Noise(source, by_genotype.mean() / len(count), math.inf, by_genotype)


def _replicate_noise(within: NDArray[np.float64], count: NDArray[np.int64], least: NDArray[np.float64]) -> Noise | None:
    freedom = int((count - 1).sum())
    if not freedom:
        return None
    source = f"{freedom:,} replicates of genotypes"
    by_genotype = np.maximum(within.sum() / freedom / count, least)
    if by_genotype.min() == by_genotype.max():
        return Noise(source, by_genotype[0] / len(count), float(freedom))
    return Noise(source, by_genotype.mean() / len(count), float(freedom), by_genotype)


def _pooled_noise(variance: NDArray[np.float64], max_order: int) -> Noise | None:
    num_loci = len(variance)
    above = max(max_order, num_loci // 2)
    freedom = sum(math.comb(num_loci, k) for k in range(above + 1, num_loci + 1))
    if not freedom:
        return None
    name = f"orders {above + 1} to {num_loci}" if above + 1 < num_loci else f"order {num_loci}"
    source = f"{name} ({freedom:,} terms), taken to be noise"
    return Noise(source, float(variance[above:].sum()) / freedom, float(freedom), None, above)


def _without_noise(
    found: NDArray[np.float64], order: NDArray[np.uint8], variance: NDArray[np.float64], noise: Noise | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The noise of every order, the variance beyond it, and the standard error of that, (L,) each."""
    num_loci = len(variance)
    if noise is None:
        unknown = np.full(num_loci, np.nan)
        return unknown, unknown, unknown
    counts = np.array([math.comb(num_loci, k) for k in range(1, num_loci + 1)], dtype=np.float64)
    of_noise = counts * noise.of_coefficient
    beyond, errors = variance - of_noise, np.empty(num_loci)
    top = num_loci if noise.pooled_above is None else noise.pooled_above
    spectrum = None
    if noise.by_genotype is not None:
        spectrum = by_order(order, coefficients(noise.by_genotype) ** 2)
    for k in range(1, top + 1):
        if spectrum is None or noise.by_genotype is None:
            across, spread = noise.of_coefficient * variance[k - 1], counts[k - 1] * noise.of_coefficient**2
        else:
            part = phenotypes_of(np.where(order == k, found, 0.0))
            across = float(noise.by_genotype @ part**2) / len(found) ** 2
            spread = trace(spectrum, k) / len(found) ** 2
        # b' Sigma b of the estimated b is too large by tr(Sigma Sigma)
        own = 4 * max(across - spread, 0.0) + 2 * spread
        errors[k - 1] = math.sqrt(own + counts[k - 1] ** 2 * noise.variance_of_variance)
    beyond[top:] = errors[top:] = np.nan
    return of_noise, beyond, errors


def trace(spectrum: NDArray[np.float64], k: int) -> float:
    """2^2L tr(Sigma Sigma) of order k; spectrum (L + 1,): the sum of w_U^2 by |U|.

    With w_U w'_U in place of the squares, of the covariances Sigma, Sigma' in two environments.
    """
    num_loci = len(spectrum) - 1
    halves = range(min(k, num_loci - k) + 1)
    return sum(float(spectrum[2 * h]) * math.comb(2 * h, h) * math.comb(num_loci - 2 * h, k - h) for h in halves)
