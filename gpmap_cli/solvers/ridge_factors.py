"""Ridge by one eigendecomposition for all penalties, or by one Cholesky factorisation for a given one.

Primal (from the loci, n >= L): A'A = V S V', w = V (S + penalty)^-1 V'A't. Dual (from the samples, n < L):
AA' = U S U', w = A'U (S + penalty)^-1 U't. Leave-one-out residuals are exact in both (weighted: Golub, Heath and
Wahba 1979): e_i / (1 - h_i) with the leverage h_i = q_i^2 + sum_k z_ik^2 / (s_k + penalty), z = A V (primal) or
z = U S^(1/2) (dual). Costs n L min(n, L) / 2 for the matrix, about 10 min(n, L)^3 for its eigenvalues (a third of one
for Cholesky), and for leverages n L^2 (primal); `leave_one_out` has what comes on top. Memory min(n, L)^2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.solvers.allele_counts import AlleleCounts
from gpmap_cli.solvers.ridge_problem import Group, RidgeProblem, restricted_likelihood, scale_of

# Multiply-adds from which leverages are worth single precision, which takes half the time.
_MANY = 1e9
_ROWS_AT_ONCE = 2048
_LEAST_EIGENVALUE = 1e-12  # of the largest
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
    def leverages(self, path: NDArray, in_double: bool) -> torch.Tensor:
        """Leverage of every sample of the group at every penalty of the path, (n, P), in single precision if it pays.

        in_double: in double precision, whether single precision pays or not.
        """

    @abstractmethod
    def residuals(self, penalties: NDArray, columns: NDArray[np.intp]) -> Iterator[tuple[slice, torch.Tensor]]:
        """Residuals s (y - f) of the samples of the group, in blocks (rows, C), and which of the group these are.

        penalties, columns: (C,) as in `weights`.
        """

    @abstractmethod
    def spectrum(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Eigenvalues (K,), what of |t|^2 lies along each eigenvector of AA' (K, E'), and what along no other (E',)."""

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

    def leverages(self, path: NDArray, in_double: bool) -> torch.Tensor:
        num_samples, num_loci = len(self._group.rows), len(self._values)
        dtype = torch.float64 if in_double or num_samples * num_loci**2 < _MANY else torch.float32
        vectors = self._vectors.to(dtype)
        shift = -(self._mean @ self._vectors).to(dtype)
        penalties = torch.from_numpy(path).to(self._t.device)
        inverse = (self._counts.scale**2 / (self._values[:, None] + penalties)).to(dtype)  # (L, P)
        squares = (self._s**2).to(dtype)[:, None]
        found = torch.empty(num_samples, len(path), dtype=dtype, device=self._t.device)
        for place, counts in self._blocks(dtype):
            torch.mm(torch.addmm(shift, counts, vectors).square_(), inverse, out=found[place])
        return found.add_(1 / self.num_samples.to(dtype)).mul_(squares)

    def residuals(self, penalties: NDArray, columns: NDArray[np.intp]) -> Iterator[tuple[slice, torch.Tensor]]:
        effects = self._counts.scale * torch.from_numpy(self.weights(penalties, columns)).to(self._t.device)
        shift, of_columns = self._mean @ effects, torch.from_numpy(columns).to(self._t.device)
        for place, counts in self._blocks(torch.float64):
            fitted = torch.addmm(shift, counts, effects, beta=-1).mul_(self._s[place, None])
            yield place, self._t[place].index_select(1, of_columns).sub_(fitted)

    def spectrum(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        # Below, what is divided is rounding.
        is_known = self._values[:, None] > _LEAST_EIGENVALUE * self._values.max()
        squares = torch.where(is_known, self._rotated**2 / self._values[:, None], 0.0)
        return self._values, squares, (self._total - squares.sum(dim=0)).clamp_min(0)

    def _blocks(self, dtype: torch.dtype) -> Iterator[tuple[slice, torch.Tensor]]:
        """Allele counts of the group's samples in blocks, and which of the group these are; the next one overwrites."""
        start = 0
        for rows, counts in self._counts.blocks(dtype):
            is_member = self._group.root_weights[rows] > 0
            members = counts if is_member.all() else counts[is_member]
            yield slice(start, start + len(members)), members
            start += len(members)

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

    def leverages(self, path: NDArray, in_double: bool) -> torch.Tensor:
        penalties = torch.from_numpy(path).to(self._q.device)
        shrink = self._values[:, None] / (self._values[:, None] + penalties)
        return self._q[:, None] ** 2 + self._vectors**2 @ shrink

    def residuals(self, penalties: NDArray, columns: NDArray[np.intp]) -> Iterator[tuple[slice, torch.Tensor]]:
        of_columns = torch.from_numpy(penalties).to(self._q.device)
        shrunk = self._rotated[:, columns] * (of_columns / (self._values[:, None] + of_columns))
        for start in range(0, len(self._q), _ROWS_AT_ONCE):
            place = slice(start, min(start + _ROWS_AT_ONCE, len(self._q)))
            yield place, self._vectors[place] @ shrunk

    def spectrum(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self._values, self._rotated**2, torch.zeros_like(self._total)

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
