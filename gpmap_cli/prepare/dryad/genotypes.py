"""Genotypes of the yeast deposit: tab-separated posterior probabilities, 40,000 to a line, in one file or several.

Read once, in row blocks, plain or gzip: one thread unpacks, others parse, and no more than a few blocks are in
memory. Every complaint names the file and the line.
"""

from __future__ import annotations

import gzip
import io
import itertools
import math
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import MISSING
from gpmap_cli.dataset.hdf5 import check_readable
from gpmap_cli.errors import InputError
from gpmap_cli.prepare.dryad.decimal_text import PADDING, parse_cells
from gpmap_cli.prepare.tables.text_table import shown

_GZIP = b"\x1f\x8b"
_READ_BYTES = 2**22
_PIECE_BYTES = 2**20  # of text parsed at once: its arrays stay in the processor's cache
_LONGEST_LINE = 2**23  # the first; the others are measured by how many columns it has
_SHORTEST_LIMIT = 2**20
_LONGEST_CELL = 64
_NUM_PARSERS = 2
_SEPARATOR = 2.0  # stands between chromosomes in one variant of the format
_ROUNDING = 1e-6  # by which a written probability may lie outside [0, 1]
_HINT = "take the file as it was deposited; each line holds an index and then a probability for every SNP"


@dataclass(frozen=True)
class Layout:
    """Columns of a genotype line: how many there are, which hold SNPs, and which the constant between chromosomes."""

    num_columns: int  # the index included
    separators: NDArray[np.intp]  # among the columns after the index
    loci: NDArray[np.intp]

    @property
    def loci_per_chromosome(self) -> list[int]:
        """SNPs between the separators."""
        edges = [-1, *self.separators.tolist(), self.num_columns - 1]
        return [after - before - 1 for before, after in itertools.pairwise(edges)]


@dataclass
class _Counts:
    """What occurs among the genotypes read so far."""

    num_missing: int = 0
    num_uncertain: int = 0  # between 0.1 and 0.9


