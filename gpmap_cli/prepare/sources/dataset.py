"""`source=dataset`: a dataset file once more, a part of it, or pruned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from gpmap_cli.errors import Problem
from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.source_settings import SourceSettings
from gpmap_cli.settings import Rule


@dataclass(frozen=True)
class Settings(SourceSettings):
    """Which dataset file, and which of its environments and loci."""

    name: str = "dataset"
    path: str | None = None
    environments: tuple[str, ...] | None = None
    loci: tuple[str, ...] | None = None

    def rules(self) -> tuple[Rule, ...]:
        chosen = (partial(self._choice_problems, key) for key in ("environments", "loci"))
        return self._path_problems, *chosen

    def _path_problems(self, prefix: str) -> Iterator[Problem]:
        if self.path is None:
            yield Problem(f"{prefix}path is not set", f"add {prefix}path=cross.h5")

    def _choice_problems(self, key: str, prefix: str) -> Iterator[Problem]:
        names = getattr(self, key)
        if names is not None and len(set(names)) < len(names):
            yield Problem(f"{prefix}{key} names one twice", "name each only once")
        if names == ():
            yield Problem(f"{prefix}{key} names none", f"leave {prefix}{key} out for all")


def prepare(settings: Settings, job: Job) -> list[str]:
    """Write the dataset file `job.out`."""
    from gpmap_cli.prepare.dataset_part import write_dataset_part

    return write_dataset_part(settings, job)
