"""`sparse_epistasis`: the loci and interactions that pass a test of all candidates, over a polygenic background.

f(x) = b + sum_l a_l x_l + sum_S beta_S prod_{l in S} x_l, over the sets S of 2 to k loci that rounds of exhaustive
scans and joint tests chose (`gpmap_cli/sparse_terms/search.py`); a_l and beta_S by a joint ridge regression with
penalties of their own for the background, for what was chosen, and for terms that only other environments chose. A
round costs C(L, k) N multiply-adds for each order and environment; a prediction L + S.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING, Any

from gpmap_cli.models.base import Model
from gpmap_cli.settings import setting

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpmap_cli.dataset.coding import CodedGenotypes, Samples
    from gpmap_cli.training.context import FitContext


@dataclass(frozen=True)
class Settings:
    name: str = "sparse_epistasis"
    max_order: int = setting(4, minimum=1, maximum=4)
    alpha: float = setting(0.01, above=0, below=1)
    max_products: float = setting(5e12, above=0)
    num_candidates: int = setting(2_000, minimum=1, maximum=100_000)
    max_rounds: int = setting(10, minimum=1)


class SparseEpistasis(Model):
    """Regression on chosen loci and interactions."""

    name = "sparse_epistasis"
    needs_float64 = True
    settings: Settings

    def _fit(self, train: Samples, validation: Samples, context: FitContext) -> None:
        from gpmap_cli.errors import Interrupted
        from gpmap_cli.scan.search import Stopped
        from gpmap_cli.solvers.ridge import solve_ridge
        from gpmap_cli.sparse_terms.search import Plan, TermSearch, Watch

        settings, store, note = self.settings, context.checkpoints, context.reporter.note
        orders = self._orders(len(train), train.genotypes.num_loci, context)
        plan = Plan(orders, settings.alpha, settings.num_candidates, settings.max_rounds, context.seed)
        saved = None if store is None else store.load()
        watch = Watch(note, stop=lambda: context.stop.requested, state=None if saved is None else saved[0])
        if store is not None:
            watch.save = lambda state: store.save(state, {}, [])
        first = solve_ridge(
            train.genotypes, train.phenotypes, None, None, context.device, choice="reml", seed=context.seed
        )
        search = TermSearch(train, validation, first.penalty, plan, context.device, watch)
        context.reporter.begin("sparse_epistasis", 0, 0)
        try:
            self._found = search.run()
        except Stopped:
            raise Interrupted from None

    def _orders(self, num_samples: int, num_loci: int, context: FitContext) -> tuple[int, ...]:
        """The orders of interactions that are searched, by what a scan of them costs."""
        affordable = []
        for order in range(2, min(self.settings.max_order, num_loci) + 1):
            products = float(num_samples) * comb(num_loci, order)
            if products > self.settings.max_products:
                context.reporter.note(
                    f"sparse_epistasis: order {order} is left out: {products:.1e} products, more than"
                    f" model.max_products={self.settings.max_products:g}"
                )
                break
            affordable.append(order)
        return tuple(affordable)

    def _predict(self, genotypes: CodedGenotypes) -> NDArray:
        from gpmap_cli.sparse_terms.columns import fitted_values

        return fitted_values(genotypes, self._found.selected.terms, self._found.effects, self._found.intercept)

    def tables(self) -> dict[str, dict[str, NDArray]]:
        """terms.csv: what each environment chose; effects: all loci, the background included."""
        import numpy as np

        found, num_loci = self._found, self._found.selected.loci.shape[0]
        terms = found.selected.terms
        sets = np.full((num_loci + len(terms), max(4, terms.shape[1])), -1, np.int64)
        sets[:num_loci, 0] = np.arange(num_loci)
        sets[num_loci:, : terms.shape[1]] = terms
        environments, rows = np.nonzero(np.concatenate([found.selected.loci, found.selected.chosen]).T)
        strongest_first = np.lexsort((-np.abs(found.t[rows, environments]), environments))
        environments, rows = environments[strongest_first], rows[strongest_first]
        loci = {"locus" if place == 0 else f"locus_{place + 1}": sets[rows, place] for place in range(4)}
        log10_p = found.log10_p[rows, environments]
        everywhere = np.repeat(np.arange(found.effects.shape[1]), num_loci)
        return {
            "terms.csv": {
                "environment": environments,
                "order": (sets[rows] >= 0).sum(axis=1),
                **loci,
                "effect": found.effects[rows, environments],
                "std_error": found.std_errors[rows, environments],
                "t": found.t[rows, environments],
                "p": 10.0**log10_p,
                "log10_p": log10_p,
            },
            "effects": {
                "environment": everywhere,
                "locus": np.tile(np.arange(num_loci), found.effects.shape[1]),
                "effect": found.effects[:num_loci].T.ravel(),
                "std_error": found.std_errors[:num_loci].T.ravel(),
            },
        }

    def _state(self) -> dict[str, NDArray]:
        found = self._found
        arrays = {name: value for name, value in vars(found).items() if name != "selected"}
        return arrays | {f"selected_{name}": value for name, value in vars(found.selected).items()}

    def _restore(self, state: dict[str, NDArray]) -> None:
        from gpmap_cli.sparse_terms.search import Fitted, Selected

        selected = Selected(*(state[f"selected_{name}"] for name in ("terms", "chosen", "loci")))
        names = ("effects", "std_errors", "intercept", "penalties", "t", "log10_p", "validation_r2")
        self._found = Fitted(selected, *(state[name] for name in names))

    def describe(self) -> dict[str, Any]:
        from gpmap_cli.sparse_terms.columns import orders_of

        selected = self._found.selected
        orders = orders_of(selected.terms)
        return {
            "num_loci": selected.loci.sum(axis=0).tolist(),
            "num_terms": {str(order): int((orders == order).sum()) for order in sorted(set(orders.tolist()))},
            "penalties": self._found.penalties.tolist(),
        }

    @property
    def num_parameters(self) -> int:
        return int((self._found.effects != 0).sum()) + self._found.intercept.size
