"""A sweep (`-m`): every job checked and run by itself, one table over all of them at the end."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence
from pathlib import Path

from gpmap_cli.commands.running import first_missing, remove_if_empty, run_command
from gpmap_cli.commands.terminal import show_result
from gpmap_cli.config.compose import Composer, composer
from gpmap_cli.config.schema import load_config
from gpmap_cli.errors import FitFailed, InputError, Interrupted, Problem
from gpmap_cli.launchers import launcher
from gpmap_cli.launchers.jobs import Job, Outcome, expand
from gpmap_cli.run_dir.layout import FAILED, RunDirectory

log = logging.getLogger("gpmap")


def run_sweep(command: str, overrides: Sequence[str], config_dir: Path | None) -> int:
    """Run all jobs; the exit status is 0 only when none failed, 2 when every one was refused for its input."""
    with composer(command, config_dir) as composing:
        fixed = next(job.overrides for job in expand(overrides, {}))
        whole = composing.compose(fixed)
        jobs = expand(overrides, whole.sweep_params)
        launch = launcher(whole.launcher)
        top = first_missing(whole.sweep_dir)
        outcomes = launch(jobs, lambda job: _run_job(composing, command, job))
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if len(failed) == len(outcomes) and all(isinstance(outcome.error, InputError) for outcome in failed):
        _refuse(failed, top)
    for outcome in failed:
        _leave_word(outcome)
    show_result(_table(command, whole.sweep_dir), whole.sweep_dir)
    if failed:
        names = ", ".join(outcome.job.name for outcome in failed)
        log.error("%d of %d jobs failed: %s", len(failed), len(outcomes), names)
    return 1 if failed else 0


def _run_job(composing: Composer, command: str, job: Job) -> Outcome:
    directory = None
    try:
        composed = composing.compose(job.overrides, job.name)
        directory = composed.sweep_dir / composed.sweep_subdir
        run_command(load_config(command, composed.mapping), directory, in_sweep=True)
    except Interrupted:
        raise
    except (InputError, FitFailed) as trouble:
        return Outcome(job, directory, trouble)
    except Exception as trouble:
        log.error("%s", traceback.format_exc())
        return Outcome(job, directory, trouble)
    return Outcome(job, directory)


def _refuse(failed: Sequence[Outcome], top: Path) -> None:
    """Every job was refused: that is the user's input as a whole, each problem said once."""
    for outcome in failed:
        if outcome.directory is not None:
            remove_if_empty(outcome.directory, top)
    problems: dict[Problem, None] = {}
    for outcome in failed:
        problems.update(dict.fromkeys(getattr(outcome.error, "problems", ())))
    raise InputError(problems)


def _leave_word(outcome: Outcome) -> None:
    """A job that was refused before it had a run directory gets one that says so, for the report."""
    if outcome.directory is None:
        return
    directory = RunDirectory(outcome.directory)
    if not directory.holds_a_run:
        directory.path.mkdir(parents=True, exist_ok=True)
        directory.write_metrics({"status": FAILED, "error": str(outcome.error), "splits": {}})


def _table(command: str, directory: Path) -> str:
    """Only trained runs have scores to put side by side."""
    if command != "train":
        return ""
    from gpmap_cli.report.collect import collect_runs
    from gpmap_cli.report.tables import render, results_table

    try:
        return render(results_table(collect_runs([directory])))
    except InputError:  # not one job came as far as a run directory
        return ""
