"""A dataset on its way: genotypes in row blocks that are read once, everything else after them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.disk_genotypes import DiskGenotypes


@dataclass(frozen=True)
class RowStream:
    """N samples at L loci from a file, an importer or a simulation.

    shape is (N, L), with N None where it is known only once all blocks are read; `blocks` are consecutive rows of
    the genotypes. `finish(N)` is called after the last block and gives the dataset without its genotypes (its
    `genotypes` are (N, 0)).
    """

    shape: tuple[int | None, int]
    genotype_type: str  # int8, float16 or float32
    ploidy: int
    blocks: Iterator[NDArray]
    finish: Callable[[int], Dataset]

    def in_memory(self) -> Dataset:
        """The dataset with its genotypes an array; N must be known."""
        num_rows, num_loci = self.shape
        assert num_rows is not None
        genotypes = np.empty((num_rows, num_loci), self.genotype_type)
        start = 0
        for block in self.blocks:
            genotypes[start : start + len(block)] = block
            start += len(block)
        return replace(self.finish(start), genotypes=genotypes)

    def on_disk(self, directory: Path) -> Dataset:
        """The dataset with its genotypes in a scratch file in this directory."""
        num_rows, num_loci = self.shape
        genotypes = DiskGenotypes.write(directory, self.blocks, num_loci, np.dtype(self.genotype_type), num_rows)
        return replace(self.finish(len(genotypes)), genotypes=genotypes)

    def within(self, num_bytes: int | None, directory: Path) -> Dataset:
        """In memory where the genotypes need at most this many bytes (None: always), else on disk."""
        assert self.shape[0] is not None
        needed = self.shape[0] * self.shape[1] * np.dtype(self.genotype_type).itemsize
        return self.in_memory() if num_bytes is None or needed <= num_bytes else self.on_disk(directory)
