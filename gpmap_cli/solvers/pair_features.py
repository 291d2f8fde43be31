"""Sums over samples of products of pair features: the Gram matrix that the primal pairwise solver factorises.

Hard-called haploid genotypes are -1/+1, so all sums of products are whole numbers below 2^24: they are added up
exactly in single precision, at twice the speed, and centred afterwards in double precision.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.solvers.ridge import mean_genotype

_EXACT_IN_FLOAT32 = 2**24
_ROWS = 2048
_TILE = 1024


@lru_cache(maxsize=4)
def pair_indices(num_loci: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The loci l < m of every pair, in the order in which pairs are kept: (0,1), (0,2), ..., (1,2), ..."""
    first, second = np.triu_indices(num_loci, k=1)
    return first, second


def pair_gram(
    genotypes: CodedGenotypes, y: torch.Tensor, device: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """F'F (P, P), F'y (P, E), mean genotype (L,), mean pair product (P - L,), for the features F of the solver.

    F holds z_l and z_l z_m - mean(z_l z_m) with z the centred genotypes. Costs n P^2 / 2 multiply-adds.
    """
    exact = genotypes.is_plus_minus_one and len(genotypes) < _EXACT_IN_FLOAT32
    if exact:
        raw, product = _raw_sums(genotypes, None, y, torch.float32, device)
        gram = raw.double()
        mean = gram[0, 1 : genotypes.num_loci + 1] / len(genotypes)
        gram = _centre_loci(_centre_loci(gram, mean).T, mean)
        product = _centre_loci(product, mean)
    else:
        mean = mean_genotype(genotypes, device)
        gram, product = _raw_sums(genotypes, mean, y, torch.float64, device)
    # Row 0 belongs to the constant feature: it holds the sums of the others, which centre the pairs.
    sums = gram[0, 1:].clone()
    sums[: genotypes.num_loci] = 0  # centred already; what is left is rounding
    gram = gram[1:, 1:].contiguous()
    gram.addr_(sums, sums, alpha=-1 / len(genotypes))
    return gram, product[1:].contiguous(), mean, sums[genotypes.num_loci :] / len(genotypes)


def _raw_sums(
    genotypes: CodedGenotypes, mean: torch.Tensor | None, y: torch.Tensor, dtype: torch.dtype, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """G'G and G'y for G = [1, x, all x_l x_m] (x - mean where a mean is given); upper tiles only, then mirrored."""
    first, second = (torch.from_numpy(index).to(device) for index in pair_indices(genotypes.num_loci))
    size = 1 + genotypes.num_loci + len(first)
    gram = torch.zeros(size, size, dtype=dtype, device=device)
    product = torch.zeros(size, y.shape[1], dtype=torch.float64, device=device)
    for start in range(0, len(genotypes), _ROWS):
        rows = slice(start, min(start + _ROWS, len(genotypes)))
        x = torch.from_numpy(genotypes.rows(rows)).to(device)
        x = (x if mean is None else x - mean).to(dtype)
        # Loci-major: a pair's feature is one contiguous row, and the products below read rows only.
        features = torch.empty(size, len(x), dtype=dtype, device=device)
        features[0] = 1
        features[1 : genotypes.num_loci + 1] = x.T
        torch.mul(
            features[1:].index_select(0, first),
            features[1:].index_select(0, second),
            out=features[genotypes.num_loci + 1 :],
        )
        for tile in range(0, size, _TILE):
            gram[tile : tile + _TILE, tile:].addmm_(features[tile : tile + _TILE], features[tile:].T)
        product.addmm_(features.double(), y[rows])
    for tile in range(0, size, _TILE):
        end = min(tile + _TILE, size)
        gram[end:, tile:end] = gram[tile:end, end:].T
    return gram, product


def _centre_loci(sums: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Rows for [1, x_l, x_l x_m] -> rows for [1, z_l, z_l z_m] with z = x - mean, by multiplying out."""
    num_loci = len(mean)
    first, second = (torch.from_numpy(index).to(sums.device) for index in pair_indices(num_loci))
    centred = sums.clone()
    centred[1 : num_loci + 1] -= mean[:, None] * sums[0]
    for start in range(0, len(first), 512):
        l, m = first[start : start + 512], second[start : start + 512]
        pairs = centred[num_loci + 1 + start : num_loci + 1 + start + len(l)]
        pairs -= mean[m, None] * sums[1 + l] + mean[l, None] * sums[1 + m]
        pairs += (mean[l] * mean[m])[:, None] * sums[0]
    return centred
