"""Covariance of effects between environments and residual variances, by restricted maximum likelihood with a prior.

Expectation-maximisation in the notation of `multi_ridge`: given the data, effects have mean W and covariance C, and

    G   <- (sum_l (W_l W_l' + C_ll) + nu G0) / (L + nu),
    r_e <- (|y_e - X_e W_e|^2 + tr(S_e C_ee) + nu r0) / (n_e - 1 + nu).

C exactly where E L is small, otherwise by a few draws from N(0, C), each one more right-hand side. The draws stay the
same from step to step, so the map has a fixed point, which is approached by squared extrapolation (SQUAREM, Varadhan
and Roland 2008). The prior G0 gives all environments one variance and all pairs of them one correlation, the averages
of what is found, weighted by how many phenotypes they come from; so does r0. `nu` loci count for it: environments with
plenty of phenotypes hardly feel it, and one with a handful is taken to be like the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.random_streams import stream
from gpmap_cli.solvers.multi_ridge import Equations, MultiProblem

_EXACT_UP_TO = 1200  # E L
_LOCI_DRAWN = 4000  # loci times draws: the covariance of effects is then known to some 2 %
_MOST_ROUNDS = 30
_CHANGE = 1e-3  # of all parameters, in logarithms and relative to them, at which it is enough
_CG_TOLERANCE = 1e-5
_HIGHEST_CORRELATION = 0.99  # of the prior


@dataclass(frozen=True)
class MultiVariances:
    """genetic: (E, E) covariance of the effects of one locus; residual: (E,) variances; rounds of three steps."""

    genetic: NDArray[np.float64]
    residual: NDArray[np.float64]
    num_rounds: int

    @property
    def correlation(self) -> NDArray[np.float64]:
        std = np.sqrt(np.diag(self.genetic))
        return self.genetic / np.outer(std, std)


def estimate_variances(
    problem: MultiProblem, prior_loci: float, seed: int, progress: Callable[[float], None] = lambda _: None
) -> MultiVariances:
    """From half of each variance additive and correlations of one half, to where nothing changes any more."""
    steps = _Steps(problem, prior_loci, seed)
    theta = steps.pack(*steps.begin())
    longest = 4.0
    num_rounds = 0
    for _ in range(_MOST_ROUNDS):
        num_rounds += 1
        first = steps(theta)
        second = steps(first)
        change, bend = first - theta, second - 2 * first + theta
        progress(float(np.abs(change).max()))
        if np.abs(change).max() < _CHANGE / 10:
            theta = second
            break
        length = float(np.clip(np.linalg.norm(change) / max(float(np.linalg.norm(bend)), 1e-300), 1.0, longest))
        if length == longest:
            longest *= 2
        third = steps(theta + 2 * length * change + length**2 * bend)
        settled = np.abs(third - second).max() < _CHANGE
        theta = third
        if settled:
            break
    return MultiVariances(*steps.unpack(theta), num_rounds)


class _Steps:
    """One step of expectation-maximisation, as a map of packed parameters: Cholesky factor of G, logarithm of r."""

    def __init__(self, problem: MultiProblem, prior_loci: float, seed: int) -> None:
        self._problem = problem
        num_environments, num_loci = problem.num_environments, problem.num_loci
        self._prior = prior_loci if num_environments > 1 else 0.0
        self._lower = np.tril_indices(num_environments, -1)
        samples = problem.num_samples.cpu().numpy()
        self._variance = problem.total.cpu().numpy() / samples
        self._typical = float(np.average(self._variance, weights=samples)) or 1.0
        self._trace = max(float(problem.spectrum[0].sum()), 1e-300)
        self._exact = problem.has_grams and num_environments * num_loci <= _EXACT_UP_TO
        self._start: torch.Tensor | None = None
        if self._exact:
            self._grams = problem.grams()
            return
        num_draws = int(np.clip(np.ceil(_LOCI_DRAWN / num_loci), 2, 16))
        rng = stream(seed, "multi_ridge", "draws")
        shape = (num_environments, num_loci, num_draws)
        u = rng.normal(size=shape)
        # Draws whose second moment is exactly that of the prior: where the data say nothing, nothing changes.
        moment = np.einsum("jlp,klp->jk", u, u) / (num_loci * num_draws)
        u = np.einsum("jk,klp->jlp", np.linalg.inv(np.linalg.cholesky(moment)), u)
        self._draws = torch.from_numpy(u).to(problem.device)
        noise = rng.normal(size=(len(problem.d), num_environments, num_draws))
        self._noise = problem.products_with_noise(noise)

    def begin(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        num_environments = self._problem.num_environments
        variance = np.maximum(self._variance, 1e-3 * self._typical)
        std = np.sqrt(0.5 * variance / self._trace)
        correlation = np.full((num_environments, num_environments), 0.5) + 0.5 * np.eye(num_environments)
        return correlation * np.outer(std, std), 0.5 * variance

    def pack(self, genetic: NDArray[np.float64], residual: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cholesky factor with unit scale, so that a change of one part means the same whatever the units are."""
        std = np.sqrt(np.diag(genetic))
        factor = np.linalg.cholesky(genetic / np.outer(std, std))
        return np.concatenate([np.log(std), (factor / np.diag(factor)[:, None])[self._lower], np.log(residual)])

    def unpack(self, theta: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        num_environments = self._problem.num_environments
        factor = np.eye(num_environments)
        factor[self._lower] = theta[num_environments:-num_environments]
        factor /= np.linalg.norm(factor, axis=1, keepdims=True)
        factor *= np.exp(np.clip(theta[:num_environments], -50, 50))[:, None]
        return factor @ factor.T, np.exp(np.clip(theta[-num_environments:], -50, 50))

    def __call__(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        genetic, residual = self.unpack(theta)
        problem = self._problem
        factor: NDArray[Any] = np.linalg.cholesky(genetic + 1e-12 * np.diag(np.diag(genetic)))
        equations = Equations(problem, factor, residual)
        moment, quadratic = self._exactly(equations, residual) if self._exact else self._by_draws(equations)
        genetic = moment / problem.num_loci
        residual = quadratic / np.maximum(problem.num_cells - 1, 1)
        if self._prior:
            genetic = (moment + self._prior * self._similar(genetic)) / (problem.num_loci + self._prior)
            typical = float(np.average(residual, weights=problem.num_cells))
            degrees = np.maximum(problem.num_cells - 1, 1)
            residual = (quadratic + self._prior * typical) / (degrees + self._prior)
        genetic += 1e-8 * self._typical / self._trace * np.eye(len(genetic))
        return self.pack(genetic, np.maximum(residual, 1e-8 * self._typical))

    def _similar(self, genetic: NDArray[np.float64]) -> NDArray[np.float64]:
        """G0: one variance and one correlation for all."""
        num_cells = self._problem.num_cells
        std = np.sqrt(np.diag(genetic))
        weights = np.minimum.outer(num_cells, num_cells)[self._lower].astype(np.float64)
        covariance = (weights * genetic[self._lower]).sum()
        correlation = covariance / max((weights * np.outer(std, std)[self._lower]).sum(), 1e-300)
        correlation = np.clip(correlation, 0.0, _HIGHEST_CORRELATION)
        variance = np.average(std**2, weights=num_cells)
        return variance * (np.full_like(genetic, correlation) + (1 - correlation) * np.eye(len(std)))

    def _exactly(self, equations: Equations, residual: NDArray) -> tuple[NDArray, NDArray]:
        """sum_l E[w_l w_l'] and E|y - X w|^2, all covariances by one inverse of E L x E L."""
        problem, grams, factor = self._problem, self._grams, equations.factor
        size = problem.num_environments * problem.num_loci
        divided = grams / torch.from_numpy(residual).to(grams)[:, None, None]
        matrix = torch.einsum("ej,ek,elm->jlkm", factor, factor, divided).reshape(size, size)
        inverse = torch.linalg.inv(matrix + torch.eye(size, dtype=matrix.dtype, device=matrix.device))
        inverse = inverse.view(problem.num_environments, problem.num_loci, problem.num_environments, problem.num_loci)
        right = equations.right(problem.product)
        v = torch.einsum("jlkm,kmc->jlc", inverse, right)
        of_loci = factor @ torch.einsum("jlkl->jk", inverse) @ factor.T
        spread = torch.einsum("ej,ek,elm,kmjl->e", factor, factor, grams, inverse)
        return self._moments(equations.effects(v), of_loci, spread)

    def _by_draws(self, equations: Equations) -> tuple[NDArray, NDArray]:
        """The same with draws from N(0, C), which solve the equations for random right-hand sides."""
        drawn = self._draws + equations.right(self._noise, 0.5)
        right = torch.cat([equations.right(self._problem.product), drawn], dim=2)
        self._start = v = equations.solve(right, _CG_TOLERANCE, self._start)
        effects = equations.effects(v)
        around = effects[:, :, 1:]
        num_draws = around.shape[2]
        of_loci = torch.einsum("elp,flp->ef", around, around) / num_draws
        spread = (around * self._problem.times_gram(around)).sum(dim=(1, 2)) / num_draws
        return self._moments(effects[:, :, :1], of_loci, spread)

    def _moments(self, effects: torch.Tensor, of_loci: torch.Tensor, spread: torch.Tensor) -> tuple[NDArray, NDArray]:
        problem = self._problem
        moment = of_loci + torch.einsum("elc,flc->ef", effects, effects)
        explained = (effects * (2 * problem.product - problem.times_gram(effects))).sum(dim=(1, 2))
        quadratic = problem.total - explained + spread
        return moment.cpu().numpy(), quadratic.cpu().numpy()
