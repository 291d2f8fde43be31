"""`source=arrays`: plain arrays in an HDF5 file, a directory of .npy files, or one .npz file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gpmap_cli.errors import Problem
from gpmap_cli.prepare.job import Job
from gpmap_cli.settings import Group, setting


@dataclass(frozen=True)
class Settings:
    """Plain arrays under the documented names."""

    name: str = "arrays"
    path: str | None = None
    ploidy: int | None = setting(None, minimum=1, maximum=16)
    coding: Literal["dosage", "plus_minus_one"] = "dosage"

    def problems(self, group: Group) -> list[Problem]:
        if self.path is None:
            hint = f"add {group.prefix}path=FILE.h5 (or FILE.npz, or a directory of .npy files)"
            return [Problem(f"{group.prefix}path is not set", hint)]
        return []


def prepare(settings: Settings, job: Job) -> list[str]:
    """Write the dataset file `job.out`."""
    from gpmap_cli.prepare.arrays.named_arrays import read_arrays
    from gpmap_cli.prepare.incoming import in_memory, write_incoming

    return write_incoming(in_memory(*read_arrays(settings)), job)
