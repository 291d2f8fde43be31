"""Simulate a dataset: in memory, or straight into a dataset file of any size."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.writer import DatasetWriter, put_all_but_genotypes
from gpmap_cli.simulate.genotypes import GeneticMap, genetic_map, genotype_blocks
from gpmap_cli.simulate.phenotypes import (
    Architecture,
    add_noise,
    coded_genotypes,
    draw_architecture,
    temperatures_of,
)
from gpmap_cli.simulate.settings import SimulatedData


def check_simulation(settings: SimulatedData) -> None:
    """Refuse what can be refused before anything is drawn: a map file that is wrong."""
    genetic_map(settings)


def simulate(settings: SimulatedData, seed: int) -> Dataset:
    """Simulated genotypes (N, L) int8 and phenotypes (N, E) with their truth, in memory.

    `settings.seed`, when set, wins over `seed`. Raises InputError for a wrong map file.
    """
    genotypes = np.empty((settings.num_samples, settings.num_loci), np.int8)

    def keep(rows: slice, block: NDArray[np.int8]) -> None:
        genotypes[rows] = block

    without_genotypes = _simulate(settings, seed, genetic_map(settings), keep)
    return dataclasses.replace(without_genotypes, genotypes=genotypes)


def write_simulation(
    path: str | Path, settings: SimulatedData, seed: int, progress: Callable[[int], None] | None = None
) -> None:
    """Write a simulated dataset file, holding one block of genotypes at a time.

    The file is what `write_dataset(path, simulate(settings, seed))` writes, byte for byte. `progress` is told
    the number of samples of each block written.
    """
    linkage_map = genetic_map(settings)
    shape = (settings.num_samples, settings.num_loci)
    with DatasetWriter(path, shape, "int8", settings.ploidy) as writer:

        def append(rows: slice, block: NDArray[np.int8]) -> None:
            writer.append_genotypes(block)
            if progress is not None:
                progress(rows.stop - rows.start)

        put_all_but_genotypes(writer, _simulate(settings, seed, linkage_map, append))


def _simulate(
    settings: SimulatedData,
    seed: int,
    linkage_map: GeneticMap | None,
    keep: Callable[[slice, NDArray[np.int8]], None],
) -> Dataset:
    """The dataset without its genotypes, which are handed to `keep` block by block as they are drawn."""
    seed = seed if settings.seed is None else settings.seed
    architecture = draw_architecture(settings, seed)
    temperatures = temperatures_of(settings)
    noise_free = np.empty((settings.num_samples, len(temperatures)))
    for rows, block in genotype_blocks(settings, linkage_map, seed):
        noise_free[rows] = architecture.noise_free(coded_genotypes(block, settings), temperatures)
        keep(rows, block)
    return _describe(settings, seed, linkage_map, architecture, noise_free)


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
