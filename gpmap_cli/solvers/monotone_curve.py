"""Increasing curves from a latent trait to a phenotype: cubic splines whose coefficients never fall.

With equally spaced knots of step d, h(t) = sum_j b_j B_j(t) (cubic B-splines, M = number of intervals + 3 of them) is
increasing when every difference c_j = b_j - b_(j-1) >= 0: its slope is sum_j c_j / d times quadratic B-splines, which
are positive. Equal differences make a straight line, exactly. Beyond the outermost knots h goes on as the tangent.

The least-squares curve of n samples, with row weights r, is the minimum over b of

    sum_i r_i (y_i - h(t_i))^2 + smoothness * n * (sd / d)^3 * sum_j (c_(j+1) - c_j)^2,

subject to c >= 0 and to a mean slope of 1 over the samples that the basis was laid out for (sd: their standard
deviation). The second term is the integrated square of the curve's second derivative, in units of sd. It is found
exactly by the primal active-set method. O(n + M^3) for each curve. Ramsay 1988; Eilers and Marx 1996.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DEGREE = 3


@dataclass(frozen=True)
class Curve:
    """h(t), coefficients (M,), for knots start, start + step, ... in units of the latent trait t."""

    start: float
    step: float
    coefficients: NDArray[np.float64]

    def value(self, latent: NDArray[np.float64]) -> NDArray[np.float64]:
        """h(t), in units of the phenotype."""
        return self._place(latent).value(self.coefficients)

    def slope(self, latent: NDArray[np.float64]) -> NDArray[np.float64]:
        """h'(t), never below 0."""
        return self._place(latent).slope(np.diff(self.coefficients)) / self.step

    def rescaled(self, mean: float, std: float) -> Curve:
        """The same curve as a function of (t - mean) / std."""
        return Curve((self.start - mean) / std, self.step / std, self.coefficients)

    def _place(self, latent: NDArray[np.float64]) -> _Place:
        return _Place.of(latent, self.start, self.step, len(self.coefficients) - _DEGREE)


def straight_line(low: float, high: float, num_knots: int, intercept: float) -> Curve:
    """h(t) = intercept + t, written with knots from low to high."""
    step = (high - low) / (num_knots - 1)
    return Curve(low, step, intercept + low + step * np.arange(-1.0, num_knots + 1))


