"""Whom long work tells how far it is. What shows it, and whether anything does, is not the work's concern."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

# progress(description, total, unit) -> a context that gives `advance(amount)`; a total of None is unknown
Progress = Callable[[str, int | None, str], AbstractContextManager[Callable[[int], object]]]


@contextmanager
def no_progress(description: str, total: int | None, unit: str) -> Iterator[Callable[[int], object]]:
    """Shows nothing."""
    yield lambda amount: None
