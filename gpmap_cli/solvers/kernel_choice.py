"""Which covariance and penalty a kernel regression takes: families compared, and moved on by validation error.

The restricted likelihood (`kernel_families`) knows the training samples alone. Validation moves all rates together and
the penalty, in shrinking steps, from where the likelihood left them; and, once the covariance is known, the penalty
for all samples, which are more than those it was chosen on.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes, Samples
from gpmap_cli.solvers.genotype_covariance import Covariance, kernel_product
from gpmap_cli.solvers.kernel_families import ChoiceSamples, Family, KernelChoice
from gpmap_cli.solvers.kernel_regression import KernelSystem

_VALIDATION_STEPS = (1.0, 0.5)  # of a natural logarithm
_FARTHEST = 6.0  # that validation moves a natural logarithm
_ROUGHLY = 1e-3  # solved so, a fit is close enough to be compared with others
_MOST_VALIDATION = 3_000  # validation samples that choose


def known_rows(samples: Samples, columns: NDArray[np.intp]) -> NDArray[np.intp]:
    """Some of the samples that have a phenotype in any of these environments."""
    known = ~np.isnan(samples.phenotypes[:, columns])
    return np.flatnonzero(known.any(axis=1))[:_MOST_VALIDATION]


def choice_samples(
    column: int,
    train: Samples,
    noise: NDArray[np.float64],
    validation: Samples,
    most: int,
    rng: np.random.Generator,
    device: str,
) -> ChoiceSamples:
    """At most `most` random training samples that were measured in an environment, and its validation samples.

    noise (N, E): relative noise variances, 0 where missing.
    """
    rows = rng.permutation(np.flatnonzero(noise[:, column] > 0))[:most]
    chosen_on = known_rows(validation, np.array([column]))
    numbers = (train.phenotypes[rows, column], noise[rows, column], validation.phenotypes[chosen_on, column])
    y, relative, validation_y = (torch.from_numpy(values).to(device) for values in numbers)
    return ChoiceSamples(train.genotypes.take(rows), y, relative, validation.genotypes.take(chosen_on), validation_y)


def choose_kernel(
    families: list[Family],
    samples: ChoiceSamples,
    penalty: float | None,
    by_validation: bool,
    free: tuple[bool, bool],
) -> KernelChoice:
    """The family of least validation error; in it the largest likelihood or, by_validation, what is better than that.

    free: whether rates and penalty may move.
    """
    tried = []
    for family in families:
        choice = family.choose(samples, penalty)
        if by_validation and samples.has_validation and not samples.is_constant:
            choice = adjust_by_validation(family, choice, samples, free)
        tried.append(choice)
    return tried[0] if len(tried) == 1 else min(tried, key=samples.validation_error)


def adjust_by_validation(
    family: Family, choice: KernelChoice, samples: ChoiceSamples, free: tuple[bool, bool]
) -> KernelChoice:
    """Less validation error of fits to the subset; free: whether rates and penalty may move."""
    tried: dict[tuple[float, float], tuple[float, KernelChoice]] = {}

    def error(place: tuple[float, float]) -> float:
        if place not in tried:
            moved = family.moved(choice, math.exp(place[0]), math.exp(place[1]))
            tried[place] = samples.validation_error(moved), moved
        return tried[place][0]

    if not any(free):
        return choice
    best = pattern_search(error, free)
    return tried[best][1]


def adjust_penalties(
    system: KernelSystem,
    covariance: Covariance,
    penalties: NDArray[np.float64],
    genotypes: CodedGenotypes,
    phenotypes: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Penalties (E',) of less error in validation phenotypes (N, E') of fits to all samples, each by its own search."""
    tried: dict[tuple[float, ...], NDArray[np.float64]] = {}
    known = torch.from_numpy(~np.isnan(phenotypes))
    observed = torch.from_numpy(np.nan_to_num(phenotypes))

    def errors(exponents: NDArray[np.float64]) -> NDArray[np.float64]:
        key = tuple(exponents.tolist())
        if key not in tried:
            solution = system.solve(penalties * np.exp(exponents), _ROUGHLY)
            predicted = kernel_product(covariance, genotypes, system.support, solution.alpha.float()) + solution.mean
            squares = torch.where(known, (predicted.cpu() - observed) ** 2, 0.0).sum(dim=0)
            tried[key] = (squares / known.sum(dim=0).clamp_min(1)).numpy()
        return tried[key]

    best = np.zeros(len(penalties))
    least = errors(best)
    for step in (-2.0, 2.0, -1.0, 1.0, -0.5, 0.5):
        moving = np.ones(len(best), bool)
        while moving.any() and np.abs(best).max() < _FARTHEST:
            found = errors(np.where(moving, best + step, best))
            moving &= found < least
            best, least = np.where(moving, best + step, best), np.where(moving, found, least)
    return penalties * np.exp(best)


def pattern_search(error: Callable[[tuple[float, float]], float], free: tuple[bool, bool]) -> tuple[float, float]:
    """The place near (0, 0) of least error, in steps along the free axes."""
    place = (0.0, 0.0)
    for step in _VALIDATION_STEPS:
        while True:
            around = [
                (place[0] + a * step, place[1] + b * step)
                for a, b in ((0, 1), (0, -1), (1, 0), (-1, 0))
                if free[0 if a else 1]
                and abs(place[0] + a * step) <= _FARTHEST
                and abs(place[1] + b * step) <= _FARTHEST
            ]
            better = min(around, key=error)
            if error(better) >= error(place):
                break
            place = better
    return place
