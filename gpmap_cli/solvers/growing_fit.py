"""Least squares of a set of candidates that grows by one at a time, from sums over samples alone.

Of every candidate x, centred on the training samples, two numbers are kept: d, the sum of squares that the chosen ones
leave unexplained, and c, the sum of what is left times the phenotype. The residual sum of squares of the joint fit
falls by c^2 / d when it enters. With G the sums of products of the chosen with all P candidates, G = R' V by Cholesky
(R is V at the chosen), so that after one candidate's sums with all others are known, entering it costs k P: its row of
V is those sums less V' times its column of V, over the root of its d; c and d of all others follow. The error of the
held-out samples comes from their sums in the same way.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.solvers.fold_sums import Moments

# A candidate of which the chosen leave less than this part of its variance never enters (a variance inflation of 10^4).
_LEAST_UNEXPLAINED = 1e-4
# Less than this part of a sum of squares is rounding.
_ROUNDING = 1e-10
# Candidates whose gains differ by less than this part are equal: the first one enters, on every machine.
_EQUAL = 1e-9
# A locus moves for at least this part of the residual sum of squares.
_WORTH_MOVING = 1e-6


class GrowingFit:
    """Joint least squares of the chosen out of P candidates on training samples, and its error on held-out ones."""

    def __init__(self, train: Moments, held_out: Moments | None = None) -> None:
        self._train, self._held_out = train, held_out
        self._mean, self._y_mean = train.x / train.weight, train.y / train.weight
        self.residual = max(0.0, train.y_square - train.y * self._y_mean)
        self._product = train.xy - self._mean * train.y
        self._left = np.maximum(train.x_square - self._mean * train.x, 0)
        self._floor = np.maximum(_LEAST_UNEXPLAINED * self._left, _ROUNDING * train.x_square)
        self._least_gain = _ROUNDING * train.y_square
        self.chosen: list[int] = []
        self._steps: list[int] = []  # when each of the chosen, or the one that it replaced, entered
        self._directions = np.empty((16, len(train.x)))
        self._projections = np.empty(16)
        self._inverse: NDArray = np.zeros((0, 0))  # of R
        self._held_gram = np.zeros((0, 0))

    @property
    def in_order_of_entry(self) -> list[int]:
        return [candidate for _, candidate in sorted(zip(self._steps, self.chosen, strict=True))]

    def gains(self) -> NDArray[np.float64]:
        """By how much the residual sum of squares would fall, (P,); zero for what must not enter."""
        open_ = self._left > self._floor
        open_[self.chosen] = False
        gains = np.zeros(len(self._left))
        np.divide(self._product**2, self._left, out=gains, where=open_)
        return gains

    def best(self) -> int | None:
        """The candidate that lowers the residual sum of squares most, None when none does."""
        gains = self.gains()
        most = gains.max(initial=0.0)
        return int(np.argmax(gains >= most * (1 - _EQUAL))) if most > self._least_gain else None

    def peaks(self, number: int) -> list[int]:
        """Candidates that gain most among their neighbours: likely to be the next ones to enter."""
        gains = self.gains()
        around = np.pad(gains, 1)
        peaks = np.flatnonzero((gains > self._least_gain) & (gains >= around[:-2]) & (gains > around[2:]))
        return peaks[np.argsort(-gains[peaks])[:number]].tolist()

    def enter(self, candidate: int, train: NDArray[np.float64], held_out: NDArray[np.float64] | None = None) -> None:
        """Choose it. train, held_out (P,): sums of its products with all candidates."""
        k = len(self.chosen)
        if k == len(self._directions):
            more = max(16, k // 4)
            self._directions = np.concatenate([self._directions, np.empty((more, len(self._left)))])
            self._projections = np.concatenate([self._projections, np.empty(more)])
        earlier = self._directions[:k]
        above = earlier[:, candidate].copy()  # its column of R, over the diagonal
        direction = train - self._mean * self._train.x[candidate] - above @ earlier
        direction /= np.sqrt(direction[candidate])
        inverse = np.zeros((k + 1, k + 1))
        inverse[:k, :k] = self._inverse
        inverse[:k, k] = self._inverse @ above / -direction[candidate]
        inverse[k, k] = 1 / direction[candidate]
        self._inverse = inverse
        projection = self._product[candidate] / direction[candidate]
        self._product -= projection * direction
        self._left -= direction**2
        self.residual -= projection**2
        self._directions[k], self._projections[k] = direction, projection
        self.chosen.append(candidate)
        self._steps.append(max(self._steps, default=0) + 1)
        if held_out is not None:
            gram = np.empty((k + 1, k + 1))
            gram[:k, :k] = self._held_gram
            gram[k] = gram[:, k] = held_out[self.chosen]
            self._held_gram = gram

    def move(
        self, position: int, candidate: int, train: NDArray[np.float64], held_out: NDArray[np.float64] | None = None
    ) -> None:
        """Put this candidate in the place of the one at this position of `chosen`."""
        step = self._steps[position]
        self._leave(position)
        self.enter(candidate, train, held_out)
        self._steps[-1] = step

    def best_move(self, window: int) -> tuple[int, int] | None:
        """The position in `chosen`, and the candidate at most `window` from it that fits most better in its place.

        With H = (R'R)^-1 and b = H G y, leaving candidate q out adds t^2 / H_qq to d and t b_q / H_qq to c of another
        one, where t is the row of R^-1 V; q itself was worth b_q^2 / H_qq. So trying all neighbours costs k^2 window.
        """
        k = len(self.chosen)
        if k == 0:
            return None
        alone, effect = (self._inverse**2).sum(axis=1)[:, None], self.coefficients()[1][:, None]
        around = np.array(self.chosen)[:, None] + np.arange(-window, window + 1)
        inside = (around >= 0) & (around < len(self._left))
        around = np.where(inside, around, 0)
        t = np.einsum("ks,skw->kw", self._inverse, self._directions[:k][:, around])
        left, product = self._left[around] + t**2 / alone, self._product[around] + t * effect / alone
        open_ = inside & (left > self._floor[around])
        gains = np.zeros(left.shape)
        np.divide(product**2, left, out=gains, where=open_)
        gains -= effect**2 / alone
        gains[np.isin(around, self.chosen)] = 0
        position, place = np.unravel_index(int(gains.argmax()), gains.shape)
        if gains[position, place] <= max(_WORTH_MOVING * self.residual, self._least_gain):
            return None
        return int(position), int(around[position, place])

    def coefficients(self) -> tuple[float, NDArray[np.float64]]:
        """Intercept, and effects (k,) in the order of `chosen`, on the candidates as they are."""
        effects = self._inverse @ self._projections[: len(self.chosen)]
        return float(self._y_mean - self._mean[self.chosen] @ effects), effects

    def held_out_error(self) -> float:
        """Weighted sum of squared errors of the held-out samples."""
        intercept, effects = self.coefficients()
        held = self._held_out
        assert held is not None
        return float(
            held.y_square
            + intercept * (intercept * held.weight - 2 * held.y)
            + 2 * effects @ (intercept * held.x[self.chosen] - held.xy[self.chosen])
            + effects @ self._held_gram @ effects
        )

    def _leave(self, position: int) -> None:
        """Undo an entry: rotations make R without that column triangular again; the last direction is then its own."""
        last = len(self.chosen) - 1
        del self.chosen[position], self._steps[position]
        for row in range(position, last):
            pair = self._directions[row : row + 2]
            a, b = pair[:, self.chosen[row]] / np.hypot(*pair[:, self.chosen[row]])
            rotation = np.array([[a, b], [-b, a]])
            pair[:] = rotation @ pair
            self._projections[row : row + 2] = rotation @ self._projections[row : row + 2]
        direction, projection = self._directions[last], self._projections[last]
        self._product += projection * direction
        self._left += direction**2
        self.residual += projection**2
        self._inverse = np.linalg.inv(np.triu(self._directions[:last, self.chosen]))
        if len(self._held_gram):
            self._held_gram = np.delete(np.delete(self._held_gram, position, 0), position, 1)
