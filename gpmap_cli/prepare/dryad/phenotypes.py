"""One environment's phenotypes of the yeast deposit: fitness and its standard error, a row for every segregant."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.errors import InputError
from gpmap_cli.prepare.tables.text_table import parsed, read_text, shown

_HINT = "take the file as it was deposited: an id, fitness and standard error in each line, separated by tabs"


@dataclass(frozen=True)
class DepositedPhenotype:
    """Fitness (M,) and standard errors (M,) or None, NaN missing; ids where the file has them."""

    path: Path
    fitness: NDArray[np.float32]
    std: NDArray[np.float32] | None
    ids: list[str] | None
    first_line: int  # the line of the first row
    bad_last: InputError | None  # what is wrong with the last row, which may be a trailing one

    @property
    def columns(self) -> str:
        """What its columns were taken for."""
        before = "id, " if self.ids is not None else ""
        return f"{before}fitness" + (", standard error" if self.std is not None else "")

    @property
    def counts_rows(self) -> bool:
        """Whether what was taken for fitness is the number of the row: an index, rather."""
        steps = np.diff(self.fitness)
        return self.ids is None and len(steps) > 1 and bool((steps == 1).all())

    def aligned(self, num_rows: int) -> DepositedPhenotype:
        """The rows that belong to `num_rows` segregants: one trailing row is left out, other counts are refused."""
        count = len(self.fitness)
        if count not in (num_rows, num_rows + 1):
            raise InputError(
                f"{self.path} has {count} rows and the genotypes have {num_rows}",
                "rows align by order, so both have as many (one trailing row of phenotypes is tolerated)",
            )
        if count == num_rows:
            if self.bad_last is not None:
                raise self.bad_last
            return self
        ids = None if self.ids is None else self.ids[:-1]
        std = None if self.std is None else self.std[:-1]
        return DepositedPhenotype(self.path, self.fitness[:-1], std, ids, self.first_line, None)


def read_phenotype(path: Path) -> DepositedPhenotype:
    """The file of one environment, with a header line or without one.

    By position: id, fitness, standard error (which may lack). With two columns and either no header, or fractions in
    the first one, which are no ids: fitness, standard error. A header is a first line that holds something else than
    numbers after its first cell, or that is one cell shorter than the others. `nan` or an empty cell is missing.
    """
    lines = read_text(path).split("\n")
    while lines and not lines[-1].strip("\r "):
        lines.pop()  # only at the end: rows align by order, so an empty one is a row
    rows = [(number, _cells(line)) for number, line in enumerate(lines, 1)]
    if not rows:
        raise InputError(f"{path}: the file is empty", _HINT)
    has_header = _is_header(rows)
    if has_header:
        del rows[0]
    if not rows:
        raise InputError(f"{path}: there is nothing below its first line", _HINT)
    width = len(rows[0][1])
    if width < 2:
        raise InputError(f"{path}:{rows[0][0]}: one value, and at least two are needed", _HINT)
    fitness_at = 1 if width > 2 or (has_header and not _holds_fractions(rows)) else 0
    table = np.full((len(rows), 2), np.nan, np.float32)
    bad_last = None
    for place, (number, cells) in enumerate(rows):
        trouble = _read_row(path, number, cells, width, fitness_at, table[place])
        if trouble is not None:
            if place < len(rows) - 1:
                raise trouble
            bad_last = trouble
    has_std = width > fitness_at + 1
    ids = [cells[0] for _, cells in rows] if fitness_at else None
    return DepositedPhenotype(path, table[:, 0], table[:, 1] if has_std else None, ids, rows[0][0], bad_last)


def _cells(line: str) -> list[str]:
    line = line.rstrip("\r")
    return [_unquoted(cell.strip()) for cell in (line.split("\t") if "\t" in line else line.split())]


def _unquoted(cell: str) -> str:
    """The text between quotes, which R puts around ids and names: they are no part of an id."""
    is_quoted = len(cell) > 1 and cell[0] == cell[-1] and cell[0] in "\"'"
    return cell[1:-1].strip() if is_quoted else cell


def _is_header(rows: list[tuple[int, list[str]]]) -> bool:
    first = rows[0][1]
    if len(rows) > 1 and len(first) == len(rows[1][1]) - 1 and any(parsed(cell) is None for cell in first):
        return True  # as R writes tables: no name above the ids
    if first[:1] == [""] and first[1:] == [str(number) for number in range(len(first) - 1)]:
        return True  # as pandas writes tables without names
    return any(parsed(cell) is None for cell in first[1:])


def _holds_fractions(rows: list[tuple[int, list[str]]]) -> bool:
    """Whether the first column holds a number that is not whole, and is so no column of ids."""
    values = (parsed(cells[0]) for _, cells in rows)
    return any(value is not None and math.isfinite(value) and value != round(value) for value in values)


def _read_row(
    path: Path, number: int, cells: list[str], width: int, fitness_at: int, values: NDArray[np.float32]
) -> InputError | None:
    """Puts fitness and standard error of a row into `values`; gives what is wrong with it."""
    if len(cells) != width:
        return InputError(f"{path}:{number}: {len(cells)} values, and the first row has {width}", _HINT)
    for place, cell in enumerate(cells[fitness_at : fitness_at + 2]):
        value = parsed(cell)
        if value is None or math.isinf(value) or abs(value) > float(np.finfo(np.float32).max):
            return InputError(f"{path}:{number}: `{shown(cell)}` is not a finite number", _HINT)
        if place == 1 and value < 0:
            return InputError(f"{path}:{number}: `{shown(cell)}` is a standard error below zero", _HINT)
        values[place] = value
    return None
