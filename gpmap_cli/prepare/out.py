"""Whether `out` may be written: no input is replaced by what is made of it, nor anything else unless it may go.

Decided by names, before anything is read, which may take long.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpmap_cli.dataset.writer import refuse_existing
from gpmap_cli.errors import InputError
from gpmap_cli.prepare.job import Job

PATHS = ("path", "phenotypes", "map", "registry")  # settings of sources that name a file or a directory
MAKE_DIRECTORIES = ("download", "notebook_checkpoint")  # sources whose `out` is no file; they say what may be there
_REPLACE_DIRECTORIES = ("notebook_checkpoint",)
_FILESETS = {"plink1": (".bed", ".bim", ".fam"), "plink2": (".pgen", ".pvar", ".pvar.zst", ".psam")}
_READ_BESIDE = ("dryad", "rqtl2")  # sources that read files beside the one that is named
_HDF5 = b"\x89HDF\r\n\x1a\n"


def refuse_out(source: Any, job: Job) -> None:
    """Refuse an `out` that is an input, or that is there and not to be replaced."""
    out = Path(job.out)
    makes_file = source.name not in MAKE_DIRECTORIES
    try:
        if out.exists():
            _refuse_input(source, out)
        is_file = out.is_file()
    except OSError:  # and whoever writes there says why
        is_file = True
    if makes_file or is_file:
        refuse_existing(out, job.overwrite)


def _refuse_input(source: Any, out: Path) -> None:
    hint = "give `out` another name"
    for key in PATHS:
        path = _path(source, key)
        if path is None:
            continue
        if _same(path, out):
            raise InputError(f"{out}: source.{key} and out are the same file", hint)
        if source.name in _REPLACE_DIRECTORIES and _is_below(path, out):
            raise InputError(f"{out}: source.{key} is in this directory, which would be replaced", hint)
    # What is read from a directory is no HDF5 file, so a dataset file that stands there was made, and may go.
    if out.is_file() and not _is_hdf5(out) and any(_same(path, out) for path in _beside(source, out)):
        raise InputError(f"{out}: this may be one of the files that source.path reads, and is not replaced", hint)


def _beside(source: Any, out: Path) -> Iterator[Path]:
    """Files that are or may be read because `source.path` leads to them: a fileset, or what is in a directory."""
    path = _path(source, "path")
    if path is None:
        return
    suffixes = _FILESETS.get(source.name, ())
    prefix = next((str(path).removesuffix(suffix) for suffix in suffixes if str(path).endswith(suffix)), str(path))
    yield from (Path(prefix + suffix) for suffix in suffixes)
    directory = path if path.is_dir() else path.parent if source.name in _READ_BESIDE and path.is_file() else None
    if directory is None:
        return
    if _is_below(out, directory):
        yield out
    yield from directory.iterdir()  # where one may be a link to it


def _path(source: Any, key: str) -> Path | None:
    value = getattr(source, key, None)
    return None if value is None else Path(value)


def _same(path: Path, out: Path) -> bool:
    try:
        return os.path.samefile(path, out)
    except (OSError, ValueError):  # not there, or no possible name
        return False


def _is_below(path: Path, directory: Path) -> bool:
    return directory.resolve() in path.resolve().parents


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(_HDF5)) == _HDF5
