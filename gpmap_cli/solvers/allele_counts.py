"""Products of the genotypes with a few vectors, and their sums of products: what every ridge solver is made of.

All of it works on allele counts g (dosages, a missing one replaced by its training mean) and not on coded genotypes
x = scale g + shift: once centred the shift is gone, and counts are whole numbers, exact in single precision. A sum of
products of whole numbers is exact there too while it stays below 2^24, so hard calls are multiplied at twice the speed
and half the memory without any error; dosages, filled-in genotypes, and counts that covariates were projected out of
take double precision where the result is a matrix to be factorised.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from gpmap_cli.dataset.coding import CodedGenotypes

_EXACT_IN_FLOAT32 = 2**24
_BLOCK_BYTES = 2**23  # of one block in floating point
_FEWEST_ROWS, _MOST_ROWS = 64, 4096
_TILE = 256  # of a symmetric product, whose lower tiles are left out
# Single-precision sums over more rows than this go on in double precision.
_ROWS_SUMMED_IN_FLOAT32 = 4096


class AlleleCounts:
    """Allele counts g (N, L) of the samples, read a block of samples at a time as often as they are needed."""

    def __init__(self, genotypes: CodedGenotypes, device: str) -> None:
        self._stored, self._coding = genotypes.stored, genotypes.coding
        self.num_samples, self.num_loci, self.device = len(genotypes), genotypes.num_loci, device
        self.scale, self.shift = genotypes.coding.scale, genotypes.coding.shift
        self._has_missing = genotypes.has_missing
        self._projection: tuple[torch.Tensor, torch.Tensor] | None = None
        if genotypes.projection is not None:
            design, slopes = genotypes.projection.design, genotypes.projection.slopes / self.scale
            self._projection = torch.from_numpy(design).to(device), torch.from_numpy(slopes).to(device)
        self._fill = torch.from_numpy((genotypes.coding.fill - self.shift) / self.scale).to(device)
        # Whole numbers up to the ploidy: their products are summed exactly in single precision, over so many terms.
        is_whole = genotypes.stored.dtype.kind in "iu" and not self._has_missing
        self._whole = is_whole and self._projection is None
        self._exact_terms = _EXACT_IN_FLOAT32 // genotypes.coding.ploidy**2 if self._whole else 0

    def blocks(self, dtype: torch.dtype) -> Iterator[tuple[slice, torch.Tensor]]:
        """All samples in blocks, (rows, L). A block is overwritten by the next one."""
        size = torch.empty((), dtype=dtype).element_size()
        step = min(_MOST_ROWS, self.num_samples, max(_FEWEST_ROWS, _BLOCK_BYTES // (size * max(1, self.num_loci))))
        room = torch.empty(step, self.num_loci, dtype=dtype, device=self.device)
        for start in range(0, self.num_samples, step):
            rows = slice(start, min(start + step, self.num_samples))
            counts = room[: rows.stop - rows.start]
            self._read(self._stored[rows], rows, slice(None), counts)
            yield rows, counts

    def loci_blocks(self, dtype: torch.dtype) -> Iterator[tuple[slice, torch.Tensor]]:
        """All samples at a block of loci at a time, (N, loci)."""
        size = torch.empty((), dtype=dtype).element_size()
        step = max(1, _BLOCK_BYTES // (size * max(1, self.num_samples)))
        for start in range(0, self.num_loci, step):
            loci = slice(start, min(start + step, self.num_loci))
            counts = torch.empty(self.num_samples, loci.stop - loci.start, dtype=dtype, device=self.device)
            self._read(self._stored[:, loci], slice(None), loci, counts)
            yield loci, counts

    def _read(self, stored: np.ndarray, rows: slice, loci: slice, into: torch.Tensor) -> None:
        into.copy_(torch.from_numpy(stored if stored.flags.writeable else stored.copy()))
        if self._has_missing:
            missing = torch.isnan(into) if stored.dtype.kind == "f" else into < 0
            torch.where(missing, self._fill[loci].to(into.dtype), into, out=into)
        if self._projection is not None:
            design, slopes = self._projection
            into.addmm_(design[rows].to(into.dtype), slopes[:, loci].to(into.dtype), alpha=-1)

    def times(self, right: torch.Tensor) -> torch.Tensor:
        """g R, (N, C), for R (L, C), in R's precision. Costs N L C."""
        found = torch.empty(self.num_samples, right.shape[1], dtype=right.dtype, device=self.device)
        for rows, counts in self.blocks(right.dtype):
            torch.mm(counts, right, out=found[rows])
        return found

    def transposed_times(self, left: torch.Tensor) -> torch.Tensor:
        """g'Q, (L, C), for Q (N, C); products in Q's precision, the result in double. Costs N L C."""
        shape = (left.shape[1], self.num_loci)
        total = torch.zeros(shape, dtype=torch.float64, device=self.device)
        part = torch.zeros(shape, dtype=left.dtype, device=self.device)
        summed = 0
        for rows, counts in self.blocks(left.dtype):
            part.addmm_(left[rows].T, counts)
            summed += len(counts)
            if summed >= _ROWS_SUMMED_IN_FLOAT32:
                total += part
                part.zero_()
                summed = 0
        return (total + part).T

    def gram(self, root_weights: torch.Tensor | None = None, only: torch.Tensor | None = None) -> torch.Tensor:
        """g'diag(d)g, (L, L) float64, where d is 1, or the square of root_weights (N,). Costs N L^2 / 2.

        only: (N,) True for the samples that are summed over; all unless given.
        """
        exact = self._whole and root_weights is None and self.num_samples <= self._exact_terms
        dtype = torch.float32 if exact else torch.float64
        gram = torch.zeros(self.num_loci, self.num_loci, dtype=dtype, device=self.device)
        for rows, counts in self.blocks(dtype):
            taken = counts if only is None else counts[only[rows]]
            if root_weights is not None:
                taken = taken * root_weights[rows, None]
            for tile in range(0, self.num_loci, _TILE):
                gram[tile : tile + _TILE, tile:].addmm_(taken[:, tile : tile + _TILE].T, taken[:, tile:])
        return mirrored(gram).double()

    def kernel(self) -> torch.Tensor:
        """gg', (N, N) float64. Costs N^2 L / 2."""
        dtype = torch.float32 if self._whole and self.num_loci <= self._exact_terms else torch.float64
        kernel = torch.zeros(self.num_samples, self.num_samples, dtype=dtype, device=self.device)
        for _, counts in self.loci_blocks(dtype):
            for tile in range(0, self.num_samples, _TILE):
                kernel[tile : tile + _TILE, tile:].addmm_(counts[tile : tile + _TILE], counts[tile:].T)
        return mirrored(kernel).double()

    def sums_of_squares(self) -> torch.Tensor:
        """|g_i|^2 of every sample, (N,) float64."""
        found = torch.empty(self.num_samples, dtype=torch.float64, device=self.device)
        for rows, counts in self.blocks(torch.float32):
            found[rows] = torch.linalg.vector_norm(counts, dim=1, dtype=torch.float64) ** 2
        return found


def mirrored(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix whose upper tiles these are, with the lower ones filled in, in place."""
    for tile in range(0, len(matrix), _TILE):
        end = min(tile + _TILE, len(matrix))
        matrix[end:, tile:end] = matrix[tile:end, end:].T
    return matrix
