"""A first pass over a VCF or BCF file, which finds what htslib would not say: that the file is cut short or torn.

htslib stops without a word where a file ends between two blocks, and crashes on an empty line. So every record is
counted here, independently, and of text, every line is checked for its columns and its bytes. Compressed files carry
checksums, which are compared on the way.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader, FileIO
from pathlib import Path
from typing import Any

from gpmap_cli.dataset.hdf5 import check_readable
from gpmap_cli.errors import InputError, listing
from gpmap_cli.prepare.tables.text_table import shown
from gpmap_cli.progress import Progress, no_progress

_GZIP = b"\x1f\x8b"
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")  # an empty block, the last one
_BCF = b"BCF\x02"
_FIXED = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT")
_LONGEST_LINE = 2**30
_LONGEST_HEADER = 2**28
_LAST_POSITION = 2**31 - 2
_HINT = "get an undamaged copy"


@dataclass(frozen=True)
class VcfScan:
    """A whole, readable file: its kind, its N samples, the number of its records and of the lines before them."""

    path: Path
    kind: str  # "VCF" or "BCF"
    sample_ids: list[str]
    num_records: int
    num_header_lines: int

    def where(self, number: int) -> str:
        """The place of a record, by its number from 1: a line of text, which an editor can show, else the number."""
        if self.kind == "BCF":
            return f"{self.path}: record {number}"
        return f"{self.path}:{self.num_header_lines + number}"


def scan(path: Path, progress: Progress = no_progress) -> VcfScan:
    """Read a file to its end and refuse it, with the line or record, if it is damaged or holds no genotypes."""
    check_readable(path, "check source.path")
    _check_end(path)
    with (
        progress(f"checking {path.name}", path.stat().st_size, "B") as advance,
        BufferedReader(_Told(path, advance)) as raw,
        _decompressed(path, raw) as stream,
    ):
        head = stream.read(len(_BCF))
        if head == _BCF:
            return _scan_bcf(path, stream)
        return _scan_text(path, stream, head)


def _check_end(path: Path) -> None:
    """Refuse a file in blocks (BGZF) without the empty block that ends it: blocks are missing."""
    with path.open("rb") as stream:
        head = stream.read(18)
        if head[:4] == b"\x1f\x8b\x08\x04" and head[12:14] == b"BC":
            stream.seek(-min(len(_BGZF_END), path.stat().st_size), 2)
            if stream.read() != _BGZF_END:
                raise InputError(f"{path}: the file is truncated (the block that ends it is not there)", _HINT)
        elif head[:4] == _BCF:
            raise InputError(
                f"{path}: uncompressed BCF, in which damage cannot be seen",
                f"compress it: bcftools view -Ob -o NEW.bcf {path.name}",
            )


class _Told(FileIO):
    """A file that tells how much of it has been read."""

    def __init__(self, path: Path, advance: Callable[[int], object]) -> None:
        super().__init__(path)
        self._advance = advance

    def readinto(self, buffer: Any, /) -> int | None:
        count = super().readinto(buffer)
        self._advance(count or 0)
        return count


@contextmanager
def _decompressed(path: Path, raw: BufferedReader[Any]) -> Iterator[BufferedIOBase]:
    """The bytes of the file, decompressed if need be; what the decompression finds wrong is a refusal."""
    if raw.peek(len(_GZIP))[: len(_GZIP)] != _GZIP:
        yield raw
        return
    try:
        with gzip.open(raw) as stream:
            yield stream
    except (EOFError, OSError, zlib.error) as trouble:
        what = f"{path}: the compressed file is damaged before byte {raw.tell()} ({trouble})"
        raise InputError(what, _HINT) from trouble


def _scan_text(path: Path, stream: BufferedIOBase, head: bytes) -> VcfScan:
    num_lines = 0
    columns: list[str] | None = None
    while columns is None:
        line = head + stream.readline(_LONGEST_HEADER)
        head = b""
        num_lines += 1
        text = _text(path, num_lines, line)
        if num_lines == 1 and not text.startswith("##fileformat=VCF"):
            raise InputError(
                f"{path}: neither VCF nor BCF (line 1 begins with `{shown(text[:20])}`)",
                "a VCF file begins with `##fileformat=VCFv4`",
            )
        if text.startswith("#CHROM"):
            columns = text.split("\t")
        elif not text.startswith("##"):
            where = "the file ends" if not line else f"line {num_lines} is no header line"
            raise InputError(f"{path}: {where} before there is a line that begins with `#CHROM`", _HINT)
    sample_ids = _samples(f"{path}:{num_lines}", columns)
    num_header_lines, num_tabs = num_lines, len(columns) - 1
    while line := stream.readline(_LONGEST_LINE):
        num_lines += 1
        _check_line(path, num_lines, line, num_tabs)
    return VcfScan(path, "VCF", sample_ids, num_lines - num_header_lines, num_header_lines)


def _check_line(path: Path, number: int, line: bytes, num_tabs: int) -> None:
    """Refuse a record that has not the columns of the header, or whose first ones make no sense."""
    if not line.endswith(b"\n"):
        raise InputError(
            f"{path}:{number}: the last line does not end: the file is truncated",
            "get the whole file; if it is whole, add a line break at its end",
        )
    if b"\0" in line or not line.isascii():
        _text(path, number, line)
    found = line.count(b"\t")
    if found != num_tabs:
        raise InputError(
            f"{path}:{number}: {found + 1} columns, and the header has {num_tabs + 1}",
            "columns stand between tabs, one for each sample",
        )
    chromosome, position, _, reference, alternatives, _ = line.split(b"\t", 5)
    if not chromosome or not reference or not all(alternatives.split(b",")):
        raise InputError(f"{path}:{number}: a chromosome or an allele is empty", "get an undamaged copy")
    if not position.isdigit() or int(position[:11]) > _LAST_POSITION:
        text = shown(position.decode("utf-8", "replace"))
        raise InputError(f"{path}:{number}: `{text}` is not a position", "positions are whole numbers of base pairs")


def _scan_bcf(path: Path, stream: BufferedIOBase) -> VcfScan:
    """The records of a BCF file: two lengths and as many bytes each."""
    stream.read(1)  # the minor version
    length = int.from_bytes(stream.read(4), "little")
    header = stream.read(length) if length <= _LONGEST_HEADER else b""
    if len(header) < length or not header:
        raise InputError(f"{path}: the header is {length} bytes long, and the file is not", _HINT)
    lines = header.rstrip(b"\0").rstrip(b"\n").split(b"\n")
    texts = [_text(path, number, line) for number, line in enumerate(lines, 1)]
    if not texts[-1].startswith("#CHROM"):
        raise InputError(f"{path}: its header does not end with a line that begins with `#CHROM`", _HINT)
    sample_ids = _samples(f"{path}: header", texts[-1].split("\t"))
    number = 0
    while start := stream.read(8):
        number += 1
        shared, individual = (int.from_bytes(start[at : at + 4], "little") for at in (0, 4))
        record = stream.read(shared + individual) if shared + individual <= _LONGEST_LINE else b""
        if len(start) < 8 or len(record) < shared + individual or shared < 24:
            raise InputError(f"{path}: record {number} is cut short", _HINT)
        num_samples = int.from_bytes(record[20:23], "little")
        if num_samples != len(sample_ids):
            raise InputError(
                f"{path}: record {number} has {num_samples} samples, and the header {len(sample_ids)}", _HINT
            )
    return VcfScan(path, "BCF", sample_ids, number, len(lines))


def _samples(where: str, columns: list[str]) -> list[str]:
    """The sample ids in the line of column names."""
    if tuple(columns[:8]) != _FIXED[:8] or columns[8:9] not in ([], ["FORMAT"]):
        raise InputError(f"{where}: not the columns of a VCF file", f"they are {listing(_FIXED)} between tabs")
    ids = columns[9:]
    if not ids:
        raise InputError(f"{where}: no samples: the file lists variants and no genotypes", "get one with genotypes")
    seen: set[str] = set()
    for one in ids:
        if not one or one in seen:
            what = f"the sample `{shown(one)}` is there twice" if one else "a sample has no id"
            raise InputError(f"{where}: {what}", "samples need unique ids: bcftools reheader --samples renames them")
        seen.add(one)
    return ids


def _text(path: Path, number: int, line: bytes) -> str:
    """A line as text, without its end."""
    if b"\0" in line:
        raise InputError(f"{path}:{number}: a zero byte in a line of text", _HINT)
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as trouble:
        raise InputError(f"{path}:{number}: not UTF-8 text at byte {trouble.start} of the line", _HINT) from trouble
