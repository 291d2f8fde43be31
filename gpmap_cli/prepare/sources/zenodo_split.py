"""`source=zenodo_split`: the yeast data with a split made by others, as six .npy files."""

from __future__ import annotations

from dataclasses import dataclass

from gpmap_cli.errors import Problem
from gpmap_cli.prepare.job import Job
from gpmap_cli.settings import Group


@dataclass(frozen=True)
class Settings:
    """Where the six arrays are, and how their environments are called."""

    name: str = "zenodo_split"
    path: str | None = None
    environments: tuple[str, ...] | None = None

    def problems(self, group: Group) -> list[Problem]:
        found = []
        if self.path is None:
            hint = f"add {group.prefix}path=datasets.zip (or the directory that holds geno_train.npy and the others)"
            found.append(Problem(f"{group.prefix}path is not set", hint))
        names = self.environments
        if names is not None and (len(set(names)) < len(names) or "" in names):
            found.append(Problem(f"{group.prefix}environments holds a name twice or an empty one", "name each once"))
        return found


def prepare(settings: Settings, job: Job) -> list[str]:
    """Write the dataset file `job.out`."""
    from gpmap_cli.prepare.arrays.zenodo_split import read_zenodo_split
    from gpmap_cli.prepare.incoming import in_memory, write_incoming

    return write_incoming(in_memory(*read_zenodo_split(settings)), job)
