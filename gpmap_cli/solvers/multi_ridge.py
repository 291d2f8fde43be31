"""Additive effects of all environments jointly (multivariate GBLUP), every missing cell left out exactly.

For sample i and environment e, with weights d_ie (0 where the phenotype is missing):

    y_ie = b_e + x_i . w_e + noise,   noise ~ N(0, r_e / d_ie),   (w_l1, ..., w_lE) ~ N(0, G) for every locus l.

Let S_e = X_e' D_e X_e and s_e = X_e' D_e y_e after the weighted mean of each environment is projected out. With
G = F F' and w = V F' the normal equations V + F'[S_e (F V)_e / r_e] = F'[s_e / r_e] need no inverse of G, so that
correlations of 1 do no harm. They are solved by conjugate gradients over (L x E), preconditioned by the Kronecker
product that they would be if all environments were measured in the same samples. One step costs E L^2, or 2 N L E where
the matrices S_e do not fit. Henderson and Quaas 1976. Arrays of effects are (E, L, C) for C right-hand sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.solvers.allele_counts import AlleleCounts

_MOST_BYTES = 1.5e9  # of all S_e together
_MOST_STEPS = 1000


@dataclass(frozen=True)
class _Measured:
    """Environments (columns) whose phenotypes have the same weights, and so the same S_e."""

    columns: list[int]
    gram: torch.Tensor


class MultiProblem:
    """Genotypes (N, L), phenotypes (N, E), NaN where missing, and weights (N, E), 0 there.

    num_samples: (E,) sum of the weights; num_cells: (E,) measured cells; total: (E,) y'Dy about the mean; product: (E,
    L, 1) the s_e. spectrum: eigenvalues of the pooled S_e per sample, and their vectors (L, L), or None with the
    diagonal for eigenvalues where there are too many loci.
    """

    def __init__(
        self,
        genotypes: CodedGenotypes,
        phenotypes: NDArray[np.float64],
        weights: NDArray[np.float64],
        device: str,
        most_bytes: float = _MOST_BYTES,
    ) -> None:
        self.counts, self.device = AlleleCounts(genotypes, device), device
        self.num_loci, self.num_environments = genotypes.num_loci, phenotypes.shape[1]
        known = weights > 0
        self.num_cells = known.sum(axis=0)
        y = np.where(known, phenotypes, 0.0)
        self._phenotype_mean = (weights * y).sum(axis=0) / weights.sum(axis=0)
        y = np.where(known, y - self._phenotype_mean, 0.0)
        self._weights = weights
        self.d = torch.from_numpy(weights).to(device)
        self.num_samples = self.d.sum(dim=0)
        self.total = torch.from_numpy((weights * y**2).sum(axis=0)).to(device)
        sums = self.counts.transposed_times(torch.cat([self.d, self.d * torch.from_numpy(y).to(device)], dim=1))
        self._mean_counts = sums[:, : self.num_environments] / self.num_samples  # (L, E)
        self.product = self.counts.scale * sums[:, self.num_environments :].T.contiguous()[:, :, None]
        columns: dict[bytes, list[int]] = {}
        for column in range(self.num_environments):
            columns.setdefault(weights[:, column].tobytes(), []).append(column)
        self._groups: list[_Measured] | None = None
        if len(columns) * 8 * self.num_loci**2 <= most_bytes:
            self._groups = self._grams(list(columns.values()))
        self.spectrum = self._spectrum()

    @property
    def has_grams(self) -> bool:
        return self._groups is not None

    def _grams(self, groups: list[list[int]]) -> list[_Measured]:
        """S_e of every group, summed over the measured samples or taken off the whole, whichever are fewer."""
        whole: torch.Tensor | None = None
        found = []
        for columns in groups:
            d = self.d[:, columns[0]]
            measured = d > 0
            if bool(((d != 0) & (d != 1)).any()):
                gram = self.counts.gram(d.sqrt())
            elif int(measured.sum()) * 2 < len(d):
                gram = self.counts.gram(only=measured)
            else:
                whole = self.counts.gram() if whole is None else whole
                gram = whole.clone() if bool(measured.all()) else whole - self.counts.gram(only=~measured)
            mean = self._mean_counts[:, columns[0]]
            gram.addr_(mean, mean, alpha=-float(self.num_samples[columns[0]]))
            found.append(_Measured(columns, gram.mul_(self.counts.scale**2)))
        return found

    def _spectrum(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        samples = float(self.num_samples.sum())
        if self._groups is None:
            squares = torch.zeros(self.num_loci, dtype=torch.float64, device=self.device)
            per_sample = self.d.sum(dim=1)
            for rows, counts in self.counts.blocks(torch.float64):
                squares += per_sample[rows] @ counts**2
            squares -= self._mean_counts**2 @ self.num_samples
            return (self.counts.scale**2 * squares / samples).clamp_min(0), None
        pooled = torch.zeros_like(self._groups[0].gram)
        for group in self._groups:
            pooled += len(group.columns) / samples * group.gram
        values, vectors = torch.linalg.eigh(pooled)
        return values.clamp_min(0), vectors

    def times_gram(self, effects: torch.Tensor) -> torch.Tensor:
        """S_e W_e of every environment, (E, L, C)."""
        if self._groups is None:
            num_right = effects.shape[2]
            fitted = self.counts.times(effects.permute(1, 0, 2).reshape(self.num_loci, -1))
            fitted = fitted.view(-1, self.num_environments, num_right)
            fitted -= (self.d[:, :, None] * fitted).sum(dim=0) / self.num_samples[:, None]
            fitted *= self.d[:, :, None] * self.counts.scale**2
            back = self.counts.transposed_times(fitted.reshape(len(fitted), -1))
            return back.view(self.num_loci, self.num_environments, num_right).permute(1, 0, 2)
        found = torch.empty_like(effects)
        for group in self._groups:
            found[group.columns] = group.gram @ effects[group.columns]
        return found

    def grams(self) -> torch.Tensor:
        """Every S_e, (E, L, L); for problems that are small."""
        assert self._groups is not None
        found = torch.empty(self.num_environments, self.num_loci, self.num_loci, dtype=torch.float64)
        for group in self._groups:
            found[group.columns] = group.gram.cpu()
        return found.to(self.device)

    def products_with_noise(self, noise: NDArray[np.float64]) -> torch.Tensor:
        """X_e' D_e^(1/2) z_e, the mean projected out, of standard normal z (N, E, C): (E, L, C) of covariance S_e."""
        d = self.d[:, :, None]
        z = d.sqrt() * torch.from_numpy(noise).to(self.device)
        z -= d * (z.sum(dim=0) / self.num_samples[:, None])
        found = self.counts.scale * self.counts.transposed_times(z.reshape(len(z), -1))
        return found.view(self.num_loci, self.num_environments, -1).permute(1, 0, 2).contiguous()

    def intercept(self, effects: NDArray[np.float64]) -> NDArray[np.float64]:
        """b_e, (E,), for effects (L, E) on coded genotypes: by generalised least squares, given the effects."""
        mean = self.counts.scale * self._mean_counts.cpu().numpy() + self.counts.shift[:, None]
        return self._phenotype_mean - (mean * effects).sum(axis=0)


