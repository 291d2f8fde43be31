"""Coded genotypes in blocks, so that no N x L floating-point matrix is ever held; their mean and relationship."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes

# Small, so that what is streamed from disk stays small in memory; a matrix product wants some rows all the same.
_BLOCK_BYTES = 2**23
_FEWEST_ROWS = 256


def coded_blocks(genotypes: CodedGenotypes, device: str) -> Iterator[tuple[slice, torch.Tensor]]:
    """All samples in blocks of float64 rows on the device, (rows, L)."""
    step = max(_FEWEST_ROWS, _BLOCK_BYTES // (8 * max(1, genotypes.num_loci)))
    for start in range(0, len(genotypes), step):
        rows = slice(start, min(start + step, len(genotypes)))
        yield rows, torch.from_numpy(genotypes.rows(rows)).to(device)


def centred_loci(genotypes: CodedGenotypes, mean: torch.Tensor, device: str) -> Iterator[tuple[slice, torch.Tensor]]:
    """All samples at a block of loci at a time, (n, block), minus their mean."""
    step = max(1, _BLOCK_BYTES // (8 * len(genotypes)))
    for start in range(0, genotypes.num_loci, step):
        loci = slice(start, min(start + step, genotypes.num_loci))
        yield loci, torch.from_numpy(genotypes.loci(loci)).to(device) - mean[loci]


def mean_genotype(genotypes: CodedGenotypes, device: str) -> torch.Tensor:
    """Mean coded genotype of every locus, (L,)."""
    total = torch.zeros(genotypes.num_loci, dtype=torch.float64, device=device)
    for _, block in coded_blocks(genotypes, device):
        total += block.sum(dim=0)
    return total / len(genotypes)


def centred_kernel(genotypes: CodedGenotypes, device: str) -> tuple[torch.Tensor, NDArray[np.float64]]:
    """The additive relationship Xc Xc' (n, n) of the samples, and the mean genotype (L,)."""
    mean = mean_genotype(genotypes, device)
    kernel = torch.zeros(len(genotypes), len(genotypes), dtype=torch.float64, device=device)
    for _, block in centred_loci(genotypes, mean, device):
        kernel.addmm_(block, block.T)
    return kernel, mean.cpu().numpy()
