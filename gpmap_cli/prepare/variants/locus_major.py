"""Genotypes that come locus by locus, as files of variants have them, and go on sample by sample."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import MISSING
from gpmap_cli.dataset.hdf5 import refuse_what_cannot_fit

_BLOCK_BYTES = 2**24


class LocusMajor:
    """Genotypes of L loci at N samples, kept as blocks of loci, (loci, N).

    int8 copies of the alternative allele with -1 missing; or, with `dosages`, float32 with NaN missing, of which a
    block is kept as float16 where that loses nothing.
    """

    def __init__(self, path: Path, num_samples: int, dosages: bool = False) -> None:
        self._path, self._num_samples = path, num_samples
        self._dtype = np.dtype(np.float32 if dosages else np.int8)
        self.num_loci_of_a_block = max(1, _BLOCK_BYTES // (num_samples * self._dtype.itemsize))
        self._blocks: list[NDArray] = []
        self._open, self._num_open = self._new_block(), 0
        self.num_loci, self.num_missing, self.num_bytes = 0, 0, 0
        self.has_heterozygotes = False  # whether any genotype is neither 0, nor missing, nor two copies

    @property
    def genotype_type(self) -> str:
        """int8, float16 if that holds every dosage exactly, else float32."""
        types = {block.dtype.name for block in self._blocks}
        return "float32" if "float32" in types else "float16" if types == {"float16"} else self._dtype.name

    def next_locus(self) -> NDArray:
        """Room (N,) for the genotypes of the next locus; it counts once `keep` is called."""
        return self._open[self._num_open]

    def keep(self) -> None:
        """Keep what was written into `next_locus()`."""
        self._num_open += 1
        if self._num_open == len(self._open):
            self._close_block()
            self._open = self._new_block()

    def append(self, genotypes: NDArray) -> None:
        """Genotypes (N,) of the next locus."""
        self.next_locus()[:] = genotypes
        self.keep()

    def append_block(self, block: NDArray) -> None:
        """Genotypes (loci, N) of the next loci; for those that come in blocks only."""
        self._add(block)

    def finish(self) -> None:
        """Close the block that is being filled, so that the numbers are those of all loci."""
        if self._num_open:
            self._open = self._open[: self._num_open].copy()
            self._close_block()
            self._open = self._new_block()

    def row_blocks(self) -> Iterator[NDArray]:
        """The genotypes (samples, L) in blocks of rows, each of the same type."""
        dtype = np.dtype(self.genotype_type)
        num_rows = max(1, _BLOCK_BYTES // (self.num_loci * dtype.itemsize))
        for start in range(0, self._num_samples, num_rows):
            rows = slice(start, start + num_rows)
            transposed = np.concatenate([block[:, rows] for block in self._blocks], dtype=dtype).T
            yield np.ascontiguousarray(transposed)

    def _new_block(self) -> NDArray:
        return np.empty((self.num_loci_of_a_block, self._num_samples), self._dtype)

    def _close_block(self) -> None:
        block, self._num_open = self._open, 0
        self._add(block)

    def _add(self, block: NDArray) -> None:
        if block.dtype.kind == "f":
            self.num_missing += int(np.isnan(block).sum())
            self.has_heterozygotes = True  # dosages are not looked at
            half = block.astype(np.float16)
            block = half if np.array_equal(half, block, equal_nan=True) else block
        else:
            self.num_missing += int((block == MISSING).sum())
            self.has_heterozygotes = self.has_heterozygotes or bool((block == 1).any())
        self._blocks.append(block)
        self.num_loci += len(block)
        self.num_bytes += block.nbytes
        refuse_what_cannot_fit(f"{self._path}: the genotypes of the first {self.num_loci} loci", self.num_bytes)
