"""Dataset files that ship with the program: `package:NAME` stands for the file NAME among them."""

from __future__ import annotations

from pathlib import Path

from gpmap_cli.errors import InputError, did_you_mean

PREFIX = "package:"
_DIRECTORY = Path(__file__).parents[1] / "package_data"


def resolve(path: str) -> Path:
    """The file that a path setting means: one that ships with the program after `package:`, or the path itself."""
    if not path.startswith(PREFIX):
        return Path(path)
    name = path.removeprefix(PREFIX)
    shipped = sorted(file.name for file in _DIRECTORY.glob("*.h5"))
    if "/" in name or "\\" in name or ".." in name or "\0" in name or not name:
        raise InputError(
            f"{path}: `{PREFIX}` takes the name of a file that ships with the program, not a path",
            f"choose from {', '.join(PREFIX + file for file in shipped)}",
        )
    if name not in shipped:
        raise InputError(f"{path}: no such file ships with the program", did_you_mean(name, shipped, PREFIX))
    return _DIRECTORY / name
