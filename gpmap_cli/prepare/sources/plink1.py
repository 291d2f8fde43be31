"""`source=plink1`: a PLINK 1 fileset, PREFIX.bed with PREFIX.bim and PREFIX.fam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.variants.genotype_settings import GenotypeFileSettings


@dataclass(frozen=True)
class Settings(GenotypeFileSettings):
    """Hard calls of two alleles at each variant."""

    example: ClassVar[str] = "PREFIX (of PREFIX.bed, PREFIX.bim and PREFIX.fam)"
    holds_phenotypes: ClassVar[bool] = True

    name: str = "plink1"
    counted_allele: Literal["a1", "a2"] = "a1"


def prepare(settings: Settings, job: Job) -> list[str]:
    """Write the dataset file `job.out`."""
    from gpmap_cli.prepare.incoming import write_incoming
    from gpmap_cli.prepare.variants.genotyped import incoming
    from gpmap_cli.prepare.variants.plink1 import read_plink1

    return write_incoming(incoming(read_plink1(settings, job.progress), settings), job)
