"""Restricted likelihood of kernels' bandwidths and variance components, with its gradient, and its maximum.

y = mean + g + e with Var(g) = V_g(phi), Var(e) = W (both in units of the residual variance, which is profiled out), n
samples of one environment, V = V_g + W:

    -2 log REML = (n - 1) log(q / (n - 1)) + log det V + log(1' V^-1 1),   q = y' P y,
    P = V^-1 - V^-1 1 (1' V^-1 1)^-1 1' V^-1,   d(-2 log REML) / dV = P - (n - 1) / q P y y' P

(Patterson and Thompson 1971; Rasmussen and Williams 2006, chapter 5). phi holds logarithms, so variances and
bandwidths stay positive. Each evaluation costs n^3 multiply-adds and, for rates of single loci, n^2 L more: their
gradient is sum_ij B_ij (x_il - x_jl)^2 = 2 sum_i b_i x_il^2 - 2 (X' B X)_ll, b the row sums of B.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch

_LEAST, _MOST = -12.0, 12.0  # of the logarithm of a variance ratio
_LEAST_RATE, _MOST_RATE = -9.0, 4.0  # of a bandwidth; beyond, samples are all alike or none is like another


class Components(Protocol):
    """V_g as a function of phi, which is kept within bounds."""

    @property
    def bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The least and the largest phi, (P,) each."""

    def build(self, phi: torch.Tensor) -> torch.Tensor:
        """V_g (n, n)."""

    def gradient(self, slope: torch.Tensor) -> torch.Tensor:
        """sum_ij slope_ij dV_g,ij / dphi, at the phi of the last `build`."""


class GaussianComponents:
    """exp(-sum_l r_l (x_l - x'_l)^2) with r_l = exp(rate_l) unit_l, and an additive part where it is given.

    phi: log rates (1 for all loci, or L), log variance of the gaussian part, log variance of the additive part.
    x (n, L): genotypes, centred on their mean; unit (L,). is_fixed: whether the one rate stays as it is.
    """

    def __init__(
        self,
        x: torch.Tensor,
        unit: torch.Tensor,
        by_locus: bool,
        additive: torch.Tensor | None = None,
        is_fixed: bool = False,
    ) -> None:
        self._x, self._unit, self._by_locus, self._is_fixed = x, unit, by_locus, is_fixed
        self._num_rates = x.shape[1] if by_locus else 1
        self._additive = additive

    @property
    def bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        num_variances = 1 if self._additive is None else 2
        low = [_LEAST_RATE] * self._num_rates + [_LEAST] * num_variances
        high = [_MOST_RATE] * self._num_rates + [_MOST] * num_variances
        return self._x.new_tensor(low), self._x.new_tensor(high)

    def build(self, phi: torch.Tensor) -> torch.Tensor:
        self._values = values = phi.exp()
        self._rates = values[: self._num_rates] * self._unit
        scaled = self._x * self._rates.sqrt()
        squares = (scaled**2).sum(dim=1)
        self._exponent = (scaled @ scaled.T).mul_(2).sub_(squares[:, None]).sub_(squares).clamp_(max=0)
        self._gaussian = self._exponent.exp().mul_(values[self._num_rates])
        if self._additive is None:
            return self._gaussian.clone()
        return self._gaussian.add(self._additive, alpha=float(values[-1]))

    def gradient(self, slope: torch.Tensor) -> torch.Tensor:
        weighted = slope * self._gaussian
        found = torch.zeros_like(self._values)
        if self._by_locus:
            x = self._x
            distances = 2 * (weighted.sum(dim=1) @ x**2 - (x * (weighted @ x)).sum(dim=0))
            found[: self._num_rates] = -self._rates * distances
        elif not self._is_fixed:
            found[0] = (weighted * self._exponent).sum()
        found[self._num_rates] = weighted.sum()
        if self._additive is not None:
            found[-1] = self._values[-1] * (slope * self._additive).sum()
        return found


