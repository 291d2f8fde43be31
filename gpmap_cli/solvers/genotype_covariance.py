"""How alike the phenotypes of two samples are expected to be, from their genotypes: covariance functions.

Gaussian, in coded genotypes x (L loci), with a rate r_l for each locus:

    k(x, x') = shares_0 exp(-sum_l r_l (x_l - x'_l)^2) + shares_1 a(x, x'),

a the additive relationship (x - m).(x' - m) / s, s making its mean diagonal 1. One bandwidth for all loci is
r_l = bandwidth w_l with w_l in proportion to (variance of x_l)^-rarity and such that w.(x - x')^2 is 1 in the mean.
For haploid -1/+1 genotypes the first part is the diffusion kernel of the hypercube, prod over differing loci of
(1 - t_l) / (1 + t_l) = exp(-4 r_l) (Kondor and Lafferty 2002; as reproducing-kernel regression on markers: Gianola and
van Kaam 2008); it holds all orders of epistasis, their variance falling off geometrically.

Orders: sum_k shares_k K_k with the kernels of epistasis order k (`epistasis_kernels`).

The shares add up to 1: a covariance is scaled by one genetic variance outside. A block of a x b samples costs
a b L multiply-adds (for each order) and a b exponentials.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.solvers.epistasis_kernels import EpistasisKernels
from gpmap_cli.solvers.ridge import coded_blocks

_ROWS = 2048
_ALIKE = 1.5  # largest over smallest variance of loci
_CONSTANT = 1e-12  # the variance of a locus that rounding may leave


class Covariance(Protocol):
    """Covariance of the genetic values of samples, per unit of genetic variance."""

    def between(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """(a, b) of coded genotypes left (a, L) and right (b, L); in their precision, on their device."""

    def diagonal(self, x: torch.Tensor) -> torch.Tensor:
        """Of each sample with itself, (a,)."""


@dataclass(frozen=True)
class LocusScale:
    """mean, variance (L,) of the coded genotypes of `size` samples: the units of distances and relationships."""

    mean: torch.Tensor
    variance: torch.Tensor
    size: int

    @classmethod
    def learn(cls, genotypes: CodedGenotypes, device: str) -> LocusScale:
        """From these samples (n, L); costs n L."""
        total = torch.zeros(genotypes.num_loci, dtype=torch.float64, device=device)
        squares = torch.zeros_like(total)
        for _, x in coded_blocks(genotypes, device):
            total += x.sum(dim=0)
            squares += (x**2).sum(dim=0)
        mean = total / len(genotypes)
        variance = squares / len(genotypes) - mean**2
        return cls(mean, torch.where(variance > _CONSTANT, variance, 0.0), len(genotypes))

    @property
    def relationship(self) -> float:
        """The mean of |x - mean|^2; 1 where no locus varies."""
        return float(self.variance.sum()) or 1.0

    def unit(self, rarity: float) -> torch.Tensor:
        """Weights w (L,) with which sum_l w_l (x_l - x'_l)^2 is 1 in the mean of two different samples.

        w_l is in proportion to variance_l^-rarity: 0 for coded, 1 for standardised loci, where rare alleles tell more.
        A constant locus has none.
        """
        weights = torch.where(self.variance > 0, self.variance.clamp_min(_CONSTANT) ** -rarity, 0.0)
        mean = 2 * float((weights * self.variance).sum()) * self.size / max(self.size - 1, 1)
        return weights / (mean or 1.0)

    @property
    def are_alike(self) -> bool:
        """Whether all loci that vary vary about as much."""
        varying = self.variance[self.variance > 0]
        return not len(varying) or float(varying.max() / varying.min()) < _ALIKE


@dataclass(frozen=True)
class GaussianCovariance:
    """rates (L,); mean (L,) and relationship (m and s of the additive part); shares (2,): gaussian, additive."""

    rates: torch.Tensor
    mean: torch.Tensor
    relationship: float
    shares: tuple[float, float]

    def between(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        mean, factor = self.mean.to(left), self.rates.sqrt().to(left)
        z, other = left - mean, right - mean
        of_z, of_other = z * factor, other * factor
        found = of_z @ of_other.T
        found.mul_(2).sub_((of_z**2).sum(dim=1)[:, None]).sub_((of_other**2).sum(dim=1)).clamp_(max=0).exp_()
        gaussian, additive = self.shares
        if additive == 0:
            return found if gaussian == 1 else found.mul_(gaussian)
        return torch.addmm(found, z, other.T, beta=gaussian, alpha=additive / self.relationship)

    def diagonal(self, x: torch.Tensor) -> torch.Tensor:
        z = x - self.mean.to(x)
        gaussian, additive = self.shares
        return gaussian + (z**2).sum(dim=1) * (additive / self.relationship)


@dataclass(frozen=True)
class OrdersCovariance:
    """shares (max_order,) of the kernels by epistasis order."""

    kernels: EpistasisKernels
    shares: tuple[float, ...]

    def between(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        parts = self.kernels.between(left, right)
        found = parts[0].mul_(self.shares[0])
        for share, part in zip(self.shares[1:], parts[1:], strict=True):
            found.add_(part, alpha=share)
        return found

    def diagonal(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.kernels.of_each(x)
        return torch.stack([share * part for share, part in zip(self.shares, parts, strict=True)]).sum(dim=0)


def coded(genotypes: CodedGenotypes, rows: slice | NDArray[np.intp], like: torch.Tensor) -> torch.Tensor:
    """Coded genotypes of these rows, (rows, L), in the precision and on the device of `like`."""
    wanted = np.float64 if like.dtype == torch.float64 else np.float32
    return torch.from_numpy(genotypes.rows(rows, wanted)).to(like.device)


def row_slices(size: int, step: int = _ROWS) -> Iterator[slice]:
    """0 .. size in steps."""
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))


def covariance_matrix(
    covariance: Covariance, left: CodedGenotypes, right: CodedGenotypes, out: torch.Tensor
) -> torch.Tensor:
    """Fill out (a, b), in its precision, block by block, so that no a x L matrix of numbers is held."""
    for columns in row_slices(len(right)):
        others = coded(right, columns, out)
        for rows in row_slices(len(left)):
            out[rows, columns] = covariance.between(coded(left, rows, out), others)
    return out


def kernel_product(
    covariance: Covariance, genotypes: CodedGenotypes, support: CodedGenotypes, weights: torch.Tensor
) -> torch.Tensor:
    """K weights (N, E'), in float64, of samples against the support (n), weights (n, E'); K block by block."""
    total = torch.zeros(len(genotypes), weights.shape[1], dtype=torch.float64, device=weights.device)
    for rows in row_slices(len(genotypes)):
        x = coded(genotypes, rows, weights)
        for others in row_slices(len(support)):
            total[rows] += covariance.between(x, coded(support, others, weights)) @ weights[others]
    return total
