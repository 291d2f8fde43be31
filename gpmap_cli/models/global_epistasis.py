"""`global_epistasis`: additive effects on a latent trait, and an increasing curve from it to the phenotype.

f(x) = h(t), t = b + sum_l w_l x_l, minimising sum_i r_i (y_i - h(t_i))^2 + penalty * sum_l w_l^2 + smoothness *
(curvature of h)^2 (x coded -1/+1 or centred dosages, y standardised; t has mean 0 and variance 1 in the training
samples, and w counts in the penalty at the scale where the mean slope of h is 1). h is a monotone cubic spline and
straight beyond the training samples. Epistasis that the curve removes is a matter of scale, the rest is specific.
Where the curve gains no more than chance in the validation samples (in five folds of the training samples if there
are none), h is a straight line and the model is `ridge`. Costs N L min(N, L) once for all environments that are
measured in the same samples (for each, if weighted); then, for each environment, the genotypes are read 50 to 200
times, 4 N L each (N < L: up to 700 times, 4 N^2 each), and N L^2 for standard errors; memory min(N, L)^2 + L^2.
Otwinowski, McCandlish and Plotkin 2018; Sailer and Harms 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpmap_cli.errors import InputError
from gpmap_cli.models.base import Model
from gpmap_cli.settings import setting

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpmap_cli.dataset.coding import CodedGenotypes, Samples
    from gpmap_cli.solvers.global_epistasis import LatentTrait
    from gpmap_cli.solvers.monotone_curve import Curve
    from gpmap_cli.training.context import FitContext

_LARGEST_FACTORISATION = 20_000
_NUM_FOLDS = 5
_NUM_CURVE_POINTS = 101
_STATE = (
    "weights",
    "intercept",
    "knots",
    "coefficients",
    "range",
    "effect",
    "std_error",
    "penalty",
    "smoothness",
    "additive_r2",
    "curve_r2",
    "converged",
)


@dataclass(frozen=True)
class Settings:
    name: str = "global_epistasis"
    num_knots: int = setting(40, minimum=3, maximum=200)
    penalty: float | None = setting(None, above=0)
    smoothness: float | None = setting(None, above=0)
    weighted: bool = False


class GlobalEpistasis(Model):
    """An additive latent trait seen through a monotone curve."""

    name = "global_epistasis"
    needs_float64 = True
    settings: Settings

    @classmethod
    def needs_validation(cls, settings: Settings) -> bool:
        return False  # folds of the training samples stand in for them

    def _fit(self, train: Samples, validation: Samples, context: FitContext) -> None:
        import numpy as np

        size = min(len(train), train.genotypes.num_loci)
        if size > _LARGEST_FACTORISATION:
            raise InputError(
                f"global_epistasis would factorise a matrix of {size} x {size}, more than {_LARGEST_FACTORISATION}",
                "take fewer samples (data.num_samples) or loci (data.loci)",
            )
        found = self._latent_traits(train, validation, context)
        self._weights, self._effect, self._std_error = (
            np.stack([getattr(trait, part) for trait in found], axis=1) for part in ("weights", "effect", "std_error")
        )
        self._coefficients = np.stack([trait.curve.coefficients for trait in found], axis=1)
        self._knots = np.array([(trait.curve.start, trait.curve.step) for trait in found])
        self._range = np.array([trait.latent_range for trait in found])
        self._intercept, self._penalty, self._smoothness, self._additive_r2, self._curve_r2, self._converged = (
            np.array([getattr(trait, part) for trait in found])
            for part in ("intercept", "penalty", "smoothness", "additive_r2", "curve_r2", "converged")
        )

    def _latent_traits(self, train: Samples, validation: Samples, context: FitContext) -> list[LatentTrait]:
        """The latent trait of every environment, in their order."""
        import numpy as np

        from gpmap_cli.random_streams import stream
        from gpmap_cli.solvers.global_epistasis import HeldOut, LatentTraitSolver
        from gpmap_cli.solvers.missing import row_weights, shared_rows
        from gpmap_cli.solvers.ridge import solve_ridge

        settings = self.settings
        weights, judging_weights = (
            row_weights(samples.phenotypes, samples.phenotype_std)
            if settings.weighted
            else np.ones(samples.phenotypes.shape)
            for samples in (train, validation)
        )
        traits: dict[int, LatentTrait] = {}
        for group in shared_rows(train.phenotypes):
            genotypes = train.genotypes.take(group.rows)
            phenotypes = train.phenotypes[np.ix_(group.rows, group.columns)]
            penalties: list[float | None] = [settings.penalty] * len(group.columns)
            if settings.penalty is None and not settings.weighted:
                penalties = solve_ridge(genotypes, phenotypes, None, None, context.device).penalty.tolist()
            folds = stream(context.seed, "global epistasis folds").permutation(len(group.rows)) % _NUM_FOLDS
            solver = None
            for place, column in enumerate(group.columns.tolist()):
                if solver is None or settings.weighted:
                    solver = LatentTraitSolver(
                        genotypes,
                        weights[group.rows, column],
                        folds,
                        settings.num_knots,
                        settings.penalty,
                        settings.smoothness,
                        context.device,
                    )
                judges = HeldOut(validation.genotypes, validation.phenotypes[:, column], judging_weights[:, column])
                trait = traits[column] = solver.solve(phenotypes[:, place], penalties[place], judges)
                context.reporter.note(
                    f"global_epistasis: {context.environment_names[column]}: held-out R^2 {trait.additive_r2:.4f}"
                    f" additive, {trait.curve_r2:.4f} with a curve" + ("" if trait.is_curved else " (not kept)")
                )
        return [traits[column] for column in sorted(traits)]

    def _predict(self, genotypes: CodedGenotypes) -> NDArray:
        from gpmap_cli.solvers.ridge import linear_prediction

        predicted = linear_prediction(genotypes, self._weights, self._intercept)
        for column, curve in enumerate(self._curves()):
            predicted[:, column] = curve.value(predicted[:, column])
        return predicted

    def _curves(self) -> list[Curve]:
        from gpmap_cli.solvers.monotone_curve import Curve

        return [
            Curve(float(start), float(step), coefficients)
            for (start, step), coefficients in zip(self._knots, self._coefficients.T, strict=True)
        ]

    def _state(self) -> dict[str, NDArray]:
        return {name: getattr(self, f"_{name}") for name in _STATE}

    def _restore(self, state: dict[str, NDArray]) -> None:
        for name in _STATE:
            setattr(self, f"_{name}", state[name])

    def describe(self) -> dict[str, Any]:
        """`nonlinearity`: the share of the held-out variance that the curve explains beyond the additive effects."""
        import numpy as np

        gain = np.where(np.isinf(self._smoothness), 0.0, self._curve_r2 - self._additive_r2)
        return {
            "additive_validation_r2": self._additive_r2.tolist(),
            "curve_validation_r2": self._curve_r2.tolist(),
            "nonlinearity": gain.tolist(),
            "penalty": self._penalty.tolist(),
            "smoothness": self._smoothness.tolist(),
            "converged": self._converged.tolist(),
        }

    def tables(self) -> dict[str, dict[str, NDArray]]:
        """`effects` of every locus at the mean latent trait, the largest first, and the `curve`."""
        import numpy as np

        num_loci, num_environments = self._weights.shape
        order = np.argsort(-np.abs(self._effect), axis=0, kind="stable")
        environment = np.repeat(np.arange(num_environments), num_loci)
        locus = order.T.ravel()
        grid = np.linspace(self._range[:, 0], self._range[:, 1], _NUM_CURVE_POINTS, axis=1)
        curves = self._curves()
        return {
            "effects": {
                "environment": environment,
                "locus": locus,
                "locus_2": np.full(len(locus), -1),
                "effect": self._effect[locus, environment],
                "std_error": self._std_error[locus, environment],
                "latent_effect": self._weights[locus, environment],
            },
            "curve": {
                "environment": np.repeat(np.arange(num_environments), _NUM_CURVE_POINTS),
                "latent": grid.ravel(),
                "phenotype": np.concatenate([curve.value(row) for curve, row in zip(curves, grid, strict=True)]),
                "slope": np.concatenate([curve.slope(row) for curve, row in zip(curves, grid, strict=True)]),
            },
        }

    @property
    def num_parameters(self) -> int:
        return self._weights.size + self._coefficients.size
