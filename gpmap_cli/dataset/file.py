"""Reading a dataset file (HDF5, format version 1): the header first, genotypes in row blocks.

Opening reads and checks everything but the genotypes and phenotypes; a file that is wrong is refused with
the path inside the file that is wrong. Links that leave the file are refused: a dataset file is one file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import FORMAT, FORMAT_VERSION, MISSING, Dataset
from gpmap_cli.errors import InputError, did_you_mean

GENOTYPE_TYPES = ("int8", "float16", "float32")
_MAKE_ANEW = "make the file again (`gpmap simulate`, `gpmap prepare`), or get an undamaged copy"


class DatasetFile:
    """An open dataset file. Use it in a `with` block."""

    def __init__(self, path: str | Path, where_to_get_it: str | None = None) -> None:
        self.path = Path(path)
        self._file = _open(self.path, where_to_get_it)
        try:
            self._read_header()
        except (OSError, RuntimeError, UnicodeError, KeyError, TypeError, ValueError) as trouble:
            self._file.close()
            if isinstance(trouble, InputError):
                raise
            raise InputError(f"{self.path}: the file is damaged ({trouble})", _MAKE_ANEW) from trouble

    def __enter__(self) -> DatasetFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def num_samples(self) -> int:
        return self._genotypes.shape[0]

    @property
    def num_loci(self) -> int:
        return self._genotypes.shape[1]

    def row_blocks(self, num_rows: int | None = None) -> Iterator[tuple[slice, NDArray]]:
        """All genotypes, as (rows, block) with blocks of `num_rows` rows (by default about 16 MB each)."""
        if num_rows is None:
            num_rows = max(1, 2**24 // max(1, self.num_loci * self._genotypes.dtype.itemsize))
            chunk = self._genotypes.chunks[0] if self._genotypes.chunks else 1
            num_rows = max(chunk, num_rows // chunk * chunk)
        for start in range(0, self.num_samples, num_rows):
            rows = slice(start, min(start + num_rows, self.num_samples))
            yield rows, self._checked_genotypes(rows)

    def find_environments(self, names: tuple[str, ...] | None) -> NDArray[np.intp]:
        """Column numbers of the environments, in the order asked for; None means all."""
        return self._find(names, self.environment_names, "environments/name", "data.environments")

    def find_loci(self, ids: tuple[str, ...] | None) -> NDArray[np.intp]:
        """Column numbers of the loci, in the order asked for; None means all."""
        return self._find(ids, tuple(self.locus_ids.tolist()), "loci/id", "data.loci")

    def load(
        self,
        rows: NDArray[np.intp] | None = None,
        loci: NDArray[np.intp] | None = None,
        environments: NDArray[np.intp] | None = None,
    ) -> Dataset:
        """Read into memory: the given rows (ascending), locus columns and environment columns."""
        num_loci = self.num_loci if loci is None else len(loci)
        num_rows = self.num_samples if rows is None else len(rows)
        self._refuse_what_cannot_fit(num_rows * num_loci * self._genotypes.dtype.itemsize)
        genotypes = np.empty((num_rows, num_loci), self._genotypes.dtype)
        filled = 0
        for span, block in self.row_blocks():
            wanted = slice(None) if rows is None else rows[(rows >= span.start) & (rows < span.stop)] - span.start
            chosen = block[wanted] if loci is None else block[wanted][:, loci]
            genotypes[filled : filled + len(chosen)] = chosen
            filled += len(chosen)
        which = slice(None) if environments is None else environments
        num_environments = len(self.environment_names)
        phenotypes = self._float_table("phenotypes", num_environments)
        std = self._float_table("phenotype_std", num_environments) if "phenotype_std" in self._file else None
        everything = Dataset(
            genotypes=np.empty((self.num_samples, 0), np.int8),
            phenotypes=phenotypes[:, which],
            sample_ids=self.sample_ids,
            locus_ids=self.locus_ids if loci is None else self.locus_ids[loci],
            environment_names=tuple(np.array(self.environment_names, dtype=object)[which].tolist()),
            ploidy=self.ploidy,
            phenotype_std=None if std is None else std[:, which],
            chromosomes=self.chromosomes if loci is None or self.chromosomes is None else self.chromosomes[loci],
            positions=self.positions if loci is None or self.positions is None else self.positions[loci],
            covariates={name: values[which] for name, values in self.covariates.items()},
            splits=self.splits,
            folds=self.folds,
            truth=self._truth(environments, loci),
            provenance=self.provenance,
        )
        if rows is not None:
            everything = everything.take_rows(rows)
        return replace(everything, genotypes=genotypes)

    def sha256(self) -> str:
        """SHA-256 of the file's bytes."""
        digest = hashlib.sha256()
        with self.path.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
        return digest.hexdigest()

    # -- the header ---------------------------------------------------------------------------------

    def _read_header(self) -> None:
        self._check_format()
        self._genotypes = self._dataset("genotypes", ndim=2)
        if self._genotypes.dtype.name not in GENOTYPE_TYPES:
            raise self._wrong("genotypes", f"has type {self._genotypes.dtype}, not {' or '.join(GENOTYPE_TYPES)}")
        num_samples, num_loci = self._genotypes.shape
        if num_samples == 0 or num_loci == 0:
            raise self._wrong("genotypes", f"is empty ({num_samples} samples x {num_loci} loci)")
        self.sample_ids = self._ids("samples/id", num_samples, "samples")
        self.locus_ids = self._ids("loci/id", num_loci, "loci")
        self.environment_names = self._environment_names()
        num_environments = len(self.environment_names)
        for name in ("phenotypes", "phenotype_std"):
            if name in self._file:
                table = self._dataset(name, shape=(num_samples, num_environments))
                if table.dtype.kind != "f":
                    raise self._wrong(name, f"has type {table.dtype}, not a floating-point type")
        self.chromosomes = self._optional_strings("loci/chromosome", num_loci)
        self.positions = self._optional_numbers("loci/position", num_loci, "iu", np.int64)
        self.covariates = {
            name: self._numbers(f"environments/covariate/{name}", num_environments, "fiu", np.float64)
            for name in self._members("environments/covariate")
        }
        self.splits = {name: self._split(name, num_samples) for name in self._members("splits")}
        self.folds = {
            name: self._numbers(f"folds/{name}", num_samples, "iu", np.int16) for name in self._members("folds")
        }

    def _check_format(self) -> None:
        attributes = self._file.attrs
        if attributes.get("format") != FORMAT:
            raise InputError(
                f"{self.path}: not a gpmap dataset file (attribute `format` is not `{FORMAT}`)",
                "import it first: gpmap prepare source=arrays source.path=FILE out=DATASET.h5",
            )
        version = attributes.get("format_version")
        if not isinstance(version, (int, np.integer)) or version != FORMAT_VERSION:
            raise InputError(
                f"{self.path}: attribute `format_version` is {version!r}; this program reads {FORMAT_VERSION}",
                "use a newer gpmap, or make the file again with this one",
            )
        ploidy = attributes.get("ploidy")
        if not isinstance(ploidy, (int, np.integer)) or not 1 <= ploidy <= 16:
            raise InputError(f"{self.path}: attribute `ploidy` is {ploidy!r}, not a whole number from 1", _MAKE_ANEW)
        self.ploidy = int(ploidy)
        self.provenance: dict[str, str | int | float] = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in attributes.items()
            if name not in ("format", "format_version", "ploidy") and isinstance(value, (str, int, float, np.generic))
        }

    def _wrong(self, name: str, what: str) -> InputError:
        return InputError(f"{self.path}: `{name}` {what}", _MAKE_ANEW)

    def _dataset(self, name: str, ndim: int | None = None, shape: tuple[int, ...] | None = None) -> h5py.Dataset:
        node: h5py.Group = self._file
        *groups, last = name.split("/")
        for part in [*groups, last]:
            link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
            if link is None:
                raise self._wrong(name, "is missing")
            if not isinstance(link, h5py.HardLink):
                raise self._wrong(name, "is a link, and links are not followed")
            node = node[part]
        if not isinstance(node, h5py.Dataset):
            raise self._wrong(name, "is not an array")
        if node.is_virtual or node.external:
            raise self._wrong(name, "keeps its values in another file")
        if shape is not None and node.shape != shape:
            raise self._wrong(name, f"has shape {node.shape}, not {shape} as `genotypes` and the names require")
        if ndim is not None and len(node.shape or ()) != ndim:
            raise self._wrong(name, f"has shape {node.shape}, not {ndim} dimensions")
        return node

    def _members(self, group: str) -> list[str]:
        if group not in self._file:
            return []
        node = self._file[group]
        if not isinstance(node, h5py.Group):
            raise self._wrong(group, "is not a group")
        return sorted(node)

    def _ids(self, name: str, count: int, of: str) -> NDArray[np.str_]:
        ids = self._strings(name, count)
        if len(set(ids.tolist())) < len(ids):
            seen: set[str] = set()
            twice = next(one for one in ids.tolist() if one in seen or seen.add(one))
            raise self._wrong(name, f"holds `{twice}` more than once; {of} need unique ids")
        return ids

    def _strings(self, name: str, count: int) -> NDArray[np.str_]:
        node = self._dataset(name, shape=(count,))
        if h5py.check_string_dtype(node.dtype) is None:
            raise self._wrong(name, f"has type {node.dtype}, not text")
        return node.asstr("utf-8")[...].astype(object) if count else np.empty(0, object)

    def _environment_names(self) -> tuple[str, ...]:
        if "environments/name" not in self._file:
            if "phenotypes" in self._file:
                raise self._wrong("environments/name", "is missing, but there are `phenotypes`")
            return ()
        count = self._dataset("environments/name", ndim=1).shape[0]
        return tuple(self._ids("environments/name", count, "environments").tolist())

    def _optional_strings(self, name: str, count: int) -> NDArray[np.str_] | None:
        return self._strings(name, count) if name in self._file else None

    def _optional_numbers(self, name: str, count: int, kinds: str, dtype: type) -> NDArray | None:
        return self._numbers(name, count, kinds, dtype) if name in self._file else None

    def _numbers(self, name: str, count: int, kinds: str, dtype: type) -> NDArray:
        node = self._dataset(name, shape=(count,))
        if node.dtype.kind not in kinds:
            raise self._wrong(name, f"has type {node.dtype}, not {np.dtype(dtype)}")
        return node[...].astype(dtype)

    def _split(self, name: str, num_samples: int) -> NDArray[np.int8]:
        labels = self._numbers(f"splits/{name}", num_samples, "iu", np.int64)
        if ((labels < 0) | (labels > 2)).any():
            raise self._wrong(f"splits/{name}", "holds labels other than 0 train, 1 validation, 2 test")
        return labels.astype(np.int8)

    # -- the values ---------------------------------------------------------------------------------

    def _checked_genotypes(self, rows: slice) -> NDArray:
        try:
            block = self._genotypes[rows]
        except OSError as trouble:
            raise self._wrong("genotypes", f"cannot be read at rows {rows.start}-{rows.stop - 1} ({trouble})") from trouble
        if block.dtype == np.int8:
            bad = (block < MISSING) | (block > self.ploidy)
        else:
            bad = ~np.isnan(block) & ~((block >= 0) & (block <= self.ploidy))
        if bad.any():
            row, locus = np.argwhere(bad)[0]
            raise self._wrong(
                "genotypes",
                f"holds {block[row, locus]} at row {rows.start + row}, locus {locus};"
                f" only 0..{self.ploidy} or missing may stand there",
            )
        return block

    def _float_table(self, name: str, num_environments: int) -> NDArray[np.float32]:
        if name not in self._file:
            return np.empty((self.num_samples, num_environments), np.float32)
        try:
            table = self._file[name][...].astype(np.float32)
        except OSError as trouble:
            raise self._wrong(name, f"cannot be read ({trouble})") from trouble
        if np.isinf(table).any():
            row, column = np.argwhere(np.isinf(table))[0]
            raise self._wrong(name, f"holds an infinite value at row {row}, environment {column}")
        return table

    def _truth(self, environments: NDArray[np.intp] | None, loci: NDArray[np.intp] | None) -> dict[str, NDArray]:
        """The simulated truth; of a part of the loci or environments only the noise ceiling is still true."""
        if "truth" not in self._file:
            return {}
        found: dict[str, NDArray] = {}

        def visit(name: str, node: h5py.Group | h5py.Dataset) -> None:
            if isinstance(node, h5py.Dataset):
                self._dataset(f"truth/{name}")
                found[name] = node[...]

        self._file["truth"].visititems(visit)
        if "noise_ceiling_r2" in found:
            self._dataset("truth/noise_ceiling_r2", shape=(len(self.environment_names),))
        whole = all(
            chosen is None or np.array_equal(chosen, np.arange(count))
            for chosen, count in ((loci, self.num_loci), (environments, len(self.environment_names)))
        )
        if not whole:
            found = {name: array for name, array in found.items() if name == "noise_ceiling_r2"}
            if environments is not None and found:
                found["noise_ceiling_r2"] = found["noise_ceiling_r2"][environments]
        return found

    def _find(self, wanted: tuple[str, ...] | None, present: tuple[str, ...], name: str, key: str) -> NDArray[np.intp]:
        if wanted is None:
            return np.arange(len(present))
        place = {one: number for number, one in enumerate(present)}
        for one in wanted:
            if one not in place:
                raise InputError(f"{self.path}: `{one}` is not in `{name}`", did_you_mean(one, present, f"{key}="))
        return np.array([place[one] for one in wanted], dtype=np.intp)

    def _refuse_what_cannot_fit(self, num_bytes: int) -> None:
        try:
            physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (ValueError, OSError, AttributeError):
            return
        if num_bytes > 0.9 * physical:
            raise InputError(
                f"{self.path}: these genotypes need {num_bytes / 2**30:.1f} GB of memory and the machine has"
                f" {physical / 2**30:.1f} GB",
                "take a part with data.num_samples or data.loci",
            )


def _open(path: Path, where_to_get_it: str | None) -> h5py.File:
    if not path.exists():
        raise InputError(
            f"{path}: there is no such file", where_to_get_it or "check the path; `gpmap simulate` and `gpmap prepare` make dataset files"
        )
    if path.is_dir():
        raise InputError(f"{path}: this is a directory, not a dataset file", "name the .h5 file inside it")
    try:
        with path.open("rb") as stream:
            stream.read(1)
    except OSError as trouble:
        raise InputError(f"{path}: cannot be read ({trouble.strerror})", "check the file's permissions") from trouble
    try:
        return h5py.File(path, "r")
    except OSError as trouble:
        if "truncated" in str(trouble):
            raise InputError(f"{path}: the file is truncated ({trouble})", _MAKE_ANEW) from trouble
        raise InputError(
            f"{path}: not a readable HDF5 file ({trouble})",
            "a dataset file is HDF5; other formats are imported with `gpmap prepare`",
        ) from trouble
