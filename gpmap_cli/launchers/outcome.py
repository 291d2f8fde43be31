"""What came of the jobs of a sweep."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_LONGEST_NAME = 120


@dataclass(frozen=True)
class JobOutcome:
    """One job: its name, its directory, and what went wrong with it if anything did."""

    name: str
    directory: Path
    error: Exception | None = None


class SweepResult:
    """The jobs of the last sweep of this process; the command reads it when Hydra returns."""

    directory: Path | None = None
    jobs: Sequence[JobOutcome] = ()


def job_name(swept: Sequence[str]) -> str:
    """A directory name for a job from the overrides that tell it from the others.

    Only letters, digits, `.`, `_` and `-`; the same overrides always give the same name, different ones
    different names (a checksum is added where letters had to be replaced or left out).
    """
    if not swept:
        return "job"
    plain = "_".join(word.lstrip("+").replace("=", "-", 1) for word in swept)
    safe = re.sub(r"[^A-Za-z0-9._-]", "-", plain)
    if safe != plain or len(safe) > _LONGEST_NAME or safe.startswith("."):
        safe = f"{safe[:_LONGEST_NAME].strip('.')}-{zlib.crc32(plain.encode()):08x}"
    return safe
