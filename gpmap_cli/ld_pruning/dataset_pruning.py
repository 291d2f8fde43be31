"""A dataset at the loci that LD pruning keeps, its genotypes in memory or on disk as they were."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.disk_genotypes import DiskGenotypes, StoredGenotypes
from gpmap_cli.dataset.splits import TEST
from gpmap_cli.ld_pruning.deciding import Deciding
from gpmap_cli.ld_pruning.greedy import kept_loci
from gpmap_cli.ld_pruning.loci import MatrixLoci, ScratchLoci
from gpmap_cli.ld_pruning.record import what_was_dropped, with_kept_loci
from gpmap_cli.ld_pruning.settings import Pruning
from gpmap_cli.progress import Progress

_ROWS = 256


def prune(
    dataset: Dataset, deciding: Deciding, pruning: Pruning, progress: Progress, directory: Path
) -> tuple[Dataset, str]:
    """Prune a dataset by the samples that decide; gives it and what there is to say.

    Genotypes on disk go through a scratch file in `directory`; what is kept of them is on disk again.
    """
    rows = None if deciding.labels is None else deciding.labels < TEST
    genotypes = dataset.genotypes
    with ExitStack() as stack:
        loci: MatrixLoci | ScratchLoci
        if isinstance(genotypes, DiskGenotypes):
            num_rows, num_loci = genotypes.shape
            loci = stack.enter_context(ScratchLoci(directory, num_loci, genotypes.dtype.name, num_rows))
            for start in range(0, len(genotypes), _ROWS):
                loci.append(genotypes[start : start + _ROWS])
            loci.finish()
            loci.decide_by(rows)
        else:
            loci = MatrixLoci(genotypes, None if rows is None else np.flatnonzero(rows))
        with progress("LD pruning", dataset.num_loci, "loci") as advance:
            pruned = kept_loci(loci, pruning.threshold, advance)
        kept: StoredGenotypes
        if isinstance(loci, ScratchLoci):
            blocks = loci.row_blocks(pruned.kept)
            kept = DiskGenotypes.write(directory, blocks, len(pruned.kept), genotypes.dtype, len(genotypes))
        else:
            kept = genotypes[:, pruned.kept]
    said = what_was_dropped(pruned, dataset.num_loci, pruning, deciding)
    return with_kept_loci(dataset, kept, pruned, pruning, deciding), said
