"""The exact linear fit beside a network.

A network that is free to fit anything pays for it where there is nothing but additive or pairwise effects. A convex
combination with the exact solution for those, its share chosen on the validation samples (`stacking`), costs nothing
there and leaves the network alone where it is better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes, Samples
from gpmap_cli.solvers.missing import shared_rows
from gpmap_cli.solvers.multi_ridge import MultiProblem, solve_effects
from gpmap_cli.solvers.multi_ridge_variances import estimate_variances
from gpmap_cli.solvers.pairwise import PairwiseSolution, pairwise_prediction, solve_pairwise
from gpmap_cli.solvers.ridge import linear_prediction, solve_ridge
from gpmap_cli.training.context import FitContext

Kind = Literal["ridge", "multi_ridge", "pairwise"]

# All pairs are fitted where the primal system is small: up to 70 loci.
_MOST_FEATURES = 2_500
# Loci that count for the guess that all environments are alike: the default of `model=multi_ridge`.
_PRIOR_LOCI = 10.0


@dataclass(frozen=True)
class LinearBaseline:
    """f(x) = intercept + x . additive + sum_{l<m} pairs_lm x_l x_m in coded genotypes; pairs (0, E) without pairs."""

    additive: NDArray[np.float64]
    pairs: NDArray[np.float64]
    intercept: NDArray[np.float64]

    def predict(self, genotypes: CodedGenotypes) -> NDArray[np.float64]:
        """Standardised phenotypes (N, E)."""
        if len(self.pairs) == 0:
            return linear_prediction(genotypes, self.additive, self.intercept)
        penalties = np.zeros((len(self.intercept), 2))
        return pairwise_prediction(genotypes, PairwiseSolution(self.additive, self.pairs, self.intercept, penalties))


def _additive(train: Samples, kind: Kind, context: FitContext) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if kind == "ridge":
        found = solve_ridge(train.genotypes, train.phenotypes, None, None, context.device, seed=context.seed)
        return found.weights, found.intercept
    measured = (~np.isnan(train.phenotypes)).astype(np.float64)
    problem = MultiProblem(train.genotypes, train.phenotypes, measured, context.device)
    variances = estimate_variances(problem, _PRIOR_LOCI, context.seed)
    return solve_effects(problem, variances.genetic, variances.residual)


def can_fit_pairs(num_samples: int, num_loci: int) -> bool:
    """Whether all pairs are few enough to be fitted beside a network."""
    return num_loci > 1 and num_loci * (num_loci + 1) // 2 <= min(_MOST_FEATURES, num_samples)


def fit_linear_baseline(train: Samples, kind: Kind, context: FitContext) -> LinearBaseline:
    """Ridge with a penalty for each environment by leave-one-out; multivariate ridge or all pairs, by REML."""
    if kind != "pairwise":
        weights, intercept = _additive(train, kind, context)
        return LinearBaseline(weights, np.empty((0, len(intercept))), intercept)
    num_loci, num_environments = train.genotypes.num_loci, train.phenotypes.shape[1]
    additive = np.empty((num_loci, num_environments))
    pairs = np.empty((num_loci * (num_loci - 1) // 2, num_environments))
    intercept = np.empty(num_environments)
    for group in shared_rows(train.phenotypes):
        phenotypes = train.phenotypes[np.ix_(group.rows, group.columns)]
        genotypes = train.genotypes.take(group.rows)
        part = solve_pairwise(genotypes, phenotypes, (None, None), None, context.device, lambda _: None)
        additive[:, group.columns], pairs[:, group.columns] = part.additive, part.pairs
        intercept[group.columns] = part.intercept
    return LinearBaseline(additive, pairs, intercept)
