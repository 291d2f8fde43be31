"""`ridge`: additive effects of all loci, shrunk by one penalty per environment.

f(x) = b + sum_l w_l x_l, minimising sum_i d_i (y_i - f(x_i))^2 + penalty * sum_l w_l^2 (x coded -1/+1 or centred
dosages, y standardised; d is 1, or 1 / phenotype_std^2 with mean 1). The same as GBLUP with the additive relationship.
Penalty by leave-one-out, restricted likelihood or validation. By one factorisation for all penalties, exactly, or by
iteration where that is too much: `gpmap_cli/solvers/ridge_routes.py` has the costs. Hoerl and Kennard 1970.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gpmap_cli.models.base import Model
from gpmap_cli.settings import setting

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpmap_cli.dataset.coding import CodedGenotypes, Samples
    from gpmap_cli.training.context import FitContext


@dataclass(frozen=True)
class Settings:
    name: str = "ridge"
    penalty: float | None = setting(None, above=0)
    penalty_choice: Literal["loo", "reml", "validation"] = "loo"
    route: Literal["auto", "primal", "dual", "iterative"] = "auto"
    weighted: bool = False


class Ridge(Model):
    """Additive regression with a ridge penalty for each environment."""

    name = "ridge"
    needs_float64 = True
    settings: Settings

    @classmethod
    def needs_validation(cls, settings: Settings) -> bool:
        return settings.penalty is None and settings.penalty_choice == "validation"

    def _fit(self, train: Samples, validation: Samples, context: FitContext) -> None:
        from gpmap_cli.solvers.missing import row_weights
        from gpmap_cli.solvers.ridge import solve_ridge

        settings = self.settings
        chosen_on = (validation.genotypes, validation.phenotypes)
        solution = solve_ridge(
            train.genotypes,
            train.phenotypes,
            settings.penalty,
            chosen_on if settings.penalty is None and settings.penalty_choice == "validation" else None,
            context.device,
            choice=settings.penalty_choice,
            route=settings.route,
            weights=row_weights(train.phenotypes, train.phenotype_std) if settings.weighted else None,
            reporter=context.reporter,
            seed=context.seed,
        )
        self._weights, self._intercept, self._penalty = solution.weights, solution.intercept, solution.penalty
        self._std_error, self._route = solution.std_error, solution.route

    def _predict(self, genotypes: CodedGenotypes) -> NDArray:
        from gpmap_cli.solvers.ridge import linear_prediction

        return linear_prediction(genotypes, self._weights, self._intercept)

    def _state(self) -> dict[str, NDArray]:
        return {
            "weights": self._weights,
            "intercept": self._intercept,
            "penalty": self._penalty,
            "std_error": self._std_error,
        }

    def _restore(self, state: dict[str, NDArray]) -> None:
        import numpy as np

        self._weights, self._intercept, self._penalty = state["weights"], state["intercept"], state["penalty"]
        self._std_error = state.get("std_error", np.full(self._weights.shape, np.nan))
        self._route = "restored"

    def describe(self) -> dict[str, Any]:
        return {"route": self._route, "penalty": self._penalty.tolist()}

    def tables(self) -> dict[str, dict[str, NDArray]]:
        """`effects`: of every locus in every environment, the strongest first, with posterior standard deviations."""
        import numpy as np

        num_loci, num_environments = self._weights.shape
        order = np.argsort(-np.abs(self._weights), axis=0, kind="stable")
        return {
            "effects": {
                "environment": np.repeat(np.arange(num_environments), num_loci),
                "locus": order.T.ravel(),
                "effect": np.take_along_axis(self._weights, order, axis=0).T.ravel(),
                "std_error": np.take_along_axis(self._std_error, order, axis=0).T.ravel(),
            }
        }

    @property
    def num_parameters(self) -> int:
        return self._weights.size + self._intercept.size
