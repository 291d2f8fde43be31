"""All that was found out about a fitted predictor, with the names that tables and figures need."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.explain.differences import Effects
from gpmap_cli.explain.true_terms import Truth


@dataclass(frozen=True)
class Learned:
    """Effects in the phenotype's units of a predictor with L loci and E environments.

    main: of all loci. pairs: of all pairs of `loci` (K,), which are column numbers of the model's loci. std: (E,) of
    the training phenotypes. attention: by layer, (A, heads, T, T), or None. truth: where the data were simulated.
    sets: by epistasis order k above 2, the sets of loci (S, k) that were looked at, and their k-th differences.
    """

    locus_ids: NDArray[np.str_]
    environment_names: tuple[str, ...]
    chromosomes: NDArray[np.str_] | None
    positions: NDArray[np.int64] | None
    std: NDArray[np.float64]
    num_genotypes: int
    main: Effects
    loci: NDArray[np.intp]
    pairs: Effects
    attention: dict[str, NDArray] | None
    truth: Truth | None
    sets: dict[int, tuple[NDArray[np.intp], Effects]] = field(default_factory=dict)

    @property
    def num_loci(self) -> int:
        return len(self.locus_ids)

    @property
    def loci_of_pairs(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The two loci of every pair."""
        first, second = np.triu_indices(len(self.loci), k=1)
        return self.loci[first], self.loci[second]

    def truth_of(self, environment: int) -> Truth | None:
        """The truth, if it speaks of this environment."""
        return self.truth if self.truth is not None and self.truth.knows(environment) else None
