"""Genotypes by locus, as pruning reads them: from a matrix in memory, or from a scratch file for any size."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.scratch import no_room, scratch_file

TILE = 64  # loci read together
_BLOCK_BYTES = 2**27


class Loci(Protocol):
    """Genotypes of n samples at L loci, read locus by locus in the type they are stored in."""

    num_loci: int

    def take(self, columns: NDArray[np.intp]) -> NDArray:
        """Genotypes (loci, n) at these loci."""


class MatrixLoci:
    """The rows of a genotype matrix (N, L) in memory that decide."""

    def __init__(self, genotypes: NDArray, rows: NDArray[np.intp] | None = None) -> None:
        self._genotypes, self._rows = genotypes, rows
        self.num_loci = genotypes.shape[1]

    def take(self, columns: NDArray[np.intp]) -> NDArray:
        picked = self._genotypes[:, columns]  # first by column: the result is small
        return np.ascontiguousarray((picked if self._rows is None else picked[self._rows]).T)


class ScratchLoci:
    """Genotypes appended by rows and read back by loci, in a file without a name that ends with the program.

    The file holds row blocks; in each the genotypes lie by tiles of loci, and in a tile by locus. Reading a locus
    or a tile takes one read per row block, and no more of the file is ever in this process's memory.
    """

    def __init__(self, directory: Path, num_loci: int, genotype_type: str, expected_rows: int | None = None) -> None:
        self.num_loci = num_loci
        self._type = np.dtype(genotype_type)
        self._rows_per_block = max(TILE, _BLOCK_BYTES // (num_loci * self._type.itemsize))
        self._waiting: list[NDArray] = []
        self._blocks: list[tuple[int, int]] = []  # where a row block begins in the file, and how many rows it has
        self._end = 0
        self.decide_by(None)
        expected = None if expected_rows is None else expected_rows * num_loci * self._type.itemsize
        self._file = scratch_file(directory, expected)
        self._directory = directory

    def __enter__(self) -> ScratchLoci:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def num_rows(self) -> int:
        return sum(rows for _, rows in self._blocks) + sum(map(len, self._waiting))

    def append(self, block: NDArray) -> None:
        """The next rows, (rows, L)."""
        self._waiting.append(block)
        while sum(map(len, self._waiting)) >= self._rows_per_block:
            self._write(self._rows_per_block)

    def finish(self) -> None:
        """No more rows will come."""
        if self._waiting:
            self._write(self._rows_per_block)

    def decide_by(self, rows: NDArray[np.bool_] | None) -> None:
        """Which samples (a mask over all of them) `take` reads; None: all."""
        self._deciding = rows

    def take(self, columns: NDArray[np.intp]) -> NDArray:
        parts = []
        first = 0
        for number, (_, num_rows) in enumerate(self._blocks):
            part = self._read(number, columns)
            if self._deciding is not None:
                part = part[:, self._deciding[first : first + num_rows]]
            parts.append(part)
            first += num_rows
        return np.concatenate(parts, axis=1)

    def row_blocks(self, columns: NDArray[np.intp]) -> Iterator[NDArray]:
        """All samples at these loci, as (rows, loci) block by block."""
        for number in range(len(self._blocks)):
            yield np.ascontiguousarray(self._read(number, columns).T)

    def _write(self, at_most: int) -> None:
        whole = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting)
        block, rest = whole[:at_most], whole[at_most:]
        self._waiting = [rest] if len(rest) else []
        try:
            self._file.seek(self._end)
            for start in range(0, self.num_loci, TILE):
                self._file.write(np.ascontiguousarray(block[:, start : start + TILE].T, self._type).data)
            self._file.flush()
        except OSError as trouble:
            raise no_room(self._directory, trouble) from trouble
        self._blocks.append((self._end, len(block)))
        self._end += block.size * self._type.itemsize

    def _read(self, number: int, columns: NDArray[np.intp]) -> NDArray:
        """These loci (ascending) of one row block, (loci, rows): neighbours are read together."""
        offset, num_rows = self._blocks[number]
        row_bytes = num_rows * self._type.itemsize
        found = np.empty((len(columns), num_rows), self._type)
        begins = np.flatnonzero(np.diff(columns, prepend=-2) != 1)
        for begin, end in itertools.pairwise([*begins, len(columns)]):
            view = found[begin:end].reshape(-1).view(np.uint8).data
            at = offset + int(columns[begin]) * row_bytes
            while len(view):
                count = os.preadv(self._file.fileno(), [view], at)
                if count <= 0:
                    raise OSError("the scratch file is shorter than what was written to it")
                view, at = view[count:], at + count
        return found
