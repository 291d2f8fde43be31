"""Kernel regression of more samples than can be factorised: preconditioned conjugate gradients, to 1e-6.

The system is that of `kernel_regression`. K (n, n) is held in float32, its products are summed in float64 (sums in
float32 would be wrong by several per cent of the penalty); all phenotypes that share it are solved at once, each on
its own measured samples: (M K M + penalty W) alpha = y - mean 1 for the mask M. Each step is one product with K, n^2
multiply-adds for each phenotype (twice: for y and for the mean). Preconditioned with F F' + penalty W, F F' the
low-rank kernel (n, r) of `pivoted_cholesky`: n r^2 once for all penalties, n r for each step. It ends when the
residual, computed anew, is below 1e-6 of the right-hand side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.errors import FitFailed
from gpmap_cli.solvers.genotype_covariance import Covariance, covariance_matrix, row_slices
from gpmap_cli.solvers.kernel_regression import TOLERANCE, KernelSolution, Measured, safe_cholesky

_MOST_ROUNDS, _MOST_STEPS = 3, 1000
_ROWS_ON_CPU, _ROWS = 64, 4096  # of K at a time
_FEW = 4  # columns that are cheaper one by one


class IterativeSystem:
    """Conjugate gradients on the whole kernel, preconditioned with a factor F (n, r)."""

    def __init__(self, covariance: Covariance, measured: Measured, factor: torch.Tensor) -> None:
        self._measured, self.support = measured, measured.genotypes
        size, device = len(measured.genotypes), measured.y.device
        self._matrix = torch.empty(size, size, dtype=torch.float32, device=device)
        covariance_matrix(covariance, measured.genotypes, measured.genotypes, self._matrix)
        self._factor = factor
        weights = measured.weights
        self._grams = [self._factor.T @ (self._factor * weights[:, column, None]) for column in range(weights.shape[1])]
        self._last: torch.Tensor | None = None

    def solve(self, penalties: NDArray[np.float64], tolerance: float = TOLERANCE) -> KernelSolution:
        y, mask = self._measured.filled, self._measured.mask
        penalty = torch.from_numpy(np.asarray(penalties, np.float64)).to(y.device)
        noise = self._measured.noise * penalty
        system = _Columns(self._matrix, torch.cat([mask, mask], dim=1), torch.cat([noise, noise], dim=1))
        preconditioner = _Preconditioner(self._factor, self._grams, self._measured.weights, penalty)
        right = torch.cat([y, mask], dim=1)
        solved, num_steps = system.solve(right, self._last, preconditioner, tolerance)
        self._last = solved
        of_y, of_ones = solved.tensor_split(2, dim=1)
        mean = of_y.sum(dim=0) / of_ones.sum(dim=0)
        alpha = of_y - mean * of_ones
        variance = (y * alpha).sum(dim=0) / (mask.sum(dim=0) - 1).clamp_min(1)
        return KernelSolution(alpha, mean, variance.clamp_min(0), num_steps)


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
    """x -> M K M x + noise x for each column x, K (n, n) in float32; 0 where not measured."""

    matrix: torch.Tensor
    mask: torch.Tensor
    noise: torch.Tensor

    def times(self, columns: torch.Tensor) -> torch.Tensor:
        """Blocks of K are widened while they are in the processor's cache."""
        product = torch.empty_like(columns)
        for rows in row_slices(len(columns), _ROWS_ON_CPU if columns.device.type == "cpu" else _ROWS):
            block = self.matrix[rows].double()
            if columns.shape[1] > _FEW:
                torch.mm(block, columns, out=product[rows])
                continue
            for column in range(columns.shape[1]):
                product[rows, column] = block @ columns[:, column]
        return self.mask * product + self.noise * columns

    def solve(
        self, right: torch.Tensor, start: torch.Tensor | None, preconditioner: _Preconditioner, tolerance: float
    ) -> tuple[torch.Tensor, int]:
        """The solution and the number of steps."""
        wanted = tolerance * right.norm(dim=0)
        solved = torch.zeros_like(right) if start is None else start.clone()
        num_steps = 0
        for _ in range(_MOST_ROUNDS):
            residual = right - self.times(solved) if num_steps or start is not None else right.clone()
            if bool((residual.norm(dim=0) <= wanted).all()):
                return solved, num_steps
            num_steps += self._descend(solved, residual, preconditioner, 0.5 * wanted)
        raise FitFailed("the kernel regression does not converge; set a larger model.penalty")

    def _descend(
        self, solved: torch.Tensor, residual: torch.Tensor, preconditioner: _Preconditioner, goal: torch.Tensor
    ) -> int:
        """Conjugate gradients from `solved`, which is changed; columns that are done stand still."""
        z = preconditioner.apply(residual)
        direction, product = z.clone(), (residual * z).sum(dim=0)
        for step in range(_MOST_STEPS):
            active = residual.norm(dim=0) > goal
            if not bool(active.any()):
                return step
            image = self.times(direction)
            curvature = (direction * image).sum(dim=0)
            length = torch.where(active & (curvature > 0), product / curvature.clamp_min(1e-300), 0.0)
            solved += length * direction
            residual -= length * image
            z = preconditioner.apply(residual)
            following = (residual * z).sum(dim=0)
            direction = z + torch.where(product > 0, following / product.clamp_min(1e-300), 0.0) * direction
            product = following
        return _MOST_STEPS
