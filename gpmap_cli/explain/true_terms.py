"""The terms that a simulated phenotype is made of, as estimated effects are held against them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TrueTerms:
    """K terms of one epistasis order k: loci (K, k), column numbers of the model's loci, and effects (K, E).

    effects: the k-th difference of the phenotype when all k loci go from reference to alternative, in its units: 2^k
    times the coefficient of the product of loci coded -1/+1. NaN in an environment of which nothing is known.
    """

    loci: NDArray[np.intp]
    effects: NDArray[np.float64]

    def acting(self, environment: int) -> NDArray[np.intp]:
        """The loci (K', k) of the terms that act in this environment."""
        effects = self.effects[:, environment]
        return self.loci[~np.isnan(effects) & (effects != 0)]


@dataclass(frozen=True)
class Truth:
    """The true terms by epistasis order, 1 additive; orders without a term at the model's loci are left out.

    num_elsewhere: terms with a locus that the model does not have.
    """

    terms: dict[int, TrueTerms]
    num_elsewhere: int = 0

    def knows(self, environment: int) -> bool:
        """Whether the truth speaks of this environment."""
        return any(not np.isnan(terms.effects[:, environment]).any() for terms in self.terms.values())

    def orders(self, environment: int) -> list[int]:
        """The epistasis orders above the additive one with a term that acts in this environment."""
        return sorted(order for order, terms in self.terms.items() if order > 1 and len(terms.acting(environment)))

    def pairs(self, environment: int, num_loci: int) -> dict[int, NDArray[np.bool_]]:
        """Which pairs of the L loci are together in a term of each order, (L, L) symmetric."""
        found = {}
        for order in self.orders(environment):
            together = np.zeros((num_loci, num_loci), dtype=bool)
            loci = self.terms[order].acting(environment)
            for one in range(order):
                for other in range(order):
                    if one != other:
                        together[loci[:, one], loci[:, other]] = True
            found[order] = together
        return found

    def lowest_order(self, environment: int, sets: NDArray[np.intp]) -> NDArray[np.float64]:
        """The lowest order of a term that has all loci of each set (S, k), (S,); NaN where there is none."""
        size = sets.shape[1]
        lowest = np.full(len(sets), np.nan)
        for order in sorted(self.orders(environment), reverse=True):
            if order >= size:
                whole = {part for term in self._sorted_terms(order, environment) for part in combinations(term, size)}
                lowest[[tuple(one) in whole for one in sets.tolist()]] = order
        return lowest

    def num_sets(self, environment: int, size: int) -> dict[int, int]:
        """How many sets of `size` loci are together in a term, by the lowest order of such a term."""
        found: dict[int, int] = {}
        before: set[tuple[int, ...]] = set()
        for order in self.orders(environment):
            if order >= size:
                parts = {part for term in self._sorted_terms(order, environment) for part in combinations(term, size)}
                found[order] = len(parts - before)
                before |= parts
        return found

    def _sorted_terms(self, order: int, environment: int) -> list[tuple[int, ...]]:
        return [tuple(term) for term in np.sort(self.terms[order].acting(environment), axis=1).tolist()]

    def pair_effects(self, environment: int, num_loci: int) -> NDArray[np.float64]:
        """True second differences (L, L) by the terms of order 2 alone; zero where there is none."""
        effects = np.zeros((num_loci, num_loci))
        if 2 in self.terms:
            one, other = self.terms[2].loci.T
            values = np.nan_to_num(self.terms[2].effects[:, environment])
            np.add.at(effects, (one, other), values)
            np.add.at(effects, (other, one), values)
        return effects

    def main_effects(self, environment: int, num_loci: int) -> NDArray[np.float64]:
        """True differences (L,) by the additive terms alone."""
        effects = np.zeros(num_loci)
        if 1 in self.terms:
            np.add.at(effects, self.terms[1].loci[:, 0], np.nan_to_num(self.terms[1].effects[:, environment]))
        return effects
