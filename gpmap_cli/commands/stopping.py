"""Ctrl-C and SIGTERM: the fit is told to stop, saves, and leaves a run that can be resumed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpmap_cli.training.context import Stop

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """While inside, the first signal asks a fit that can save to stop; anything else is interrupted at once.

    A second signal interrupts such a fit too, unless it may be the first once more (`stop.said_twice`).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.deferred and (stop.said_twice or not stop.requested):
            stop.requested = True
            return
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
