"""Damages input files in the ways that files get damaged, and imports each: a refusal or a whole dataset, no third way.

    python damage.py KIND DIRECTORY FIRST LAST STEP

Run in a process of its own: libraries that read binary formats may crash on damaged ones. DIRECTORY holds the whole
input, made by `damage_inputs.make`. Every variant is a copy of it in which one file is changed, by a random number
generator seeded with the variant's number. Prints a JSON object: how many variants were imported, how many refused,
and, with their numbers, those that ended otherwise.
"""

from __future__ import annotations

import faulthandler
import gzip
import json
import random
import re
import resource
import shutil
import sys
import time
import warnings
from pathlib import Path

from damage_inputs import settings_of

from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.errors import InputError
from gpmap_cli.prepare import sources
from gpmap_cli.prepare.job import Job

SECONDS_EACH = 60
MEMORY_MB = 200  # more than this beyond what the whole input takes is too much: the inputs take some kilobytes
GZIP = b"\x1f\x8b"


def cells_of(line: bytes) -> tuple[bytes, list[bytes]]:
    mark = b"\t" if b"\t" in line else b"," if b"," in line else b" "
    return mark, line.split(mark)


def change_cell(lines: list[bytes], rng: random.Random, new) -> None:
    row = rng.randrange(len(lines))
    mark, cells = cells_of(lines[row])
    place = rng.randrange(len(cells))
    cells[place : place + 1] = new(cells[place])
    lines[row] = mark.join(cells)


def swap_columns(lines: list[bytes], rng: random.Random) -> None:
    """In all lines, or in the first only: columns in another order than their names."""
    _, first = cells_of(lines[0])
    a, b = (rng.randrange(len(first)) for _ in range(2))
    for row in range(len(lines) if rng.random() < 0.5 else 1):
        mark, cells = cells_of(lines[row])
        if max(a, b) < len(cells):
            cells[a], cells[b] = cells[b], cells[a]
            lines[row] = mark.join(cells)


def repeat_line(lines: list[bytes], rng: random.Random) -> None:
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))


def repeat_id(lines: list[bytes], rng: random.Random) -> None:
    """One line gets the first cell of another."""
    one, other = rng.choice(lines), rng.randrange(len(lines))
    mark, cells = cells_of(lines[other])
    cells[0] = cells_of(one)[1][0]
    lines[other] = mark.join(cells)


JUNK = [
    b"x",
    b"",
    b"nan",
    b"1e999",
    b"-1",
    b"0.5.5",
    b"7",
    b"1e-400",
    b"\xff",
    b"\xc3",
    b"\0",
    b'"',
    b"#",
    b"-inf",
    b"{}",
]
TEXT = {
    "another value": lambda lines, rng: change_cell(lines, rng, lambda _: [rng.choice(JUNK)]),
    "a cell less": lambda lines, rng: change_cell(lines, rng, lambda _: []),
    "a cell more": lambda lines, rng: change_cell(lines, rng, lambda cell: [cell, cell]),
    "a huge cell": lambda lines, rng: change_cell(
        lines, rng, lambda cell: [cell * 10 ** rng.randrange(4, 7) or b"9" * 9]
    ),
    "columns in another order": swap_columns,
    "a line twice": repeat_line,
    "an id twice": repeat_id,
    "a line less": lambda lines, rng: lines.pop(rng.randrange(len(lines))),
    "an empty line": lambda lines, rng: lines.insert(rng.randrange(len(lines) + 1), b""),
    "lines in another order": lambda lines, rng: rng.shuffle(lines),
}


def damaged_text(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    if not lines:
        return content
    kind = rng.choice([*TEXT, "encoding", "line ends"])
    if kind == "line ends":
        return content.replace(b"\n", rng.choice([b"\r\n", b"\r", b"\n\n", b""]))
    if kind == "encoding":
        return content.decode("utf-8", "replace").encode(
            rng.choice(["utf-16", "utf-8-sig", "utf-32", "cp037"]), "replace"
        )
    TEXT[kind](lines, rng)
    return b"\n".join(lines) + b"\n"


def damaged_bytes(content: bytes, rng: random.Random) -> bytes:
    kind = rng.randrange(5)
    if kind == 0 or not content:
        return content[: rng.randrange(len(content) + 1)]
    damaged = bytearray(content)
    at = rng.randrange(len(damaged))
    if kind == 1:
        for _ in range(rng.choice([1, 1, 2, 8])):
            damaged[rng.randrange(len(damaged))] ^= rng.randrange(1, 256)
    elif kind == 2:
        length = rng.randrange(1, 200)
        damaged[at : at + length] = bytes(len(damaged[at : at + length]))
    elif kind == 3:
        del damaged[at : at + rng.randrange(1, 50)]
    else:
        damaged[at:at] = rng.randbytes(rng.randrange(1, 50))
    return bytes(damaged)


def damage(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    is_gzip = content.startswith(GZIP)
    text = gzip.decompress(content) if is_gzip and not path.name.endswith((".bcf", ".pgen")) else content
    looks_like_text = b"\0" not in text and not text.startswith(b"PK")
    if looks_like_text and rng.random() < 0.75:
        text = damaged_text(text, rng)
        path.write_bytes(gzip.compress(text, mtime=0) if is_gzip else text)
    else:
        path.write_bytes(damaged_bytes(content, rng))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(kind: str, directory: Path, first: int, last: int, step: int) -> None:
    warnings.simplefilter("error")
    work = directory.with_name(f"{directory.name}.{first}")
    out = work.with_suffix(".out")
    imported, refused, otherwise = 0, 0, []
    for number in [-1, *range(first, last, step)]:
        for place in (work, out):
            shutil.rmtree(place, ignore_errors=True)
        out.mkdir()
        shutil.copytree(directory, work)
        if number >= 0:
            rng = random.Random(number)
            damage(rng.choice(sorted(path for path in work.rglob("*") if path.is_file())), rng)
        faulthandler.dump_traceback_later(SECONDS_EACH, exit=True)
        print(f"\n{number} ", end="", file=sys.stderr, flush=True)  # who reads this knows where a crash came from
        began = time.monotonic()
        try:
            settings = settings_of(kind, work)
            sources.module(settings.name).prepare(settings, Job(str(out / "x.h5")))
            with DatasetFile(out / "x.h5") as file:
                file.load()
            imported += 1
            left = [path.name for path in out.iterdir()] != ["x.h5"]
        except InputError as trouble:
            refused += 1
            text = " ".join(trouble.lines())
            left = any(out.iterdir())
            named = re.search(rf"{re.escape(work.name)}|source\.", text)
            if not text.isprintable() or not named or not all(problem.hint for problem in trouble.problems):
                otherwise.append((number, text[:300]))
        except Exception as trouble:
            left = False
            otherwise.append((number, repr(trouble)[:300]))
        if number == -1:
            whole_mb = peak_mb()
            if refused or otherwise:
                raise SystemExit(f"the whole input is refused: {otherwise or text}")
            imported = 0
        if left:
            otherwise.append((number, f"left behind: {sorted(path.name for path in out.iterdir())}"))
        if peak_mb() > whole_mb + MEMORY_MB:
            otherwise.append((number, f"took {peak_mb() - whole_mb:.0f} MB more than the whole input"))
            whole_mb = peak_mb()
        if time.monotonic() - began > SECONDS_EACH / 2:
            otherwise.append((number, "took long"))
        faulthandler.cancel_dump_traceback_later()
    shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)
    print(json.dumps({"imported": imported, "refused": refused, "otherwise": otherwise}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
