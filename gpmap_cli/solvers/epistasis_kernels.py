"""How alike two samples are in their additive, pairwise, third-order ... genotypes: one kernel per epistasis order.

With z = x - mean(x) the centred coded genotypes (n x L), the kernel of order k is the sum over all sets of k loci

    K_k(i, j) = sum_{l1 < ... < lk} prod_m z_{i,lm} z_{j,lm} / s_k = e_k(z_i * z_j) / s_k,

the k-th elementary symmetric polynomial of the L products, so that no set of loci is ever formed: from the power
sums p_m = sum_l (z_il z_jl)^m by Newton's identities, k e_k = sum_m (-1)^(m-1) e_{k-m} p_m. s_k makes the mean of the
diagonal 1, so that a variance component is the variance that its order explains. On the -1/+1 cube at allele
frequency 1/2 these are the Krawtchouk polynomials of the Hamming distance (Stadler and Happel 1999). A block of
a x b samples costs 2 a b L operations for each order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes

_BLOCK = 2048


@dataclass(frozen=True)
class EpistasisKernels:
    """The kernels of order 1 to `max_order`, centred on mean (L,) and scaled by scales (max_order,)."""

    mean: torch.Tensor
    scales: torch.Tensor

    @classmethod
    def learn(cls, genotypes: CodedGenotypes, max_order: int, device: str) -> EpistasisKernels:
        """Mean and scales of these samples. An order without any variance (constant or too few loci) keeps scale 1."""
        total = torch.zeros(genotypes.num_loci, dtype=torch.float64, device=device)
        for _, x in _row_blocks(genotypes, device, torch.float64):
            total += x.sum(dim=0)
        mean = total / len(genotypes)
        unscaled = cls(mean, torch.ones(max_order, dtype=torch.float64, device=device))
        diagonal = torch.stack(unscaled.diagonals(genotypes)).mean(dim=1)
        # Rounding leaves a trace of e_k where there are fewer than k loci that vary.
        return cls(mean, torch.where(diagonal > 1e-12 * genotypes.num_loci, diagonal, 1.0))

    @property
    def max_order(self) -> int:
        return len(self.scales)

    def between(self, left: torch.Tensor, right: torch.Tensor) -> list[torch.Tensor]:
        """K_1 ... K_max (a, b) of the coded genotypes left (a, L) and right (b, L); in their precision."""
        mean = self.mean.to(left)
        z, other = left - mean, right - mean
        powers = []
        of_left, of_right = z, other
        for power in range(self.max_order):
            if power:
                of_left, of_right = of_left * z, of_right * other
            powers.append(of_left @ of_right.T)
        return _elementary(powers, self.scales)

    def diagonals(self, genotypes: CodedGenotypes) -> list[torch.Tensor]:
        """K_k(i, i) of every sample, (n,) for each order, in float64."""
        found: list[list[torch.Tensor]] = [[] for _ in range(self.max_order)]
        for _, x in _row_blocks(genotypes, str(self.mean.device), torch.float64):
            for place, values in zip(found, self.of_each(x), strict=True):
                place.append(values)
        return [torch.cat(values) for values in found]

    def sums_of_features(self, genotypes: CodedGenotypes) -> list[torch.Tensor]:
        """F_k 1: the sum over all sets of k loci of their scaled products, (n,) for each order, K_k = F_k F_k'."""
        ones = (self.mean + 1)[None, :]
        found = [self.between(x, ones) for _, x in _row_blocks(genotypes, str(self.mean.device), torch.float64)]
        return [
            torch.cat([part[k][:, 0] for part in found]) * float(scale) ** 0.5 for k, scale in enumerate(self.scales)
        ]

    def of_each(self, x: torch.Tensor) -> list[torch.Tensor]:
        """K_k(i, i) of coded genotypes x (rows, L), (rows,) for each order."""
        squares = (x - self.mean.to(x)) ** 2
        power, powers = squares, []
        for number in range(self.max_order):
            if number:
                power = power * squares
            powers.append(power.sum(dim=1))
        return _elementary(powers, self.scales)

    def blocks(
        self, genotypes: CodedGenotypes, dtype: torch.dtype = torch.float32
    ) -> Iterator[tuple[slice, slice, list[torch.Tensor]]]:
        """The upper triangle of the kernels among these samples: (rows, columns, [K_k of them]) block by block."""
        device = str(self.mean.device)
        for rows, left in _row_blocks(genotypes, device, dtype):
            for columns, right in _row_blocks(genotypes, device, dtype, rows.start):
                yield rows, columns, self.between(left, right)

    def dense(self, genotypes: CodedGenotypes) -> list[torch.Tensor]:
        """The kernels among these samples, (n, n) each, in float64."""
        size = len(genotypes)
        whole = [torch.empty(size, size, dtype=torch.float64, device=self.mean.device) for _ in range(self.max_order)]
        for rows, columns, kernels in self.blocks(genotypes, torch.float64):
            for matrix, block in zip(whole, kernels, strict=True):
                matrix[rows, columns] = block
                matrix[columns, rows] = block.T
        return whole


def _elementary(powers: list[torch.Tensor], scales: torch.Tensor) -> list[torch.Tensor]:
    """Scaled elementary symmetric polynomials e_1 ... e_k from the power sums p_1 ... p_k (Newton's identities)."""
    found: list[torch.Tensor] = []
    for order in range(1, len(powers) + 1):
        value = powers[order - 1] * (-1) ** (order - 1)
        for power in range(1, order):
            value = value + (-1) ** (power - 1) * found[order - power - 1] * powers[power - 1]
        found.append(value / order)
    return [value / float(scale) for value, scale in zip(found, scales, strict=True)]


def _row_blocks(
    genotypes: CodedGenotypes, device: str, dtype: torch.dtype, first: int = 0
) -> Iterator[tuple[slice, torch.Tensor]]:
    wanted = np.float64 if dtype == torch.float64 else np.float32
    for start in range(first, len(genotypes), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(genotypes)))
        coded: NDArray = genotypes.rows(rows, wanted)
        yield rows, torch.from_numpy(coded).to(device)
