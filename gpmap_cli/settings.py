"""Typed settings: frozen dataclasses whose fields carry their range, filled from a plain mapping.

Every problem of a mapping is collected (unknown keys, wrong types, values out of range, missing values)
so that the user sees all of them at once. Nothing here knows where the mapping came from.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gpmap_cli.errors import Problem, did_you_mean, listing, nearest

T = TypeVar("T")
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def num_bytes(text: str) -> int | None:
    """A size such as `2GB`, `500 MB`, `1.5GiB` or a plain number of bytes, in bytes; None for anything else."""
    found = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,6})?)\s*([kKMGT]?)(i?)[bB]?\s*", text)
    if found is None or (found[3] and not found[2]):
        return None
    return int(float(found[1]) * (1024 if found[3] else 1000) ** " KMGT".index(found[2].upper() or " "))


def setting(
    default: Any = dataclasses.MISSING,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Any:
    """A field with a range: `minimum`/`maximum` include the bound, `above`/`below` exclude it."""
    bounds = {"minimum": minimum, "maximum": maximum, "above": above, "below": below}
    return field(default=default, metadata={key: bound for key, bound in bounds.items() if bound is not None})


@dataclass(frozen=True)
class Group:
    """How a part of the configuration is called in messages: its prefix and the thing that owns it."""

    prefix: str  # "model." or "" for the root
    owner: str  # "attention", "train"


Rule = Callable[[str], Iterable[Problem]]  # given the prefix of the keys


class Ruled:
    """Settings with rules that span fields, each checked as soon as the fields that it reads are right."""

    def rules(self) -> tuple[Rule, ...]:
        """The rules; one that reads a field that is wrong is left at what it has found before that."""
        return ()

    def problems(self, group: Group) -> list[Problem]:
        """What is wrong by all rules."""
        return [problem for rule in self.rules() for problem in rule(group.prefix)]


def fill(cls: type[T], mapping: Mapping[str, Any], group: Group, problems: list[Problem]) -> T | None:
    """Fill the settings class from the mapping; append what is wrong and return None if anything is.

    A class may be `Ruled`, or define `problems(self, group) -> list[Problem]`, for what spans fields: a rule runs
    when the fields that it reads are right, whatever is wrong with others.
    """
    found: list[Problem] = []
    wrong: set[str] = set()
    hints = typing.get_type_hints(cls)
    known = {item.name: item for item in dataclasses.fields(typing.cast(Any, cls))}
    values: dict[str, Any] = {}
    for key, raw in mapping.items():
        if key not in known:
            wrong.add(nearest(str(key), known) or "")  # which was meant, most likely, and is not known then
            found.append(
                Problem(
                    f"{group.prefix}{key} is not a setting of {group.owner}",
                    did_you_mean(str(key), known, group.prefix),
                )
            )
            continue
        name = group.prefix + str(key)
        try:
            value = _convert(raw, hints[key])
        except _WrongValue as other:
            found.append(Problem(f"{name} must be {other.wanted}, got {_shown(raw)}", _type_hint(other, name)))
            wrong.add(key)
            continue
        trouble = _out_of_range(value, known[key].metadata)
        if trouble:
            found.append(Problem(f"{name} must be {trouble}, got {_shown(raw)}", f"set {name} within its range"))
            wrong.add(key)
            continue
        values[key] = value
    for key, item in known.items():
        unset = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if key not in mapping and unset:
            found.append(Problem(f"{group.prefix}{key} is not set", f"add {group.prefix}{key}=..."))
            wrong.add(key)
    made = _with_gaps(cls, values, wrong & set(known)) if found else cls(**values)
    found += _problems_across_fields(made, group)
    problems.extend(found)
    return None if found else made


class _ReadsWrongField(Exception):
    """A rule that spans fields has come to one whose value is not known."""


def _with_gaps(cls: type[T], values: Mapping[str, Any], wrong: Iterable[str]) -> T:
    """Settings for the rules alone: what is wrong cannot be read, what was not given has its default."""

    def unreadable(_: object) -> Any:
        raise _ReadsWrongField

    made: T = object.__new__(type(cls.__name__, (cls,), {name: property(unreadable) for name in wrong}))
    for item in dataclasses.fields(typing.cast(Any, cls)):
        if item.default is not dataclasses.MISSING:
            vars(made)[item.name] = item.default
        elif item.default_factory is not dataclasses.MISSING:
            vars(made)[item.name] = item.default_factory()
    vars(made).update(values)
    return made


def _problems_across_fields(made: object, group: Group) -> Iterator[Problem]:
    rules: tuple[Rule, ...] = ()
    if isinstance(made, Ruled):
        rules = made.rules()
    elif hasattr(made, "problems"):
        rules = (lambda _: made.problems(group),)
    for rule in rules:
        with suppress(_ReadsWrongField):
            yield from rule(group.prefix)


class _WrongValue(Exception):
    def __init__(self, wanted: str, choices: tuple[str, ...] = (), given: str = "") -> None:
        self.wanted, self.choices, self.given = wanted, choices, given


def _shown(value: Any) -> str:
    return "null" if value is None else f"`{value}`"


def _type_hint(wrong: _WrongValue, name: str) -> str:
    if wrong.choices:
        return did_you_mean(wrong.given, wrong.choices, f"{name}=")
    return f"write {name}=... with {wrong.wanted}"


def _convert(value: Any, kind: Any) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, typing.get_args(kind))
    if origin is typing.Literal:
        choices = typing.get_args(kind)
        if value in choices:
            return value
        raise _WrongValue(f"one of {listing(map(str, choices))}", tuple(map(str, choices)), str(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _WrongValue("a mapping")
        element = typing.get_args(kind)[1]
        return {str(key): _convert(item, element) for key, item in value.items()}
    if origin is tuple:
        element = typing.get_args(kind)[0]
        items = list(value) if isinstance(value, (list, tuple)) else [value]
        if value is None:
            raise _WrongValue("a list")
        return tuple(_convert(item, element) for item in items)
    return _convert_scalar(value, kind)


def _convert_union(value: Any, options: tuple[Any, ...]) -> Any:
    if value is None and type(None) in options:
        return None
    wanted = []
    for option in options:
        if option is type(None):
            continue
        try:
            return _convert(value, option)
        except _WrongValue as wrong:
            wanted.append(wrong)
    if len(wanted) == 1:
        raise wanted[0]
    raise _WrongValue(" or ".join(wrong.wanted for wrong in wanted))


def _convert_scalar(value: Any, kind: type) -> Any:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and is_number and (isinstance(value, int) or value.is_integer()):
        return int(value)
    if kind is float and is_number and abs(value) <= sys.float_info.max:
        return float(value)
    if kind is str and isinstance(value, str):
        return value
    if kind is str and is_number:  # environments and loci may be named by numbers
        return str(value)
    raise _WrongValue(_WORDS[kind])


def _out_of_range(value: Any, bounds: Mapping[str, float]) -> str | None:
    if isinstance(value, tuple):
        troubles = (_out_of_range(item, bounds) for item in value)
        return next((trouble for trouble in troubles if trouble), None)
    if value is None or isinstance(value, (str, bool)):
        return None
    if "minimum" in bounds and value < bounds["minimum"]:
        return f"at least {bounds['minimum']:g}"
    if "maximum" in bounds and value > bounds["maximum"]:
        return f"at most {bounds['maximum']:g}"
    if "above" in bounds and value <= bounds["above"]:
        return f"above {bounds['above']:g}"
    if "below" in bounds and value >= bounds["below"]:
        return f"below {bounds['below']:g}"
    return None
