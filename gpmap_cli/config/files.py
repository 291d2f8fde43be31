"""Where the YAML files are, and which groups and choices they make."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import gpmap_cli

ROOT_GROUPS = ("data", "model", "training", "split", "source", "prune", "scan", "experiment")


@cache
def config_directory() -> Path:
    """The packaged `configs/`: inside the package when installed, beside it in a checkout."""
    package = Path(gpmap_cli.__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def choices(group: str, extra: Path | None = None) -> list[str]:
    """The choices of a group, for instance `model`; `extra` is the user's own `--config-dir`."""
    found: set[str] = set()
    for directory in (config_directory(), extra):
        if directory is not None and (directory / group).is_dir():
            found.update(path.stem for path in (directory / group).glob("*.yaml"))
    return sorted(found)


def choice_file(group: str, choice: str, extra: Path | None = None) -> Path | None:
    """The YAML file of a choice."""
    for directory in (config_directory(), extra):
        if directory is not None and (directory / group / f"{choice}.yaml").is_file():
            return directory / group / f"{choice}.yaml"
    return None
