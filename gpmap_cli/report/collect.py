"""The runs below some directories, and what was varied between them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

from gpmap_cli.errors import InputError, Problem, did_you_mean
from gpmap_cli.report.read import Run, Scalar, clean, read_run

# Within one group, settings are compared only between runs that chose the same member of it: that ridge and
# attention, or simulated and yeast, have different settings is no sweep.
_CHOSEN_BY = {"data": "data.name", "training": "training.name", "split": "split.method"}
_OF_THE_MODEL = {"model", "run"}  # `run`: the fit that an evaluation took


@dataclass(frozen=True)
class Runs:
    """Runs in the order of their names, numbers counted as numbers."""

    runs: tuple[Run, ...]

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, index: int) -> Run:
        return self.runs[index]


def collect_runs(paths: Sequence[Path | str]) -> Runs:
    """All runs at or below these directories, each once. Nothing found is the user's error."""
    given = [Path(path) for path in paths]
    if not given:
        raise InputError("no run directory is given", "add runs=DIR, a run directory or one that holds some")
    missing = [_not_a_directory(path) for path in given if not path.is_dir()]
    if missing:
        raise InputError(missing)
    given = [Path(os.path.abspath(path)) for path in given]
    base = Path(os.path.commonpath(given))
    seen: set[Path] = set()
    found = [replace(run, name=_name(run.directory, base)) for path in given for run in _runs_below(path, seen)]
    if not found:
        raise InputError(
            f"no runs in {', '.join(str(path) for path in given)}",
            "a run directory holds config.yaml and metrics.json: `gpmap train` makes them under outputs/",
        )
    return Runs(tuple(sorted(found, key=lambda run: natural(run.name))))


def swept_keys(runs: Iterable[Run]) -> list[str]:
    """The settings that were varied on purpose: those that differ between runs, but for seeds and the model itself."""
    return [key for key in _differing(list(runs)) if not _is_replicate(key)]


def replicate_keys(runs: Iterable[Run]) -> list[str]:
    """The seeds and cross-validation folds that differ between runs: repeats of one question, not questions."""
    return [key for key in _differing(list(runs)) if _is_replicate(key)]


def setting_of(run: Run, key: str) -> Scalar:
    """The run's setting; the text `null` when it is set to nothing, None when the run has no such setting."""
    value = run.config.get(key)
    return "null" if value is None and key in run.config else value


def in_step(columns: Mapping[str, Sequence[Scalar]]) -> list[list[str]]:
    """The variables of a sweep, settings that always change together (one-to-one) counting as one variable."""
    variables: dict[tuple[int, ...], list[str]] = {}
    for key, values in columns.items():
        first: dict[Any, int] = {}
        pattern = tuple(first.setdefault(_comparable(value), len(first)) for value in values)
        variables.setdefault(pattern, []).append(key)
    return list(variables.values())


def is_number(value: Scalar) -> TypeGuard[int | float]:
    """Whether a setting is a number, so that it has a place on an axis."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_replicate(key: str) -> bool:
    return key == "seed" or key.endswith(".seed") or key == "split.fold"


def _differing(runs: list[Run]) -> list[str]:
    known = [run for run in runs if run.config]  # a run whose config cannot be read tells nothing
    keys = dict.fromkeys(key for run in known for key in run.config)
    return [key for key in keys if _differs(key, known)]


def _differs(key: str, runs: list[Run]) -> bool:
    group = key.partition(".")[0]
    chosen_by = _CHOSEN_BY.get(group)
    values: dict[Any, set[Any]] = {}
    for run in runs:
        member: Any = None
        if group in _OF_THE_MODEL:  # so that `model.name` itself never differs
            member = run.model
        elif chosen_by is not None and key != chosen_by:
            member = setting_of(run, chosen_by)
        values.setdefault(_comparable(member), set()).add(_comparable(setting_of(run, key)))
    return any(len(distinct) > 1 for distinct in values.values())


def _comparable(value: Scalar) -> tuple[bool, Scalar]:
    return isinstance(value, bool), value  # 1 and 1.0 are the same setting, 1 and true are not


def natural(text: str) -> list[tuple[int, int, str]]:
    """A sort key that puts job 2 before job 10."""
    parts = re.split(r"(\d{1,18})", text)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def _not_a_directory(path: Path) -> Problem:
    if path.exists():
        return Problem(f"{path} is a file, not a directory", f"name the run directory: {path.parent}")
    try:
        siblings = sorted(entry.name for entry in path.parent.iterdir() if entry.is_dir())
    except OSError:
        return Problem(f"{path} is not there", "name a run directory, or one that holds run directories")
    prefix = "" if str(path.parent) == "." else f"{path.parent}/"
    return Problem(f"{path} is not there", did_you_mean(path.name, siblings, prefix))


def _name(directory: Path, base: Path) -> str:
    return clean(directory.name if directory == base else str(directory.relative_to(base)))


def _runs_below(directory: Path, seen: set[Path]) -> Iterator[Run]:
    """A run directory is a leaf: what an evaluation leaves inside it is not a run of its own here.

    Hidden directories are passed over: Hydra keeps a config.yaml of its own in `.hydra`. Links are followed
    (runs are moved to scratch disks), and no directory is entered twice.
    """
    pending = [directory]
    while pending:
        here = pending.pop()
        try:
            place = here.resolve()
            if place in seen:
                continue
            seen.add(place)
            run = read_run(here)
            if run is None:
                pending.extend(entry for entry in here.iterdir() if not entry.name.startswith(".") and entry.is_dir())
        except (OSError, RuntimeError):  # a directory that may not be read, or a link that leads to itself
            continue
        if run is not None:
            yield run
