"""Numbers written as text, millions at a time: decimals in [0, 10) as tables of probabilities hold them.

A cell is read with whole-array arithmetic, eight characters in one 64-bit integer: `d.ddd` with up to 18 decimals,
or such a number with an exponent; anything else (nan, signs, blanks) goes to Python's own `float`, once for each
different text. A value below 9 of at most 15 decimals without an exponent is the float64 nearest to the text, others
are within two units in the last place of it. Source of the eight-digit trick: D. Lemire, "Quickly parsing eight
digits" (2018).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.prepare.tables.text_table import MISSING, parsed

PADDING = 32  # bytes that must lie before the first cell of a text that is parsed here
_WORD = 8
_MOST_DECIMALS = 18  # together with the digit before the point they fit 64 bits
_LONGEST_CELL = 64
_MOST_DIFFERENT = 4096  # texts that Python's own float is asked for in one piece
_ZEROS = np.uint64(0x3030303030303030)
_TOP_BITS = np.uint64(0x8080808080808080)
_ABOVE_NINE = np.uint64(0x4646464646464646)
# Of eight characters the last k are kept, the others made `0`.
_KEEP = np.array([(0xFFFFFFFFFFFFFFFF << (8 * (8 - k))) & 0xFFFFFFFFFFFFFFFF for k in range(9)], dtype=np.uint64)
_FILL = ~_KEEP & _ZEROS
_TEN_TO = 10.0 ** np.arange(_MOST_DECIMALS + 1)
_WHOLE_TEN_TO = 10 ** np.arange(_MOST_DECIMALS + 1, dtype=np.uint64)


def parse_cells(
    text: NDArray[np.uint8], starts: NDArray[np.intp], ends: NDArray[np.intp], missing: Sequence[str] = MISSING
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Values of the cells text[start:end], NaN where missing, and the numbers of the cells that are no numbers.

    At least PADDING bytes lie before every cell.
    """
    values, good = _plain(text, starts, ends)
    if good.all():
        return values, np.empty(0, np.intp)
    rest = np.flatnonzero(~good)
    with_exponent, scaled = _with_exponent(text, starts[rest], ends[rest])
    values[rest[with_exponent]] = scaled
    return values, _by_python(text, starts, ends, rest[~with_exponent], values, missing)


def _plain(
    text: NDArray[np.uint8], starts: NDArray[np.intp], ends: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values of cells `d` or `d.dd...`, and which cells are such."""
    lengths = ends - starts
    decimals = np.maximum(lengths - 2, 0)
    first = text[starts] - np.uint8(48)
    good = (
        (first < 10)
        & (lengths > 0)
        & ((lengths == 1) | ((text[np.minimum(starts + 1, len(text) - 1)] == 46) & (lengths > 2)))
    )
    longest = int(decimals.max(initial=0))
    if longest > _MOST_DECIMALS:
        good &= decimals <= _MOST_DECIMALS
        decimals = np.minimum(decimals, _MOST_DECIMALS)
    words = np.ndarray((len(text) - _WORD + 1,), "V8", text.data, 0, (1,))  # the eight bytes at every place
    whole = np.zeros(len(starts), np.uint64)
    for number in range(0, min(longest, _MOST_DECIMALS), _WORD):
        kept = np.clip(decimals - number, 0, _WORD)
        word = np.take(words, ends - (number + _WORD)).view(np.uint64)
        word = (word & _KEEP[kept]) | _FILL[kept]
        good &= (((word - _ZEROS) | (word + _ABOVE_NINE)) & _TOP_BITS) == 0
        whole += _eight_digits(word) * np.uint64(10**number)
    if longest > 15:  # beyond what float64 adds exactly
        whole += first * _WHOLE_TEN_TO[decimals]
        return whole / _TEN_TO[decimals], good
    power = _TEN_TO[decimals]
    return (first * power + whole) / power, good


def _eight_digits(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The numbers that eight characters `0`..`9` write, the first in the lowest byte: pairs, fours, then eight."""
    word = word - _ZEROS
    word = word * np.uint64(10) + (word >> np.uint64(8))
    pairs = np.uint64(0x000000FF000000FF)
    upper = (word & pairs) * np.uint64(0x000F424000000064)
    lower = ((word >> np.uint64(16)) & pairs) * np.uint64(0x0000271000000001)
    return (upper + lower) >> np.uint64(32)


def _with_exponent(
    text: NDArray[np.uint8], starts: NDArray[np.intp], ends: NDArray[np.intp]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which cells are `d.ddde-dd` (or `e+dd`), and the values of those."""
    tail = text[ends[:, None] - np.arange(4, 0, -1)]
    tens, ones = tail[:, 2] - np.uint8(48), tail[:, 3] - np.uint8(48)
    found = (ends - starts > 4) & ((tail[:, 0] | 32) == 101) & ((tail[:, 1] == 45) | (tail[:, 1] == 43))
    found &= (tens < 10) & (ones < 10)
    values, good = _plain(text, starts[found], ends[found] - 4)
    exponents = (10 * tens[found].astype(np.intp) + ones[found]) * np.where(tail[found, 1] == 45, -1, 1)
    found[np.flatnonzero(found)[~good]] = False
    values, exponents = values[good], exponents[good]
    # One rounding more than the digits alone; negative powers of ten are not exact, so divide by positive ones.
    powers = 10.0 ** np.abs(exponents)
    return found, np.where(exponents < 0, values / powers, values * powers)


def _by_python(
    text: NDArray[np.uint8],
    starts: NDArray[np.intp],
    ends: NDArray[np.intp],
    rest: NDArray[np.intp],
    values: NDArray[np.float64],
    missing: Sequence[str],
) -> NDArray[np.intp]:
    """Fills in the values of the cells `rest`, each different text once; gives the cells that are no numbers."""
    known: dict[bytes, float | None] = {}
    bad = []
    for cell in rest.tolist():
        begin, end = int(starts[cell]), int(ends[cell])
        written = text[begin : min(end, begin + _LONGEST_CELL + 1)].tobytes()
        if written not in known:
            if len(known) > _MOST_DIFFERENT:
                known.clear()
            known[written] = _value(written, missing)
        value = known[written]
        if value is None:
            bad.append(cell)
        else:
            values[cell] = value + 0.0  # without a minus before a zero
    return np.array(bad, dtype=np.intp)


def _value(written: bytes, missing: Sequence[str]) -> float | None:
    if len(written) > _LONGEST_CELL:
        return None
    try:
        cell = written.decode("ascii")
    except UnicodeDecodeError:
        return None
    value = parsed(cell.strip(), missing) if cell.isprintable() else None
    return None if value is not None and math.isinf(value) else value
