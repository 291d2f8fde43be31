"""The control file of an R/qtl2 cross: which tables belong to it, and how their cells are to be read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import yaml

from gpmap_cli.dataset.hdf5 import check_readable
from gpmap_cli.errors import InputError, did_you_mean, listing
from gpmap_cli.prepare.crosses.cross_genotypes import CROSS_TYPES, DEFAULT_CODES, LARGEST_CODE, CrossType
from gpmap_cli.prepare.crosses.zip_members import READ_ERRORS, ZipMembers
from gpmap_cli.prepare.tables.text_table import Record, shown, split_lines, text_lines

_LARGEST_CONTROL_FILE = 2**18
_SUFFIXES = ((".yaml", ".yml"), (".json",))  # the first that is there counts
_FORMAT = "see the R/qtl2 input file format: https://kbroman.org/qtl2/assets/vignettes/input_files.html"
# What goes wrong inside PyYAML and json when a file makes no sense to them.
_PARSE_ERRORS = (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


class Files:
    """Files beside a control file: of its directory, or of the zip archive that it is in. Remembers what was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.used: list[Path] = []
        self.archive: ZipMembers | None = None
        self._streams: list[IO[bytes]] = []
        if path.is_dir():
            self.control = _only(path, [file.name for file in _listed(path)])
            self.folder: Path | PurePosixPath = path
            return
        check_readable(path, "check source.path: a control file, the directory that holds it, or a .zip file")
        with path.open("rb") as stream:
            is_zip = stream.read(4) == b"PK\x03\x04"
        if is_zip:
            self.archive = ZipMembers(path)
            try:
                found = _only(path, self.archive.names)
            except BaseException:
                self.close()
                raise
            self.control, self.folder = PurePosixPath(found).name, PurePosixPath(found).parent
        else:
            self.control, self.folder = path.name, path.parent

    def open(self, name: str) -> tuple[Path, IO[bytes]]:
        """A file by its name in the control file, and what it is called in messages."""
        path, stream = self._open(name)
        self._streams.append(stream)
        return path, stream

    def close(self) -> None:
        for stream in self._streams:
            stream.close()
        if self.archive is not None:
            self.archive.close()

    def _open(self, name: str) -> tuple[Path, IO[bytes]]:
        if self.archive is None:
            path = Path(self.folder) / name
            check_readable(path, f"`{self.control}` in the same directory names it")
            if path not in self.used:
                self.used.append(path)
            return path, path.open("rb")
        member = str(PurePosixPath(self.folder) / name)
        if member not in self.archive.names:
            raise InputError(
                f"{self.archive.where(member)}: there is no such file in the archive",
                did_you_mean(member, self.archive.names),
            )
        return self.archive.where(member), self.archive.open(member)


@dataclass(frozen=True)
class Control:
    """What the control file says. `tables` gives the file names of each section: geno, pheno, gmap, ..."""

    path: Path
    crosstype: CrossType
    tables: Mapping[str, tuple[str, ...]]
    transposed: frozenset[str]
    codes: Mapping[str, float]
    alleles: tuple[str, ...]
    missing: tuple[str, ...]
    delimiter: str
    comment: str | None
    x_chromosomes: tuple[str, ...]
    sex: Mapping[str, str]  # covar or file: where it stands; all else: codes
    others: tuple[str, ...]  # keys that are not read

    def records(self, files: Files, name: str) -> tuple[Path, Iterator[Record]]:
        """The lines of one of its tables."""
        path, stream = files.open(name)
        return path, split_lines(path, text_lines(path, stream), self.delimiter, self.comment)


_SECTIONS = ("geno", "pheno", "covar", "phenocovar", "gmap", "pmap")
_READ = {
    *("crosstype", "genotypes", "alleles", "na.strings", "sep", "comment.char", "x_chr", "sex", "description"),
    *("comments", *_SECTIONS, *(f"{section}_transposed" for section in _SECTIONS)),
}


