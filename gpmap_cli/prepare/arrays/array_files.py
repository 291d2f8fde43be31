"""Named arrays as people hand them over: an HDF5 file, a directory of .npy files, or one .npz file.

All three look the same to the importer. Nothing is unpickled and no link is followed; what cannot be read is
refused with the file and the array's name.
"""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.hdf5 import Hdf5File, check_readable, file_sha256, files_sha256, is_text, refuse_what_cannot_fit
from gpmap_cli.errors import InputError

Shape = tuple[int, ...]
_HINT = "see the README for the array names and shapes that `source=arrays` reads"
# What NumPy (whose .npy heads are Python literals) and zipfile let through when bytes make no sense to them.
_READ_ERRORS = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    MemoryError,
    OverflowError,
    SyntaxError,
    tokenize.TokenError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


class ArrayFile(Protocol):
    """Arrays by name. `kind` says what was opened; text arrays are read as objects of type str."""

    path: Path
    kind: str
    names: list[str]
    attributes: dict[str, str]

    def layout(self, name: str) -> tuple[Shape, np.dtype]:
        """Shape and type of an array, without reading it."""

    def read(self, name: str, rows: slice | None = None) -> NDArray:
        """Values of an array, or some of its rows."""

    def wrong(self, name: str, what: str, hint: str = _HINT) -> InputError:
        """The refusal of an array."""

    def sha256(self) -> str:
        """What pins the input down."""

    def close(self) -> None: ...


def open_arrays(name: str) -> ArrayFile:
    """Open whichever of the three it is, by what is in it and not by its name."""
    path = Path(name)
    if path.is_dir():
        return NpyDirectory(path)
    check_readable(path, "check source.path: an HDF5 file, a .npz file or a directory of .npy files")
    with path.open("rb") as stream:
        beginning = stream.read(8)
    if beginning.startswith(b"PK"):
        return NpzArchive(path)
    if beginning.startswith(b"\x93NUMPY"):
        raise InputError(
            f"{path}: one .npy file is not enough", "name the directory that holds genotypes.npy and the others"
        )
    return Hdf5Arrays(path)


class Hdf5Arrays:
    """The arrays at the root of an HDF5 file; groups are listed with them and have no shape."""

    kind = "HDF5 file"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inside = Hdf5File(
            path,
            absent_hint="check source.path",
            kind_hint="source=arrays reads HDF5, .npz, or a directory of .npy files",
            damage_hint=_HINT,
        )
        try:
            found = self._inside.attributes()
            if found.get("format") == "gpmap-dataset":
                raise InputError(f"{path}: this is a dataset file already", f"use it as it is: data.path={path}")
            self.attributes = {name: value for name, value in found.items() if isinstance(value, str)}
            self.names = self._inside.members()
            self._nodes = {name: self._inside.get(name) for name in self.names if not self._inside.is_group(name)}
        except BaseException:
            self.close()
            raise

    def layout(self, name: str) -> tuple[Shape, np.dtype]:
        if name not in self._nodes:
            raise self.wrong(name, "is not an array")
        node = self._nodes[name]
        if is_text(node) and (h5py.check_string_dtype(node.dtype).length is None):
            return node.shape, np.dtype(str)
        return node.shape, node.dtype

    def read(self, name: str, rows: slice | None = None) -> NDArray:
        node = self._nodes[name]
        return self._inside.strings(name) if is_text(node) else self._inside.read(name, node, rows)

    def wrong(self, name: str, what: str, hint: str = _HINT) -> InputError:
        return InputError(f"{self.path}: `{name}` {what}", hint)

    def sha256(self) -> str:
        return file_sha256(self.path)

    def close(self) -> None:
        self._inside.close()


