"""Phenotypes of simulated samples: additive effects, epistatic interactions, temperature and noise.

Shapes: N samples, L loci, E environments, K interactions of one epistasis order k. dT = T - 30 for an
environment at T degrees Celsius. x_l is a locus in the coding of the settings.
Source: the simulated phenotypes of the attention paper.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.random_streams import stream
from gpmap_cli.simulate.settings import SimulatedData, num_subsets, temperature

_REFERENCE_TEMPERATURE = 30.0
_EFFECT_SIZE = 0.01
_COEFFICIENT_BITS = 32
_BLOCK_ROWS = 2**13
_BLOCK_ENTRIES = 2**19


@dataclass(frozen=True)
class Interactions:
    """K interactions of epistasis order k: loci (K, k) int32, ascending, and coefficients (K, 3) of 1, dT, dT^2."""

    loci: NDArray[np.int32]
    coefficients: NDArray[np.float64]


@dataclass(frozen=True)
class Architecture:
    """The genetic architecture of the phenotype: what a model is asked to find.

    `additive` is the order-1 term of every locus (K = L); `interactions` are by epistasis order.
    """

    epsilon: float
    offset: float
    additive: Interactions
    interactions: dict[int, Interactions]

    def noise_free(self, coded: NDArray[np.int8], temperatures: Sequence[float]) -> NDArray[np.float64]:
        """Fitness without noise, (N, E), of samples whose coded genotypes are `coded` (N, L).

        A(x, T) = (1/L) sum_l x_l (a2_l dT^2 + a1_l dT + a0_l)
        I(x, T) = (1/K) sum_j (prod_{l in S_j} x_l) (b2_j dT^2 + b1_j dT + b0_j), over all orders together
        f = 1 - 0.01 (epsilon A + (1 - epsilon) I + offset)
        """
        by_locus = np.ascontiguousarray(coded.T)
        num_loci, num_samples = by_locus.shape
        additive = _term_sums(by_locus, self.additive) / num_loci
        interacting = np.zeros((3, num_samples))
        for terms in self.interactions.values():
            interacting += _term_sums(by_locus, terms)
        interacting /= sum(len(terms.loci) for terms in self.interactions.values())
        fitness = np.empty((num_samples, len(temperatures)))
        for column, degrees in enumerate(temperatures):
            # Each environment is put together by itself: its values are the same whichever others are asked for.
            dt = degrees - _REFERENCE_TEMPERATURE
            a, i = (sums[0] + dt * sums[1] + dt**2 * sums[2] for sums in (additive, interacting))
            effect = self.epsilon * a + (1 - self.epsilon) * i + self.offset
            fitness[:, column] = 1 - _EFFECT_SIZE * effect
        return fitness

    def effects(self, temperatures: Sequence[float | None]) -> dict[int, tuple[NDArray[np.int32], NDArray[np.float64]]]:
        """Loci (K, k) and coefficients (K, E) of the products in `noise_free`, by epistasis order, 1 additive.

        NaN at a temperature that is not known.
        """
        dt = np.array([np.nan if one is None else one - _REFERENCE_TEMPERATURE for one in temperatures])
        powers = np.stack([np.ones(len(dt)), dt, dt**2])
        powers[:, np.isnan(dt)] = np.nan
        num_interactions = sum(len(terms.loci) for terms in self.interactions.values())
        share = -_EFFECT_SIZE * self.epsilon / len(self.additive.loci)
        found = {1: (self.additive.loci, share * (self.additive.coefficients @ powers))}
        share = -_EFFECT_SIZE * (1 - self.epsilon) / num_interactions
        for order, terms in self.interactions.items():
            effects = share * (terms.coefficients @ powers)
            if order == 1:  # a second additive effect of some loci
                before = found[1]
                found[1] = (np.concatenate([before[0], terms.loci]), np.concatenate([before[1], effects]))
            else:
                found[order] = (terms.loci, effects)
        return found

    def truth(self) -> dict[str, NDArray[Any]]:
        """The arrays of the dataset's `truth/`."""
        arrays: dict[str, NDArray[Any]] = {
            "epsilon": np.array(self.epsilon),
            "offset": np.array(self.offset),
            "additive/coefficients": self.additive.coefficients,
        }
        for order, terms in self.interactions.items():
            arrays[f"interactions/order_{order}/loci"] = terms.loci
            arrays[f"interactions/order_{order}/coefficients"] = terms.coefficients
        return arrays


def draw_architecture(settings: SimulatedData, seed: int) -> Architecture:
    """Draw the effects and the sets of interacting loci; the environments asked for play no part.

    Coefficients are N(effect_mean, effect_std^2) and the offset N(0, 1), or all Exponential(1).
    """
    everywhere = np.arange(settings.num_loci, dtype=np.int32)[:, None]
    rng = stream(seed, "offset")
    offset = rng.standard_normal() if settings.effects == "gaussian" else rng.standard_exponential()
    interactions = {}
    for order in settings.order:
        count = settings.num_interactions_of(order)
        loci = distinct_subsets(stream(seed, "interacting loci", order), settings.num_loci, order, count)
        effects = _draw_coefficients(settings, stream(seed, "interaction effects", order), count)
        interactions[order] = Interactions(loci, effects)
    additive = _draw_coefficients(settings, stream(seed, "additive effects"), settings.num_loci)
    return Architecture(settings.epsilon, float(offset), Interactions(everywhere, additive), interactions)


