"""Reading a dataset file (HDF5, format version 1): the header first, genotypes in row blocks.

Opening reads and checks everything but the genotypes and phenotypes; a file that is wrong is refused with
the path inside the file that is wrong. Links that leave the file are refused: a dataset file is one file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import FORMAT, FORMAT_VERSION, Dataset, stays_true_of_other_loci
from gpmap_cli.dataset.hdf5 import Hdf5File, file_sha256, is_text, refuse_what_cannot_fit
from gpmap_cli.dataset.row_stream import RowStream
from gpmap_cli.dataset.values import GENOTYPE_TYPES, genotype_trouble, phenotype_trouble
from gpmap_cli.errors import InputError, did_you_mean

_MAKE_ANEW = "make the file again (`gpmap simulate`, `gpmap prepare`), or get an undamaged copy"
_BLOCK_BYTES = 2**24
_TRUTH_BY_ENVIRONMENT = ("noise_free", "noise_ceiling_r2")  # the last axis is the environments


class DatasetFile:
    """An open dataset file. Use it in a `with` block."""

    def __init__(self, path: str | Path, where_to_get_it: str | None = None) -> None:
        self.path = Path(path)
        self._inside = Hdf5File(
            self.path,
            absent_hint=where_to_get_it or "check the path; `gpmap simulate` and `gpmap prepare` make dataset files",
            kind_hint="a dataset file is HDF5; other formats are imported with `gpmap prepare`",
            damage_hint=_MAKE_ANEW,
        )
        try:
            self._read_header()
        except BaseException:
            self._inside.close()
            raise

    def __enter__(self) -> DatasetFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside.close()

    @property
    def num_samples(self) -> int:
        return int(self._genotypes.shape[0])

    @property
    def num_loci(self) -> int:
        return int(self._genotypes.shape[1])

    @property
    def genotype_type(self) -> np.dtype:
        """How genotypes are stored: int8 calls, float16 or float32 dosages."""
        return self._genotypes.dtype.newbyteorder("=")

    def row_blocks(self, num_rows: int | None = None) -> Iterator[tuple[slice, NDArray]]:
        """All genotypes, as (rows, block) with blocks of `num_rows` rows (by default about 16 MB each)."""
        for rows in self._row_spans(num_rows):
            yield rows, self._checked_genotypes(rows)

    def find_environments(self, names: tuple[str, ...] | None, key: str = "data.environments") -> NDArray[np.intp]:
        """Column numbers of the environments, in the order asked for by the setting `key`; None means all."""
        return self._find(names, self.environment_names, "environments/name", key)

    def find_loci(self, ids: tuple[str, ...] | None, key: str = "data.loci") -> NDArray[np.intp]:
        """Column numbers of the loci, in the order asked for by the setting `key`; None means all."""
        return self._find(ids, tuple(self.locus_ids.tolist()), "loci/id", key)

    def phenotypes(self) -> NDArray[np.float32]:
        """All phenotypes (N, E) in their own units; NaN where missing, or everywhere when the file has none."""
        table = self._float_table("phenotypes")
        return np.full((self.num_samples, len(self.environment_names)), np.nan, np.float32) if table is None else table

    def phenotype_std(self) -> NDArray[np.float32] | None:
        """Measurement errors (standard errors of the phenotypes), (N, E), NaN missing; None when the file has none."""
        return self._float_table("phenotype_std")

    def load(
        self,
        rows: NDArray[np.intp] | None = None,
        loci: NDArray[np.intp] | None = None,
        environments: NDArray[np.intp] | None = None,
    ) -> Dataset:
        """Read into memory: the given rows, locus columns and environment columns, each in the order given."""
        genotypes = self._load_genotypes(rows, loci)
        return replace(self.tables(rows, loci, environments), genotypes=genotypes)

    def stream(
        self,
        rows: NDArray[np.intp] | None = None,
        loci: NDArray[np.intp] | None = None,
        environments: NDArray[np.intp] | None = None,
    ) -> RowStream:
        """The same, to be read once in row blocks; the rows must ascend. To be used while the file is open."""
        num_loci = self.num_loci if loci is None else len(loci)
        num_rows = self.num_samples if rows is None else len(rows)

        def blocks() -> Iterator[NDArray]:
            for span in self._row_spans():
                if rows is None:
                    block = self._checked_genotypes(span)
                else:
                    wanted = rows[np.searchsorted(rows, span.start) : np.searchsorted(rows, span.stop)]
                    if not len(wanted):
                        continue
                    block = self._checked_genotypes(span)[wanted - span.start]
                yield block if loci is None else block[:, loci]

        return RowStream(
            (num_rows, num_loci),
            self.genotype_type.name,
            self.ploidy,
            blocks(),
            lambda _: self.tables(rows, loci, environments),
        )

    def tables(
        self,
        rows: NDArray[np.intp] | None = None,
        loci: NDArray[np.intp] | None = None,
        environments: NDArray[np.intp] | None = None,
    ) -> Dataset:
        """Everything but the genotypes of these rows, loci and environments; its `genotypes` are (N, 0)."""
        which = slice(None) if environments is None else environments
        std = self.phenotype_std()
        everything = Dataset(
            genotypes=np.empty((self.num_samples, 0), np.int8),
            phenotypes=self.phenotypes()[:, which],
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
        return everything if rows is None else everything.take_rows(rows)

    def sha256(self) -> str:
        """SHA-256 of the file's bytes."""
        return file_sha256(self.path)

    # -- the header ---------------------------------------------------------------------------------

    def _read_header(self) -> None:
        inside = self._inside
        self._check_format()
        self._genotypes = inside.get("genotypes", ndim=2)
        if self._genotypes.dtype.name not in GENOTYPE_TYPES:
            raise inside.wrong("genotypes", f"has type {self._genotypes.dtype}, not {' or '.join(GENOTYPE_TYPES)}")
        num_samples, num_loci = self._genotypes.shape
        if num_samples == 0 or num_loci == 0:
            raise inside.wrong("genotypes", f"is empty ({num_samples} samples x {num_loci} loci)")
        self.sample_ids: NDArray = inside.unique_strings("samples/id", num_samples, "samples")
        self.locus_ids: NDArray = inside.unique_strings("loci/id", num_loci, "loci")
        self.environment_names = self._environment_names()
        num_environments = len(self.environment_names)
        for name in ("phenotypes", "phenotype_std"):
            table = inside.find(name, shape=(num_samples, num_environments))
            if table is not None and table.dtype.kind != "f":
                raise inside.wrong(name, f"has type {table.dtype}, not a floating-point type")
        self.has_phenotype_std = inside.find("phenotype_std") is not None
        self.chromosomes: NDArray | None = None
        if inside.find("loci/chromosome") is not None:
            self.chromosomes = inside.strings("loci/chromosome", num_loci)
        self.positions: NDArray[np.int64] | None = None
        if inside.find("loci/position") is not None:
            self.positions = inside.numbers("loci/position", (num_loci,), "iu", np.int64)
        self.covariates = {
            name: inside.numbers(f"environments/covariate/{name}", (num_environments,), "fiu", np.float64)
            for name in inside.members("environments/covariate")
        }
        self.splits = {name: self._split(name) for name in inside.members("splits")}
        self.folds = {
            name: inside.numbers(f"folds/{name}", (num_samples,), "iu", np.int16) for name in inside.members("folds")
        }
        self._read_truth_header()

    def _check_format(self) -> None:
        attributes = self._inside.attributes()
        if attributes.pop("format", None) != FORMAT:
            raise InputError(
                f"{self.path}: not a gpmap dataset file (attribute `format` is not `{FORMAT}`)",
                "import it first: gpmap prepare source=arrays source.path=FILE out=DATASET.h5",
            )
        version = attributes.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise InputError(
                f"{self.path}: attribute `format_version` is {version!r}; this program reads {FORMAT_VERSION}",
                "use a newer gpmap, or make the file again with this one",
            )
        ploidy = attributes.pop("ploidy", None)
        if not isinstance(ploidy, int) or not 1 <= ploidy <= 16:
            raise InputError(f"{self.path}: attribute `ploidy` is {ploidy!r}, not a whole number 1..16", _MAKE_ANEW)
        self.ploidy = ploidy
        self.provenance = attributes

    def _environment_names(self) -> tuple[str, ...]:
        names = self._inside.find("environments/name", ndim=1)
        if names is None:
            if self._inside.find("phenotypes") is not None:
                raise self._inside.wrong("environments/name", "is missing, but there are `phenotypes`")
            return ()
        found = tuple(self._inside.unique_strings("environments/name", names.shape[0], "environments").tolist())
        if "" in found:
            raise self._inside.wrong("environments/name", "holds an empty name")
        return found

    def _split(self, name: str) -> NDArray[np.int8]:
        labels = self._inside.numbers(f"splits/{name}", (self.num_samples,), "iu", np.int64)
        if ((labels < 0) | (labels > 2)).any():
            raise self._inside.wrong(f"splits/{name}", "holds labels other than 0 train, 1 validation, 2 test")
        return labels.astype(np.int8)

    def _read_truth_header(self) -> None:
        """What is known of the truth: names of its arrays, and the noise ceiling (E,) if it is among them."""
        names = self._inside.arrays_below("truth")
        self.truth_names = tuple(name.removeprefix("truth/") for name in names)
        num_environments = len(self.environment_names)
        for name in names:
            self._inside.get(name)
        self._inside.find("truth/noise_free", shape=(self.num_samples, num_environments))
        self.noise_ceiling_r2: dict[str, float] = {}
        if "noise_ceiling_r2" in self.truth_names:
            ceiling = self._inside.numbers("truth/noise_ceiling_r2", (num_environments,), "f", np.float64)
            self.noise_ceiling_r2 = dict(zip(self.environment_names, ceiling.tolist(), strict=True))

    # -- the values ---------------------------------------------------------------------------------

    def _row_spans(self, num_rows: int | None = None) -> Iterator[slice]:
        if num_rows is None:
            num_rows = max(1, _BLOCK_BYTES // (self.num_loci * self._genotypes.dtype.itemsize))
            chunk = self._genotypes.chunks[0] if self._genotypes.chunks else 1
            num_rows = max(chunk, num_rows // chunk * chunk)  # a chunk is decompressed whole, and so only once
        for start in range(0, self.num_samples, num_rows):
            yield slice(start, min(start + num_rows, self.num_samples))

    def _checked_genotypes(self, rows: slice) -> NDArray:
        block = self._inside.read("genotypes", self._genotypes, rows)
        trouble = genotype_trouble(block, self.ploidy, rows.start)
        if trouble:
            raise self._inside.wrong("genotypes", trouble)
        return block

    def _load_genotypes(self, rows: NDArray[np.intp] | None, loci: NDArray[np.intp] | None) -> NDArray:
        num_loci = self.num_loci if loci is None else len(loci)
        num_rows = self.num_samples if rows is None else len(rows)
        refuse_what_cannot_fit(
            f"{self.path}: `genotypes`",
            num_rows * num_loci * self.genotype_type.itemsize,
            "take a part with data.num_samples or data.loci",
        )
        genotypes = np.empty((num_rows, num_loci), self.genotype_type)
        if rows is None:
            for span, block in self.row_blocks():
                genotypes[span] = block if loci is None else block[:, loci]
            return genotypes
        if len(rows) and (rows.min() < 0 or rows.max() >= self.num_samples):
            raise IndexError(f"rows {rows.min()}..{rows.max()} of a file of {self.num_samples} samples")
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        for span in self._row_spans():
            first, last = np.searchsorted(ascending, [span.start, span.stop])
            if first < last:
                block = self._checked_genotypes(span)[ascending[first:last] - span.start]
                genotypes[order[first:last]] = block if loci is None else block[:, loci]
        return genotypes

    def _float_table(self, name: str) -> NDArray[np.float32] | None:
        if self._inside.find(name) is None:
            return None
        table = self._inside.numbers(name, (self.num_samples, len(self.environment_names)), "f", np.float32)
        trouble = phenotype_trouble(table, is_std=name == "phenotype_std")
        if trouble:
            raise self._inside.wrong(name, trouble)
        return table

    def _truth(self, environments: NDArray[np.intp] | None, loci: NDArray[np.intp] | None) -> dict[str, NDArray]:
        """The simulated truth, as far as it is still true of a part of the loci or environments."""
        all_loci, all_environments = (
            chosen is None or np.array_equal(chosen, np.arange(count))
            for chosen, count in ((loci, self.num_loci), (environments, len(self.environment_names)))
        )
        found: dict[str, NDArray] = {}
        for name in self.truth_names:
            by_environment = name in _TRUTH_BY_ENVIRONMENT
            if by_environment or (all_environments and (all_loci or stays_true_of_other_loci(name))):
                node = self._inside.get(f"truth/{name}")
                found[name] = (
                    self._inside.strings(f"truth/{name}") if is_text(node) else self._inside.read(f"truth/{name}", node)
                )
                if by_environment and environments is not None:
                    found[name] = found[name][..., environments]
        return found

    def _find(self, wanted: tuple[str, ...] | None, present: tuple[str, ...], name: str, key: str) -> NDArray[np.intp]:
        if wanted is None:
            return np.arange(len(present))
        place = {one: number for number, one in enumerate(present)}
        for one in wanted:
            if one not in place:
                raise InputError(f"{self.path}: `{one}` is not in `{name}`", did_you_mean(one, present, f"{key}="))
        return np.array([place[one] for one in wanted], dtype=np.intp)
