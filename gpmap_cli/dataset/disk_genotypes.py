"""Genotypes that need more memory than they may have: rows in a scratch file, read when they are asked for."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.errors import InputError


class _ScratchFile:
    """An open file that is closed when nothing refers to it any more."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.stream: IO[bytes] = tempfile.TemporaryFile(prefix=".gpmap-genotypes.", dir=directory)  # noqa: SIM115

    def __del__(self) -> None:
        if hasattr(self, "stream"):
            self.stream.close()


class DiskGenotypes:
    """Genotypes (N, L) in a file without a name, which ends with the program; indexed by rows like an array.

    Rows are read with `pread` rather than mapped: what is read then is this process's memory and nothing else is.
    """

    ndim = 2

    def __init__(self, file: _ScratchFile, num_loci: int, dtype: np.dtype, rows: NDArray[np.intp]) -> None:
        self._file, self._rows, self.dtype = file, rows, dtype
        self.shape = (len(rows), num_loci)

    @classmethod
    def write(cls, directory: Path, blocks: Iterable[NDArray], num_loci: int, dtype: np.dtype) -> DiskGenotypes:
        """From row blocks, (rows, L); the file takes N L genotypes' room in the directory."""
        num_rows = 0
        try:
            file = _ScratchFile(directory)
            for block in blocks:
                file.stream.write(np.ascontiguousarray(block, dtype).reshape(-1).view(np.uint8).data)
                num_rows += len(block)
            file.stream.flush()
        except OSError as trouble:
            raise InputError(
                f"{directory}: no room for the genotypes that do not fit the memory limit"
                f" ({trouble.strerror or trouble})",
                "make room there, or raise memory_limit",
            ) from trouble
        return cls(file, num_loci, dtype, np.arange(num_rows))

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, rows: NDArray[np.intp]) -> DiskGenotypes:
        """These rows, still on disk."""
        return DiskGenotypes(self._file, self.shape[1], self.dtype, self._rows[rows])

    def __getitem__(self, key: NDArray | slice | tuple[NDArray | slice, NDArray | slice]) -> NDArray:
        """Values of these rows, (rows, L), or of these rows and columns; of several columns row block by row block."""
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        wanted = self._rows[rows]
        if isinstance(columns, slice) and columns == slice(None):
            return self._read(wanted)
        width = len(np.arange(self.shape[1])[columns])
        found = np.empty((len(wanted), width), self.dtype)
        step = max(1, 2**24 // (self.shape[1] * self.dtype.itemsize))
        for start in range(0, len(wanted), step):
            found[start : start + step] = self._read(wanted[start : start + step])[:, columns]
        return found

    def _read(self, wanted: NDArray[np.intp]) -> NDArray:
        """Rows of the file; neighbours are read together."""
        found = np.empty((len(wanted), self.shape[1]), self.dtype)
        row_bytes = self.shape[1] * self.dtype.itemsize
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
