"""The head of a PLINK 2 .pgen file, checked against the size of the file before the library reads any of it.

Layout (little-endian): magic 6c 1b; storage mode; uint32 variants; uint32 samples; a byte on how the rest is stored.
With mode 0x10 follow a uint64 offset for each 65,536 variants, and for each such block the types and the lengths in
bytes of its records, perhaps their numbers of alleles, perhaps one bit each on whether the reference allele is sure.
Modes 0x02 to 0x04 have records of one length. The records follow, to the end of the file.

Source: the PGEN specification, github.com/chrchang/plink-ng, pgen_spec/pgen_spec.tex.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.hdf5 import refuse_what_cannot_fit
from gpmap_cli.errors import InputError

_MAGIC = b"\x6c\x1b"
_HEADER = 12
_BLOCK = 2**16  # variants
_DIFFERENCE = (2, 3)  # types of a record that is stored as its difference from one before
_FIXED = {0x02: (0x00, 0), 0x03: (0x40, 2), 0x04: (0xC0, 4)}  # by mode: type of the records, bytes for each dosage
_HINT = "get an undamaged copy, or write it again with plink2 --make-pgen"


@dataclass(frozen=True)
class PgenLayout:
    """Numbers of variants (M) and samples, and the type (M,) of each variant's record."""

    num_variants: int
    num_samples: int
    record_types: NDArray[np.uint8]

    @property
    def has_dosage(self) -> NDArray[np.bool_]:
        """Which variants have dosages, beside hard calls."""
        return (self.record_types & 0x60) > 0

    @property
    def has_other_alternatives(self) -> NDArray[np.bool_]:
        """Variants with calls of an alternative allele beyond the first."""
        return (self.record_types & 0x08) > 0


def read_layout(path: Path) -> PgenLayout:
    """The layout of a .pgen file that is as long as its head says; all others are refused."""
    with path.open("rb") as stream:
        head = stream.read(_HEADER)
    if head[:2] != _MAGIC:
        what = f"not a PLINK 2 .pgen file (it begins with `{head[:3].hex(' ')}`)"
        raise InputError(f"{path}: {what}", "check source.path")
    if head[2:3] == b"\x01":
        raise InputError(f"{path}: a PLINK 1 .bed file, by its third byte", "name it .bed and use source=plink1")
    if len(head) < _HEADER:
        raise InputError(f"{path}: the file is truncated to {len(head)} bytes", _HINT)
    mode, form = head[2], head[11]
    num_variants, num_samples = (int.from_bytes(head[at : at + 4], "little") for at in (3, 7))
    if not num_variants or not num_samples:
        raise InputError(f"{path}: {num_variants} variants of {num_samples} samples", _HINT)
    # A variant takes at least two bits of the file. So no number here, however wrong, makes this program greedy.
    size = path.stat().st_size
    if num_variants > 4 * size:
        raise _truncated(path, size, num_variants, num_samples)
    refuse_what_cannot_fit(f"{path}: the list of variants", 16 * num_variants)
    if mode == 0x10:
        types = _variable(path, form, num_variants, num_samples)
    elif mode in _FIXED:
        kind, dosage_bytes = _FIXED[mode]
        types = np.full(num_variants, kind, np.uint8)
        flags = -(-num_variants // 8) if form >> 6 == 3 else 0
        record = -(-num_samples // 4) + dosage_bytes * num_samples
        if size != _HEADER + flags + record * num_variants:
            raise _truncated(path, size, num_variants, num_samples)
    else:
        raise InputError(
            f"{path}: storage mode {mode:#04x} is not read", "rewrite it: plink2 --pfile PREFIX --make-pgen --out NEW"
        )
    return PgenLayout(num_variants, num_samples, types)


def _variable(path: Path, form: int, num_variants: int, num_samples: int) -> NDArray[np.uint8]:
    """Record types of a file of mode 0x10, once their lengths have led to the end of the file."""
    if form & 15 > 7:  # 8 and 9 exist, for files of one sample, but no PLINK at hand writes them
        raise InputError(f"{path}: byte 11 holds `{form:02x}`, a way to store records that is not read", _HINT)
    size = path.stat().st_size
    num_blocks = -(-num_variants // _BLOCK)
    types = np.empty(num_variants, np.uint8)
    with path.open("rb") as stream:
        stream.seek(_HEADER)
        stored = stream.read(8 * num_blocks)
        if len(stored) < 8 * num_blocks:
            raise _truncated(path, size, num_variants, num_samples)
        offsets = np.frombuffer(stored, "<u8").tolist()
        ends = []
        for block in range(num_blocks):
            first = block * _BLOCK
            count = min(_BLOCK, num_variants - first)
            found = _block(stream.read(sum(_parts(form, count))), form, count)
            if found is None:
                raise _truncated(path, size, num_variants, num_samples)
            types[first : first + count], lengths = found
            ends.append(offsets[block] + int(lengths.sum(dtype=np.int64)))
        first_record = stream.tell()
    if [first_record, *ends] != [*offsets, size]:
        raise InputError(
            f"{path}: {size} bytes, where the records of {num_variants} variants end at byte {ends[-1]}",
            f"the file is truncated or damaged: {_HINT}",
        )
    main = types & 7
    bad = (main == 5) | (np.isin(main, _DIFFERENCE) & (np.arange(num_variants) % _BLOCK == 0))
    if bad.any():
        raise InputError(f"{path}: variant {int(np.argmax(bad)) + 1} has a record of no possible type", _HINT)
    return types


def _parts(form: int, count: int) -> tuple[int, int, int, int]:
    """Bytes of record types, lengths, numbers of alleles and reference flags of a block of variants."""
    storage, allele_bytes, flags = form & 15, form >> 4 & 3, form >> 6
    types = count if storage > 3 else -(-count // 2)
    return types, count * (storage % 4 + 1), count * allele_bytes, -(-count // 8) if flags == 3 else 0


def _block(content: bytes, form: int, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | None:
    """Record types and lengths of a block of variants; None when the bytes end too early."""
    parts = _parts(form, count)
    if len(content) < sum(parts):
        return None
    type_bytes, length_bytes = parts[:2]
    width = length_bytes // count
    stored = np.frombuffer(content, np.uint8, length_bytes, type_bytes)
    lengths = np.zeros(count, np.int64)
    for byte in range(width):
        lengths += stored[byte::width].astype(np.int64) << (8 * byte)
    types = np.frombuffer(content, np.uint8, type_bytes)
    if form & 15 < 4:  # two to a byte
        types = np.stack([types & 15, types >> 4], axis=1).reshape(-1)[:count]
    return types, lengths


def _truncated(path: Path, size: int, num_variants: int, num_samples: int) -> InputError:
    return InputError(
        f"{path}: {size} bytes cannot hold {num_variants} variants of {num_samples} samples, which its head speaks of",
        f"the file is truncated or damaged: {_HINT}",
    )
