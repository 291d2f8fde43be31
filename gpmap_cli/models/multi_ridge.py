"""`multi_ridge`: additive effects of all loci in all environments, shrunk towards each other as environments correlate.

y_e = b_e + sum_l w_le x_l + noise of variance r_e, and (w_l1, ..., w_lE) ~ N(0, G) for every locus: multivariate GBLUP.
G (E x E) and r by restricted maximum likelihood, with a prior by which an environment of few phenotypes is like the
others; then the best linear unbiased prediction, missing cells left out exactly. With one environment it is `ridge`
with `penalty_choice=reml`. Costs N L^2 / 2 for each pattern of missing phenotypes, then some hundred times 10 steps of
5 E L^2 multiply-adds; 8 E L^2 bytes. Henderson and Quaas 1976; `gpmap_cli/solvers/multi_ridge.py` has the equations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpmap_cli.models.base import Model
from gpmap_cli.settings import setting

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpmap_cli.dataset.coding import CodedGenotypes, Samples
    from gpmap_cli.training.context import FitContext


@dataclass(frozen=True)
class Settings:
    name: str = "multi_ridge"
    prior_loci: float = setting(10.0, minimum=0)
    weighted: bool = False


class MultiRidge(Model):
    """Additive regression of all environments jointly, by their genetic correlations."""

    name = "multi_ridge"
    needs_float64 = True
    joint_environments = True
    settings: Settings

    @classmethod
    def needs_validation(cls, settings: Settings) -> bool:
        return False

    def _fit(self, train: Samples, validation: Samples, context: FitContext) -> None:
        import numpy as np

        from gpmap_cli.solvers.missing import row_weights
        from gpmap_cli.solvers.multi_ridge import MultiProblem, solve_effects
        from gpmap_cli.solvers.multi_ridge_variances import estimate_variances

        phenotypes = train.phenotypes
        weights = (~np.isnan(phenotypes)).astype(np.float64)
        if self.settings.weighted:
            weights = row_weights(phenotypes, train.phenotype_std)
        problem = MultiProblem(train.genotypes, phenotypes, weights, context.device)
        context.reporter.begin("", 0, 0)
        variances = estimate_variances(problem, self.settings.prior_loci, context.seed, context.reporter.step)
        self._genetic, self._residual = variances.genetic, variances.residual
        self._num_rounds = variances.num_rounds
        self._weights, self._intercept = solve_effects(problem, self._genetic, self._residual)
        self._additive = np.diag(self._genetic) * float(problem.spectrum[0].sum())

    def _predict(self, genotypes: CodedGenotypes) -> NDArray:
        from gpmap_cli.solvers.ridge import linear_prediction

        return linear_prediction(genotypes, self._weights, self._intercept)

    def _state(self) -> dict[str, NDArray]:
        return {
            "weights": self._weights,
            "intercept": self._intercept,
            "genetic": self._genetic,
            "residual": self._residual,
            "additive": self._additive,
        }

    def _restore(self, state: dict[str, NDArray]) -> None:
        self._weights, self._intercept = state["weights"], state["intercept"]
        self._genetic, self._residual, self._additive = state["genetic"], state["residual"], state["additive"]
        self._num_rounds = 0

    def describe(self) -> dict[str, Any]:
        heritability = self._additive / (self._additive + self._residual)
        return {"heritability": heritability.tolist(), "num_rounds": self._num_rounds}

    def tables(self) -> dict[str, dict[str, NDArray]]:
        """`effects`, the strongest first, and `genetic_correlation` of every two environments."""
        import numpy as np

        num_loci, num_environments = self._weights.shape
        order = np.argsort(-np.abs(self._weights), axis=0, kind="stable")
        std = np.sqrt(np.diag(self._genetic))
        first, second = np.tril_indices(num_environments, -1)
        return {
            "effects": {
                "environment": np.repeat(np.arange(num_environments), num_loci),
                "locus": order.T.ravel(),
                "effect": np.take_along_axis(self._weights, order, axis=0).T.ravel(),
            },
            "genetic_correlation": {
                "environment": first,
                "environment_2": second,
                "additive_genetic_correlation": (self._genetic / np.outer(std, std))[first, second],
            },
        }

    @property
    def num_parameters(self) -> int:
        return self._weights.size + self._intercept.size
