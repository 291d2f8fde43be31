"""How many mutations a genotype has, and a split by it: few train, more are predicted.

The number of mutations of a sample is its Hamming distance to a reference genotype: the number of loci at which both
are known and differ in their copies of the alternative allele (dosages rounded). A locus that is missing counts as
unmutated. A multiallelic locus is several columns here, and counts as many as differ.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import MISSING, Dataset
from gpmap_cli.errors import InputError, did_you_mean

ALL_REFERENCE, MAJORITY = "all_reference", "majority"
UNUSED = 3  # label of samples in no part of a split
_BLOCK_VALUES = 2**22


def mutation_counts(dataset: Dataset, reference: str) -> NDArray[np.intp]:
    """Mutations (N,) away from `reference`: no alternative allele anywhere, the most frequent genotype at each locus
    (of ties the one with fewest copies), or a sample's genotype.
    """
    origin = _origin(dataset, reference)
    counts = np.empty(dataset.num_samples, np.intp)
    for rows in _blocks(dataset):
        copies = _copies(dataset, rows)
        known = (copies != MISSING) & (origin != MISSING)
        counts[rows] = ((copies != origin) & known).sum(axis=1)
    return counts


def mutation_split(
    counts: NDArray[np.intp],
    max_train: int,
    min_test: int | None,
    validation_fraction: float,
    rng: np.random.Generator,
) -> NDArray[np.int8]:
    """Labels (N,): up to `max_train` mutations train, a random fraction of them validates; from `min_test` on
    (None: all others) they test. Those between are in no part.
    """
    labels = np.full(len(counts), UNUSED, np.int8)
    labels[counts >= (max_train + 1 if min_test is None else min_test)] = 2
    few = np.flatnonzero(counts <= max_train)
    labels[few] = 0
    labels[rng.permutation(few)[: round(validation_fraction * len(few))]] = 1
    return labels


def _origin(dataset: Dataset, reference: str) -> NDArray[np.int8]:
    if reference == ALL_REFERENCE:
        return np.zeros(dataset.num_loci, np.int8)
    if reference == MAJORITY:
        tally = np.zeros((dataset.ploidy + 1, dataset.num_loci), np.intp)
        for rows in _blocks(dataset):
            copies = _copies(dataset, rows)
            for number in range(dataset.ploidy + 1):
                tally[number] += (copies == number).sum(axis=0)
        return tally.argmax(axis=0).astype(np.int8)
    found = np.flatnonzero(dataset.sample_ids == reference)
    if len(found) == 0:
        choices = [ALL_REFERENCE, MAJORITY, *map(str, dataset.sample_ids.tolist())]
        raise InputError(
            f"split.reference: the data have no sample `{reference}`", did_you_mean(reference, choices, limit=4)
        )
    return _copies(dataset, slice(int(found[0]), int(found[0]) + 1))[0]


def _copies(dataset: Dataset, rows: slice) -> NDArray[np.int8]:
    """Whole copies of the alternative allele, -1 missing."""
    values = dataset.genotypes[rows]
    if values.dtype.kind in "iu":
        return np.asarray(values, np.int8)
    return np.where(np.isnan(values), MISSING, np.rint(np.nan_to_num(values))).astype(np.int8)


def _blocks(dataset: Dataset) -> list[slice]:
    step = max(1, _BLOCK_VALUES // max(1, dataset.num_loci))
    return [slice(start, min(start + step, dataset.num_samples)) for start in range(0, dataset.num_samples, step)]
