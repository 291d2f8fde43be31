"""The deposited yeast data as a dataset: posterior genotype probabilities in order, phenotypes by environment.

Genotypes (N, L): probability of the RM allele, in `geno_data_*.txt(.gz)`, whose parts follow each other.
Phenotypes: `pheno_data_<environment>.txt`, fitness and its standard error; rows align with the genotype rows by
order. Source: Nguyen Ba et al. 2022, eLife 11:e73983, Dryad doi:10.5061/dryad.1rn8pk0vd.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.hdf5 import files_sha256
from gpmap_cli.errors import InputError, listing
from gpmap_cli.prepare.dryad.deposit_files import find_files
from gpmap_cli.prepare.dryad.genotypes import GenotypeText
from gpmap_cli.prepare.dryad.phenotypes import read_phenotype
from gpmap_cli.prepare.incoming import Incoming
from gpmap_cli.prepare.sources.dryad import Settings
from gpmap_cli.progress import Progress
from gpmap_cli.simulate.yeast_environments import ENVIRONMENTS
from gpmap_cli.simulate.yeast_settings import CHROMOSOMES

CHROMOSOME_NAMES = tuple(name.removeprefix("chr") for name in CHROMOSOMES)
CITATION = (
    "Nguyen Ba AN, Lawrence KR, Rego-Costa A, et al. Barcoded bulk QTL mapping reveals highly polygenic and epistatic"
    " architecture of complex traits in yeast. eLife 11:e73983 (2022). Data: Dryad, doi:10.5061/dryad.1rn8pk0vd"
)


@contextmanager
def read_deposit(settings: Settings, progress: Progress) -> Iterator[Incoming]:
    """The deposit at `settings.path`; genotypes are read while the result is used."""
    files = find_files(Path(str(settings.path)), settings.environments)
    deposit = _Deposit(settings, files.genotypes, files.phenotypes, files.lines)
    with progress("genotypes", deposit.text.num_bytes, "B") as advance:
        yield Incoming(
            (None, len(deposit.text.layout.loci)),
            "float16" if settings.genotypes == "posterior" else "int8",
            1,
            deposit.text.blocks(settings.genotypes, advance),
            deposit.tables,
            deposit.lines,
        )


@dataclass
class _Deposit:
    """The deposit, its phenotypes read and its genotypes opened."""

    settings: Settings
    genotype_files: list[Path]
    phenotype_files: dict[str, Path]
    lines: list[str]

    def __post_init__(self) -> None:
        self.text = GenotypeText(self.genotype_files)
        self._chromosomes = self._chromosomes_of_loci()
        self._phenotypes = {name: read_phenotype(path) for name, path in self.phenotype_files.items()}
        self._refuse_counts_that_never_agree()
        parts = len(self.genotype_files)
        layout = self.text.layout
        self.lines.append(
            f"genotypes in {parts} file{'s' * (parts > 1)}: {len(layout.loci)} SNPs on"
            f" {len(set(self._chromosomes))} chromosomes, {len(layout.separators)} separator columns"
        )
        self.lines += self._about_columns()
        if not self.phenotype_files:
            self.lines.append("warning: genotypes alone, without a single phenotype, as source.environments=[] asks")
        absent = [name for name in ENVIRONMENTS if name not in self.phenotype_files]
        if self.settings.environments is None and absent:
            self.lines.append(
                f"phenotypes of {len(self._phenotypes)} environments; of the published ones there is no"
                f" {listing(absent, 18)}"
            )

    def _about_columns(self) -> list[str]:
        """What the columns of the phenotype files, which go by position, were taken for."""
        names_of: dict[str, list[str]] = {}
        for name, phenotype in self._phenotypes.items():
            names_of.setdefault(phenotype.columns, []).append(name)
        lines = [f"phenotype files of {columns}: {listing(names, 18)}" for columns, names in names_of.items()]
        odd = [name for name, phenotype in self._phenotypes.items() if phenotype.counts_rows]
        if odd:
            lines.append(
                f"warning: fitness counts the rows, as an index does, in {listing(odd, 18)}: files of index and fitness"
                " alone need a header line"
            )
        return lines

    def tables(self, num_rows: int) -> Dataset:
        """Everything but the genotypes, of `num_rows` segregants."""
        names = tuple(self._phenotypes)
        columns = [phenotype.aligned(num_rows) for phenotype in self._phenotypes.values()]
        phenotypes = np.full((num_rows, len(names)), np.nan, np.float32)
        std = np.full((num_rows, len(names)), np.nan, np.float32)
        for place, column in enumerate(columns):
            phenotypes[:, place] = column.fitness
            if column.std is not None:
                std[:, place] = column.std
        trailing = [name for name, one in self._phenotypes.items() if len(one.fitness) > num_rows]
        if trailing:
            self.lines.append(f"one trailing row left out of the phenotypes of {listing(trailing, 18)}")
        counts = self.text.counts
        num_genotypes = num_rows * len(self.text.layout.loci)
        self.lines += [
            f"{num_rows} segregants x {len(self.text.layout.loci)} loci x {len(names)} environments",
            _share("missing genotypes", counts.num_missing, num_genotypes),
            _share("uncertain genotypes (probability between 0.1 and 0.9)", counts.num_uncertain, num_genotypes),
        ]
        self.lines += [_share(f"missing phenotypes {name}", _num_missing(phenotypes[:, place]), num_rows)
                       for place, name in enumerate(names)]  # fmt: skip
        return Dataset(
            genotypes=np.empty((num_rows, 0), np.int8),
            phenotypes=phenotypes,
            sample_ids=self._sample_ids(num_rows),
            locus_ids=_locus_ids(self._chromosomes),
            environment_names=names,
            ploidy=1,
            phenotype_std=std if any(column.std is not None for column in columns) else None,
            chromosomes=self._chromosomes,
            covariates=_temperatures(names),
            provenance={
                "made_by": f"gpmap prepare source=dryad source.genotypes={self.settings.genotypes}",
                "source_files": ", ".join(path.name for path in self._files()),
                "source_sha256": files_sha256(self._files()),
                "citation": CITATION,
                "notes": "genotypes: probability of the RM allele; phenotype_std: standard error of the fitness",
            },
        )

    def _chromosomes_of_loci(self) -> NDArray:
        layout = self.text.layout
        counts = layout.loci_per_chromosome
        if not len(layout.separators):
            counts = list(self.settings.loci_per_chromosome)
            if sum(counts) != len(layout.loci):
                raise InputError(
                    f"{self.genotype_files[0]}:1: {len(layout.loci)} SNPs, and source.loci_per_chromosome adds up to"
                    f" {sum(counts)}",
                    "set source.loci_per_chromosome=[...] for genotypes of other SNPs than the deposit's",
                )
        names = CHROMOSOME_NAMES
        if len(counts) != len(names):
            names = tuple(str(number) for number in range(1, len(counts) + 1))
        return np.repeat(np.array(names, dtype=object), counts)

    def _refuse_counts_that_never_agree(self) -> None:
        """Files whose numbers of rows differ by more than the one trailing row cannot belong together."""
        counts = {name: len(one.fitness) for name, one in self._phenotypes.items()}
        if not counts:
            return
        fewest, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        if counts[most] - counts[fewest] > 1:
            raise InputError(
                f"{self.phenotype_files[fewest]} has {counts[fewest]} rows and {self.phenotype_files[most]}"
                f" {counts[most]}",
                "rows align by order, so all phenotype files have as many rows (one trailing row more is tolerated)",
            )

    def _sample_ids(self, num_rows: int) -> NDArray:
        """The ids where all files agree on them; otherwise rows are numbered, since they align by order anyway."""
        numbers = np.array([str(number) for number in range(num_rows)], dtype=object)
        listed = {name: one.ids[:num_rows] for name, one in self._phenotypes.items() if one.ids is not None}
        if not listed:
            return numbers
        first, ids = next(iter(listed.items()))
        for name, others in listed.items():
            if others == ids:
                continue
            row = next(row for row, (one, other) in enumerate(zip(ids, others, strict=True)) if one != other)
            phenotype = self._phenotypes[name]
            if set(others) == set(ids):
                raise InputError(
                    f"{phenotype.path}:{phenotype.first_line + row}: the ids are those of"
                    f" {self._phenotypes[first].path.name} in another order",
                    "rows align by order: sort both files alike",
                )
            self.lines.append(f"ids differ between the phenotypes of {first} and {name}: samples are numbered")
            return numbers
        if len(set(ids)) < len(ids) or "" in ids:
            self.lines.append("ids of the phenotype files are not unique: samples are numbered")
            return numbers
        return np.array(ids, dtype=object)

    def _files(self) -> list[Path]:
        return [*self.genotype_files, *self.phenotype_files.values()]


def _locus_ids(chromosomes: NDArray) -> NDArray:
    """`IV:12`: the twelfth SNP of chromosome IV; the deposit's genotype files name no positions."""
    _, first, counts = np.unique(chromosomes, return_index=True, return_counts=True)
    within = np.concatenate([np.arange(count) for count in counts[np.argsort(first)]]) + 1
    return np.array([f"{name}:{number}" for name, number in zip(chromosomes, within, strict=True)], dtype=object)


def _temperatures(names: tuple[str, ...]) -> dict[str, NDArray[np.float64]]:
    """Degrees Celsius of the environments that are named after them; NaN for the others."""
    degrees = [float(name[:-1]) if re.fullmatch(r"\d+C", name) else np.nan for name in names]
    return {"temperature": np.array(degrees)} if not all(np.isnan(degrees)) else {}


def _num_missing(column: NDArray) -> int:
    return int(np.isnan(column).sum())


def _share(what: str, part: int, whole: int) -> str:
    return f"{what}: {part} of {whole} ({100 * part / whole:.2f} %)"
