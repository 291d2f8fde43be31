"""`source=rqtl2`: a cross in the format of R/qtl2, a control file and the tables that it names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gpmap_cli.errors import Problem
from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.source_settings import SourceSettings
from gpmap_cli.settings import Rule


@dataclass(frozen=True)
class Settings(SourceSettings):
    """Where the control file is; it says everything else."""

    name: str = "rqtl2"
    path: str | None = None

    def rules(self) -> tuple[Rule, ...]:
        return (self._path_problems,)

    def _path_problems(self, prefix: str) -> Iterator[Problem]:
        if self.path is None:
            yield Problem(
                f"{prefix}path is not set",
                f"add {prefix}path=cross.yaml (or .json, the directory that holds it, or a .zip file)",
            )


def prepare(settings: Settings, job: Job) -> list[str]:
    """Write the dataset file `job.out`."""
    from gpmap_cli.prepare.crosses.rqtl2 import read_rqtl2
    from gpmap_cli.prepare.incoming import in_memory, write_incoming

    return write_incoming(in_memory(*read_rqtl2(settings)), job)
