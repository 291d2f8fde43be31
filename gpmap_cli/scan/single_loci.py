"""Each locus alone against residual phenotypes: the scan of order 1, in double precision."""

from __future__ import annotations

import time

import numpy as np
import torch

from gpmap_cli.scan.search import Found, Options, Phenotypes
from gpmap_cli.scan.tallies import NUM_BINS, TopTerms, count

_CHUNK = 8192  # samples whose genotypes are in float64 at once


def scan_loci(genotypes: torch.Tensor, phenotypes: Phenotypes, options: Options) -> Found:
    """As `search.scan_order` for sets of one locus; SS is exact. Costs 2 N L E (B + 2) with B permutations."""
    began = time.perf_counter()
    num_loci, num_environments = len(genotypes), phenotypes.residuals.shape[1]
    found = Found(
        1,
        num_loci,
        [TopTerms(1, options.num_terms) for _ in range(num_environments)],
        np.zeros((num_environments, NUM_BINS), np.int64),
        np.zeros((options.permutations, num_environments)),
        next_block=1,
    )
    measured = torch.from_numpy(phenotypes.measured.astype(np.float64))
    number = torch.from_numpy(phenotypes.num_measured.astype(np.float64))
    total = _sums(genotypes, measured)
    rest = _sums(genotypes, measured, squared=True) - total**2 / number
    spread = torch.where(rest > 1e-9 * number, rest.clamp_min(1e-300).rsqrt(), torch.zeros_like(rest))
    variance = torch.from_numpy(phenotypes.variance)
    spread *= torch.where(variance > 0, variance.clamp_min(1e-300).rsqrt(), torch.zeros_like(variance))
    z = _sums(genotypes, torch.from_numpy(phenotypes.residuals)) * spread
    loci = np.arange(num_loci, dtype=np.int32)[:, None]
    for environment in range(num_environments):
        values = z[:, environment]
        found.counts[environment] = count(values.abs(), everywhere=True)
        found.top[environment].take(values.numpy(), loci)
    for permutation in range(options.permutations):
        permuted = torch.from_numpy(phenotypes.permuted(options.seed, permutation))
        found.largest_permuted[permutation] = (_sums(genotypes, permuted) * spread).abs().amax(dim=0).numpy()
    found.seconds = time.perf_counter() - began
    return found


def _sums(genotypes: torch.Tensor, weights: torch.Tensor, squared: bool = False) -> torch.Tensor:
    """Sums over samples of coded genotypes, or their squares, times weights (N, E): (L, E), on the processor."""
    found = torch.zeros(len(genotypes), weights.shape[1], dtype=torch.float64)
    for start in range(0, len(weights), _CHUNK):
        block = genotypes[:, start : start + _CHUNK].double()[:, : len(weights) - start]
        block = block**2 if squared else block
        found += (block @ weights[start : start + _CHUNK].to(block.device)).cpu()
    return found
