"""Facts, tables and histograms as plain text of at most 80 columns."""

from __future__ import annotations

import textwrap

import numpy as np
from numpy.typing import ArrayLike

WIDTH = 80
_LABEL = 15  # so that a SHA-256 stays on one line
_MIN_NAME = 8
_SHADES = ".:-=+*#%@"  # from a rare class to the most frequent one


def fact(label: str, text: str) -> list[str]:
    """A labelled line, folded under itself when it is long."""
    label = f"{plain(label)} ".ljust(_LABEL)
    folded = textwrap.wrap(label + plain(text), WIDTH, subsequent_indent=" " * _LABEL, break_on_hyphens=False)
    return folded if text else [label.rstrip()]


def note(text: str) -> list[str]:
    """A sentence, folded."""
    return textwrap.wrap(plain(text), WIDTH, break_on_hyphens=False)


def plain(text: str) -> str:
    """One line of printable characters: a stranger's file shall not steer the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def cut(text: str, length: int) -> str:
    """The text, or its ends around `...` when it is longer: long names often differ in their last letters only."""
    if len(text) <= length:
        return text
    tail = (length - 3) // 2
    return f"{text[: length - 3 - tail]}...{text[len(text) - tail :]}"


def table(rows: list[list[str]]) -> list[str]:
    """Aligned columns: the first to the left and cut where it must be, the others to the right."""
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    first = min(first, max(_MIN_NAME, WIDTH - sum(others) - 2 * len(others)))
    lines = ("  ".join([cut(name, first).ljust(first), *map(str.rjust, cells, others)]) for name, *cells in rows)
    return [line.rstrip() for line in lines]


def shades(counts: ArrayLike) -> str:
    """A histogram on one line: a character per class, the darker the more it holds, blank where it holds none."""
    heights = np.asarray(counts, np.float64)
    top = heights.max(initial=0.0)
    levels = np.ceil(heights / top * len(_SHADES)).astype(int) if top > 0 else np.zeros(len(heights), int)
    return "|" + "".join(" " if level == 0 else _SHADES[level - 1] for level in levels) + "|"


def bar(share: float, width: int) -> str:
    """A bar for a number from 0 to 1, padded to `width` characters."""
    return ("#" * round(min(max(share, 0.0), 1.0) * width)).ljust(width)
