"""Ridge by one eigendecomposition for all penalties, or by one Cholesky factorisation for a given one.

Primal (from the loci, n >= L): A'A = V S V', w = V (S + penalty)^-1 V'A't. Dual (from the samples, n < L):
AA' = U S U', w = A'U (S + penalty)^-1 U't. Leave-one-out residuals are exact in both (weighted: Golub, Heath and
Wahba 1979): e_i / (1 - h_i) with the leverage h_i = q_i^2 + sum_k z_ik^2 / (s_k + penalty), z = A V (primal) or
z = U S^(1/2) (dual). Costs n L min(n, L) / 2 for the matrix, about 10 min(n, L)^3 for its eigenvalues (a third of one
for Cholesky), and for leave-one-out n L^2 (primal) and n min(n, L) for each penalty and environment.
Memory min(n, L)^2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.solvers.allele_counts import AlleleCounts
from gpmap_cli.solvers.ridge_problem import Group, RidgeProblem, restricted_likelihood, scale_of

_NO_LEVERAGE_LEFT = 1e-12
# Of the variance of an effect, what components may be left out of its standard error.
_NEGLIGIBLE = 1e-4


class Factors(ABC):
    """What every penalty and environment of a group shares: eigenvalues (K,) and rotated phenotypes (K, E')."""

    def __init__(self, problem: RidgeProblem, group: Group, matrix: torch.Tensor, penalty: float | None) -> None:
        self._counts, self._group = problem.counts, group
        self.columns = group.columns
        self._s = group.root_weights[group.rows]
        self._mean = problem.mean_counts[:, group.columns[0]]
        self._t = problem.y[group.rows][:, group.columns] * self._s[:, None]
        self._total = problem.total[group.columns]
        self.num_samples = problem.num_samples[group.columns[0]]
        self.scale = scale_of(float(matrix.diagonal().sum()), float(self.num_samples))
        self._penalty = penalty
        if penalty is None:
            values, self._vectors = torch.linalg.eigh(matrix)
            self._values = values.clamp_min(0)
        else:
            matrix.diagonal().add_(penalty)
            self._cholesky = torch.linalg.cholesky(matrix)

    @abstractmethod
    def weights(self, penalties: NDArray, columns: NDArray[np.intp]) -> NDArray:
        """Effects of all loci (L, C) in these environments of the group under these penalties, (C,) each."""

    @abstractmethod
    def leave_one_out_errors(self, path: NDArray) -> NDArray:
        """Mean squared leave-one-out error (P, E') of every penalty of the path."""

    @abstractmethod
    def quadratic(self, penalties: torch.Tensor) -> torch.Tensor:
        """t'(I + AA'/penalty)^-1 t of every penalty and environment, (P, E')."""

    @abstractmethod
    def inverse_diagonal(self, penalties: NDArray) -> NDArray:
        """Diagonal of (A'A + penalty I)^-1, (L, C), for penalties (C,)."""

    def likelihoods(self, path: NDArray) -> NDArray:
        """-2 log REML (P, E') of every penalty of the path."""
        penalties = torch.from_numpy(path).to(self._values.device)
        log_det = (self._values[:, None] / penalties).log1p().sum(dim=0)
        return restricted_likelihood(self.quadratic(penalties), log_det[:, None], self.num_samples).cpu().numpy()

    def residual_variance(self, penalties: NDArray) -> NDArray:
        """The residual variance that maximises the restricted likelihood at these penalties, (E',)."""
        quadratic = self.quadratic(torch.from_numpy(np.unique(penalties)).to(self._total.device)).cpu().numpy()
        freedom = max(float(self.num_samples) - 1, 1.0)
        place = np.searchsorted(np.unique(penalties), penalties)
        return quadratic[place, np.arange(len(penalties))].clip(min=0) / freedom


class Primal(Factors):
    """From the Gram matrix A'A of the loci, (L, L)."""

    def __init__(self, problem: RidgeProblem, group: Group, gram: torch.Tensor, penalty: float | None) -> None:
        """gram: g'diag(d)g of the group's samples, which is overwritten."""
        mean, scale = problem.mean_counts[:, group.columns[0]], problem.counts.scale
        gram.addr_(mean, mean, alpha=-float(problem.num_samples[group.columns[0]]))
        gram.mul_(scale**2)
        super().__init__(problem, group, gram, penalty)
        self._product = problem.product[:, group.columns]
        if penalty is None:
            self._rotated = self._vectors.T @ self._product

    def weights(self, penalties: NDArray, columns: NDArray[np.intp]) -> NDArray:
        if self._penalty is not None:
            return torch.cholesky_solve(self._product[:, columns], self._cholesky).cpu().numpy()
        shrunk = self._rotated[:, columns] / (self._values[:, None] + torch.from_numpy(penalties).to(self._t.device))
        return (self._vectors @ shrunk).cpu().numpy()

    def quadratic(self, penalties: torch.Tensor) -> torch.Tensor:
        if self._penalty is not None:
            half = torch.linalg.solve_triangular(self._cholesky, self._product, upper=False)
            return (self._total - (half**2).sum(dim=0))[None]
        explained = (1 / (self._values + penalties[:, None])) @ self._rotated**2
        return (self._total - explained).clamp_min(0)

    def leave_one_out_errors(self, path: NDArray) -> NDArray:
        penalties = torch.from_numpy(path).to(self._t.device)
        inverse = 1 / (self._values[:, None] + penalties)  # (L, P)
        num_environments = self._t.shape[1]
        coefficients = (inverse[:, :, None] * self._rotated[:, None, :]).reshape(len(inverse), -1)
        errors = torch.zeros(len(path), num_environments, dtype=torch.float64, device=self._t.device)
        mean = self._mean @ self._vectors
        of_group = torch.full((self._counts.num_samples,), -1, dtype=torch.long, device=self._t.device)
        of_group[self._group.rows] = torch.arange(len(self._group.rows), device=self._t.device)
        for rows, counts in self._counts.blocks(torch.float64):
            member = of_group[rows]
            place = member[member >= 0]
            s = self._s[place, None]
            z = self._counts.scale * s * (counts[member >= 0] @ self._vectors - mean)
            leverage = s**2 / self.num_samples + (z**2) @ inverse
            fitted = (z @ coefficients).reshape(len(z), len(path), num_environments)
            residual = (self._t[place][:, None, :] - fitted) / (1 - leverage).clamp_min(_NO_LEVERAGE_LEFT)[:, :, None]
            errors += (residual**2).sum(dim=0)
        return (errors / self.num_samples).cpu().numpy()

    def inverse_diagonal(self, penalties: NDArray) -> NDArray:
        if self._penalty is not None:
            diagonal = torch.cholesky_inverse(self._cholesky).diagonal()
            return np.tile(diagonal.cpu().numpy()[:, None], (1, len(penalties)))
        inverse = 1 / (self._values[:, None] + torch.from_numpy(penalties).to(self._t.device))
        return (self._vectors**2 @ inverse).cpu().numpy()


class Dual(Factors):
    """From the additive relationship AA' of the samples, (n, n)."""

    def __init__(self, problem: RidgeProblem, group: Group, kernel: torch.Tensor, penalty: float | None) -> None:
        """kernel: gg' of the group's samples, which is overwritten."""
        s = group.root_weights[group.rows]
        q = s / torch.linalg.vector_norm(s)
        kernel.mul_(problem.counts.scale**2 * s).mul_(s[:, None])
        with_q = kernel @ q
        kernel.addr_(q, with_q - (q @ with_q) * q, alpha=-1)
        kernel.addr_(with_q, q, alpha=-1)
        super().__init__(problem, group, kernel, penalty)
        self._q = q
        if penalty is None:
            self._rotated = self._vectors.T @ self._t

    def weights(self, penalties: NDArray, columns: NDArray[np.intp]) -> NDArray:
        if self._penalty is not None:
            alpha = torch.cholesky_solve(self._t[:, columns], self._cholesky)
        else:
            shrunk = self._rotated[:, columns] / (
                self._values[:, None] + torch.from_numpy(penalties).to(self._q.device)
            )
            alpha = self._vectors @ shrunk
        alpha -= self._q[:, None] * (self._q @ alpha)
        everywhere = torch.zeros(self._counts.num_samples, alpha.shape[1], dtype=torch.float64, device=alpha.device)
        everywhere[self._group.rows] = self._s[:, None] * alpha
        return (self._counts.scale * self._counts.transposed_times(everywhere)).cpu().numpy()

    def quadratic(self, penalties: torch.Tensor) -> torch.Tensor:
        if self._penalty is not None:
            half = torch.linalg.solve_triangular(self._cholesky, self._t, upper=False)
            return self._penalty * (half**2).sum(dim=0)[None]
        shrink = penalties[:, None] / (self._values + penalties[:, None])
        return shrink @ self._rotated**2

    def leave_one_out_errors(self, path: NDArray) -> NDArray:
        errors = []
        for penalty in path:
            shrink = penalty / (self._values + penalty)
            residual = self._vectors @ (self._rotated * shrink[:, None])
            leverage = self._q**2 + (self._vectors**2) @ (1 - shrink)
            left_out = residual / (1 - leverage).clamp_min(_NO_LEVERAGE_LEFT)[:, None]
            errors.append(((left_out**2).sum(dim=0) / self.num_samples).cpu().numpy())
        return np.array(errors)

    def inverse_diagonal(self, penalties: NDArray) -> NDArray:
        """From (1 - a_l'(AA' + penalty I)^-1 a_l) / penalty with a_l the column of A; a standard error needs no more
        than single precision and the components that matter."""
        shrink = torch.from_numpy(penalties).to(self._q.device)
        if self._penalty is None:
            matters = self._values > _NEGLIGIBLE * float(shrink.min())
            basis = self._vectors[:, matters] if matters.any() else self._vectors[:, :1]
            inverse = 1 / (self._values[matters if matters.any() else slice(0, 1), None] + shrink)
        else:
            basis = torch.linalg.solve_triangular(
                self._cholesky, torch.eye(len(self._q), dtype=torch.float64, device=self._q.device), upper=False
            ).T
            inverse = torch.ones(len(self._q), len(penalties), dtype=torch.float64, device=self._q.device)
        basis = self._counts.scale * self._s[:, None] * (basis - self._q[:, None] * (self._q @ basis))
        basis32, inverse32 = basis.T.float().contiguous(), inverse.float()
        found = torch.empty(self._counts.num_loci, len(penalties), dtype=torch.float64, device=self._q.device)
        for loci, counts in self._counts.loci_blocks(torch.float32):
            found[loci] = ((basis32 @ counts[self._group.rows]) ** 2).T @ inverse32
        return ((1 - found).clamp_min(0) / shrink).cpu().numpy()


class FactorSource:
    """Makes the factors of one group after the other; genotypes are multiplied once where no weights differ.

    Samples without a phenotype are taken away from the Gram matrix of all samples (they are few), and cut out of the
    relationship matrix.
    """

    def __init__(self, problem: RidgeProblem, form: str) -> None:
        self._problem, self._form = problem, form
        self._all: torch.Tensor | None = None

    def factors(self, group: Group, penalty: float | None, last: bool) -> Factors:
        """last: that no other group follows, so that what is shared may be overwritten."""
        counts, num_samples = self._problem.counts, self._problem.counts.num_samples
        everyone = len(group.rows) == num_samples
        if self._form == "dual":
            if self._all is None:
                self._all = counts.kernel()
            kernel = self._all if everyone and last else self._all[group.rows[:, None], group.rows]
            return Dual(self._problem, group, kernel, penalty)
        return Primal(self._problem, group, self._gram(counts, group, everyone, last), penalty)

    def _gram(self, counts: AlleleCounts, group: Group, everyone: bool, last: bool) -> torch.Tensor:
        if group.is_weighted:
            return counts.gram(root_weights=group.root_weights)
        known = group.root_weights > 0
        if 2 * len(group.rows) < counts.num_samples:
            return counts.gram(only=known)
        if self._all is None:
            self._all = counts.gram()
        gram = self._all if last else self._all.clone()
        return gram if everyone else gram.sub_(counts.gram(only=~known))
