"""`source=dryad`: the yeast data as deposited, about 100,000 segregants in 18 environments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gpmap_cli.errors import Problem
from gpmap_cli.prepare.job import Job
from gpmap_cli.settings import Group, setting
from gpmap_cli.simulate.yeast_settings import CHROMOSOMES

LOCI_PER_CHROMOSOME = tuple(num_snps for _, num_snps in CHROMOSOMES.values())  # as deposited, I to XVI


@dataclass(frozen=True)
class Settings:
    """Where the deposit is, and what to keep of it."""

    name: str = "dryad"
    path: str | None = None
    genotypes: Literal["posterior", "hard"] = "posterior"
    environments: tuple[str, ...] | None = None
    loci_per_chromosome: tuple[int, ...] = setting(LOCI_PER_CHROMOSOME, minimum=0)

    def problems(self, group: Group) -> list[Problem]:
        found = []
        if self.path is None:
            hint = f"add {group.prefix}path=DIR, with geno_data_*.txt.gz and pheno_data_*.txt in it"
            found.append(Problem(f"{group.prefix}path is not set", hint))
        if self.environments is not None and len(set(self.environments)) < len(self.environments):
            found.append(Problem(f"{group.prefix}environments names one twice", "name each only once"))
        return found


def prepare(settings: Settings, job: Job) -> list[str]:
    """Write the dataset file `job.out`."""
    from gpmap_cli.prepare.dryad.deposit import read_deposit
    from gpmap_cli.prepare.incoming import write_incoming

    with read_deposit(settings, job.progress) as incoming:
        return write_incoming(incoming, job)
