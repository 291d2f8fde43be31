"""`pairwise`: additive effects plus all L (L - 1) / 2 pairwise interactions, exactly, with a penalty for each part.

f(x) = b + sum_l a_l x_l + sum_{l<m} W_lm x_l x_m; the objective and its centring are written out in
`gpmap_cli/solvers/pairwise.py`. With P = L (L + 1) / 2 effects of N samples, three routes lead to the same effects:
`primal` (N P^2 / 2 multiply-adds and P^2 numbers, then about 9 P^3 once), `dual` (N^2 L, N^2 numbers, N^3 / 3 for
each of about 40 trials) and `iterative` (2 N L^2 operations for each of some 15 steps and environment, L^2 numbers; no
pair is formed: `gpmap_cli/solvers/pair_gradients.py`). Penalties by variance components, as in an epistatic G-BLUP
(Jiang and Reif 2015): restricted maximum likelihood, in the third route on up to 4,000 samples in two parts
(Haseman-Elston regression is misled where linked loci act in one direction); or by validation. Measurement errors as
weights 1 / phenotype_std^2 go by the third.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gpmap_cli.models.base import Model
from gpmap_cli.settings import setting

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpmap_cli.dataset.coding import CodedGenotypes, Samples
    from gpmap_cli.solvers.pair_gradients import PairRegression, PairSolution
    from gpmap_cli.training.context import FitContext

_LARGEST_PRIMAL, _LARGEST_DUAL = 2_500, 2_500
_MOST_FOR_COMPONENTS = 4_000
_SMALLEST_SHARE = 1e-4  # of the variance, that a component is held to have
_WATCHED = 2_000  # validation samples by which a long fit is followed


@dataclass(frozen=True)
class Settings:
    name: str = "pairwise"
    additive_penalty: float | None = setting(None, above=0)
    pair_penalty: float | None = setting(None, above=0)
    penalty_choice: Literal["reml", "validation"] = "reml"
    route: Literal["auto", "primal", "dual", "iterative"] = "auto"
    weighted: bool = False
    num_effects: int | None = setting(10_000, minimum=0)


class Pairwise(Model):
    """Regression on all loci and all pairs of loci."""

    name = "pairwise"
    needs_float64 = True
    settings: Settings

    @classmethod
    def needs_validation(cls, settings: Settings) -> bool:
        return settings.penalty_choice == "validation"

    def _fit(self, train: Samples, validation: Samples, context: FitContext) -> None:
        import numpy as np

        from gpmap_cli.solvers.missing import shared_rows
        from gpmap_cli.solvers.pairwise import PairwiseSolution, effect_errors_of, solve_pairwise

        num_loci = train.genotypes.num_loci
        num_pairs = num_loci * (num_loci - 1) // 2
        num_environments = train.phenotypes.shape[1]
        self._solution = PairwiseSolution(
            np.empty((num_loci, num_environments)),
            np.empty((num_pairs, num_environments)),
            np.empty(num_environments),
            np.empty((num_environments, 2)),
        )
        self._effects: list[dict[str, NDArray]] = []
        route = self._route(len(train), num_loci)
        if route == "iterative":
            self._fit_iteratively(train, validation, context)
            return
        for group in shared_rows(train.phenotypes):
            chosen_on = None
            if self.settings.penalty_choice == "validation":
                chosen_on = (validation.genotypes, validation.phenotypes[:, group.columns])
            genotypes = train.genotypes.take(group.rows)
            phenotypes = train.phenotypes[np.ix_(group.rows, group.columns)]
            part = solve_pairwise(
                genotypes,
                phenotypes,
                (self.settings.additive_penalty, self.settings.pair_penalty),
                chosen_on,
                context.device,
                context.reporter.note,
                route,
            )
            self._solution.additive[:, group.columns] = part.additive
            self._solution.pairs[:, group.columns] = part.pairs
            self._solution.intercept[group.columns] = part.intercept
            self._solution.penalties[group.columns] = part.penalties
            for column, (additive, errors, pairs, pair_errors) in zip(
                group.columns, effect_errors_of(genotypes, phenotypes, part), strict=True
            ):
                self._note_effects(column, additive, errors, pairs, pair_errors)

    def _route(self, num_samples: int, num_loci: int) -> Literal["primal", "dual", "iterative"]:
        if self.settings.weighted:
            return "iterative"
        if self.settings.route != "auto":
            return self.settings.route
        num_features = num_loci * (num_loci + 1) // 2
        if num_features <= min(_LARGEST_PRIMAL, num_samples):
            return "primal"
        return "dual" if num_samples <= _LARGEST_DUAL else "iterative"

    def _fit_iteratively(self, train: Samples, validation: Samples, context: FitContext) -> None:
        import numpy as np

        from gpmap_cli.solvers.missing import row_weights
        from gpmap_cli.solvers.pair_features import pair_indices
        from gpmap_cli.solvers.pair_gradients import PairRegression
        from gpmap_cli.solvers.pair_search import penalties_by_validation
        from gpmap_cli.solvers.pairwise import in_coded_genotypes

        settings = self.settings
        weights = row_weights(train.phenotypes, train.phenotype_std) if settings.weighted else None
        single = context.precision == "float32"
        regression = PairRegression(train.genotypes, train.phenotypes, weights, context.device, single)
        fixed = (settings.additive_penalty is not None, settings.pair_penalty is not None)
        penalties = np.ones((train.phenotypes.shape[1], 2))
        if not all(fixed):
            penalties = self._penalties_of_components(train, context)
        for part, value in enumerate((settings.additive_penalty, settings.pair_penalty)):
            if value is not None:
                penalties[:, part] = value
        if settings.penalty_choice == "validation" and not all(fixed) and len(validation):
            penalties = penalties_by_validation(
                regression, penalties, fixed, validation.genotypes, validation.phenotypes, context.reporter.note
            )
        solution = self._solve(regression, penalties, validation, context)
        worst = float(solution.residual.max())
        context.reporter.note(f"pairwise: {solution.steps} conjugate gradient steps, relative residual {worst:.1e}")
        self._solution = in_coded_genotypes(solution, [regression.pair_means(e) for e in range(len(penalties))])
        first, second = pair_indices(train.genotypes.num_loci)
        for e in range(len(penalties)):
            additive, pairs = regression.standard_errors(solution, e)
            effects = solution.effects
            self._note_effects(
                e,
                effects.additive[e].cpu().numpy(),
                additive,
                effects.pairs[e].cpu().numpy()[first, second],
                pairs,
            )

    def _penalties_of_components(self, train: Samples, context: FitContext) -> NDArray:
        """Residual variance over the variance of one effect, for both parts, (E, 2)."""
        import numpy as np

        from gpmap_cli.random_streams import stream
        from gpmap_cli.solvers.epistasis_kernels import EpistasisKernels
        from gpmap_cli.variance.haseman_elston import haseman_elston
        from gpmap_cli.variance.reml import noise_profile, parameters_of_mean_zero

        rows = np.arange(len(train))
        if len(rows) > _MOST_FOR_COMPONENTS:
            drawn = stream(context.seed, "variance_components").permutation(len(rows))[:_MOST_FOR_COMPONENTS]
            rows = np.sort(drawn)
        genotypes, phenotypes = train.genotypes.take(rows), train.phenotypes[rows]
        noise = None
        if self.settings.weighted and train.phenotype_std is not None:
            noise = noise_profile(phenotypes, train.phenotype_std[rows])
        found = haseman_elston(genotypes, phenotypes, 2, context.device, context.seed, 0)
        estimated = parameters_of_mean_zero(found, genotypes, phenotypes, context.device, context.seed, noise)
        scales = EpistasisKernels.learn(genotypes, 2, context.device).scales.cpu().numpy()
        floor = _SMALLEST_SHARE * np.maximum(found.total[:, None], 1e-300)
        parameter = np.maximum(estimated, floor)
        varies = found.total > 0
        shares = (estimated / np.where(varies, found.total, 1.0)[:, None])[varies]
        shown = ", ".join(f"{share:.3f}" for share in shares.sum(axis=0) / max(varies.sum(), 1))
        context.reporter.note(f"pairwise: variance shares {shown} (additive, pairwise, residual), mean of environments")
        return scales * parameter[:, 2:] / parameter[:, :2]

    def _solve(
        self, regression: PairRegression, penalties: NDArray, validation: Samples, context: FitContext
    ) -> PairSolution:
        """Solve, and show how it gets on: the residual, and the validation R^2 of some samples."""
        import numpy as np

        from gpmap_cli.solvers.pair_search import squared_errors

        few = np.arange(min(len(validation), _WATCHED))
        phenotypes = validation.phenotypes[few]
        genotypes = validation.genotypes.take(few)
        with np.errstate(all="ignore"):
            known = ~np.isnan(phenotypes)
            count = np.maximum(known.sum(axis=0), 1)
            mean = np.where(known, phenotypes, 0).sum(axis=0) / count
            variance = np.where(known, (phenotypes - mean) ** 2, 0).sum(axis=0) / count

        def watch(step: int, residual: float, so_far: Callable[[], PairSolution]) -> None:
            r2 = None
            if (variance > 0).any():
                errors = squared_errors(so_far(), genotypes, phenotypes)
                r2 = float((1 - errors[variance > 0] / variance[variance > 0]).mean())
            context.reporter.step(residual, r2)

        context.reporter.begin("pairwise", 0, 0)
        return regression.solve(penalties, watch=watch)

    def _note_effects(
        self, environment: int, additive: NDArray, errors: NDArray, pairs: NDArray, pair_errors: NDArray
    ) -> None:
        from gpmap_cli.solvers.pair_effects import strongest_effects

        most = self.settings.num_effects
        self._effects.append(strongest_effects(environment, additive, errors, pairs, pair_errors, most))

    def tables(self) -> dict[str, dict[str, NDArray]]:
        """All additive and the `num_effects` strongest pair effects of every environment, of centred genotypes."""
        import numpy as np

        parts = sorted(self._effects, key=lambda part: part["environment"][0])
        return {"effects": {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}}

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
