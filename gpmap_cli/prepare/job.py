"""What `gpmap prepare` asks of a source, beside the source's own settings. No array library is imported here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from gpmap_cli.ld_pruning.settings import Pruning

# progress(description, total, unit) -> a context that gives `advance(amount)`; a total of None is unknown
Progress = Callable[[str, int | None, str], AbstractContextManager[Callable[[int], object]]]


@contextmanager
def no_progress(description: str, total: int | None, unit: str) -> Iterator[Callable[[int], object]]:
    """Shows nothing."""
    yield lambda amount: None


@dataclass(frozen=True)
class Job:
    """Where to write, whether over what is there, how to prune, and whom to tell how far it is."""

    out: str
    overwrite: bool = False
    pruning: Pruning = field(default_factory=Pruning)
    config: dict[str, Any] = field(default_factory=dict)  # the whole configuration, for what keeps it
    progress: Progress = no_progress
