"""Two-sided p-values of Student's t, and of the normal distribution that it becomes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_MOST_TERMS = 400
_TINY = 1e-300
_BLOCK = 2**13  # of them the arrays stay in cache


def two_sided_p(t: NDArray[np.float64], freedom: float) -> NDArray[np.float64]:
    """P(|T| >= |t|) of t (n,) with `freedom` degrees of freedom, inf: normal. Small ones keep their digits; NaN stays.

    Of T by the incomplete beta function I_x(freedom / 2, 1 / 2) at x = freedom / (freedom + t^2), as a continued
    fraction (Numerical Recipes, 6.4).
    """
    size = np.abs(t)
    if math.isinf(freedom):
        import torch  # here, so that a report needs none

        return torch.special.erfc(torch.from_numpy(size / math.sqrt(2))).numpy()
    found = np.empty(size.shape)
    for start in range(0, len(size), _BLOCK):
        part = slice(start, start + _BLOCK)
        found[part] = _of_block(size[part], freedom)
    return np.clip(found, 0, 1)


def _of_block(size: NDArray[np.float64], freedom: float) -> NDArray[np.float64]:
    a, b = freedom / 2, 0.5
    with np.errstate(invalid="ignore", over="ignore"):
        x = freedom / (freedom + size**2)
        rest = size**2 / (freedom + size**2)  # 1 - x, without its rounding
    rest = np.where(np.isinf(size), 1.0, rest)
    found = np.full(size.shape, np.nan)
    far = x < (a + 1) / (a + b + 2)  # false where t is NaN
    near = ~far & ~np.isnan(size)
    found[far] = _beta_tail(a, b, x[far], rest[far])
    found[near] = 1 - _beta_tail(b, a, rest[near], x[near])
    return found


def _beta_tail(a: float, b: float, x: NDArray[np.float64], rest: NDArray[np.float64]) -> NDArray[np.float64]:
    """I_x(a, b), rest = 1 - x; converges where x < (a + 1) / (a + b + 2)."""
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) - math.log(a)
    with np.errstate(divide="ignore", under="ignore"):
        front = np.exp(scale + a * np.log(x) + b * np.log(rest))
    c = np.ones_like(x)
    d = 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    fraction = d.copy()
    for m in range(1, _MOST_TERMS):
        for factor in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _away_from_zero(1 + factor * d)
            c = _away_from_zero(1 + factor / c)
            fraction *= c * d
        if np.abs(c * d - 1).max(initial=0) < 1e-14:
            break
    return front * fraction


def _away_from_zero(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(values) < _TINY, _TINY, values)
