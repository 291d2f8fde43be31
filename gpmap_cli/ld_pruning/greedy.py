"""The published pruning rule: keep the first locus left, drop every later one whose |r| with it is too large, repeat.

Equivalently, a locus is kept when its |r| with every earlier *kept* locus is at most the threshold (Rijal et al.
2026). r is Pearson's correlation over the deciding samples in float64, a missing genotype counting as the locus's mean.
So only correlations with kept loci matter, and almost all drops are due to a kept neighbour. Loci are taken in spans:
within a span greedily among themselves and the kept loci just before, then the few survivors are compared with all
kept loci of earlier spans. Should one of those be too alike (linkage between chromosomes, copies of a locus), the
whole span is compared with all of them and walked again. The result is the rule's, whatever the correlations.
Costs about n (L (T + s) + K^2 / 2) multiply-adds for K kept of L loci, tiles of T = 64 and s survivors per span,
at worst n L K; memory some tiles of n.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.ld_pruning.loci import TILE, Loci

if TYPE_CHECKING:
    import torch

_SPAN = 32 * TILE
_NUM_RECENT = 32
# Pairs this near the threshold are decided as NumPy's corrcoef decides them, which is what the published code calls.
_NEAR = 1e-10


@dataclass(frozen=True)
class Pruned:
    """Columns of the kept loci, ascending, and how many loci were dropped because they do not vary."""

    kept: NDArray[np.intp]
    num_constant: int


def kept_loci(loci: Loci, max_abs_r: float, advance: Callable[[int], object] = lambda amount: None) -> Pruned:
    """Prune L loci; `advance` is told how many loci have been gone through."""
    walk = _Walk(loci, max_abs_r)
    for start in range(0, loci.num_loci, _SPAN):
        stop = min(start + _SPAN, loci.num_loci)
        walk.span(np.arange(start, stop))
        advance(stop - start)
    return Pruned(np.array(walk.kept, dtype=np.intp), walk.num_constant)


class _Walk:
    """The kept loci so far."""

    def __init__(self, loci: Loci, max_abs_r: float) -> None:
        self._loci, self._max_abs_r = loci, max_abs_r
        self.kept: list[int] = []
        self.num_constant = 0

    def span(self, columns: NDArray[np.intp]) -> None:
        """Decide the loci of a span."""
        recent, older = self.kept[-_NUM_RECENT:], self.kept[:-_NUM_RECENT]
        survivors, num_constant = self._among_themselves(columns, recent)
        if self._like_any(survivors, older).any():
            left = columns[~self._like_any(columns, self.kept)]
            survivors, _ = self._among_themselves(left, [])
        self.kept += survivors.tolist()
        self.num_constant += num_constant

    def _among_themselves(self, columns: NDArray[np.intp], earlier: list[int]) -> tuple[NDArray[np.intp], int]:
        """The rule among these loci and a few kept before them: the loci kept, and how many do not vary."""
        kept = [_Tile.read(self._loci, np.array(earlier, dtype=np.intp))] if earlier else []
        survivors: list[int] = []
        num_constant = 0
        for start in range(0, len(columns), TILE):
            tile = _Tile.read(self._loci, columns[start : start + TILE])
            alive = tile.varies.copy()
            num_constant += int((~alive).sum())
            for before in kept:
                alive &= ~self._too_alike(tile, before).any(axis=1)
            tile = tile.take(np.flatnonzero(alive))
            alike = self._too_alike(tile, tile)
            left = np.ones(len(tile.columns), bool)
            for place in range(len(left)):
                if left[place]:
                    left[place + 1 :] &= ~alike[place, place + 1 :]
            chosen = np.flatnonzero(left)
            if len(chosen):
                kept.append(tile.take(chosen))
                survivors += tile.columns[chosen].tolist()
        return np.array(survivors, dtype=np.intp), num_constant

    def _like_any(self, columns: NDArray[np.intp], others: list[int]) -> NDArray[np.bool_]:
        """Which of these loci is too strongly correlated with any of the others."""
        found = np.zeros(len(columns), bool)
        for start in range(0, len(columns), 4 * TILE):
            tile = _Tile.read(self._loci, columns[start : start + 4 * TILE])
            for other in range(0, len(others), 4 * TILE):
                before = _Tile.read(self._loci, np.array(others[other : other + 4 * TILE], dtype=np.intp))
                found[start : start + 4 * TILE] |= self._too_alike(tile, before).any(axis=1)
        return found

    def _too_alike(self, one: _Tile, other: _Tile) -> NDArray[np.bool_]:
        """|r| > max_abs_r for every pair of loci of two tiles."""
        if not len(one.columns) or not len(other.columns):
            return np.zeros((len(one.columns), len(other.columns)), bool)
        abs_r = (one.unit @ other.unit.T).abs_().numpy()
        alike: NDArray[np.bool_] = abs_r > self._max_abs_r
        near = (np.abs(abs_r - self._max_abs_r) < _NEAR) & one.varies[:, None] & other.varies
        for row, column in np.argwhere(near):
            if one.columns[row] != other.columns[column]:
                pair = self._loci.take(np.sort([one.columns[row], other.columns[column]]))
                alike[row, column] = abs(np.corrcoef(_filled(pair).numpy())[0, 1]) > self._max_abs_r
        return alike


@dataclass(frozen=True)
class _Tile:
    """Some loci, standardised: `unit` (loci, n) float64 has mean 0 and length 1 in each row (0 where constant)."""

    columns: NDArray[np.intp]
    unit: torch.Tensor
    varies: NDArray[np.bool_]

    @classmethod
    def read(cls, loci: Loci, columns: NDArray[np.intp]) -> _Tile:
        values = _filled(loci.take(columns))
        varies = (values.amax(dim=1) > values.amin(dim=1)).numpy()
        values -= values.mean(dim=1, keepdim=True)
        length = (values**2).sum(dim=1, keepdim=True).sqrt_()
        length[length == 0] = 1
        values /= length
        values[~varies] = 0
        return cls(columns, values, varies)

    def take(self, places: NDArray[np.intp]) -> _Tile:
        if len(places) == len(self.columns):
            return self
        return _Tile(self.columns[places], self.unit[places], self.varies[places])


def _filled(stored: NDArray) -> torch.Tensor:
    """Genotypes (loci, n) as float64, a missing one being the mean of its locus."""
    import torch

    values = torch.from_numpy(stored).double()
    missing = values.isnan() if stored.dtype.kind == "f" else values < 0
    if not missing.any():
        return values
    known = (~missing).sum(dim=1, keepdim=True)
    values[missing] = 0
    # Where nothing is known, all are equal, and the locus is constant.
    mean = values.sum(dim=1, keepdim=True) / known.clamp_min(1)
    return torch.where(missing, mean, values)
