"""Everything that is computed to describe a dataset file, in one pass over its genotypes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.heritability import (
    GenotypeHashes,
    ReplicateHeritability,
    error_bound,
    replicate_heritability,
)
from gpmap_cli.dataset.linkage import LdDecay, LdSample
from gpmap_cli.dataset.phenotype_statistics import Correlations, Distribution, correlations, distribution
from gpmap_cli.dataset.statistics import GenotypeCounter, GenotypeCounts

_MOST_CORRELATED = 1000  # environments: all pairs of more would take gigabytes


@dataclass(frozen=True)
class Survey:
    """What was found in a dataset file of N samples, L loci and E environments.

    ld: how LD decays, or why that cannot be said. phenotypes: (N, E) in their own units, NaN missing.
    correlation: of the environments; None with fewer than two or more than a thousand. error_bound: (E,) upper
    bound of H2 from `phenotype_std`, None without. replicate_h2: by environment; None when no two samples have
    identical complete genotypes.
    """

    genotypes: GenotypeCounts
    ld: LdDecay | str
    environment_names: tuple[str, ...]
    phenotypes: NDArray[np.float32]
    distributions: tuple[Distribution, ...]
    correlation: Correlations | None
    error_bound: NDArray[np.float64] | None
    replicate_h2: tuple[ReplicateHeritability, ...] | None
    num_replicated_genotypes: int
    num_replicated_samples: int


def survey(file: DatasetFile, advance: Callable[[int], object] = lambda _: None) -> Survey:
    """Read a dataset file once, in row blocks, and compute all of it; `advance` is told of every row read.

    Memory: a few row blocks, what is kept per sample and per locus, and 5,000 samples at 2,000 loci for LD.
    """
    counter = GenotypeCounter(file.num_samples, file.num_loci, file.ploidy)
    ld_sample, hashes = LdSample(file), GenotypeHashes(file.num_samples)
    for rows, block in file.row_blocks():
        for reader in (counter, ld_sample, hashes):
            reader.add(rows, block)
        advance(len(block))
    counts = counter.counts()
    groups = hashes.replicates(counts.known_by_sample == file.num_loci)
    phenotypes = file.phenotypes()
    std = file.phenotype_std()
    replicated = groups >= 0
    by_environment = tuple(replicate_heritability(column, groups) for column in phenotypes.T)
    return Survey(
        genotypes=counts,
        ld=ld_sample.decay(),
        environment_names=file.environment_names,
        phenotypes=phenotypes,
        distributions=tuple(distribution(column) for column in phenotypes.T),
        correlation=correlations(phenotypes) if 1 < phenotypes.shape[1] <= _MOST_CORRELATED else None,
        error_bound=None if std is None else error_bound(phenotypes, std),
        replicate_h2=by_environment if replicated.any() else None,
        num_replicated_genotypes=int(groups.max() + 1),
        num_replicated_samples=int(replicated.sum()),
    )
