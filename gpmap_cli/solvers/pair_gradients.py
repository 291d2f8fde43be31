"""All additive and all pairwise effects of many loci, by preconditioned conjugate gradients that never form a pair.

The objective is that of `gpmap_cli/solvers/pairwise.py`. Its normal equations (F' W F + penalties) effects = F' W y are
solved for all environments side by side, each with its own steps. The preconditioner is the inverse of the same
matrix as it would be if products of loci covaried like products of independent variables: with the eigenvectors
Z'Z = n Q D Q', a -> Q (n D + additive_penalty)^-1 Q' a and, for symmetric pair effects,
S -> Q [(Q' S Q)_ij / (n D_i D_j + pair_penalty)] Q'; exact for loci on different chromosomes, close for others. Steps
run in single precision; the true residual is taken in double precision and solved for again until it is below the
tolerance (iterative refinement), so that the result is that of double precision. Each step costs 2 n L^2 operations for
every environment, the preconditioner 8 L^3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.solvers.pair_products import Effects, PairNormalEquations, centred_blocks, of_pairs
from gpmap_cli.solvers.ridge import mean_genotype

TOLERANCE = 1e-6  # of the residual of the normal equations, relative to their right-hand side
_INNER = 1e-3  # what single precision is asked for at a time
_MOST_STEPS = 500

# Hears the number of steps, the worst relative residual, and can ask for the solution so far.
Watch = Callable[[int, float, Callable[[], "PairSolution"]], None]


@dataclass(frozen=True)
class PairSolution:
    """Effects of centred genotypes, for E environments: f(x) = intercept + z . a + sum_{l<m} U_lm z_l z_m.

    additive (E, L), pairs (E, L, L) upper triangles, intercept (E,), mean (L,): z = x - mean; penalties (E, 2);
    steps: conjugate gradient steps taken; residual (E,): relative residual reached.
    """

    effects: Effects
    intercept: NDArray[np.float64]
    mean: torch.Tensor
    penalties: NDArray[np.float64]
    steps: int
    residual: NDArray[np.float64]


class PairRegression:
    """The training samples, with all that serves every penalty.

    phenotypes (n, E), NaN missing; weights (n, E) of the measurements or None.
    """

    def __init__(
        self,
        genotypes: CodedGenotypes,
        phenotypes: NDArray[np.float64],
        weights: NDArray[np.float64] | None,
        device: str,
        single_precision: bool = True,
    ) -> None:
        known = ~np.isnan(phenotypes)
        weighted = known.astype(np.float64) if weights is None else np.where(known, weights, 0.0)
        self._phenotype_mean = (weighted * np.where(known, phenotypes, 0.0)).sum(axis=0) / weighted.sum(axis=0)
        self._weights = torch.from_numpy(weighted).to(device)
        self._y = torch.from_numpy(np.where(known, phenotypes - self._phenotype_mean, 0.0)).to(device)
        self._equations = PairNormalEquations(genotypes, self._weights, mean_genotype(genotypes, device))
        self._right = self._equations.right_side(self._y)
        self._dtype = torch.float32 if single_precision else torch.float64
        values, vectors = torch.linalg.eigh(self._equations.gram)
        self._spectrum = (values.clamp_min(0) / len(genotypes)).to(self._dtype)
        self._vectors = vectors.to(self._dtype)

    def solve(
        self,
        penalties: NDArray[np.float64],
        start: Effects | None = None,
        tolerance: float = TOLERANCE,
        watch: Watch = lambda step, residual, so_far: None,
    ) -> PairSolution:
        """Solve for penalties (E, 2): additive, pair."""
        device = self._y.device
        by_environment = torch.from_numpy(penalties).to(device)
        size = self._right.dot(self._right).sqrt()
        scale = torch.where(size > 0, size, 1.0)
        effects = self._right.map(torch.zeros_like) if start is None else start.map(torch.clone)
        steps = 0
        residual = self._residual(effects, by_environment) if start is not None else self._right.map(torch.clone)
        relative = residual.dot(residual).sqrt() / scale
        while steps < _MOST_STEPS:
            active = (relative > tolerance).nonzero()[:, 0]
            if not len(active):
                break
            goal = torch.clamp(tolerance / relative[active] / 2, min=_INNER if self._dtype == torch.float32 else 0.0)

            environments = active.tolist()
            course = _Course(self, effects, environments, penalties, steps, watch)
            found, taken = self._descend(residual, by_environment, environments, goal, scale, course.heard)
            effects = self._sum(effects, found, environments)
            steps += taken
            residual = self._residual(effects, by_environment)
            before, relative = relative, residual.dot(residual).sqrt() / scale
            if not bool((relative[active] < 0.5 * before[active]).any()):
                break  # rounding allows no more
        return self._solution(effects, penalties, steps, relative.cpu().numpy())

    def _solution(
        self, effects: Effects, penalties: NDArray[np.float64], steps: int, residual: NDArray[np.float64] | float
    ) -> PairSolution:
        reached = np.broadcast_to(residual, len(penalties))
        return PairSolution(effects, self._intercept(effects), self._equations.mean, penalties, steps, reached)

    @staticmethod
    def _sum(effects: Effects, found: Effects, environments: list[int]) -> Effects:
        """The effects with what was found for these environments added."""
        total = effects.map(torch.clone)
        for place, e in enumerate(environments):
            total.additive[e] += found.additive[place].double()
            total.pairs[e] += found.pairs[place].double()
        return total

    def residual_variance(self, solution: PairSolution) -> NDArray[np.float64]:
        """The restricted-likelihood estimate y' V^-1 y / (n - 1) of the residual variance at these penalties, (E,)."""
        explained = solution.effects.dot(self._right).cpu().numpy()
        total = (self._weights * self._y**2).sum(dim=0).cpu().numpy()
        return np.maximum(total - explained, 0.0) / np.maximum((self._weights > 0).sum(dim=0).cpu().numpy() - 1, 1)

    def pair_means(self, e: int) -> torch.Tensor:
        """Mean of z_l z_m in environment e, (L, L)."""
        return self._equations.pair_means(e)

    def standard_errors(self, solution: PairSolution, e: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Approximate standard errors of the effects of environment e, (L,) and (L, L): see `effect_errors`."""
        noise = float(self.residual_variance(solution)[e])
        spectrum = float(self._equations.counts[e]) * self._spectrum.double()
        return effect_errors(spectrum, self._vectors.double(), solution.penalties[e], noise, len(self._y))

    def _descend(
        self,
        residual: Effects,
        penalties: torch.Tensor,
        environments: list[int],
        goal: torch.Tensor,
        scale: torch.Tensor,
        heard: Callable[[int, float, Effects], None],
    ) -> tuple[Effects, int]:
        """Conjugate gradients for the residual of these environments; gives what to add to their effects, and steps."""
        which = torch.tensor(environments, device=self._y.device)
        r = residual.take(which).to(self._dtype)
        wanted = penalties[which]
        first = r.dot(r).sqrt()
        found = r.map(torch.zeros_like)
        direction = self._precondition(r, which, wanted)
        slope = r.dot(direction)
        for step in range(1, _MOST_STEPS + 1):
            product = self._equations.apply(direction, environments)
            for place in range(len(environments)):
                product.additive[place].add_(direction.additive[place], alpha=float(wanted[place, 0]))
                product.pairs[place].add_(direction.pairs[place], alpha=float(wanted[place, 1]))
            curvature = direction.dot(product)
            length = torch.where(curvature > 0, slope / curvature.clamp_min(1e-300), 0.0)
            found.add(direction, length)
            r.add(product, -length)
            del product
            left = r.dot(r).sqrt()
            heard(step, float((left / scale[which]).max()), found)
            if bool((left <= goal * first).all()):
                break
            z = self._precondition(r, which, wanted)
            before, slope = slope, r.dot(z)
            z.add(direction, torch.where(before > 0, slope / before.clamp_min(1e-300), 0.0))
            direction = z
        return found, step

    def _precondition(self, r: Effects, which: torch.Tensor, penalties: torch.Tensor) -> Effects:
        found = r.map(torch.empty_like)
        q = self._vectors
        for place, e in enumerate(which.tolist()):
            count = float(self._equations.counts[e])
            spectrum = count * self._spectrum
            additive, pair = float(penalties[place, 0]), float(penalties[place, 1])
            found.additive[place] = q @ ((q.T @ r.additive[place]) / (spectrum + additive))
            symmetric = r.pairs[place] + r.pairs[place].T
            inner = q.T @ symmetric @ q
            inner /= torch.outer(spectrum, spectrum) / count + pair
            torch.triu(q @ inner @ q.T, diagonal=1, out=found.pairs[place])
        return found

    def _residual(self, effects: Effects, penalties: torch.Tensor) -> Effects:
        """F'Wy - (F'WF + penalties) effects, in double precision."""
        product = self._equations.apply(effects, list(range(len(penalties))))
        additive = self._right.additive - product.additive - penalties[:, :1] * effects.additive
        pairs = product.pairs
        for e in range(len(penalties)):
            pairs[e].add_(effects.pairs[e], alpha=float(penalties[e, 1])).neg_().add_(self._right.pairs[e])
        return Effects(additive, pairs)

    def _intercept(self, effects: Effects) -> NDArray[np.float64]:
        """What makes the mean of f that of the phenotypes, under the weights."""
        first = self._equations.first_moments()
        found = self._phenotype_mean.copy()
        for e in range(len(found)):
            found[e] -= float(first[e] @ effects.additive[e] / self._equations.counts[e])
            found[e] -= float((self._equations.pair_means(e) * effects.pairs[e]).sum())
        return found


@dataclass(frozen=True)
class _Course:
    """One round of conjugate gradients, and who hears of it."""

    regression: PairRegression
    effects: Effects
    environments: list[int]
    penalties: NDArray[np.float64]
    steps_before: int
    watch: Watch

    def heard(self, step: int, residual: float, found: Effects) -> None:
        steps, regression = self.steps_before + step, self.regression

        def so_far() -> PairSolution:
            effects = regression._sum(self.effects, found, self.environments)
            return regression._solution(effects, self.penalties, steps, residual)

        self.watch(steps, residual, so_far)


def effect_errors(
    spectrum: torch.Tensor, vectors: torch.Tensor, penalties: NDArray[np.float64], noise: float, num_samples: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Posterior standard deviations of additive effects (L,) and pair effects (L, L) under the fitted penalties.

    noise * diagonal of (F'F + penalties)^-1, with F'F as if products of loci covaried like products of independent
    variables: from the eigenvalues (L,) and eigenvectors of Z'Z. Between loci of one chromosome it is approximate.
    """
    squares = vectors**2
    additive = squares @ (1 / (spectrum + penalties[0]))
    pairs = squares @ (1 / (torch.outer(spectrum, spectrum) / num_samples + penalties[1])) @ squares.T
    return (noise * additive).sqrt().cpu().numpy(), (noise * pairs).sqrt().cpu().numpy()


def predict_pairs(solution: PairSolution, genotypes: CodedGenotypes) -> NDArray[np.float64]:
    """f of every sample, (N, E), in single precision."""
    predicted = np.empty((len(genotypes), len(solution.intercept)))
    effects = solution.effects.to(torch.float32)
    for rows, z in centred_blocks(genotypes, solution.mean, torch.float32):
        values = z @ effects.additive.T
        for e, upper in enumerate(effects.pairs):
            values[:, e] += of_pairs(z, upper)
        predicted[rows] = values.double().cpu().numpy() + solution.intercept
    return predicted
