"""What a substitution does to the predicted phenotype, and what two do together beyond what each does alone.

f is any predictor of phenotypes (E environments) from genotypes at L loci. f(x; l=1) is its prediction for the genotype
x with locus l homozygous for the alternative allele, f(x; l=0) for the reference allele. Over G genotypes x:

main effect   D_l  = f(x; l=1) - f(x; l=0)
pair effect   D_lm = f(x; 11) - f(x; 10) - f(x; 01) + f(x; 00),  loci l and m set together

The mean of D_lm is the background-averaged epistasis of Poelwijk, Krishna and Ranganathan (2016), The
context-dependence of mutations, PLoS Comput Biol 12: e1004771. With every locus coded -1 to +1, f is a polynomial, and
where alleles are balanced and independent its coefficient of x_l is half the mean of D_l and that of x_l x_m a quarter
of the mean of D_lm. A term of order three or more that has both loci changes sign with the background: it leaves the
mean near zero, and shows in the root mean square.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Genotypes (n, L), and which of the G backgrounds each was made of, (n,) -> predicted phenotypes (n, E).
Predict = Callable[[NDArray, NDArray[np.intp]], NDArray[np.float64]]
_MOST_ENTRIES = 2**24  # genotypes are put together in blocks of so many
_MOST_ROWS = 2**16
_MOST_CORNERS = 2**21  # numbers (G, loci or pairs, E) that are held at once


@dataclass(frozen=True)
class Effects:
    """Differences of one order over G genotypes, in the phenotype's units: mean, its standard error, RMS; (.., E)."""

    mean: NDArray[np.float64]
    std_error: NDArray[np.float64]
    rms: NDArray[np.float64]

    @classmethod
    def over(cls, differences: NDArray[np.float64]) -> Effects:
        """Of differences (G, .., E)."""
        number = len(differences)
        std_error = differences.std(axis=0, ddof=1) / np.sqrt(number)
        return cls(differences.mean(axis=0), std_error, np.sqrt((differences**2).mean(axis=0)))

    @classmethod
    def joined(cls, parts: list[Effects]) -> Effects:
        """Of blocks of loci or pairs, one after the other."""
        return cls(*(np.concatenate([getattr(one, name) for one in parts]) for name in ("mean", "std_error", "rms")))


