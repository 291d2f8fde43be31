"""Missing genotypes, allele frequencies and heterozygosity, counted one row block at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.file import DatasetFile


@dataclass(frozen=True)
class GenotypeCounts:
    """What is counted of the genotypes of N samples at L loci.

    By locus, all (L,): how many genotypes are known, the sum of the known ones (copies of the alternative
    allele), the smallest and the largest (not finite where none is known), and how many are heterozygous. By
    sample, (N,): how many are known and how many heterozygous. Heterozygotes are counted in diploids only;
    of a dosage, by the nearest call.
    """

    ploidy: int
    known: NDArray[np.int64]
    total: NDArray[np.float64]
    smallest: NDArray[np.float64]
    largest: NDArray[np.float64]
    heterozygous: NDArray[np.int64]
    known_by_sample: NDArray[np.int64]
    heterozygous_by_sample: NDArray[np.int64]

    @property
    def num_missing(self) -> int:
        return len(self.known) * len(self.known_by_sample) - int(self.known.sum())

    @property
    def is_constant(self) -> NDArray[np.bool_]:
        """Loci where all known genotypes are the same (or none is known)."""
        return ~(self.smallest < self.largest)

    @property
    def missing_by_locus(self) -> NDArray[np.float64]:
        """Share of the samples that is missing at each locus, (L,)."""
        return 1 - self.known / len(self.known_by_sample)

    @property
    def missing_by_sample(self) -> NDArray[np.float64]:
        """Share of the loci that is missing in each sample, (N,)."""
        return 1 - self.known_by_sample / len(self.known)

    @property
    def allele_frequency(self) -> NDArray[np.float64]:
        """Frequency of the alternative allele at the loci with a known genotype, (typed loci,), in file order."""
        typed = self.known > 0
        return self.total[typed] / (self.ploidy * self.known[typed])


@dataclass(frozen=True)
class Heterozygosity:
    """Share of heterozygous genotypes in a diploid population, over all loci, and what random mating expects.

    observed: mean over typed loci of the share of known genotypes that are heterozygous. expected: mean over
    the same loci of 2 p (1 - p) 2 n / (2 n - 1), p the allele frequency among n known genotypes. lowest,
    highest: of a single sample. Source: Nei (1978), Genetics 89: 583-590.
    """

    observed: float
    expected: float
    lowest: float
    highest: float

    @property
    def inbreeding(self) -> float | None:
        """Inbreeding coefficient F = 1 - observed / expected: 0 under random mating, 1 in inbred lines."""
        return 1 - self.observed / self.expected if self.expected > 0 else None


def heterozygosity(counts: GenotypeCounts) -> Heterozygosity | None:
    """Observed and expected heterozygosity; None unless the samples are diploid and a genotype is known."""
    typed = counts.known > 0
    if counts.ploidy != 2 or not typed.any():
        return None
    known, frequency = counts.known[typed], counts.allele_frequency
    expected = 2 * frequency * (1 - frequency) * 2 * known / (2 * known - 1)
    with_genotypes = counts.known_by_sample > 0
    by_sample = counts.heterozygous_by_sample[with_genotypes] / counts.known_by_sample[with_genotypes]
    return Heterozygosity(
        observed=float((counts.heterozygous[typed] / known).mean()),
        expected=float(expected.mean()),
        lowest=float(by_sample.min()),
        highest=float(by_sample.max()),
    )


class GenotypeCounter:
    """Counts genotypes block by block; `counts` gives what was counted so far."""

    def __init__(self, num_samples: int, num_loci: int, ploidy: int) -> None:
        self._ploidy = ploidy
        self._known = np.zeros(num_loci, np.int64)
        self._total = np.zeros(num_loci)
        self._smallest, self._largest = np.full(num_loci, np.inf), np.full(num_loci, -np.inf)
        self._heterozygous = np.zeros(num_loci, np.int64)
        self._known_by_sample = np.zeros(num_samples, np.int64)
        self._heterozygous_by_sample = np.zeros(num_samples, np.int64)

    def add(self, rows: slice, block: NDArray) -> None:
        """Count the genotypes (rows, L) of these samples."""
        add = self._add_calls if block.dtype.kind == "i" else self._add_dosages
        heterozygous = add(rows, block)
        if heterozygous is not None:
            self._heterozygous += np.count_nonzero(heterozygous, axis=0)
            self._heterozygous_by_sample[rows] = np.count_nonzero(heterozygous, axis=1)

    def counts(self) -> GenotypeCounts:
        return GenotypeCounts(
            self._ploidy,
            self._known,
            self._total,
            self._smallest,
            self._largest,
            self._heterozygous,
            self._known_by_sample,
            self._heterozygous_by_sample,
        )

    def _add_calls(self, rows: slice, block: NDArray) -> NDArray[np.bool_] | None:
        missing = self._count_known(rows, block < 0)
        self._total += block.sum(axis=0, dtype=np.int64) + missing  # each missing one took 1 from the sum
        lowest = block.view(np.uint8).min(axis=0)  # a missing -1 is 255 here, and so never the lowest known one
        self._smallest = np.minimum(self._smallest, np.where(missing < len(block), lowest, np.inf))
        self._largest = np.maximum(self._largest, np.where(missing < len(block), block.max(axis=0), -np.inf))
        return block == 1 if self._ploidy == 2 else None

    def _add_dosages(self, rows: slice, block: NDArray) -> NDArray[np.bool_] | None:
        values = block.astype(np.float32, copy=False)  # arithmetic of 16-bit floats is many times slower
        is_missing = np.isnan(values)
        self._smallest = np.fmin(self._smallest, np.fmin.reduce(values, axis=0))
        self._largest = np.fmax(self._largest, np.fmax.reduce(values, axis=0))
        if self._count_known(rows, is_missing).any():
            values = np.where(is_missing, np.float32(0), values)
        self._total += values.sum(axis=0, dtype=np.float64)
        return (values >= 0.5) & (values < 1.5) if self._ploidy == 2 else None

    def _count_known(self, rows: slice, is_missing: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Add to the known ones what is not missing; gives how many of the block are missing by locus, (L,)."""
        missing = np.count_nonzero(is_missing, axis=0)
        self._known += len(is_missing) - missing
        self._known_by_sample[rows] = is_missing.shape[1] - np.count_nonzero(is_missing, axis=1)
        return missing


def count_genotypes(file: DatasetFile) -> GenotypeCounts:
    """Counts over all samples of the file, read one row block at a time."""
    counter = GenotypeCounter(file.num_samples, file.num_loci, file.ploidy)
    for rows, block in file.row_blocks():
        counter.add(rows, block)
    return counter.counts()
