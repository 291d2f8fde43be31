"""Delimited text as people hand it over: read strictly, refused with the file and the line that is wrong.

Plain or gzip, UTF-8 with or without a byte order mark, any line ends. `read_table` is for tables of phenotypes,
maps and the like, which fit into memory as texts; `read_records` gives line after line, for wide tables of
genotypes. (The yeast deposit's genotypes have a reader of their own.)
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.hdf5 import check_readable, refuse_what_cannot_fit
from gpmap_cli.errors import InputError, listing

MISSING = ("", "NA", "na", "N/A", "n/a", "NaN", "nan", "NAN", "null", "NULL", ".", "-")
_LARGEST_FIELD = 2**20
_LONGEST_LINE = 2**27  # characters; a table of a million genotypes of 17 digits in a line stays below
_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_EXPANSION = 20  # of a table of text in memory, as Python strings, over its bytes on the disk
_CHECKED_EVERY = 2**22  # characters
_QUOTED = re.compile(r'"[^"]*"?')
_BETWEEN_BLANKS = re.compile(r'"([^"]*)"|(\S+)')
_SURROGATE = re.compile("[\ud800-\udfff]")  # stands for a byte that is no UTF-8

Record = tuple[int, list[str]]  # the number of the line that it begins in, and its cells


@dataclass(frozen=True)
class TextTable:
    """A table of texts: a name for every column, and the rows with the line in which each begins."""

    path: Path
    columns: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str]:
        """The cells of a column."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]

    def wrong(self, row: int, what: str, hint: str) -> InputError:
        """The refusal of a row, by its line in the file."""
        return InputError(f"{self.path}:{self.lines[row]}: {what}", hint)

    def numbers(self, name: str, missing: Sequence[str] = MISSING, dtype: type = np.float64) -> NDArray:
        """A column of numbers; NaN where missing. Anything else, an infinite number too, is refused with its line."""
        place = self.columns.index(name)
        values: NDArray = np.empty(len(self.rows), dtype)
        for number, row in enumerate(self.rows):
            value = parsed(row[place], missing)
            if value is None or math.isinf(value):
                raise self.wrong(
                    number,
                    f"`{shown(row[place])}` in column `{shown(name)}` is not a finite number",
                    number_hint(row[place], missing),
                )
            values[number] = value
        return values

    def unique(self, name: str, of: str) -> list[str]:
        """A column of ids: none empty, none twice."""
        ids = self.column(name)
        refuse_repeated(self.path, ids, self.lines, f"in column `{shown(name)}`", of)
        return ids


def read_table(
    path: Path,
    *,
    delimiter: str | None = None,
    columns: Sequence[str] | None = None,
    comment: str | None = None,
    absent_hint: str = "check the path",
) -> TextTable:
    """The table in a file. `columns` names the columns of a file without a header line.

    A delimiter of None is found out from the first line: tab, comma, semicolon, else runs of blanks. Blank lines
    and lines that begin with `comment` are left out; rows must all be as long as the header.
    """
    return table_in(path, read_records(path, delimiter, comment, absent_hint), columns)


def table_of(
    path: Path,
    text: str,
    *,
    delimiter: str | None = None,
    columns: Sequence[str] | None = None,
    comment: str | None = None,
) -> TextTable:
    """The table in a text that was read from `path`."""
    return table_in(path, split_lines(path, io.StringIO(text, newline=""), delimiter, comment), columns)


def table_in(path: Path, records: Iterable[Record], columns: Sequence[str] | None = None) -> TextTable:
    """The table that is in records read from `path`, in memory."""
    names = [name.strip() for name in columns] if columns is not None else None
    rows, lines = [], []
    size = checked = 0
    for line, fields in records:
        cells = [cell.strip() for cell in fields]
        if names is None:
            names = cells
            check_header(path, line, names)
            continue
        refuse_ragged(path, line, len(cells), len(names))
        rows.append(cells)
        lines.append(line)
        size += len(cells) + sum(map(len, cells))
        if size >= checked + _CHECKED_EVERY:
            refuse_what_cannot_fit(f"{path}: the table", size * _EXPANSION)
            checked = size
    if names is None:
        raise InputError(f"{path}: the table is empty", "it should begin with a line of column names")
    return TextTable(path, tuple(names), rows, lines)


