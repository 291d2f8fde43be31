"""Sharing things out between chromosomes in proportion to their size. No array library is imported here."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def apportion(count: int, sizes: Sequence[float], least: int = 0) -> list[int]:
    """How many of `count` each chromosome gets: `least` of them, the rest in proportion to size.

    Sainte-Lague's rule: the next one goes to the largest size / (2 * (what it has) + 1). Sharing out one more takes
    none away, so of `count` <= sum(sizes) whole things no chromosome is given more than it has.
    """
    counts = [least] * len(sizes)
    claims = [(-size / (2 * least + 1), number) for number, size in enumerate(sizes)]
    heapq.heapify(claims)
    for _ in range(count - least * len(sizes)):
        number = claims[0][1]
        counts[number] += 1
        heapq.heapreplace(claims, (-sizes[number] / (2 * counts[number] + 1), number))
    return counts
