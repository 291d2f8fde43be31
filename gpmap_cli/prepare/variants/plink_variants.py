"""The variants of a PLINK fileset, from its .bim or .pvar file: one line each, columns between blanks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from gpmap_cli.dataset.hdf5 import check_readable
from gpmap_cli.errors import InputError, listing
from gpmap_cli.prepare.tables.text_table import TextTable, read_text, shown, table_of

# Without a header line, both formats may leave the centimorgans out.
_BIM = {6: ("#CHROM", "ID", "CM", "POS", "ALT", "REF"), 5: ("#CHROM", "ID", "POS", "ALT", "REF")}
_NEEDED = ("#CHROM", "ID", "POS", "REF", "ALT")
_OTHER_FORMATS = {
    ".bed": "plink1", ".bim": "plink1", ".fam": "plink1", ".pgen": "plink2", ".pvar": "plink2", ".psam": "plink2",
    ".vcf": "vcf", ".vcf.gz": "vcf", ".bcf": "vcf",
}  # fmt: skip


@dataclass(frozen=True)
class Variants:
    """M variants: chromosome codes as they are, positions in base pairs (0 unknown), ids, and alleles.

    An id that is `.` is empty here. `alternatives` holds every alternative allele of a variant; PLINK 1 has one,
    A1, and its A2 is the reference.
    """

    path: Path
    chromosomes: list[str]
    positions: list[int]
    ids: list[str]
    references: list[str]
    alternatives: list[list[str]]

    def __len__(self) -> int:
        return len(self.ids)

    def called(self, number: int) -> str:
        """A variant in a message."""
        place = f"{self.chromosomes[number]}:{self.positions[number]}"
        return f"variant {number + 1} (`{shown(self.ids[number] or place)}`)"

    def kept(self) -> tuple[list[int], list[str]]:
        """Numbers of the variants to import, and a line about the others."""
        kept = [number for number, position in enumerate(self.positions) if position >= 0]
        num_left_out = len(self) - len(kept)
        if not num_left_out:
            return kept, []
        return kept, [f"left out {num_left_out} variants with a position below 0, as PLINK does"]


def fileset(path: str, suffixes: tuple[str, ...], kind: str) -> list[Path]:
    """The files of a fileset, one for each suffix, from its prefix or from one of the files."""
    prefix = next((path.removesuffix(suffix) for suffix in suffixes if path.endswith(suffix)), path)
    other = next((source for end, source in _OTHER_FORMATS.items() if path.endswith(end)), None)
    if prefix == path and other is not None:
        raise InputError(f"{path}: not a file of a {kind} fileset", f"use source={other}")
    files = [Path(prefix + suffix) for suffix in suffixes]
    names = listing(file.name for file in files)
    for file in files:
        check_readable(file, f"a {kind} fileset is {names}; give source.path their common prefix")
    return files


def read_bim(path: Path) -> Variants:
    """The variants of a PLINK 1 fileset: chromosome, id, centimorgans (or not), position, A1, A2."""
    return _variants(_table(path, read_text(path), header=False))


def read_pvar(path: Path) -> Variants:
    """The variants of a PLINK 2 fileset. Without a header line, the columns are those of a .bim file."""
    text = read_text(path)
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("##")), "")
    return _variants(_table(path, text, header=first.startswith("#")))


def _table(path: Path, text: str, header: bool) -> TextTable:
    if header:
        table = table_of(path, text, delimiter=" ", comment="##")
        lacking = [name for name in _NEEDED if name not in table.columns]
        if lacking:
            raise InputError(f"{path}: there is no column {listing(lacking)}", f"a .pvar file has {listing(_NEEDED)}")
        return table
    first = next((line for line in text.splitlines() if line.strip()), "")
    return table_of(path, text, delimiter=" ", columns=_BIM.get(len(first.split()), _BIM[6]))


def _variants(table: TextTable) -> Variants:
    if not table.rows:
        raise InputError(f"{table.path}: no variants in it", "get the whole file")
    positions = table.column("POS")
    for row, text in enumerate(positions):
        if not re.fullmatch(r"-?[0-9]{1,18}", text):
            raise table.wrong(row, f"`{shown(text)}` is not a position", "positions are whole numbers of base pairs")
    return Variants(
        table.path,
        table.column("#CHROM"),
        [int(text) for text in positions],
        ["" if text == "." else text for text in table.column("ID")],
        table.column("REF"),
        [text.split(",") for text in table.column("ALT")],
    )
