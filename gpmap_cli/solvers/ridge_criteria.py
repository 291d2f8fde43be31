"""Which penalty is best for an environment, as far as the space of an iterative solution knows.

With the eigenvalues s of G_e, c = V'b of the phenotype and c_z of the probes (random signs z), penalty p:

    RSS = |t|^2 - sum c^2 (s + 2 p) / (s + p)^2,      t'(I + AA'/p)^-1 t = |t|^2 - sum c^2 / (s + p),
    trace H = mean_z sum c_z^2 / (s + p),             log det(I + AA'/p) = mean_z sum c_z^2 log(1 + s/p) / s.

Generalised cross-validation is n RSS / (n - 1 - trace H)^2. Both means are of z'f(AA')z, whose expectation is the trace
(Hutchinson 1990; Ubaru, Chen and Saad 2017).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.solvers.ridge_problem import PATH_EXPONENTS, restricted_likelihood
from gpmap_cli.solvers.ridge_system import System


class Criterion:
    """Which penalty is best for an environment, as far as the space knows."""

    def __init__(
        self, system: System, choice: str, validation: tuple[CodedGenotypes, NDArray[np.float64]] | None
    ) -> None:
        self._system, self._choice = system, choice
        self._phenotypes = None if validation is None else torch.from_numpy(validation[1]).to(system.counts.device)

    def paths(self) -> tuple[NDArray, NDArray]:
        """Penalties and criterion, (P, E) each."""
        found = [self._path(column) for column in range(self._system.num_environments)]
        return tuple(np.stack(parts, axis=1) for parts in zip(*found, strict=True))  # type: ignore[return-value]

    def _path(self, column: int) -> tuple[NDArray, NDArray]:
        space, problem = self._system.space, self._system.problem
        path = self._system.scales[column] * 10.0**PATH_EXPONENTS
        penalties = torch.from_numpy(path).to(space.basis.device)[:, None]
        values, vectors = torch.linalg.eigh(space.grams[column])
        values = values.clamp_min(0)
        rotated = vectors.T @ space.rights[column]  # (m, 1 + P)
        phenotype, probes = rotated[:, 0], rotated[:, 1:]
        num_samples, total = problem.num_samples[column], problem.total[column]
        shrunk = values + penalties  # (P, m)
        if self._choice == "validation":
            return path, self._validation_errors(column, vectors @ (phenotype / shrunk).T)
        if self._choice == "reml":
            quadratic = (total - (1 / shrunk) @ phenotype**2).clamp_min(0)
            ratio = values / penalties
            per_square = torch.where(values > 0, ratio.log1p() / values.clamp_min(1e-300), 1 / penalties)
            log_det = self._trace(ratio.log1p(), per_square, probes)
            return path, restricted_likelihood(quadratic, log_det, num_samples).cpu().numpy()
        rss = (total - ((values + 2 * penalties) / shrunk**2) @ phenotype**2).clamp_min(0)
        freedom = self._trace(values / shrunk, 1 / shrunk, probes)
        left = (num_samples - 1 - freedom).clamp_min(1e-12 * float(num_samples))
        return path, (num_samples * rss / left**2).cpu().numpy()

    def _trace(self, of_space: torch.Tensor, per_square: torch.Tensor, probes: torch.Tensor) -> torch.Tensor:
        """A trace (P,), from its parts in the space (P, m): a lower bound, and exact where the space is everything."""
        bound = of_space.sum(dim=1)
        if self._system.is_everything:
            return bound
        return torch.maximum((per_square @ probes**2).mean(dim=1), bound)

    def _validation_errors(self, column: int, coordinates: torch.Tensor) -> NDArray:
        """Mean squared error (P,) at the validation samples of effects with these coordinates (m, P)."""
        space = self._system.space
        assert self._phenotypes is not None
        observed = self._phenotypes[:, column]
        known = ~torch.isnan(observed)
        predicted = (space.other_images[known] @ coordinates.float()).double()
        predicted += float(self._system.problem.phenotype_mean[column]) - space.means[column] @ coordinates
        errors = ((observed[known, None] - predicted) ** 2).sum(dim=0) / max(int(known.sum()), 1)
        return errors.cpu().numpy()
