"""Jobs of a sweep one after the other in this process."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from gpmap_cli.errors import InputError
from gpmap_cli.launchers.jobs import Job, Outcome, Runner

log = logging.getLogger("gpmap")


def launch(jobs: Sequence[Job], run: Runner) -> list[Outcome]:
    """Run every job; one that fails does not stop the others."""
    outcomes = []
    for number, job in enumerate(jobs):
        log.info("job %d of %d: %s", number + 1, len(jobs), job.name)
        outcome = run(job)
        outcomes.append(outcome)
        if outcome.error is not None:
            log.error("job %s failed", job.name)
            lines = outcome.error.lines() if isinstance(outcome.error, InputError) else [f"error: {outcome.error}"]
            for line in lines:
                log.error("%s", line)
    return outcomes
