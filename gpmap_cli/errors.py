"""What the program says when it cannot go on, and whose fault that is.

`InputError` is the user's: its text becomes `error:` and `hint:` lines and exit status 2. Anything else
that escapes is ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing wrong with what the user handed over, and what to do about it."""

    message: str
    hint: str

    def lines(self) -> list[str]:
        return [f"error: {one_line(self.message)}", f"hint: {one_line(self.hint)}"]


class InputError(ValueError):
    """The user's input is at fault. Carries one or more problems; all are shown at once."""

    def __init__(self, message: str | Iterable[Problem], hint: str = "") -> None:
        self.problems: tuple[Problem, ...] = (Problem(message, hint),) if isinstance(message, str) else tuple(message)
        super().__init__("; ".join(problem.message for problem in self.problems))

    def lines(self) -> list[str]:
        return [line for problem in self.problems for line in problem.lines()]


class Interrupted(Exception):
    """The run was asked to stop and has left everything that resuming needs."""


class FitFailed(RuntimeError):
    """A fit cannot go on (for instance a diverging loss): not the input's fault, but no bug either."""


class ProcessLost(RuntimeError):
    """One of the processes that fit together has gone, and the others cannot go on without it."""


def one_line(text: str, limit: int = 600) -> str:
    """The text on one line, cut when somebody's file put a novel into a name."""
    flat = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that a mistyped word most likely meant, or None when nothing is near."""
    choices = list(choices)
    lowered = {choice.lower(): choice for choice in choices}
    if word.lower() in lowered:
        return lowered[word.lower()]
    found = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    return found[0] if found else None


def listing(items: Iterable[str], limit: int = 12) -> str:
    """`a`, `b`, `c` and 30 more."""
    items = list(items)
    shown = ", ".join(f"`{item}`" for item in items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"


def did_you_mean(word: str, choices: Iterable[str], prefix: str = "", limit: int = 12) -> str:
    """A hint for a word that is not among the choices: the nearest one, or the choices, at most `limit` of them."""
    choices = list(choices)
    guess = nearest(word, choices)
    if guess is not None:
        return f"did you mean {prefix}{guess}?"
    if not choices:
        return "there is nothing to choose from here"
    return f"choose from {listing((prefix + choice for choice in choices), limit)}"
