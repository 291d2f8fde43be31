"""Exact leave-one-out errors of a path of penalties, evaluated only where the least of them can be.

With residuals r(p), leverages h(p) and w = (1 - h)^-2 at the penalty p, the error is sum_i w_i r_i^2. At a reference
penalty o near the least error the residuals are evaluated, and for any other, with the change d = r(p) - r(o), with
m = sum w r(o)^2 / sum r(o)^2 and by Cauchy and Schwarz,

    sum_i w_i r_i^2 >= m |r|^2 - 2 (sum_i (w_i - m)^2 r_i(o)^2)^(1/2) |d| - (m - min w) |d|^2,

where |r|^2 and |d|^2 follow from the eigenvalues, at no cost. Penalties whose bound is above an error that is known
cannot be the best, so that few of the path are left. Leverages cost n L^2, the same for all of the path, and each
residual n L. Memory n numbers for each penalty.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.solvers.ridge_factors import Factors

_NO_LEVERAGE_LEFT = 1e-12
_COLUMNS_AT_ONCE = 2048
# Rounding of a leverage, about, and what it may change of an error that is chosen by.
_ROUNDING = {torch.float32: 1e-6, torch.float64: 1e-13}
_MOST_ROUNDING = 1e-4


def leave_one_out_errors(factors: Factors, path: NDArray, only_least: bool = False) -> NDArray[np.float64]:
    """Mean squared leave-one-out error (P, E') of every penalty of the path.

    only_least: errors that are neither an environment's least nor next to it on the path may be infinite.
    """
    if not only_least:
        everything = np.ones((len(path), len(factors.columns)), bool)
        return _LeftOut(factors, path, in_double=True).errors(everything)
    found = _LeftOut(factors, path, in_double=False)
    wanted = found.contenders()
    if found.rounding[wanted.any(axis=1)].max() > _MOST_ROUNDING:
        found = _LeftOut(factors, path, in_double=True)
        wanted = found.contenders()
    return found.errors(wanted)


class _LeftOut:
    """The weights w of every sample along a path. rounding: (P,) of w, relative, where it is worst."""

    def __init__(self, factors: Factors, path: NDArray, in_double: bool) -> None:
        self._factors, self._path = factors, path
        left = factors.leverages(path, in_double).neg_().add_(1).clamp_min_(_NO_LEVERAGE_LEFT)
        precision = _ROUNDING[left.dtype]
        self.rounding = (precision / left.amin(dim=0).double()).cpu().numpy()
        self._weights = left.pow_(-2)  # (n, P)

    def errors(self, wanted: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The errors (P, E') of the penalties and environments that are wanted; the others are infinite."""
        found = np.full(wanted.shape, np.inf)
        places, columns = np.nonzero(wanted)
        for start in range(0, len(places), _COLUMNS_AT_ONCE):
            part = slice(start, start + _COLUMNS_AT_ONCE)
            total = torch.zeros(len(places[part]), dtype=torch.float64, device=self._weights.device)
            of_path = torch.from_numpy(places[part]).to(total.device)
            for rows, residual in self._factors.residuals(self._path[places[part]], columns[part]):
                total += residual.square_().mul_(self._weights[rows].index_select(1, of_path)).sum(dim=0)
            found[places[part], columns[part]] = (total / self._factors.num_samples).cpu().numpy()
        return found

    def contenders(self) -> NDArray[np.bool_]:
        """Where along the path (P, E') each environment's least error may be, and the neighbours of these."""
        values, squares, rest = self._factors.spectrum()
        path = torch.from_numpy(self._path).to(values.device)[:, None]
        kept = path / (values + path)  # (P, K): of the residual along each eigenvector
        rss = rest + kept**2 @ squares
        reference = (self._weights.mean(dim=0, dtype=torch.float64)[:, None] * rss).argmin(dim=0)
        environments = range(len(reference))
        change = torch.stack([(kept - kept[reference[e]]) ** 2 @ squares[:, e] for e in environments], dim=1)
        first, second, at_reference = self._moments(reference.cpu().numpy())
        mean = first / at_reference.clamp_min(1e-300)
        spread = (second - mean * first).clamp_min(0).sqrt()
        least = self._weights.amin(dim=0).double()[:, None]
        bound = mean * rss - 2 * spread * change.sqrt() - (mean - least) * change
        slack = torch.from_numpy(self.rounding).to(values.device)[:, None] * mean * (rest + squares.sum(dim=0))
        known = first[reference, list(environments)]
        above = (bound - slack > known).cpu().numpy()
        near = np.pad(~above, ((1, 1), (0, 0)))
        return near[:-2] | near[1:-1] | near[2:]

    def _moments(self, reference: NDArray[np.intp]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Sums of w r^2 and w^2 r^2 (P, E'), and of r^2 (E',), of the residuals at these places of the path (E',)."""
        shape = (self._weights.shape[1], len(reference))
        first, second = (torch.zeros(shape, dtype=torch.float64, device=self._weights.device) for _ in range(2))
        total = torch.zeros(shape[1], dtype=torch.float64, device=self._weights.device)
        for rows, residual in self._factors.residuals(self._path[reference], np.arange(len(reference))):
            squared, weights = residual.square_(), self._weights[rows].double().T
            first += weights @ squared
            second += weights**2 @ squared
            total += squared.sum(dim=0)
        return first, second, total
