"""Jobs of a sweep one after the other in this process."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus, run_job
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from gpmap_cli.config.compose import RunNames, explain
from gpmap_cli.config.schema import COMMANDS
from gpmap_cli.errors import InputError, Interrupted
from gpmap_cli.launchers.outcome import JobOutcome

log = logging.getLogger("gpmap")


@dataclass(frozen=True)
class Job:
    """One job of a sweep: its name and all its overrides."""

    name: str
    overrides: tuple[str, ...]


class BasicLauncher(Launcher):
    """Runs jobs in this process. A job that fails does not stop the others; being interrupted stops all."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config
        self.hydra_context = hydra_context
        self.task_function = task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        raise AssertionError("sweeps go through launch_jobs")

    def launch_jobs(self, jobs: Sequence[Job], directory: Path) -> list[JobOutcome]:
        """Run every job and say what came of each."""
        outcomes = []
        for number, job in enumerate(jobs):
            log.info("job %d of %d: %s", number + 1, len(jobs), job.name)
            error = self._run(job, number)
            outcomes.append(JobOutcome(job.name, directory / job.name, error))
            if isinstance(error, (Interrupted, KeyboardInterrupt)):
                raise Interrupted
            if error is not None:
                _show(job, error)
        return outcomes

    def _run(self, job: Job, number: int) -> Exception | None:
        assert self.config is not None and self.hydra_context is not None and self.task_function is not None
        RunNames.job = job.name
        command = str(self.config.hydra.job.config_name)
        try:
            config = self.hydra_context.config_loader.load_sweep_config(self.config, list(job.overrides))
            with open_dict(config):
                config.hydra.job.id = job.name
                config.hydra.job.num = number
        except (HydraException, OmegaConfBaseException) as trouble:
            return explain(trouble, COMMANDS[command])
        result = run_job(
            hydra_context=self.hydra_context,
            task_function=self.task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        if result.status == JobStatus.COMPLETED:
            return None
        error = result._return_value  # the property would raise it
        return error if isinstance(error, Exception) else RuntimeError(str(error))


def _show(job: Job, error: Exception) -> None:
    log.error("job %s failed", job.name)
    if isinstance(error, InputError):
        for line in error.lines():
            log.error("%s", line)
    else:
        log.error("error: %s", error)
        log.debug("%s", "".join(traceback.format_exception(error)))
