"""`source=notebook_checkpoint`: a model saved by the published notebooks becomes a run directory."""

from __future__ import annotations

from dataclasses import dataclass

from gpmap_cli.errors import Problem
from gpmap_cli.prepare.job import Job
from gpmap_cli.settings import Group, setting


@dataclass(frozen=True)
class Settings:
    """A state dict saved by the published notebooks, and what such a file does not say by itself."""

    name: str = "notebook_checkpoint"
    path: str | None = None
    environments: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = setting(None, above=0)

    def problems(self, group: Group) -> list[Problem]:
        found = []
        if self.path is None:
            found.append(Problem(f"{group.prefix}path is not set", f"add {group.prefix}path=epoch_N.pt"))
        if (self.mean is None) != (self.std is None):
            found.append(
                Problem(
                    f"{group.prefix}mean and {group.prefix}std belong together, and only one is set",
                    "set both, or neither for the scale 0/1",
                )
            )
        elif self.mean is not None and self.std is not None and len(self.mean) != len(self.std):
            found.append(
                Problem(
                    f"{group.prefix}mean has {len(self.mean)} values and {group.prefix}std {len(self.std)}",
                    "give one of each for every environment",
                )
            )
        return found


def prepare(settings: Settings, job: Job) -> list[str]:
    """Write the run directory `job.out`."""
    from gpmap_cli.errors import InputError
    from gpmap_cli.prepare.notebook_checkpoint import prepare_notebook_checkpoint

    if job.pruning.is_on:
        raise InputError("source=notebook_checkpoint makes no dataset to prune", "leave prune.max_abs_r out")
    return prepare_notebook_checkpoint(settings, job.out, job.overwrite, job.config)