class Equations:
    """The normal equations in V at one G = F F' and one r; `factor` is any F."""

    def __init__(self, problem: MultiProblem, factor: NDArray[np.float64], residual: NDArray[np.float64]) -> None:
        self._problem = problem
        self.factor = torch.from_numpy(np.ascontiguousarray(factor)).to(problem.device)
        self._residual = torch.from_numpy(residual).to(problem.device)
        by_environment = self.factor.T * (problem.num_samples / self._residual) @ self.factor
        strengths, self._turn = torch.linalg.eigh(by_environment)
        values, self._vectors = problem.spectrum
        self._divisor = 1 + strengths.clamp_min(0)[:, None, None] * values[None, :, None]

    def effects(self, v: torch.Tensor) -> torch.Tensor:
        """W = V F', (E, L, C)."""
        return torch.einsum("ej,jlc->elc", self.factor, v)

    def right(self, products: torch.Tensor, power: float = 1.0) -> torch.Tensor:
        """F'[s_e / r_e^power]."""
        return torch.einsum("ej,elc->jlc", self.factor, products / (self._residual**power)[:, None, None])

    def solve(self, right: torch.Tensor, tolerance: float, start: torch.Tensor | None = None) -> torch.Tensor:
        """V, by conjugate gradients, until every residual is `tolerance` of its right-hand side."""
        v = torch.zeros_like(right) if start is None else start.clone()
        left = right - self._apply(v) if start is not None else right.clone()
        enough = tolerance * _norms(right).clamp_min(1e-300)
        z = self._precondition(left)
        direction, energy = z.clone(), (left * z).sum(dim=(0, 1))
        for _ in range(_MOST_STEPS):
            if bool((_norms(left) <= enough).all()):
                break
            image = self._apply(direction)
            curvature = (direction * image).sum(dim=(0, 1))
            step = torch.where(curvature > 0, energy / curvature.clamp_min(1e-300), 0.0)
            v += step * direction
            left -= step * image
            z = self._precondition(left)
            before, energy = energy, (left * z).sum(dim=(0, 1))
            direction = z + torch.where(before > 0, energy / before.clamp_min(1e-300), 0.0) * direction
        return v

    def _apply(self, v: torch.Tensor) -> torch.Tensor:
        return v + self.right(self._problem.times_gram(self.effects(v)))

    def _precondition(self, v: torch.Tensor) -> torch.Tensor:
        turned = torch.einsum("jk,jlc->klc", self._turn, v)
        if self._vectors is not None:
            turned = self._vectors.T @ turned
        turned = turned / self._divisor
        if self._vectors is not None:
            turned = self._vectors @ turned
        return torch.einsum("jk,klc->jlc", self._turn, turned)


def _norms(vectors: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(vectors, dim=(0, 1))


def solve_effects(
    problem: MultiProblem,
    genetic: NDArray[np.float64],
    residual: NDArray[np.float64],
    tolerance: float = 1e-10,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The best linear unbiased prediction of effects (L, E), and intercepts (E,).

    genetic: (E, E) covariance of the effects of one locus, of any rank; residual: (E,) variances.
    """
    values, vectors = np.linalg.eigh(genetic)
    equations = Equations(problem, vectors * np.sqrt(np.clip(values, 0, None)), residual)
    v = equations.solve(equations.right(problem.product), tolerance)
    effects = equations.effects(v)[:, :, 0].T.cpu().numpy()
    return effects, problem.intercept(effects)
