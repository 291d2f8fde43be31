"""Files that are either whole or absent: written under a temporary name beside their own, then renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def write_whole(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Call `write` with an open temporary file and rename it to `path` once it is on the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """A text file in UTF-8."""

    def write(stream: IO[bytes]) -> None:
        stream.write(text.encode("utf-8"))

    write_whole(path, write)


def write_json(path: Path, value: Any) -> None:
    """JSON without NaN: what is undefined must be null."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
