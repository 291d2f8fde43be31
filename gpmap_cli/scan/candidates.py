"""All sets of k loci, each once, as blocks of a matrix product: weighted sets of about half the order against the rest.

The set i < j is i against j. i < j < k is cut at its middle locus: (i, j) against k where j is in the first half of the
loci, else i against (j, k), so that products of pairs are made of the side with fewer loci. i < j < k < l is (i, j)
against (k, l). Sets are sorted by the locus next to the cut: those that match a set are all before, or all after, a
place in the list, and blocks that hold no set in order are never made. A block on the diagonal is made whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

_MOST_ROWS, _MOST_COLUMNS = 512, 2048  # weighted and plain sets of a block
_PARTS = 10  # weighted sets are in at least so many blocks, down to 64 a block: less of the diagonal is made in vain


@dataclass(frozen=True)
class Sets:
    """Sets of one or two loci (S, m), sorted by the locus next to the cut, `key` (S,)."""

    loci: NDArray[np.int32]
    key: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.key)

    def runs(self, part: slice) -> Iterator[tuple[int | None, slice, slice]]:
        """Sets of the part by their locus next to the cut: this locus, a range of the others, where they stand.

        Of single loci: None, a range of loci, where they stand.
        """
        if self.loci.shape[1] == 1:
            yield None, part, slice(0, part.stop - part.start)
            return
        key = self.key[part]
        other = self.loci[part, 0] if self.loci[part.start, 0] != key[0] else self.loci[part, 1]
        begins = np.flatnonzero(np.diff(key, prepend=-1))
        for begin, end in zip(begins, [*begins[1:], len(key)], strict=True):
            yield int(key[begin]), slice(int(other[begin]), int(other[end - 1]) + 1), slice(int(begin), int(end))


@dataclass(frozen=True)
class Block:
    """Weighted sets against plain ones; some are not in order where the diagonal passes through."""

    layout: int
    weighted: slice
    plain: slice


@dataclass(frozen=True)
class Layout:
    """Lists of weighted and of plain sets; a set is in order where the plain one is all after (or before) the other."""

    weighted: Sets
    plain: Sets
    plain_after: bool

    def in_order(self, block: Block) -> NDArray[np.bool_] | None:
        """Which are in order, (a, b); None where all are."""
        one, other = self.weighted.key[block.weighted], self.plain.key[block.plain]
        if (other[0] > one[-1]) if self.plain_after else (other[-1] < one[0]):
            return None
        return np.greater(other, one[:, None]) if self.plain_after else np.less(other, one[:, None])

    def blocks(self, number: int) -> Iterator[Block]:
        """By plain sets, then by weighted ones, so that products of plain sets serve several blocks."""
        rows = min(_MOST_ROWS, max(64, -(-len(self.weighted) // _PARTS)))
        columns = _MOST_COLUMNS
        one, other = self.weighted.key, self.plain.key
        for start in range(0, len(self.plain), columns):
            stop = min(start + columns, len(self.plain))
            if self.plain_after:
                first, last = 0, int(np.searchsorted(one, other[stop - 1], "left"))
            else:
                first, last = int(np.searchsorted(one, other[start], "right")), len(self.weighted)
            for begin in range(first, last, rows):
                end = min(begin + rows, last)
                if self.plain_after:
                    plain = slice(max(start, int(np.searchsorted(other, one[begin], "right"))), stop)
                else:
                    plain = slice(start, min(stop, int(np.searchsorted(other, one[end - 1], "left"))))
                if plain.start < plain.stop:
                    yield Block(number, slice(begin, end), plain)


class Candidates:
    """All sets of `order` loci out of L."""

    def __init__(self, num_loci: int, order: int) -> None:
        self.num_loci, self.order = num_loci, order
        self.layouts = tuple(_layouts(num_loci, order))
        self.blocks = tuple(block for number, layout in enumerate(self.layouts) for block in layout.blocks(number))

    def __len__(self) -> int:
        return comb(self.num_loci, self.order)

    @property
    def num_computed(self) -> int:
        """How many entries the blocks have, those that are not in order included."""
        return sum(num_entries(block) for block in self.blocks)

    def loci(self, block: Block, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.int32]:
        """The loci (m, k), ascending, of these entries of a block."""
        layout = self.layouts[block.layout]
        one = layout.weighted.loci[block.weighted.start + rows]
        other = layout.plain.loci[block.plain.start + columns]
        return np.concatenate([one, other] if layout.plain_after else [other, one], axis=1)


def num_entries(block: Block) -> int:
    """Weighted times plain sets."""
    return (block.weighted.stop - block.weighted.start) * (block.plain.stop - block.plain.start)


def _layouts(num_loci: int, order: int) -> Iterator[Layout]:
    if num_loci < order:
        return
    singles = np.arange(num_loci, dtype=np.int32)
    alone = Sets(singles[:, None], singles)
    if order == 2:
        yield Layout(alone, alone, plain_after=True)
    elif order == 3:
        middle = (num_loci - 1) // 2
        yield Layout(_pairs_by_last(middle + 1), alone, plain_after=True)
        yield Layout(_pairs_by_first(num_loci, middle + 1), alone, plain_after=False)
    elif order == 4:
        yield Layout(_pairs_by_first(num_loci, 0), _pairs_by_last(num_loci), plain_after=False)
    else:
        raise ValueError(f"no blocks for sets of {order} loci")


def _pairs_by_last(num_loci: int) -> Sets:
    """(i, j), i < j < num_loci, by j."""
    j, i = np.tril_indices(num_loci, -1)
    return Sets(np.stack([i, j], axis=1).astype(np.int32), j.astype(np.int32))


def _pairs_by_first(num_loci: int, least: int) -> Sets:
    """(j, k), least <= j < k < num_loci, by j."""
    j, k = np.triu_indices(num_loci - least, 1)
    loci = np.stack([j, k], axis=1).astype(np.int32) + np.int32(least)
    return Sets(loci, loci[:, 0].copy())
