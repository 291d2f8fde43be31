"""Genotyped samples, as the readers of called genotypes hand them over, on their way into a dataset file."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.hdf5 import file_sha256, files_sha256
from gpmap_cli.errors import InputError
from gpmap_cli.prepare.incoming import Incoming
from gpmap_cli.prepare.tables.phenotype_table import Joined, join, no_phenotypes, read_phenotypes
from gpmap_cli.prepare.tables.text_table import MISSING
from gpmap_cli.prepare.variants.genotype_settings import GenotypeFileSettings
from gpmap_cli.prepare.variants.locus_major import LocusMajor
from gpmap_cli.prepare.variants.locus_names import Loci

PLINK_MISSING = ("-9", "-9.0")  # beside the texts that are missing everywhere


@dataclass(frozen=True)
class Genotyped:
    """N samples genotyped at L loci: what was read, from which files, and the lines that say so.

    phenotypes are those that the files hold themselves, if they hold any.
    """

    files: tuple[Path, ...]
    sample_ids: list[str]
    loci: Loci
    genotypes: LocusMajor
    ploidy: int
    phenotypes: Joined | None
    lines: list[str]


def incoming(genotyped: Genotyped, settings: GenotypeFileSettings) -> Incoming:
    """The samples with the phenotypes that belong to them, ready to be written."""
    genotypes, num_samples, path = genotyped.genotypes, len(genotyped.sample_ids), genotyped.files[0]
    genotypes.finish()
    if genotypes.num_loci == 0:
        said = "; ".join(genotyped.lines)
        raise InputError(f"{path}: not a single locus to import ({said})", "check the file and the settings of source")
    joined = _phenotypes(genotyped, settings)
    ids, about_ids = genotyped.loci.ids()
    positions, about_positions = genotyped.loci.positions()
    provenance: dict[str, str | int | float] = {
        "made_by": f"gpmap prepare source={settings.name}",
        "source_file": ", ".join(file.name for file in genotyped.files),
        "source_sha256": files_sha256(genotyped.files),
    }
    if settings.phenotypes is not None:
        table = Path(settings.phenotypes)
        provenance |= {"phenotypes_file": table.name, "phenotypes_sha256": file_sha256(table)}
    tables = Dataset(
        genotypes=np.empty((num_samples, 0), np.int8),
        phenotypes=joined.phenotypes,
        sample_ids=np.array(genotyped.sample_ids, dtype=object),
        locus_ids=ids,
        environment_names=joined.environment_names,
        ploidy=genotyped.ploidy,
        phenotype_std=joined.phenotype_std,
        chromosomes=genotyped.loci.chromosomes,
        positions=positions,
        provenance=provenance,
    )
    lines = [
        *genotyped.lines,
        *about_ids,
        *about_positions,
        *joined.lines,
        f"{num_samples} samples x {genotypes.num_loci} loci x {len(joined.environment_names)} environments,"
        f" ploidy {genotyped.ploidy}, genotypes stored as {genotypes.genotype_type}",
        _share("missing genotypes", genotypes.num_missing, num_samples * genotypes.num_loci),
        *(
            [_share("missing phenotypes", int(np.isnan(joined.phenotypes).sum()), joined.phenotypes.size)]
            if joined.environment_names
            else []
        ),
    ]
    if genotyped.ploidy == 2 and settings.ploidy is None and not genotypes.has_heterozygotes:
        lines.append("not a single heterozygous call: if the samples are haploid, add source.ploidy=1")
    shape = (num_samples, genotypes.num_loci)
    return Incoming(shape, genotypes.genotype_type, genotyped.ploidy, genotypes.row_blocks(), lambda _: tables, lines)


def library(name: str, extra: str) -> Any:
    """A library that not everybody needs, and so is installed only where it is asked for."""
    try:
        return import_module(name)
    except (ImportError, ValueError) as trouble:  # ValueError: built for another NumPy
        raise InputError(
            f"the library `{name}`, which reads such files, cannot be imported ({trouble})",
            f"pip install 'gpmap-cli[{extra}]'",
        ) from trouble


def _phenotypes(genotyped: Genotyped, settings: GenotypeFileSettings) -> Joined:
    if settings.phenotypes is None:
        return genotyped.phenotypes or no_phenotypes(len(genotyped.sample_ids))
    missing = settings.missing
    if missing is None:
        missing = (*MISSING, *PLINK_MISSING) if settings.holds_phenotypes else MISSING
    table = read_phenotypes(
        Path(settings.phenotypes),
        sample_column=settings.sample_column,
        environments=settings.environments,
        missing=missing,
    )
    return join(table, genotyped.sample_ids)


def _share(what: str, part: int, whole: int) -> str:
    return f"{what}: {part} of {whole}" + (f" ({100 * part / whole:.2f} %)" if whole else "")
