"""What `gpmap prepare` asks of a source, beside the source's own settings. No array library is imported here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gpmap_cli.ld_pruning.settings import Pruning
from gpmap_cli.progress import Progress, no_progress


@dataclass(frozen=True)
class Job:
    """Where to write, whether over what is there, how to prune, and whom to tell how far it is."""

    out: str
    overwrite: bool = False
    pruning: Pruning = field(default_factory=Pruning)
    config: dict[str, Any] = field(default_factory=dict)  # the whole configuration, for what keeps it
    progress: Progress = no_progress
