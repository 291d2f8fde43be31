"""Ridge regression on coded genotypes, exactly, for a whole path of penalties at the price of one factorisation.

Objective, for each environment with phenotype y (standardised) and genotypes X (n samples x L loci):

    sum_i (y_i - b - x_i . w)^2 + penalty * |w|^2,        the intercept b is not penalised.

With X centred (Xc) and y centred (yc): primal, from the eigenvalues of Xc' Xc = V S V', when n >= L:
w = V (S + penalty)^-1 V' Xc' yc; dual, from Xc Xc' = U S U', when n < L: w = Xc' U (S + penalty)^-1 U' yc.
Leave-one-out residuals are exact in both: e_i / (1 - h_i) with the leverage
h_i = 1/n + sum_k z_ik^2 / (s_k + penalty), z = Xc V (primal) or z = U S^(1/2) (dual). Costs n L min(n, L) for
the factorisation and n min(n, L) for each penalty and environment. Missing genotypes are coded before.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes

if TYPE_CHECKING:
    import torch

# Penalties are tried from additive variance = 10^5 times the residual's down to 10^-5 of it.
_PATH_EXPONENTS = np.linspace(-5, 5, 61)
# Small, so that what is streamed from disk stays small in memory; a matrix product wants some rows all the same.
_BLOCK_BYTES = 2**23
_FEWEST_ROWS = 256


@dataclass(frozen=True)
class RidgeSolution:
    """weights (L, E'), intercept (E',), penalty (E',) of environments measured in the same samples."""

    weights: NDArray[np.float64]
    intercept: NDArray[np.float64]
    penalty: NDArray[np.float64]


def solve_ridge(
    genotypes: CodedGenotypes,
    phenotypes: NDArray[np.float64],
    penalty: float | None,
    validation: tuple[CodedGenotypes, NDArray[np.float64]] | None,
    device: str,
) -> RidgeSolution:
    """Ridge of E' phenotypes (n, E') without missing values, on genotypes (n, L).

    `penalty` fixes the penalty; otherwise the path's best one by validation error where `validation` is given,
    else by exact leave-one-out error, is refined by a parabola through its neighbours.
    """
    factors = _factorise(genotypes, phenotypes, device)
    if penalty is not None:
        chosen = np.full(phenotypes.shape[1], float(penalty))
    else:
        path = factors.scale * 10.0**_PATH_EXPONENTS
        if validation is None:
            errors = factors.leave_one_out_errors(path)
        else:
            errors = _validation_errors(factors, path, *validation)
        chosen = np.array([_minimum(path, errors[:, column]) for column in range(errors.shape[1])])
    weights = np.stack([factors.weights(value)[:, column] for column, value in enumerate(chosen)], axis=1)
    return RidgeSolution(weights, factors.phenotype_mean - factors.mean @ weights, chosen)


class _Factors(ABC):
    """The eigendecomposition shared by all penalties and environments."""

    def __init__(self, mean: NDArray, phenotype_mean: NDArray, scale: float) -> None:
        self.mean, self.phenotype_mean, self.scale = mean, phenotype_mean, scale

    @abstractmethod
    def weights(self, penalty: float) -> NDArray:
        """Effects of all loci (L, E') under this penalty."""

    @abstractmethod
    def leave_one_out_errors(self, path: NDArray) -> NDArray:
        """Mean squared leave-one-out error (P, E') of every penalty of the path."""


class _Primal(_Factors):
    def __init__(self, genotypes: CodedGenotypes, phenotypes: NDArray, device: str) -> None:
        import torch

        num_samples, num_loci = len(genotypes), genotypes.num_loci
        self._genotypes, self._device = genotypes, device
        total = torch.zeros(num_loci, dtype=torch.float64, device=device)
        gram = torch.zeros(num_loci, num_loci, dtype=torch.float64, device=device)
        y = torch.from_numpy(phenotypes - phenotypes.mean(axis=0)).to(device)
        product = torch.zeros(num_loci, y.shape[1], dtype=torch.float64, device=device)
        for rows, block in coded_blocks(genotypes, device):
            total += block.sum(dim=0)
            gram.addmm_(block.T, block)
            product.addmm_(block.T, y[rows])
        mean = total / num_samples
        gram -= num_samples * torch.outer(mean, mean)
        scale = float(gram.diagonal().sum()) / num_samples
        super().__init__(mean.cpu().numpy(), phenotypes.mean(axis=0), scale if scale > 0 else 1.0)
        values, self._vectors = torch.linalg.eigh(gram)
        self._values = values.clamp_min(0)
        self._rotated = self._vectors.T @ product  # sums over centred y need no correction for the mean
        self._y = y

    def weights(self, penalty: float) -> NDArray:
        return (self._vectors @ (self._rotated / (self._values + penalty)[:, None])).cpu().numpy()

    def leave_one_out_errors(self, path: NDArray) -> NDArray:
        import torch

        penalties = torch.from_numpy(path).to(self._device)
        inverse = 1 / (self._values[:, None] + penalties)  # (L, P)
        num_environments = self._y.shape[1]
        coefficients = (inverse[:, :, None] * self._rotated[:, None, :]).reshape(len(inverse), -1)
        errors = torch.zeros(len(path), num_environments, dtype=torch.float64, device=self._device)
        mean = torch.from_numpy(self.mean).to(self._device)
        for rows, block in coded_blocks(self._genotypes, self._device):
            z = (block - mean) @ self._vectors
            leverage = 1 / len(self._genotypes) + (z**2) @ inverse
            fitted = (z @ coefficients).reshape(len(z), len(path), num_environments)
            residual = (self._y[rows][:, None, :] - fitted) / (1 - leverage).clamp_min(1e-12)[:, :, None]
            errors += (residual**2).sum(dim=0)
        return (errors / len(self._genotypes)).cpu().numpy()


class _Dual(_Factors):
    def __init__(self, genotypes: CodedGenotypes, phenotypes: NDArray, device: str) -> None:
        import torch

        num_samples = len(genotypes)
        kernel, mean = centred_kernel(genotypes, device)
        scale = float(kernel.diagonal().sum()) / num_samples
        super().__init__(mean, phenotypes.mean(axis=0), scale if scale > 0 else 1.0)
        self._genotypes, self._device = genotypes, device
        values, self._vectors = torch.linalg.eigh(kernel)
        self._values = values.clamp_min(0)
        self._y = torch.from_numpy(phenotypes - phenotypes.mean(axis=0)).to(device)
        self._rotated = self._vectors.T @ self._y

    def weights(self, penalty: float) -> NDArray:
        import torch

        alpha = self._vectors @ (self._rotated / (self._values + penalty)[:, None])
        mean = torch.from_numpy(self.mean).to(self._device)
        weights = torch.zeros(len(mean), alpha.shape[1], dtype=torch.float64, device=self._device)
        for rows, block in coded_blocks(self._genotypes, self._device):
            weights.addmm_((block - mean).T, alpha[rows])
        return weights.cpu().numpy()

    def leave_one_out_errors(self, path: NDArray) -> NDArray:
        errors = []
        for penalty in path:
            shrink = penalty / (self._values + penalty)
            residual = self._vectors @ (self._rotated * shrink[:, None])
            leverage = 1 / len(self._y) + (self._vectors**2) @ (1 - shrink)
            errors.append(((residual / (1 - leverage).clamp_min(1e-12)[:, None]) ** 2).mean(dim=0).cpu().numpy())
        return np.array(errors)


def _factorise(genotypes: CodedGenotypes, phenotypes: NDArray, device: str) -> _Factors:
    return (_Primal if len(genotypes) >= genotypes.num_loci else _Dual)(genotypes, phenotypes, device)


def coded_blocks(genotypes: CodedGenotypes, device: str) -> Iterator[tuple[slice, torch.Tensor]]:
    """All samples in blocks of float64 rows on the device, so that no N x L floating-point matrix is ever held."""
    import torch

    step = max(_FEWEST_ROWS, _BLOCK_BYTES // (8 * max(1, genotypes.num_loci)))
    for start in range(0, len(genotypes), step):
        rows = slice(start, min(start + step, len(genotypes)))
        yield rows, torch.from_numpy(genotypes.rows(rows)).to(device)


def centred_kernel(genotypes: CodedGenotypes, device: str) -> tuple[torch.Tensor, NDArray[np.float64]]:
    """The additive relationship Xc Xc' (n, n) of the samples, and the mean genotype (L,)."""
    import torch

    mean = mean_genotype(genotypes, device)
    kernel = torch.zeros(len(genotypes), len(genotypes), dtype=torch.float64, device=device)
    for _, block in centred_loci(genotypes, mean, device):
        kernel.addmm_(block, block.T)
    return kernel, mean.cpu().numpy()


def mean_genotype(genotypes: CodedGenotypes, device: str) -> torch.Tensor:
    """Mean coded genotype of every locus, (L,)."""
    import torch

    total = torch.zeros(genotypes.num_loci, dtype=torch.float64, device=device)
    for _, block in coded_blocks(genotypes, device):
        total += block.sum(dim=0)
    return total / len(genotypes)


def centred_loci(genotypes: CodedGenotypes, mean: torch.Tensor, device: str) -> Iterator[tuple[slice, torch.Tensor]]:
    """All samples at a block of loci at a time, (n, block), minus their mean."""
    import torch

    step = max(1, _BLOCK_BYTES // (8 * len(genotypes)))
    for start in range(0, genotypes.num_loci, step):
        loci = slice(start, min(start + step, genotypes.num_loci))
        yield loci, torch.from_numpy(genotypes.loci(loci)).to(device) - mean[loci]


def _validation_errors(
    factors: _Factors, path: NDArray, genotypes: CodedGenotypes, phenotypes: NDArray
) -> NDArray[np.float64]:
    errors = np.empty((len(path), phenotypes.shape[1]))
    known = ~np.isnan(phenotypes)
    for place, penalty in enumerate(path):
        weights = factors.weights(penalty)
        predicted = linear_prediction(genotypes, weights, factors.phenotype_mean - factors.mean @ weights)
        squares = np.where(known, (np.where(known, phenotypes, 0) - predicted) ** 2, 0)
        errors[place] = squares.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return errors


def linear_prediction(
    genotypes: CodedGenotypes, weights: NDArray[np.float64], intercept: NDArray[np.float64]
) -> NDArray[np.float64]:
    """x . w + b for every sample, (N, E), in row blocks."""
    predicted = np.empty((len(genotypes), weights.shape[1]))
    for rows, block in coded_blocks(genotypes, "cpu"):
        predicted[rows] = block.numpy() @ weights + intercept
    return predicted


def _minimum(path: NDArray, errors: NDArray) -> float:
    """The penalty with the least error, between the path's points by a parabola in its logarithm."""
    best = int(np.argmin(errors))
    if 0 < best < len(path) - 1:
        left, middle, right = errors[best - 1 : best + 2]
        bend = left - 2 * middle + right
        shift = 0.5 * (left - right) / bend if bend > 0 else 0.0
        step = np.log(path[best + 1] / path[best])
        return float(path[best] * np.exp(np.clip(shift, -1, 1) * step))
    return float(path[best])
