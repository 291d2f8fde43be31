"""Effects of a pairwise regression in the order in which a geneticist reads them: strongest first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.solvers.pair_features import pair_indices


def strongest_effects(
    environment: int,
    additive: NDArray[np.float64],
    additive_errors: NDArray[np.float64],
    pairs: NDArray[np.float64],
    pair_errors: NDArray[np.float64],
    most_pairs: int | None,
) -> dict[str, NDArray]:
    """All additive effects (L,) and the `most_pairs` strongest pair effects (L (L - 1) / 2,) as columns of a table.

    pair_errors: (L, L). Columns environment, locus, locus_2 (-1 for an additive effect), effect, std_error.
    """
    num_loci = len(additive)
    first, second = pair_indices(num_loci)
    wanted = np.arange(len(pairs))
    if most_pairs is not None and most_pairs < len(pairs):
        wanted = np.sort(np.argpartition(-np.abs(pairs), most_pairs)[:most_pairs])
    effect = np.concatenate([additive, pairs[wanted]])
    order = np.argsort(-np.abs(effect), kind="stable")
    columns = {
        "environment": np.full(len(effect), environment),
        "locus": np.concatenate([np.arange(num_loci), first[wanted]]),
        "locus_2": np.concatenate([np.full(num_loci, -1), second[wanted]]),
        "effect": effect,
        "std_error": np.concatenate([additive_errors, pair_errors[first[wanted], second[wanted]]]),
    }
    return {name: values[order] for name, values in columns.items()}
