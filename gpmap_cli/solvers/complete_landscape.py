"""Gaussian process on all 2^L genotypes of L loci at once: every order of epistasis, exact, in seconds.

A landscape f over haploid genotypes x in {-1, +1}^L is a sum of 2^L Walsh terms, f(x) = sum_S w_S prod_{l in S} x_l,
one for each set S of loci. A priori w_S ~ N(0, s lambda_S) with

    lambda_S = prod_{l in S} exp(-rate_l) / prod_l (1 + exp(-rate_l)),

the diffusion kernel of the hypercube with a rate for each locus: k(x, x') is the product of (1 - e) / (1 + e),
e = exp(-rate_l), over the loci where x and x' differ, and k(x, x) = 1 (Kondor and Lafferty 2002; Zhou et al. 2022).
With the mean phenotype y and the number n of the samples of each measured genotype,

    alpha = (K + penalty / n)^-1 (y - mean),   f = mean + K alpha,   K = H diag(lambda) H,

H the Walsh-Hadamard transform, by which a product with K costs 13 L 2^L multiply-adds whatever the number of samples.
Conjugate gradients, all environments at once, each with its own measured genotypes, rates and penalty. Those are chosen
by the error of the validation samples: a descent along its exact gradient, which takes one more solution,

    beta = (K + penalty / n)^-1 K q,   d error = (q - beta)' dK alpha - d penalty sum beta alpha / n,

q the derivative of the error by f; in u' dK v only the spectra of u and v meet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes, Samples

_MOST_LOCI = 16  # 65,536 genotypes
_LEAST_SHARE = 1 / 64  # of all genotypes: from there on fewer samples are cheaper by other ways
_CHOOSING_SAMPLES = 20  # validation samples for each rate that they choose
_FACTOR = 5  # loci that are transformed at once
_STEPS, _PACE, _FIRST_RATE, _FIRST_PENALTY = 30, 0.25, 1.5, 0.1
_ROUGHLY, _EXACTLY, _MOST_ITERATIONS = 1e-3, 1e-7, 500
_ROWS_BETWEEN = 64  # genotypes that are no corner of the cube, interpolated at once


@dataclass(frozen=True)
class CompleteLandscape:
    """Standardised phenotypes `values` (2^L, E) of all genotypes; bit l of a row's number: locus l is +1.

    rates (E, L), penalty (E,): what the validation samples chose.
    """

    values: NDArray[np.float64]
    rates: NDArray[np.float64]
    penalty: NDArray[np.float64]

    def predict(self, genotypes: CodedGenotypes) -> NDArray[np.float64]:
        """Standardised phenotypes (N, E).

        Where a genotype is missing or a dosage, f is the sum of its terms all the same: it is linear in each locus.
        """
        x = genotypes.rows(slice(0, len(genotypes)))
        corners = (np.abs(x) == 1).all(axis=1)
        predicted = np.empty((len(x), self.values.shape[1]))
        predicted[corners] = self.values[_number(x[corners])]
        between = np.flatnonzero(~corners)
        for start in range(0, len(between), _ROWS_BETWEEN):
            rows = between[start : start + _ROWS_BETWEEN]
            predicted[rows] = self._interpolated(x[rows])
        return predicted

    def _interpolated(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        table = np.broadcast_to(self.values, (len(x), *self.values.shape))
        for locus in reversed(range(x.shape[1])):
            lower, upper = np.split(table, 2, axis=1)
            share = ((1 + x[:, locus]) / 2)[:, None, None]
            table = lower + share * (upper - lower)
        return table[:, 0]


def can_fit_landscape(train: Samples, validation: Samples) -> bool:
    """Whether the genotypes are corners of a small cube, and measured often enough in every environment."""
    num_loci = train.genotypes.num_loci
    if num_loci > _MOST_LOCI or not (train.genotypes.is_plus_minus_one and validation.genotypes.is_plus_minus_one):
        return False
    fewest = (~np.isnan(train.phenotypes)).sum(axis=0).min()
    choosing = (~np.isnan(validation.phenotypes)).sum(axis=0).min()
    return bool(fewest >= _LEAST_SHARE * 2**num_loci and choosing >= _CHOOSING_SAMPLES * (num_loci + 1))


def fit_landscape(train: Samples, validation: Samples, device: str) -> CompleteLandscape:
    """The landscape of each environment, from the training samples; rates and penalties by the validation samples."""
    num_loci = train.genotypes.num_loci
    mean = np.nanmean(train.phenotypes, axis=0)
    measured, choosing = (_Cells.of(part, mean, device) for part in (train, validation))
    # Choosing need not be exact: in single precision.
    best = _best_logs(_Cube(num_loci, device, torch.float32), measured.to(torch.float32), choosing.to(torch.float32))
    cube, best = _Cube(num_loci, device, torch.float64), best.double()
    spectrum, penalty = cube.spectrum(best[:, :-1]), best[:, -1:].exp()
    start = torch.zeros_like(measured.mean)
    alpha = _solve(cube, spectrum, penalty, measured, measured.mean, start, _EXACTLY)
    values = cube.product(spectrum, alpha).T.cpu().numpy() + mean
    return CompleteLandscape(values, best[:, :-1].exp().cpu().numpy(), penalty[:, 0].cpu().numpy())


def _best_logs(cube: _Cube, measured: _Cells, choosing: _Cells) -> torch.Tensor:
    """Logarithms of rates and penalty, (E, L + 1): of a descent by Adam, where the validation samples err least."""
    alpha = beta = torch.zeros_like(measured.mean)
    logs = torch.full((len(alpha), cube.num_loci + 1), math.log(_FIRST_RATE)).to(alpha)
    logs[:, -1] = math.log(_FIRST_PENALTY)
    best, least = logs.clone(), torch.full_like(logs[:, 0], math.inf)
    moved, squared = torch.zeros_like(logs), torch.zeros_like(logs)
    for step in range(_STEPS):
        error, gradient, alpha, beta = _error_and_gradient(cube, logs, measured, choosing, alpha, beta)
        better = error < least
        least, best = torch.where(better, error, least), torch.where(better[:, None], logs, best)
        moved, squared = moved.lerp(gradient, 0.2), squared.lerp(gradient**2, 0.05)
        length = moved / (1 - 0.8 ** (step + 1)) / (squared / (1 - 0.95 ** (step + 1))).sqrt().clamp_min(1e-12)
        logs = logs - _PACE * (1 - step / _STEPS) * length
    return best


@dataclass(frozen=True)
class _Cells:
    """By environment and genotype (E, 2^L): the mean phenotype and the number of samples, both 0 where none is."""

    mean: torch.Tensor
    number: torch.Tensor

    @classmethod
    def of(cls, samples: Samples, mean: NDArray[np.float64], device: str) -> _Cells:
        """Phenotypes less `mean` (E,)."""
        genotypes, size = samples.genotypes, 2**samples.genotypes.num_loci
        at = _number(genotypes.rows(slice(0, len(genotypes))))
        total, number = np.zeros((len(mean), size)), np.zeros((len(mean), size))
        for column, phenotypes in enumerate((samples.phenotypes - mean).T):
            known = ~np.isnan(phenotypes)
            total[column] = np.bincount(at[known], phenotypes[known], size)
            number[column] = np.bincount(at[known], minlength=size)
        found = total / np.maximum(number, 1)
        return cls(torch.from_numpy(found).to(device), torch.from_numpy(number).to(device))

    def to(self, dtype: torch.dtype) -> _Cells:
        return _Cells(self.mean.to(dtype), self.number.to(dtype))


class _Cube:
    """Products with K of functions over the genotypes, (E, 2^L) each."""

    def __init__(self, num_loci: int, device: str, dtype: torch.dtype) -> None:
        self.num_loci = num_loci
        numbers = np.arange(2**num_loci)[:, None] >> np.arange(num_loci)
        self._members = torch.from_numpy(numbers & 1).to(device, dtype)
        self._matrices = []
        for start in range(0, num_loci, _FACTOR):
            matrix = torch.ones(1, 1, dtype=dtype, device=device)
            for _ in range(min(_FACTOR, num_loci - start)):
                matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
            self._matrices.append(matrix)

    def spectrum(self, log_rates: torch.Tensor) -> torch.Tensor:
        """lambda (E, 2^L) from the logarithms of the rates (E, L)."""
        return torch.softmax(-log_rates.exp() @ self._members.T, dim=1)

    def by_log_rates(self, spectrum: torch.Tensor, log_rates: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The derivative of sum_S weights_S lambda_S by the logarithms of the rates, (E, L)."""
        weighted = spectrum * (weights - (weights * spectrum).sum(dim=1, keepdim=True))
        return -log_rates.exp() * (weighted @ self._members)

    def transform(self, values: torch.Tensor) -> torch.Tensor:
        """Walsh-Hadamard transform: H values, H its own inverse but for the factor 2^L."""
        shape, block = values.shape, 1
        for matrix in self._matrices:
            size = len(matrix)
            values = values.reshape(-1, size) @ matrix if block == 1 else matrix @ values.reshape(-1, size, block)
            block *= size
        return values.reshape(shape)

    def product(self, spectrum: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """K values."""
        return self.transform(spectrum * self.transform(values))


def _error_and_gradient(
    cube: _Cube, logs: torch.Tensor, measured: _Cells, choosing: _Cells, alpha: torch.Tensor, beta: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean squared validation error (E,), the derivative of its logarithm by `logs` (E, L + 1), alpha and beta.

    alpha and beta of the step before are where the solutions begin.
    """
    spectrum, penalty = cube.spectrum(logs[:, :-1]), logs[:, -1:].exp()
    alpha = _solve(cube, spectrum, penalty, measured, measured.mean, alpha, _ROUGHLY)
    of_alpha = cube.transform(alpha)
    wrong = cube.transform(spectrum * of_alpha) - choosing.mean
    counted = choosing.number / choosing.number.sum(dim=1, keepdim=True)
    # What the samples of one genotype differ by is no error of f; a constant, which matters to no choice.
    error = (counted * wrong**2).sum(dim=1)
    q = 2 * counted * wrong
    beta = _solve(cube, spectrum, penalty, measured, cube.product(spectrum, q), beta, _ROUGHLY)
    by_rates = cube.by_log_rates(spectrum, logs[:, :-1], cube.transform(q - beta) * of_alpha)
    by_penalty = -penalty * (beta * alpha / measured.number.clamp_min(1)).sum(dim=1, keepdim=True)
    return error, torch.cat([by_rates, by_penalty], dim=1) / error.clamp_min(1e-12)[:, None], alpha, beta


def _solve(
    cube: _Cube,
    spectrum: torch.Tensor,
    penalty: torch.Tensor,
    measured: _Cells,
    right: torch.Tensor,
    start: torch.Tensor,
    tolerance: float,
) -> torch.Tensor:
    """(K + penalty / n)^-1 right on the measured genotypes of each environment, 0 elsewhere; residual by tolerance."""
    mask = (measured.number > 0).to(right.dtype)
    noise = penalty * mask / measured.number.clamp_min(1)
    right = right * mask
    solved = start.clone()
    residual = right - mask * cube.product(spectrum, solved) - noise * solved
    goal = tolerance**2 * (right**2).sum(dim=1)
    direction, squares = residual.clone(), (residual**2).sum(dim=1)
    for _ in range(_MOST_ITERATIONS):
        active = squares > goal
        if not bool(active.any()):
            break
        image = mask * cube.product(spectrum, direction) + noise * direction
        curvature = (direction * image).sum(dim=1)
        length = torch.where(active, squares / curvature.clamp_min(1e-30), 0.0)[:, None]
        solved = solved + length * direction
        residual = residual - length * image
        following = (residual**2).sum(dim=1)
        direction = residual + (following / squares.clamp_min(1e-30))[:, None] * direction
        squares = following
    return solved


def _number(x: NDArray[np.float64]) -> NDArray[np.intp]:
    """The rows of the table of all genotypes that coded genotypes (N, L) stand for."""
    return ((x > 0).astype(np.intp) << np.arange(x.shape[1])).sum(axis=1)
