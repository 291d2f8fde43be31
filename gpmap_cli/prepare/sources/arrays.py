"""`source=arrays`: plain arrays in an HDF5 file, a directory of .npy files, or one .npz file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gpmap_cli.errors import Problem
from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.source_settings import SourceSettings
from gpmap_cli.settings import Rule, setting


@dataclass(frozen=True)
class Settings(SourceSettings):
    """Plain arrays under the documented names."""

    name: str = "arrays"
    path: str | None = None
    ploidy: int | None = setting(None, minimum=1, maximum=16)
    coding: Literal["dosage", "plus_minus_one"] = "dosage"

    def rules(self) -> tuple[Rule, ...]:
        return (self._path_problems,)

    def _path_problems(self, prefix: str) -> Iterator[Problem]:
        if self.path is None:
            yield Problem(
                f"{prefix}path is not set", f"add {prefix}path=FILE.h5 (or FILE.npz, or a directory of .npy files)"
            )


def prepare(settings: Settings, job: Job) -> list[str]:
    """Write the dataset file `job.out`."""
    from gpmap_cli.prepare.arrays.named_arrays import read_arrays
    from gpmap_cli.prepare.incoming import in_memory, write_incoming

    return write_incoming(in_memory(*read_arrays(settings)), job)
