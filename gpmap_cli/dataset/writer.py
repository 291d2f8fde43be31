"""Writing a dataset file: under a temporary name, renamed when it is whole and right.

No time and no machine's path goes into the file, so the same contents give the same bytes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpmap_cli.dataset.contents import FORMAT, FORMAT_VERSION, Dataset
from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.errors import InputError

_CHUNK_BYTES = 2**20


class DatasetWriter:
    """Writes genotypes block by block and everything else array by array; use it in a `with` block.

    Leaving the block without an error checks the file as a reader would and renames it to `path`; leaving
    it with one removes what was written. An existing file is refused unless `overwrite` is set.
    """

    def __init__(
        self, path: str | Path, shape: tuple[int, int], genotype_type: str, ploidy: int, overwrite: bool = False
    ) -> None:
        self.path = Path(path)
        if self.path.exists() and not overwrite:
            raise InputError(f"{self.path}: the file is already there", "choose another name, or remove it first")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", suffix=".part", dir=self.path.parent)
        except OSError as trouble:
            raise InputError(f"{self.path}: cannot be written ({trouble.strerror})", "choose another place") from trouble
        os.close(handle)
        self._temporary = Path(name)
        self._file = h5py.File(name, "w")
        self._file.attrs["format"] = FORMAT
        self._file.attrs["format_version"] = FORMAT_VERSION
        self._file.attrs["ploidy"] = ploidy
        num_samples, num_loci = shape
        row_bytes = max(1, num_loci * np.dtype(genotype_type).itemsize)
        self._genotypes = self._file.create_dataset(
            "genotypes",
            shape=shape,
            dtype=genotype_type,
            chunks=(max(1, min(num_samples, _CHUNK_BYTES // row_bytes)), num_loci),
            compression="gzip",
            compression_opts=4,
            shuffle=np.dtype(genotype_type).itemsize > 1,
        )
        self._num_rows = 0

    def __enter__(self) -> DatasetWriter:
        return self

    def append_genotypes(self, block: NDArray) -> None:
        """The next rows of the genotype matrix, (rows, L)."""
        self._genotypes[self._num_rows : self._num_rows + len(block)] = block
        self._num_rows += len(block)

    def put(self, name: str, values: ArrayLike) -> None:
        """An array under its path in the format, for instance `splits/paper` or `truth/noise_free`."""
        array = np.asarray(values)
        if array.dtype.kind in "OU":
            self._file.create_dataset(name, data=array.astype(object), dtype=h5py.string_dtype("utf-8"))
        elif array.ndim and array.size > 1024:
            self._file.create_dataset(name, data=array, compression="gzip", compression_opts=4, shuffle=True)
        else:
            self._file.create_dataset(name, data=array)

    def describe(self, provenance: Mapping[str, str | int | float]) -> None:
        """What made the file, from what, citation and licence: attributes of the file."""
        for name, value in provenance.items():
            self._file.attrs[name] = value

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
            if kind is None:
                self._finish()
        finally:
            self._temporary.unlink(missing_ok=True)

    def _finish(self) -> None:
        with DatasetFile(self._temporary) as written:
            if written.num_samples != self._num_rows:
                raise AssertionError(f"{self._num_rows} of {written.num_samples} genotype rows were written")
        umask = os.umask(0)
        os.umask(umask)
        self._temporary.chmod(0o666 & ~umask)
        with self._temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        self._temporary.replace(self.path)


def write_dataset(
    path: str | Path, dataset: Dataset, genotype_blocks: Iterable[NDArray] | None = None, overwrite: bool = False
) -> None:
    """Write a dataset whose arrays are in memory (`genotype_blocks` may stand in for its genotypes)."""
    with DatasetWriter(
        path, dataset.genotypes.shape, dataset.genotypes.dtype.name, dataset.ploidy, overwrite
    ) as writer:
        for block in genotype_blocks if genotype_blocks is not None else [dataset.genotypes]:
            writer.append_genotypes(block)
        put_all_but_genotypes(writer, dataset)


def put_all_but_genotypes(writer: DatasetWriter, dataset: Dataset) -> None:
    """Everything of the dataset that is not a genotype, in one order, so that equal contents give equal bytes."""
    writer.put("samples/id", dataset.sample_ids)
    writer.put("loci/id", dataset.locus_ids)
    if dataset.environment_names:
        writer.put("environments/name", np.array(dataset.environment_names, dtype=object))
        writer.put("phenotypes", dataset.phenotypes.astype(np.float32))
    if dataset.phenotype_std is not None:
        writer.put("phenotype_std", dataset.phenotype_std.astype(np.float32))
    if dataset.chromosomes is not None:
        writer.put("loci/chromosome", dataset.chromosomes)
    if dataset.positions is not None:
        writer.put("loci/position", dataset.positions.astype(np.int64))
    for group, arrays in (
        ("environments/covariate", dataset.covariates),
        ("splits", dataset.splits),
        ("folds", dataset.folds),
        ("truth", dataset.truth),
    ):
        for name in sorted(arrays):
            writer.put(f"{group}/{name}", arrays[name])
    writer.describe(dict(sorted(dataset.provenance.items())))


def with_provenance(dataset: Dataset, **facts: str | int | float) -> Dataset:
    """The dataset with more facts about its making."""
    return replace(dataset, provenance={**dataset.provenance, **facts})
