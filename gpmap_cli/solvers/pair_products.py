"""Sums over samples of all products of two loci, without ever forming them: the two passes of a matrix-free regression.

For centred genotypes Z (n x L) and symmetric pair effects, of which U (L x L) is the upper triangle:
sum_{l<m} U_lm z_l z_m = ((Z U) * Z) 1 sample by sample, and its adjoint is the upper triangle of Z' diag(r) Z. Only
that triangle is computed, panel by panel: 2 n L^2 operations for both. Genotypes are decoded block by block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from gpmap_cli.dataset.coding import CodedGenotypes

_PANEL = 256
_BLOCK_VALUES = 2**21
_MOST_ROWS = 2048  # with few loci more would only take memory


def panels(num_loci: int) -> Iterator[tuple[int, slice]]:
    """(end, columns): the columns of a panel, and how many rows of the upper triangle reach into it."""
    for start in range(0, num_loci, _PANEL):
        end = min(start + _PANEL, num_loci)
        yield end, slice(start, end)


def centred_blocks(
    genotypes: CodedGenotypes, mean: torch.Tensor, dtype: torch.dtype
) -> Iterator[tuple[slice, torch.Tensor]]:
    """All samples in blocks of rows, minus `mean` (L,), in the wanted precision on the mean's device."""
    step = max(256, min(_MOST_ROWS, _BLOCK_VALUES // max(1, genotypes.num_loci)))
    shift = mean.to(dtype)
    for start in range(0, len(genotypes), step):
        rows = slice(start, min(start + step, len(genotypes)))
        coded = genotypes.rows(rows, np.float64 if dtype == torch.float64 else np.float32)
        yield rows, torch.from_numpy(coded).to(shift.device) - shift


def of_pairs(z: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """sum_{l<m} upper_lm z_l z_m of every row of z, (rows,)."""
    total = torch.zeros(len(z), dtype=z.dtype, device=z.device)
    for end, columns in panels(z.shape[1]):
        total += ((z[:, :end] @ upper[:end, columns]) * z[:, columns]).sum(dim=1)
    return total


def add_adjoint(sums: torch.Tensor, z: torch.Tensor, r: torch.Tensor) -> None:
    """Add sum_i r_i z_il z_im to sums_lm, l <= m and a little below the diagonal; r (rows,)."""
    for end, columns in panels(z.shape[1]):
        sums[:end, columns].addmm_(z[:, :end].T, r[:, None] * z[:, columns])


@dataclass
class Effects:
    """Additive effects (E', L) and upper triangles of pair effects (E', L, L) of some environments."""

    additive: torch.Tensor
    pairs: torch.Tensor

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Effects:
        return Effects(change(self.additive), change(self.pairs))

    def to(self, dtype: torch.dtype) -> Effects:
        return self.map(lambda part: part.to(dtype))

    def take(self, which: torch.Tensor) -> Effects:
        return self.map(lambda part: part[which])

    def add(self, other: Effects, factors: torch.Tensor) -> None:
        """Add factors (E',) times `other`."""
        self.additive.add_(other.additive * factors[:, None].to(self.additive.dtype))
        for part, more, factor in zip(self.pairs, other.pairs, factors, strict=True):
            part.add_(more, alpha=float(factor))

    def dot(self, other: Effects) -> torch.Tensor:
        """Inner product of every environment, (E',), summed in double precision."""
        found = (self.additive.double() * other.additive.double()).sum(dim=1)
        for number, (one, two) in enumerate(zip(self.pairs, other.pairs, strict=True)):
            found[number] += (one * two).sum(dim=1, dtype=torch.float64).sum()
        return found


class PairNormalEquations:
    """F' W F of all additive and pair features F of n samples, for E environments, applied without forming F.

    Features are z_l and z_l z_m with z = x - mean(x), minus their mean under the weights W of an environment: weights
    (n, E) are 0 where a phenotype is missing and 1 elsewhere, or whatever a measurement counts for.
    """

    def __init__(self, genotypes: CodedGenotypes, weights: torch.Tensor, mean: torch.Tensor) -> None:
        self._genotypes, self._weights, self.mean = genotypes, weights, mean
        self.counts = weights.sum(dim=0)
        num_loci, num_environments = genotypes.num_loci, weights.shape[1]
        zeros = partial(torch.zeros, dtype=torch.float64, device=weights.device)
        self.gram = zeros(num_loci, num_loci)  # Z'Z
        self._first = zeros(num_environments, num_loci)  # sum_i w_i z_i
        self._second = zeros(num_environments, num_loci, num_loci)  # Z'WZ, for the means of pairs
        lacks = weights != 1
        for rows, z in centred_blocks(genotypes, mean, torch.float64):
            self.gram.addmm_(z.T, z)
            self._first.addmm_(weights[rows].T, z)
            # W is mostly 1: what the few other samples change is little work.
            for e in range(num_environments):
                other = lacks[rows, e].nonzero()[:, 0]
                if len(other):
                    part = z[other]
                    change = (weights[rows, e][other] - 1)[:, None] * part
                    self._second[e].addmm_(part.T, change)
        self._second += self.gram

    def right_side(self, y: torch.Tensor) -> Effects:
        """F' W y for y (n, E) whose weighted means are zero, in double precision."""
        num_environments = y.shape[1]
        found = self._zeros(range(num_environments), torch.float64)
        weighted = y * self._weights
        for rows, z in centred_blocks(self._genotypes, self.mean, torch.float64):
            found.additive.addmm_(weighted[rows].T, z)
            for e in range(num_environments):
                add_adjoint(found.pairs[e], z, weighted[rows, e])
        return self._upper(found)

    def apply(self, effects: Effects, environments: list[int]) -> Effects:
        """F' W F times the effects of these environments, in the precision of the effects: one pass over the data."""
        dtype = effects.pairs.dtype
        found = self._zeros(environments, dtype)
        totals = torch.zeros(len(environments), dtype=torch.float64, device=self.mean.device)
        for rows, z in centred_blocks(self._genotypes, self.mean, dtype):
            values = z @ effects.additive.T
            for place, e in enumerate(environments):
                values[:, place] += of_pairs(z, effects.pairs[place])
                values[:, place] *= self._weights[rows, e].to(dtype)
                add_adjoint(found.pairs[place], z, values[:, place])
            totals += values.sum(dim=0, dtype=torch.float64)
            found.additive.addmm_(values.T, z)
        for place, e in enumerate(environments):
            centre = float(totals[place] / self.counts[e])
            found.additive[place] -= centre * self._first[e].to(dtype)
            found.pairs[place].sub_(self._second[e], alpha=centre)
        return self._upper(found)

    def first_moments(self) -> torch.Tensor:
        """Weighted sums of z, (E, L)."""
        return self._first

    def pair_means(self, e: int) -> torch.Tensor:
        """Weighted mean of z_l z_m, (L, L)."""
        return self._second[e] / self.counts[e]

    def _zeros(self, environments: range | list[int], dtype: torch.dtype) -> Effects:
        size, num_loci = len(environments), len(self.mean)
        zeros = partial(torch.zeros, dtype=dtype, device=self.mean.device)
        return Effects(zeros(size, num_loci), zeros(size, num_loci, num_loci))

    @staticmethod
    def _upper(effects: Effects) -> Effects:
        for part in effects.pairs:
            part.triu_(diagonal=1)
        return effects
