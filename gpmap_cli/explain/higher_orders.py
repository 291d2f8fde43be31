"""Which sets of three or more loci are worth their k-th differences: those whose pairs interact, whatever the sign.

All sets of k of L loci are too many to predict. A term of order k shows in the RMS of the second difference of each of
its pairs, so sets are grown from the strongest pairs, one locus after the other.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

_MOST_GROWN = 3000  # sets that the next locus is added to
MOST_GENOTYPES = 50  # a k-th difference costs 2^k - 1 predictions for each


def candidate_sets(strength: NDArray[np.float64], order: int, most: int) -> NDArray[np.intp]:
    """At most `most` sets of `order` of K loci, (S, order) ascending, those whose weakest pair is the strongest.

    strength: (K, K) symmetric, of pairs. Exact while no more than 3,000 sets of the order before are there to grow.
    """
    num_loci = len(strength)
    sets = np.stack(np.triu_indices(num_loci, k=1), axis=1)
    for size in range(3, order + 1):
        sets = _strongest(sets, strength, _MOST_GROWN)
        grown = np.concatenate(
            [np.repeat(sets, num_loci, axis=0), np.tile(np.arange(num_loci), len(sets))[:, None]], axis=1
        )
        grown = np.sort(grown, axis=1)
        sets = np.unique(grown[(np.diff(grown, axis=1) > 0).all(axis=1)], axis=0).reshape(-1, size)
    return _strongest(sets, strength, most)


def _strongest(sets: NDArray[np.intp], strength: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    weakest = np.min([strength[sets[:, i], sets[:, j]] for i, j in combinations(range(sets.shape[1]), 2)], axis=0)
    return sets[np.argsort(-weakest, kind="stable")[:most]]


def sets_that_fit(order: int, num_genotypes: int, most_predictions: int) -> int:
    """How many sets have their differences for `most_predictions`; at least one."""
    return max(1, most_predictions // (num_genotypes * (2**order - 1)))
