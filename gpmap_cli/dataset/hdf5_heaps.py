"""Heaps in a damaged HDF5 file that the HDF5 library would walk without end.

Older layouts keep names and texts of variable length in heaps without checksums, and the library trusts the
sizes and offsets in them. One pass over the file finds the heaps by their signatures and walks them as the
library would, but with a bound.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path

_ENTRY_BYTES = 16
_MAX_ENTRIES = 2**17  # more than an entry's 16-bit number can tell apart


def endless_heap(path: Path) -> int | None:
    """The byte at which a heap without end begins, or None. For files whose offsets and lengths have 8 bytes."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        kinds: list[tuple[bytes, Callable[[mmap.mmap, int], bool]]] = [
            (b"GCOL\x01", _global_heap_ends),
            (b"HEAP\0", _local_heap_ends),
        ]
        for signature, ends in kinds:
            start = view.find(signature)
            while start >= 0:
                if not ends(view, start):
                    return start
                start = view.find(signature, start + len(signature))
    return None


def _number(view: mmap.mmap, at: int) -> int:
    return int.from_bytes(view[at : at + 8], "little")


def _global_heap_ends(view: mmap.mmap, start: int) -> bool:
    """Texts of variable length: a header of 16 bytes, then entries (number, uses, reserved, size, text).

    Entry number 0 is free space, whose size includes its header: with the size 0 the library stays there.
    """
    end = min(start + _number(view, start + 8), len(view))
    entry = start + _ENTRY_BYTES
    for _ in range(_MAX_ENTRIES):
        if entry + _ENTRY_BYTES > end:
            return True
        is_free = view[entry : entry + 2] == b"\0\0"
        size = _number(view, entry + 8)
        step = size if is_free else (_ENTRY_BYTES + (size + 7) // 8 * 8) % 2**64  # a size near 2^64 wraps around
        if step == 0:
            return False
        entry += step
    return False


def _local_heap_ends(view: mmap.mmap, start: int) -> bool:
    """Names in a group: size, first free block and address; each free block holds the next one's place and its size.

    The list of free blocks ends with the place 1; the library follows a circle of them until memory is gone.
    """
    size, free, address = (_number(view, start + at) for at in (8, 16, 24))
    for _ in range(_MAX_ENTRIES):
        if free == 1 or free + _ENTRY_BYTES > size or address + size > len(view):
            return True  # the end, or a place outside the heap, which the library refuses
        free = _number(view, address + free)
    return False