class GenotypeText:
    """The genotype files, opened: `layout` is known from the first line, `blocks` reads them through once."""

    def __init__(self, paths: Sequence[Path]) -> None:
        for path in paths:
            check_readable(path, "check source.path")
        self._paths = list(paths)
        self.counts = _Counts()
        self._hard = False
        with self._paths[0].open("rb") as raw, _unpacked(raw) as stream:
            line = _first_line(self._paths[0], stream)
        self.layout = _layout(self._paths[0], line)

    @property
    def num_bytes(self) -> int:
        """Size of the files on the disk."""
        return sum(path.stat().st_size for path in self._paths)

    def blocks(self, genotypes: Literal["posterior", "hard"], advance: Callable[[int], object]) -> Iterator[NDArray]:
        """Row blocks (rows, L): float16 probabilities of the RM allele, NaN missing; or int8 calls, -1 missing.

        `advance` is told how many bytes of the files were read. A hard call is 1 from a probability of 1/2 upwards.
        """
        self._hard = genotypes == "hard"
        with ThreadPoolExecutor(_NUM_PARSERS) as parsers, ThreadPoolExecutor(1) as unpacker:
            waiting: deque[Future[tuple[NDArray, _Counts]]] = deque()
            try:
                pieces = _ahead(unpacker, self._pieces(advance))
                for piece in pieces:
                    waiting.append(parsers.submit(self._parse, piece, genotypes))
                    if len(waiting) > _NUM_PARSERS:
                        yield self._counted(*waiting.popleft().result())
                while waiting:
                    yield self._counted(*waiting.popleft().result())
            finally:
                for left in waiting:
                    left.cancel()

    def _pieces(self, advance: Callable[[int], object]) -> Iterator[_Piece]:
        longest = max(_SHORTEST_LIMIT, self.layout.num_columns * _LONGEST_CELL)
        for path in self._paths:
            yield from _whole_lines(path, longest, advance)

    def _counted(self, block: NDArray, counts: _Counts) -> NDArray:
        self.counts.num_missing += counts.num_missing
        self.counts.num_uncertain += counts.num_uncertain
        return block

    def _parse(self, piece: _Piece, genotypes: str) -> tuple[NDArray, _Counts]:
        parts = [self._parse_lines(piece, lines, first) for lines, first in piece.split()]
        return _stored(parts[0] if len(parts) == 1 else np.concatenate(parts), genotypes)

    def _parse_lines(self, piece: _Piece, lines: bytes, first: int) -> NDArray[np.float16]:
        """Some whole lines, the first of which is line `first` of the file."""
        text = np.frombuffer(b"0" * PADDING + lines, np.uint8)
        ends = np.flatnonzero(text[PADDING:] < 14) + PADDING
        num_columns = self.layout.num_columns
        marks: NDArray[np.uint8] = text[ends]
        num_rows, rest = divmod(len(ends), num_columns)
        is_even = rest == 0
        if is_even:
            marks = marks.reshape(num_rows, num_columns)
            is_even = bool((marks[:, -1] == 10).all() and (marks[:, :-1] == 9).all())
        if not is_even:
            raise _uneven(piece.path, lines, first, num_columns)
        starts = np.empty_like(ends)
        starts[0] = PADDING
        starts[1:] = ends[:-1] + 1
        starts, ends = (places.reshape(num_rows, num_columns)[:, 1:].ravel() for places in (starts, ends))
        values, bad = parse_cells(text, starts, ends)
        if len(bad):
            row, column = divmod(int(bad[0]), num_columns - 1)
            cell = bytes(text[starts[bad[0]] : ends[bad[0]]])[:80].decode("utf-8", "replace")
            raise InputError(
                f"{piece.path}:{first + row}: `{shown(cell)}` in column {column + 1} (counted from 0) is not a number",
                _HINT,
            )
        table = values.reshape(num_rows, num_columns - 1)
        if len(self.layout.separators):
            self._check_separators(piece.path, table, first)
            table = table[:, self.layout.loci]
        if not (table.min() >= 0 and table.max() <= 1):  # or some are missing: NaN compares as neither
            outside = np.argwhere((table < -_ROUNDING) | (table > 1 + _ROUNDING))
            if len(outside):
                row, locus = outside[0]
                raise InputError(
                    f"{piece.path}:{first + row}: {table[row, locus]:g} in column {self.layout.loci[locus] + 1}"
                    " (counted from 0) is not a probability in [0, 1]",
                    _HINT,
                )
            table = np.clip(table, 0, 1)
        stored = table.astype(np.float16)
        if self._hard:  # decided before rounding: what rounds up to 1/2 is no call of 1
            stored[(stored == 0.5) & (table < 0.5)] = np.nextafter(np.float16(0.5), np.float16(0))
        return stored

    def _check_separators(self, path: Path, table: NDArray[np.float64], first: int) -> None:
        between = table[:, self.layout.separators]
        wrong = np.argwhere(between != _SEPARATOR)
        if len(wrong):
            row, which = wrong[0]
            raise InputError(
                f"{path}:{first + row}: {between[row, which]:g} in column {self.layout.separators[which] + 1} (counted"
                f" from 0), where the first line has the {_SEPARATOR:g} between two chromosomes",
                _HINT,
            )


@dataclass(frozen=True)
class _Piece:
    """Whole lines of a file, each with its line end."""

    path: Path
    lines: bytes
    first: int  # number of the first line, from 1

    def split(self) -> Iterator[tuple[bytes, int]]:
        """The same lines in parts that fit the cache, with the numbers of their first lines."""
        start, number = 0, self.first
        while start < len(self.lines):
            end = self.lines.rfind(b"\n", start, start + _PIECE_BYTES) + 1
            if end <= start:
                end = self.lines.index(b"\n", start) + 1
            part = self.lines[start:end]
            yield part, number
            start, number = end, number + part.count(b"\n")


def _stored(values: NDArray[np.float16], genotypes: str) -> tuple[NDArray, _Counts]:
    """Probabilities in [0, 1] or NaN as they are stored, and what is to be counted among them."""
    bits = values.view(np.uint16)  # the order of these floats is that of their bits, and NaN comes last
    low, half, high, one = (int(np.float16(bound).view(np.uint16)) for bound in (0.1, 0.5, 0.9, 1.0))
    counts = _Counts(num_uncertain=int(np.count_nonzero((bits > low) & (bits < high))))
    missing = bits > one
    counts.num_missing = int(np.count_nonzero(missing))
    if genotypes == "posterior":
        return values, counts
    calls = (bits >= half).view(np.int8)
    if counts.num_missing:
        calls[missing] = MISSING
    return calls, counts


def _ahead(unpacker: ThreadPoolExecutor, pieces: Iterator[_Piece]) -> Iterator[_Piece]:
    """The same pieces, the next being unpacked while one is worked on."""
    coming = unpacker.submit(next, pieces, None)
    while (piece := coming.result()) is not None:
        coming = unpacker.submit(next, pieces, None)
        yield piece


