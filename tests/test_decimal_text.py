"""Numbers in text are read as Python's own float reads them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmap_cli.prepare.dryad.decimal_text import PADDING, parse_cells


def parse(cells):
    text = np.frombuffer(b"0" * PADDING + b"\t".join(cell.encode() for cell in cells) + b"\n", np.uint8)
    ends = np.flatnonzero(text[PADDING:] < 14) + PADDING
    return parse_cells(text, np.concatenate([[PADDING], ends[:-1] + 1]), ends)


FORMATS = ["{:.1f}", "{:.4f}", "{:.8f}", "{:.9f}", "{:.15f}", "{:g}", "{!r}", "{:.3e}", "{:.18e}", "{:.17f}"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 8.99), st.sampled_from(FORMATS)), min_size=1, max_size=40))
def test_any_number_in_any_format(drawn):
    cells = [form.format(value) for value, form in drawn]
    values, bad = parse(cells)
    assert not len(bad)
    for cell, value in zip(cells, values, strict=True):
        exact = float(cell)
        digits = cell.partition(".")[2]
        if len(digits) <= 15 and "e" not in cell:
            assert value == exact, cell
        else:
            assert abs(value - exact) <= 2 * math.ulp(exact), cell


@pytest.mark.parametrize(
    "cell", ["0", "1", "7", "0.", "1.", ".5", "-0.0", "+1", " 0.25 ", "1e-05", "1E-5", "10.5", "00.5"]
)
def test_unusual_ways_to_write_a_number(cell):
    values, bad = parse([cell, "0.5"])
    assert not len(bad)
    assert values.tolist() == [float(cell), 0.5]


@pytest.mark.parametrize("cell", ["", "nan", "NaN", "NA", "."])
def test_missing_cells(cell):
    values, bad = parse(["0.5", cell, "0.25"])
    assert not len(bad)
    np.testing.assert_array_equal(values, [0.5, np.nan, 0.25])


@pytest.mark.parametrize(
    "cell",
    [
        "x",
        "1..2",
        "1.2.3",
        "0.1a2",
        "0,5",
        "1e",
        "e5",
        "0.5e-",
        "1_0",
        "inf",
        "-inf",
        "1e999",
        "0x10",
        "é",
        "5" * 70,
        "0:5",
    ],
)
def test_what_is_no_number_is_pointed_out(cell):
    values, bad = parse(["0.5", cell, "0.25"])
    assert bad.tolist() == [1]
    assert values[[0, 2]].tolist() == [0.5, 0.25]


def test_every_character_at_every_place_is_told_from_a_digit():
    for place in (0, 2, 3, 9):
        for code in range(14, 256):
            written = bytearray(b"0.12345678")
            written[place] = code
            text = np.frombuffer(b"0" * PADDING + bytes(written) + b"\n", np.uint8)
            starts, ends = np.array([PADDING]), np.array([PADDING + len(written)])
            values, bad = parse_cells(text, starts, ends)
            try:
                exact = float(written.decode("ascii"))
            except (UnicodeDecodeError, ValueError):
                assert bad.tolist() == [0], written
            else:
                if b"_" in written or math.isinf(exact):
                    assert bad.tolist() == [0]
                else:
                    assert values[0] == pytest.approx(exact, rel=1e-15), written
