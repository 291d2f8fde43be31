"""The models. Each is one module here and one file in `configs/model/`; nothing else names them.

A module defines `Settings` (a frozen dataclass) and one class derived from `base.Model`. Names come from
the package's own listing, never from a file that is being read.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from gpmap_cli.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from gpmap_cli.models.base import Model

_NOT_MODELS = {"base"}


@cache
def names() -> tuple[str, ...]:
    """All models of this package."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in _NOT_MODELS))


def settings_class(name: str) -> type:
    """The settings dataclass of a model, without importing what the model computes with."""
    return _module(name).Settings


def model_class(name: str) -> type[Model]:
    """The class of a model."""
    from gpmap_cli.models.base import Model

    module = _module(name)
    found = [
        item
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, Model) and item.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise AssertionError(f"{module.__name__} must define one class derived from base.Model")
    return found[0]


def _module(name: str) -> ModuleType:
    if name not in names():
        raise InputError(
            f"`{name}` is not a model of this program", did_you_mean(name, names(), "model=", limit=len(names()))
        )
    return import_module(f"{__name__}.{name}")
