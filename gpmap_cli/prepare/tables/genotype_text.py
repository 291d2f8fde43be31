"""Tables of text whose cells are genotypes: thousands of columns, read row by row into a matrix of numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.errors import InputError, listing
from gpmap_cli.prepare.tables.genotype_rows import GenotypeRows
from gpmap_cli.prepare.tables.text_table import (
    MISSING,
    Record,
    TextTable,
    number_hint,
    parsed,
    refuse_ragged,
    shown,
)

_MANY = 2**16  # different texts that are kept with their values


@dataclass
class CellValues(dict[str, float]):
    """What a cell says, by its text: a number, NaN where it is missing, infinity where it is neither.

    `codes` gives texts their numbers (A=0, H=1, B=2); without it, cells are numbers. With `unknown_is_missing`
    other texts are missing genotypes and counted. Each text is parsed once.
    """

    codes: Mapping[str, float] | None = None
    missing: Collection[str] = MISSING
    unknown_is_missing: bool = False
    unknown: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.missing = frozenset(self.missing)

    def of(self, fields: list[str]) -> NDArray[np.float32]:
        """What the cells of a row say."""
        values: Iterable[float] | None = None
        if self.codes is None and len(self) >= _MANY:  # dosages: hardly a text is there twice
            values = self._numbers(fields)
        with np.errstate(over="ignore"):  # what float32 cannot hold is no genotype, and neither is infinity
            return np.fromiter(map(self.__getitem__, fields) if values is None else values, np.float32, len(fields))

    def _numbers(self, fields: list[str]) -> list[float] | None:
        """The same, quickly, for a row of numbers and missing cells; None for any other."""
        if "_" in "".join(fields):  # Python reads 1_000
            return None
        try:
            return [math.nan if text in self.missing else float(text) for text in fields]
        except ValueError:
            return None

    def __missing__(self, text: str) -> float:
        cell = text.strip()
        if self.codes is not None and cell in self.codes:
            value: float | None = self.codes[cell]
        elif cell in self.missing:
            value = math.nan
        else:
            value = parsed(cell, ()) if self.codes is None else None
        if value is None and self.unknown_is_missing:
            self.unknown[cell if cell in self.unknown or len(self.unknown) < 100 else "others"] += 1
            return math.nan  # and counted when it is there again
        value = math.inf if value is None else value
        if len(self) < _MANY:
            self[text] = value
        return value


@dataclass(frozen=True)
class Rule:
    """Which numbers are genotypes: copies of the alternative allele, 0..ploidy, or alleles -1..+1.

    A ploidy of None is found out: 1 or 2, or the largest number among the codes.
    """

    coding: Literal["dosage", "plus_minus_one"] = "dosage"
    ploidy: int | None = None
    codes: Mapping[str, float] | None = None

    @property
    def is_signed(self) -> bool:
        return self.coding == "plus_minus_one" and self.codes is None

    @property
    def limit(self) -> float:
        """The largest number that may stand in a cell."""
        if self.is_signed:
            return 1
        if self.ploidy is not None:
            return self.ploidy
        return 2 if self.codes is None else max(1, math.ceil(max(self.codes.values())))


@dataclass(frozen=True)
class GenotypeTable:
    """Genotypes (rows, columns) int8 or float32 of a table, and its other columns as texts.

    `rest` keeps the line of every row. num_missing counts missing genotypes, num_minus_one those written as -1. Of the
    numbers in each column as they stand, has_fraction says whether one is not whole, and largest is -inf without any.
    """

    rest: TextTable
    columns: list[str]
    matrix: NDArray
    ploidy: int
    num_missing: int
    num_minus_one: int
    text_columns: list[str]
    has_fraction: NDArray[np.bool_]
    largest: NDArray[np.float32]


def read_genotypes(
    path: Path,
    names: Sequence[str],
    records: Iterator[Record],
    chosen: Sequence[int],
    cells: CellValues,
    rule: Rule,
    may_hold_texts: bool = False,
) -> GenotypeTable:
    """The genotypes in the `chosen` of the named columns, by place, and the rest as texts.

    With `may_hold_texts`, columns that hold texts and not a single number are no genotypes, and are left out.
    """
    chosen = list(chosen)
    if not chosen:
        raise InputError(f"{path}: there is no column of genotypes", "genotypes have a column for every locus")
    for place in chosen:
        if not names[place]:
            raise InputError(f"{path}: column {place + 1} has no name", "genotypes need a name in the header")
    others = sorted(set(range(len(names))) - set(chosen))
    reading = _Reading(path, [names[place] for place in chosen], cells, rule, may_hold_texts)
    rows: list[list[str]] = []
    lines: list[int] = []
    is_block = chosen == list(range(chosen[0], chosen[-1] + 1))
    for line, fields in records:
        refuse_ragged(path, line, len(fields), len(names))
        picked = fields[chosen[0] : chosen[-1] + 1] if is_block else [fields[place] for place in chosen]
        reading.add(line, picked)
        rows.append([fields[place].strip() for place in others])
        lines.append(line)
    if not rows:
        raise InputError(f"{path}: the table has a header and no rows", "a row of genotypes is needed")
    return reading.table(TextTable(path, tuple(names[place] for place in others), rows, lines))


class _Reading:
    """One table on its way: checks each row by its line, and remembers what only the whole table decides."""

    def __init__(self, path: Path, names: list[str], cells: CellValues, rule: Rule, may_hold_texts: bool) -> None:
        self.path, self.names, self.cells, self.rule = path, names, cells, rule
        self.rows = GenotypeRows(f"{path}: the genotypes")
        self.may_hold_texts = may_hold_texts
        self.has_number = np.zeros(len(names), bool)
        self.texts: dict[int, tuple[int, str]] = {}  # the first text in a column
        self.first_minus_one: tuple[int, str] | None = None
        self.num_minus_one = 0
        self.has_zero = self.has_one = False
        self.has_fraction = np.zeros(len(names), bool)
        self.largest = np.full(len(names), -np.inf, np.float32)

    def add(self, line: int, fields: list[str]) -> None:
        values = self.cells.of(fields)
        is_minus_one = values == -1
        lowest = -1.0 if self.rule.is_signed else 0.0
        outside = (values < lowest) | (values > self.rule.limit)
        if not self.rule.is_signed and self.rule.codes is None:
            outside &= ~is_minus_one  # a missing one, if the table turns out to hold whole numbers
        if outside.any():
            self._refuse_or_note(line, fields, values, outside)
        if is_minus_one.any():
            self.num_minus_one += int(is_minus_one.sum())
            if self.first_minus_one is None:
                self.first_minus_one = line, self.names[int(np.argmax(is_minus_one))]
        is_known = ~np.isnan(values)
        self.has_number |= is_known
        self.has_fraction |= is_known & (values != np.rint(values))
        np.fmax(self.largest, values, out=self.largest)
        self.has_zero = self.has_zero or bool((values == 0).any())
        self.has_one = self.has_one or bool((values == 1).any())
        if self.rule.is_signed:
            values = (values + 1) * ((self.rule.ploidy or 1) / 2)
        else:
            values[is_minus_one] = np.nan
        self.rows.append(values)

    def _refuse_or_note(self, line: int, fields: list[str], values: NDArray, outside: NDArray[np.bool_]) -> None:
        """Refuse a cell that is no genotype; a text is only noted where a column may turn out to hold texts."""
        for place in np.flatnonzero(outside).tolist():
            text = fields[place].strip()
            if self.may_hold_texts and parsed(text) is None:
                self.texts.setdefault(place, (line, text))
                values[place] = np.nan
            else:
                raise self._refusal(line, self.names[place], text)

    def _refusal(self, line: int, name: str, text: str) -> InputError:
        where = f"{self.path}:{line}: `{shown(text)}` in column `{shown(name)}`"
        if self.rule.codes is not None:
            known = listing(map(shown, self.rule.codes))
            return InputError(f"{where} is none of the genotype codes {known}", "correct it, or see source.missing")
        value = parsed(text)
        if value is None:
            hint = "source.codes=[A:0,H:1,B:2] gives letters their numbers of copies"
            return InputError(f"{where} is not a number", hint if text.isalpha() else number_hint(text))
        if self.rule.is_signed:
            return InputError(
                f"{where} is not a genotype: with source.coding=plus_minus_one only -1..+1 may stand there",
                "leave source.coding out if genotypes count copies of the alternative allele",
            )
        hint = "set source.ploidy if there are more copies of each locus, or source.missing if it means a missing one"
        if self.may_hold_texts:
            hint += "; source.genotype_columns names the columns of genotypes"
        return InputError(f"{where} is not a genotype: only 0..{self.rule.limit:g} or missing may stand there", hint)

    def table(self, rest: TextTable) -> GenotypeTable:
        left_out = self._text_columns()
        self._refuse_other_coding()
        are_whole, num_missing = self.rows.are_whole, self.rows.num_missing
        if self.first_minus_one is not None and not self.rule.is_signed and not are_whole:
            line, name = self.first_minus_one
            raise InputError(
                f"{self.path}:{line}: `-1` in column `{shown(name)}`, and other cells hold dosages",
                "add source.missing=[-1,NA] if -1 means a missing genotype",
            )
        matrix = self.rows.matrix()
        names = self.names
        kept = np.flatnonzero(~np.isin(np.arange(len(names)), left_out))
        if left_out:
            if not len(kept):
                place = left_out[0]
                raise self._refusal(self.texts[place][0], names[place], self.texts[place][1])
            num_missing -= len(left_out) * len(matrix)
            matrix, names = matrix[:, kept], [names[place] for place in kept]
        ploidy = self.rule.ploidy
        if ploidy is None:
            ploidy = int(self.rule.limit) if self.rule.codes is not None else 1 if self.rows.largest <= 1 else 2
        num_minus_one = 0 if self.rule.is_signed else self.num_minus_one
        texts = [self.names[place] for place in left_out]
        has_fraction, largest = self.has_fraction[kept], self.largest[kept]
        return GenotypeTable(rest, names, matrix, ploidy, num_missing, num_minus_one, texts, has_fraction, largest)

    def _text_columns(self) -> list[int]:
        for place, (line, text) in self.texts.items():
            if self.has_number[place]:
                raise self._refusal(line, self.names[place], text)
        return sorted(self.texts)

    def _refuse_other_coding(self) -> None:
        """Refuse tables that look coded the other way."""
        all_whole = not self.has_fraction.any()
        if not self.rule.is_signed:
            if self.num_minus_one and self.has_one and not self.has_zero and self.rows.are_whole:
                raise InputError(
                    f"{self.path}: holds -1 and +1 but not a single 0: are these alleles coded -1/+1?",
                    "set source.coding=plus_minus_one (with source.coding=dosage, -1 means missing)",
                )
        elif self.has_zero and all_whole and not self.num_minus_one:
            raise InputError(
                f"{self.path}: holds 0 but not a single -1: these do not look coded -1/+1",
                "leave source.coding out if genotypes count copies of the alternative allele",
            )
        elif self.has_zero and all_whole and self.rule.ploidy is None:
            raise InputError(
                f"{self.path}: holds 0 besides -1 and +1",
                "set source.ploidy=2 if 0 is the heterozygote, or source.ploidy=1 if it is a dosage of one half",
            )
