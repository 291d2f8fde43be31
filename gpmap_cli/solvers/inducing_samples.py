"""Kernel regression through a subset of samples, for more samples than an n x n kernel fits memory.

The genetic values are taken to be K_xS K_SS^-1 u, u the values of the m samples of a subset S (subset of regressors,
the Nystroem approximation K ~ K_nS K_SS^-1 K_Sn; Quinonero-Candela and Rasmussen 2005). With L L' = K_SS,
A = L^-1 K_Sn (m, n), w = 1 / (penalty W) where measured and B = I + A diag(w) A':

    V^-1 r = w r - w A' B^-1 A w r,   alpha = L^-T B^-1 A w (y - mean 1) (m,),   f(x) = mean + k(x, S) alpha,

mean and variance as in `kernel_regression`; with all samples in S this is the exact regression. A is made block by
block: n m^2 multiply-adds for each phenotype, once for all penalties; m^2 numbers, and m^3 / 3 for each penalty.

Prediction error variance, per unit of genetic variance, with a = L^-1 k(S, x), d = A w 1:

    k(x, x) - a'a + a' B^-1 a + (1 - a' B^-1 d)^2 / (sum w - d' B^-1 d),

the first difference what the subset cannot say about x, the last term the uncertainty of the mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.solvers.genotype_covariance import Covariance, coded, covariance_matrix, row_slices
from gpmap_cli.solvers.kernel_regression import TOLERANCE, KernelSolution, Measured, safe_cholesky


class InducingSystem:
    """The normal equations of phenotypes that share a covariance, through the samples `subset`."""

    def __init__(self, covariance: Covariance, measured: Measured, subset: CodedGenotypes) -> None:
        self._covariance, self.support = covariance, subset
        y, weights = measured.filled, measured.weights
        size, device = len(subset), y.device
        inner = torch.empty(size, size, dtype=torch.float64, device=device)
        self._root = safe_cholesky(covariance_matrix(covariance, subset, subset, inner))
        self._grams = [torch.zeros(size, size, dtype=torch.float64, device=device) for _ in range(y.shape[1])]
        self._of_y = torch.zeros(size, y.shape[1], dtype=torch.float64, device=device)
        self._of_ones = torch.zeros_like(self._of_y)
        for rows in row_slices(len(measured.genotypes)):
            block = self._features(coded(measured.genotypes, rows, inner))
            self._of_y.addmm_(block, (y * weights)[rows])
            self._of_ones.addmm_(block, weights[rows])
            for column, gram in enumerate(self._grams):
                gram.addmm_(block * weights[rows, column], block.T)
        self._total, self._total_y = weights.sum(dim=0), (weights * y).sum(dim=0)
        self._squares = (weights * y**2).sum(dim=0)
        self._freedom = (measured.mask.sum(dim=0) - 1).clamp_min(1)

    def _features(self, x: torch.Tensor) -> torch.Tensor:
        """a = L^-1 k(S, x), (m, rows)."""
        cross = torch.empty(len(self.support), len(x), dtype=torch.float64, device=x.device)
        for rows in row_slices(len(self.support)):
            cross[rows] = self._covariance.between(coded(self.support, rows, x), x)
        return torch.linalg.solve_triangular(self._root, cross, upper=False)

    def _halves(self, column: int, penalty: float) -> _Halves:
        matrix = self._grams[column] / penalty
        matrix.diagonal().add_(1)
        factor = safe_cholesky(matrix)
        right = torch.stack([self._of_y[:, column], self._of_ones[:, column]], dim=1) / penalty
        of_y, of_ones = torch.linalg.solve_triangular(factor, right, upper=False).unbind(dim=1)
        return _Halves(factor, of_y, of_ones, self._total[column] / penalty - of_ones @ of_ones)

    def solve(self, penalties: NDArray[np.float64], tolerance: float = TOLERANCE) -> KernelSolution:
        found, means, variances = [], [], []
        for column, penalty in enumerate(map(float, penalties)):
            halves = self._halves(column, penalty)
            across = self._total_y[column] / penalty - halves.of_ones @ halves.of_y  # 1' V^-1 y
            mean = across / halves.total
            squares = self._squares[column] / penalty - halves.of_y @ halves.of_y  # y' V^-1 y
            means.append(mean)
            variances.append(((squares - across * mean) / self._freedom[column]).clamp_min(0))
            once = (halves.of_y - mean * halves.of_ones)[:, None]
            found.append(torch.linalg.solve_triangular(halves.factor.T, once, upper=True)[:, 0])
        alpha = torch.linalg.solve_triangular(self._root.T, torch.stack(found, dim=1), upper=True)
        return KernelSolution(alpha, torch.stack(means), torch.stack(variances))

    def error_variance(self, penalties: NDArray[np.float64], genotypes: CodedGenotypes) -> torch.Tensor:
        """Prediction error variance (N, E') of the genetic values of other samples, per unit of genetic variance."""
        like = self._root
        found = torch.empty(len(genotypes), len(self._grams), dtype=torch.float64, device=like.device)
        halves = [self._halves(column, float(penalty)) for column, penalty in enumerate(penalties)]
        for block in row_slices(len(genotypes)):
            x = coded(genotypes, block, like)
            features = self._features(x)
            unseen = (self._covariance.diagonal(x) - (features**2).sum(dim=0)).clamp_min(0)
            for column, half in enumerate(halves):
                seen = torch.linalg.solve_triangular(half.factor, features, upper=False)
                of_mean = (1 - half.of_ones @ seen) ** 2 / half.total
                found[block, column] = unseen + (seen**2).sum(dim=0) + of_mean
        return found


@dataclass(frozen=True)
class _Halves:
    """R with R R' = B; R^-1 A w y and R^-1 A w 1 (m,); 1' V^-1 1."""

    factor: torch.Tensor
    of_y: torch.Tensor
    of_ones: torch.Tensor
    total: torch.Tensor
