"""What the terminal shows: log lines and bars on standard error, results on standard output."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpmap_cli.training.context import Epoch

log = logging.getLogger("gpmap")
_active_bar: Any = None


class _StandardError(logging.Handler):
    """Log lines on standard error, above a bar when one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if _active_bar is not None:
            _active_bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)


def start_logging() -> None:
    """Send the program's log to standard error. Safe to call again."""
    log.setLevel(logging.INFO)
    log.propagate = False
    if not any(isinstance(handler, _StandardError) for handler in log.handlers):
        log.addHandler(_StandardError())


def show_result(table: str, directory: object) -> None:
    """The results table and then, as the last line, the directory written."""
    if table:
        print(table)
        log_to_file_only(table)
    print(directory, flush=True)


def log_to_file_only(text: str) -> None:
    """Into `run.log` what standard output showed."""
    for handler in log.handlers:
        if isinstance(handler, logging.FileHandler):
            for line in text.splitlines():
                handler.handle(log.makeRecord(log.name, logging.INFO, "", 0, line, (), None))


@contextmanager
def progress_bar(description: str, total: int | None, unit: str) -> Iterator[Callable[[int], object]]:
    """A bar on standard error with an estimate of the time left; gives what is called with every amount done."""
    from tqdm import tqdm

    global _active_bar
    before = _active_bar
    with tqdm(
        total=total,
        desc=description,
        unit=unit,
        unit_scale=unit == "B",
        file=sys.stderr,
        disable=None,  # no bar where standard error is no terminal
        leave=False,
        dynamic_ncols=True,
    ) as bar:
        _active_bar = before if bar.disable else bar
        try:
            yield bar.update
        finally:
            _active_bar = before


class TerminalReporter:
    """Shows a fit as a bar with loss and validation R^2, or, where there is no terminal, as a line now and then."""

    def __init__(self, num_epochs: int) -> None:
        self._num_epochs = num_epochs
        self._bar: Any = None
        self._r2: float | None = None

    def begin(self, environment: str, num_steps: int, done: int) -> None:
        from tqdm import tqdm

        global _active_bar
        self.close()
        self._r2 = None
        self._bar = tqdm(
            total=num_steps or None,
            initial=done,
            desc=environment or "fit",
            unit="step",
            file=sys.stderr,
            disable=None,  # no bar where standard error is no terminal
            leave=False,
            dynamic_ncols=True,
            mininterval=0.2,
        )
        _active_bar = None if self._bar.disable else self._bar

    def step(self, loss: float, validation_r2: float | None = None) -> None:
        if self._bar.disable:
            return
        self._r2 = self._r2 if validation_r2 is None else validation_r2
        shown = "" if self._r2 is None else f", validation R2 {self._r2:.3f}"
        self._bar.set_postfix_str(f"loss {loss:.3g}{shown}", refresh=False)
        self._bar.update()

    def epoch(self, row: Epoch) -> None:
        self._r2 = row.validation_r2
        if row.epoch == 1 or row.epoch == self._num_epochs or row.epoch % max(1, self._num_epochs // 10) == 0:
            where = f"{row.environment}: " if row.environment else ""
            r2 = "undefined" if row.validation_r2 is None else f"{row.validation_r2:.4f}"
            log.info(
                "%sepoch %d of %d, loss %.4f, validation R2 %s", where, row.epoch, self._num_epochs, row.train_loss, r2
            )

    def note(self, text: str) -> None:
        log.info("%s", text)

    def close(self) -> None:
        """Take the bar away."""
        global _active_bar
        if self._bar is not None:
            self._bar.close()
        self._bar = _active_bar = None
