"""All additive and all pairwise effects at once, exactly, with a penalty for each of the two.

Objective, for each environment with phenotype y (standardised) and genotypes x (n samples x L loci, coded):

    sum_i (y_i - b - sum_l a_l z_il - sum_{l<m} W_lm (z_il z_im - c_lm))^2
        + additive_penalty * sum_l a_l^2 + pair_penalty * sum_{l<m} W_lm^2

where z = x - mean(x) over these samples and c_lm = mean(z_l z_m): products of centred genotypes, themselves
centred, so that with loci in linkage equilibrium the pairs are orthogonal to the additive part under the
training allele frequencies. b is not penalised. P = L + L (L - 1) / 2 features F (n x P).

Primal (P <= n): eigenvalues of the pairs' part of F'F, once for all penalties and environments. Dual (P > n):
Cholesky of the n x n matrix I + Z Z' / additive_penalty + Kp / pair_penalty, with
Kp = ((Z Z')^2 - Z^2 (Z^2)') / 2 centred on both sides, so that no pair is ever formed. Both give the same solution and
the same criterion.

Penalties: those that maximise the restricted likelihood of the variance components (penalty = residual variance
over the variance of one effect), -2 log REML = (n - 1) log(q / (n - 1)) + log det(I + F diag(penalties)^-1 F'),
q = y' (I + F diag(penalties)^-1 F')^-1 y (Patterson and Thompson 1971); or least validation error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.solvers.pair_features import pair_gram, pair_indices
from gpmap_cli.solvers.pair_gradients import PairSolution, effect_errors
from gpmap_cli.solvers.pair_products import centred_blocks, of_pairs
from gpmap_cli.solvers.ridge import centred_kernel, centred_loci, coded_blocks, mean_genotype

# log10 of (penalty / the penalty at which the part would explain as much variance as the residual)
_COARSE = (-3.0, -1.0, 1.0, 3.0)
_BOUND = 6.0
_STEPS = (1.0, 0.5, 0.25, 0.125)


@dataclass(frozen=True)
class PairwiseSolution:
    """f(x) = intercept + x . additive + sum_{l<m} pairs_lm x_l x_m in coded genotypes, for E' environments.

    additive (L, E'), pairs (L (L - 1) / 2, E') in the order of `pair_indices`, intercept (E',),
    penalties (E', 2): additive, pair.
    """

    additive: NDArray[np.float64]
    pairs: NDArray[np.float64]
    intercept: NDArray[np.float64]
    penalties: NDArray[np.float64]


def solve_pairwise(
    genotypes: CodedGenotypes,
    phenotypes: NDArray[np.float64],
    penalties: tuple[float | None, float | None],
    validation: tuple[CodedGenotypes, NDArray[np.float64]] | None,
    device: str,
    note: Callable[[str], None],
    route: str = "auto",
) -> PairwiseSolution:
    """Solve for E' phenotypes (n, E') without missing values on genotypes (n, L).

    `penalties` fixes the additive and the pair penalty (None: chosen). `validation` gives the samples whose
    error chooses instead of the restricted likelihood. `route`: primal, dual, or the smaller of the two.
    """
    num_features = genotypes.num_loci * (genotypes.num_loci + 1) // 2
    system: _Primal | _Dual
    if route == "primal" or (route == "auto" and num_features <= len(genotypes)):
        system = _Primal(genotypes, phenotypes, device)
    else:
        system = _Dual(genotypes, phenotypes, device)
    note(f"pairwise: {num_features} effects of {len(genotypes)} samples, {system.form} form")
    score: Callable[[tuple[float, float]], NDArray[np.float64]]
    if validation is None:
        score = system.restricted_likelihood
    else:
        score = lambda tried: _validation_error(system.solution(tried), *validation)  # noqa: E731
    search = _Search(score, system.scales, penalties)
    chosen = [search.best(column) for column in range(phenotypes.shape[1])]
    parts = [system.solution(pair) for pair in chosen]
    return PairwiseSolution(
        np.stack([part.additive[:, column] for column, part in enumerate(parts)], axis=1),
        np.stack([part.pairs[:, column] for column, part in enumerate(parts)], axis=1),
        np.array([part.intercept[column] for column, part in enumerate(parts)]),
        np.array(chosen),
    )


class _Search:
    """Pattern search over the two penalties; what one environment tries serves all the others."""

    def __init__(
        self,
        score: Callable[[tuple[float, float]], NDArray[np.float64]],
        scales: tuple[float, float],
        fixed: tuple[float | None, float | None],
    ) -> None:
        self._score, self._scales, self._fixed = score, scales, fixed
        self._tried: dict[tuple[float, float], NDArray[np.float64]] = {}

    def best(self, column: int) -> tuple[float, float]:
        """The additive and pair penalty that the environment in `column` does best with."""
        axes = [(0.0,) if fixed is not None else _COARSE for fixed in self._fixed]
        for a in axes[0]:
            for p in axes[1]:
                self._try((a, p))
        place = min(self._tried, key=lambda tried: self._tried[tried][column])
        for step in _STEPS:
            while True:
                around = [
                    (place[0] + da, place[1] + dp)
                    for da, dp in ((step, 0), (-step, 0), (0, step), (0, -step))
                    if abs(place[0] + da) <= _BOUND
                    and abs(place[1] + dp) <= _BOUND
                    and (self._fixed[0] is None or da == 0)
                    and (self._fixed[1] is None or dp == 0)
                ]
                better = min(around, key=lambda tried: self._try(tried)[column], default=place)
                if self._try(better)[column] >= self._try(place)[column]:
                    break
                place = better
        return self._penalties(place)

    def _penalties(self, place: tuple[float, float]) -> tuple[float, float]:
        additive, pair = (
            scale * 10.0**exponent if fixed is None else fixed
            for scale, exponent, fixed in zip(self._scales, place, self._fixed, strict=True)
        )
        return additive, pair

    def _try(self, place: tuple[float, float]) -> NDArray[np.float64]:
        if place not in self._tried:
            self._tried[place] = self._score(self._penalties(place))
        return self._tried[place]


class _Primal:
    """From the eigenvalues of the pairs' part of F'F; the additive part follows by its Schur complement.

    With F'F = [[Gaa, Gap], [Gpa, Gpp]], Gpp = V S V', C = V' Gpa, d = V' bp and w = 1 / (S + pair_penalty):
    a = (Gaa + additive_penalty - C' w C)^-1 (ba - C' w d), pairs = V w (d - C a). One factorisation serves every
    pair of penalties and every environment; a trial costs P L^2.
    """

    form = "primal"

    def __init__(self, genotypes: CodedGenotypes, phenotypes: NDArray[np.float64], device: str) -> None:
        num_loci = self._num_loci = genotypes.num_loci
        self._phenotype_mean = phenotypes.mean(axis=0)
        y = torch.from_numpy(phenotypes - self._phenotype_mean).to(device)
        self._num_samples = len(y)
        self._total = (y**2).sum(dim=0)
        gram, product, self._mean, self._pair_mean = pair_gram(genotypes, y, device)
        diagonal = gram.diagonal()
        self.scales = _positive(
            float(diagonal[:num_loci].sum()) / self._num_samples, float(diagonal[num_loci:].sum()) / self._num_samples
        )
        self._additive_gram, self._additive_product = gram[:num_loci, :num_loci].clone(), product[:num_loci]
        values, self._vectors = torch.linalg.eigh(gram[num_loci:, num_loci:])
        self._values = values.clamp_min(0)
        self._cross = self._vectors.T @ gram[num_loci:, :num_loci]
        self._pair_product = self._vectors.T @ product[num_loci:]

    def restricted_likelihood(self, penalties: tuple[float, float]) -> NDArray[np.float64]:
        solved = self._schur(penalties)
        if solved is None:
            return np.full(self._total.shape, np.inf)
        factor, right, inverse = solved
        half = torch.linalg.solve_triangular(factor, right, upper=False)
        explained = (half**2).sum(dim=0) + (self._pair_product**2 * inverse[:, None]).sum(dim=0)
        quadratic = (self._total - explained).clamp_min(1e-12 * self._num_samples)
        log_det = 2 * factor.diagonal().log().sum() - self._num_loci * math.log(penalties[0])
        log_det += (self._values / penalties[1]).log1p().sum()
        return _criterion(quadratic, log_det, self._num_samples)

    def solution(self, penalties: tuple[float, float]) -> PairwiseSolution:
        solved = self._schur(penalties)
        if solved is None:
            raise ArithmeticError(f"the penalties {penalties} are too small for these genotypes")
        factor, right, inverse = solved
        additive = torch.cholesky_solve(right, factor)
        pairs = self._vectors @ ((self._pair_product - self._cross @ additive) * inverse[:, None])
        return _expand(
            additive.cpu().numpy(),
            pairs.cpu().numpy(),
            self._mean.cpu().numpy(),
            self._pair_mean.cpu().numpy(),
            self._phenotype_mean,
            penalties,
        )

    def _schur(self, penalties: tuple[float, float]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
        """Cholesky factor of the additive part's Schur complement, its right-hand side, and w."""
        inverse = 1 / (self._values + penalties[1])
        weighted = self._cross * inverse[:, None]
        matrix = self._additive_gram - self._cross.T @ weighted
        matrix.diagonal().add_(penalties[0])
        factor, failed = torch.linalg.cholesky_ex(matrix)
        return None if int(failed) else (factor, self._additive_product - weighted.T @ self._pair_product, inverse)


class _Dual:
    form = "dual"

    def __init__(self, genotypes: CodedGenotypes, phenotypes: NDArray[np.float64], device: str) -> None:
        self._genotypes, self._device = genotypes, device
        self._phenotype_mean = phenotypes.mean(axis=0)
        self._y = torch.from_numpy(phenotypes - self._phenotype_mean).to(device)
        self._additive, self._mean = centred_kernel(genotypes, device)
        self._pairs = self._pair_kernel()
        num_samples = len(self._y)
        self.scales = _positive(
            float(self._additive.diagonal().sum()) / num_samples, float(self._pairs.diagonal().sum()) / num_samples
        )

    def _pair_kernel(self) -> torch.Tensor:
        """Kp: half of (z.z')^2 minus what each locus makes with itself, centred on both sides."""
        kernel = self._additive**2
        mean = torch.from_numpy(self._mean).to(self._device)
        for _, block in centred_loci(self._genotypes, mean, self._device):
            kernel.addmm_(block**2, (block**2).T, alpha=-1)
        kernel.mul_(0.5)
        kernel -= kernel.mean(dim=0, keepdim=True)
        kernel -= kernel.mean(dim=1, keepdim=True)
        return kernel

    def restricted_likelihood(self, penalties: tuple[float, float]) -> NDArray[np.float64]:
        factor = self._factor(penalties)
        if factor is None:
            return np.full(self._y.shape[1], np.inf)
        half = torch.linalg.solve_triangular(factor, self._y, upper=False)
        return _criterion((half**2).sum(dim=0), 2 * factor.diagonal().log().sum(), len(self._y))

    def solution(self, penalties: tuple[float, float]) -> PairwiseSolution:
        factor = self._factor(penalties)
        if factor is None:
            raise ArithmeticError(f"the penalties {penalties} are too small for these genotypes")
        alpha = torch.cholesky_solve(self._y, factor)
        num_loci, num_environments = self._genotypes.num_loci, alpha.shape[1]
        mean = torch.from_numpy(self._mean).to(self._device)
        additive = torch.zeros(num_loci, num_environments, dtype=torch.float64, device=self._device)
        pairs = torch.zeros(num_environments, num_loci, num_loci, dtype=torch.float64, device=self._device)
        moment = torch.zeros(num_loci, num_loci, dtype=torch.float64, device=self._device)
        for rows, block in coded_blocks(self._genotypes, self._device):
            z = block - mean
            additive.addmm_(z.T, alpha[rows])
            moment.addmm_(z.T, z)
            for column in range(num_environments):
                pairs[column].addmm_((z * alpha[rows, column, None]).T, z)
        first, second = pair_indices(num_loci)
        return _expand(
            (additive / penalties[0]).cpu().numpy(),
            (pairs[:, first, second].T / penalties[1]).cpu().numpy(),
            self._mean,
            (moment / len(self._y))[first, second].cpu().numpy(),
            self._phenotype_mean,
            penalties,
        )

    def _factor(self, penalties: tuple[float, float]) -> torch.Tensor | None:
        matrix = self._additive / penalties[0] + self._pairs / penalties[1]
        matrix.diagonal().add_(1)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        return None if int(failed) else factor


def _criterion(quadratic: torch.Tensor, log_det: torch.Tensor, num_samples: int) -> NDArray[np.float64]:
    freedom = max(num_samples - 1, 1)
    return (freedom * (quadratic / freedom).clamp_min(1e-300).log() + log_det).cpu().numpy()


def _positive(additive: float, pair: float) -> tuple[float, float]:
    """Scales of the penalties; 1 where a part has no variance at all (one locus, or constant loci)."""
    return additive if additive > 0 else 1.0, pair if pair > 0 else 1.0


def _expand(
    additive: NDArray,
    pairs: NDArray,
    mean: NDArray,
    pair_mean: NDArray,
    phenotype_mean: NDArray,
    penalties: tuple[float, float],
) -> PairwiseSolution:
    """The same function written in coded genotypes instead of centred ones: W z_l z_m multiplied out."""
    num_loci = len(mean)
    first, second = pair_indices(num_loci)
    moved = np.zeros_like(additive)
    np.add.at(moved, first, pairs * mean[second, None])
    np.add.at(moved, second, pairs * mean[first, None])
    constant = (mean[first] * mean[second] - pair_mean) @ pairs
    intercept = phenotype_mean - mean @ additive + constant
    return PairwiseSolution(additive - moved, pairs, intercept, np.tile(penalties, (pairs.shape[1], 1)))


def in_coded_genotypes(solution: PairSolution, pair_means: list[torch.Tensor]) -> PairwiseSolution:
    """The solution of the matrix-free solver, whose effects are of centred genotypes, in coded ones.

    pair_means: the mean of z_l z_m, (L, L), for each environment.
    """
    mean = solution.mean.cpu().numpy()
    first, second = pair_indices(len(mean))
    parts = []
    for e, moment in enumerate(pair_means):
        pairs = solution.effects.pairs[e].cpu().numpy()[first, second][:, None]
        additive = solution.effects.additive[e].cpu().numpy()[:, None]
        # The intercept of the solver stands for the mean phenotype less what the means of loci and pairs add up to.
        moments = moment.cpu().numpy()[first, second]
        raised = np.array([solution.intercept[e] + float(moments @ pairs[:, 0])])
        parts.append(_expand(additive, pairs, mean, moments, raised, tuple(solution.penalties[e])))
    return PairwiseSolution(
        np.concatenate([part.additive for part in parts], axis=1),
        np.concatenate([part.pairs for part in parts], axis=1),
        np.concatenate([part.intercept for part in parts]),
        np.concatenate([part.penalties for part in parts]),
    )


def effect_errors_of(
    genotypes: CodedGenotypes, phenotypes: NDArray[np.float64], solution: PairwiseSolution
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]]:
    """For each environment: additive effects of centred genotypes, their errors, pair effects, their errors.

    Errors are those of `pair_gradients.effect_errors`, with the residual variance y' (y - f) / (n - 1).
    """
    mean = mean_genotype(genotypes, "cpu")
    gram = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for _, z in centred_blocks(genotypes, mean, torch.float64):
        gram.addmm_(z.T, z)
    values, vectors = torch.linalg.eigh(gram)
    first, second = pair_indices(len(mean))
    fitted = pairwise_prediction(genotypes, solution)
    centred = phenotypes - phenotypes.mean(axis=0)
    noise = np.maximum((centred * (phenotypes - fitted)).sum(axis=0), 0.0) / max(len(phenotypes) - 1, 1)
    average = mean.numpy()
    for e in range(phenotypes.shape[1]):
        pairs = solution.pairs[:, e]
        additive = solution.additive[:, e].copy()
        np.add.at(additive, first, pairs * average[second])
        np.add.at(additive, second, pairs * average[first])
        errors = effect_errors(values.clamp_min(0), vectors, solution.penalties[e], float(noise[e]), len(phenotypes))
        yield additive, errors[0], pairs, errors[1]


