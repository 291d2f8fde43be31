"""`data=yeast_synthetic`: a stand-in for 100,000 segregants of a BY x RM yeast cross in 18 environments.

The shape of the data of Nguyen Ba et al. (2022, eLife 11:e73983), and none of its measurements. Shapes: N samples,
L loci, E environments. The phenotype is a fitness with mean 0 and standard deviation `phenotype_sd` in the cross.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.row_stream import RowStream
from gpmap_cli.random_streams import stream
from gpmap_cli.simulate.yeast_architecture import ORDERS, YeastArchitecture, draw_architecture
from gpmap_cli.simulate.yeast_environments import TEMPERATURES
from gpmap_cli.simulate.yeast_genotypes import CrossMap, draw_map, segregant_blocks
from gpmap_cli.simulate.yeast_settings import YeastSyntheticData


def yeast_stream(settings: YeastSyntheticData, seed: int) -> RowStream:
    """Genotypes (N, L) and phenotypes (N, E) of the settings; more samples only add to those of fewer."""
    cross = draw_map(settings, seed)
    architecture = draw_architecture(settings, cross, seed)
    shape = (settings.num_samples, len(cross.positions))
    noise_free = np.empty((settings.num_samples, len(settings.environment_names)))

    def blocks() -> Iterator[NDArray[np.int8]]:
        start = 0
        for block in segregant_blocks(cross, settings.num_samples, seed):
            noise_free[start : start + len(block)] = architecture.noise_free(block)
            start += len(block)
            yield block

    def finish(num_rows: int) -> Dataset:
        if num_rows != settings.num_samples:
            raise ValueError(f"{num_rows} of {settings.num_samples} samples were drawn")
        return _describe(settings, seed, cross, architecture, noise_free)

    return RowStream(shape, "int8", 1, blocks(), finish)


def measure(
    noise_free: NDArray[np.float64], settings: YeastSyntheticData, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Measured phenotypes and the standard errors that their noise was drawn with, (N, E) float32, NaN where missing.

    The noise is Gaussian. Its variance is (1 - H2) phenotype_sd^2 on average and differs between samples as a gamma
    variable with coefficient of variation `error_variation`: segregants with few barcode reads are measured less well.
    """
    num_samples = len(noise_free)
    phenotypes, standard_errors = np.empty(noise_free.shape, np.float32), np.empty(noise_free.shape, np.float32)
    lost = stream(seed, "missing").random(num_samples)
    for column, name in enumerate(settings.environment_names):
        variance = (1 - settings.shares(name).heritability) * settings.phenotype_sd**2
        relative = np.ones(num_samples)
        if settings.error_variation > 0:
            shape = settings.error_variation**-2
            relative = stream(seed, "error variance", name).standard_gamma(shape, num_samples) / shape
        spread = np.sqrt(max(0.0, variance) * relative)
        drawn = noise_free[:, column] + spread * stream(seed, "noise", name).standard_normal(num_samples)
        # Half of what is missing is missing because the whole sample failed, as in every environment that loses more.
        half = settings.missing_fraction(name) / 2
        is_missing = (lost < half) | (stream(seed, "missing", name).random(num_samples) < half / (1 - half))
        phenotypes[:, column] = np.where(is_missing, math.nan, drawn)
        standard_errors[:, column] = np.where(is_missing, math.nan, spread)
    return phenotypes, standard_errors


def _describe(
    settings: YeastSyntheticData,
    seed: int,
    cross: CrossMap,
    architecture: YeastArchitecture,
    noise_free: NDArray[np.float64],
) -> Dataset:
    phenotypes, standard_errors = measure(noise_free, settings, seed)
    names = settings.environment_names
    locus_ids = np.array(cross.locus_ids, dtype=object)
    return Dataset(
        genotypes=np.empty((settings.num_samples, 0), np.int8),
        phenotypes=phenotypes,
        phenotype_std=standard_errors,
        sample_ids=np.array([f"sample_{number}" for number in range(settings.num_samples)], dtype=object),
        locus_ids=locus_ids,
        environment_names=names,
        chromosomes=np.array(cross.names, dtype=object),
        positions=cross.positions,
        covariates={"temperature": np.array([TEMPERATURES.get(name, math.nan) for name in names])},
        truth={
            "noise_free": noise_free,
            "noise_ceiling_r2": np.array([settings.shares(name).heritability for name in names]),
            **_truth_by_id(settings, architecture, locus_ids),
        },
        provenance={
            "made_by": "gpmap simulate",
            "seed": seed,
            "settings": json.dumps(dataclasses.asdict(settings) | {"seed": seed}, sort_keys=True),
            "notes": "synthetic: drawn to resemble the yeast data of Nguyen Ba et al. 2022, no measurement is in it",
        },
    )


def _truth_by_id(
    settings: YeastSyntheticData, architecture: YeastArchitecture, locus_ids: NDArray[np.object_]
) -> dict[str, NDArray]:
    """The terms of each order, which name their loci by id and so stay true when other loci are pruned away.

    noise_free = sum over orders and terms of effects (K, E) times the product of x over the term's loci, with x -1/+1
    for genotype 0/1 and effects in the phenotype's units. `variance_share` (E,) is of the phenotype's variance.
    """
    truth: dict[str, NDArray] = {}
    for order, terms in architecture.terms.items():
        ids = locus_ids[architecture.loci[terms.qtl]]
        truth[f"by_id/{ORDERS[order]}/{'locus' if order == 1 else 'loci'}"] = ids[:, 0] if order == 1 else ids
        truth[f"by_id/{ORDERS[order]}/effects"] = terms.effects
    for order, name in ORDERS.items():
        shares = [settings.shares(environment).of_order(order) for environment in settings.environment_names]
        truth[f"by_id/variance_share/{name}"] = np.array(shares)
    return truth
