"""`source=plink2`: a PLINK 2 fileset, PREFIX.pgen with PREFIX.pvar (or .pvar.zst) and PREFIX.psam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.variants.genotype_settings import GenotypeFileSettings


@dataclass(frozen=True)
class Settings(GenotypeFileSettings):
    """Hard calls, or dosages where the file has them, of any number of alleles at each variant."""

    example: ClassVar[str] = "PREFIX (of PREFIX.pgen, PREFIX.pvar and PREFIX.psam)"
    holds_phenotypes: ClassVar[bool] = True

    name: str = "plink2"


def prepare(settings: Settings, job: Job) -> list[str]:
    """Write the dataset file `job.out`."""
    from gpmap_cli.prepare.incoming import write_incoming
    from gpmap_cli.prepare.variants.genotyped import incoming
    from gpmap_cli.prepare.variants.plink2 import read_plink2

    return write_incoming(incoming(read_plink2(settings, job.progress), settings), job)
