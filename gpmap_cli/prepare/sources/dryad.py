"""`source=dryad`: the yeast data as deposited, about 100,000 segregants in 18 environments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gpmap_cli.errors import Problem
from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.source_settings import SourceSettings
from gpmap_cli.settings import Rule, setting
from gpmap_cli.simulate.yeast_settings import CHROMOSOMES

LOCI_PER_CHROMOSOME = tuple(num_snps for _, num_snps in CHROMOSOMES.values())  # as deposited, I to XVI


@dataclass(frozen=True)
class Settings(SourceSettings):
    """Where the deposit is, and what to keep of it."""

    name: str = "dryad"
    path: str | None = None
    genotypes: Literal["posterior", "hard"] = "posterior"
    environments: tuple[str, ...] | None = None
    loci_per_chromosome: tuple[int, ...] = setting(LOCI_PER_CHROMOSOME, minimum=0)

    def rules(self) -> tuple[Rule, ...]:
        return self._path_problems, self._environment_problems

    def _path_problems(self, prefix: str) -> Iterator[Problem]:
        if self.path is None:
            yield Problem(
                f"{prefix}path is not set", f"add {prefix}path=DIR, with geno_data_*.txt.gz and pheno_data_*.txt in it"
            )

    def _environment_problems(self, prefix: str) -> Iterator[Problem]:
        if self.environments is not None and len(set(self.environments)) < len(self.environments):
            yield Problem(f"{prefix}environments names one twice", "name each only once")


def prepare(settings: Settings, job: Job) -> list[str]:
    """Write the dataset file `job.out`."""
    from gpmap_cli.prepare.dryad.deposit import read_deposit
    from gpmap_cli.prepare.incoming import write_incoming

    with read_deposit(settings, job.progress) as incoming:
        return write_incoming(incoming, job)
