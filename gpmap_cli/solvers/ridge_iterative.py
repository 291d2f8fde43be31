"""Ridge without a factorisation of the data: all environments by iteration in one growing space of locus effects.

Each step reads the genotypes twice. It solves every environment's problem within the space (`ridge_subspace`), takes
the residuals of the normal equations r_e = A_e't_e - A_e'A_e w_e - penalty_e w_e, and adds them to the space. So the
space holds what conjugate gradients would have found for each environment (its Krylov space), and what those of the
others found besides: environments share their loci, and 18 of them take a seventh of the steps. Missing phenotypes and
weights are in A_e; that it differs between environments costs nothing. A projection method for several right-hand
sides (Chan and Wan 1997; block conjugate gradients, O'Leary 1980).

The penalty of each environment is chosen in the space, whose criterion converges as the square of the residual: by
validation error; by generalised cross-validation n RSS / (n - 1 - trace H)^2 (Golub, Heath and Wahba 1979), which
stands in for leave-one-out and puts the mean leverage in the place of each sample's; or by restricted likelihood.
trace H and log det(I + AA'/penalty) are means of z'f(AA')z over random signs z (Hutchinson 1990; Ubaru, Chen and Saad
2017), 8 of them, whose solutions are in the space as well; standard errors need these too.

Products are in single precision, sums of more than some thousand rows in double. At the end the residual is taken once
more, all in double precision, and corrected within the space. Costs 4 N L (E + 8) per step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.solvers.ridge_criteria import Criterion
from gpmap_cli.solvers.ridge_problem import RidgeProblem, RidgeSolution, best_penalty
from gpmap_cli.solvers.ridge_system import System
from gpmap_cli.training.context import Reporter

TOLERANCE = 1e-6  # of |r| / |A't|
_PROBE_TOLERANCE = 1e-3  # z'f(AA')z is off by its square
NUM_PROBES = 8
_MOST_STEPS = 200
# Penalties are chosen anew when the space has grown so much, and at the end; done when they differ by less than this.
_GROWTH, _SETTLED = 1.3, 1e-3
# A step that leaves more than this of the residual, where it is within this factor of the tolerance, met rounding.
_STALLED, _ROUNDING = 0.9, 30


def solve_iteratively(
    problem: RidgeProblem,
    penalty: float | None,
    choice: str,
    validation: tuple[CodedGenotypes, NDArray[np.float64]] | None,
    reporter: Reporter,
    seed: int = 0,
    tolerance: float = TOLERANCE,
) -> RidgeSolution:
    """Effects, penalties and standard errors of all environments. `choice`: loo (by GCV), reml, validation."""
    system = System(problem, NUM_PROBES, validation, seed)
    criterion = None if penalty is not None else Criterion(system, choice, validation)
    iteration = _Iteration(system, penalty, criterion, tolerance)
    reporter.begin("", _MOST_STEPS, 0)
    for step in range(1, _MOST_STEPS + 1):
        if not iteration.advance():
            break
        reporter.step(iteration.worst)
        if step % 5 == 0:
            reporter.note(
                f"ridge: step {step}, space of {system.space.size} dimensions, relative residual {iteration.worst:.1e}"
            )
    said = f"ridge: {iteration.num_steps} steps, space of {system.space.size} dimensions"
    if iteration.worst <= tolerance:
        reporter.note(f"{said}, relative residual {iteration.worst:.1e} in double precision")
    else:
        reporter.note(
            f"{said}; NOT converged: the relative residual of the normal equations is {iteration.worst:.1e} and not"
            f" {tolerance:.0e}; a larger model.penalty, or fewer loci, would converge"
        )
    weights = iteration.effects().cpu().numpy()
    penalties = iteration.penalties.cpu().numpy()
    return RidgeSolution(weights, problem.intercept(weights), penalties, system.standard_errors(penalties), "iterative")


@dataclass
class _Residuals:
    """The residuals of some columns at the present effects, (L, C)."""

    columns: torch.Tensor
    values: torch.Tensor


class _Iteration:
    """The state between steps: penalties, coordinates of all columns in the space, and what is still to be learned."""

    def __init__(self, system: System, penalty: float | None, criterion: Criterion | None, tolerance: float) -> None:
        self._system, self._criterion, self._tolerance = system, criterion, tolerance
        device, num_columns = system.rights.device, system.rights.shape[1]
        fixed = system.scales if penalty is None else np.full(system.num_environments, penalty)
        self.penalties = torch.from_numpy(fixed.astype(np.float64)).to(device)
        self._coordinates = torch.zeros(0, num_columns, dtype=torch.float64, device=device)
        self._goal = torch.full((num_columns,), tolerance, dtype=torch.float64, device=device)
        self._goal[system.num_environments :] = _PROBE_TOLERANCE
        self._relative = (system.lengths > 0).double()
        self._residuals = _Residuals(torch.arange(num_columns, device=device), system.rights)
        self._dtype = torch.float32
        self._chosen_at = 0
        self._room = system.most_dimensions()
        self.num_steps = 0

    @property
    def worst(self) -> float:
        """The largest relative residual of any environment."""
        return float(self._relative[: self._system.num_environments].max())

    def effects(self) -> torch.Tensor:
        return self._system.space.effects(self._coordinates[:, : self._system.num_environments])

    def advance(self) -> bool:
        """One step; False when nothing is left to do (or nothing more can be done)."""
        space, columns, before = self._system.space, self._residuals.columns, self.worst
        still_open = self._relative[columns] > self._goal[columns]
        if not bool(still_open.any()):
            return False
        grown = space.extend(self._residuals.values[:, still_open]) if space.size < self._room else 0
        self.num_steps += 1
        padding = torch.zeros(grown, self._coordinates.shape[1], dtype=torch.float64, device=space.basis.device)
        self._coordinates = torch.cat([self._coordinates, padding])
        if grown == 0:
            # The residuals lie in the space already: what is left of them is rounding.
            self._in_double_precision()
        if self._criterion is not None and space.size >= _GROWTH * self._chosen_at:
            self._choose()
        else:
            self._correct()
        self._update()
        if self.worst <= self._tolerance:
            return self._settle()
        stalled = self.worst > _STALLED * before
        if stalled and before < _ROUNDING * self._tolerance and self._dtype == torch.float32:
            self._in_double_precision()
            return True
        return grown > 0 or not stalled

    def _settle(self) -> bool:
        """All environments have converged. Choose their penalties by the space of now; if that changes nothing, take
        the residual once more in double precision, and correct by it. True when there is more to do."""
        space, probes = self._system.space, self._relative[self._system.num_environments :]
        if self._criterion is not None and self._chosen_at != space.size:
            if self._dtype == torch.float32 and bool((probes > _PROBE_TOLERANCE).any()):
                return True
            before, coordinates = self.penalties, self._coordinates
            self._choose()
            if bool(((self.penalties / before).log().abs() <= _SETTLED).all()):
                self.penalties, self._coordinates = before, coordinates
            else:
                self._update()
                if self.worst > self._tolerance:
                    return True
        self._in_double_precision()
        if self.worst > self._tolerance:
            self._correct()
            self._update()
            return self.worst > self._tolerance
        self._correct()
        return False

    def _in_double_precision(self) -> None:
        if self._dtype == torch.float32:
            self._dtype = torch.float64
            self._update()

    def _choose(self) -> None:
        """Penalties by the criterion, and the solutions within the space under them."""
        assert self._criterion is not None
        paths, values = self._criterion.paths()
        best = [best_penalty(paths[:, column], values[:, column]) for column in range(paths.shape[1])]
        self.penalties = torch.tensor(best, dtype=torch.float64, device=self.penalties.device)
        self._chosen_at = self._system.space.size
        rights = self._system.space.rights[self._system.environment, :, self._system.place].T  # (m, E + P)
        self._coordinates = self._solved(rights, torch.arange(rights.shape[1], device=rights.device))

    def _correct(self) -> None:
        """Solve for the residuals within the space, and add: rounding in G and b is corrected too, step by step."""
        columns = self._residuals.columns
        right = self._system.space.coordinates(self._residuals.values)
        self._coordinates[:, columns] += self._solved(right, columns)

    def _solved(self, rights: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """(G_e + penalty_e I)^-1 times each column, (m, C)."""
        found = torch.empty_like(rights)
        environment = self._system.environment[columns]
        for e in environment.unique().tolist():
            matrix = self._system.space.grams[e].clone()
            matrix.diagonal().add_(self.penalties[e])
            found[:, environment == e] = torch.cholesky_solve(
                rights[:, environment == e], torch.linalg.cholesky(matrix)
            )
        return found

    def _update(self) -> None:
        """The residuals of the present solutions: in single precision of those columns that are not done, or have other
        penalties now; in double precision of the environments."""
        columns = torch.arange(len(self._relative), device=self._relative.device)
        if self._dtype == torch.float64:
            columns = columns[: self._system.num_environments]
        elif self._chosen_at != self._system.space.size:
            columns = columns[self._relative > self._goal]
        values = self._system.residuals(self._coordinates[:, columns], self.penalties, columns, self._dtype)
        self._residuals = _Residuals(columns, values)
        length = self._system.lengths[columns]
        self._relative[columns] = torch.linalg.vector_norm(values, dim=0) / torch.where(length > 0, length, 1.0)