@dataclass(frozen=True)
class _Place:
    """Which four B-splines are at work at each t (the first one's number), and their values (4, n).

    rises (3, n): the quadratic B-splines that make up the slope, which are never below 0.
    """

    first: NDArray[np.intp]
    values: NDArray[np.float64]
    rises: NDArray[np.float64]

    @classmethod
    def of(cls, latent: NDArray[np.float64], start: float, step: float, num_intervals: int) -> _Place:
        along = (latent - start) / step
        inside = np.clip(along, 0, num_intervals)
        first = np.minimum(inside.astype(np.intp), num_intervals - 1)
        u = inside - first
        v = 1 - u
        values = np.stack([v**3, 3 * u**3 - 6 * u**2 + 4, 3 * v**3 - 6 * v**2 + 4, u**3]) / 6
        rises = np.stack([v**2, 1 + 2 * u * v, u**2]) / 2
        beyond = along - inside  # there the curve is its tangent
        if beyond.any():
            values[:3] -= beyond * rises
            values[1:] += beyond * rises
        return cls(first, values, rises)

    def value(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """h from the coefficients (M,)."""
        return _sum(part * coefficients[self.first + offset] for offset, part in enumerate(self.values))

    def slope(self, differences: NDArray[np.float64]) -> NDArray[np.float64]:
        """h' times the distance of two knots, from the differences of the coefficients (M - 1,)."""
        return _sum(part * differences[self.first + offset] for offset, part in enumerate(self.rises))


def _sum(parts: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    return functools.reduce(operator.add, parts)


@dataclass(frozen=True)
class FittedCurve:
    """The least-squares curve at given latent values: fitted phenotypes and slopes (n,), and the penalty it paid.

    `differences` (M - 1,) are the c_j >= 0.
    """

    curve: Curve
    fitted: NDArray[np.float64]
    slope: NDArray[np.float64]
    penalty: float
    differences: NDArray[np.float64]


class CurveBasis:
    """Knots laid out over the latent values (n,) of samples with row weights (n,), which are not all alike."""

    def __init__(self, latent: NDArray[np.float64], weights: NDArray[np.float64], num_knots: int) -> None:
        self.start = float(latent.min())
        self.num_intervals = num_knots - 1
        self.step = float(latent.max() - latent.min()) / self.num_intervals
        mean = float(weights @ latent / weights.sum())
        self.std = float(np.sqrt(weights @ (latent - mean) ** 2 / weights.sum()))
        size = self.num_intervals + _DEGREE
        self._cumulate = np.tril(np.ones((size, size)))  # from (b_0, c_1, ..., c_(M-1)) to b
        # Every c_j raises the mean slope by this much; the constant b_0 does not.
        self._raises = np.zeros(size - 1)
        place = self._place(latent)
        for offset, part in enumerate(place.rises):
            self._raises += np.bincount(place.first + offset, weights * part, size - 1)
        self._raises /= self.step * weights.sum()
        bend = np.diff(np.eye(size - 1), axis=0) * (self.std / self.step) ** 1.5
        self._roughness = np.zeros((size, size))
        self._roughness[1:, 1:] = bend.T @ bend

    def fit(
        self,
        latent: NDArray[np.float64],
        phenotype: NDArray[np.float64],
        weights: NDArray[np.float64],
        smoothness: float,
    ) -> FittedCurve:
        """The curve of these latent values and phenotypes (n,)."""
        place = self._place(latent)
        gram, product = self._sums(place, weights, phenotype)
        penalty = smoothness * weights.sum() * self._roughness
        start = np.concatenate([[0.0], np.full(len(gram) - 1, self.step)])
        start[1:] /= self._raises @ start[1:]
        found = _constrained_minimum(gram + penalty, product, self._raises, start)
        curve = Curve(self.start, self.step, np.cumsum(found))
        return FittedCurve(
            curve,
            place.value(curve.coefficients),
            place.slope(found[1:]) / self.step,
            float(found @ penalty @ found),
            found[1:],
        )

    def free_directions(
        self, latent: NDArray[np.float64], fit: FittedCurve
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """The ways the fitted curve could still move, k of them.

        Gives the change in h at the latent values (n, k), the change in slope at 0 (k,), and half the second
        derivative (k, k) of the roughness (without its factor smoothness * n).
        """
        free = np.concatenate([[True], fit.differences > 0])
        fixed_mean = np.concatenate([[0.0], self._raises])[free]
        moves = np.zeros((len(free), int(free.sum()) - 1))
        # All directions orthogonal to that of the mean slope, which is given.
        moves[free] = np.linalg.svd(fixed_mean[None, :])[2][1:].T
        changes, slopes = [], []
        for move in np.cumsum(moves, axis=0).T:
            direction = Curve(self.start, self.step, move)
            changes.append(direction.value(latent))
            slopes.append(direction.slope(np.zeros(1))[0])
        return np.stack(changes, axis=1), np.array(slopes), moves.T @ self._roughness @ moves

    def _place(self, latent: NDArray[np.float64]) -> _Place:
        return _Place.of(latent, self.start, self.step, self.num_intervals)

    def _sums(self, place: _Place, weights: NDArray, phenotype: NDArray) -> tuple[NDArray, NDArray]:
        """Weighted sums of squares and products of the M basis functions, and of them with the phenotype."""
        size = self.num_intervals + _DEGREE
        gram, product = np.zeros((size, size)), np.zeros(size)
        for one in range(_DEGREE + 1):
            weighted = weights * place.values[one]
            product += np.bincount(place.first + one, weighted * phenotype, size)
            for two in range(one, _DEGREE + 1):
                sums = np.bincount(place.first, weighted * place.values[two], self.num_intervals)
                rows = np.arange(self.num_intervals)
                gram[rows + one, rows + two] += sums
                if two > one:
                    gram[rows + two, rows + one] += sums
        return self._cumulate.T @ gram @ self._cumulate, self._cumulate.T @ product


def _constrained_minimum(
    quadratic: NDArray[np.float64], linear: NDArray[np.float64], raises: NDArray[np.float64], start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """argmin x' Q x / 2 - q' x with x_1, x_2, ... >= 0 and raises . (x_1, x_2, ...) = 1, from a feasible start.

    Each round solves for the free coefficients alone; a coefficient that would fall below 0 is held there, and one
    that is held is set free when the minimum lies above 0.
    """
    scale = np.trace(quadratic) / len(quadratic)
    scale = scale if scale > 0 else 1.0
    quadratic, linear = quadratic / scale + 1e-12 * np.eye(len(quadratic)), linear / scale
    row = np.concatenate([[0.0], raises])
    x = start.copy()
    free = np.ones(len(x), np.bool_)
    for _ in range(20 * len(x)):
        size = int(free.sum())
        system = np.zeros((size + 1, size + 1))
        system[:size, :size] = quadratic[np.ix_(free, free)]
        system[:size, size] = system[size, :size] = row[free]
        solved = np.linalg.solve(system, np.append(linear[free], 1.0))
        target = np.zeros(len(x))
        target[free] = solved[:-1]
        falling = free & (target < 0)
        falling[0] = False
        if falling.any():
            shares = np.full(len(x), np.inf)
            shares[falling] = x[falling] / (x[falling] - target[falling])
            x += min(1.0, shares.min()) * (target - x)
            held = falling & (shares <= shares.min())
            x[held] = 0.0
            free &= ~held
            continue
        x = target
        gradient = quadratic @ x - linear + solved[-1] * row
        gradient[free] = 0.0
        if gradient.min() >= -1e-12 * max(1.0, float(np.abs(linear).max())):
            break
        free[np.argmin(gradient)] = True
    return x