def pairwise_prediction(genotypes: CodedGenotypes, solution: PairwiseSolution) -> NDArray[np.float64]:
    """f of every sample, (N, E): x . a + ((x U) * x) . 1 with U the upper triangle of pair effects. Costs N L^2 E."""
    num_loci, num_environments = solution.additive.shape
    first, second = pair_indices(num_loci)
    additive = torch.from_numpy(solution.additive)
    predicted = np.empty((len(genotypes), num_environments))
    upper = torch.zeros(num_loci, num_loci, dtype=torch.float64)
    nothing = torch.zeros(num_loci, dtype=torch.float64)
    for column in range(num_environments):
        upper[first, second] = torch.from_numpy(np.ascontiguousarray(solution.pairs[:, column]))
        for rows, x in centred_blocks(genotypes, nothing, torch.float64):
            predicted[rows, column] = (x @ additive[:, column] + of_pairs(x, upper)).numpy()
    return predicted + solution.intercept


def _validation_error(
    solution: PairwiseSolution, genotypes: CodedGenotypes, phenotypes: NDArray[np.float64]
) -> NDArray[np.float64]:
    known = ~np.isnan(phenotypes)
    squares = np.where(known, (np.where(known, phenotypes, 0) - pairwise_prediction(genotypes, solution)) ** 2, 0)
    return squares.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
