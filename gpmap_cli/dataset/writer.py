"""Writing a dataset file: under a temporary name, renamed when it is whole and right.

No time and no machine's path goes into the file, so the same contents give the same bytes. Metadata and
arrays carry checksums, so that a damaged file is refused rather than read wrongly.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpmap_cli.dataset.contents import FORMAT, FORMAT_VERSION, Dataset
from gpmap_cli.dataset.disk_genotypes import StoredGenotypes
from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.lasting_file import LastingFile
from gpmap_cli.dataset.values import GENOTYPE_TYPES, genotype_trouble, phenotype_trouble
from gpmap_cli.errors import InputError

_CHUNK_BYTES = 2**20
_MAX_PADDED_TEXT_BYTES = 2**28
_COMPRESSED = {"compression": "gzip", "compression_opts": 4, "fletcher32": True}
# Posterior probabilities of linked loci: twice as fast, and no larger, at the lowest level.
_COMPRESSED_PROBABILITIES = {**_COMPRESSED, "compression_opts": 1}


class DatasetWriter:
    """Writes genotypes block by block and everything else array by array; use it in a `with` block.

    Leaving the block without an error checks the file as a reader would and renames it to `path`; leaving
    it with one removes what was written. An existing file is refused unless `overwrite` is set. A number of
    samples of None is however many rows are appended.
    """

    def __init__(
        self, path: str | Path, shape: tuple[int | None, int], genotype_type: str, ploidy: int, overwrite: bool = False
    ) -> None:
        if genotype_type not in GENOTYPE_TYPES:
            raise ValueError(f"genotypes are stored as {' or '.join(GENOTYPE_TYPES)}, not {genotype_type}")
        self.path = Path(path)
        self._overwrite = overwrite
        num_samples, num_loci = shape
        if num_samples == 0 or num_loci < 1:
            raise self._empty(num_samples or 0, num_loci)
        refuse_existing(self.path, self._overwrite)
        with _writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", suffix=".part", dir=self.path.parent)
        self._temporary = Path(name)
        self._disk = LastingFile(handle)
        self._num_samples, self._num_loci, self._ploidy, self.num_rows = num_samples, num_loci, ploidy, 0
        try:
            with _writing(self.path, self._disk):
                self._file = _new_file(self._disk)
                self._file.attrs["format"] = FORMAT
                self._file.attrs["format_version"] = FORMAT_VERSION
                self._file.attrs["ploidy"] = ploidy
                row_bytes = num_loci * np.dtype(genotype_type).itemsize
                chunk_rows = max(1, _CHUNK_BYTES // row_bytes)
                self._genotypes = self._file.create_dataset(
                    "genotypes",
                    shape=(num_samples or 0, num_loci),
                    maxshape=(num_samples, num_loci),
                    dtype=genotype_type,
                    chunks=(chunk_rows if num_samples is None else min(num_samples, chunk_rows), num_loci),
                    shuffle=np.dtype(genotype_type).itemsize > 1,
                    **(_COMPRESSED if genotype_type == "int8" else _COMPRESSED_PROBABILITIES),
                )
        except BaseException:
            self._disk.close()
            self._temporary.unlink(missing_ok=True)
            raise

    def __enter__(self) -> DatasetWriter:
        return self

    def append_genotypes(self, block: NDArray) -> None:
        """The next rows of the genotype matrix, (rows, L); their type must not lose anything when stored."""
        if block.ndim != 2 or block.shape[1] != self._num_loci:
            raise ValueError(f"a block of genotypes has shape {block.shape}, not (rows, {self._num_loci})")
        end = self.num_rows + len(block)
        if self._num_samples is not None and end > self._num_samples:
            raise ValueError(f"more than the {self._num_samples} rows of genotypes that were announced")
        if not np.can_cast(block.dtype, self._genotypes.dtype, "same_kind"):
            raise TypeError(f"genotypes of type {block.dtype} would lose their values in {self._genotypes.dtype}")
        stored = block.astype(self._genotypes.dtype, copy=False)
        if block.dtype.kind == "i" and not np.array_equal(stored, block):
            raise ValueError(f"genotypes of type {block.dtype} hold values beyond {self._genotypes.dtype}")
        self._refuse("genotypes", genotype_trouble(stored, self._ploidy, self.num_rows))
        with _writing(self.path, self._disk):
            if self._num_samples is None:
                self._genotypes.resize(end, axis=0)
            self._genotypes[self.num_rows : end] = stored
        self.num_rows = end

    def put(self, name: str, values: ArrayLike) -> None:
        """An array under its path in the format, for instance `splits/paper` or `truth/noise_free`."""
        array = np.asarray(values)
        if name in ("phenotypes", "phenotype_std"):
            self._refuse(name, phenotype_trouble(array, is_std=name == "phenotype_std"))
        if array.dtype.kind in "OU":
            array = self._encoded(name, array)
        kind = h5py.check_string_dtype(array.dtype)
        *groups, last = name.split("/")
        with _writing(self.path, self._disk):
            group: h5py.Group = self._file
            for part in groups:
                group = group[part] if part in group else _new_group(group, part)
            if array.ndim == 0:
                _write_in_header(group, last, array)
            elif array.size == 0 or (kind is not None and kind.length is None):
                group.create_dataset(last, data=array)
            else:
                group.create_dataset(last, data=array, shuffle=kind is None, **_COMPRESSED)

    def describe(self, provenance: Mapping[str, str | int | float]) -> None:
        """What made the file, from what, citation and licence: attributes of the file."""
        with _writing(self.path, self._disk):
            for name, value in provenance.items():
                fits = not isinstance(value, int) or -(2**63) <= value < 2**63
                self._file.attrs[name] = value if fits else str(value)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with _writing(self.path, self._disk):
                self._file.close()
                self._disk.close()
            if kind is None:
                self._finish()
        finally:
            self._temporary.unlink(missing_ok=True)

    def _finish(self) -> None:
        if self.num_rows == 0:
            raise self._empty(0, self._num_loci)
        if self._num_samples not in (None, self.num_rows):
            raise ValueError(f"{self.num_rows} of {self._num_samples} genotype rows were written")
        try:
            DatasetFile(self._temporary).__exit__(None, None, None)
        except InputError as trouble:  # the temporary name would mean nothing to the user
            message = str(trouble).replace(str(self._temporary), str(self.path))
            raise InputError(message, trouble.problems[0].hint) from trouble
        refuse_existing(self.path, self._overwrite)
        with _writing(self.path):
            umask = os.umask(0)
            os.umask(umask)
            self._temporary.chmod(0o666 & ~umask)
            with self._temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            self._temporary.replace(self.path)

    def _empty(self, num_samples: int, num_loci: int) -> InputError:
        return InputError(
            f"{self.path}: `genotypes` is empty ({num_samples} samples x {num_loci} loci)",
            "a dataset file needs at least one sample and one locus",
        )

    def _refuse(self, name: str, trouble: str | None) -> None:
        if trouble:
            raise InputError(f"{self.path}: `{name}` {trouble}", "correct the values that go into the file")

    def _encoded(self, name: str, texts: NDArray) -> NDArray:
        """Texts as UTF-8 padded to one length, which compresses and carries a checksum; free-length if too wasteful."""
        try:
            encoded = [text.encode("utf-8") for text in texts.ravel().tolist()]
        except UnicodeEncodeError as trouble:
            raise InputError(
                f"{self.path}: `{name}` holds text that is not UTF-8 ({trouble})", "use UTF-8"
            ) from trouble
        if any(b"\0" in text for text in encoded):
            raise InputError(f"{self.path}: `{name}` holds a text with a zero byte in it", "remove the zero byte")
        length = max(1, *map(len, encoded)) if encoded else 1
        if length * len(encoded) > _MAX_PADDED_TEXT_BYTES:
            return np.array(texts, dtype=h5py.string_dtype("utf-8"))
        return np.array(encoded, dtype=h5py.string_dtype("utf-8", length)).reshape(texts.shape)


def refuse_existing(path: str | Path, overwrite: bool) -> None:
    """Refuse to write where something stands that is not to be replaced, before any work is done."""
    path = Path(path)
    with _writing(path):
        is_directory, exists = path.is_dir(), path.exists()
    if is_directory:
        raise InputError(f"{path}: this is a directory", "give the name of a file")
    if exists and not overwrite:
        raise InputError(f"{path}: the file is already there", "choose another name, or remove it first")


@contextmanager
def _writing(path: Path, disk: LastingFile | None = None) -> Iterator[None]:
    """Around what touches the disk: a full disk or a forbidden place is no fault of the program's."""
    try:
        yield
        if disk is not None and disk.trouble is not None:
            raise disk.trouble
    except OSError as trouble:
        reason = trouble.strerror or str(trouble)
        raise InputError(f"{path}: cannot be written ({reason})", "choose another place, or make room") from trouble


