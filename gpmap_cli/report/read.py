"""One run directory, read as plain data: what the run was asked to fit and how well it predicts.

It may come from a stranger: files are parsed as data alone (JSON, safe YAML) and of limited size, names lose
their control characters, and what is damaged becomes a problem of the run, never a crash.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from gpmap_cli.errors import one_line

Scalar = str | int | float | bool | None

STATUSES = ("completed", "failed", "running", "interrupted")
UNREADABLE = "unreadable"  # metrics.json is there but damaged
UNFINISHED = "unfinished"  # config.yaml is there, metrics.json is not
UNKNOWN = "unknown"  # the model of a run whose files do not say
_MAX_BYTES = 32 * 2**20
_MAX_VALUES = 10_000  # in one config.yaml; aliases can make a small file unfold into billions


@dataclass(frozen=True)
class Scores:
    """How well one environment of one split is predicted; what is undefined is None."""

    r2: float | None
    r2_ci95: tuple[float, float] | None = None
    pearson_r: float | None = None
    mse: float | None = None
    num_samples: int | None = None


@dataclass(frozen=True)
class SplitScores:
    """The scores of one split by environment, and the unweighted mean R^2 over environments."""

    mean_r2: float | None
    environments: dict[str, Scores]


@dataclass(frozen=True)
class Run:
    """One run directory: what was asked (config), what came out (scores), what is wrong with it (problems)."""

    directory: Path
    name: str  # relative to what the user named
    status: str  # one of STATUSES, or UNREADABLE or UNFINISHED
    model: str
    data: str | None = None
    seed: int | None = None
    config: dict[str, Scalar] = field(default_factory=dict)  # dotted keys; lists as text
    splits: dict[str, SplitScores] = field(default_factory=dict)
    noise_ceiling_r2: dict[str, float] = field(default_factory=dict)
    num_parameters: int | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory_mb: float | None = None
    error: str | None = None
    problems: tuple[str, ...] = ()

    @property
    def completed(self) -> bool:
        return self.status == "completed"

    @property
    def mean_r2(self) -> dict[str, float | None]:
        """Mean R^2 over environments, by split."""
        return {split: scores.mean_r2 for split, scores in self.splits.items()}

    @property
    def trouble(self) -> str:
        """Why the run failed and what is wrong with its files, on one line; empty when all is well."""
        return "; ".join(([self.error] if self.error else []) + list(self.problems))


def read_run(directory: Path) -> Run | None:
    """The run in this directory, or None when it holds none (simulations and predictions score nothing)."""
    has_metrics, has_config = ((directory / name).is_file() for name in ("metrics.json", "config.yaml"))
    if not has_metrics and not has_config:
        return None
    config, problems = _read_config(directory / "config.yaml")
    # Curves of transfer are in tables of their own, and what explain and scan measure is effects, not phenotypes.
    if config.get("command") in ("transfer", "explain", "scan"):
        return None
    if not has_metrics:
        if not problems and not ("model.name" in config and any(key.startswith("training.") for key in config)):
            return None
        problems.insert(0, "metrics.json is missing: the run was stopped, or is at its very beginning")
        return _without_scores(directory, UNFINISHED, None, config, problems)
    metrics, wrong = _read_json(directory / "metrics.json")
    if not wrong:
        check = _Check()
        run = check.run(metrics, directory, config)
        wrong = check.problems
        if not wrong:
            # A job that was refused before it began has nothing but its error.
            return run if run.status == "failed" and not has_config else replace(run, problems=tuple(problems))
    return _without_scores(directory, UNREADABLE, metrics, config, wrong + problems)


def _without_scores(directory: Path, status: str, metrics: Any, config: dict[str, Scalar], problems: list[str]) -> Run:
    """What can still be said of a run whose scores cannot be trusted: which it was, and what is wrong with it."""
    named = metrics.get("model") if isinstance(metrics, dict) else None
    model = named if isinstance(named, str) else config.get("model.name") or UNKNOWN
    seed = config.get("seed")
    return Run(
        directory,
        directory.name,
        status,
        clean(str(model)),
        seed=seed if isinstance(seed, int) else None,
        config=config,
        problems=tuple(problems),
    )


def _read_json(path: Path) -> tuple[Any, list[str]]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON number")

    try:
        return json.loads(_read_text(path), parse_constant=refuse), []
    except (OSError, ValueError, RecursionError) as trouble:
        return None, [f"metrics.json cannot be read ({clean(str(trouble))})"]


def _read_config(path: Path) -> tuple[dict[str, Scalar], list[str]]:
    if not path.is_file():
        return {}, ["config.yaml is missing"]
    try:
        parsed = yaml.safe_load(_read_text(path))
    except Exception as trouble:  # on hostile scalars the parser leaks IndexError, AttributeError and others
        return {}, [f"config.yaml cannot be read ({clean(str(trouble))})"]
    if not isinstance(parsed, dict):
        return {}, ["config.yaml holds no settings"]
    flat: dict[str, Scalar] = {}
    try:
        _flatten(parsed, "", flat, [0])
    except (_TooMuch, RecursionError):
        return {}, [f"config.yaml holds more than {_MAX_VALUES} values"]
    return flat, []


def _read_text(path: Path) -> str:
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"larger than {_MAX_BYTES // 2**20} MB")
    return path.read_text(encoding="utf-8")


class _TooMuch(Exception):
    pass


def _flatten(value: Any, key: str, into: dict[str, Scalar], count: list[int]) -> None:
    count[0] += 1
    if count[0] > _MAX_VALUES:
        raise _TooMuch
    if isinstance(value, dict):
        for inner, item in value.items():
            _flatten(item, f"{key}.{clean(str(inner))}" if key else clean(str(inner)), into, count)
    elif isinstance(value, (list, tuple)):
        if len(value) == 1 and not isinstance(value[0], (dict, list, tuple)):
            _flatten(value[0], key, into, count)  # data.order=3 and data.order=[3] are the same, and a number
        elif any(isinstance(item, (dict, list, tuple)) for item in value):
            for index, item in enumerate(value):
                _flatten(item, f"{key}.{index}", into, count)
        else:
            into[key] = clean(",".join("null" if item is None else str(item) for item in value))
    elif isinstance(value, int) and abs(value) >= 2**63:
        into[key] = "beyond 64 bits"
    elif value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        into[key] = value
    else:
        into[key] = clean(str(value))


def clean(text: str) -> str:
    """The text on one line without control characters: a name in a file must not steer the terminal."""
    return "".join(c if c.isprintable() else "?" for c in one_line(text, 300))


class _Check:
    """Holds metrics.json against its format and collects what is wrong, with the path inside the file."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def run(self, metrics: Any, directory: Path, config: dict[str, Scalar]) -> Run:
        top = self._mapping(metrics, "the whole file")
        status = top.get("status")
        if status not in STATUSES:
            self._wrong("status", f"one of {', '.join(STATUSES)}", status)
        model = self._text(top.get("model"), "model")
        if model is None and status == "completed":
            self._wrong("model", "a text", None)
        splits = {clean(name): self._split(scores, f"splits.{name}") for name, scores in self._items(top, "splits")}
        if status == "completed" and not any(split.environments for split in splits.values()):
            self._wrong("splits", "the scores by split", top.get("splits"))
        ceilings = self._numbers(top, "noise_ceiling_r2")
        error = self._text(top.get("error"), "error")
        seed = self._whole(top.get("seed"), "seed")
        return Run(
            directory,
            directory.name,
            str(status),
            model or clean(str(config.get("model.name") or UNKNOWN)),
            self._text(top.get("data"), "data"),
            seed,
            config,
            splits,
            ceilings,
            self._whole(top.get("num_parameters"), "num_parameters"),
            self._numbers(top, "seconds"),
            self._number(top.get("peak_memory_mb"), "peak_memory_mb"),
            error,
        )

    def _split(self, value: Any, where: str) -> SplitScores:
        split = self._mapping(value, where, ("mean_r2", "environments"))
        environments = {
            clean(name): self._scores(scores, f"{where}.environments.{name}")
            for name, scores in self._items(split, "environments", where + ".")
        }
        return SplitScores(self._number(split.get("mean_r2"), f"{where}.mean_r2"), environments)

    def _scores(self, value: Any, where: str) -> Scores:
        scores = self._mapping(value, where, ("r2",))
        interval = scores.get("r2_ci95")
        bounds: tuple[float, float] | None = None
        if isinstance(interval, list) and len(interval) == 2:
            low, high = (self._number(bound, f"{where}.r2_ci95") for bound in interval)
            bounds = None if low is None or high is None else (low, high)
        elif interval is not None:
            self._wrong(f"{where}.r2_ci95", "two numbers or null", interval)
        r2, pearson, mse = (self._number(scores.get(key), f"{where}.{key}") for key in ("r2", "pearson_r", "mse"))
        return Scores(r2, bounds, pearson, mse, self._whole(scores.get("num_samples"), f"{where}.num_samples"))

    def _mapping(self, value: Any, where: str, needed: Iterable[str] = ()) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._wrong(where, "a mapping", value)
            return {}
        self.problems.extend(f"metrics.json: {clean(where)}.{key} is missing" for key in needed if key not in value)
        return value

    def _items(self, parent: Mapping[str, Any], key: str, prefix: str = "") -> list[tuple[str, Any]]:
        value = parent.get(key)
        return [] if value is None else list(self._mapping(value, prefix + key).items())

    def _numbers(self, parent: Mapping[str, Any], key: str) -> dict[str, float]:
        read = ((clean(name), self._number(value, f"{key}.{name}")) for name, value in self._items(parent, key))
        return {name: number for name, number in read if number is not None}

    def _number(self, value: Any, where: str) -> float | None:
        if value is None:
            return None
        # Beyond 1e300 squares and sums overflow, and no score is there.
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e300:
            self._wrong(where, "a number or null", value)
            return None
        return float(value)

    def _whole(self, value: Any, where: str) -> int | None:
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63):
            return value
        self._wrong(where, "a whole number or null", value)
        return None

    def _text(self, value: Any, where: str) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str):
            self._wrong(where, "a text", value)
            return None
        lines = [line for line in value.splitlines() if line.strip()]
        # Of a traceback the last line says what happened.
        return clean(lines[-1] if lines and lines[0].startswith("Traceback") else value)

    def _wrong(self, where: str, wanted: str, value: Any) -> None:
        shown = "null" if value is None else one_line(repr(value), 60)
        self.problems.append(clean(f"metrics.json: {where} must be {wanted}, got {shown}"))
