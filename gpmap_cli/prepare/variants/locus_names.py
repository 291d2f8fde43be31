"""The loci of a dataset made from variants: where they lie, and an id for each that no other has."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.errors import listing
from gpmap_cli.prepare.tables.text_table import shown


class Loci:
    """Chromosome, position and id of L loci, in the order in which they are added.

    A locus without an id, or whose id another one has too, is called chromosome:position:reference:alternative,
    the alternative allele being the one that is counted.
    """

    def __init__(self) -> None:
        self._chromosomes: list[str] = []
        self._positions: list[int] = []
        self._given: list[str] = []
        self._described: list[str] = []

    def add(self, chromosome: str, position: int, given: str, reference: str, alternative: str) -> None:
        """The next locus; `given` is its id in the file, empty where it has none."""
        self._chromosomes.append(chromosome)
        self._positions.append(position)
        self._given.append(given)
        self._described.append(f"{chromosome}:{position}:{reference}:{alternative}")

    def __len__(self) -> int:
        return len(self._given)

    @property
    def chromosomes(self) -> NDArray[np.str_]:
        return np.array(self._chromosomes, dtype=object)

    def positions(self) -> tuple[NDArray[np.int64] | None, list[str]]:
        """Positions (L,) in base pairs, None where not a single one is known, and what there is to say about them."""
        positions = np.array(self._positions, np.int64)
        num_unknown = int((positions == 0).sum())
        if num_unknown == len(positions):
            return None, ["no positions: all are 0"]
        return positions, [f"positions that are 0 (unknown): {num_unknown}"] if num_unknown else []

    def ids(self) -> tuple[NDArray[np.str_], list[str]]:
        """Unique ids (L,), and what there is to say about them."""
        lines = []
        ids = [given or described for given, described in zip(self._given, self._described, strict=True)]
        nameless = [described for given, described in zip(self._given, self._described, strict=True) if not given]
        if nameless:
            lines.append(f"loci without an id: {len(nameless)}, called by place and alleles, as {_one(nameless)}")
        repeated = {one for one, count in Counter(ids).items() if count > 1}
        if repeated:
            renamed = [place for place, given in enumerate(self._given) if given and ids[place] in repeated]
            for place in renamed:
                ids[place] = self._described[place]
            if renamed:
                lines.append(
                    f"loci whose id is not theirs alone: {len(renamed)}, called by place and alleles, as"
                    f" {_one([ids[place] for place in renamed])}"
                )
        return np.array(_numbered(ids, lines), dtype=object), lines


def _numbered(ids: list[str], lines: list[str]) -> list[str]:
    """Ids in which the second of a name is called name:2, and so on."""
    taken = set(ids)
    if len(taken) == len(ids):
        return ids
    seen: set[str] = set()
    found, numbered = [], []
    for one in ids:
        name, number = one, 1
        while name in seen or (number > 1 and name in taken):
            number += 1
            name = f"{one}:{number}"
        seen.add(name)
        found.append(name)
        if number > 1:
            numbered.append(name)
    lines.append(f"loci that are in the file more than once: {len(numbered)} repeats, numbered as {_one(numbered)}")
    return found


def _one(names: list[str]) -> str:
    return listing(map(shown, names), 1).split(" and ")[0]
