"""Hydra's multirun, with failures kept apart: every job is tried, every failed one is named."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader  # noqa: F401 - part of the plugin's signature in Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper as HydraSweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from gpmap_cli.errors import InputError
from gpmap_cli.launchers.basic import Job
from gpmap_cli.launchers.outcome import SweepResult, job_name


class Sweeper(HydraSweeper):
    """Every combination of the comma-separated values, in the order in which they were typed."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config
        self.hydra_context = hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Expand the arguments into jobs and launch them; the outcome is left in `SweepResult`."""
        assert self.config is not None
        jobs = expand(arguments)
        SweepResult.directory = Path(str(self.config.hydra.sweep.dir))
        SweepResult.jobs = self.launcher.launch_jobs(jobs, SweepResult.directory)  # type: ignore[union-attr]


def expand(arguments: Sequence[str]) -> list[Job]:
    """The jobs of a sweep: overrides of each, and a name from those that differ between jobs."""
    fixed: list[str] = []
    swept: dict[str, list[str]] = {}
    for override in OverridesParser.create().parse_overrides(list(arguments)):
        key = override.get_key_element()
        if not override.is_sweep_override():
            fixed.append(override.input_line or "")
        elif override.is_discrete_sweep():
            swept[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            raise InputError(
                f"`{override.input_line}` is not a list of values", "write the values with commas: KEY=1,2,3"
            )
    names = set()
    jobs = []
    for words in itertools.product(*swept.values()):
        name = job_name(words)
        if name in names:
            continue  # the same value typed twice
        names.add(name)
        jobs.append(Job(name, (*fixed, *words)))
    return jobs
