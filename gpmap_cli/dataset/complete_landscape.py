"""Whether the samples are a complete landscape: every combination of two classes at every locus that varies.

Then each genotype has a number, g = sum_l 2^l [the sample has the class of more copies at locus l], 0..2^L - 1, and
averages over the samples of a genotype turn phenotypes into one vector that the Walsh-Hadamard transform takes apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import is_known
from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.disk_genotypes import StoredGenotypes

MOST_LOCI = 24  # 16.8 million genotypes: 128 MiB for each number of every one of them
_BLOCK_VALUES = 2**23


@dataclass(frozen=True)
class CompleteLandscape:
    """All 2^L genotypes of the L loci that vary, each of them in at least one of N samples.

    loci: (L,) column numbers of the loci with two classes; those with one are left out. genotype: (N,) the number of
    each sample's genotype, bit l set where it has the class of more copies at `loci[l]`.
    """

    loci: NDArray[np.intp]
    genotype: NDArray[np.int64]

    @property
    def num_loci(self) -> int:
        return len(self.loci)

    @property
    def num_genotypes(self) -> int:
        return 1 << self.num_loci

    def num_measured(self, phenotypes: NDArray) -> NDArray[np.int64]:
        """How many samples (N,), NaN missing, are measured of every genotype, (2^L,)."""
        return np.bincount(self.genotype[~np.isnan(phenotypes)], minlength=self.num_genotypes)

    def sums(self, values: NDArray) -> NDArray[np.float64]:
        """Sums of values (N,), NaN missing, over the samples of every genotype, (2^L,)."""
        known = ~np.isnan(values)
        weights = values[known].astype(np.float64)
        return np.bincount(self.genotype[known], weights, self.num_genotypes).astype(np.float64)

    def why_not_measured(self, phenotypes: NDArray) -> str | None:
        """Why an environment with these phenotypes (N,) is no complete landscape; None where it is one."""
        missing = int((self.num_measured(phenotypes) == 0).sum())
        return f"{missing:,} of {self.num_genotypes:,} genotypes have no phenotype" if missing else None

    def unevenness(self, phenotypes: NDArray) -> float:
        """The share of the measured samples that would have to be of other genotypes for all to be equally frequent."""
        count = self.num_measured(phenotypes)
        return float(np.abs(count / count.sum() - 1 / len(count)).sum() / 2)


def complete_landscape(dataset: Dataset) -> CompleteLandscape | None:
    """The complete landscape that the samples are; None where they are not one (`find_landscape` says why)."""
    found = find_landscape(dataset)
    return found if isinstance(found, CompleteLandscape) else None


def find_landscape(dataset: Dataset) -> CompleteLandscape | str:
    """The complete landscape that the samples are, or the reason in words why they are not one.

    Phenotypes play no part: see `why_not_measured`. Two passes over the genotypes, or a part of one where loci are
    many; 8 N bytes.
    """
    genotypes, num_samples = dataset.genotypes, dataset.num_samples
    most = min(MOST_LOCI, num_samples.bit_length() - 1)  # 2^L genotypes need as many samples
    low, high = np.full(dataset.num_loci, np.inf), np.full(dataset.num_loci, -np.inf)
    num_missing = np.zeros(dataset.num_loci, dtype=np.int64)
    for _, block in _blocks(genotypes):
        known = is_known(block)
        if known.all():
            low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
        else:
            low = np.minimum(low, np.where(known, block, np.inf).min(axis=0))
            high = np.maximum(high, np.where(known, block, -np.inf).max(axis=0))
            num_missing += (~known).sum(axis=0)
        if (high > low).sum() > most:
            what = f"{num_samples:,} samples" if most < MOST_LOCI else "this program"
            return f"more than {most} loci vary, of which {what} cannot hold all genotypes"
    loci = np.flatnonzero(high > low)
    if not len(loci):
        return "no locus varies"
    if num_missing[loci].any():
        return f"{int(num_missing[loci].sum()):,} genotypes are missing at loci that vary"
    genotype = np.zeros(num_samples, dtype=np.int64)
    for rows, block in _blocks(genotypes):
        is_high = block[:, loci] == high[loci]
        others = (~is_high & (block[:, loci] != low[loci])).any(axis=0)
        if others.any():
            return f"locus {dataset.locus_ids[loci[np.argmax(others)]]} has more than two classes"
        for bit in range(len(loci)):
            genotype[rows] |= is_high[:, bit].astype(np.int64) << bit
    absent = int((np.bincount(genotype, minlength=1 << len(loci)) == 0).sum())
    if absent:
        return f"{absent:,} of the {1 << len(loci):,} genotypes of {len(loci)} loci are in no sample"
    return CompleteLandscape(loci, genotype)


def _blocks(genotypes: StoredGenotypes) -> Iterator[tuple[slice, NDArray]]:
    num_samples, num_loci = genotypes.shape
    step = max(1, _BLOCK_VALUES // max(1, num_loci))
    for start in range(0, num_samples, step):
        rows = slice(start, min(start + step, num_samples))
        yield rows, genotypes[rows]
