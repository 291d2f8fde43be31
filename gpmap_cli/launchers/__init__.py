"""Sweeps: which jobs there are, how they are run, and what came of them. `hydra/launcher=` chooses how."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gpmap_cli.errors import InputError, did_you_mean
from gpmap_cli.launchers import basic
from gpmap_cli.launchers.jobs import Job, Outcome, Runner

LAUNCHERS: dict[str, Callable[[Sequence[Job], Runner], list[Outcome]]] = {"basic": basic.launch}


def launcher(name: str) -> Callable[[Sequence[Job], Runner], list[Outcome]]:
    """The launcher of that name."""
    if name not in LAUNCHERS:
        raise InputError(
            f"`{name}` is not a launcher of this program", did_you_mean(name, LAUNCHERS, "hydra/launcher=")
        )
    return LAUNCHERS[name]
