"""`source=notebook_checkpoint`: a model saved by the published notebooks becomes a run directory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from gpmap_cli.errors import Problem
from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.source_settings import SourceSettings
from gpmap_cli.settings import Rule, setting


@dataclass(frozen=True)
class Settings(SourceSettings):
    """A state dict saved by the published notebooks, and what such a file does not say by itself."""

    makes_dataset: ClassVar[bool] = False

    name: str = "notebook_checkpoint"
    path: str | None = None
    environments: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = setting(None, above=0)

    def rules(self) -> tuple[Rule, ...]:
        return self._path_problems, self._scale_problems

    def _path_problems(self, prefix: str) -> Iterator[Problem]:
        if self.path is None:
            yield Problem(f"{prefix}path is not set", f"add {prefix}path=epoch_N.pt")

    def _scale_problems(self, prefix: str) -> Iterator[Problem]:
        if (self.mean is None) != (self.std is None):
            yield Problem(
                f"{prefix}mean and {prefix}std belong together, and only one is set",
                "set both, or neither for the scale 0/1",
            )
        elif self.mean is not None and self.std is not None and len(self.mean) != len(self.std):
            yield Problem(
                f"{prefix}mean has {len(self.mean)} values and {prefix}std {len(self.std)}",
                "give one of each for every environment",
            )


def prepare(settings: Settings, job: Job) -> list[str]:
    """Write the run directory `job.out`."""
    from gpmap_cli.prepare.notebook_checkpoint import prepare_notebook_checkpoint

    return prepare_notebook_checkpoint(settings, job.out, job.overwrite, job.config)