class SummedComponents:
    """sum_k exp(phi_k) K_k for kernels K_k (n, n)."""

    def __init__(self, kernels: list[torch.Tensor]) -> None:
        self._kernels = kernels

    @property
    def bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        low = torch.full((len(self._kernels),), _LEAST, dtype=torch.float64, device=self._kernels[0].device)
        return low, torch.full_like(low, _MOST)

    def build(self, phi: torch.Tensor) -> torch.Tensor:
        self._values = phi.exp()
        found = torch.zeros_like(self._kernels[0])
        for value, kernel in zip(self._values, self._kernels, strict=True):
            found.add_(kernel, alpha=float(value))
        return found

    def gradient(self, slope: torch.Tensor) -> torch.Tensor:
        sums = torch.stack([(slope * kernel).sum() for kernel in self._kernels])
        return sums * self._values


@dataclass(frozen=True)
class Maximum:
    """phi that maximises the restricted likelihood, -2 log of it, and the residual variance there."""

    phi: torch.Tensor
    criterion: float
    residual_variance: float


class RestrictedLikelihood:
    """Of one environment: phenotypes y (n,) and relative noise variances (n,)."""

    def __init__(self, components: Components, y: torch.Tensor, noise: torch.Tensor) -> None:
        self._components, self._y, self._noise = components, y - y.mean(), noise
        self._freedom = max(len(y) - 1, 1)

    def at(self, phi: torch.Tensor) -> tuple[float, torch.Tensor, float]:
        """-2 log REML, its gradient, and the residual variance q / (n - 1). Infinite where V is not positive."""
        solved = self._solve(phi)
        if solved is None:
            return float("inf"), torch.zeros_like(phi), 0.0
        criterion, variance, factor, of_ones, projected = solved
        slope = torch.cholesky_inverse(factor)
        slope.addr_(of_ones, of_ones, alpha=-1 / float(of_ones.sum()))
        slope.addr_(projected, projected, alpha=-1 / variance)
        low, high = self._components.bounds
        inside = (phi >= low) & (phi <= high)
        return criterion, torch.where(inside, self._components.gradient(slope), 0.0), variance

    def criterion(self, phi: torch.Tensor) -> float:
        """-2 log REML alone, at a third of the cost."""
        solved = self._solve(phi)
        return float("inf") if solved is None else solved[0]

    def _solve(self, phi: torch.Tensor) -> tuple[float, float, torch.Tensor, torch.Tensor, torch.Tensor] | None:
        covariance = self._components.build(phi.clamp(*self._components.bounds))
        covariance.diagonal().add_(self._noise)
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if int(failed):
            return None
        right = torch.stack([self._y, torch.ones_like(self._y)], dim=1)
        of_y, of_ones = torch.cholesky_solve(right, factor).unbind(dim=1)
        of_ones = of_ones.contiguous()
        total = float(of_ones.sum())
        projected = of_y - of_ones * (float(of_y.sum()) / total)
        variance = max(float(self._y @ projected) / self._freedom, 1e-300)
        log_det = 2 * float(factor.diagonal().log().sum())
        criterion = self._freedom * math.log(variance) + log_det + math.log(total)
        return criterion, variance, factor, of_ones, projected

    def maximum(self, start: torch.Tensor, most_steps: int) -> Maximum:
        """By limited-memory BFGS with a line search from `start`."""
        phi = start.clone().requires_grad_()
        search = torch.optim.LBFGS(
            [phi],
            max_iter=most_steps,
            max_eval=most_steps + most_steps // 4,
            tolerance_grad=1e-3,
            tolerance_change=1e-6,
            history_size=20,
            line_search_fn="strong_wolfe",
        )
        best: list[Maximum] = []

        def closure() -> float:
            criterion, gradient, variance = self.at(phi.detach())
            phi.grad = gradient
            if not best or criterion < best[0].criterion:
                best[:] = [Maximum(phi.detach().clamp(*self._components.bounds).clone(), criterion, variance)]
            return criterion

        search.step(closure)
        return best[0]
