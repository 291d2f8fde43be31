"""Reading HDF5 files that may be damaged or come from a stranger.

Every refusal names the path inside the file that is wrong. Links and arrays whose values lie in another
file are refused (a dataset is one file), sizes are checked before memory is taken for them, and whatever
the HDF5 library raises on damaged bytes becomes an `InputError`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpmap_cli.dataset.hdf5_heaps import endless_heap
from gpmap_cli.dataset.physical_memory import physical_memory
from gpmap_cli.errors import InputError

# What h5py lets through when the bytes of a file make no sense to HDF5.
_READ_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError, OverflowError, SystemError)
# The kinds of values that are read: the library's handling of the others does not stand up to damaged files.
_NUMBERS = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM)  # h5py stores true and false as an enumeration
_MAX_DEPTH = 8  # of groups in groups: hard links can make a group contain itself
_MAX_ATTRIBUTE_BYTES = 2**20


class Hdf5File:
    """An HDF5 file opened for reading. `damage_hint` goes with every complaint about its contents."""

    def __init__(self, path: Path, absent_hint: str, kind_hint: str, damage_hint: str) -> None:
        self.path = path
        self._damage_hint = damage_hint
        check_readable(path, absent_hint)
        try:
            self._file = h5py.File(path, "r", locking="best-effort")
        except _READ_ERRORS as trouble:
            if "truncated" in str(trouble):
                raise InputError(f"{path}: the file is truncated ({trouble})", damage_hint) from trouble
            raise InputError(f"{path}: not a readable HDF5 file ({trouble})", kind_hint) from trouble
        try:
            self._refuse_endless_heaps()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        self._file.close()

    def wrong(self, name: str, what: str) -> InputError:
        """The refusal of what stands at `name` in the file."""
        return InputError(f"{self.path}: `{name}` {what}", self._damage_hint)

    @contextmanager
    def reading(self, name: str) -> Iterator[None]:
        """Around a read of `name`: what the HDF5 library raises becomes a refusal of `name`."""
        try:
            yield
        except InputError:
            raise
        except _READ_ERRORS as trouble:
            raise self.wrong(name, f"cannot be read ({trouble or type(trouble).__name__})") from trouble

    def attributes(self) -> dict[str, str | int | float]:
        """The file's own attributes that are one text or one number; bytes that are no UTF-8 become `?`."""
        found: dict[str, str | int | float] = {}
        with self.reading("/"):
            names = list(self._file.attrs)
        for name in names:
            with self.reading(f"/ attribute {_legible(name)}"):
                stored = self._file.attrs.get_id(name)
                is_plain = stored.get_type().get_class() in (*_NUMBERS, h5py.h5t.STRING)
                if not is_plain or stored.shape not in ((), (1,)) or stored.get_storage_size() > _MAX_ATTRIBUTE_BYTES:
                    continue
                value = np.asarray(self._file.attrs[name]).reshape(-1)[0]
            if isinstance(value, np.generic):
                value = value.item()
            if isinstance(value, (str, bytes)):
                found[_legible(name)] = _legible(value)
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                found[_legible(name)] = value
        return found

    def members(self, group: str = "") -> list[str]:
        """Names in a group of the file, sorted; none when the group is not there."""
        node = self._node(group) if group else self._file
        if node is None:
            return []
        if not isinstance(node, h5py.Group):
            raise self.wrong(group, "is not a group")
        with self.reading(group or "/"):
            names = list(node)
        for name in names:
            if _legible(name) != name:
                raise self.wrong(f"{group}/{_legible(name)}", "has a name that is not UTF-8")
        return sorted(names)

    def arrays_below(self, group: str, depth: int = 0) -> list[str]:
        """Paths of all arrays in a group and the groups in it."""
        if depth > _MAX_DEPTH:
            raise self.wrong(group, "is nested too deep")
        found = []
        for name in self.members(group):
            path = f"{group}/{name}"
            if isinstance(self._node(path), h5py.Group):
                found += self.arrays_below(path, depth + 1)
            else:
                found.append(path)
        return found

    def is_group(self, name: str) -> bool:
        return isinstance(self._node(name), h5py.Group)

    def find(self, name: str, ndim: int | None = None, shape: tuple[int, ...] | None = None) -> h5py.Dataset | None:
        """The array at `name`, or None when nothing is there; `shape` or `ndim` is what it must have."""
        node = self._node(name)
        if node is None:
            return None
        with self.reading(name):
            if not isinstance(node, h5py.Dataset):
                raise self.wrong(name, "is not an array")
            if node.is_virtual or node.external:
                raise self.wrong(name, "keeps its values in another file")
            has = node.shape
            node.dtype  # noqa: B018 - a type that NumPy does not know is refused here, by name
        if has is None:
            raise self.wrong(name, "holds no values")
        if ndim is not None and len(has) != ndim:
            raise self.wrong(name, f"has shape {has}, not {ndim} dimensions")
        if shape is not None and has != shape:
            raise self.wrong(name, f"has shape {has}, not {shape} as `genotypes` and the names require")
        return node

    def get(self, name: str, ndim: int | None = None, shape: tuple[int, ...] | None = None) -> h5py.Dataset:
        """The array at `name`, which must be there."""
        node = self.find(name, ndim, shape)
        if node is None:
            raise self.wrong(name, "is missing")
        return node

    def read(self, name: str, node: h5py.Dataset, rows: slice | None = None) -> NDArray:
        """Values of an array (or some rows of it), in the machine's own byte order."""
        if node.id.get_type().get_class() not in _NUMBERS:
            raise self.wrong(name, f"has type {node.dtype}, not a type of numbers")
        num_rows = node.shape[0] if node.shape else 1
        num_bytes = node.size * node.dtype.itemsize
        if rows is not None:
            num_bytes = num_bytes // max(1, num_rows) * len(range(*rows.indices(num_rows)))
        refuse_what_cannot_fit(f"{self.path}: `{name}`", num_bytes)
        with self.reading(name):
            values = np.asarray(node[()] if rows is None else node[rows])
            return values.astype(values.dtype.newbyteorder("="), copy=False) if values.dtype.kind in "iuf" else values

    def numbers(self, name: str, shape: tuple[int, ...], kinds: str, dtype: DTypeLike) -> NDArray:
        """A table of numbers as `dtype`; `kinds` are the NumPy type letters it may be stored as."""
        node = self.get(name, shape=shape)
        if node.dtype.kind not in kinds:
            raise self.wrong(name, f"has type {node.dtype}, not {np.dtype(dtype)}")
        values = self.read(name, node)
        if np.dtype(dtype).kind == "i" and values.size:
            span = np.iinfo(np.dtype(dtype))
            if values.min() < span.min or values.max() > span.max:
                raise self.wrong(name, f"holds numbers that do not fit {np.dtype(dtype)}")
        with np.errstate(over="ignore", invalid="ignore"):
            return values.astype(dtype)

    def strings(self, name: str, count: int | None = None) -> NDArray[np.object_]:
        """A list of texts (any shape when `count` is None), decoded from UTF-8."""
        node = self.get(name, shape=None if count is None else (count,))
        if not is_text(node):
            raise self.wrong(name, f"has type {node.dtype}, not text")
        refuse_what_cannot_fit(f"{self.path}: `{name}`", node.size * node.dtype.itemsize)
        with self.reading(name):
            self._refuse_endless_texts(name, node)
            try:
                texts: NDArray[np.object_] = np.asarray(node.asstr("utf-8")[()] if node.size else [], dtype=object)
            except UnicodeDecodeError as trouble:
                raise self.wrong(name, f"holds text that is not UTF-8 ({trouble})") from trouble
        return texts.reshape(node.shape)

    def unique_strings(self, name: str, count: int, of: str) -> NDArray[np.object_]:
        """Identifiers: texts none of which may occur twice."""
        ids = self.strings(name, count)
        twice = first_repeated(ids)
        if twice is not None:
            raise self.wrong(name, f"holds `{twice}` more than once; {of} need unique ids")
        return ids

    def _node(self, name: str) -> h5py.Group | h5py.Dataset | h5py.Datatype | None:
        """What stands at `name`, reached through hard links alone."""
        node: h5py.Group = self._file
        path = ""
        for part in name.split("/"):
            if not isinstance(node, h5py.Group):
                raise self.wrong(path, "is not a group")
            path = f"{path}/{part}" if path else part
            with self.reading(path):
                link = node.get(part, getlink=True)
                if link is None:
                    return None
                if not isinstance(link, h5py.HardLink):
                    raise self.wrong(path, "is a link, and links are not followed")
                node = node[part]
        return node

    def _refuse_endless_heaps(self) -> None:
        with self.reading("/"):
            sizes = self._file.id.get_create_plist().get_sizes()
        at = endless_heap(self.path) if tuple(sizes) == (8, 8) else None
        if at is not None:
            raise self.wrong("/", f"has a heap of texts without end at byte {at}")

    def _refuse_endless_texts(self, name: str, node: h5py.Dataset) -> None:
        """Refuse texts of variable length that claim to be longer than the file: the library would allot them."""
        at = node.id.get_offset()
        if h5py.check_string_dtype(node.dtype).length is not None or at is None:
            return
        size = self.path.stat().st_size
        with self.path.open("rb") as stream:
            stream.seek(at)
            references = np.frombuffer(stream.read(16 * node.size), "<u4")  # length, address (8 bytes), number
        if references[::4].sum(dtype=np.uint64) > size:
            raise self.wrong(name, "is damaged: its texts are longer than the file")


