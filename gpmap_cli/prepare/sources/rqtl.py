"""`source=rqtl`: a cross in R/qtl's one-file CSV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gpmap_cli.errors import Problem
from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.source_settings import SourceSettings
from gpmap_cli.settings import Rule


@dataclass(frozen=True)
class Settings(SourceSettings):
    """The file, and what `read.cross` would be told about it."""

    name: str = "rqtl"
    path: str | None = None
    format: Literal["csv", "csvr"] = "csv"
    crosstype: Literal["bc", "f2", "riself", "risib", "dh", "haploid"] | None = None
    genotypes: tuple[str, ...] = ("A", "H", "B", "D", "C")
    missing: tuple[str, ...] = ("-", "NA")

    def rules(self) -> tuple[Rule, ...]:
        return self._path_problems, self._code_problems

    def _path_problems(self, prefix: str) -> Iterator[Problem]:
        if self.path is None:
            yield Problem(f"{prefix}path is not set", f"add {prefix}path=cross.csv")

    def _code_problems(self, prefix: str) -> Iterator[Problem]:
        codes = self.genotypes
        if not 2 <= len(codes) <= 5 or len(set(codes)) < len(codes) or "" in codes:
            yield Problem(
                f"{prefix}genotypes must be 2 to 5 different codes",
                f"in the order AA, AB, BB, not BB, not AA: {prefix}genotypes=[A,H,B,D,C]",
            )
        if set(codes) & set(self.missing):
            yield Problem(f"{prefix}genotypes and {prefix}missing share a code", "correct one")


def prepare(settings: Settings, job: Job) -> list[str]:
    """Write the dataset file `job.out`."""
    from gpmap_cli.prepare.crosses.rqtl import read_rqtl
    from gpmap_cli.prepare.incoming import in_memory, write_incoming

    return write_incoming(in_memory(*read_rqtl(settings)), job)
