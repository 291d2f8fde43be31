"""Datasets that ship with the program: `package:NAME` stands for a file in `gpmap_cli/package_data`."""

from __future__ import annotations

from pathlib import Path

import gpmap_cli
from gpmap_cli.errors import InputError, did_you_mean

_PREFIX = "package:"


def resolve(path: str) -> Path:
    """The file a dataset path means."""
    if not path.startswith(_PREFIX):
        return Path(path)
    name = path.removeprefix(_PREFIX)
    directory = Path(gpmap_cli.__file__).resolve().parent / "package_data"
    shipped = sorted(file.name for file in directory.glob("*.h5"))
    if name not in shipped:
        raise InputError(f"{path}: no such dataset ships with the program", did_you_mean(name, shipped, _PREFIX))
    return directory / name
