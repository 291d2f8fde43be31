"""What a dataset tells of the LD pruning it has gone through, and what a run makes of that."""

from __future__ import annotations

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.disk_genotypes import StoredGenotypes
from gpmap_cli.dataset.splits import TEST, Labels
from gpmap_cli.errors import InputError
from gpmap_cli.ld_pruning.deciding import Deciding
from gpmap_cli.ld_pruning.greedy import Pruned
from gpmap_cli.ld_pruning.settings import Pruning


def with_kept_loci(
    tables: Dataset, genotypes: StoredGenotypes, pruned: Pruned, pruning: Pruning, deciding: Deciding
) -> Dataset:
    """The dataset at the kept loci, with what made it so in its provenance."""
    if not len(pruned.kept):
        raise InputError("LD pruning leaves no locus: not one of them varies", "use data with loci that segregate")
    kept = tables.with_loci(pruned.kept, genotypes)
    kept.provenance.update(
        prune_max_abs_r=pruning.threshold,
        prune_rows=pruning.rows,
        prune_split=deciding.split,
        prune_num_loci_before=len(tables.locus_ids),
        prune_num_constant=pruned.num_constant,
    )
    return kept


def what_was_dropped(pruned: Pruned, num_loci: int, pruning: Pruning, deciding: Deciding) -> str:
    """One line of the log."""
    alike = num_loci - len(pruned.kept) - pruned.num_constant
    return (
        f"LD pruning at |r| {pruning.threshold:g} on {deciding.whose}: kept {len(pruned.kept)} of {num_loci} loci"
        f" ({pruned.num_constant} constant ones dropped first, {alike} too like an earlier one)"
    )


def what_pruning_has_seen(dataset: Dataset, labels: Labels) -> list[str]:
    """A line where samples that `labels` test had a say in the pruning that the dataset has gone through."""
    split = str(dataset.provenance.get("prune_split", ""))
    is_test = labels == TEST
    if dataset.provenance.get("prune_rows") == "all":
        seen, by = is_test, "all samples"
    elif split in dataset.splits:
        seen, by = is_test & (dataset.splits[split] != TEST), f"splits/{split}"
    else:  # not pruned, or by the run's own split
        return []
    if not seen.any():
        return []
    return [
        f"LD pruning has seen the genotypes (and no phenotype) of {int(seen.sum())} of this run's test samples;"
        f" it was decided on {by}"
    ]
