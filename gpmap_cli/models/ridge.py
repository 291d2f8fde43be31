"""`ridge`: additive effects of all loci, shrunk by one penalty per environment.

f(x) = b + sum_l w_l x_l, minimising sum_i (y_i - f(x_i))^2 + penalty * sum_l w_l^2 (x coded -1/+1 or centred
dosages, y standardised). The same as GBLUP with the additive relationship. Penalty by exact leave-one-out or by
validation. Costs N L min(N, L) once for all environments that are measured in the same samples, plus
N min(N, L) for each of the 61 penalties and each environment; memory min(N, L)^2. Hoerl and Kennard 1970.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gpmap_cli.errors import InputError
from gpmap_cli.models.base import Model
from gpmap_cli.settings import setting

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpmap_cli.dataset.coding import CodedGenotypes, Samples
    from gpmap_cli.training.context import FitContext

_LARGEST_FACTORISATION = 20_000


@dataclass(frozen=True)
class Settings:
    name: str = "ridge"
    penalty: float | None = setting(None, above=0)
    penalty_choice: Literal["loo", "validation"] = "loo"


class Ridge(Model):
    """Additive regression with an exactly chosen ridge penalty."""

    name = "ridge"
    needs_float64 = True
    settings: Settings

    def _fit(self, train: Samples, validation: Samples, context: FitContext) -> None:
        import numpy as np

        from gpmap_cli.solvers.missing import shared_rows
        from gpmap_cli.solvers.ridge import solve_ridge

        size = min(len(train), train.genotypes.num_loci)
        if size > _LARGEST_FACTORISATION:
            raise InputError(
                f"ridge would factorise a matrix of {size} x {size}, more than {_LARGEST_FACTORISATION}",
                "take fewer samples (data.num_samples) or loci (data.loci)",
            )
        num_environments = train.phenotypes.shape[1]
        self._weights = np.empty((train.genotypes.num_loci, num_environments))
        self._intercept, self._penalty = np.empty(num_environments), np.empty(num_environments)
        for group in shared_rows(train.phenotypes):
            chosen_on = None
            if self.settings.penalty_choice == "validation":
                chosen_on = (validation.genotypes, validation.phenotypes[:, group.columns])
            solution = solve_ridge(
                train.genotypes.take(group.rows),
                train.phenotypes[np.ix_(group.rows, group.columns)],
                self.settings.penalty,
                chosen_on,
                context.device,
            )
            self._weights[:, group.columns] = solution.weights
            self._intercept[group.columns] = solution.intercept
            self._penalty[group.columns] = solution.penalty

    def _predict(self, genotypes: CodedGenotypes) -> NDArray:
        from gpmap_cli.solvers.ridge import linear_prediction

        return linear_prediction(genotypes, self._weights, self._intercept)

    def _state(self) -> dict[str, NDArray]:
        return {"weights": self._weights, "intercept": self._intercept, "penalty": self._penalty}

    def _restore(self, state: dict[str, NDArray]) -> None:
        self._weights, self._intercept, self._penalty = state["weights"], state["intercept"], state["penalty"]

    def describe(self) -> dict[str, Any]:
        return {"penalty": self._penalty.tolist()}

    @property
    def num_parameters(self) -> int:
        return self._weights.size + self._intercept.size