def _new_file(disk: LastingFile) -> h5py.File:
    """An empty HDF5 file without times, in the oldest layout with checksums over metadata (HDF5 1.10, of 2016)."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, disk)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    access.set_cache(0, 521, 4 * _CHUNK_BYTES, 0.75)
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    return h5py.File(h5py.h5f.create(b"a new dataset", h5py.h5f.ACC_TRUNC, creation, access))


def _new_group(parent: h5py.Group, name: str) -> h5py.Group:
    """A group that does not record when it was made, as h5py before 3.15 has them do."""
    creation = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    creation.set_obj_track_times(False)
    return h5py.Group(h5py.h5g.create(parent.id, name.encode(), gcpl=creation))


def _write_in_header(group: h5py.Group, name: str, value: NDArray) -> None:
    """A single value, kept in the header of its array: there a checksum covers it, and values alone have none."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.COMPACT)
    creation.set_obj_track_times(False)
    kind = h5py.h5t.py_create(value.dtype, logical=True)
    made = h5py.h5d.create(group.id, name.encode(), kind, h5py.h5s.create(h5py.h5s.SCALAR), creation)
    made.write(h5py.h5s.ALL, h5py.h5s.ALL, value)


def write_dataset(
    path: str | Path, dataset: Dataset, genotype_blocks: Iterable[NDArray] | None = None, overwrite: bool = False
) -> None:
    """Write a dataset whose arrays are in memory (`genotype_blocks` may stand in for its genotypes)."""
    shape = (dataset.num_samples, dataset.num_loci)
    with DatasetWriter(path, shape, dataset.genotypes.dtype.name, dataset.ploidy, overwrite) as writer:
        for block in genotype_blocks if genotype_blocks is not None else row_blocks(dataset.genotypes):
            writer.append_genotypes(block)
        put_all_but_genotypes(writer, dataset)


def row_blocks(genotypes: StoredGenotypes) -> Iterator[NDArray]:
    """Genotypes (N, L) in blocks of rows of about 16 MB."""
    num_rows = max(1, 2**24 // max(1, genotypes.shape[1] * genotypes.dtype.itemsize))
    for start in range(0, len(genotypes), num_rows):
        yield genotypes[start : start + num_rows]


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
