"""The files in a zip archive that came from anybody: looked at before they are read, and never unpacked to disk."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from gpmap_cli.dataset.hdf5 import check_readable, refuse_what_cannot_fit
from gpmap_cli.errors import InputError
from gpmap_cli.prepare.tables.text_table import shown

_ENCRYPTED = 0x1
_MAX_MEMBERS = 100_000
# What zipfile lets through when bytes make no sense to it, or a method of packing is unknown to it.
READ_ERRORS = (OSError, EOFError, ValueError, RuntimeError, KeyError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


class ZipMembers:
    """The members of a zip archive by name. Directories and what macOS adds are left out."""

    def __init__(self, path: Path, absent_hint: str = "check source.path") -> None:
        self.path = path
        check_readable(path, absent_hint)
        try:
            self._archive = zipfile.ZipFile(path)
            infos = self._archive.infolist()
        except READ_ERRORS as trouble:
            raise InputError(f"{path}: not a readable zip archive ({trouble})", "get an undamaged copy") from trouble
        try:
            self._members = self._checked(infos)
        except BaseException:
            self.close()
            raise
        self.names = sorted(self._members)

    def open(self, name: str) -> IO[bytes]:
        """The bytes of a member, unpacked while they are read."""
        try:
            return self._archive.open(self._members[name])
        except READ_ERRORS as trouble:
            what = f"{self.path}: `{shown(name)}` cannot be read ({trouble})"
            raise InputError(what, "get an undamaged copy") from trouble

    def where(self, name: str) -> Path:
        """What a member is called in messages."""
        return self.path / shown(name)

    def close(self) -> None:
        self._archive.close()

    def _checked(self, infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
        if len(infos) > _MAX_MEMBERS:
            raise InputError(f"{self.path}: {len(infos)} files in it", f"at most {_MAX_MEMBERS} are read")
        members: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            name = info.filename
            parts = PurePosixPath(name).parts
            if name.startswith("/") or ".." in parts or "\\" in name or ":" in (parts[0] if parts else ""):
                raise InputError(
                    f"{self.path}: a member is called `{shown(name)}`, which points out of the archive",
                    "make the archive anew with relative names",
                )
            if info.is_dir() or parts[0] == "__MACOSX":
                continue
            if name in members:
                raise InputError(f"{self.path}: holds `{shown(name)}` twice", "make the archive anew")
            if info.flag_bits & _ENCRYPTED:
                raise InputError(f"{self.path}: `{shown(name)}` is encrypted", "unpack it with its password first")
            members[name] = info
        refuse_what_cannot_fit(f"{self.path}: unpacked", sum(info.file_size for info in members.values()))
        return members
