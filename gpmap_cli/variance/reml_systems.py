"""What restricted maximum likelihood asks of a mixed model, computed among samples or among effects.

y = mean + sum_k g_k + e, V = sum_k theta_k K_k + theta_e I, K_k = F_k F_k' with the features F_k of epistasis order k
(centred products of centred loci), P = V^-1 - V^-1 1 (1' V^-1 1)^-1 1' V^-1. `AmongSamples` holds the n x n kernels;
`AmongEffects` holds a root R of F'F = R R' (p x p) for all p features and nothing of size n: with
D = diag(theta of each feature), F'y = R c and S = theta_e I + R' D R, F'Py = R S^-1 c, F'PF = R S^-1 R'.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.solvers.epistasis_kernels import EpistasisKernels
from gpmap_cli.solvers.ridge import coded_blocks


@dataclass(frozen=True)
class Realised:
    """E[g_k' C g_k | y] / (n - 1) of each component, (C,), residual last, and its posterior variance."""

    values: NDArray[np.float64]
    spread: NDArray[np.float64]


class Point(Protocol):
    """The model at one theta."""

    @property
    def likelihood(self) -> float: ...

    def derivatives(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Score (C,) and average information (C, C)."""

    def realised(self, with_spread: bool) -> Realised: ...


class System(Protocol):
    """The data of one environment."""

    total: float  # the variance of y

    def at(self, theta: NDArray[np.float64]) -> Point | None:
        """None where V is not positive definite."""


class AmongSamples:
    """Kernels of n samples; about 10 n^3 multiply-adds for a maximum and (orders + 4) n^2 numbers."""

    def __init__(self, kernels: list[torch.Tensor], y: torch.Tensor) -> None:
        self.kernels, self.y = kernels, y - y.mean()
        self.freedom = max(len(y) - 1, 1)
        self.total = float(self.y @ self.y) / self.freedom

    def at(self, theta: NDArray[np.float64]) -> Point | None:
        covariance = torch.zeros_like(self.kernels[0])
        for value, kernel in zip(theta, self.kernels, strict=False):
            covariance.add_(kernel, alpha=float(value))
        covariance.diagonal().add_(float(theta[-1]))
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if int(failed):
            return None
        projection = torch.cholesky_inverse(factor)
        of_mean = projection.sum(dim=1)
        weight = of_mean.sum()
        projection.addr_(of_mean, of_mean, alpha=-1 / float(weight))
        projected = projection @ self.y
        log_det = 2 * factor.diagonal().log().sum() + weight.log()
        return _SamplesPoint(self, theta, projection, projected, -0.5 * float(log_det + self.y @ projected))


@dataclass(frozen=True)
class _SamplesPoint:
    system: AmongSamples
    theta: NDArray[np.float64]
    projection: torch.Tensor  # P (n, n)
    projected: torch.Tensor  # P y (n,)
    likelihood: float

    def derivatives(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        kernels = self.system.kernels
        vectors = [kernel @ self.projected for kernel in kernels] + [self.projected]
        traces = [float((self.projection * kernel).sum()) for kernel in kernels] + [float(self.projection.trace())]
        score = [0.5 * (float(self.projected @ v) - trace) for v, trace in zip(vectors, traces, strict=True)]
        stacked = torch.stack(vectors, dim=1)
        return np.array(score), (0.5 * stacked.T @ (self.projection @ stacked)).cpu().numpy()

    def realised(self, with_spread: bool) -> Realised:
        values, spread = np.empty(len(self.theta)), np.zeros(len(self.theta))
        for k, value in enumerate(map(float, self.theta)):
            if k < len(self.system.kernels):
                kernel = self.system.kernels[k]
                mean = value * (kernel @ self.projected)
                posterior = value * kernel - value**2 * (kernel @ (self.projection @ kernel))
            else:
                mean = value * self.projected
                posterior = -(value**2) * self.projection
                posterior.diagonal().add_(value)
            mean = mean - mean.mean()
            posterior = posterior - posterior.mean(dim=0, keepdim=True)
            posterior = posterior - posterior.mean(dim=1, keepdim=True)
            values[k] = float(mean @ mean) + float(posterior.trace())
            if with_spread:
                spread[k] = 2 * float((posterior * posterior.T).sum()) + 4 * float(mean @ posterior @ mean)
        return Realised(values / self.system.freedom, spread / self.system.freedom**2)


class AmongEffects:
    """Sums over samples of all p features of order 1 to `max_order`; about 5 p^3 multiply-adds for each step.

    root (p, p): R with R R' = F'F; product (p,): c with R c = F'y; components: for each order the places of its
    features; squares: y'y.
    """

    def __init__(
        self, root: torch.Tensor, product: torch.Tensor, squares: float, components: list[slice], num_samples: int
    ) -> None:
        self.root, self.product, self.squares, self.components = root, product, squares, components
        self.freedom = max(num_samples - 1, 1)
        self.total = squares / self.freedom

    def at(self, theta: NDArray[np.float64]) -> Point | None:
        diagonal = torch.empty_like(self.product)
        for value, places in zip(theta, self.components, strict=False):
            diagonal[places] = float(value)
        noise = float(theta[-1])
        if noise <= 0:
            return None
        system = self.root.T @ (self.root * diagonal[:, None])
        system.diagonal().add_(noise)
        factor, failed = torch.linalg.cholesky_ex(system)
        if int(failed):
            return None
        log_det = 2 * float(factor.diagonal().log().sum()) + (self.freedom - len(system)) * math.log(noise)
        once = torch.cholesky_solve(self.product[:, None], factor)
        projected = (self.root @ once)[:, 0]
        explained = float(self.product @ (self.root.T @ (diagonal * projected)))
        quadratic = (self.squares - explained) / noise
        return _EffectsPoint(self, theta, diagonal, factor, once, projected, -0.5 * (log_det + quadratic))


@dataclass(frozen=True)
class _EffectsPoint:
    system: AmongEffects
    theta: NDArray[np.float64]
    diagonal: torch.Tensor  # D
    factor: torch.Tensor  # Cholesky factor of S
    once: torch.Tensor  # S^-1 c (p, 1)
    projected: torch.Tensor  # F' P y (p,)
    likelihood: float

    def _noise_sums(self, between: torch.Tensor) -> tuple[float, float]:
        """|P y|^2 and tr P."""
        noise, system = float(self.theta[-1]), self.system
        shrunk = system.root.T @ (self.diagonal * self.projected)
        squares = system.squares - 2 * float(system.product @ shrunk) + float(shrunk @ shrunk)
        return squares / noise**2, (system.freedom - float(self.diagonal @ between.diagonal())) / noise

    def _between(self) -> torch.Tensor:
        """F' P F (p, p)."""
        half = torch.linalg.solve_triangular(self.factor, self.system.root.T, upper=False)
        return half.T @ half

    def _twice(self) -> torch.Tensor:
        """F' P P y (p,)."""
        return (self.system.root @ torch.cholesky_solve(self.once, self.factor))[:, 0]

    def derivatives(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        noise, size = float(self.theta[-1]), len(self.theta)
        between, twice = self._between(), self._twice()
        squares, trace = self._noise_sums(between)
        score = np.empty(size)
        information = np.empty((size, size))
        for k, places in enumerate(self.system.components):
            part = self.projected[places]
            score[k] = float(part @ part) - float(between[places, places].trace())
            for m, others in enumerate(self.system.components):
                information[k, m] = float(part @ between[places, others] @ self.projected[others])
            information[k, -1] = information[-1, k] = float(part @ twice[places])
        score[-1] = squares - trace
        information[-1, -1] = (squares - float(self.projected @ (self.diagonal * twice))) / noise
        return 0.5 * score, 0.25 * (information + information.T)

    def realised(self, with_spread: bool) -> Realised:
        size, noise = len(self.theta), float(self.theta[-1])
        values, spread = np.empty(size), np.zeros(size)
        between = self._between()
        for k, places in enumerate(self.system.components):
            value = float(self.theta[k])
            own, mean = self.system.root[places] @ self.system.root[places].T, value * self.projected[places]
            posterior = -(value**2) * between[places, places]
            posterior.diagonal().add_(value)
            weighted = own @ posterior
            values[k] = float(mean @ own @ mean) + float(weighted.trace())
            if with_spread:
                spread[k] = 2 * float((weighted * weighted.T).sum()) + 4 * float(mean @ weighted @ own @ mean)
        squares, trace = self._noise_sums(between)
        values[-1] = noise**2 * (squares - trace) + noise * self.system.freedom
        if with_spread:
            # theta_e I - theta_e^2 P = theta_e F D A F', A = (theta_e I + F'F D)^-1; D A F'F = D F'PF
            explained = noise * self.diagonal[:, None] * between
            along = noise * float(self.projected @ (self.diagonal * self._twice()))
            spread[-1] = 2 * float((explained * explained.T).sum()) + 4 * noise**2 * along
        return Realised(values / self.system.freedom, spread / self.system.freedom**2)


def num_features(num_loci: int, max_order: int) -> int:
    """All sets of up to `max_order` loci."""
    return sum(math.comb(num_loci, order) for order in range(1, max_order + 1))


def feature_sums(
    genotypes: CodedGenotypes, phenotypes: NDArray[np.float64], max_order: int, device: str
) -> list[AmongEffects]:
    """The systems among effects of several environments measured in the same samples, phenotypes (n, E')."""
    kernels = EpistasisKernels.learn(genotypes, max_order, device)
    num_loci, num_samples = genotypes.num_loci, len(genotypes)
    sets = [
        torch.tensor(list(itertools.combinations(range(num_loci), order)), device=device).reshape(-1, order)
        for order in range(1, max_order + 1)
    ]
    scale = torch.cat(
        [torch.full((len(part),), float(s) ** -0.5) for part, s in zip(sets, kernels.scales, strict=True)]
    )
    size = len(scale)
    gram = torch.zeros(size, size, dtype=torch.float64, device=device)
    total = torch.zeros(size, dtype=torch.float64, device=device)
    y = torch.from_numpy(phenotypes - phenotypes.mean(axis=0)).to(device)
    product = torch.zeros(size, y.shape[1], dtype=torch.float64, device=device)
    for rows, x in coded_blocks(genotypes, device):
        z = x - kernels.mean
        features = torch.cat([z[:, part].prod(dim=2) for part in sets], dim=1) * scale.to(device)
        gram.addmm_(features.T, features)
        product.addmm_(features.T, y[rows])
        total += features.sum(dim=0)
    gram.addr_(total, total, alpha=-1 / num_samples)
    ends = list(itertools.accumulate(len(part) for part in sets))
    components = [slice(end - len(part), end) for end, part in zip(ends, sets, strict=True)]
    squares = (y**2).sum(dim=0)
    values, vectors = torch.linalg.eigh(gram)
    is_there = values > 1e-10 * values[-1].clamp_min(1e-300)
    size_of_root = values.clamp_min(0).sqrt()
    root = vectors * size_of_root
    product = torch.where(is_there[:, None], (vectors.T @ product) / size_of_root.clamp_min(1e-300)[:, None], 0.0)
    return [
        AmongEffects(root, product[:, e].contiguous(), float(squares[e]), components, num_samples)
        for e in range(y.shape[1])
    ]
