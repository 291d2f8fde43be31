"""`source=rqtl`: a cross in R/qtl's one-file CSV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gpmap_cli.errors import Problem
from gpmap_cli.prepare.job import Job
from gpmap_cli.settings import Group


@dataclass(frozen=True)
class Settings:
    """The file, and what `read.cross` would be told about it."""

    name: str = "rqtl"
    path: str | None = None
    format: Literal["csv", "csvr"] = "csv"
    crosstype: Literal["bc", "f2", "riself", "risib", "dh", "haploid"] | None = None
    genotypes: tuple[str, ...] = ("A", "H", "B", "D", "C")
    missing: tuple[str, ...] = ("-", "NA")

    def problems(self, group: Group) -> list[Problem]:
        found = []
        if self.path is None:
            found.append(Problem(f"{group.prefix}path is not set", f"add {group.prefix}path=cross.csv"))
        codes = self.genotypes
        if not 2 <= len(codes) <= 5 or len(set(codes)) < len(codes) or "" in codes:
            found.append(
                Problem(
                    f"{group.prefix}genotypes must be 2 to 5 different codes",
                    f"in the order AA, AB, BB, not BB, not AA: {group.prefix}genotypes=[A,H,B,D,C]",
                )
            )
        if set(codes) & set(self.missing):
            found.append(Problem(f"{group.prefix}genotypes and {group.prefix}missing share a code", "correct one"))
        return found


def prepare(settings: Settings, job: Job) -> list[str]:
    """Write the dataset file `job.out`."""
    from gpmap_cli.prepare.crosses.rqtl import read_rqtl
    from gpmap_cli.prepare.incoming import in_memory, write_incoming

    return write_incoming(in_memory(*read_rqtl(settings)), job)
