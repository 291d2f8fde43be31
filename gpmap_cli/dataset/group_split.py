"""Whole groups (families, batches, plates) on one side of a split, so that no relative of a test sample trains.

Groups are numbered 0..G-1; `groups` (N,) says to which each sample belongs. Sizes are in samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MOST_WEIGHED = 500  # groups among which sums are searched exactly


def nearest_groups(sizes: NDArray[np.intp], target: int, spare: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which groups (G,) together have as nearly `target` samples as whole groups can; at random where several do.

    At least one is chosen and at least `spare` are not; of two totals that are equally near the smaller is taken.
    Exact for up to 500 groups: a subset-sum table, the sums in the bits of an integer, one for each number of groups
    left out (0..spare). Of more groups, those before the last 500 of a random order are taken while they fit.
    """
    chosen = np.zeros(len(sizes), bool)
    order, left = rng.permutation(len(sizes)), target
    for group in order[:-_MOST_WEIGHED]:
        if sizes[group] <= left:
            chosen[group], left = True, left - int(sizes[group])
    weighed = order[-_MOST_WEIGHED:]
    weights = [int(sizes[group]) for group in weighed]
    highest = max(2 * left, min(weights))  # beyond it the smallest group alone, or none, is nearer
    mask = (1 << (highest + 1)) - 1
    states = [[1] + [0] * spare]  # before each group: the sums that can be had, by groups left out so far
    for weight in weights:
        before = states[-1]
        after = [(sums << weight) & mask for sums in before]
        for number, sums in enumerate(before):
            after[min(number + 1, spare)] |= sums
        states.append(after)
    total, number = _nearest_bit(states[-1][spare] & (mask if chosen.any() else mask ^ 1), left), spare
    for before, weight, group in zip(states[-2::-1], weights[::-1], weighed[::-1], strict=True):
        earlier = [start for start in range(spare + 1) if min(start + 1, spare) == number]
        left_out = next((start for start in earlier if before[start] >> total & 1), None)
        if left_out is not None:
            number = left_out
        else:
            chosen[group], total = True, total - weight
    return chosen


def _nearest_bit(bits: int, place: int) -> int:
    """The set bit nearest to `place`, the lower of two that are equally near."""
    below = (bits & ((1 << (place + 1)) - 1)).bit_length() - 1
    beyond = bits >> place
    above = place + (beyond & -beyond).bit_length() - 1 if beyond else None
    if above is None or (below >= 0 and place - below <= above - place):
        return below
    return above


def group_folds(groups: NDArray[np.intp], num_folds: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """Folds (N,) of whole groups, even in samples: the largest group first, each to the fold that has fewest.

    Groups of one size come in random order. Any two folds differ by at most the size of the largest group.
    """
    sizes = np.bincount(groups)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    held = np.zeros(num_folds, np.intp)
    fold_of = np.empty(len(sizes), np.int16)
    for group in order:
        fold = int(held.argmin())
        fold_of[group] = fold
        held[fold] += sizes[group]
    return fold_of[groups]
