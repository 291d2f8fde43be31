"""Importing plain arrays: genotypes, and whatever else is there under the documented names.

`genotypes` (N, L) is all that must be there. `phenotypes` and `phenotype_std` (N, E), `sample_ids` (N,),
`locus_names`, `chromosome`, `position` (L,), `environment_names` (E,) and `cv_folds` (N,) are taken where they
are present; so are floating-point arrays of one value per environment, as covariates, and the texts `source`,
`citation`, `license` and `notes`. Positions that are not whole numbers of base pairs (centimorgans, unknown
ones) are left out with a line in the log, since nothing depends on them; anything else that is wrong is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.hdf5 import first_repeated
from gpmap_cli.dataset.values import phenotype_trouble
from gpmap_cli.errors import InputError, listing
from gpmap_cli.prepare.arrays.array_files import ArrayFile, open_arrays
from gpmap_cli.prepare.arrays.genotype_values import Genotypes, read_genotypes
from gpmap_cli.prepare.sources.arrays import Settings

_TEXTS = ("source", "citation", "license", "notes")
_ARRAYS = (
    "genotypes",
    "phenotypes",
    "phenotype_std",
    "sample_ids",
    "locus_names",
    "environment_names",
    "chromosome",
    "position",
    "cv_folds",
)


def read_arrays(source: Settings) -> tuple[Dataset, list[str]]:
    """The dataset (N samples, L loci, E environments) in the arrays, and lines that say what was found and kept."""
    if source.path is None:
        raise InputError("source.path is not set", "add source.path=FILE.h5 (or .npz, or a directory)")
    file = open_arrays(source.path)
    try:
        if "genotypes" not in file.names:
            raise file.wrong("genotypes", "is missing", f"found here: {listing(file.names) or 'no arrays'}")
        return _Import(file, read_genotypes(file, source.coding, source.ploidy)).dataset()
    finally:
        file.close()


@dataclass
class _Import:
    """One import: the file, its genotypes, and what it has said so far."""

    file: ArrayFile
    genotypes: Genotypes
    lines: list[str] = field(default_factory=list)

    def dataset(self) -> tuple[Dataset, list[str]]:
        file = self.file
        num_samples, num_loci = self.genotypes.stored.shape
        phenotypes, names = self._phenotypes(num_samples)
        num_environments = len(names)
        dataset = Dataset(
            genotypes=self.genotypes.stored,
            phenotypes=phenotypes,
            sample_ids=self._ids("sample_ids", num_samples, "samples"),
            locus_ids=self._ids("locus_names", num_loci, "loci"),
            environment_names=names,
            ploidy=self.genotypes.ploidy,
            phenotype_std=self._phenotype_std((num_samples, num_environments)),
            chromosomes=self._names("chromosome", num_loci, "loci"),
            positions=self._positions(num_loci),
            covariates=self._covariates(num_environments),
            folds=self._folds(num_samples),
            provenance=self._provenance(),
        )
        return dataset, [
            f"{file.path.resolve().name}: {file.kind} with {len(file.names)} arrays",
            f"{num_samples} samples x {num_loci} loci x {num_environments} environments,"
            f" ploidy {dataset.ploidy}, genotypes stored as {dataset.genotypes.dtype}",
            _share("missing genotypes", self.genotypes.num_missing, num_samples * num_loci),
            *self.genotypes.lines,
            _share("missing phenotypes", int(np.isnan(phenotypes).sum()), phenotypes.size),
            *self.lines,
            *self._left_out(dataset),
        ]

    def _phenotypes(self, num_samples: int) -> tuple[NDArray[np.float32], tuple[str, ...]]:
        """Phenotypes (N, E) and the names of the environments; all missing where there are only names."""
        table = self._table("phenotypes", num_samples)
        listed = self._names("environment_names", None if table is None else table.shape[1], "environments")
        if listed is None:
            count = 0 if table is None else table.shape[1]
            names = tuple(f"environment_{number}" for number in range(count))
            if count:
                self.lines.append(f"no environment_names: called {listing(names)}")
        else:
            names = tuple(self._unique("environment_names", listed, "environments").tolist())
            if "" in names:
                raise self.file.wrong("environment_names", "holds an empty name", "give every environment a name")
        if table is None:
            table = np.full((num_samples, len(names)), np.nan, np.float32)
        return table, names

    def _phenotype_std(self, shape: tuple[int, int]) -> NDArray[np.float32] | None:
        table = self._table("phenotype_std", shape[0], is_std=True)
        if table is not None and table.shape[1] != shape[1]:
            raise self.file.wrong(
                "phenotype_std", f"has {table.shape[1]} columns, but there are {shape[1]} environments"
            )
        return table

    def _table(self, name: str, num_samples: int, is_std: bool = False) -> NDArray[np.float32] | None:
        """A table of phenotypes (N, E); a single column may come as (N,)."""
        if name not in self.file.names:
            return None
        shape, dtype = self.file.layout(name)
        if dtype.kind not in "fiu":
            raise self.file.wrong(name, f"has type {dtype}, not a type of numbers")
        if len(shape) not in (1, 2):
            raise self.file.wrong(name, f"has shape {shape}, not 2 dimensions (samples, environments)")
        self._same_count(name, shape[0], num_samples, "samples")
        if 0 in shape:
            raise self.file.wrong(name, f"is empty (shape {shape})", "leave it out when there are no phenotypes")
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is refused as infinite
            table = self.file.read(name).reshape(num_samples, -1).astype(np.float32)
        trouble = phenotype_trouble(table, is_std)
        if trouble:
            raise self.file.wrong(name, trouble, "mark missing phenotypes with NaN")
        return table

    def _ids(self, name: str, count: int, of: str) -> NDArray:
        """Unique ids; row or column numbers, from 0, where there are none."""
        ids = self._names(name, count, of)
        if ids is None:
            self.lines.append(f"no {name}: {of} are numbered from 0")
            return np.array([str(number) for number in range(count)], dtype=object)
        return self._unique(name, ids, of)

    def _unique(self, name: str, ids: NDArray, of: str) -> NDArray:
        twice = first_repeated(ids)
        if twice is not None:
            raise self.file.wrong(name, f"holds `{twice}` more than once", f"{of} need unique names")
        return ids

    def _names(self, name: str, count: int | None, of: str) -> NDArray | None:
        """A list of names, (count,); whole numbers will do as names."""
        if name not in self.file.names:
            return None
        shape, dtype = self.file.layout(name)
        if dtype.kind not in "SUiu":
            raise self.file.wrong(name, f"has type {dtype}, not text")
        if len(shape) != 1:
            raise self.file.wrong(name, f"has shape {shape}, not 1 dimension")
        if count is not None:
            self._same_count(name, shape[0], count, of)
        names = self.file.read(name)
        names = np.array([str(one) for one in names.tolist()], dtype=object)
        if any("\0" in one for one in names):
            raise self.file.wrong(name, "holds a name with a zero byte in it", "remove the zero byte")
        return names

    def _positions(self, num_loci: int) -> NDArray[np.int64] | None:
        if "position" not in self.file.names:
            return None
        values = self._vector("position", num_loci, "loci", "fiu")
        if values.dtype.kind == "u":
            is_whole = values <= np.iinfo(np.int64).max
        else:
            with np.errstate(invalid="ignore"):
                is_whole = (values == np.rint(values)) & (np.abs(values.astype(np.float64)) < 2**62)
        if not is_whole.all():
            self.lines.append(
                f"position left out: {int((~is_whole).sum())} of {num_loci} are not whole numbers of base pairs"
            )
            return None
        return values.astype(np.int64)

    def _folds(self, num_samples: int) -> dict[str, NDArray[np.int16]]:
        if "cv_folds" not in self.file.names:
            return {}
        values = self._vector("cv_folds", num_samples, "samples", "fiu")
        with np.errstate(invalid="ignore"):
            fits = (values >= -(2**15)) & (values < 2**15) & (values == np.rint(values))
        if not fits.all():
            row = int(np.argmin(fits))
            raise self.file.wrong("cv_folds", f"holds {values[row]} at row {row}", "folds are small whole numbers")
        return {"cv_folds": values.astype(np.int16)}

    def _covariates(self, num_environments: int) -> dict[str, NDArray[np.float64]]:
        """Floating-point arrays of one value per environment, whatever they are called."""
        found = {}
        for name in self.file.names:
            if name in (*_ARRAYS, *_TEXTS) or name == "." or "/" in name or not self._is_array(name):
                continue
            shape, dtype = self.file.layout(name)
            if num_environments and shape == (num_environments,) and dtype.kind == "f":
                found[name] = self.file.read(name).astype(np.float64)
        return found

    def _provenance(self) -> dict[str, str | int | float]:
        """What the file says about its origin (attributes, or texts beside the arrays), and what pins it down."""
        said = dict(self.file.attributes)
        for name in set(_TEXTS) & set(self.file.names):
            if self._is_array(name):
                shape, dtype = self.file.layout(name)
                if dtype.kind in "SU" and shape in ((), (1,)):
                    said[name] = str(self.file.read(name).reshape(-1)[0])
        kept = {name: said[name].replace("\0", "") for name in _TEXTS if said.get(name)}
        return {
            "made_by": "gpmap prepare source=arrays",
            "source_file": self.file.path.resolve().name,
            "source_sha256": self.file.sha256(),
            **kept,
        }

    def _left_out(self, dataset: Dataset) -> list[str]:
        kept = {*_ARRAYS, *dataset.covariates, *(set(_TEXTS) & set(dataset.provenance))}
        left_out = [name for name in self.file.names if name not in kept]
        lines = [f"environment covariates: {listing(dataset.covariates)}"] if dataset.covariates else []
        return lines + ([f"left out {len(left_out)} other arrays: {listing(left_out)}"] if left_out else [])

    def _vector(self, name: str, count: int, of: str, kinds: str) -> NDArray:
        shape, dtype = self.file.layout(name)
        if dtype.kind not in kinds:
            raise self.file.wrong(name, f"has type {dtype}, not a type of numbers")
        if len(shape) != 1:
            raise self.file.wrong(name, f"has shape {shape}, not 1 dimension")
        self._same_count(name, shape[0], count, of)
        return self.file.read(name)

    def _same_count(self, name: str, count: int, wanted: int, of: str) -> None:
        if count != wanted:
            source = "phenotypes" if of == "environments" else "genotypes"
            raise self.file.wrong(name, f"has {count} entries, but `{source}` has {wanted} {of}")

    def _is_array(self, name: str) -> bool:
        try:
            self.file.layout(name)
        except InputError:  # a group, or something odd under a name that nothing asks for
            return False
        return True


def _share(what: str, part: int, whole: int) -> str:
    return f"{what}: {part} of {whole}" + (f" ({100 * part / whole:.2f} %)" if whole else "")
