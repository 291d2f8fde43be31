"""`source=vcf`: variant calls as VCF text, plain or compressed, or as BCF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.variants.genotype_settings import GenotypeFileSettings


@dataclass(frozen=True)
class Settings(GenotypeFileSettings):
    """Called genotypes, dosages or genotype probabilities of any number of alleles at each variant."""

    example: ClassVar[str] = "FILE.vcf (or FILE.vcf.gz, or FILE.bcf)"
    holds_phenotypes: ClassVar[bool] = False

    name: str = "vcf"
    field: Literal["GT", "DS", "GP"] = "GT"
    pass_only: bool = False


def prepare(settings: Settings, job: Job) -> list[str]:
    """Write the dataset file `job.out`."""
    from gpmap_cli.prepare.incoming import write_incoming
    from gpmap_cli.prepare.variants.genotyped import incoming
    from gpmap_cli.prepare.variants.vcf import read_vcf

    return write_incoming(incoming(read_vcf(settings, job.progress), settings), job)
