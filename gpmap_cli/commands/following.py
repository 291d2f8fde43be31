"""What the processes after the first do: wait for a fit to help with, and leave no trace."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from gpmap_cli.commands.processes import END, Board, Helper, board
from gpmap_cli.commands.stopping import stop_on_signals
from gpmap_cli.errors import FitFailed, Interrupted
from gpmap_cli.training.context import Stop

_PATIENCE_SECONDS = 10.0


def follow() -> int:
    """Help with every fit that the first process announces, until it says that there are no more."""
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 -- to the end of this process
    try:
        notes, number = board(), 0
        while True:
            number += 1
            job = f"job {number}"
            if notes.first_of(job, END) == END:
                return 0
            if not _help(notes, job):
                return 1
    except (KeyboardInterrupt, RuntimeError):  # asked to go; or the launcher has gone
        return 1


def _help(notes: Board, job: str) -> bool:
    """Help with one fit; whether this process is good for another. What went wrong is the first process's to say."""
    # Here: that loads torch, and a first process that refuses its configuration needs none of it.
    from gpmap_cli.commands.train import take_part
    from gpmap_cli.config.schema import load_config

    said = json.loads(notes.read(job) or "")
    helper, stop = Helper(notes, job), Stop()
    stop.said_twice = True
    scratch = Path(said["scratch"])
    if not scratch.is_dir():  # on another machine
        scratch = Path(tempfile.gettempdir())
    try:
        with stop_on_signals(stop), helper.group:
            take_part(load_config("train", said["config"]), scratch, helper, stop)
    except (FitFailed, Interrupted):
        return True
    except Exception as trouble:
        if stop.requested:
            return True
        if helper.begun:
            # The first process sees us go, or has failed itself. One that hears of neither is ended by the launcher.
            return notes.first_of(f"{job} over", seconds=_PATIENCE_SECONDS) is not None
        helper.report_early(trouble)
    return True
