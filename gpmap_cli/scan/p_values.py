"""Two-sided p-values of t statistics, as logarithms to base 10, so that none is ever too small to be told.

P(|T| > t) = I_x(df/2, 1/2) with x = df / (df + t^2), the regularised incomplete beta function, by its continued
fraction (Press et al., Numerical Recipes, section 6.4); relative error of p below 1e-9 up to 10^7 degrees of freedom.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

_LEAST = 1e-300
_LARGEST = 1e150  # |t|: its square is a number
_MOST_STEPS = 20_000
_LOG10 = math.log(10.0)


def log10_p(t: ArrayLike, df: float) -> NDArray[np.float64]:
    """log10 of the two-sided p-value of t statistics with so many degrees of freedom; NaN stays NaN."""
    shaped = np.asarray(t, dtype=np.float64)
    square = np.minimum(np.abs(np.atleast_1d(shaped)), _LARGEST) ** 2
    found = np.full(square.shape, np.nan)
    known = ~np.isnan(square)
    if df > 0:
        found[known] = _log_beta(square[known], df) / _LOG10
    return found.reshape(shaped.shape)


def correlation_t(z: ArrayLike, num_samples: float, df: float) -> NDArray[np.float64]:
    """t statistics of score statistics z = r sqrt(n - 1), where r is a correlation: r sqrt(df / (1 - r^2))."""
    r2 = np.minimum(np.asarray(z, dtype=np.float64) ** 2 / (num_samples - 1), 1 - 1e-12)
    return np.asarray(np.sign(z) * np.sqrt(r2 * max(df, 0.0) / (1 - r2)))


def least_t(log10_level: float, df: float) -> float:
    """The t statistic whose two-sided p-value is 10^log10_level, by bisection."""
    low, high = 0.0, 1.0
    while high < 1e150 and log10_p(high, df) > log10_level:
        low, high = high, 2 * high
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        if log10_p(middle, df) > log10_level:
            low = middle
        else:
            high = middle
    return high


def least_z(log10_level: float, num_samples: float, df: float) -> float:
    """The score statistic z whose p-value is 10^log10_level: the inverse of `correlation_t`."""
    square = least_t(log10_level, df) ** 2
    return math.sqrt((num_samples - 1) * square / (df + square))


def _log_beta(square: NDArray[np.float64], df: float) -> NDArray[np.float64]:
    """log I_x(df/2, 1/2); the fraction converges on the side of x that is beyond the mean of the beta distribution."""
    a, b = df / 2, 0.5
    log_x = -np.log1p(square / df)  # log of df / (df + t^2)
    x, rest = np.exp(log_x), square / (df + square)
    with np.errstate(divide="ignore"):
        log_front = a * log_x + b * np.log(rest) + _log_gamma_ratio(a) - 0.5 * math.log(math.pi)
    found = np.empty_like(x)
    far = x < (a + 1) / (a + b + 2)
    found[far] = log_front[far] - math.log(a) + np.log(_fraction(a, b, x[far]))
    near = ~far
    small = np.exp(log_front[near]) * _fraction(b, a, rest[near]) / b
    found[near] = np.log1p(-np.minimum(small, 1.0 - 1e-16))
    return found


def _log_gamma_ratio(a: float) -> float:
    """log of Gamma(a + 1/2) / Gamma(a); differences of large logarithms would lose digits."""
    if a < 1e4:
        return math.lgamma(a + 0.5) - math.lgamma(a)
    return 0.5 * math.log(a) - 1 / (8 * a) + 1 / (192 * a**3)


def _fraction(a: float, b: float, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The continued fraction of the incomplete beta function, by Lentz's method."""

    def away_from_zero(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(np.abs(values) < _LEAST, _LEAST, values)

    c = np.ones_like(x)
    d = 1 / away_from_zero(1 - (a + b) * x / (a + 1))
    value = d.copy()
    for m in range(1, _MOST_STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d, c = 1 / away_from_zero(1 + even * d), away_from_zero(1 + even / c)
        value = value * d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d, c = 1 / away_from_zero(1 + odd * d), away_from_zero(1 + odd / c)
        change = d * c
        value = value * change
        if np.all(np.abs(change - 1) < 1e-14):
            break
    return value
