"""A matrix of genotypes whose rows come one after the other, and whose type shows only on the way."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import MISSING
from gpmap_cli.dataset.hdf5 import refuse_what_cannot_fit

_CHECKED_EVERY = 2**26  # bytes
_MANY_MINUS_ONES = 0.1  # of all genotypes: more than are missing as a rule


def about_minus_ones(num_minus_one: int, num_genotypes: int, largest: float) -> list[str]:
    """A warning where -1, taken for missing, is so frequent beside 0 and 1 that it may be a homozygote."""
    if largest > 1 or num_minus_one <= _MANY_MINUS_ONES * num_genotypes:
        return []
    return [
        f"warning: {num_minus_one} of {num_genotypes} genotypes are -1, taken for missing, and none is above 1; if -1,"
        " 0 and 1 are the three genotypes of a diploid: source.coding=plus_minus_one source.ploidy=2"
    ]


class GenotypeRows:
    """Rows of copies of the alternative allele, 0..16, NaN missing: int8 while all are whole, then float32.

    `what` is what is being read, for the refusal of what does not fit into memory.
    """

    def __init__(self, what: str) -> None:
        self.num_missing = 0
        self.largest = 0.0
        self._what = what
        self._blocks: list[NDArray] = []
        self._type: np.dtype = np.dtype(np.int8)
        self._num_bytes = self._checked = 0

    @property
    def are_whole(self) -> bool:
        """Whether no dosage came between two whole numbers."""
        return self._type == np.int8

    def append(self, rows: NDArray[np.floating]) -> None:
        """More rows, (rows, L) or a single one (L,)."""
        rows = np.atleast_2d(rows)
        is_missing = np.isnan(rows)
        num_missing = int(is_missing.sum())
        self.num_missing += num_missing
        known = np.where(is_missing, 0, rows) if num_missing else rows
        self.largest = max(self.largest, float(known.max(initial=0)))
        if self.are_whole and np.array_equal(known, np.rint(known)):
            block = known.astype(np.int8)
            block[is_missing] = MISSING
        else:
            self._become_dosages()
            block = rows.astype(np.float32)
        self._blocks.append(block)
        self._num_bytes += block.nbytes
        if self._num_bytes > self._checked + _CHECKED_EVERY:
            refuse_what_cannot_fit(self._what, 2 * self._num_bytes)  # `matrix` needs them twice
            self._checked = self._num_bytes

    def matrix(self) -> NDArray:
        """All rows, (N, L): int8 with -1 missing, or float32 with NaN missing. Nothing is left here."""
        blocks, self._blocks = self._blocks, []
        return np.concatenate(blocks) if blocks else np.empty((0, 0), np.int8)

    def _become_dosages(self) -> None:
        if not self.are_whole:
            return
        self._type = np.dtype(np.float32)
        refuse_what_cannot_fit(self._what, 8 * self._num_bytes)
        for place, block in enumerate(self._blocks):
            self._blocks[place] = np.where(block == MISSING, np.float32(np.nan), block.astype(np.float32))
        self._num_bytes *= 4
