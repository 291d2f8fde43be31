"""`forward_qtl`: additive QTL by forward search, then the pairs of them that interact, stopped by cross-validation.

f(x) = b + sum_{l in S} a_l (x_l - mu_l) + sum_{(l,m) in T} c_lm (x_l - mu_l) (x_m - mu_m), by least squares; S and T
grow by the locus, then by the pair of S, that lowers the residual sum of squares of the joint fit most, and their sizes
have the least cross-validated error (or the fewest terms within its standard error), every fold with a search of its
own. Costs N L once for each distinct locus that enters in any of the F + 1 searches, then per search N K^3 / 6 and
N K^2 for each pair, K loci; memory 8 (F + 1) K L bytes per environment searched at once, see
`gpmap_cli/solvers/forward_search.py`. The default cap on loci, and on pairs, is one for ten training samples. After
Nguyen Ba et al. 2022 (eLife 11:e73983), whose search also moves loci to neighbours after each entry: `refine`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpmap_cli.errors import InputError
from gpmap_cli.models.base import Model
from gpmap_cli.settings import setting

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from gpmap_cli.dataset.coding import CodedGenotypes, Samples
    from gpmap_cli.training.context import FitContext


@dataclass(frozen=True)
class Settings:
    name: str = "forward_qtl"
    max_additive: int | None = setting(None, minimum=0)
    max_pairs: int | None = setting(None, minimum=0)
    num_folds: int = setting(10, minimum=2)
    one_standard_error: bool = False
    refine: int = setting(0, minimum=0)
    weighted: bool = False


class ForwardQtl(Model):
    """Stepwise regression on loci and on products of the loci found."""

    name = "forward_qtl"
    needs_float64 = True
    settings: Settings

    @classmethod
    def needs_validation(cls, settings: Settings) -> bool:
        return False

    def _fit(self, train: Samples, validation: Samples, context: FitContext) -> None:
        import numpy as np

        from gpmap_cli.random_streams import stream
        from gpmap_cli.solvers.forward_search import SearchOptions, forward_search

        num_folds = min(self.settings.num_folds, len(train))
        folds = stream(context.seed, "forward_qtl folds").permutation(np.arange(len(train)) % num_folds)
        weights = _weights(train, context.environment_names) if self.settings.weighted else None
        self._terms = forward_search(
            train.genotypes,
            train.phenotypes,
            weights,
            folds,
            SearchOptions(
                self.settings.max_additive,
                self.settings.max_pairs,
                self.settings.one_standard_error,
                self.settings.refine,
            ),
            context.environment_names,
            context.device,
            lambda text: context.reporter.note(f"forward_qtl: {text}"),
        )

    def _predict(self, genotypes: CodedGenotypes) -> NDArray[np.float64]:
        from gpmap_cli.solvers.forward_terms import forward_prediction

        return forward_prediction(genotypes, self._terms)

    def _state(self) -> dict[str, NDArray]:
        from dataclasses import asdict

        import numpy as np

        return {
            f"{number}/{name}": np.asarray(value)
            for number, terms in enumerate(self._terms)
            for name, value in asdict(terms).items()
        }

    def _restore(self, state: dict[str, NDArray]) -> None:
        from dataclasses import fields

        from gpmap_cli.solvers.forward_terms import ForwardTerms

        numbers = sorted({int(name.split("/")[0]) for name in state if "/" in name})
        names = [item.name for item in fields(ForwardTerms)]
        self._terms = [
            ForwardTerms(**{name: _plain(state[f"{number}/{name}"]) for name in names}) for number in numbers
        ]

    def describe(self) -> dict[str, Any]:
        import math

        num_additive = [int((terms.loci[:, 1] < 0).sum()) for terms in self._terms]
        scores = [terms.final_cv_r2 for terms in self._terms]
        return {
            "num_additive": num_additive,
            "num_pairs": [len(terms.loci) - number for terms, number in zip(self._terms, num_additive, strict=True)],
            "cv_r2": [None if math.isnan(score) else score for score in scores],
        }

    def tables(self) -> dict[str, dict[str, NDArray]]:
        """Every term, the largest effects of each environment first.

        Additive effects are average effects at the training allele frequencies: those of a locus whose partners stand
        at their mean. `step` is the order of entry, `cv_r2` that of the search up to and including the term.
        """
        import numpy as np

        orders = [np.argsort(-np.abs(terms.effect), kind="stable") for terms in self._terms]

        def column(of: str) -> NDArray:
            return np.concatenate([getattr(terms, of)[order] for terms, order in zip(self._terms, orders, strict=True)])

        loci = column("loci")
        return {
            "effects": {
                "environment": np.repeat(np.arange(len(orders)), [len(order) for order in orders]),
                "locus": loci[:, 0],
                "locus_2": loci[:, 1],
                "effect": column("effect"),
                "std_error": column("std_error"),
                "step": np.concatenate(orders) + 1,
                "cv_r2": column("cv_r2"),
            }
        }

    @property
    def num_parameters(self) -> int:
        """Effects and intercepts; the choice of loci is not counted."""
        return sum(len(terms.effect) + 1 for terms in self._terms)


def _weights(samples: Samples, environment_names: Sequence[str]) -> NDArray[np.float64]:
    """1 / phenotype_std^2 (N, E), of mean 1 over the samples measured in each environment."""
    import numpy as np

    std = samples.phenotype_std
    assert std is not None  # checked before every fit
    known = ~np.isnan(samples.phenotypes)
    bad = known & ~((std > 0) & np.isfinite(std))
    if bad.any():
        environment = environment_names[int(bad.any(axis=0).argmax())]
        raise InputError(
            f"model.weighted=true needs a positive `phenotype_std` of every phenotype, and {int(bad.sum())} of"
            f" the training samples have none, the first in environment `{environment}`",
            "leave model.weighted out, or mark those phenotypes as missing",
        )
    weights = np.zeros(std.shape)
    weights[known] = 1 / std[known] ** 2
    return weights / (weights.sum(axis=0) / known.sum(axis=0))


def _plain(stored: NDArray) -> Any:
    return stored if stored.ndim else float(stored)
