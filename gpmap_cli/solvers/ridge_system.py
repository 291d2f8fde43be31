"""The normal equations of all environments at once, for iteration: right-hand sides, residuals, standard errors.

Notation of `ridge_problem`. Columns are the E environments and P probes: random signs, by which traces are estimated.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.random_streams import stream
from gpmap_cli.solvers.allele_counts import AlleleCounts
from gpmap_cli.solvers.ridge_problem import RidgeProblem, scale_of
from gpmap_cli.solvers.ridge_subspace import Subspace

_MOST_BYTES = 3e9
_CHUNK = 2048


class System:
    """The right-hand sides of a problem, its space, and residuals. Columns: E environments, then probes.

    A probe's residual is that of one environment, each in turn; its trace is taken in all of them.
    """

    def __init__(
        self,
        problem: RidgeProblem,
        num_probes: int,
        validation: tuple[CodedGenotypes, NDArray[np.float64]] | None,
        seed: int,
    ) -> None:
        self.problem, self.num_probes = problem, num_probes
        self.counts, d = problem.counts, problem.d
        num_samples, num_environments = d.shape
        self.num_environments = num_environments
        signs = stream(seed, "ridge", "probes").integers(0, 2, (num_samples, num_probes)) * 2.0 - 1
        s = d.sqrt()
        probes = s[:, :, None] * torch.from_numpy(signs).to(d.device)[:, None, :] * (d > 0)[:, :, None]
        probes -= d[:, :, None] * (probes.sum(dim=0) / problem.num_samples[:, None])
        targets = torch.cat([(d * problem.y)[:, :, None], probes], dim=2)  # (N, E, 1 + P)
        self.environment = torch.tensor(
            [*range(num_environments), *(probe % num_environments for probe in range(num_probes))], device=d.device
        )
        self.place = torch.tensor([0] * num_environments + list(range(1, num_probes + 1)), device=d.device)
        self._targets = targets[:, self.environment, self.place]  # (N, E + P)
        others = None if validation is None else AlleleCounts(validation[0], problem.device)
        self.space = Subspace(self.counts, others, d, targets)
        of_probes = self.counts.transposed_times(self._targets[:, num_environments:].float())
        self.rights = torch.cat([problem.product, self.counts.scale * of_probes], dim=1)  # A't, (L, E + P)
        self.lengths = torch.linalg.vector_norm(self.rights, dim=0)
        squares = self.counts.sums_of_squares() @ d - problem.num_samples * (problem.mean_counts**2).sum(dim=0)
        traces = (self.counts.scale**2 * squares).tolist()
        self.scales = np.array([scale_of(*both) for both in zip(traces, problem.num_samples.tolist(), strict=True)])

    def most_dimensions(self) -> int:
        """How large the space may grow."""
        for size in range(128, self.counts.num_loci + 128, 128):
            if (
                4 * size * (self.counts.num_samples + self.counts.num_loci) + 12 * self.num_environments * size**2
                > _MOST_BYTES
            ):
                return size
        return self.counts.num_loci

    def residuals(
        self, coordinates: torch.Tensor, penalties: torch.Tensor, columns: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor:
        """A't - A'A w - penalty w, (L, C), of these columns at w = W c; everything in this precision."""
        environment = self.environment[columns]
        d = self.problem.d[:, environment]
        if dtype == torch.float64:
            effects = self.space.effects(coordinates)
            fitted = self.counts.times(effects) * self.counts.scale
        else:
            effects = self.space.effects(coordinates, torch.float32)
            fitted = (self.space.images @ coordinates.float()).double()
        fitted -= (d * fitted).sum(dim=0) / self.problem.num_samples[environment]
        left = self._targets[:, columns] - d * fitted
        found = self.counts.scale * self.counts.transposed_times(left.to(dtype))
        return found - penalties[environment] * effects

    def standard_errors(self, penalties: NDArray) -> NDArray[np.float64]:
        """Posterior standard deviations of the effects (L, E), approximately.

        The square is sigma^2 / penalty * (1 - k_l), k the diagonal of A'A (A'A + penalty I)^-1, what the data have said
        about a locus. In the space k is known; what the probes' trace says is missing from its sum is shared among the
        loci by how much of each (1 - |W_l|^2) lies outside. So their mean is right, and each of them about.
        """
        space, num_loci = self.space, self.counts.num_loci
        found = np.empty((num_loci, self.num_environments))
        for column, penalty in enumerate(penalties):
            values, vectors = torch.linalg.eigh(space.grams[column])
            values = values.clamp_min(0)
            squares = (vectors.T @ space.rights[column]) ** 2 / (values + penalty)[:, None]
            shrink = values / (values + penalty)
            quadratic = float(self.problem.total[column] - squares[:, 0].sum())
            variance = max(quadratic, 0.0) / max(float(self.problem.num_samples[column]) - 1, 1.0)
            missing = 0.0
            if self.num_probes and not self.is_everything:
                missing = float(squares[:, 1:].sum(dim=0).mean() - shrink.sum())
            missing = max(missing, 0.0) / max(num_loci - space.size, 1)
            for start in range(0, num_loci, _CHUNK):
                squared = (space.basis[start : start + _CHUNK] @ vectors.float()) ** 2
                known = (squared @ shrink.float() + missing * (1 - squared.sum(dim=1))).double().clamp(0, 1)
                found[start : start + _CHUNK, column] = (variance / penalty * (1 - known)).sqrt().cpu().numpy()
        return found

    @property
    def is_everything(self) -> bool:
        """Whether the space holds all there is, so that its own eigenvalues give every trace exactly."""
        return self.space.size >= min(self.counts.num_loci, self.counts.num_samples - 1)
