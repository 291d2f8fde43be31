"""Reads many damaged variants of a file, in a process of its own: damaged HDF5 can crash or hang the library.

    python read_damaged.py dataset|arrays flip|cut FILE FIRST LAST STEP

`flip` changes a few random bytes, seeded by the number of the variant; `cut` keeps that many bytes. Prints a JSON
object: how many variants were read right, were refused, and, with their numbers, those that ended otherwise.
"""

from __future__ import annotations

import faulthandler
import json
import random
import sys
import warnings
from dataclasses import replace
from pathlib import Path

from dataset_examples import assert_same

from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.errors import InputError
from gpmap_cli.prepare.arrays.named_arrays import read_arrays
from gpmap_cli.prepare.sources.arrays import Settings as ArraysSource

SECONDS_EACH = 30


def flipped(whole: bytes, seed: int) -> bytes:
    rng = random.Random(seed)
    damaged = bytearray(whole)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(len(damaged))
        damaged[at] ^= 1 << rng.randrange(8) if rng.random() < 0.5 else rng.randrange(1, 256)
    return bytes(damaged)


def read(kind: str, path: Path):
    if kind == "arrays":
        return read_arrays(ArraysSource(path=str(path)))[0]
    with DatasetFile(path) as file:
        return file.load()


def check_same(kind: str, damaged, whole) -> None:
    """Texts of provenance, and arrays that are imported, carry no checksum of ours."""
    if kind == "dataset":
        assert damaged.provenance.keys() == whole.provenance.keys()
        assert_same(replace(damaged, provenance={}), replace(whole, provenance={}))


def main(kind: str, damage: str, name: str, first: int, last: int, step: int) -> None:
    warnings.simplefilter("error")
    original = Path(name)
    contents = original.read_bytes()
    whole = read(kind, original)
    path = original.with_name("damaged" + original.suffix)
    read_right, refused, otherwise = 0, 0, []
    for number in range(first, last, step):
        path.write_bytes(flipped(contents, number) if damage == "flip" else contents[:number])
        faulthandler.dump_traceback_later(SECONDS_EACH, exit=True)
        try:
            check_same(kind, read(kind, path), whole)
            read_right += 1
        except InputError as trouble:
            refused += 1
            text = " ".join(trouble.lines())
            if str(path) not in text or not text.isprintable():
                otherwise.append((number, text))
        except Exception as trouble:
            otherwise.append((number, repr(trouble)))
        faulthandler.cancel_dump_traceback_later()
    print(json.dumps({"read_right": read_right, "refused": refused, "otherwise": otherwise}))


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))
