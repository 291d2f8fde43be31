"""Environments whose phenotypes are missing in the same samples share all the work on genotypes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
