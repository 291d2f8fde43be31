"""A ridge problem with weights, missing phenotypes and an intercept, as a plain least-squares problem per environment.

For environment e with weights d (n = sum d, 0 where the phenotype is missing), s = sqrt(d) and q = s / |s|:

    sum_i d_i (y_i - b - x_i . w)^2 + penalty |w|^2  at the best b  =  |t - A w|^2 + penalty |w|^2,
    A = (I - q q') diag(s) X,    t = (I - q q') diag(s) y,    b = mean_d(y) - mean_d(x) . w.

A is never formed. The penalty is the ratio of the residual variance to the variance of one effect; penalties are tried
in multiples of trace(A'A) / n, at which the additive variance equals the residual's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.solvers.allele_counts import AlleleCounts

# Penalties are tried from additive variance = 10^5 times the residual's down to 10^-5 of it.
PATH_EXPONENTS = np.linspace(-5, 5, 61)


@dataclass(frozen=True)
class RidgeSolution:
    """weights (L, E), intercept (E,), penalty (E,), std_error (L, E) of the weights, and the route by which it came."""

    weights: NDArray[np.float64]
    intercept: NDArray[np.float64]
    penalty: NDArray[np.float64]
    std_error: NDArray[np.float64]
    route: str


@dataclass(frozen=True)
class Group:
    """Environments (columns) that give every sample the same weight, which share a factorisation.

    rows: (n,) the samples with a weight; root_weights s: (N,) of all samples; is_weighted: not 0 and 1 alone.
    """

    columns: NDArray[np.intp]
    rows: torch.Tensor
    root_weights: torch.Tensor
    is_weighted: bool


class RidgeProblem:
    """Genotypes (N, L), phenotypes (N, E) with NaN where missing, and weights (N, E), 0 there.

    d: (N, E) weights; y: (N, E) phenotypes minus their weighted mean, 0 where missing; num_samples: (E,) sum of d.
    Costs one reading of the genotypes, 2 N L E.
    """

    def __init__(
        self, genotypes: CodedGenotypes, phenotypes: NDArray[np.float64], weights: NDArray[np.float64], device: str
    ) -> None:
        self.counts = AlleleCounts(genotypes, device)
        self.device = device
        self._weights = weights
        known = weights > 0
        y = np.where(known, phenotypes, 0.0)
        self.phenotype_mean = (weights * y).sum(axis=0) / weights.sum(axis=0)
        self.d = torch.from_numpy(weights).to(device)
        self.y = torch.from_numpy(np.where(known, y - self.phenotype_mean, 0.0)).to(device)
        self.num_samples = self.d.sum(dim=0)
        self.total = (self.d * self.y**2).sum(dim=0)  # |t|^2
        num_environments = y.shape[1]
        # A't and the mean counts; sums over centred phenotypes need no correction for the mean.
        sums = self.counts.transposed_times(torch.cat([self.d, self.d * self.y], dim=1))
        self.mean_counts = sums[:, :num_environments] / self.num_samples  # (L, E)
        self.product = self.counts.scale * sums[:, num_environments:]  # (L, E)

    def groups(self) -> list[Group]:
        """Environments by their weights."""
        columns: dict[bytes, list[int]] = {}
        for column in range(self._weights.shape[1]):
            columns.setdefault(self._weights[:, column].tobytes(), []).append(column)
        found = []
        for same in columns.values():
            weights = self._weights[:, same[0]]
            found.append(
                Group(
                    np.array(same),
                    torch.from_numpy(np.flatnonzero(weights)).to(self.device),
                    torch.from_numpy(np.sqrt(weights)).to(self.device),
                    bool(((weights != 0) & (weights != 1)).any()),
                )
            )
        return found

    def intercept(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """b of every environment, (E,), for effects (L, E) on coded genotypes."""
        columns = range(weights.shape[1])
        return np.array([float(self.intercept_at(column, weights[:, [column]])[0]) for column in columns])

    def intercept_at(self, column: int, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """b in one environment, (C,), for each of C vectors of effects (L, C)."""
        mean = self.counts.scale * self.mean_counts[:, column].cpu().numpy() + self.counts.shift
        return self.phenotype_mean[column] - mean @ weights


def best_penalty(path: NDArray, errors: NDArray) -> float:
    """The penalty with the least error, between the path's points by a parabola in its logarithm."""
    best = int(np.argmin(errors))
    if 0 < best < len(path) - 1:
        left, middle, right = errors[best - 1 : best + 2]
        bend = left - 2 * middle + right
        shift = 0.5 * (left - right) / bend if bend > 0 else 0.0
        step = np.log(path[best + 1] / path[best])
        return float(path[best] * np.exp(np.clip(shift, -1, 1) * step))
    return float(path[best])


def restricted_likelihood(quadratic: torch.Tensor, log_det: torch.Tensor, num_samples: torch.Tensor) -> torch.Tensor:
    """-2 log REML (Patterson and Thompson 1971), up to a constant, with the residual variance at its best.

    quadratic: t'(I + AA'/penalty)^-1 t; log_det: log det(I + AA'/penalty).
    """
    freedom = (num_samples - 1).clamp_min(1)
    return freedom * (quadratic / freedom).clamp_min(1e-300).log() + log_det


def scale_of(trace: float, num_samples: float) -> float:
    """The penalty at which additive and residual variance are equal; 1 where the loci have no variance at all."""
    return trace / num_samples if trace > 1e-12 * num_samples else 1.0
