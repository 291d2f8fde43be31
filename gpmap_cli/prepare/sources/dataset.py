"""`source=dataset`: a dataset file once more, a part of it, or pruned."""

from __future__ import annotations

from dataclasses import dataclass

from gpmap_cli.errors import Problem
from gpmap_cli.prepare.job import Job
from gpmap_cli.settings import Group


@dataclass(frozen=True)
class Settings:
    """Which dataset file, and which of its environments and loci."""

    name: str = "dataset"
    path: str | None = None
    environments: tuple[str, ...] | None = None
    loci: tuple[str, ...] | None = None

    def problems(self, group: Group) -> list[Problem]:
        found = []
        if self.path is None:
            found.append(Problem(f"{group.prefix}path is not set", f"add {group.prefix}path=cross.h5"))
        for key, names in (("environments", self.environments), ("loci", self.loci)):
            if names is not None and len(set(names)) < len(names):
                found.append(Problem(f"{group.prefix}{key} names one twice", "name each only once"))
            if names == ():
                found.append(Problem(f"{group.prefix}{key} names none", f"leave {group.prefix}{key} out for all"))
        return found


def prepare(settings: Settings, job: Job) -> list[str]:
    """Write the dataset file `job.out`."""
    from gpmap_cli.prepare.dataset_part import write_dataset_part

    return write_dataset_part(settings, job)
