"""How the phenotypes are distributed in each environment, and how the environments are correlated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OUTLIER_SD = 5.0
_ROWS_AT_ONCE = 8192
_MIN_PAIRS = 3  # samples measured in both environments: the correlation of two is always 1 or -1
_ROUNDING = 1e-13  # of a sum of squares: what is less of it than this is a constant's rounding


@dataclass(frozen=True)
class Distribution:
    """Of the known phenotypes of one environment, in their own units.

    sd: standard deviation, divisor n. skewness: third central moment / sd^3; None of a constant. num_outliers:
    how many lie more than 5 sd from the mean. num_lowest, num_highest: how many equal the minimum and the
    maximum; many of them hint at a limit of the measurement. All but the counts are NaN when none is known.
    """

    count: int
    missing: int
    mean: float
    sd: float
    minimum: float
    maximum: float
    skewness: float | None
    num_outliers: int
    num_lowest: int
    num_highest: int


def distribution(values: NDArray[np.float32]) -> Distribution:
    """The distribution of one environment's phenotypes (N,), NaN missing."""
    known = values[~np.isnan(values)].astype(np.float64)
    missing = len(values) - len(known)
    if len(known) == 0:
        return Distribution(0, missing, np.nan, np.nan, np.nan, np.nan, None, 0, 0, 0)
    low, high, mean = float(known.min()), float(known.max()), float(known.mean())
    lowest, highest = int((known == low).sum()), int((known == high).sum())
    if low == high:
        return Distribution(len(known), missing, low, 0.0, low, high, None, 0, lowest, highest)
    sd = float(known.std())
    z = (known - mean) / sd
    outliers, skewness = int((np.abs(z) > OUTLIER_SD).sum()), float((z**3).mean())
    return Distribution(len(known), missing, mean, sd, low, high, skewness, outliers, lowest, highest)


@dataclass(frozen=True)
class Correlations:
    """Pearson's r between environments, (E, E), over the num_pairs (E, E) samples measured in both.

    NaN where it is undefined: fewer than three such samples, or one of the two constant in them.
    """

    r: NDArray[np.float64]
    num_pairs: NDArray[np.int64]

    def pairs(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
        """The pairs i < j of environments whose correlation is defined: i, j and r, (pairs,) each."""
        first, second = np.triu_indices(len(self.r), 1)
        defined = ~np.isnan(self.r[first, second])
        return first[defined], second[defined], self.r[first, second][defined]


def correlations(phenotypes: NDArray[np.float32]) -> Correlations:
    """Pearson's r of every pair of environments over their pairwise complete observations.

    phenotypes: (N, E), NaN missing. With x, y centred and m marking what is known, every sum over the samples
    known in both is an entry of a matrix product: n = m'm, sum x = x'm, sum x^2 = (x^2)'m, sum xy = x'x.
    """
    num_environments = phenotypes.shape[1]
    known = ~np.isnan(phenotypes)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, phenotypes, 0).sum(axis=0, dtype=np.float64) / count
    pairs, sums, squares, products = (np.zeros((num_environments, num_environments)) for _ in range(4))
    for start in range(0, len(phenotypes), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        m = known[rows].astype(np.float64)
        x = np.where(known[rows], phenotypes[rows] - mean, 0)
        pairs += m.T @ m
        sums += x.T @ m
        squares += (x**2).T @ m
        products += x.T @ x
    n = np.maximum(pairs, 1)
    about_mean = squares - sums**2 / n  # [i, j]: of environment i, in the samples known in j too
    defined = (pairs >= _MIN_PAIRS) & (about_mean > _ROUNDING * squares) & (about_mean > 0)
    defined &= defined.T
    scale = np.sqrt(np.where(defined, about_mean, 1))
    r = (products - sums * sums.T / n) / scale / scale.T
    return Correlations(np.where(defined, np.clip(r, -1, 1), np.nan), pairs.astype(np.int64))
