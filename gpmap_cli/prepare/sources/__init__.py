"""The choices of `source=`. Each is one module here and one file in `configs/source/`; nothing else names them.

(But `prepare/out.py` names those whose `out` is a directory, or which read files beside the one that they are given.)
A module defines `Settings` (a frozen dataclass derived from SourceSettings) and `prepare(settings, job)`, which writes
`job.out` and returns the lines that say what was found, kept and left out. No array library is imported at module
level.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from types import ModuleType

from gpmap_cli.errors import InputError, did_you_mean


@cache
def names() -> tuple[str, ...]:
    """All sources of this package."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def settings_class(name: str) -> type:
    """The settings dataclass of a source, without importing what reads it."""
    return module(name).Settings


def module(name: str) -> ModuleType:
    """The module of a source."""
    if name not in names():
        raise InputError(
            f"`{name}` is not a source of this program", did_you_mean(name, names(), "source=", limit=len(names()))
        )
    return import_module(f"{__name__}.{name}")
