"""The mixed model of `reml_systems` among effects: with sums over samples of all p features, and nothing of size n.

With the features F (the sums F_k 1 last), W = R^-1, a root T of F'WF (less what X explains under W) = T T',
D = diag(theta of each feature, c of each sum), F'Wy = T c and S = theta_e I + T' D T:
F'Py = T S^-1 c, F'PF = T S^-1 T', and the effects given the data have mean D F'Py and covariance D - D F'PF D.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.solvers.epistasis_kernels import EpistasisKernels
from gpmap_cli.solvers.ridge import coded_blocks
from gpmap_cli.variance.fixed_basis import fixed_basis, without
from gpmap_cli.variance.reml_systems import Point, Realised, wide_prior


@dataclass(frozen=True)
class FeatureSums:
    """F'F and F'y of features and phenotypes less what X explains of them, and y'y."""

    gram: torch.Tensor
    product: torch.Tensor
    squares: float


class AmongEffects:
    """One environment; about 5 p^3 multiply-adds for each step.

    weighted: sums under W and less X under W; plain: unweighted. components: for each order the places of its
    features; the sums of features come after them all, in the same order. freedom: n - rank X.
    """

    def __init__(self, weighted: FeatureSums, plain: FeatureSums, components: list[slice], freedom: int) -> None:
        self.plain, self.components, self.freedom = plain, components, freedom
        self.squares = weighted.squares
        self.total = plain.squares / freedom
        values, vectors = torch.linalg.eigh(weighted.gram)
        is_there = values > 1e-10 * values[-1].clamp_min(1e-300)
        size_of_root = values.clamp_min(0).sqrt()
        self.root = vectors * size_of_root  # T
        self.product = torch.where(is_there, (vectors.T @ weighted.product) / size_of_root.clamp_min(1e-300), 0.0)  # c
        first_sum = components[-1].stop
        sizes = plain.gram.diagonal()[first_sum:].tolist()
        self.wide = [wide_prior(plain.squares, size) for size in sizes]
        blocks = [weighted.gram[places, places] for places in components]
        self.largest = [float((block @ block).norm()) ** 0.5 for block in blocks]

    def places(self, k: int) -> torch.Tensor:
        """Of the features of a component and of their sum."""
        own, first_sum = self.components[k], self.components[-1].stop
        return torch.tensor([*range(own.start, own.stop), first_sum + k], device=self.root.device)

    def at(self, theta: NDArray[np.float64]) -> Point | None:
        diagonal = torch.empty_like(self.product)
        for value, places in zip(theta, self.components, strict=False):
            diagonal[places] = float(value)
        diagonal[self.components[-1].stop :] = torch.tensor(self.wide, dtype=diagonal.dtype, device=diagonal.device)
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

    def _between(self) -> torch.Tensor:
        """F' P F (p, p)."""
        half = torch.linalg.solve_triangular(self.factor, self.system.root.T, upper=False)
        return half.T @ half

    def derivatives(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        noise, size, system = float(self.theta[-1]), len(self.theta), self.system
        between = self._between()
        twice = (system.root @ torch.cholesky_solve(self.once, self.factor))[:, 0]  # F' P R P y
        shrunk = system.root.T @ (self.diagonal * self.projected)
        squares = (system.squares - 2 * float(system.product @ shrunk) + float(shrunk @ shrunk)) / noise**2
        trace = (system.freedom - float(self.diagonal @ between.diagonal())) / noise  # of P R
        score = np.empty(size)
        information = np.empty((size, size))
        for k, places in enumerate(system.components):
            part = self.projected[places]
            score[k] = float(part @ part) - float(between[places, places].trace())
            for m, others in enumerate(system.components):
                information[k, m] = float(part @ between[places, others] @ self.projected[others])
            information[k, -1] = information[-1, k] = float(part @ twice[places])
        score[-1] = squares - trace
        information[-1, -1] = (squares - float(self.projected @ (self.diagonal * twice))) / noise
        return 0.5 * score, 0.25 * (information + information.T)

    def realised(self, with_spread: bool) -> Realised:
        size, system, plain = len(self.theta), self.system, self.system.plain
        values, spread = np.empty(size), np.zeros(size)
        mean = self.diagonal * self.projected
        posterior = self.diagonal[:, None] * self._between() * -self.diagonal
        posterior.diagonal().add_(self.diagonal)
        for k in range(size - 1):
            places = system.places(k)
            own, covariance = plain.gram[places[:, None], places], posterior[places[:, None], places]
            effects = mean[places]
            values[k] = float(effects @ own @ effects) + float((own * covariance).sum())
            if with_spread:
                spread[k] = _spread(own @ covariance, covariance, own @ effects)
        # What is left over, M e = M y - M F effects.
        image = plain.gram @ mean
        squares = plain.squares - 2 * float(mean @ plain.product) + float(mean @ image)
        values[-1] = squares + float((plain.gram * posterior).sum())
        if with_spread:
            spread[-1] = _spread(plain.gram @ posterior, posterior, plain.product - image)
        return Realised(values / system.freedom, spread / system.freedom**2)


def _spread(weighted: torch.Tensor, covariance: torch.Tensor, slope: torch.Tensor) -> float:
    """The variance of a quadratic form in normal effects: 2 tr(G C G C) + 4 s'C s, weighted = G C."""
    return 2 * float((weighted * weighted.T).sum()) + 4 * float(slope @ covariance @ slope)


def num_features(num_loci: int, max_order: int) -> int:
    """All sets of up to `max_order` loci."""
    return sum(math.comb(num_loci, order) for order in range(1, max_order + 1))


def effect_systems(
    genotypes: CodedGenotypes,
    phenotypes: NDArray[np.float64],
    max_order: int,
    device: str,
    covariates: NDArray[np.float64],
    noise: NDArray[np.float64],
) -> list[AmongEffects]:
    """The systems among effects of several environments measured in the same samples.

    phenotypes, noise: (n, E'), the latter the diagonals of R.
    """
    kernels = EpistasisKernels.learn(genotypes, max_order, device)
    sets = [
        torch.tensor(list(itertools.combinations(range(genotypes.num_loci), order)), device=device).reshape(-1, order)
        for order in range(1, max_order + 1)
    ]
    ends = list(itertools.accumulate(len(part) for part in sets))
    components = [slice(end - len(part), end) for end, part in zip(ends, sets, strict=True)]
    basis = fixed_basis(covariates)
    plain = _feature_sums(genotypes, phenotypes, kernels, sets, basis, np.ones(len(genotypes)))
    freedom = max(len(genotypes) - basis.shape[1], 1)
    systems = []
    for e, sums in enumerate(plain):
        weighted = sums
        if (noise[:, e] != 1).any():
            roots = noise[:, e] ** -0.5
            under_weights = np.linalg.qr(roots[:, None] * basis)[0]
            (weighted,) = _feature_sums(genotypes, phenotypes[:, e : e + 1], kernels, sets, under_weights, roots)
        systems.append(AmongEffects(weighted, sums, components, freedom))
    return systems


def _feature_sums(
    genotypes: CodedGenotypes,
    phenotypes: NDArray[np.float64],
    kernels: EpistasisKernels,
    sets: list[torch.Tensor],
    basis: NDArray[np.float64],
    root_weights: NDArray[np.float64],
) -> list[FeatureSums]:
    """Sums of all features and their sums by order, and of phenotypes (n, E'), times `root_weights` (n,).

    basis: (n, r) what is taken away after the weighting.
    """
    device = str(kernels.mean.device)
    size = sum(map(len, sets)) + len(sets)
    gram = torch.zeros(size, size, dtype=torch.float64, device=device)
    y = torch.from_numpy(without(basis, root_weights[:, None] * phenotypes)).to(device)
    product = torch.zeros(size, y.shape[1], dtype=torch.float64, device=device)
    fixed, roots = torch.from_numpy(basis).to(device), torch.from_numpy(root_weights).to(device)
    explained = torch.zeros(fixed.shape[1], size, dtype=torch.float64, device=device)
    for rows, x in coded_blocks(genotypes, device):
        z = x - kernels.mean
        parts = [z[:, part].prod(dim=2) / float(scale) ** 0.5 for part, scale in zip(sets, kernels.scales, strict=True)]
        features = torch.cat([*parts, *(part.sum(dim=1, keepdim=True) for part in parts)], dim=1)
        features *= roots[rows, None]
        gram.addmm_(features.T, features)
        product.addmm_(features.T, y[rows])
        explained.addmm_(fixed[rows].T, features)
    gram.addmm_(explained.T, explained, alpha=-1)
    squares = y.square().sum(dim=0)
    return [FeatureSums(gram, product[:, e].contiguous(), float(squares[e])) for e in range(y.shape[1])]