class NpyDirectory:
    """The .npy files of a directory, mapped into memory rather than read."""

    kind = "directory of .npy files"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.attributes: dict[str, str] = {}
        try:
            self.names = sorted(file.stem for file in path.glob("*.npy"))
        except OSError as trouble:
            raise InputError(f"{path}: cannot be read ({trouble.strerror})", "check the permissions") from trouble
        self._maps: dict[str, NDArray] = {}

    def layout(self, name: str) -> tuple[Shape, np.dtype]:
        array = self._map(name)
        return array.shape, array.dtype

    def read(self, name: str, rows: slice | None = None) -> NDArray:
        array = self._map(name)
        refuse_what_cannot_fit(f"{self._file(name)}: `{name}`", array[rows or slice(None)].nbytes if array.ndim else 0)
        return _decoded(self, name, np.array(array if rows is None else array[rows]))

    def wrong(self, name: str, what: str, hint: str = _HINT) -> InputError:
        return InputError(f"{self._file(name)}: `{name}` {what}", hint)

    def sha256(self) -> str:
        """SHA-256 of what `LC_ALL=C sha256sum *.npy` prints in that directory; that of the file if there is but one."""
        return files_sha256([self._file(name) for name in self.names])

    def close(self) -> None:
        self._maps.clear()

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.npy"

    def _map(self, name: str) -> NDArray:
        if name not in self._maps:
            file = self._file(name)
            check_readable(file, "check the directory")
            with _reading(self, name), file.open("rb") as stream:
                shape, dtype = _header(self, name, stream)
                # Nothing to map in an empty array, and a mapping of nothing is an error.
                empty = 0 in shape or dtype.itemsize == 0
                self._maps[name] = np.empty(shape, dtype) if empty else np.load(file, mmap_mode="r", allow_pickle=False)
        return self._maps[name]


class NpzArchive:
    """The members of one .npz file."""

    kind = ".npz file"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.attributes: dict[str, str] = {}
        try:
            self._archive = zipfile.ZipFile(path)
        except _READ_ERRORS as trouble:
            raise InputError(f"{path}: not a readable .npz file ({trouble})", "get an undamaged copy") from trouble
        members = [name for name in self._archive.namelist() if name.endswith(".npy")]
        self.names = sorted({name.removesuffix(".npy") for name in members})
        if len(members) > len(self.names):
            self.close()
            raise InputError(f"{path}: holds two arrays of one name", "write the .npz file again")
        self._layouts: dict[str, tuple[Shape, np.dtype]] = {}
        self._latest: tuple[str, NDArray] | None = None  # rows are asked for block by block

    def layout(self, name: str) -> tuple[Shape, np.dtype]:
        if name not in self._layouts:
            with _reading(self, name), self._archive.open(f"{name}.npy") as stream:
                self._layouts[name] = _header(self, name, stream)
        return self._layouts[name]

    def read(self, name: str, rows: slice | None = None) -> NDArray:
        shape, dtype = self.layout(name)
        refuse_what_cannot_fit(f"{self.path}: `{name}`", math.prod(shape) * dtype.itemsize)
        if self._latest is None or self._latest[0] != name:
            with _reading(self, name), self._archive.open(f"{name}.npy") as stream:
                self._latest = name, np.lib.format.read_array(stream, allow_pickle=False)
                if stream.read(1):  # and so to the end, where the checksum is compared
                    raise self.wrong(name, f"goes on after its {shape} values")
        array = self._latest[1]
        return _decoded(self, name, array if rows is None else array[rows])

    def wrong(self, name: str, what: str, hint: str = _HINT) -> InputError:
        return InputError(f"{self.path}: `{name}` {what}", hint)

    def sha256(self) -> str:
        return file_sha256(self.path)

    def close(self) -> None:
        self._archive.close()


@contextmanager
def _reading(file: ArrayFile, name: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except _READ_ERRORS as trouble:
        raise file.wrong(name, f"cannot be read ({trouble or type(trouble).__name__})") from trouble


def _header(file: ArrayFile, name: str, stream: IO[bytes]) -> tuple[Shape, np.dtype]:
    """Shape and type from the head of a .npy stream; arrays of Python objects are refused here, by name."""
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise file.wrong(name, f"has version {version} of the .npy format, which is not read")
    shape, _, dtype = readers[version](stream)
    if dtype.hasobject:
        raise file.wrong(
            name,
            "holds Python objects (a pickle), which are not loaded",
            "save numbers as numbers and names as text: np.save(FILE, array.astype('U'))",
        )
    if any(length < 0 for length in shape):
        raise file.wrong(name, f"has shape {shape}")
    return shape, dtype


def _decoded(file: ArrayFile, name: str, array: NDArray) -> NDArray:
    """Texts as objects of type str, numbers in the machine's own byte order."""
    if array.dtype.kind not in "SU":
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    try:
        texts = [text.decode("utf-8") if isinstance(text, bytes) else text for text in array.ravel().tolist()]
        "".join(texts).encode("utf-8")
    except ValueError as trouble:
        raise file.wrong(name, f"holds text that is not UTF-8 ({trouble})") from trouble
    return np.array(texts, dtype=object).reshape(array.shape)
