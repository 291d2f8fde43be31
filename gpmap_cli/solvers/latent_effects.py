"""Additive effects on a latent trait, fitted through the least-squares monotone curve from it to the phenotype.

Objective of one environment with phenotype y (standardised), genotypes x (n samples x L loci, coded) and row weights
r (mean 1):

    F(w) = min over h of [sum_i r_i (y_i - h(t_i))^2 + roughness of h] + penalty * |w|^2,    t_i = (x_i - mean(x)) . w,

with h and its roughness as in `monotone_curve`. The curve is solved for exactly at every w (variable projection), so
F has the gradient of the bracket at the best h. The mean slope of h is 1, which settles the scale of w: an effect in
w is then an average effect on the phenotype, and ridge regression is the limit of a straight h.

w is sought in the principal coordinates v of the genotypes, from the eigenvectors of Xc' R Xc (n >= L) or of
R^(1/2) Xc Xc' R^(1/2) (n < L), where the curvature is close to 2 (eigenvalue + penalty). L-BFGS with that as its first
guess needs some ten steps; one step reads the genotypes twice, in row blocks (n >= L), or costs n^2 (n < L). Golub
and Pereyra 1973; Nocedal and Wright 2006, chapter 7.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.solvers.monotone_curve import CurveBasis, FittedCurve
from gpmap_cli.solvers.ridge import centred_loci, coded_blocks

_PATH_EXPONENTS = np.linspace(-5, 5, 61)
_MEMORY = 12
_MOST_STEPS = 300
_MOST_TRIALS = 30
# Armijo's and Wolfe's constants.
_DECREASE, _FLATTER = 1e-4, 0.5


class Coordinates(ABC):
    """Principal coordinates v (q,) of effects w (L,): |v| = |w|.

    values (q,): the eigenvalues. mean (L,): of the coded genotypes, rows weighted.
    """

    values: NDArray[np.float64]
    mean: NDArray[np.float64]

    @abstractmethod
    def latent(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """t = Xc w, (n,)."""

    @abstractmethod
    def pull(self, by_sample: NDArray[np.float64]) -> NDArray[np.float64]:
        """The derivative in v (q,) of what has this derivative in t (n,)."""

    @abstractmethod
    def effects(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """w, (L,)."""

    @abstractmethod
    def rotated(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """sqrt(r_i) dt_i / dv of the samples in blocks of rows, (rows, q)."""


class _ByLocus(Coordinates):
    """n >= L: v = V' w with Xc' R Xc = V S V'."""

    def __init__(self, genotypes: CodedGenotypes, weights: NDArray[np.float64], device: str) -> None:
        num_loci = genotypes.num_loci
        self._genotypes, self._device = genotypes, device
        self._root = torch.from_numpy(np.sqrt(weights)).to(device)[:, None]
        total = torch.zeros(num_loci, dtype=torch.float64, device=device)
        gram = torch.zeros(num_loci, num_loci, dtype=torch.float64, device=device)
        for rows, block in coded_blocks(genotypes, device):
            weighted = block * self._root[rows]
            total.addmv_(weighted.T, self._root[rows, 0])
            gram.addmm_(weighted.T, weighted)
        self._mean = total / weights.sum()
        gram -= weights.sum() * torch.outer(self._mean, self._mean)
        values, self._vectors = torch.linalg.eigh(gram)
        self.values, self.mean = values.clamp_min(0).cpu().numpy(), self._mean.cpu().numpy()

    def latent(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        weights = self._vectors @ torch.from_numpy(v).to(self._device)
        shift = self._mean @ weights
        blocks = [block @ weights - shift for _, block in coded_blocks(self._genotypes, self._device)]
        return torch.cat(blocks).cpu().numpy()

    def pull(self, by_sample: NDArray[np.float64]) -> NDArray[np.float64]:
        given = torch.from_numpy(by_sample).to(self._device)
        pulled = -self._mean * given.sum()
        for rows, block in coded_blocks(self._genotypes, self._device):
            pulled.addmv_(block.T, given[rows])
        return (self._vectors.T @ pulled).cpu().numpy()

    def effects(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        return (self._vectors @ torch.from_numpy(v).to(self._device)).cpu().numpy()

    def rotated(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        for rows, block in coded_blocks(self._genotypes, self._device):
            yield rows, (((block - self._mean) * self._root[rows]) @ self._vectors).cpu().numpy()


class _BySample(Coordinates):
    """n < L: w = Xc' R^(1/2) U S^(-1/2) v with R^(1/2) Xc Xc' R^(1/2) = U S U'.

    Directions without variance have no effect.
    """

    def __init__(self, genotypes: CodedGenotypes, weights: NDArray[np.float64], device: str) -> None:
        self._genotypes, self._device = genotypes, device
        self._root = torch.from_numpy(np.sqrt(weights)).to(device)
        total = torch.zeros(genotypes.num_loci, dtype=torch.float64, device=device)
        for rows, block in coded_blocks(genotypes, device):
            total.addmv_(block.T, self._root[rows] ** 2)
        self._mean = total / weights.sum()
        self.mean = self._mean.cpu().numpy()
        kernel = torch.zeros(len(weights), len(weights), dtype=torch.float64, device=device)
        for _, centred in centred_loci(genotypes, self._mean, device):
            centred *= self._root[:, None]
            kernel.addmm_(centred, centred.T)
        values, self._vectors = torch.linalg.eigh(kernel)
        values = torch.where(values > 1e-10 * values.max(), values, 0.0).clamp_min(0)
        self._sizes = values.sqrt()
        self.values = values.cpu().numpy()

    def latent(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        return ((self._vectors @ (self._sizes * torch.from_numpy(v).to(self._device))) / self._root).cpu().numpy()

    def pull(self, by_sample: NDArray[np.float64]) -> NDArray[np.float64]:
        given = torch.from_numpy(by_sample).to(self._device) / self._root
        return (self._sizes * (self._vectors.T @ given)).cpu().numpy()

    def effects(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        inverse = torch.where(self._sizes > 0, 1 / self._sizes.clamp_min(1e-300), 0.0)
        alpha = self._root * (self._vectors @ (inverse * torch.from_numpy(v).to(self._device)))
        parts = [block.T @ alpha for _, block in centred_loci(self._genotypes, self._mean, self._device)]
        return torch.cat(parts).cpu().numpy()

    def rotated(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        yield slice(None), (self._vectors * self._sizes).cpu().numpy()


def principal_coordinates(genotypes: CodedGenotypes, weights: NDArray[np.float64], device: str) -> Coordinates:
    """The coordinates in which effects on samples with these row weights (n,) are sought; n L min(n, L) once."""
    return (_ByLocus if len(genotypes) >= genotypes.num_loci else _BySample)(genotypes, weights, device)


def leave_one_out_penalty(
    coordinates: Coordinates, phenotype: NDArray[np.float64], weights: NDArray[np.float64]
) -> float:
    """The ridge penalty with the least weighted leave-one-out error, of those at steps of a sixth power of ten."""
    total = weights.sum()
    scale = float(coordinates.values.sum()) / total
    path = (scale if scale > 0 else 1.0) * 10.0**_PATH_EXPONENTS
    centred = phenotype - weights @ phenotype / total
    inverse = 1 / (coordinates.values[:, None] + path)  # (q, P)
    solutions = inverse * coordinates.pull(weights * centred)[:, None]
    roots, errors = np.sqrt(weights), np.zeros(len(path))
    for rows, z in coordinates.rotated():
        leverage = (weights[rows] / total)[:, None] + z**2 @ inverse
        residual = (roots[rows] * centred[rows])[:, None] - z @ solutions
        errors += ((residual / np.maximum(1 - leverage, 1e-12)) ** 2).sum(axis=0)
    return float(path[np.argmin(errors)])


@dataclass(frozen=True)
class Fit:
    """Effects v (q,) that minimise the objective, their latent trait t (n,), and the curve; None: h(t) = t + constant.

    `intercept` is that constant. `converged`: no step promises to lower the objective by more than the tolerance.
    """

    v: NDArray[np.float64]
    latent: NDArray[np.float64]
    curve: FittedCurve | None
    intercept: float
    converged: bool
    num_steps: int

    def slopes(self) -> NDArray[np.float64]:
        """h'(t_i), (n,)."""
        return np.ones(len(self.latent)) if self.curve is None else self.curve.slope

    def fitted(self) -> NDArray[np.float64]:
        """h(t_i), (n,)."""
        return self.latent + self.intercept if self.curve is None else self.curve.fitted


@dataclass(frozen=True)
class Objective:
    """What is minimised over v, for phenotypes and row weights (n,). basis None: the curve is straight."""

    coordinates: Coordinates
    phenotype: NDArray[np.float64]
    weights: NDArray[np.float64]
    penalty: float
    basis: CurveBasis | None = None
    smoothness: float = 0.0

    def at(self, latent: NDArray[np.float64], v: NDArray[np.float64]) -> tuple[float, NDArray[np.float64], Fit]:
        """The objective, its derivative in t (without the penalty's), and the curve that is best at this v."""
        intercept, curve, roughness = 0.0, None, 0.0
        if self.basis is None:
            intercept = float(self.weights @ (self.phenotype - latent) / self.weights.sum())
        else:
            curve = self.basis.fit(latent, self.phenotype, self.weights, self.smoothness)
            roughness = curve.penalty
        fit = Fit(v, latent, curve, intercept, False, 0)
        residual = self.weights * (self.phenotype - fit.fitted())
        value = float(residual @ (self.phenotype - fit.fitted())) + roughness + self.penalty * float(v @ v)
        return value, -2 * residual * fit.slopes(), fit

    def gradient(self, by_latent: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        """The derivative in v, (q,)."""
        return self.coordinates.pull(by_latent) + 2 * self.penalty * v

    def minimise(self, v: NDArray[np.float64], tolerance: float) -> Fit:
        """L-BFGS from v, until it promises less than tolerance * sum_i r_i (y_i - mean)^2."""
        mean = self.weights @ self.phenotype / self.weights.sum()
        enough = tolerance * float(self.weights @ (self.phenotype - mean) ** 2)
        value, by_latent, fit = self.at(self.coordinates.latent(v), v)
        gradient = self.gradient(by_latent, v)
        curvature = 2 * (self.coordinates.values * float(np.mean(self.weights * fit.slopes() ** 2)) + self.penalty)
        memory: deque[tuple[NDArray, NDArray]] = deque(maxlen=_MEMORY)
        for step in range(_MOST_STEPS):
            if float(gradient**2 @ (1 / curvature)) <= 2 * enough:
                return replace(fit, converged=True, num_steps=step)
            direction = -_inverse_times(memory, curvature, gradient)
            found = self._along(fit, direction, value, float(gradient @ direction))
            if found is None:  # as flat as rounding allows
                near = float(gradient**2 @ (1 / curvature)) <= 1e3 * max(enough, 1e-12 * value)
                return replace(fit, converged=near, num_steps=step)
            value, by_latent, new = found
            new_gradient = self.gradient(by_latent, new.v)
            change, rise = new.v - fit.v, new_gradient - gradient
            if float(change @ rise) > 1e-14 * float(np.linalg.norm(change) * np.linalg.norm(rise)):
                memory.append((change, rise))
            fit, gradient = new, new_gradient
        return replace(fit, num_steps=_MOST_STEPS)

    def _along(
        self, fit: Fit, direction: NDArray[np.float64], value: float, descent: float
    ) -> tuple[float, NDArray[np.float64], Fit] | None:
        """A step along the direction that falls enough and ends where it is flatter, by bisection."""
        latent = self.coordinates.latent(direction)
        low, high, length = 0.0, np.inf, 1.0
        best = None
        for _ in range(_MOST_TRIALS):
            v = fit.v + length * direction
            trial = self.at(fit.latent + length * latent, v)
            if trial[0] > value + _DECREASE * length * descent:
                high = length
            else:
                best = trial
                if float(trial[1] @ latent) + 2 * self.penalty * float(v @ direction) >= _FLATTER * descent:
                    break
                low = length
            length = 2 * low if high == np.inf else (low + high) / 2
        return best


def _inverse_times(
    memory: deque[tuple[NDArray, NDArray]], curvature: NDArray[np.float64], gradient: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The inverse Hessian, as far as the last steps tell, times the gradient (the two-loop recursion)."""
    left = gradient.copy()
    shares = []
    for change, rise in reversed(memory):
        share = float(change @ left) / float(change @ rise)
        shares.append(share)
        left -= share * rise
    if memory:
        change, rise = memory[-1]
        left *= float(change @ rise) / float(rise @ (rise / curvature))
    left /= curvature
    for (change, rise), share in zip(memory, reversed(shares), strict=True):
        left += (share - float(rise @ left) / float(change @ rise)) * change
    return left
