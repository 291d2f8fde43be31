"""A run from its first line of log to its last: whatever ends it, `metrics.json` and `run.log` say what."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any

from gpmap_cli.commands.stopping import stop_on_signals
from gpmap_cli.commands.terminal import log_to_file_only
from gpmap_cli.errors import FitFailed, InputError, Interrupted
from gpmap_cli.run_dir.layout import FAILED, INTERRUPTED, RUNNING, RunDirectory, RunLog
from gpmap_cli.run_dir.provenance import peak_memory_mb, reset_peak_memory
from gpmap_cli.training.context import Stop

log = logging.getLogger("gpmap")


def mark(directory: RunDirectory, metrics: dict[str, Any], status: str, error: str | None = None) -> None:
    """Write `metrics.json` with this status."""
    metrics["status"] = status
    metrics["peak_memory_mb"] = peak_memory_mb()
    if error is not None:
        metrics["error"] = error
    directory.write_metrics(metrics)


def run_to_the_end(
    work: Callable[[], None],
    show: Callable[[], None],
    directory: RunDirectory,
    metrics: dict[str, Any],
    stop: Stop,
    command: str,
) -> None:
    """The work of a command that can be resumed, which leaves word of why it did not come to its end; then its results.

    A reader of the results who goes away makes no failed run of a completed one.
    """
    reset_peak_memory()
    directory.remove_leftovers()
    with RunLog(directory):
        mark(directory, metrics, RUNNING)
        try:
            with stop_on_signals(stop):
                work()
        except (Interrupted, KeyboardInterrupt):
            mark(directory, metrics, INTERRUPTED)
            log.info("interrupted; continue with: gpmap %s resume=%s", command, directory.path)
            raise Interrupted from None
        except (InputError, FitFailed) as trouble:
            mark(directory, metrics, FAILED, str(trouble))
            log_to_file_only(f"error: {trouble}")  # the terminal hears it at the very end
            raise
        except Exception as trouble:
            mark(directory, metrics, FAILED, f"{type(trouble).__name__}: {trouble}")
            directory.write_text("traceback.txt", traceback.format_exc())
            raise
        show()
