"""The deposited yeast data as a dataset: posterior genotype probabilities in order, phenotypes by environment.

Genotypes (N, L): probability of the RM allele, in `geno_data_*.txt(.gz)`, whose parts follow each other.
Phenotypes: `pheno_data_<environment>.txt`, fitness and its standard error; rows align with the genotype rows by
order. Source: Nguyen Ba et al. 2022, eLife 11:e73983, Dryad doi:10.5061/dryad.1rn8pk0vd.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.hdf5 import file_sha256
from gpmap_cli.errors import InputError, did_you_mean, listing
from gpmap_cli.prepare.dryad.genotypes import GenotypeText
from gpmap_cli.prepare.dryad.phenotypes import read_phenotype
from gpmap_cli.prepare.incoming import Incoming
from gpmap_cli.prepare.sources.dryad import Settings
from gpmap_cli.progress import Progress

PUBLISHED_ORDER = (
    *("23C", "25C", "27C", "30C", "33C", "35C", "37C"),
    *("cu", "suloc", "ynb", "eth", "gu", "li", "mann", "mol", "raff", "sds", "4NQO"),
)
CHROMOSOMES = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV", "XV", "XVI")
CITATION = (
    "Nguyen Ba AN, Lawrence KR, Rego-Costa A, et al. Barcoded bulk QTL mapping reveals highly polygenic and epistatic"
    " architecture of complex traits in yeast. eLife 11:e73983 (2022). Data: Dryad, doi:10.5061/dryad.1rn8pk0vd"
)
_GENOTYPES = re.compile(r"geno_data(?:_(\d+))?\.txt(?:\.gz)?")
_PHENOTYPES = re.compile(r"pheno_data_(.+)\.txt(?:\.gz)?")
_HINT = "see gpmap prepare source=dryad --help for the files that belong into it"


@contextmanager
def read_deposit(settings: Settings, progress: Progress) -> Iterator[Incoming]:
    """The deposit in `settings.path`; genotypes are read while the result is used."""
    directory = Path(str(settings.path))
    found = _listed(directory)
    genotype_files = _genotype_files(directory, found)
    deposit = _Deposit(settings, directory, genotype_files, _phenotype_files(directory, found, settings.environments))
    with progress("genotypes", deposit.text.num_bytes, "B") as advance:
        yield Incoming(
            (None, len(deposit.text.layout.loci)),
            "float16" if settings.genotypes == "posterior" else "int8",
            1,
            deposit.text.blocks(settings.genotypes, advance),
            deposit.tables,
            deposit.lines,
        )


def _listed(directory: Path) -> list[Path]:
    if not directory.is_dir():
        what = "this is a file" if directory.exists() else "there is no such directory"
        raise InputError(f"{directory}: {what}", "source.path is the directory that holds the deposit's files")
    try:
        return sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except OSError as trouble:
        raise InputError(f"{directory}: cannot be read ({trouble.strerror})", "check the permissions") from trouble


def _genotype_files(directory: Path, found: list[Path]) -> list[Path]:
    """One file, or the parts 1 to k in order; a part that lacks or is there twice is refused."""
    parts: dict[int, Path] = {}
    for path in found:
        match = _GENOTYPES.fullmatch(path.name)
        if match is None:
            continue
        number = int(match[1] or 0)
        if number in parts:
            raise InputError(
                f"{directory}: {parts[number].name} and {path.name} are the same part", "leave only one of them there"
            )
        parts[number] = path
    if not parts:
        raise InputError(f"{directory}: no geno_data_*.txt.gz in it", _HINT)
    if 0 in parts and len(parts) > 1:
        raise InputError(
            f"{directory}: {parts[0].name} beside {len(parts) - 1} numbered parts",
            "leave either the whole file or its parts there",
        )
    numbers = sorted(parts)
    absent = [number for number in range(1, numbers[-1]) if number not in parts]
    if absent:
        raise InputError(
            f"{directory}: part {absent[0]} of the genotypes lacks, between {parts[numbers[0]].name} and"
            f" {parts[numbers[-1]].name}",
            "rows align by order, so every part must be there",
        )
    return [parts[number] for number in numbers]


def _phenotype_files(directory: Path, found: list[Path], wanted: tuple[str, ...] | None) -> dict[str, Path]:
    """The file of each environment, in the published order, others after them."""
    files: dict[str, Path] = {}
    for path in found:
        match = _PHENOTYPES.fullmatch(path.name)
        if match is None:
            continue
        if match[1] in files:
            raise InputError(
                f"{directory}: {files[match[1]].name} and {path.name} are the same environment",
                "leave only one of them there",
            )
        files[match[1]] = path
    if wanted is not None:
        for name in wanted:
            if name not in files:
                raise InputError(
                    f"{directory}: no pheno_data_{name}.txt in it",
                    did_you_mean(name, files, "source.environments=") if files else _HINT,
                )
        return {name: files[name] for name in wanted}
    ordered = [name for name in PUBLISHED_ORDER if name in files]
    return {name: files[name] for name in [*ordered, *sorted(set(files) - set(ordered))]}


@dataclass
class _Deposit:
    """The deposit, its phenotypes read and its genotypes opened."""

    settings: Settings
    directory: Path
    genotype_files: list[Path]
    phenotype_files: dict[str, Path]
    lines: list[str] = field(default_factory=list)

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
        absent = [name for name in PUBLISHED_ORDER if name not in self.phenotype_files]
        if self.settings.environments is None and absent:
            self.lines.append(
                f"phenotypes of {len(self._phenotypes)} environments; of the published ones there is no"
                f" {listing(absent, 18)}"
            )

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
                "source_sha256": self._sha256(),
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
        names = CHROMOSOMES if len(counts) == len(CHROMOSOMES) else tuple(str(i + 1) for i in range(len(counts)))
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

    def _sha256(self) -> str:
        """SHA-256 of what `sha256sum` prints of these files in this order."""
        lines = [f"{file_sha256(path)}  {path.name}\n" for path in self._files()]
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


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
