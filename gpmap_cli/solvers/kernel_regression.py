"""Genetic values of samples from those of the measured ones: the linear system of a kernel regression.

y = mean + g + e, Var(g) = s K, Var(e) = s penalty W (W diagonal, relative noise variances, all 1 as a rule):

    alpha = (K + penalty W)^-1 (y - mean 1),   mean = 1'(K + penalty W)^-1 y / 1'(K + penalty W)^-1 1,
    f(x) = mean + sum_i k(x, x_i) alpha_i,   s = (y - mean 1)' alpha / (n - 1),

the last the restricted likelihood's variance under this penalty. Every form of the system takes phenotypes that share
a covariance, each measured in samples of its own. Here the exact one: Cholesky in float64, n^3 / 3 multiply-adds for
each phenotype and penalty, n^2 numbers, and the prediction error variance (Henderson 1975), per unit of s,

    k(x, x) - k(x)' V^-1 k(x) + (1 - 1' V^-1 k(x))^2 / (1' V^-1 1),   V = K + penalty W.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.errors import FitFailed
from gpmap_cli.solvers.genotype_covariance import Covariance, coded, covariance_matrix, row_slices

TOLERANCE = 1e-6
_ADDED = (0.0, 1e-10, 1e-8, 1e-6, 1e-4)


@dataclass(frozen=True)
class Measured:
    """Phenotypes y (n, E') of the samples `genotypes`; noise (n, E'): relative noise variances, 0 where missing."""

    genotypes: CodedGenotypes
    y: torch.Tensor
    noise: torch.Tensor

    @property
    def mask(self) -> torch.Tensor:
        """1 where measured, else 0, (n, E')."""
        return (self.noise > 0).double()

    @property
    def filled(self) -> torch.Tensor:
        """Phenotypes with 0 where missing."""
        return torch.where(self.noise > 0, self.y, 0.0)

    @property
    def weights(self) -> torch.Tensor:
        """1 / noise, 0 where missing."""
        return torch.where(self.noise > 0, 1 / self.noise.clamp_min(1e-300), 0.0)

    def rows_of(self, column: int) -> torch.Tensor:
        return torch.nonzero(self.noise[:, column] > 0)[:, 0]


@dataclass(frozen=True)
class KernelSolution:
    """alpha (n, E') of the samples (or of the subset that stands for them), 0 where not measured; mean, variance (E',).

    num_steps: of an iterative solver.
    """

    alpha: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor
    num_steps: int = 0

    def predict(self, cross: torch.Tensor) -> torch.Tensor:
        """f (rows, E') from the kernel (rows, n) between other samples and these."""
        return (cross @ self.alpha.to(cross.dtype)).double() + self.mean


class KernelSystem(Protocol):
    """The samples whose kernel stands in the solution, and the solution under any penalty."""

    support: CodedGenotypes

    def solve(self, penalties: NDArray[np.float64], tolerance: float = TOLERANCE) -> KernelSolution:
        """For one penalty of each phenotype, (E',); tolerance: of an iterative solver's relative residual."""


class DenseSystem:
    """Exact, in float64."""

    def __init__(self, covariance: Covariance, measured: Measured) -> None:
        self._covariance, self._measured, self.support = covariance, measured, measured.genotypes
        size = len(measured.genotypes)
        self._matrix = torch.empty(size, size, dtype=torch.float64, device=measured.y.device)
        covariance_matrix(covariance, measured.genotypes, measured.genotypes, self._matrix)
        self._factors: dict[tuple[int, float], torch.Tensor] = {}

    def _factor(self, column: int, penalty: float) -> torch.Tensor:
        """Lower Cholesky factor of V among the samples measured; the last one is kept."""
        if (column, penalty) not in self._factors:
            rows = self._measured.rows_of(column)
            matrix = self._matrix[rows][:, rows]
            matrix.diagonal().add_(self._measured.noise[rows, column], alpha=penalty)
            self._factors = {(column, penalty): safe_cholesky(matrix)}
        return self._factors[column, penalty]

    def solve(self, penalties: NDArray[np.float64], tolerance: float = TOLERANCE) -> KernelSolution:
        y = self._measured.y
        alpha, mean, variance = torch.zeros_like(y), y.new_empty(y.shape[1]), y.new_empty(y.shape[1])
        for column, penalty in enumerate(penalties):
            rows = self._measured.rows_of(column)
            known = y[rows, column]
            right = torch.stack([known, torch.ones_like(known)], dim=1)
            of_y, of_ones = torch.cholesky_solve(right, self._factor(column, float(penalty))).unbind(dim=1)
            mean[column] = of_y.sum() / of_ones.sum()
            alpha[rows, column] = of_y - mean[column] * of_ones
            variance[column] = known @ alpha[rows, column] / max(len(rows) - 1, 1)
        return KernelSolution(alpha, mean, variance.clamp_min(0))

    def error_variance(self, penalties: NDArray[np.float64], genotypes: CodedGenotypes) -> torch.Tensor:
        """Prediction error variance (N, E') of the genetic values of other samples, per unit of s."""
        y = self._measured.y
        found = torch.empty(len(genotypes), y.shape[1], dtype=torch.float64, device=y.device)
        for column, penalty in enumerate(penalties):
            rows = self._measured.rows_of(column)
            factor = self._factor(column, float(penalty))
            half_of_ones = torch.linalg.solve_triangular(factor, torch.ones_like(y[rows, :1]), upper=False)[:, 0]
            measured = self.support.take(rows.cpu().numpy())
            for block in row_slices(len(genotypes)):
                x = coded(genotypes, block, y)
                cross = torch.empty(len(measured), len(x), dtype=torch.float64, device=y.device)
                for others in row_slices(len(measured)):
                    cross[others] = self._covariance.between(coded(measured, others, y), x)
                half = torch.linalg.solve_triangular(factor, cross, upper=False)
                of_mean = (1 - half_of_ones @ half) ** 2 / (half_of_ones @ half_of_ones)
                seen = (half**2).sum(dim=0)
                found[block, column] = (self._covariance.diagonal(x) - seen).clamp_min(0) + of_mean
        return found


def safe_cholesky(matrix: torch.Tensor) -> torch.Tensor:
    """Cholesky factor, with as little added to the diagonal as makes the matrix positive definite."""
    scale, added = float(matrix.diagonal().mean()), 0.0
    for relative in _ADDED:
        matrix.diagonal().add_(relative * scale - added)
        added = relative * scale
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if not int(failed):
            return factor
    raise FitFailed("the kernel between these samples is not positive definite; set a larger model.penalty")