def coded_genotypes(genotypes: NDArray[np.int8], settings: SimulatedData) -> NDArray[np.int8]:
    """x in the formulas, (N, L): the allele count, or the count moved and scaled to [-1, 1]."""
    if settings.coding == "dosage":
        return genotypes
    return 2 * genotypes - 1 if settings.ploidy == 1 else genotypes - 1  # int8 stays int8


def add_noise(
    noise_free: NDArray[np.float64], settings: SimulatedData, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Measured phenotypes (N, E) float32 and the best expected R^2 of any model, (E,).

    The noise is Gaussian, `noise` times the standard deviation of the noise-free phenotype of the environment,
    so the best R^2 is 1 / (1 + noise^2); NaN where the noise-free phenotype does not vary.
    """
    num_samples, num_environments = noise_free.shape
    phenotypes = np.empty(noise_free.shape, np.float32)
    ceiling = np.full(num_environments, np.nan)
    for column, name in enumerate(settings.environments):
        values = noise_free[:, column].copy()  # contiguous, so it is summed alike whatever the number of columns
        spread = 0.0
        if values.min() < values.max():  # rounding can leave a constant with a tiny standard deviation
            spread = float(values.std())
            ceiling[column] = 1 / (1 + settings.noise**2)
        drawn = stream(seed, "noise", name).standard_normal(num_samples)
        phenotypes[:, column] = values + settings.noise * spread * drawn
    return phenotypes, ceiling


def temperatures_of(settings: SimulatedData) -> tuple[float, ...]:
    """Degrees Celsius of each environment, (E,)."""
    degrees = [temperature(name) for name in settings.environments]
    return tuple(value for value in degrees if value is not None)


def distinct_subsets(rng: np.random.Generator, num_loci: int, order: int, count: int) -> NDArray[np.int32]:
    """`count` different sets of `order` loci, all such choices equally likely: (K, k), ascending both ways."""
    possible = num_subsets(num_loci, order, limit=2 * count)
    if possible < 2 * count:
        combinations = itertools.chain.from_iterable(itertools.combinations(range(num_loci), order))
        every = np.fromiter(combinations, np.int32, possible * order).reshape(possible, order)
        return every[np.sort(rng.choice(possible, count, replace=False))]
    # Adding only as many new draws as are missing keeps every choice equally likely: it is drawing one by one
    # until `count` different ones are there, and at most half of the sets are taken, so it ends soon.
    found = np.empty((0, order), np.int32)
    while len(found) < count:
        found = _without_repeats(np.concatenate([found, _random_subsets(rng, num_loci, order, count - len(found))]))
    return found


def _random_subsets(rng: np.random.Generator, num_loci: int, order: int, count: int) -> NDArray[np.int32]:
    """Independent uniform sets of `order` loci, (count, k): R. W. Floyd's sampling, all rows at once.

    Source: Bentley and Floyd (1987), A sample of brilliance, Commun ACM 30: 754-757.
    """
    chosen = np.empty((count, order), np.int32)
    for column, last in enumerate(range(num_loci - order, num_loci)):
        pick = rng.integers(0, last, size=count, endpoint=True, dtype=np.int32)
        taken = (chosen[:, :column] == pick[:, None]).any(axis=1)
        chosen[:, column] = np.where(taken, last, pick)
    chosen.sort(axis=1)
    return chosen


def _without_repeats(rows: NDArray[np.int32]) -> NDArray[np.int32]:
    rows = rows[np.lexsort(rows.T[::-1])]
    is_new = np.ones(len(rows), dtype=bool)
    is_new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    return rows[is_new]


def _draw_coefficients(settings: SimulatedData, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Coefficients of 1, dT and dT^2 for each of `count` terms, (count, 3).

    They are rounded to 32 bits below the largest: sums of up to 2^21 of them times -1, 0 or 1 are then exact
    in float64, so a phenotype does not depend on the order in which a processor adds.
    """
    if settings.effects == "gaussian":
        drawn = rng.normal(settings.effect_mean, settings.effect_std, (count, 3))
    else:
        drawn = rng.standard_exponential((count, 3))
    _, exponent = np.frexp(np.abs(drawn).max())
    unit = np.ldexp(1.0, exponent - _COEFFICIENT_BITS)
    rounded: NDArray[np.float64] = np.round(drawn / unit) * unit
    return rounded


def _term_sums(by_locus: NDArray[np.int8], terms: Interactions) -> NDArray[np.float64]:
    """sum_j (prod_{l in S_j} x_l) times the three coefficients of j, (3, N), from coded genotypes (L, N).

    Costs N K k multiplications of bytes; memory is a fixed block, whatever N and K.
    """
    num_samples = by_locus.shape[1]
    num_terms, order = terms.loci.shape
    largest = int(by_locus.max(initial=0)) ** order
    kind = np.int8 if largest <= np.iinfo(np.int8).max else np.float64
    step = _BLOCK_ENTRIES // _BLOCK_ROWS
    sums = np.zeros((3, num_samples))
    for start in range(0, num_samples, _BLOCK_ROWS):
        block = by_locus[:, start : start + _BLOCK_ROWS]
        for first in range(0, num_terms, step):
            loci = terms.loci[first : first + step]
            products = block[loci[:, 0]].astype(kind)
            for position in range(1, order):
                np.multiply(products, block[loci[:, position]], out=products)
            coefficients = terms.coefficients[first : first + step]
            sums[:, start : start + _BLOCK_ROWS] += coefficients.T @ products.astype(np.float64)
    return sums
