"""The end of a sweep: one table over its jobs, the names of those that failed, and the sweep's directory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from gpmap_cli.commands.terminal import show_result
from gpmap_cli.errors import InputError
from gpmap_cli.launchers.outcome import JobOutcome
from gpmap_cli.report.collect import collect_runs
from gpmap_cli.report.tables import render, results_table

log = logging.getLogger("gpmap")


def finish_sweep(command: str, directory: Path, jobs: Sequence[JobOutcome]) -> None:
    """Show what came of the jobs. Only trained runs have scores to put side by side."""
    failed = [job.name for job in jobs if job.error is not None]
    table = ""
    if command == "train":
        try:
            table = render(results_table(collect_runs([directory])))
        except InputError:  # not one job came as far as a run directory
            table = ""
    show_result(table, directory)
    if failed:
        log.error("%d of %d jobs failed: %s", len(failed), len(jobs), ", ".join(failed))