def _whole_lines(path: Path, longest: int, advance: Callable[[int], object]) -> Iterator[_Piece]:
    """A file's lines, some megabytes at a time, none far beyond `longest` bytes; line ends become our own."""
    rest, number, told, size = b"", 1, 0, 0
    with path.open("rb") as raw, _unpacked(raw) as stream:
        while True:
            try:
                block = stream.read(_READ_BYTES)
            except (OSError, EOFError, zlib.error) as trouble:
                raise InputError(
                    f"{path}:{number}: the file is damaged near byte {raw.tell()} of it, after {size} bytes of text"
                    f" ({trouble})",
                    "get an undamaged copy",
                ) from trouble
            advance(raw.tell() - told)
            told, size = raw.tell(), size + len(block)
            whole = rest + block
            if b"\r" in block or rest.endswith(b"\r"):
                whole = whole.replace(b"\r\n", b"\n")
            if not block:
                whole = whole.rstrip(b"\n") + b"\n"  # the last line may lack its end, or be followed by empty ones
            # Line ends after the last line that holds something wait: at the end of the file they mean nothing.
            end = (len(whole.rstrip(b"\n")) if whole.endswith(b"\n\n") else whole.rfind(b"\n")) + 1
            lines, rest = whole[:end], whole[end:]
            if len(rest) > longest:
                number += lines.count(b"\n")
                raise InputError(f"{path}:{number}: a line of over {longest} bytes", _HINT)
            if lines and (block or lines != b"\n"):
                yield _Piece(path, lines, number)
                number += lines.count(b"\n")
            if not block:
                return


def _unpacked(raw: IO[bytes]) -> IO[bytes]:
    """What is in a file, gzip or not, by what it begins with."""
    beginning = raw.read(2)
    raw.seek(0)
    return gzip.GzipFile(fileobj=raw, mode="rb") if beginning == _GZIP else io.BufferedReader(raw)  # type: ignore


def _first_line(path: Path, stream: IO[bytes]) -> bytes:
    try:
        line = stream.readline(_LONGEST_LINE + 1)
    except (OSError, EOFError, zlib.error) as trouble:
        raise InputError(f"{path}:1: the file is damaged ({trouble})", "get an undamaged copy") from trouble
    if len(line) > _LONGEST_LINE:
        raise InputError(f"{path}:1: a line of over {_LONGEST_LINE} bytes", _HINT)
    if not line.strip():
        raise InputError(f"{path}:1: the file is empty" if not line else f"{path}:1: the first line is empty", _HINT)
    return line


def _layout(path: Path, line: bytes) -> Layout:
    """Columns by the first line: a 2 stands between chromosomes, where probabilities never are."""
    cells = line.rstrip(b"\r\n").split(b"\t")
    if len(cells) < 2:
        raise InputError(f"{path}:1: no tab in the first line", _HINT)
    if _is_fraction(cells[0]):  # and the first SNP would be lost for an index
        what = shown(cells[0].decode("utf-8", "replace"))
        raise InputError(f"{path}:1: `{what}` in column 0 is not an index", _HINT)
    is_separator = np.array([cell.startswith(b"2") and _is_two(cell) for cell in cells[1:]])
    return Layout(len(cells), np.flatnonzero(is_separator), np.flatnonzero(~is_separator))


def _is_fraction(cell: bytes) -> bool:
    try:
        value = float(cell)
    except ValueError:
        return False
    return math.isfinite(value) and value != round(value)


def _is_two(cell: bytes) -> bool:
    try:
        return float(cell) == _SEPARATOR
    except ValueError:
        return False


def _uneven(path: Path, lines: bytes, first: int, num_columns: int) -> InputError:
    """Names the first line that has another number of values than the first of the file."""
    for number, line in enumerate(lines.split(b"\n")[:-1], first):
        count = line.count(b"\t") + 1
        if count != num_columns:
            what = "an empty line" if not line.strip() else f"{count} values"
            return InputError(f"{path}:{number}: {what}, and the first line has {num_columns}", _HINT)
    for number, line in enumerate(lines.split(b"\n")[:-1], first):
        odd = next((byte for byte in line if byte < 14 and byte != 9), None)
        if odd is not None:
            return InputError(f"{path}:{number}: holds the byte {odd}, which is no text", _HINT)
    raise AssertionError("lines that are not even have an uneven one")
