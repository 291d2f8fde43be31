"""`source=zenodo_split`: the yeast data with a split made by others, as six .npy files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gpmap_cli.errors import Problem
from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.source_settings import SourceSettings
from gpmap_cli.settings import Rule


@dataclass(frozen=True)
class Settings(SourceSettings):
    """Where the six arrays are, and how their environments are called."""

    name: str = "zenodo_split"
    path: str | None = None
    environments: tuple[str, ...] | None = None

    def rules(self) -> tuple[Rule, ...]:
        return self._path_problems, self._environment_problems

    def _path_problems(self, prefix: str) -> Iterator[Problem]:
        if self.path is None:
            yield Problem(
                f"{prefix}path is not set",
                f"add {prefix}path=datasets.zip (or the directory that holds geno_train.npy and the others)",
            )

    def _environment_problems(self, prefix: str) -> Iterator[Problem]:
        names = self.environments
        if names is not None and (len(set(names)) < len(names) or "" in names):
            yield Problem(f"{prefix}environments holds a name twice or an empty one", "name each once")


def prepare(settings: Settings, job: Job) -> list[str]:
    """Write the dataset file `job.out`."""
    from gpmap_cli.prepare.arrays.zenodo_split import read_zenodo_split
    from gpmap_cli.prepare.incoming import in_memory, write_incoming

    return write_incoming(in_memory(*read_zenodo_split(settings)), job)
