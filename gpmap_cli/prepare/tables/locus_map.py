"""A table that says where loci lie: chromosome and position of each, by locus id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.errors import InputError, listing
from gpmap_cli.prepare.tables.text_table import TextTable, parsed, read_table, shown

_LOCUS = ("locus", "marker", "snp", "id", "name")
_CHROMOSOME = ("chromosome", "chr", "chrom", "#chrom")
_BASE_PAIRS = ("position", "pos", "bp")
_CENTIMORGANS = ("cm", "position_cm", "pos_cm", "genetic_position")
_LARGEST_POSITION = 2**62


@dataclass(frozen=True)
class Placed:
    """Chromosomes (L,) and positions (L,) in base pairs of some loci, or None, and what there is to say about it."""

    chromosomes: NDArray | None
    positions: NDArray[np.int64] | None
    lines: list[str]


def is_place_column(name: str) -> bool:
    """Whether a column of this name tells chromosomes or positions."""
    return name.lower() in (*_CHROMOSOME, *_BASE_PAIRS, *_CENTIMORGANS)


def place_loci(path: Path, locus_ids: Sequence[str]) -> Placed:
    """Where the loci lie by the map in a file; loci that are not in it have no chromosome."""
    table = read_table(path, absent_hint="check source.map")
    column = next((name for name in table.columns if name.lower() in _LOCUS), None)
    if column is None:
        raise InputError(f"{path}: there is no column of locus ids", f"call it {listing(_LOCUS)}")
    if not any(is_place_column(name) for name in table.columns):
        raise InputError(f"{path}: there is neither a column `chromosome` nor `position`", "name the columns")
    row_of = {one: row for row, one in enumerate(table.unique(column, "loci"))}
    rows = [row_of.get(one, -1) for one in locus_ids]
    num_found = len(rows) - rows.count(-1)
    if not num_found:
        raise InputError(
            f"{path}: none of its {len(row_of)} loci is among the genotypes (here {listing(map(shown, row_of), 3)},"
            f" there {listing(map(shown, locus_ids), 3)})",
            "loci match by id",
        )
    lines = [f"{path.name}: {num_found} of {len(locus_ids)} loci are on the map"]
    if num_found < len(row_of):
        lines.append(f"{len(row_of) - num_found} loci are on the map and have no genotypes")
    placed = places_in(table, rows)
    return Placed(placed.chromosomes, placed.positions, lines + placed.lines)


def places_in(table: TextTable, rows: Sequence[int]) -> Placed:
    """Chromosomes and positions in these rows of a table; a row of -1 is a locus that the table does not know."""
    chromosome, position = (
        next((name for name in table.columns if name.lower() in names), None) for names in (_CHROMOSOME, _BASE_PAIRS)
    )
    chromosomes, positions, lines = None, None, []
    if chromosome is not None:
        texts = table.column(chromosome)
        chromosomes = np.array([texts[row] if row >= 0 else "" for row in rows], dtype=object)
    if position is not None:
        positions, line = _base_pairs(table, position, rows)
        lines += [line] if line else []
    if any(name.lower() in _CENTIMORGANS for name in table.columns):
        lines.append("genetic positions (cM) are left out: a dataset file holds base pairs")
    return Placed(chromosomes, positions, lines)


def _base_pairs(table: TextTable, name: str, rows: Sequence[int]) -> tuple[NDArray[np.int64] | None, str]:
    """Positions of the loci, or None and why they are left out."""
    cells = table.column(name)
    values = [parsed(cells[row]) if row >= 0 else np.nan for row in rows]
    for row, value in zip(rows, values, strict=True):
        if value is None:
            raise table.wrong(row, f"`{shown(cells[row])}` in column `{shown(name)}` is not a number", "positions: bp")
    found = np.array(values, np.float64)
    with np.errstate(invalid="ignore"):
        is_whole = (found == np.rint(found)) & (np.abs(found) < _LARGEST_POSITION)
    if is_whole.all():
        return found.astype(np.int64), ""
    known = ~np.isnan(found)
    if (known & ~is_whole).any():
        why = f"{int((known & ~is_whole).sum())} of {len(rows)} are not whole numbers of base pairs (centimorgans?)"
    else:
        why = f"{int((~known).sum())} of {len(rows)} loci have none"
    return None, f"positions left out: {why}"
