"""Crosses with linked loci, and their features of every epistasis order written out."""

from __future__ import annotations

import itertools

import numpy as np

from gpmap_cli.dataset.coding import CodedGenotypes, GenotypeCoding


def coded(stored, ploidy=1):
    return CodedGenotypes(stored, GenotypeCoding.learn(stored, ploidy))


def linked(rng, num_samples, num_loci):
    """A chromosome of neighbours that recombine in one of eight meioses."""
    stored = np.empty((num_samples, num_loci), np.int8)
    stored[:, 0] = rng.integers(0, 2, num_samples)
    for locus in range(1, num_loci):
        stored[:, locus] = stored[:, locus - 1] ^ (rng.random(num_samples) < 0.125)
    return stored


def explicit(genotypes, max_order):
    """Features of every order, centred loci multiplied, and scaled as the kernels are."""
    x = genotypes.rows(slice(None))
    z = x - x.mean(axis=0)
    found = []
    for order in range(1, max_order + 1):
        sets = list(itertools.combinations(range(z.shape[1]), order))
        features = np.stack([z[:, part].prod(axis=1) for part in sets], axis=1)
        found.append(features / np.sqrt((features**2).sum(axis=1).mean()))
    return found


def in_parts(monkeypatch):
    """REML as above its largest system, at a size that takes no time."""
    monkeypatch.setattr("gpmap_cli.variance.reml.LARGEST_SYSTEM", 250)
    monkeypatch.setattr("gpmap_cli.variance.reml.LARGEST_PART", 200)
