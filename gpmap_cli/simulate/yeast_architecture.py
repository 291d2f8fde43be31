"""Genetic architecture of the synthetic yeast data: QTL, pairs and triples of QTL, and their effects.

Shapes: Q QTL, K terms of an epistasis order k (1 additive, 2 pairwise, 3 third order), E environments. x is coded -1/+1
(0 and 1 of the genotypes). The loci of a term lie on different chromosomes, so every term has mean 0 in the cross and
terms of different orders are uncorrelated: the variance of an order is a number of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.random_streams import stream
from gpmap_cli.simulate.yeast_environments import ENVIRONMENTS, TEMPERATURES
from gpmap_cli.simulate.yeast_genotypes import CrossMap
from gpmap_cli.simulate.yeast_settings import YeastSyntheticData

ORDERS = {1: "additive", 2: "pairwise", 3: "third_order"}
_EFFECT_BITS = 32
_LARGE_QTL_SHAPE = 4.0  # of the gamma distribution of large QTL's sizes: none of them is small
_SMALLEST_ODDS = 0.1  # of a QTL of no size to be in a term, where one of mean size has 1.1


@dataclass(frozen=True)
class Terms:
    """Terms of one epistasis order: QTL numbers (K, k), ascending, and effects (K, E) in the phenotype's units."""

    qtl: NDArray[np.int64]
    effects: NDArray[np.float64]


@dataclass(frozen=True)
class YeastArchitecture:
    """What a model is asked to find: the loci that are QTL (Q,) and the terms of each epistasis order."""

    loci: NDArray[np.int64]
    terms: dict[int, Terms]

    def noise_free(self, genotypes: NDArray[np.int8]) -> NDArray[np.float64]:
        """Phenotypes without noise (rows, E) of genotypes (rows, L) 0/1: sum over terms of effect times product of x.

        Effects are rounded so that these sums are exact: no other order of adding, and no other selection of
        environments, gives other values.
        """
        x = 2.0 * np.ascontiguousarray(genotypes[:, self.loci].T) - 1
        sums = np.zeros((genotypes.shape[0], next(iter(self.terms.values())).effects.shape[1]))
        for terms in self.terms.values():
            products = x[terms.qtl[:, 0]]
            for column in terms.qtl.T[1:]:
                products *= x[column]
            sums += products.T @ terms.effects
        return sums


def draw_architecture(settings: YeastSyntheticData, cross: CrossMap, seed: int) -> YeastArchitecture:
    """Draw QTL, interacting sets and effects, scaled to the variance that the settings give each epistasis order.

    The size of a QTL is exponential, or gamma for the few large ones, which together have `large_qtl_share` of the
    sum of squared sizes. A QTL's odds to be in an interaction grow with its size. The size of an interaction is
    exponential. An effect is its term's size times a normal deviate of each environment, correlated as
    `correlated_deviates` says; all environments are drawn, whichever are asked for.
    """
    loci = _draw_qtl(settings, cross, seed)
    morgans, chromosomes = cross.morgans[loci], cross.chromosomes[loci]
    sizes = _draw_sizes(settings, len(loci), seed)
    names = settings.environment_names
    columns = [list(ENVIRONMENTS).index(name) for name in names]
    terms: dict[int, Terms] = {}
    for order in ORDERS:
        variances = settings.phenotype_sd**2 * np.array([settings.shares(name).of_order(order) for name in names])
        if not variances.any():
            continue
        if order == 1:
            chosen, size = np.arange(len(loci))[:, None], sizes
        else:
            rng = stream(seed, "interacting QTL", order)
            odds = sizes / sizes.mean() + _SMALLEST_ODDS
            chosen = _draw_sets(rng, odds / odds.sum(), chromosomes, order, settings.num_terms(order))
            size = stream(seed, "interaction sizes", order).standard_exponential(len(chosen))
        deviates = correlated_deviates(stream(seed, "effects", order), len(chosen), settings)
        effects = size[:, None] * deviates[:, columns]
        drawn = term_variances(chosen, effects, morgans, chromosomes)
        terms[order] = Terms(chosen, effects * np.sqrt(variances / drawn))
    return YeastArchitecture(loci, _rounded(terms))