def check_readable(path: Path, absent_hint: str) -> None:
    """Refuse what is not there, not an ordinary file, or not ours to read."""
    try:
        if not path.exists():
            raise InputError(f"{path}: there is no such file", absent_hint)
        if path.is_dir():
            raise InputError(f"{path}: this is a directory, not a file", "name the file inside it")
        if not path.is_file():
            raise InputError(f"{path}: this is not an ordinary file", "save it to a file first")
        with path.open("rb") as stream:
            stream.read(1)
    except OSError as trouble:
        raise InputError(
            f"{path}: cannot be read ({trouble.strerror})", "check the name and the permissions"
        ) from trouble


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def files_sha256(paths: Sequence[Path]) -> str:
    """SHA-256 of a file; of several, that of what `sha256sum` prints about them, in this order, in their directory."""
    if len(paths) == 1:
        return file_sha256(paths[0])
    lines = [f"{file_sha256(path)}  {path.name}\n" for path in paths]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def is_text(node: h5py.Dataset) -> bool:
    """Whether the array holds texts."""
    return bool(node.id.get_type().get_class() == h5py.h5t.STRING)


def first_repeated(ids: NDArray[np.object_]) -> str | None:
    """The first id that was there before, or None when all differ."""
    listed = ids.tolist()
    if len(set(listed)) == len(listed):
        return None
    seen: set[str] = set()
    for one in listed:
        if one in seen:
            return str(one)
        seen.add(one)
    return None


def refuse_what_cannot_fit(what: str, num_bytes: int, hint: str = "take a part of it, or a larger machine") -> None:
    """Refuse to read what needs more memory than the machine has."""
    physical = physical_memory()
    if physical is not None and num_bytes > 0.9 * physical:
        raise InputError(
            f"{what} needs {num_bytes / 2**30:.1f} GB of memory and the machine has {physical / 2**30:.1f} GB", hint
        )


def _legible(text: str | bytes) -> str:
    """The text in what can be printed: of bytes that are no UTF-8, h5py makes stand-ins or leaves bytes."""
    if isinstance(text, bytes):
        return text.decode("utf-8", "replace")
    return text.encode("utf-8", "replace").decode("utf-8")
