"""Whether one model predicts better than another on the same folds, when training samples of folds overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from gpmap_cli.variance.student_t import two_sided_p

_LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """The mean difference over J folds, its 95 % interval, and the p-value of its being 0; None where undefined."""

    num_folds: int
    mean: float
    low: float | None
    high: float | None
    p_value: float | None


def corrected_difference(differences: Sequence[float], test_to_train: float) -> Difference:
    """The corrected resampled t-test of Nadeau and Bengio (Machine Learning 52:239, 2003).

    t = mean(d) / sqrt((1 / J + n_test / n_train) var(d)) with J - 1 degrees of freedom, d the J differences of scores
    on one fold each, of all repeats (Bouckaert and Frank, PAKDD 2004). The plain paired test leaves n_test / n_train
    out, and finds differences too often: folds share most of their training samples, so that their scores are not
    independent. Undefined with one fold, or where all differences are equal (there is no spread to judge by).
    """
    d = np.asarray(differences, np.float64)
    mean = float(d.mean())
    spread = float(d.std(ddof=1)) if len(d) > 1 else 0.0
    if not spread > 1e-12 * max(1.0, abs(mean)):
        return Difference(len(d), mean, None, None, None)
    error = math.sqrt(1 / len(d) + test_to_train) * spread
    freedom = len(d) - 1
    half = t_two_sided(_LEVEL, freedom) * error
    p_value = float(two_sided_p(np.array([mean / error]), freedom)[0])
    return Difference(len(d), mean, mean - half, mean + half, p_value)


@cache
def t_two_sided(level: float, freedom: float) -> float:
    """The t with P(|T| >= t) = level, by bisection."""
    low, high = 0.0, 1.0
    while two_sided_p(np.array([high]), freedom)[0] > level:
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        if two_sided_p(np.array([middle]), freedom)[0] > level:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values of one family of tests, adjusted so that the chance of any false finding is kept (Holm 1979).

    The i-th smallest of m becomes the largest of (m - j + 1) p_(j) over j <= i, at most 1. Undefined ones stay so and
    count in m, as tests that were asked for.
    """
    order = sorted((p, at) for at, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, at) in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p))
        adjusted[at] = highest
    return adjusted
