"""Samples that come in row blocks become a dataset file of the loci that LD pruning keeps."""

from __future__ import annotations

from pathlib import Path

from gpmap_cli.dataset.row_stream import RowStream
from gpmap_cli.dataset.splits import PAPER, TEST
from gpmap_cli.dataset.writer import DatasetWriter, put_all_but_genotypes, refuse_existing
from gpmap_cli.ld_pruning.deciding import deciding_samples
from gpmap_cli.ld_pruning.greedy import kept_loci
from gpmap_cli.ld_pruning.loci import ScratchLoci
from gpmap_cli.ld_pruning.record import what_was_dropped, with_kept_loci
from gpmap_cli.ld_pruning.settings import Pruning
from gpmap_cli.progress import Progress


def write_pruned(
    path: str | Path, stream: RowStream, pruning: Pruning, overwrite: bool, progress: Progress
) -> list[str]:
    """Write the dataset file of the kept loci and say what was dropped.

    Genotypes wait in a scratch file beside `path`, so memory is that of a block and some loci, whatever N and L.
    """
    refuse_existing(path, overwrite)
    num_rows, num_loci = stream.shape
    with ScratchLoci(Path(path).absolute().parent, num_loci, stream.genotype_type, num_rows) as scratch:
        for block in stream.blocks:
            scratch.append(block)
        scratch.finish()
        tables = stream.finish(scratch.num_rows)
        deciding = deciding_samples(pruning, tables)
        scratch.decide_by(None if deciding.labels is None else deciding.labels < TEST)
        with progress("LD pruning", num_loci, "loci") as advance:
            pruned = kept_loci(scratch, pruning.threshold, advance)
        kept = with_kept_loci(tables, tables.genotypes, pruned, pruning, deciding)
        if deciding.labels is not None and deciding.split == PAPER:
            kept.splits.setdefault(PAPER, deciding.labels)
        shape = (scratch.num_rows, len(pruned.kept))
        with DatasetWriter(path, shape, stream.genotype_type, stream.ploidy, overwrite) as writer:
            for block in scratch.row_blocks(pruned.kept):
                writer.append_genotypes(block)
            put_all_but_genotypes(writer, kept)
    return [what_was_dropped(pruned, num_loci, pruning, deciding)]
