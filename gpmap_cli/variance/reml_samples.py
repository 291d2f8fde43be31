"""The mixed model of `reml_systems` among samples: with the n x n kernels K_k = F_k F_k' written out.

The restricted likelihood knows of V only M V M, so that kernels and sums of features stand here without what X
explains of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.solvers.epistasis_kernels import EpistasisKernels
from gpmap_cli.variance.reml_systems import Point, Realised, wide_prior


class SampleKernels:
    """M K_k M (n, n) and M F_k 1 (n,) of every order, which environments measured in the same samples share.

    basis: (n, r), orthonormal, spans X.
    """

    def __init__(self, kernels: list[torch.Tensor], directions: list[torch.Tensor], basis: torch.Tensor) -> None:
        self.basis = basis
        for kernel in kernels:
            image = kernel @ basis
            kernel.sub_(image @ basis.T).sub_(basis @ (image.T - (basis.T @ image) @ basis.T))
        self.kernels = kernels
        self.directions = [self.without_fixed(direction) for direction in directions]

    @classmethod
    def of(cls, learned: EpistasisKernels, genotypes: CodedGenotypes, basis: NDArray[np.float64]) -> SampleKernels:
        device = learned.mean.device
        return cls(learned.dense(genotypes), learned.sums_of_features(genotypes), torch.from_numpy(basis).to(device))

    def without_fixed(self, values: torch.Tensor) -> torch.Tensor:
        return values - self.basis @ (self.basis.T @ values)

    @cached_property
    def squares(self) -> list[torch.Tensor]:
        """K_k^2, for traces at one theta after the other."""
        return [kernel @ kernel for kernel in self.kernels]


class AmongSamples:
    """n samples of one environment; about 15 n^3 multiply-adds for a maximum and (2 orders + 4) n^2 numbers.

    noise: (n,) the diagonal of R.
    """

    def __init__(self, shared: SampleKernels, y: torch.Tensor, noise: torch.Tensor) -> None:
        self.shared, self.noise = shared, noise
        self.y = shared.without_fixed(y)
        self.freedom = max(len(y) - shared.basis.shape[1], 1)
        squares = float(self.y @ self.y)
        self.total = squares / self.freedom
        self.wide = [wide_prior(squares, float(direction @ direction)) for direction in shared.directions]
        whitened = shared.squares
        if bool((noise != 1).any()):
            scaled = [kernel / noise for kernel in shared.kernels]
            whitened = [matrix @ matrix for matrix in scaled]
        self.largest = [float((square * square.T).sum()) ** 0.25 for square in whitened]

    def at(self, theta: NDArray[np.float64]) -> Point | None:
        shared = self.shared
        covariance = torch.diag(self.noise * float(theta[-1]))
        for value, kernel in zip(theta, shared.kernels, strict=False):
            covariance.add_(kernel, alpha=float(value))
        for wide, direction in zip(self.wide, shared.directions, strict=True):
            covariance.addr_(direction, direction, alpha=wide)
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if int(failed):
            return None
        of_fixed = torch.cholesky_solve(shared.basis, factor)
        inner = torch.linalg.cholesky(shared.basis.T @ of_fixed)
        log_det = 2 * (factor.diagonal().log().sum() + inner.diagonal().log().sum())
        projection = torch.cholesky_inverse(factor)
        projection.sub_(of_fixed @ torch.cholesky_solve(of_fixed.T, inner))
        projected = projection @ self.y
        return _SamplesPoint(self, theta, projection, projected, -0.5 * float(log_det + self.y @ projected))


@dataclass(frozen=True)
class _SamplesPoint:
    system: AmongSamples
    theta: NDArray[np.float64]
    projection: torch.Tensor  # P (n, n)
    projected: torch.Tensor  # P y (n,)
    likelihood: float

    def derivatives(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        kernels, noise = self.system.shared.kernels, self.system.noise
        vectors = [kernel @ self.projected for kernel in kernels] + [noise * self.projected]
        traces = [float((self.projection * kernel).sum()) for kernel in kernels]
        traces.append(float(self.projection.diagonal() @ noise))
        score = [0.5 * (float(self.projected @ v) - trace) for v, trace in zip(vectors, traces, strict=True)]
        stacked = torch.stack(vectors, dim=1)
        return np.array(score), (0.5 * stacked.T @ (self.projection @ stacked)).cpu().numpy()

    def realised(self, with_spread: bool) -> Realised:
        values, spread = np.empty(len(self.theta)), np.zeros(len(self.theta))
        for k in range(len(self.theta) - 1):
            mean, trace = self._of_kernel(k)
            values[k] = float(mean @ mean) + trace
            if with_spread:
                posterior = self._posterior(k)
                spread[k] = 2 * float((posterior * posterior.T).sum()) + 4 * float(mean @ posterior @ mean)
        mean, posterior = self._of_noise()
        values[-1] = float(mean @ mean) + float(posterior.trace())
        if with_spread:
            spread[-1] = 2 * float((posterior * posterior.T).sum()) + 4 * float(mean @ posterior @ mean)
        return Realised(values / self.system.freedom, spread / self.system.freedom**2)

    def _of_kernel(self, k: int) -> tuple[torch.Tensor, float]:
        """The posterior mean A P y of g_k, and the trace of its posterior covariance A - A P A."""
        shared, value, wide = self.system.shared, float(self.theta[k]), self.system.wide[k]
        kernel, direction = shared.kernels[k], shared.directions[k]
        mean = value * (kernel @ self.projected) + wide * float(direction @ self.projected) * direction
        once, size = self.projection @ direction, wide * float(direction @ direction)
        trace = value * float(kernel.trace()) - value**2 * float((shared.squares[k] * self.projection).sum())
        trace -= 2 * value * wide * float(direction @ (kernel @ once))
        trace += size * (1 - wide * float(direction @ once))
        return mean, trace

    def _posterior(self, k: int) -> torch.Tensor:
        shared = self.system.shared
        direction = shared.directions[k]
        prior = torch.addr(
            shared.kernels[k], direction, direction, beta=float(self.theta[k]), alpha=self.system.wide[k]
        )
        return prior - prior @ (self.projection @ prior)

    def _of_noise(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Posterior mean and covariance of M e."""
        noise, shared, value = self.system.noise, self.system.shared, float(self.theta[-1])
        posterior = -(value**2) * noise[:, None] * self.projection * noise
        posterior.diagonal().add_(value * noise)
        for _ in range(2):  # M on either side
            posterior = shared.without_fixed(posterior).T
        return value * shared.without_fixed(noise * self.projected), posterior
