"""Scratch files of genotypes: without a name, so that nothing is left of them however the program ends.

They lie beside what the command writes (where its results have room they have, and /tmp may itself be memory), or in
TMPDIR where the environment sets it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

from gpmap_cli.errors import InputError


def scratch_directory(beside: Path) -> Path:
    """Where the scratch files of a command lie that writes into the directory `beside`."""
    chosen = os.environ.get("TMPDIR")
    return Path(chosen) if chosen else beside


def scratch_file(beside: Path, num_bytes: int | None) -> IO[bytes]:
    """A scratch file that is to hold so many bytes (None: not known yet); refused where there is no room for them."""
    directory = scratch_directory(beside)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(directory).free
        if num_bytes is None or num_bytes <= free:
            return tempfile.TemporaryFile(prefix=".gpmap-genotypes.", dir=directory)
    except OSError as trouble:
        raise no_room(beside, trouble) from trouble
    raise no_room(beside, f"{num_bytes / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")


def no_room(beside: Path, why: OSError | str) -> InputError:
    """What to say when a scratch file cannot be made or has filled the disk."""
    reason = why if isinstance(why, str) else why.strerror or str(why)
    return InputError(
        f"{scratch_directory(beside)}: no room for the scratch file of genotypes ({reason})",
        "make room there, or set the environment variable TMPDIR to a directory that has more",
    )
