"""`pairwise`: additive effects plus all L (L - 1) / 2 pairwise interactions, exactly, with a penalty for each part.

f(x) = b + sum_l a_l x_l + sum_{l<m} W_lm x_l x_m; the objective and its centring are written out in
`gpmap_cli/solvers/pairwise.py`. Penalties by restricted maximum likelihood of the two variance components (as in
an epistatic G-BLUP, Jiang and Reif 2015) or by validation. With P = L (L + 1) / 2 effects: N P^2 / 2 multiply-adds
and P^2 numbers when P <= N, then about 9 P^3 once; otherwise N^2 L, N^2 numbers and N^3 / 3 for each of about 40
trials.
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

_LARGEST_FACTORISATION = 15_000


@dataclass(frozen=True)
class Settings:
    name: str = "pairwise"
    additive_penalty: float | None = setting(None, above=0)
    pair_penalty: float | None = setting(None, above=0)
    penalty_choice: Literal["reml", "validation"] = "reml"


class Pairwise(Model):
    """Regression on all loci and all pairs of loci."""

    name = "pairwise"
    needs_float64 = True
    settings: Settings

    def _fit(self, train: Samples, validation: Samples, context: FitContext) -> None:
        import numpy as np

        from gpmap_cli.solvers.missing import shared_rows
        from gpmap_cli.solvers.pairwise import PairwiseSolution, solve_pairwise

        num_loci = train.genotypes.num_loci
        num_pairs = num_loci * (num_loci - 1) // 2
        size = min(len(train), num_loci + num_pairs)
        if size > _LARGEST_FACTORISATION:
            raise InputError(
                f"pairwise would factorise a matrix of {size} x {size}, more than {_LARGEST_FACTORISATION}",
                "take fewer samples (data.num_samples) or loci (data.loci)",
            )
        num_environments = train.phenotypes.shape[1]
        self._solution = PairwiseSolution(
            np.empty((num_loci, num_environments)),
            np.empty((num_pairs, num_environments)),
            np.empty(num_environments),
            np.empty((num_environments, 2)),
        )
        for group in shared_rows(train.phenotypes):
            chosen_on = None
            if self.settings.penalty_choice == "validation":
                chosen_on = (validation.genotypes, validation.phenotypes[:, group.columns])
            part = solve_pairwise(
                train.genotypes.take(group.rows),
                train.phenotypes[np.ix_(group.rows, group.columns)],
                (self.settings.additive_penalty, self.settings.pair_penalty),
                chosen_on,
                context.device,
                context.reporter.note,
            )
            self._solution.additive[:, group.columns] = part.additive
            self._solution.pairs[:, group.columns] = part.pairs
            self._solution.intercept[group.columns] = part.intercept
            self._solution.penalties[group.columns] = part.penalties

    def _predict(self, genotypes: CodedGenotypes) -> NDArray:
        from gpmap_cli.solvers.pairwise import pairwise_prediction

        return pairwise_prediction(genotypes, self._solution)

    def _state(self) -> dict[str, NDArray]:
        solution = self._solution
        return {
            "additive": solution.additive,
            "pairs": solution.pairs,
            "intercept": solution.intercept,
            "penalties": solution.penalties,
        }

    def _restore(self, state: dict[str, NDArray]) -> None:
        from gpmap_cli.solvers.pairwise import PairwiseSolution

        self._solution = PairwiseSolution(state["additive"], state["pairs"], state["intercept"], state["penalties"])

    def describe(self) -> dict[str, Any]:
        additive, pair = self._solution.penalties.T
        return {"additive_penalty": additive.tolist(), "pair_penalty": pair.tolist()}

    @property
    def num_parameters(self) -> int:
        solution = self._solution
        return solution.additive.size + solution.pairs.size + solution.intercept.size
