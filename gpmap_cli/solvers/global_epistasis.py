"""How much of the epistasis is a curved scale: additive effects on a latent trait, and an increasing curve over it.

One environment at a time: the fit itself is in `latent_effects`, the curve in `monotone_curve`. It starts from ridge
regression with its leave-one-out penalty; the curve's knots are laid out over the ridge prediction, and again over
the latent trait of the first two fits. The ridge penalty and the curve's smoothness are then those with the least
squared error in held-out samples, by a pattern search from there in which every fit starts from its neighbour's. The
curve is kept where it lowers the held-out error by more than chance does (1.645 standard errors of that gain, one in
twenty), and is straight otherwise: the model is ridge regression then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.solvers.latent_effects import (
    Coordinates,
    Fit,
    Objective,
    leave_one_out_penalty,
    principal_coordinates,
)
from gpmap_cli.solvers.monotone_curve import Curve, CurveBasis, straight_line
from gpmap_cli.solvers.ridge import coded_blocks, linear_prediction

# log10 of the smoothness: where the search begins, and its ends. The ridge penalty moves by half powers of ten.
_FIRST_SMOOTHNESS, _ROUGHEST, _SMOOTHEST = -2, -9, 1
_FARTHEST_PENALTY = 6
_NUM_LAYOUTS = 2
_NUM_FOLDS = 5
# Fewer samples than these tell nothing of a curve.
_FEWEST_TRAINING, _FEWEST_HELD_OUT = 20, 10
# Gains in units of their standard error: one in twenty is larger by chance.
_BY_CHANCE = 1.645
# A change of the settings must lower the held-out error by this share.
_WORTH_A_MOVE = 1e-4
_SEARCH_TOLERANCE, _TOLERANCE = 1e-7, 1e-11
_LARGEST_HESSIAN = 5_000


@dataclass(frozen=True)
class HeldOut:
    """Samples that judge: genotypes (m, L), phenotypes (m,) and row weights (m,)."""

    genotypes: CodedGenotypes
    phenotype: NDArray[np.float64]
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class LatentTrait:
    """y = h(x . weights + intercept): the latent trait has mean 0 and variance 1 in the training samples.

    effect (L,): change of y with a genotype at the mean latent trait, h'(0) * weights; std_error (L,) of it, NaN with
    more than 5,000 loci. latent_range: of the training samples. smoothness is infinite where the curve is straight.
    additive_r2, curve_r2: variance explained in held-out samples by ridge regression and by the best curve found
    (whether it was kept or not), NaN where undefined.
    """

    weights: NDArray[np.float64]
    intercept: float
    curve: Curve
    latent_range: tuple[float, float]
    effect: NDArray[np.float64]
    std_error: NDArray[np.float64]
    penalty: float
    smoothness: float
    additive_r2: float
    curve_r2: float
    converged: bool

    @property
    def is_curved(self) -> bool:
        return math.isfinite(self.smoothness)


class LatentTraitSolver:
    """Solves for any number of phenotypes that are measured in the same samples, one after the other.

    weights: (n,) of the rows, with mean 1. fold_of: (n,) which fifth of the samples each is in, used where there are
    no validation samples. penalty, smoothness: None where they are chosen.
    """

    def __init__(
        self,
        genotypes: CodedGenotypes,
        weights: NDArray[np.float64],
        fold_of: NDArray[np.intp],
        num_knots: int,
        penalty: float | None,
        smoothness: float | None,
        device: str,
    ) -> None:
        self._genotypes, self._weights, self._fold_of, self._device = genotypes, weights, fold_of, device
        self._num_knots, self._penalty, self._smoothness = num_knots, penalty, smoothness

    @cached_property
    def _coordinates(self) -> Coordinates:
        return principal_coordinates(self._genotypes, self._weights, self._device)

    @cached_property
    def _folds(self) -> list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64], Coordinates]]:
        """The rows fitted, the rows held out, and the weights and coordinates of the rows fitted."""
        folds = []
        for number in range(_NUM_FOLDS):
            fitted, out = np.flatnonzero(self._fold_of != number), np.flatnonzero(self._fold_of == number)
            weights = self._weights[fitted] / self._weights[fitted].mean()
            coordinates = principal_coordinates(self._genotypes.take(fitted), weights, self._device)
            folds.append((fitted, out, weights, coordinates))
        return folds

    def solve(self, phenotype: NDArray[np.float64], ridge_penalty: float | None, validation: HeldOut) -> LatentTrait:
        """The latent trait behind a phenotype (n,).

        ridge_penalty: what ridge regression takes, where the search begins (None: leave-one-out). validation: NaN
        not measured.
        """
        if ridge_penalty is None:
            ridge_penalty = leave_one_out_penalty(self._coordinates, phenotype, self._weights)
        whole = _Sample(self._coordinates, phenotype, self._weights, ridge_penalty, self._num_knots)
        trials = self._trials(whole, ridge_penalty, validation)
        straight = _errors([(trial, trial.sample.straight) for trial in trials])
        fit, penalty, smoothness, curved = whole.straight, ridge_penalty, math.inf, np.empty(0)
        if len(phenotype) >= _FEWEST_TRAINING and trials and all(trial.sample.basis is not None for trial in trials):
            search = _Search(trials, ridge_penalty, self._penalty is None, self._smoothness)
            place = search.best()
            curved = search.errors(place)
            settings = search.settings(place)
            if place[0] != 0:  # what another penalty gains is no merit of the curve
                lines = [(trial, trial.sample.fit(settings[0], math.inf, _SEARCH_TOLERANCE)) for trial in trials]
                straight = min(straight, _errors(lines), key=np.mean)
            if whole.basis is not None and _is_lower(curved, straight):
                penalty, smoothness = settings
                fit = whole.fit(penalty, smoothness, _TOLERANCE, search.fit_of(place, whole))
        scores = (_explained(trials, straight), _explained(trials, curved))
        return self._described(whole, fit, penalty, smoothness, *scores)

    def _trials(self, whole: _Sample, penalty: float, validation: HeldOut) -> list[_Trial]:
        """Where settings are judged: the validation samples, or else five folds of the training samples."""
        known = np.flatnonzero(~np.isnan(validation.phenotype))
        if len(known) >= _FEWEST_HELD_OUT:
            weights = validation.weights[known] / validation.weights[known].mean()
            return [_Trial(whole, HeldOut(validation.genotypes.take(known), validation.phenotype[known], weights))]
        if len(self._genotypes) < _FEWEST_TRAINING:
            return []
        trials = []
        for fitted, out, weights, coordinates in self._folds:
            sample = _Sample(coordinates, whole.phenotype[fitted], weights, penalty, self._num_knots)
            held_out = HeldOut(self._genotypes.take(out), whole.phenotype[out], whole.weights[out])
            trials.append(_Trial(sample, held_out))
        return trials

    def _described(
        self, sample: _Sample, fit: Fit, penalty: float, smoothness: float, additive_r2: float, curve_r2: float
    ) -> LatentTrait:
        """The fit in units in which the latent trait has variance 1."""
        low, high = float(fit.latent.min()), float(fit.latent.max())
        std = float(np.sqrt(np.mean(sample.weights * fit.latent**2)))
        std = std if std > 1e-12 else 1.0
        if fit.curve is not None:
            curve = fit.curve.curve
        else:
            ends = (low, high) if high > low else (low - 1, high + 1)
            curve = straight_line(*ends, self._num_knots, fit.intercept)
        weights = self._coordinates.effects(fit.v)
        slope = float(curve.slope(np.zeros(1))[0])
        return LatentTrait(
            weights / std,
            -float(self._coordinates.mean @ weights) / std,
            curve.rescaled(0.0, std),
            (low / std, high / std),
            slope * weights,
            _standard_errors(self._genotypes, sample, fit, weights, penalty, smoothness, self._device),
            penalty,
            smoothness,
            additive_r2,
            curve_r2,
            fit.converged,
        )


class _Sample:
    """Samples that are fitted to: the straight fit (ridge regression), and the knots of curves."""

    def __init__(
        self,
        coordinates: Coordinates,
        phenotype: NDArray[np.float64],
        weights: NDArray[np.float64],
        penalty: float,
        num_knots: int,
    ) -> None:
        self.coordinates, self.phenotype, self.weights = coordinates, phenotype, weights
        centred = phenotype - weights @ phenotype / weights.sum()
        start = coordinates.pull(weights * centred) / (coordinates.values + penalty)
        self.straight = Objective(coordinates, phenotype, weights, penalty).minimise(start, _TOLERANCE)
        self.basis: CurveBasis | None = None
        self.laid_out = self.straight
        if self.straight.latent.std() > 1e-3 * centred.std():
            self._lay_out(penalty, num_knots)

    def _lay_out(self, penalty: float, num_knots: int) -> None:
        """Knots over the latent trait as ridge regression sees it, and then as fits with a curve do."""
        self.basis = CurveBasis(self.straight.latent, self.weights, num_knots)
        for _ in range(_NUM_LAYOUTS):
            fit = self.fit(penalty, 10.0**_FIRST_SMOOTHNESS, _SEARCH_TOLERANCE)
            mean_slope = float(np.mean(self.weights * fit.slopes()))
            latent = fit.latent * mean_slope
            if not latent.std() > 1e-3 * self.straight.latent.std():
                break
            self.basis = CurveBasis(latent, self.weights, num_knots)
            self.laid_out = Fit(fit.v * mean_slope, latent, None, 0.0, False, 0)

    def fit(self, penalty: float, smoothness: float, tolerance: float, start: Fit | None = None) -> Fit:
        """The best effects and curve (a straight one, where the smoothness is infinite)."""
        basis = None if math.isinf(smoothness) else self.basis
        objective = Objective(self.coordinates, self.phenotype, self.weights, penalty, basis, smoothness)
        return objective.minimise((self.laid_out if start is None else start).v, tolerance)


@dataclass(frozen=True)
class _Trial:
    """Samples that are fitted to, and samples that judge."""

    sample: _Sample
    held_out: HeldOut

    def errors(self, fit: Fit) -> NDArray[np.float64]:
        """Weighted squared errors of the held-out samples, (m,)."""
        weights = self.sample.coordinates.effects(fit.v)
        shift = np.array([-self.sample.coordinates.mean @ weights])
        latent = linear_prediction(self.held_out.genotypes, weights[:, None], shift)[:, 0]
        predicted = latent + fit.intercept if fit.curve is None else fit.curve.curve.value(latent)
        return self.held_out.weights * (self.held_out.phenotype - predicted) ** 2


def _errors(fits: Sequence[tuple[_Trial, Fit]]) -> NDArray[np.float64]:
    return np.concatenate([trial.errors(fit) for trial, fit in fits]) if fits else np.empty(0)


def _is_lower(errors: NDArray[np.float64], others: NDArray[np.float64]) -> bool:
    """Whether squared errors are lower than others in the same samples, by more than chance makes them."""
    gain = others - errors
    return bool(gain.mean() > _BY_CHANCE * gain.std() / math.sqrt(len(gain)))


def _explained(trials: Sequence[_Trial], errors: NDArray[np.float64]) -> float:
    """R^2 in held-out samples, of their weighted squared errors."""
    if not trials or not len(errors):
        return math.nan
    phenotype = np.concatenate([trial.held_out.phenotype for trial in trials])
    weights = np.concatenate([trial.held_out.weights for trial in trials])
    total = float(weights @ (phenotype - weights @ phenotype / weights.sum()) ** 2)
    return float(1 - errors.sum() / total) if total > 0 else math.nan


class _Search:
    """Pattern search over (half powers of ten of the ridge penalty, powers of ten of the smoothness)."""

    def __init__(self, trials: list[_Trial], penalty: float, any_penalty: bool, smoothness: float | None) -> None:
        self._trials, self._penalty, self._smoothness = trials, penalty, smoothness
        self._moves = [(0, -1), (0, 1)] if smoothness is None else []
        self._moves += [(-1, 0), (1, 0)] if any_penalty else []
        self._fits: dict[tuple[int, int], list[Fit]] = {}
        self._errors: dict[tuple[int, int], NDArray[np.float64]] = {}

    def settings(self, place: tuple[int, int]) -> tuple[float, float]:
        """Penalty and smoothness."""
        smoothness = 10.0 ** place[1] if self._smoothness is None else self._smoothness
        return self._penalty * 10.0 ** (place[0] / 2), smoothness

    def errors(self, place: tuple[int, int]) -> NDArray[np.float64]:
        """Squared errors of all held-out samples under these settings."""
        return self._errors[place]

    def fit_of(self, place: tuple[int, int], sample: _Sample) -> Fit | None:
        """The fit to these very samples, where they were among those tried."""
        found = [fit for trial, fit in zip(self._trials, self._fits[place], strict=True) if trial.sample is sample]
        return found[0] if found else None

    def best(self) -> tuple[int, int]:
        """The place from which no neighbour lowers the error."""
        place = (0, _FIRST_SMOOTHNESS)
        error = self._try(place, [trial.sample.laid_out for trial in self._trials])
        while True:
            around = [(place[0] + i, place[1] + j) for i, j in self._moves]
            around = [(i, j) for i, j in around if abs(i) <= _FARTHEST_PENALTY and _ROUGHEST <= j <= _SMOOTHEST]
            errors = {near: self._try(near, self._fits[place]) for near in around}
            if not errors:
                return place
            # Leaving the ridge penalty has to be worth more than chance: leave-one-out has seen more samples.
            sure = [
                near for near in errors if near[0] == place[0] or _is_lower(self._errors[near], self._errors[place])
            ]
            better = min(sure, key=errors.__getitem__, default=place)
            if not errors.get(better, error) < error * (1 - _WORTH_A_MOVE):
                return place
            place, error = better, errors[better]

    def _try(self, place: tuple[int, int], starts: Sequence[Fit]) -> float:
        if place not in self._fits:
            settings = self.settings(place)
            self._fits[place] = [
                trial.sample.fit(*settings, _SEARCH_TOLERANCE, start)
                for trial, start in zip(self._trials, starts, strict=True)
            ]
            self._errors[place] = _errors(list(zip(self._trials, self._fits[place], strict=True)))
        return float(self._errors[place].mean())


def _standard_errors(
    genotypes: CodedGenotypes,
    sample: _Sample,
    fit: Fit,
    weights: NDArray[np.float64],
    penalty: float,
    smoothness: float,
    device: str,
) -> NDArray[np.float64]:
    """Of the effects at the mean latent trait, h'(0) w, from the Gauss-Newton Hessian of effects and curve, (L,).

    Covariance = residual variance * [[A, B], [B', C]]^-1, A = Z' Z + penalty, B = Z' M, C = M' M + roughness, with
    Z = sqrt(r) h'(t) Xc and M the ways the curve can move at t; the delta method for the product. n L^2 + L^3.
    """
    if genotypes.num_loci > _LARGEST_HESSIAN:
        return np.full(genotypes.num_loci, np.nan)
    if fit.curve is None:
        moves, slope_moves, roughness = np.ones((len(genotypes), 1)), np.zeros(1), np.zeros((1, 1))
        slope = 1.0
    else:
        assert sample.basis is not None
        moves, slope_moves, roughness = sample.basis.free_directions(fit.latent, fit.curve)
        roughness *= smoothness * sample.weights.sum()
        slope = float(fit.curve.curve.slope(np.zeros(1))[0])
    roots = np.sqrt(sample.weights)
    factor, moved = (torch.from_numpy(part).to(device) for part in (roots * fit.slopes(), roots[:, None] * moves))
    rough, pull, effects = (torch.from_numpy(part).to(device) for part in (roughness, slope_moves, weights))
    mean = torch.from_numpy(sample.coordinates.mean).to(device)
    a = penalty * torch.eye(len(weights), dtype=torch.float64, device=device)
    b = torch.zeros(len(weights), moved.shape[1], dtype=torch.float64, device=device)
    for rows, block in coded_blocks(genotypes, device):
        z = (block - mean) * factor[rows, None]
        a.addmm_(z.T, z)
        b.addmm_(z.T, moved[rows])
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(a))
    share = inverse @ b
    of_curve = torch.linalg.pinv(moved.T @ moved + rough - b.T @ share, hermitian=True)
    crossed = share @ of_curve
    variance = slope**2 * (inverse.diagonal() + (crossed * share).sum(dim=1))
    variance += effects**2 * (pull @ of_curve @ pull) - 2 * slope * effects * (crossed @ pull)
    # Effective number of parameters: all of them less what the penalties take.
    taken = penalty * (inverse.diagonal().sum() + (crossed * share).sum()) + (of_curve * rough).sum()
    num_free = max(1.0, len(genotypes) - (len(weights) + moved.shape[1] - float(taken)))
    residual = float(sample.weights @ (sample.phenotype - fit.fitted()) ** 2) / num_free
    return (variance.clamp_min(0) * residual).sqrt().cpu().numpy()