def correlated_deviates(rng: np.random.Generator, count: int, settings: YeastSyntheticData) -> NDArray[np.float64]:
    """Standard normal deviates of `count` terms in all 18 environments, (count, 18), correlated between environments.

    Any two environments share c = `environment_correlation`. Two temperatures share more: their correlation is
    c + (1 - c) exp(-|T1 - T2| / `temperature_scale`), the rest being a first-order autoregression along temperature.
    """
    drawn = rng.standard_normal((1 + len(ENVIRONMENTS), count))
    shared, own = drawn[0], dict(zip(ENVIRONMENTS, drawn[1:], strict=True))
    previous: str | None = None
    for name in sorted(TEMPERATURES, key=TEMPERATURES.__getitem__):
        if previous is not None:
            distance = TEMPERATURES[name] - TEMPERATURES[previous]
            likeness = np.exp(-distance / settings.temperature_scale)
            own[name] = likeness * own[previous] + np.sqrt(1 - likeness**2) * own[name]
        previous = name
    common = settings.environment_correlation
    return np.stack([np.sqrt(common) * shared + np.sqrt(1 - common) * own[name] for name in ENVIRONMENTS], axis=1)


def term_variances(
    terms: NDArray[np.int64],
    effects: NDArray[np.float64],
    morgans: NDArray[np.float64],
    chromosomes: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Variance, in an endless population of segregants, of the sum of terms of one order, by environment (E,).

    terms (K, k) number the QTL whose places are `morgans` and `chromosomes` (Q,). Two loci d Morgans apart correlate
    by exp(-2 d); two terms by the product of that over their k pairs of loci where these lie on the same k
    chromosomes, and not at all otherwise. So the variance of an order takes LD between its loci into account.
    """
    variances = np.zeros(effects.shape[1])
    _, group = np.unique(chromosomes[terms], axis=0, return_inverse=True)
    for number in range(int(group.max()) + 1):
        members = np.flatnonzero(group.reshape(-1) == number)
        distance = np.zeros((len(members), len(members)))
        for places in morgans[terms[members]].T:
            distance += np.abs(places[:, None] - places)
        variances += ((np.exp(-2 * distance) @ effects[members]) * effects[members]).sum(axis=0)
    return variances


def _draw_qtl(settings: YeastSyntheticData, cross: CrossMap, seed: int) -> NDArray[np.int64]:
    """Numbers of the loci that are QTL, (Q,) ascending: on each chromosome a random choice of its loci."""
    first = np.searchsorted(cross.chromosomes, np.arange(len(settings.loci_of_chromosomes())))
    chosen = [
        start + np.sort(stream(seed, "qtl", number).choice(num_loci, num_qtl, replace=False))
        for number, (start, num_loci, num_qtl) in enumerate(
            zip(first, settings.loci_of_chromosomes(), settings.qtl_of_chromosomes(), strict=True)
        )
    ]
    return np.concatenate(chosen).astype(np.int64)


def _draw_sizes(settings: YeastSyntheticData, num_qtl: int, seed: int) -> NDArray[np.float64]:
    rng = stream(seed, "QTL sizes")
    sizes = rng.standard_exponential(num_qtl)
    large = rng.choice(num_qtl, settings.num_large_qtl, replace=False)
    large_sizes = rng.standard_gamma(_LARGE_QTL_SHAPE, len(large))
    if 0 < len(large) < num_qtl:
        share = settings.large_qtl_share
        small_squares = (sizes**2).sum() - (sizes[large] ** 2).sum()
        sizes *= np.sqrt((1 - share) / small_squares)
        sizes[large] = large_sizes * np.sqrt(share / (large_sizes**2).sum())
    return sizes


def _draw_sets(
    rng: np.random.Generator, odds: NDArray[np.float64], chromosomes: NDArray[np.int64], order: int, count: int
) -> NDArray[np.int64]:
    """`count` different sets of QTL on different chromosomes, (K, k) ascending, members drawn by their odds."""
    found = np.empty((0, order), np.int64)
    while len(found) < count:
        drawn = np.sort(rng.choice(len(odds), (2 * (count - len(found)), order), p=odds), axis=1)
        drawn = drawn[(np.diff(chromosomes[drawn], axis=1) > 0).all(axis=1)]
        together = np.concatenate([found, drawn])
        _, first = np.unique(together, axis=0, return_index=True)
        found = together[np.sort(first)][:count]
    return found[np.lexsort(found.T[::-1])]


def _rounded(terms: dict[int, Terms]) -> dict[int, Terms]:
    """Effects rounded to 32 bits below the environment's largest: sums of up to 2^21 of them are exact in float64."""
    largest = np.max([np.abs(part.effects).max(axis=0) for part in terms.values()], axis=0)
    unit = np.ldexp(1.0, np.frexp(largest)[1] - _EFFECT_BITS)
    return {order: Terms(part.qtl, np.round(part.effects / unit) * unit) for order, part in terms.items()}
