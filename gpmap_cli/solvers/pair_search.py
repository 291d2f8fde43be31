"""The two penalties of a matrix-free pairwise regression by validation, all environments side by side."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.solvers.pair_gradients import PairRegression, PairSolution, predict_pairs

_FACTORS = (4.0, 2.0)
_LOOSE = 1e-3  # of the residual: the validation error no longer changes below it


def penalties_by_validation(
    regression: PairRegression,
    start: NDArray[np.float64],
    fixed: tuple[bool, bool],
    genotypes: CodedGenotypes,
    phenotypes: NDArray[np.float64],
    note: Callable[[str], None],
) -> NDArray[np.float64]:
    """Penalties (E, 2) with the least validation error, from `start` on by factors of 4 and then 2.

    Each environment goes its own way; a solve serves all of them and starts from the effects of the one before.
    """
    best, effects = start.copy(), None

    def errors(penalties: NDArray[np.float64]) -> NDArray[np.float64]:
        nonlocal effects
        solution: PairSolution = regression.solve(penalties, effects, _LOOSE)
        effects = solution.effects
        return squared_errors(solution, genotypes, phenotypes)

    least = errors(best)
    for factor in _FACTORS:
        for part in (1, 0):
            if fixed[part]:
                continue
            for step in (factor, 1 / factor):
                tried = best.copy()
                tried[:, part] *= step
                found = errors(tried)
                better = found < least
                best[better], least[better] = tried[better], found[better]
    note(f"pairwise: validation error {np.array2string(least, precision=4)}")
    return best


def squared_errors(
    solution: PairSolution, genotypes: CodedGenotypes, phenotypes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean squared error of every environment, (E,), over the samples (N, E) that were measured."""
    known = ~np.isnan(phenotypes)
    misses = np.where(known, phenotypes - predict_pairs(solution, genotypes), 0.0)
    return (misses**2).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