class Substitutions:
    """G background genotypes (G, L) as stored, and the predictions for them with one or two loci substituted.

    All differences share the backgrounds, so what the rest of the genotype does cancels in each. A corner that a
    background already is (x; l=1 where x has that allele) is not predicted again: with haploid calls a pair costs one
    prediction for each background, not four.
    """

    def __init__(
        self, predict: Predict, backgrounds: NDArray, ploidy: int, advance: Callable[[int], object] | None = None
    ) -> None:
        self._predict, self._backgrounds = predict, backgrounds
        self._alleles = (0, ploidy)
        self._advance = advance
        self.num_predictions = 0
        whole = np.arange(len(backgrounds))
        self._as_they_are = self._predicted(backgrounds, whole)

    @property
    def num_genotypes(self) -> int:
        return len(self._backgrounds)

    def main_effects(self) -> Effects:
        """D_l of all loci, (L, E)."""
        num_genotypes, num_loci = self._backgrounds.shape
        num_environments = self._as_they_are.shape[1]
        step = max(1, _MOST_CORNERS // (num_genotypes * num_environments))
        parts = []
        for start in range(0, num_loci, step):
            reference, alternative = np.moveaxis(self._singles(np.arange(start, min(start + step, num_loci))), 2, 0)
            parts.append(Effects.over(alternative - reference))
        return Effects.joined(parts)

    def pair_effects(self, loci: NDArray[np.intp]) -> Effects:
        """D_lm of all pairs of these K loci, (K (K - 1) / 2, E), in the order of `numpy.triu_indices(K, 1)`."""
        singles = self._singles(loci)
        first, second = np.triu_indices(len(loci), k=1)
        is_there = np.stack([self._backgrounds[:, loci] == allele for allele in self._alleles])
        num_genotypes, num_environments = self._as_they_are.shape
        step = max(1, _MOST_CORNERS // (num_genotypes * num_environments))
        parts = []
        for start in range(0, len(first), step):
            one, two = first[start : start + step], second[start : start + step]
            differences = np.zeros((num_genotypes, len(one), num_environments))
            for side, other in np.ndindex(2, 2):
                # Start from what is known: the background itself, or one with a single locus substituted.
                there, other_there = is_there[side][:, one], is_there[other][:, two]
                corner = np.where(there[:, :, None], singles[:, two, other], singles[:, one, side])
                unknown = np.nonzero(~(there | other_there))
                corner[unknown] = self._substituted(
                    unknown[0], [(loci[one[unknown[1]]], side), (loci[two[unknown[1]]], other)]
                )
                differences += corner if side == other else -corner
            parts.append(Effects.over(differences))
        return Effects.joined(parts) if parts else Effects(*(np.zeros((0, num_environments)) for _ in range(3)))

    def set_effects(self, sets: NDArray[np.intp], which: NDArray[np.intp]) -> Effects:
        """k-th differences of sets of k loci (S, k), in these of the backgrounds: (S, E).

        The sum over all 2^k corners of f, with a minus for each locus that has the reference allele.
        """
        order, num_environments = sets.shape[1], self._as_they_are.shape[1]
        backgrounds = self._backgrounds[which]
        step = max(1, _MOST_CORNERS // (len(which) * num_environments))
        parts = []
        for start in range(0, len(sets), step):
            part = sets[start : start + step]
            is_there = [backgrounds[:, part] == allele for allele in self._alleles]
            differences = np.zeros((len(which), len(part), num_environments))
            for sides in np.ndindex(*[2] * order):
                is_known = np.all([is_there[side][:, :, at] for at, side in enumerate(sides)], axis=0)
                corner = np.repeat(self._as_they_are[which][:, None], len(part), axis=1)
                row, at_set = np.nonzero(~is_known)
                changes = [(part[at_set, at], side) for at, side in enumerate(sides)]
                corner[row, at_set] = self._substituted(which[row], changes)
                differences += corner if (order - sum(sides)) % 2 == 0 else -corner
            parts.append(Effects.over(differences))
        return Effects.joined(parts)

    def _singles(self, loci: NDArray[np.intp]) -> NDArray[np.float64]:
        """Predictions with each locus set to the reference and to the alternative allele, (G, loci, 2, E)."""
        num_genotypes, num_environments = self._as_they_are.shape
        found = np.empty((num_genotypes, len(loci), 2, num_environments))
        found[:] = self._as_they_are[:, None, None, :]
        for side, allele in enumerate(self._alleles):
            which, at = np.nonzero(self._backgrounds[:, loci] != allele)
            found[which, at, side] = self._substituted(which, [(loci[at], side)])
        return found

    def _substituted(self, which: NDArray[np.intp], changes: list[tuple[NDArray[np.intp], int]]) -> NDArray[np.float64]:
        """Predictions (n, E) of the backgrounds `which` (n,), each with its own loci (n,) set to the given side."""
        step = max(1, min(_MOST_ROWS, _MOST_ENTRIES // self._backgrounds.shape[1]))
        found = np.empty((len(which), self._as_they_are.shape[1]))
        for start in range(0, len(which), step):
            rows = slice(start, start + step)
            genotypes = self._backgrounds[which[rows]]
            for loci, side in changes:
                genotypes[np.arange(len(genotypes)), loci[rows]] = self._alleles[side]
            found[rows] = self._predicted(genotypes, which[rows])
        return found

    def _predicted(self, genotypes: NDArray, which: NDArray[np.intp]) -> NDArray[np.float64]:
        predicted = self._predict(genotypes, which)
        self.num_predictions += len(genotypes)
        if self._advance is not None:
            self._advance(len(genotypes))
        return predicted


@dataclass(frozen=True)
class Plan:
    """How many background genotypes G, and of how many loci K all pairs are looked at."""

    num_genotypes: int
    num_loci: int
    num_predictions: int


_MOST_GENOTYPES, _FEWEST_GENOTYPES = 200, 20
_MOST_LOCI, _FEWEST_LOCI = 300, 30


def plan(
    num_loci: int, num_available: int, hard_calls: bool, wanted: tuple[int | None, int | None], most_predictions: int
) -> Plan:
    """What fits into `most_predictions`: G (1 + L + K + K (K - 1) / 2) of them, up to four times as many where
    backgrounds are not homozygous (diploids, dosages, missing genotypes).

    All loci up to 300, or as many as leave 20 genotypes; then up to 200 genotypes. wanted: (G, K) that were asked
    for, which count whatever they cost. num_available: how many genotypes there are.
    """
    num_genotypes, num_pair_loci = wanted

    def cost(loci: int) -> int:
        singles, pairs = num_loci + loci, loci * (loci - 1) // 2
        return 1 + (singles + pairs if hard_calls else 2 * singles + 4 * pairs)

    if num_pair_loci is None:
        share = most_predictions // min(num_available, num_genotypes or _FEWEST_GENOTYPES)
        fits = [loci for loci in range(_FEWEST_LOCI, _MOST_LOCI + 1) if cost(min(loci, num_loci)) <= share]
        num_pair_loci = min(num_loci, fits[-1] if fits else _FEWEST_LOCI)
    if num_genotypes is None:
        fitting = most_predictions // cost(num_pair_loci)
        num_genotypes = max(2, min(_MOST_GENOTYPES, num_available, fitting))
    return Plan(num_genotypes, num_pair_loci, num_genotypes * cost(num_pair_loci))


def pair_strength(pairs: Effects, scale: NDArray[np.float64], num_loci: int) -> NDArray[np.float64]:
    """RMS of the second difference of each pair of K loci, in units of `scale` (E,), the largest over environments.

    (K, K), symmetric.
    """
    strength = np.zeros((num_loci, num_loci))
    strength[np.triu_indices(num_loci, k=1)] = (pairs.rms / scale).max(axis=1)
    return strength + strength.T


def most_influential(main: Effects, scale: NDArray[np.float64], number: int) -> NDArray[np.intp]:
    """The `number` loci that change the phenotype most in any background, ascending: by RMS, not by mean.

    A locus that acts only through epistasis has no mean effect. Environments are compared in units of `scale` (E,).
    """
    influence = (main.rms / scale).max(axis=1)
    return np.sort(np.argsort(-influence, kind="stable")[:number])
