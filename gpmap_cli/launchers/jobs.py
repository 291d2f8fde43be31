"""The jobs of a sweep: what tells them apart, and what came of them."""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpmap_cli.errors import InputError

_LONGEST_NAME = 120


@dataclass(frozen=True)
class Job:
    """One job of a sweep: its name and all its overrides."""

    name: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of a job: its directory when it got one, and what went wrong if anything did."""

    job: Job
    directory: Path | None
    error: Exception | None = None


Runner = Callable[[Job], Outcome]  # never raises but to stop the whole sweep


def expand(overrides: Sequence[str], params: Mapping[str, str]) -> list[Job]:
    """Every combination of the comma-separated values, in the order in which they were typed.

    `params` (hydra.sweeper.params of an experiment file) adds keys that were not typed.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    typed = OverridesParser.create().parse_overrides(list(overrides))
    keys = {override.get_key_element().lstrip("+") for override in typed}
    more = [f"{key}={value}" for key, value in params.items() if key.lstrip("+") not in keys]
    fixed: list[str] = []
    swept: dict[str, list[str]] = {}
    for override in [*OverridesParser.create().parse_overrides(more), *typed]:
        key = override.get_key_element()
        if not override.is_sweep_override():
            fixed.append(override.input_line or "")
        elif override.is_discrete_sweep():
            swept[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            raise InputError(
                f"`{override.input_line}` is not a list of values", "write the values with commas: KEY=1,2,3"
            )
    jobs: dict[str, Job] = {}
    for words in itertools.product(*swept.values()):
        name = job_name(words)
        jobs.setdefault(name, Job(name, (*fixed, *words)))  # the same value typed twice is one job
    return list(jobs.values())


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
