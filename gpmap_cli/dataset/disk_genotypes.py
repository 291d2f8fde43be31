"""Genotypes that need more memory than they may have: rows in a scratch file, read when they are asked for."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.scratch import no_room, scratch_file


class _ScratchFile:
    """An open file that is closed when nothing refers to it any more."""

    def __init__(self, directory: Path, num_bytes: int | None) -> None:
        self.stream: IO[bytes] = scratch_file(directory, num_bytes)

    def __del__(self) -> None:
        if hasattr(self, "stream"):
            self.stream.close()


class DiskGenotypes:
    """Genotypes (N, L) in a file without a name, which ends with the program; indexed by rows like an array.

    rows are which rows of the file these are, columns which of its loci (None: all of them, of which there are
    `num_loci`). Rows are read with `pread` rather than mapped: what is read then is this process's memory and nothing
    else is.
    """

    ndim = 2

    def __init__(
        self,
        file: _ScratchFile,
        num_loci: int,
        dtype: np.dtype,
        rows: NDArray[np.intp],
        columns: NDArray[np.intp] | None = None,
    ) -> None:
        self._file, self._width, self._rows, self._columns, self.dtype = file, num_loci, rows, columns, dtype
        self.shape = (len(rows), num_loci if columns is None else len(columns))

    @classmethod
    def write(
        cls,
        directory: Path,
        blocks: Iterable[NDArray],
        num_loci: int,
        dtype: np.dtype,
        expected_rows: int | None = None,
    ) -> DiskGenotypes:
        """From row blocks, (rows, L); refused at once where N L genotypes of the expected N have no room."""
        num_rows = 0
        file = _ScratchFile(directory, None if expected_rows is None else expected_rows * num_loci * dtype.itemsize)
        try:
            for block in blocks:
                file.stream.write(np.ascontiguousarray(block, dtype).reshape(-1).view(np.uint8).data)
                num_rows += len(block)
            file.stream.flush()
        except OSError as trouble:
            raise no_room(directory, trouble) from trouble
        return cls(file, num_loci, dtype, np.arange(num_rows))

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, rows: NDArray[np.intp]) -> DiskGenotypes:
        """These rows, still on disk."""
        return DiskGenotypes(self._file, self._width, self.dtype, self._rows[rows], self._columns)

    def take_loci(self, columns: NDArray[np.intp]) -> DiskGenotypes:
        """These loci, still on disk."""
        chosen = columns if self._columns is None else self._columns[columns]
        return DiskGenotypes(self._file, self._width, self.dtype, self._rows, chosen)

    def __getitem__(self, key: NDArray | slice | tuple[NDArray | slice, NDArray | slice]) -> NDArray:
        """Values of these rows, (rows, L), or of these rows and columns; of several columns row block by row block."""
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        wanted = self._rows[rows]
        chosen = columns if self._columns is None else self._columns[columns]
        if isinstance(chosen, slice) and chosen == slice(None):
            return self._read(wanted)
        found = np.empty((len(wanted), len(np.arange(self._width)[chosen])), self.dtype)
        step = max(1, 2**24 // (self._width * self.dtype.itemsize))
        for start in range(0, len(wanted), step):
            found[start : start + step] = self._read(wanted[start : start + step])[:, chosen]
        return found

    def _read(self, wanted: NDArray[np.intp]) -> NDArray:
        """Rows of the file, whole; neighbours are read together."""
        found = np.empty((len(wanted), self._width), self.dtype)
        row_bytes = self._width * self.dtype.itemsize
        begins = np.flatnonzero(np.diff(wanted, prepend=-2) != 1)
        for begin, end in itertools.pairwise([*begins, len(wanted)]):
            view = found[begin:end].reshape(-1).view(np.uint8).data
            at = int(wanted[begin]) * row_bytes
            while len(view):
                count = os.preadv(self._file.stream.fileno(), [view], at)
                if count <= 0:
                    raise OSError("the scratch file of genotypes is shorter than what was written to it")
                view, at = view[count:], at + count
        return found


StoredGenotypes = NDArray | DiskGenotypes


def select_rows(genotypes: StoredGenotypes, rows: NDArray[np.intp]) -> StoredGenotypes:
    """Some samples: a copy in memory, or the same file seen through other rows."""
    return genotypes.take(rows) if isinstance(genotypes, DiskGenotypes) else genotypes[rows]


def select_loci(genotypes: StoredGenotypes, columns: NDArray[np.intp]) -> StoredGenotypes:
    """Some loci: a copy in memory, or the same file seen through other columns."""
    return genotypes.take_loci(columns) if isinstance(genotypes, DiskGenotypes) else genotypes[:, columns]
