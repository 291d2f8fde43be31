"""Environments whose phenotypes are missing in the same samples share all the work on genotypes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.errors import InputError


@dataclass(frozen=True)
class SharedRows:
    """Environments (columns) measured in exactly the same samples (rows)."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]


def shared_rows(phenotypes: NDArray) -> list[SharedRows]:
    """Group the environments of a phenotype table (N, E) by the samples that were measured."""
    known = ~np.isnan(phenotypes)
    groups: dict[bytes, list[int]] = {}
    for column in range(known.shape[1]):
        groups.setdefault(known[:, column].tobytes(), []).append(column)
    return [SharedRows(np.flatnonzero(known[:, columns[0]]), np.array(columns)) for columns in groups.values()]


def row_weights(phenotypes: NDArray, phenotype_std: NDArray | None) -> NDArray[np.float64]:
    """What each phenotype (N, E) counts for: 1 / phenotype_std^2, of mean 1 in every environment; 0 where missing.

    A phenotype with an error of zero or none at all cannot be weighted and is refused.
    """
    known = ~np.isnan(phenotypes)
    if phenotype_std is None or not (np.where(known, phenotype_std, 1.0) > 0).all():
        raise InputError(
            "weighted fits need a measurement error above 0 for every phenotype, and some have none",
            "leave model.weighted out, or drop those phenotypes",
        )
    weights = np.where(known, 1 / np.where(known, phenotype_std, 1.0) ** 2, 0.0)
    return weights * (known.sum(axis=0) / np.maximum(weights.sum(axis=0), 1e-300))
