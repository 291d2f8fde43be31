"""Samples on their way from a file of another format into a dataset file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.row_stream import RowStream
from gpmap_cli.dataset.writer import DatasetWriter, put_all_but_genotypes, row_blocks
from gpmap_cli.ld_pruning.writing import write_pruned
from gpmap_cli.prepare.job import Job


@dataclass(frozen=True)
class Incoming(RowStream):
    """What a reader hands over. `lines` say what was found, kept and left out; `finish` may add to them."""

    lines: list[str]


def in_memory(dataset: Dataset, lines: list[str]) -> Incoming:
    """A whole dataset, its genotypes (N, L) an array, as a reader's result."""
    tables = replace(dataset, genotypes=np.empty((dataset.num_samples, 0), np.int8))
    return Incoming(
        (dataset.num_samples, dataset.num_loci),
        dataset.genotypes.dtype.name,
        dataset.ploidy,
        row_blocks(dataset.genotypes),
        lambda _: tables,
        lines,
    )


def write_incoming(incoming: Incoming, job: Job) -> list[str]:
    """Write the dataset file, pruned where the job asks for it, and return what there is to say about it."""
    if job.pruning.is_on:
        said = write_pruned(job.out, incoming, job.pruning, job.overwrite, job.progress)
        return [*incoming.lines, *said]
    with DatasetWriter(job.out, incoming.shape, incoming.genotype_type, incoming.ploidy, job.overwrite) as writer:
        for block in incoming.blocks:
            writer.append_genotypes(block)
        put_all_but_genotypes(writer, incoming.finish(writer.num_rows))
    size, num_genotypes = Path(job.out).stat().st_size, writer.num_rows * incoming.shape[1]
    bits = f"{8 * size / num_genotypes:.2f} bits per genotype"
    return [*incoming.lines, f"{writer.num_rows} samples x {incoming.shape[1]} loci in {size / 1e6:.1f} MB ({bits})"]
