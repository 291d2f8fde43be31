"""Complete landscapes: every genotype once, in some order, and their features written out."""

from __future__ import annotations

import itertools

import numpy as np

from gpmap_cli.dataset.contents import Dataset


def all_genotypes(num_loci):
    """(2^L, L) int8; row g has bit l of g at locus l."""
    return (np.arange(2**num_loci)[:, None] >> np.arange(num_loci) & 1).astype(np.int8)


def products(num_loci):
    """Products of loci coded -1/+1 of every set S, (2^L genotypes, 2^L sets), both numbered by bits."""
    x = 2.0 * all_genotypes(num_loci) - 1
    columns = [
        x[:, [locus for locus in range(num_loci) if number >> locus & 1]].prod(axis=1) for number in range(2**num_loci)
    ]
    return np.stack(columns, axis=1)


def up_to_pairs(num_loci):
    """The numbers of the sets of no locus, one, and two."""
    pairs = [2**a + 2**b for a, b in itertools.combinations(range(num_loci), 2)]
    return [0, *(2**locus for locus in range(num_loci)), *pairs]


def landscape_dataset(genotypes, phenotypes, phenotype_std=None, ploidy=1):
    num_samples, num_loci = genotypes.shape
    return Dataset(
        genotypes=genotypes,
        phenotypes=np.asarray(phenotypes, np.float32),
        sample_ids=np.array([f"sample{number}" for number in range(num_samples)]),
        locus_ids=np.array([f"locus{number}" for number in range(num_loci)]),
        environment_names=tuple(f"env{number}" for number in range(phenotypes.shape[1])),
        ploidy=ploidy,
        phenotype_std=None if phenotype_std is None else np.asarray(phenotype_std, np.float32),
    )