def read_records(
    path: Path, delimiter: str | None = None, comment: str | None = None, absent_hint: str = "check the path"
) -> Iterator[Record]:
    """The records of a file, one after the other, header and all; none that is blank or a comment."""
    check_readable(path, absent_hint)
    with _opened(path) as stream:
        yield from split_lines(path, text_lines(path, stream), delimiter, comment)


def header_of(path: Path, records: Iterator[Record]) -> list[str]:
    """The names of the columns, taken off the records."""
    first = next(records, None)
    if first is None:
        raise InputError(f"{path}: the table is empty", "it should begin with a line of column names")
    names = [name.strip() for name in first[1]]
    check_header(path, first[0], names)
    return names


def read_text(path: Path, absent_hint: str = "check the path") -> str:
    """The text in a file, plain or gzip. Bytes that are no text are refused with their line."""
    check_readable(path, absent_hint)
    parts: list[str] = []
    size = checked = 0
    with _opened(path) as stream:
        for line in text_lines(path, stream):
            parts.append(line)
            size += len(line)
            if size >= checked + _CHECKED_EVERY:
                refuse_what_cannot_fit(f"{path}: the text", 3 * size)
                checked = size
    return "".join(parts)


def text_lines(path: Path, stream: IO[bytes]) -> Iterator[str]:
    """The lines of UTF-8 text in a stream of bytes that was opened from `path`, with their ends; closes it."""
    # Bytes that are no UTF-8 come as surrogates, which no UTF-8 text holds, and are so found in their own line.
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        number = 0
        while True:
            try:
                line = text.readline(_LONGEST_LINE)
            except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as trouble:
                raise InputError(
                    f"{path}: the file is damaged after line {number} ({trouble})", "get an undamaged copy"
                ) from trouble
            if not line:
                return
            number += 1
            _refuse_no_text(path, number, line)
            yield line


def split_lines(path: Path, lines: Iterable[str], delimiter: str | None, comment: str | None) -> Iterator[Record]:
    """Every record that is not blank, with the line it begins in."""
    source = iter(lines)
    before: list[str] = []  # what had to be read to find the delimiter
    if delimiter is None:
        for line in source:
            before.append(line)
            if _counts(line, comment):
                delimiter = _delimiter_of(line)
                break
        else:
            return
    if delimiter == " ":
        for number, line in enumerate(_chained(before, source), 1):
            if _counts(line, comment):
                yield number, _cells_between_blanks(line)
        return
    csv.field_size_limit(_LARGEST_FIELD)
    without_comments = _without_comments(_chained(before, source), comment)
    reader = csv.reader(without_comments, delimiter=delimiter or ",", strict=True)
    begins = 1
    try:
        for fields in reader:
            if any(field and not field.isspace() for field in fields):
                yield begins, fields
            begins = reader.line_num + 1
    except csv.Error as trouble:
        raise InputError(
            f"{path}:{begins}: not a line of a table ({trouble})", "quote cells that hold quotes or delimiters"
        ) from trouble


def parsed(cell: str, missing: Sequence[str] = MISSING) -> float | None:
    """The number in a cell, NaN for a missing one, None for anything else."""
    if cell in missing:
        return math.nan
    if "_" in cell:  # Python reads 1_000
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def number_hint(cell: str, missing: Sequence[str] = MISSING) -> str:
    """What to do about a cell that holds no number."""
    if "," in cell and parsed(cell.replace(",", ".", 1)) is not None:
        return "write decimals with a point"
    return f"write a number, or one of {listing([text for text in missing if text])} where it is missing"


