"""Genetic correlations of two environments with the same complete landscape, by epistasis order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.variance.landscape_variance import LandscapeVariance, Noise, by_order, trace
from gpmap_cli.variance.walsh_hadamard import coefficients, phenotypes_of

_CLEAR = 2.0  # standard errors by which a variance must exceed 0 for a correlation to mean something


@dataclass(frozen=True)
class LandscapeCorrelation:
    """Genetic covariance and correlation of two environments by order, (L,); NaN where noise hides a variance."""

    covariance: NDArray[np.float64]
    correlation: NDArray[np.float64]
    std_error: NDArray[np.float64]


def landscape_correlation(one: LandscapeVariance, other: LandscapeVariance) -> LandscapeCorrelation:
    """cov_k = sum_{|S| = k} beta_S beta'_S, over the root of the variances beyond noise B_k and B'_k.

    Noise is taken to be independent between the environments: it adds nothing to cov_k on average, and is taken off the
    variances of both; where one of these is less than two standard errors there is no correlation. Where noise is not
    known, correlations are of the coefficients as they are. The standard error is by the delta method, with
    Var(cov) = b'' Sigma b' + b Sigma' b + tr(Sigma Sigma') and Cov(cov, V) = 2 b Sigma b', b and b' the coefficients of
    the order in the two environments, Sigma and Sigma' their sampling covariances (`landscape_variance`).
    """
    covariance = by_order(one.order, one.coefficients * other.coefficients)[1:]
    is_known = one.noise is not None and other.noise is not None
    first, second = (part.beyond_noise if is_known else part.variance for part in (one, other))
    with np.errstate(invalid="ignore"):
        clear = (first > 0) & (second > 0)
        if is_known:
            clear &= (first > _CLEAR * one.std_error) & (second > _CLEAR * other.std_error)
    correlation, errors = np.full(len(covariance), np.nan), np.full(len(covariance), np.nan)
    scale = np.sqrt(first[clear] * second[clear])
    correlation[clear] = covariance[clear] / scale
    if one.noise is not None and other.noise is not None and clear.any():
        possible = np.clip(correlation[clear], -1, 1)
        slopes = possible / (2 * first[clear]), possible / (2 * second[clear])
        of_covariance, with_first, with_second = _spread(one, other, one.noise, other.noise, covariance, clear)
        spread = (
            of_covariance / scale**2
            + slopes[0] ** 2 * one.std_error[clear] ** 2
            + slopes[1] ** 2 * other.std_error[clear] ** 2
            - 2 * (slopes[0] * with_first + slopes[1] * with_second) / scale
        )
        errors[clear] = np.sqrt(np.maximum(spread, 0))
    return LandscapeCorrelation(covariance, correlation, errors)


def _spread(
    one: LandscapeVariance,
    other: LandscapeVariance,
    noise: Noise,
    other_noise: Noise,
    covariance: NDArray[np.float64],
    clear: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Var(cov_k), Cov(cov_k, V_k) and Cov(cov_k, V'_k) of the orders that are `clear`."""
    size = len(one.coefficients)
    across = None
    if noise.by_genotype is not None and other_noise.by_genotype is not None:
        across = by_order(one.order, coefficients(noise.by_genotype) * coefficients(other_noise.by_genotype))
    found = []
    for at in np.flatnonzero(clear):
        parts = None
        if noise.by_genotype is not None or other_noise.by_genotype is not None:
            parts = [phenotypes_of(np.where(one.order == at + 1, each.coefficients, 0.0)) for each in (one, other)]
        product = one.num_terms[at] * noise.of_coefficient * other_noise.of_coefficient
        if across is not None:
            product = trace(across, int(at) + 1) / size**2
        # Of estimated coefficients each of the two terms is too large by tr(Sigma Sigma')
        of_covariance = _form(noise, parts, (1, 1), other.variance[at])
        of_covariance += _form(other_noise, parts, (0, 0), one.variance[at]) - product
        with_first, with_second = (2 * _form(which, parts, (0, 1), covariance[at]) for which in (noise, other_noise))
        found.append((max(of_covariance, product), with_first, with_second))
    of_covariances, with_firsts, with_seconds = np.array(found).T
    return of_covariances, with_firsts, with_seconds


def _form(noise: Noise, parts: list[NDArray[np.float64]] | None, which: tuple[int, int], product: float) -> float:
    """b_a Sigma b_b of two environments, a and b = `which`; product: b_a b_b, to which it is in proportion if noise is
    alike in all genotypes. parts: what the order makes of the phenotypes of both, (2^L,) each.
    """
    if noise.by_genotype is None or parts is None:
        return noise.of_coefficient * product
    return float(noise.by_genotype @ (parts[which[0]] * parts[which[1]])) / len(noise.by_genotype) ** 2
