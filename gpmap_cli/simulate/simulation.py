"""Simulate a dataset: in memory, or straight into a dataset file of any size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.row_stream import RowStream
from gpmap_cli.dataset.writer import DatasetWriter, put_all_but_genotypes
from gpmap_cli.simulate.genotypes import genetic_map
from gpmap_cli.simulate.settings import SimulatedData
from gpmap_cli.simulate.simulated_stream import simulated_stream
from gpmap_cli.simulate.yeast_settings import YeastSyntheticData
from gpmap_cli.simulate.yeast_stream import yeast_stream


def check_simulation(settings: SimulatedData | YeastSyntheticData) -> None:
    """Refuse what can be refused before anything is drawn: a map file that is wrong."""
    if isinstance(settings, SimulatedData):
        genetic_map(settings)


def simulation_stream(settings: SimulatedData | YeastSyntheticData, seed: int) -> RowStream:
    """The simulation that the settings describe, ready to be drawn block by block.

    `settings.seed`, when set, wins over `seed`. Raises InputError for a wrong map file.
    """
    own = seed if settings.seed is None else settings.seed
    return yeast_stream(settings, own) if isinstance(settings, YeastSyntheticData) else simulated_stream(settings, own)


def simulate(settings: SimulatedData | YeastSyntheticData, seed: int) -> Dataset:
    """Simulated genotypes (N, L) int8 and phenotypes (N, E) with their truth, in memory.

    `settings.seed`, when set, wins over `seed`. Raises InputError for a wrong map file.
    """
    return simulation_stream(settings, seed).in_memory()


def write_simulation(
    path: str | Path,
    settings: SimulatedData | YeastSyntheticData,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write a simulated dataset file, holding one block of genotypes at a time.

    The file is what `write_dataset(path, simulate(settings, seed))` writes, byte for byte. `progress` is told
    the number of samples of each block written.
    """
    stream = simulation_stream(settings, seed)
    with DatasetWriter(path, stream.shape, stream.genotype_type, stream.ploidy) as writer:
        for block in stream.blocks:
            writer.append_genotypes(block)
            if progress is not None:
                progress(len(block))
        put_all_but_genotypes(writer, stream.finish(writer.num_rows))