def read_control(files: Files) -> Control:
    """Read and check the control file."""
    path, stream = files.open(files.control)
    try:
        content = stream.read(_LARGEST_CONTROL_FILE + 1)
    except READ_ERRORS as trouble:
        raise InputError(f"{path}: the file is damaged ({trouble})", "get an undamaged copy") from trouble
    said = _parsed(path, content)
    reader = _Reader(path, said)
    if "geno" not in said:
        raise reader.wrong("geno", "is missing: no table of genotypes", f"found: {listing(map(shown, map(str, said)))}")
    delimiter, comment = reader.text("sep", ","), reader.text("comment.char", "#")
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise reader.wrong("sep", f"is `{shown(delimiter)}`, not one character", 'for instance sep: ","')
    tables = {section: reader.texts(section) for section in _SECTIONS if section in said}
    if "founder_geno" in said:
        raise reader.wrong("founder_geno", "tells of more than two founders", f"read are {listing(CROSS_TYPES)}")
    return Control(
        path=path,
        crosstype=reader.crosstype(),
        tables=tables,
        transposed=frozenset(section for section in _SECTIONS if reader.flag(f"{section}_transposed")),
        codes=reader.codes(),
        alleles=reader.texts("alleles") if "alleles" in said else ("A", "B"),
        missing=("", *(reader.texts("na.strings") if "na.strings" in said else ("NA", "-"))),
        delimiter=delimiter,
        comment=comment or None,
        x_chromosomes=reader.texts("x_chr") if "x_chr" in said else (),
        sex=reader.mapping("sex") if "sex" in said else {},
        others=tuple(str(key) for key in said if key not in _READ),
    )


class _Reader:
    """The values of a control file, by the types they must have."""

    def __init__(self, path: Path, said: Mapping[Any, Any]) -> None:
        self._path, self._said = path, said

    def wrong(self, key: str, what: str, hint: str = _FORMAT) -> InputError:
        return InputError(f"{self._path}: `{key}` {what}", hint)

    def text(self, key: str, default: str) -> str:
        return _text(self._said[key], self.wrong(key, "is not a text")) if key in self._said else default

    def texts(self, key: str) -> tuple[str, ...]:
        """A text or a list of texts."""
        value, trouble = self._said[key], self.wrong(key, "is neither a text nor a list of texts")
        values = value if isinstance(value, list) else [value]
        if not values:
            raise self.wrong(key, "is an empty list")
        return tuple(_text(one, trouble) for one in values)

    def flag(self, key: str) -> bool:
        value = self._said.get(key, False)
        if not isinstance(value, bool):
            raise self.wrong(key, "is neither true nor false")
        return value

    def mapping(self, key: str) -> dict[str, str]:
        value, trouble = self._said[key], self.wrong(key, "is not a list of names and values")
        if not isinstance(value, dict):
            raise trouble
        return {_text(name, trouble): _text(one, trouble) for name, one in value.items()}

    def crosstype(self) -> CrossType:
        if "crosstype" not in self._said:
            raise self.wrong("crosstype", "is missing", f"one of {listing(CROSS_TYPES)}")
        named = self.text("crosstype", "")
        for known in CROSS_TYPES:
            if named == known:
                return known
        what = f"is `{shown(named)}`, which is not a cross of two lines that this program reads"
        raise self.wrong("crosstype", what, f"read are {listing(CROSS_TYPES)}")

    def codes(self) -> dict[str, float]:
        """The number of each genotype code, 1 to 5."""
        if "genotypes" not in self._said:
            return {code: float(number) for code, number in DEFAULT_CODES.items()}
        codes: dict[str, float] = {}
        for code, number in self.mapping("genotypes").items():
            if number not in [str(one) for one in range(1, LARGEST_CODE + 1)]:
                raise self.wrong("genotypes", f"numbers `{shown(code)}` by `{shown(number)}`, not 1 to {LARGEST_CODE}")
            codes[code] = float(number)
        if not codes:
            raise self.wrong("genotypes", "is empty")
        return codes


def _text(value: Any, trouble: InputError) -> str:
    """A single value as text; NA and the like are texts in YAML, nothing at all is the empty text."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise trouble
    try:
        return str(value)
    except ValueError as too_long:  # a number of thousands of digits
        raise trouble from too_long


def _parsed(path: Path, content: bytes) -> Mapping[Any, Any]:
    if len(content) > _LARGEST_CONTROL_FILE:
        raise InputError(f"{path}: too large for a control file", _FORMAT)
    try:
        text = content.decode("utf-8-sig")
        said = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except _PARSE_ERRORS as trouble:
        what = shown(" ".join(str(trouble).split()), 200)
        raise InputError(f"{path}: not a control file in YAML or JSON ({what})", _FORMAT) from trouble
    if not isinstance(said, dict):
        raise InputError(f"{path}: not a control file: it holds no keys with values", _FORMAT)
    return said


def _listed(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except OSError as trouble:
        raise InputError(f"{path}: cannot be read ({trouble.strerror})", "check the permissions") from trouble


def _only(path: Path, names: list[str]) -> str:
    """The only control file among the names."""
    for suffixes in _SUFFIXES:
        found = [name for name in names if PurePosixPath(name).suffix.lower() in suffixes]
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(f"{path}: holds {len(found)} control files: {listing(map(shown, found))}", "name one")
    raise InputError(f"{path}: there is no control file (.yaml or .json) in it", _FORMAT)
