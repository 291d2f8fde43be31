"""Samples that come in row blocks become a dataset file of the loci that LD pruning keeps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import numpy as np

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.disk_genotypes import DiskGenotypes, StoredGenotypes
from gpmap_cli.dataset.row_stream import RowStream
from gpmap_cli.dataset.splits import TEST, Labels, paper_split
from gpmap_cli.dataset.writer import DatasetWriter, put_all_but_genotypes, refuse_existing
from gpmap_cli.errors import InputError, did_you_mean
from gpmap_cli.ld_pruning.greedy import Pruned, kept_loci
from gpmap_cli.ld_pruning.loci import MatrixLoci, ScratchLoci
from gpmap_cli.ld_pruning.settings import Pruning

Progress = Callable[[str, int | None, str], AbstractContextManager[Callable[[int], object]]]
PAPER = "paper"
_ROWS = 256


def write_pruned(
    path: str | Path, stream: RowStream, pruning: Pruning, overwrite: bool, progress: Progress
) -> list[str]:
    """Write the dataset file of the kept loci and say what was dropped.

    Genotypes wait in a scratch file beside `path`, so memory is that of a block and some loci, whatever N and L.
    """
    refuse_existing(path, overwrite)
    num_loci = stream.shape[1]
    with ScratchLoci(Path(path).absolute().parent, num_loci, stream.genotype_type) as scratch:
        for block in stream.blocks:
            scratch.append(block)
        scratch.finish()
        tables = stream.finish(scratch.num_rows)
        labels, split = pruning_labels(pruning, tables)
        scratch.decide_by(None if labels is None else labels != TEST)
        with progress("LD pruning", num_loci, "loci") as advance:
            pruned = kept_loci(scratch, _threshold(pruning), advance)
        kept = with_kept_loci(tables, tables.genotypes, pruned, pruning, split)
        if labels is not None and split == PAPER:
            kept.splits.setdefault(PAPER, labels)
        shape = (scratch.num_rows, len(pruned.kept))
        with DatasetWriter(path, shape, stream.genotype_type, stream.ploidy, overwrite) as writer:
            for block in scratch.row_blocks(pruned.kept):
                writer.append_genotypes(block)
            put_all_but_genotypes(writer, kept)
    return [what_was_dropped(pruned, num_loci, pruning, split)]


def prune(
    dataset: Dataset, labels: Labels, pruning: Pruning, progress: Progress, split: str, directory: Path
) -> tuple[Dataset, str]:
    """Prune a dataset by the rows that `labels` do not test; gives it and what there is to say.

    Genotypes on disk go through a scratch file in `directory`; what is kept of them is on disk again.
    """
    rows = None if pruning.rows == "all" else labels != TEST
    genotypes = dataset.genotypes
    with ExitStack() as stack:
        loci: MatrixLoci | ScratchLoci
        if isinstance(genotypes, DiskGenotypes):
            loci = stack.enter_context(ScratchLoci(directory, dataset.num_loci, genotypes.dtype.name))
            for start in range(0, len(genotypes), _ROWS):
                loci.append(genotypes[start : start + _ROWS])
            loci.finish()
            loci.decide_by(rows)
        else:
            loci = MatrixLoci(genotypes, None if rows is None else np.flatnonzero(rows))
        with progress("LD pruning", dataset.num_loci, "loci") as advance:
            pruned = kept_loci(loci, _threshold(pruning), advance)
        kept: StoredGenotypes
        if isinstance(loci, ScratchLoci):
            kept = DiskGenotypes.write(directory, loci.row_blocks(pruned.kept), len(pruned.kept), genotypes.dtype)
        else:
            kept = genotypes[:, pruned.kept]
    said = what_was_dropped(pruned, dataset.num_loci, pruning, split)
    return with_kept_loci(dataset, kept, pruned, pruning, split), said


def pruning_labels(pruning: Pruning, tables: Dataset) -> tuple[Labels | None, str]:
    """The split whose test samples do not decide, and its name; no labels where all samples decide.

    Outside a run this is the published split, or the stored one that `prune.split` names.
    """
    if pruning.rows == "all":
        return None, "all"
    name = pruning.split or PAPER
    if name in tables.splits:
        return tables.splits[name], name
    if name != PAPER:
        raise InputError(
            f"prune.split: `splits/{name}` is not in the dataset",
            did_you_mean(name, [PAPER, *sorted(tables.splits)], "prune.split="),
        )
    return paper_split(tables.num_samples), name


def with_kept_loci(
    tables: Dataset, genotypes: StoredGenotypes, pruned: Pruned, pruning: Pruning, split: str
) -> Dataset:
    """The dataset at the kept loci, with what made it so in its provenance."""
    if not len(pruned.kept):
        raise InputError("LD pruning leaves no locus: not one of them varies", "use data with loci that segregate")
    kept = tables.with_loci(pruned.kept, genotypes)
    kept.provenance.update(
        prune_max_abs_r=_threshold(pruning),
        prune_rows=pruning.rows,
        prune_split=split,
        prune_num_loci_before=len(tables.locus_ids),
        prune_num_constant=pruned.num_constant,
    )
    return kept


def what_was_dropped(pruned: Pruned, num_loci: int, pruning: Pruning, split: str) -> str:
    """One line of the log."""
    whose = "all samples" if pruning.rows == "all" else f"the train and validation samples of {split} split"
    alike = num_loci - len(pruned.kept) - pruned.num_constant
    return (
        f"LD pruning at |r| {_threshold(pruning):g} on {whose}: kept {len(pruned.kept)} of {num_loci} loci"
        f" ({pruned.num_constant} constant ones dropped first, {alike} too like an earlier one)"
    )


def test_samples_seen(dataset: Dataset, labels: Labels) -> int:
    """How many of the samples that `labels` test had a say in the pruning that the dataset has gone through."""
    split = str(dataset.provenance.get("prune_split", ""))
    is_test = labels == TEST
    if dataset.provenance.get("prune_rows") == "all":
        return int(is_test.sum())
    if split not in dataset.splits:  # not pruned, or by the run's own split
        return 0
    return int((is_test & (dataset.splits[split] != TEST)).sum())


def _threshold(pruning: Pruning) -> float:
    assert pruning.max_abs_r is not None
    return pruning.max_abs_r
