"""How sure the terms of a scan are: family-wise error by Bonferroni and by permutation, and false discovery rate.

All is of one epistasis order and one environment, among its m candidates. The false discovery rate is that of Benjamini
and Hochberg (1995): q_i = min over j >= i of m p_(j) / j. Terms that are kept have exact p-values; of the others the
histogram of |z| tells how many are how large, each bin with the p-value of its lower edge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.scan.p_values import correlation_t, least_z, log10_p
from gpmap_cli.scan.tallies import BINS_PER_UNIT


@dataclass(frozen=True)
class Thresholds:
    """|z| from which on a term passes; None where there is none: nothing is discovered, or too few permutations.

    num_discovered: candidates beyond the threshold of the false discovery rate.
    """

    bonferroni: float
    permutation: float | None
    discovery: float | None
    num_discovered: int


def thresholds(
    counts: NDArray[np.int64], largest_permuted: NDArray[np.float64], alpha: float, num_samples: float, df: float
) -> Thresholds:
    """Thresholds at level alpha. counts: of |z| in bins; largest_permuted: (B,); df: of the t statistics of z."""
    num_candidates = int(counts.sum())
    bonferroni = least_z(math.log10(alpha / max(num_candidates, 1)), num_samples, df)
    edges, beyond, log_p = _tail(counts, num_samples, df)
    discovered = np.flatnonzero(log_p + math.log10(max(num_candidates, 1)) - np.log10(beyond) <= math.log10(alpha))
    at = int(discovered[0]) if len(discovered) else None
    return Thresholds(
        bonferroni,
        permutation_threshold(largest_permuted, alpha),
        None if at is None else float(edges[at]),
        0 if at is None else int(beyond[at]),
    )


def permutation_threshold(largest: NDArray[np.float64], alpha: float) -> float | None:
    """The least |z| with (1 + how many permutations have a larger one) / (1 + B) <= alpha."""
    most = math.floor(alpha * (len(largest) + 1) + 1e-9) - 1  # permutations that may reach it
    if most < 0:
        return None
    below = np.sort(largest)[len(largest) - most - 1] if most < len(largest) else 0.0
    return float(np.nextafter(below, np.inf))


def permutation_p(z: NDArray[np.float64], largest: NDArray[np.float64]) -> NDArray[np.float64]:
    """(1 + how many permutations have a largest |z| of at least this) / (1 + B)."""
    reached = len(largest) - np.searchsorted(np.sort(largest), np.abs(z), side="left")
    return np.asarray((1 + reached) / (1 + len(largest)))


def bonferroni(log10_p: NDArray[np.float64], num_candidates: int) -> NDArray[np.float64]:
    """min(1, m p)."""
    return np.asarray(10.0 ** np.minimum(log10_p + math.log10(max(num_candidates, 1)), 0.0))


def false_discovery(
    kept: NDArray[np.float64], counts: NDArray[np.int64], num_samples: float, df: float
) -> NDArray[np.float64]:
    """q of the terms that are kept, of which log10 of p is given; counts: |z| of all candidates in bins."""
    num_candidates, order = int(counts.sum()), np.argsort(kept, kind="stable")
    if len(kept) == 0:
        return np.empty(0)
    log_m = math.log10(max(num_candidates, 1))
    own = kept[order] + log_m - np.log10(np.arange(1, len(kept) + 1))
    _, beyond, log_p = _tail(counts, num_samples, df)
    among_others = beyond > len(kept)
    least = float((log_p + log_m - np.log10(beyond))[among_others].min(initial=0.0))
    found = np.empty(len(kept))
    found[order] = 10.0 ** np.minimum(np.minimum.accumulate(own[::-1])[::-1], least)
    return np.asarray(np.minimum(found, 1.0))


def _tail(
    counts: NDArray[np.int64], num_samples: float, df: float
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Of bins that hold any, by |z|: lower edge, how many candidates are there and beyond, log10 of p at the edge."""
    held = np.flatnonzero(counts)
    beyond = np.cumsum(counts[::-1])[::-1][held]
    edges = held / BINS_PER_UNIT
    return edges, beyond, log10_p(correlation_t(edges, num_samples, df), df)
