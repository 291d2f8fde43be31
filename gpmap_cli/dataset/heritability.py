"""What the data themselves say about heritability: through measurement errors, and through replicated genotypes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DIGEST_BYTES = 16


def error_bound(phenotypes: NDArray[np.float32], std: NDArray[np.float32]) -> NDArray[np.float64]:
    """Upper bound of broad-sense heritability: the share of the phenotypic variance that is no measurement error.

    H2 <= 1 - mean(std^2) / var(y), of each environment, (E,), over the samples where value and error are known.
    phenotypes, std: (N, E), NaN missing; std is the standard error of the value, so of a mean over replicates
    the bound is that of the mean. var(y) has the divisor n - 1. NaN where it is undefined: fewer than two such
    samples, or a constant phenotype. Below 0, the errors are larger than they can be.
    """
    bounds = np.full(phenotypes.shape[1], np.nan)
    for column, (y, error) in enumerate(zip(phenotypes.T, std.T, strict=True)):
        known = ~np.isnan(y) & ~np.isnan(error)
        values = y[known].astype(np.float64)
        if len(values) > 1 and values.min() < values.max():
            bounds[column] = 1 - (error[known].astype(np.float64) ** 2).mean() / values.var(ddof=1)
    return bounds


class GenotypeHashes:
    """A hash of every sample's whole genotype, so that identical ones are found without holding the matrix."""

    def __init__(self, num_samples: int) -> None:
        self._digests = np.zeros((num_samples, _DIGEST_BYTES // 8), np.uint64)

    def add(self, rows: slice, block: NDArray) -> None:
        """Hash the genotypes (rows, L) of these samples."""
        if block.dtype.kind == "f":
            block = block + block.dtype.type(0)  # -0.0 becomes 0.0, and so has the same bytes
        block = np.ascontiguousarray(block)
        digests = b"".join(hashlib.blake2b(row, digest_size=_DIGEST_BYTES).digest() for row in block)
        self._digests[rows] = np.frombuffer(digests, np.uint64).reshape(len(block), -1)

    def replicates(self, is_complete: NDArray[np.bool_]) -> NDArray[np.intp]:
        """The number of each sample's genotype, (N,), -1 for those that occur once or are not complete.

        is_complete: (N,), the samples without a missing genotype: of the others nobody knows that they are alike.
        """
        groups = np.full(len(self._digests), -1, np.intp)
        complete = np.flatnonzero(is_complete)
        if len(complete) == 0:
            return groups
        order = complete[np.lexsort(self._digests[complete].T)]
        is_new = np.ones(len(order), np.bool_)
        is_new[1:] = (self._digests[order[1:]] != self._digests[order[:-1]]).any(axis=1)
        number = np.cumsum(is_new) - 1
        repeated = np.bincount(number) > 1
        renumbered = np.where(repeated, np.cumsum(repeated) - 1, -1)
        groups[order] = renumbered[number]
        return groups


@dataclass(frozen=True)
class ReplicateHeritability:
    """Broad-sense heritability from replicated genotypes: the intraclass correlation, None where undefined."""

    h2: float | None
    num_genotypes: int
    num_samples: int


def replicate_heritability(phenotypes: NDArray[np.float32], groups: NDArray[np.intp]) -> ReplicateHeritability:
    """Broad-sense heritability by a one-way analysis of variance of replicated genotypes.

    H2 = s2_g / (s2_g + MS_within), s2_g = (MS_between - MS_within) / n_0, n_0 = (n - sum n_i^2 / n) / (a - 1),
    for a genotypes with n_i >= 2 measured samples each, n together; of single samples, not of means over
    replicates. Undefined with fewer than two genotypes or without variance; below 0 when genotypes differ less
    than their replicates. phenotypes: (N,) of one environment, NaN missing; groups: (N,), -1 not replicated.
    Source: Lynch and Walsh (1998), Genetics and Analysis of Quantitative Traits, chapter 18.
    """
    used = (groups >= 0) & ~np.isnan(phenotypes)
    sizes = np.bincount(groups[used])
    used[used] = sizes[groups[used]] > 1
    _, of_genotype, sizes = np.unique(groups[used], return_inverse=True, return_counts=True)
    num_genotypes, num_samples = len(sizes), int(sizes.sum())
    y = phenotypes[used].astype(np.float64)
    if num_genotypes < 2 or y.min() == y.max():
        return ReplicateHeritability(None, num_genotypes, num_samples)
    y -= y.mean()
    means = np.bincount(of_genotype, weights=y) / sizes
    between = (sizes * means**2).sum() / (num_genotypes - 1)
    within = ((y - means[of_genotype]) ** 2).sum() / (num_samples - num_genotypes)
    per_genotype = (num_samples - (sizes**2).sum() / num_samples) / (num_genotypes - 1)
    genetic = (between - within) / per_genotype
    return ReplicateHeritability(float(genetic / (genetic + within)), num_genotypes, num_samples)
