"""Kernel regression of more samples than can be factorised: preconditioned conjugate gradients, to 1e-6.

The system is that of `kernel_regression`. K (n, n) is held in float32; all phenotypes that share it are solved at
once, each on its own measured samples: (M K M + penalty W) alpha = y - mean 1 for the mask M. Each step is one product
with K, n^2 multiply-adds for each phenotype (twice: for y and for the mean). Preconditioned with F F' + penalty W,
F = K_nS L^-T from a random subset S of r samples, L L' = K_SS (Williams and Seeger 2001): n r^2 once for all penalties,
n r for each step. What single precision leaves over is solved again (iterative refinement) until the residual,
computed in double precision, is below 1e-6 of the right-hand side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.errors import FitFailed
from gpmap_cli.solvers.genotype_covariance import Covariance, covariance_matrix, row_slices
from gpmap_cli.solvers.kernel_regression import KernelSolution, Measured, safe_cholesky

_TOLERANCE = 1e-6
_OF_ONE_ROUND = 1e-4  # by how much one round of conjugate gradients reduces the residual
_MOST_ROUNDS, _MOST_STEPS = 12, 400


class IterativeSystem:
    """Conjugate gradients on the whole kernel; `subset` preconditions."""

    def __init__(self, covariance: Covariance, measured: Measured, subset: CodedGenotypes) -> None:
        self._measured, self.support = measured, measured.genotypes
        size, device = len(measured.genotypes), measured.y.device
        self._matrix = torch.empty(size, size, dtype=torch.float32, device=device)
        covariance_matrix(covariance, measured.genotypes, measured.genotypes, self._matrix)
        self._factor = low_rank_factor(covariance, measured.genotypes, subset, device)
        weights = measured.weights
        self._grams = [self._factor.T @ (self._factor * weights[:, column, None]) for column in range(weights.shape[1])]
        self._last: torch.Tensor | None = None

    def solve(self, penalties: NDArray[np.float64]) -> KernelSolution:
        y, mask = self._measured.filled, self._measured.mask
        penalty = torch.from_numpy(np.asarray(penalties, np.float64)).to(y.device)
        noise = self._measured.noise * penalty
        system = _Columns(self._matrix, torch.cat([mask, mask], dim=1), torch.cat([noise, noise], dim=1))
        preconditioner = _Preconditioner(self._factor, self._grams, self._measured.weights, penalty)
        right = torch.cat([y, mask], dim=1)
        solved, num_steps = system.solve(right, self._last, preconditioner)
        self._last = solved
        of_y, of_ones = solved.tensor_split(2, dim=1)
        mean = of_y.sum(dim=0) / of_ones.sum(dim=0)
        alpha = of_y - mean * of_ones
        variance = (y * alpha).sum(dim=0) / (mask.sum(dim=0) - 1).clamp_min(1)
        return KernelSolution(alpha, mean, variance.clamp_min(0), num_steps)


def low_rank_factor(
    covariance: Covariance, genotypes: CodedGenotypes, subset: CodedGenotypes, device: torch.device
) -> torch.Tensor:
    """F (n, r) in float64 with F F' = K_nS K_SS^-1 K_Sn."""
    inner = torch.empty(len(subset), len(subset), dtype=torch.float64, device=device)
    factor = safe_cholesky(covariance_matrix(covariance, subset, subset, inner))
    cross = torch.empty(len(genotypes), len(subset), dtype=torch.float64, device=device)
    covariance_matrix(covariance, genotypes, subset, cross)
    return torch.linalg.solve_triangular(factor.T, cross, upper=True, left=False)


class _Preconditioner:
    """(F F' + penalty W)^-1 on the measured samples of each phenotype, by the Woodbury identity."""

    def __init__(
        self, factor: torch.Tensor, grams: list[torch.Tensor], weights: torch.Tensor, penalty: torch.Tensor
    ) -> None:
        self._factor, self._inner = factor, []
        scaled = weights / penalty
        self._weights = torch.cat([scaled, scaled], dim=1)
        for gram, value in zip(grams, penalty, strict=True):
            matrix = gram / value
            matrix.diagonal().add_(1)
            self._inner.append(safe_cholesky(matrix))

    def apply(self, residual: torch.Tensor) -> torch.Tensor:
        """Columns (n, 2 E'): those of the phenotypes, then those of their means."""
        weighted = residual * self._weights
        small = self._factor.T @ weighted
        for column, factor in enumerate(self._inner):
            both = [column, column + len(self._inner)]
            small[:, both] = torch.cholesky_solve(small[:, both], factor)
        return weighted - self._weights * (self._factor @ small)


@dataclass(frozen=True)
class _Columns:
    """x -> M K M x + noise x for each column x, K (n, n) in its own precision; 0 where not measured."""

    matrix: torch.Tensor
    mask: torch.Tensor
    noise: torch.Tensor

    def times(self, columns: torch.Tensor) -> torch.Tensor:
        """In the precision of the matrix."""
        product = (self.matrix @ columns.to(self.matrix.dtype)).double()
        return self.mask * product + self.noise * columns

    def exact_times(self, columns: torch.Tensor) -> torch.Tensor:
        """In float64."""
        product = torch.empty_like(columns)
        for rows in row_slices(len(columns), 512):
            product[rows] = self.matrix[rows].double() @ columns
        return self.mask * product + self.noise * columns

    def solve(
        self, right: torch.Tensor, start: torch.Tensor | None, preconditioner: _Preconditioner
    ) -> tuple[torch.Tensor, int]:
        """The solution and the number of steps."""
        size = right.norm(dim=0).clamp_min(1e-300)
        solved, residual, num_steps = torch.zeros_like(right), right, 0
        if start is not None:
            solved, residual = start.clone(), right - self.exact_times(start)
        for _ in range(_MOST_ROUNDS):
            correction, steps = self._one_round(residual, preconditioner, size)
            solved, num_steps = solved + correction, num_steps + steps
            residual = right - self.exact_times(solved)
            if bool((residual.norm(dim=0) <= _TOLERANCE * size).all()):
                return solved, num_steps
        raise FitFailed("the kernel regression does not converge; set a larger model.penalty")

    def _one_round(
        self, right: torch.Tensor, preconditioner: _Preconditioner, size: torch.Tensor
    ) -> tuple[torch.Tensor, int]:
        """Conjugate gradients from zero; columns that are done stand still."""
        goal = torch.maximum(0.3 * _TOLERANCE * size, _OF_ONE_ROUND * right.norm(dim=0))
        solved, residual = torch.zeros_like(right), right.clone()
        z = preconditioner.apply(residual)
        direction, product = z.clone(), (residual * z).sum(dim=0)
        for step in range(_MOST_STEPS):
            active = residual.norm(dim=0) > goal
            if not bool(active.any()):
                return solved, step
            image = self.times(direction)
            curvature = (direction * image).sum(dim=0)
            length = torch.where(active & (curvature > 0), product / curvature.clamp_min(1e-300), 0.0)
            solved += length * direction
            residual -= length * image
            z = preconditioner.apply(residual)
            following = (residual * z).sum(dim=0)
            direction = z + torch.where(product > 0, following / product.clamp_min(1e-300), 0.0) * direction
            product = following
        return solved, _MOST_STEPS