def shown(text: str, limit: int = 60) -> str:
    """A cell in a message: printable and short."""
    flat = "".join(letter if letter.isprintable() else "?" for letter in text[: limit + 1])
    return flat if len(text) <= limit else flat[: limit - 3] + "..."


def check_header(path: Path, line: int, names: Sequence[str]) -> None:
    """Refuse two columns of one name; one column may have none."""
    seen: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if name in seen:
            raise InputError(
                f"{path}:{line}: columns {seen[name]} and {number} are both called `{shown(name)}`"
                if name
                else f"{path}:{line}: columns {seen[name]} and {number} have no name",
                "give every column a name of its own",
            )
        seen[name] = number


def refuse_ragged(path: Path, line: int, num_cells: int, num_columns: int) -> None:
    """Refuse a row that is not as long as the header."""
    if num_cells == num_columns:
        return
    hint = "every line of a table has as many values as its header"
    if num_cells == num_columns + 1:
        hint += " (R's write.table leaves out the name of the first column: col.names=NA writes it)"
    raise InputError(f"{path}:{line}: {num_cells} values, and the table has {num_columns} columns", hint)


def refuse_repeated(path: Path, ids: Sequence[str], lines: Sequence[int], where: str, of: str) -> None:
    """Refuse ids that are empty, or the same on two lines."""
    seen: dict[str, int] = {}
    for number, one in enumerate(ids):
        if not one:
            raise InputError(f"{path}:{lines[number]}: an empty id {where}", f"{of} need ids")
        if one in seen:
            raise InputError(
                f"{path}:{lines[number]}: `{shown(one)}` {where} is on line {lines[seen[one]]} already",
                f"{of} need unique ids",
            )
        seen[one] = number


def _opened(path: Path) -> IO[bytes]:
    """The bytes of a file's text, uncompressed on the way."""
    with path.open("rb") as stream:
        start = stream.read(4)
    if start.startswith(_GZIP):
        return cast(IO[bytes], gzip.open(path, "rb"))
    if start == _ZIP:
        raise InputError(
            f"{path}: a zip archive or a spreadsheet, not a table of text", "export the table as CSV, or unpack it"
        )
    return path.open("rb")


def _refuse_no_text(path: Path, number: int, line: str) -> None:
    if not line.isascii() and (found := _SURROGATE.search(line)):
        byte = ord(found.group()) & 0xFF
        raise InputError(
            f"{path}:{number}: not UTF-8 text (byte 0x{byte:02x} after {found.start()} characters of the line)",
            "save the table as text in UTF-8",
        )
    if "\0" in line:
        raise InputError(f"{path}:{number}: a zero byte in a table of text", "save the table as text in UTF-8")
    if len(line) >= _LONGEST_LINE:
        raise InputError(f"{path}:{number}: a line of more than {_LONGEST_LINE} characters", "is this a table?")


def _delimiter_of(line: str) -> str:
    bare = _QUOTED.sub("", line)
    if "\t" in bare:
        return "\t"
    commas, semicolons = bare.count(","), bare.count(";")
    if not commas and not semicolons:
        return " "
    return "," if commas >= semicolons else ";"


def _cells_between_blanks(line: str) -> list[str]:
    """The cells of a line; quoted ones may hold blanks, as R's write.table has them."""
    if '"' not in line:
        return line.split()
    return [quoted or bare for quoted, bare in _BETWEEN_BLANKS.findall(line)]


def _counts(line: str, comment: str | None) -> bool:
    return not line.isspace() and not (comment is not None and line.startswith(comment))


def _chained(before: list[str], rest: Iterator[str]) -> Iterator[str]:
    yield from before
    yield from rest


def _without_comments(lines: Iterable[str], comment: str | None) -> Iterable[str]:
    """The lines, comments blanked so that line numbers stay."""
    for line in lines:
        yield "\n" if comment is not None and line.startswith(comment) else line
