"""Variants of one sequence as they are written, and the substitutions in them.

As mutations (`A24G:C30T`; HGVS such as `p.Ala24Gly`, `p.[Ala24Gly;Cys30Thr]`, `c.76A>T`) or as whole sequences.
Insertions, deletions and frameshifts are no substitutions, and are refused by their line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.errors import InputError
from gpmap_cli.prepare.tables.text_table import shown

REFERENCE_NAMES = ("wt", "_wt", "_sy", "wildtype", "wild-type", "wild_type", "reference", "=", "(=)")
_THREE = "AlaArgAsnAspCysGlnGluGlyHisIleLeuLysMetPheProSerThrTrpTyrValTerSecPylXaa"
_AMINO_ACIDS = {_THREE[3 * place :][:3]: letter for place, letter in enumerate("ARNDCQEGHILKMFPSTWYV*UOX")}
_ONE_LETTER = re.compile(r"([A-Z*])(\d{1,9})([A-Z*=])")
_THREE_LETTERS = re.compile(r"([A-Z][a-z]{2})(\d{1,9})([A-Z][a-z]{2}|[=*])")
_NUCLEOTIDE = re.compile(r"(\d{1,9})([ACGTU])>([ACGTU])")
_INDEL = re.compile(r"del|ins|dup|fs|ext|inv", re.IGNORECASE)
_BETWEEN = re.compile(r"[:;,+\s]+")
_NO_RESIDUE = re.compile(r"[^A-Za-z*]")
_GAPS = "-._"
_NO_INDELS = "insertions and deletions are not supported: leave such variants out"
Residue = tuple[int, str]  # a position and what stands there instead; X where nobody knows


@dataclass(frozen=True)
class Variants:
    """Substitutions of each variant, and the unmutated residue at each position that is mutated in any.

    `reference_source` says where that is from. num_silent counts mutations that change nothing (A24A, Ala24=).
    """

    substitutions: list[tuple[Residue, ...]]
    reference: dict[int, str]
    reference_source: str
    num_silent: int


Wrong = Callable[[int, str, str], InputError]  # the refusal of a row: its number, what is wrong, what to do


def from_mutations(cells: Sequence[str], reference: str | None, wrong: Wrong) -> Variants:
    """The variants in cells such as `A24G:C30T`; positions as written there."""
    known: dict[int, str] = {}
    found: list[tuple[Residue, ...]] = []
    num_silent = 0
    for row, cell in enumerate(cells):
        changes: dict[int, str] = {}
        for before, position, after in _mutations(row, cell, wrong):
            if reference is not None:
                if not 1 <= position <= len(reference):
                    what = (
                        f"position {position} of `{shown(cell)}` is not in the reference of {len(reference)} residues"
                    )
                    raise wrong(row, what, "positions in mutations count from 1 along source.reference")
                known.setdefault(position, reference[position - 1])
            if known.setdefault(position, before) != before:
                what = f"`{shown(cell)}` has {before} at position {position}, and the reference {known[position]}"
                raise wrong(row, what, "all mutations must be of one sequence")
            if position in changes:
                raise wrong(row, f"`{shown(cell)}` changes position {position} twice", "correct it")
            changes[position] = before if after == "=" else after
        num_silent += sum(known[position] == after for position, after in changes.items())
        found.append(tuple(sorted((position, one) for position, one in changes.items() if known[position] != one)))
    return Variants(found, known, "source.reference" if reference else "what the mutations say", num_silent)


def from_sequences(cells: Sequence[str], reference: str | None, wrong: Wrong) -> Variants:
    """The variants in whole sequences of one length; without a reference, the commonest residue is unmutated."""
    length = len(cells[0] if reference is None else reference)
    for row, cell in enumerate(cells):
        if len(cell) != length:
            than = "the first has" if reference is None else "source.reference has"
            raise wrong(row, f"a sequence of {len(cell)} residues, and {than} {length}", _NO_INDELS)
        if odd := _NO_RESIDUE.search(cell):
            what = f"`{shown(odd.group())}` at position {odd.start() + 1} of the sequence is no residue"
            is_gap = odd.group() in _GAPS
            raise wrong(row, what, _NO_INDELS if is_gap else "residues are letters, and * for a stop")
    upper = [cell.upper() for cell in cells]
    residues = np.frombuffer("".join(upper).encode("ascii"), np.uint8).reshape(len(upper), length)
    is_unknown = residues == ord("X")
    if set(np.unique(residues).tolist()) <= set(b"ACGTUN"):
        is_unknown |= residues == ord("N")
    if reference is not None:
        unmutated, source = np.frombuffer(reference.encode("ascii"), np.uint8), "source.reference"
    else:
        unmutated = _commonest(residues, is_unknown)
        is_there = bool((residues == unmutated).all(axis=1).any())
        source = (
            "the commonest residue at each position, " + ("one of" if is_there else "and none of") + " the variants"
        )
    differs = residues != unmutated
    found = []
    for row, letters in enumerate(upper):
        places = np.flatnonzero(differs[row]).tolist()
        found.append(tuple((at + 1, "X" if is_unknown[row, at] else letters[at]) for at in places))
    known = {int(at) + 1: chr(unmutated[at]) for at in np.flatnonzero(differs.any(axis=0))}
    return Variants(found, known, source, 0)


def _commonest(residues: NDArray[np.uint8], is_unknown: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The commonest known residue of each position; the first in the alphabet of several, X if nobody knows any."""
    letters = np.unique(residues)
    counts = np.array([((residues == letter) & ~is_unknown).sum(axis=0) for letter in letters])
    return np.where(counts.max(axis=0) > 0, letters[np.argmax(counts, axis=0)], ord("X")).astype(np.uint8)


def _mutations(row: int, cell: str, wrong: Wrong) -> list[tuple[str, int, str]]:
    """The residue before, the position and the residue after, of each mutation in a cell."""
    text = re.sub(r"^([A-Za-z0-9_.]+:)?[pcng]\.", "", cell.strip())
    if text.lower() in REFERENCE_NAMES:
        return []
    found = []
    for part in _BETWEEN.split(text.strip("[]()")):
        token = re.sub(r"^[pcng]\.", "", part).strip("()")
        if token.lower() in REFERENCE_NAMES:
            continue
        if match := _ONE_LETTER.fullmatch(token):
            found.append((match[1], int(match[2]), match[3]))
        elif (match := _THREE_LETTERS.fullmatch(token)) and match[1] in _AMINO_ACIDS:
            after = _AMINO_ACIDS.get(match[3], match[3] if match[3] in "=*" else "")
            if not after:
                raise wrong(row, f"`{shown(match[3])}` in `{shown(cell)}` is no amino acid", "correct it")
            found.append((_AMINO_ACIDS[match[1]], int(match[2]), after))
        elif match := _NUCLEOTIDE.fullmatch(token):
            found.append((match[2], int(match[1]), match[3]))
        elif _INDEL.search(token):
            raise wrong(row, f"`{shown(cell)}` is no substitution", _NO_INDELS)
        else:
            what = f"`{shown(token)}` in `{shown(cell)}` is not a mutation" if token else "an empty mutation"
            raise wrong(row, what, "mutations are written A24G:C30T, p.Ala24Gly or c.76A>T; the unmutated sequence WT")
    return found
