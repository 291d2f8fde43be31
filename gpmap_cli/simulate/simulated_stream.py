"""`data=simulated`: independent or linked loci, additive effects and interactions of chosen epistasis orders."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.row_stream import RowStream
from gpmap_cli.simulate.genotypes import GeneticMap, genetic_map, genotype_blocks
from gpmap_cli.simulate.phenotypes import (
    Architecture,
    add_noise,
    coded_genotypes,
    draw_architecture,
    temperatures_of,
)
from gpmap_cli.simulate.settings import SimulatedData


def simulated_stream(settings: SimulatedData, seed: int) -> RowStream:
    """Genotypes (N, L) and phenotypes (N, E) of the settings. Raises InputError for a wrong map file."""
    linkage_map = genetic_map(settings)
    architecture = draw_architecture(settings, seed)
    temperatures = temperatures_of(settings)
    noise_free = np.empty((settings.num_samples, len(temperatures)))

    def blocks() -> Iterator[NDArray[np.int8]]:
        for rows, block in genotype_blocks(settings, linkage_map, seed):
            noise_free[rows] = architecture.noise_free(coded_genotypes(block, settings), temperatures)
            yield block

    def finish(num_rows: int) -> Dataset:
        if num_rows != settings.num_samples:
            raise ValueError(f"{num_rows} of {settings.num_samples} samples were drawn")
        return _describe(settings, seed, linkage_map, architecture, noise_free)

    shape = (settings.num_samples, settings.num_loci)
    return RowStream(shape, "int8", settings.ploidy, blocks(), finish)


def _describe(
    settings: SimulatedData,
    seed: int,
    linkage_map: GeneticMap | None,
    architecture: Architecture,
    noise_free: NDArray[np.float64],
) -> Dataset:
    phenotypes, ceiling = add_noise(noise_free, settings, seed)
    if linkage_map is None:
        locus_ids = tuple(f"locus_{number}" for number in range(settings.num_loci))
    else:
        locus_ids = linkage_map.locus_ids
    return Dataset(
        genotypes=np.empty((settings.num_samples, 0), np.int8),
        phenotypes=phenotypes,
        sample_ids=np.array([f"sample_{number}" for number in range(settings.num_samples)], dtype=object),
        locus_ids=np.array(locus_ids, dtype=object),
        environment_names=settings.environments,
        ploidy=settings.ploidy,
        chromosomes=None if linkage_map is None else np.array(linkage_map.chromosomes, dtype=object),
        positions=None if linkage_map is None else linkage_map.positions,
        covariates={"temperature": np.array(temperatures_of(settings))},
        truth={**architecture.truth(), "noise_free": noise_free, "noise_ceiling_r2": ceiling},
        provenance={"made_by": "gpmap simulate", "seed": seed, "settings": _as_text(settings, seed, linkage_map)},
    )


def _as_text(settings: SimulatedData, seed: int, linkage_map: GeneticMap | None) -> str:
    """The settings as JSON; a map stands there with its SHA-256, since a path means nothing elsewhere."""
    values = dataclasses.asdict(settings) | {"seed": seed}
    del values["map"]
    if linkage_map is not None and linkage_map.sha256 is not None:
        values["map_sha256"] = linkage_map.sha256
    return json.dumps(values, sort_keys=True)
