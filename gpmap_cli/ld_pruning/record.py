"""What a dataset tells of the LD pruning it has gone through, step by step, and what a run makes of that.

The last step stands in the provenance under `prune_max_abs_r`, `prune_rows`, ...; those before it, from the first
on, under `prune_1_max_abs_r`, `prune_2_max_abs_r`, ...
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.disk_genotypes import StoredGenotypes
from gpmap_cli.dataset.splits import TEST, Labels
from gpmap_cli.errors import InputError
from gpmap_cli.ld_pruning.deciding import Deciding
from gpmap_cli.ld_pruning.greedy import Pruned
from gpmap_cli.ld_pruning.settings import Pruning

Provenance = dict[str, str | int | float]
_FACTS = ("max_abs_r", "rows", "split", "num_loci_before", "num_constant")


def with_kept_loci(
    tables: Dataset, genotypes: StoredGenotypes, pruned: Pruned, pruning: Pruning, deciding: Deciding
) -> Dataset:
    """The dataset at the kept loci, with what made it so in its provenance, after what it tells of earlier steps."""
    if not len(pruned.kept):
        raise InputError("LD pruning leaves no locus: not one of them varies", "use data with loci that segregate")
    kept = tables.with_loci(pruned.kept, genotypes)
    _make_room(kept.provenance)
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
    """A line for every step of the dataset's pruning in which samples that `labels` test had a say."""
    is_test = labels == TEST
    said: dict[str, None] = {}  # two steps that the same samples decided are said once
    for prefix in _steps(dataset.provenance):
        split = str(dataset.provenance.get(f"{prefix}split", ""))
        if dataset.provenance.get(f"{prefix}rows") == "all":
            seen, by = is_test, "all samples"
        elif split in dataset.splits:
            seen, by = is_test & (dataset.splits[split] != TEST), f"splits/{split}"
        else:  # by the run's own split
            continue
        if seen.any():
            line = (
                f"LD pruning has seen the genotypes (and no phenotype) of {int(seen.sum())} of this run's test samples;"
                f" it was decided on {by}"
            )
            said[line] = None
    return list(said)


def _steps(provenance: Provenance) -> Iterator[str]:
    """Under which prefixes the steps stand, from the first to the last."""
    if "prune_rows" not in provenance:
        return
    numbered = (f"prune_{number}_" for number in itertools.count(1))
    yield from itertools.takewhile(lambda prefix: f"{prefix}rows" in provenance, numbered)
    yield "prune_"


def _make_room(provenance: Provenance) -> None:
    """The last step, if there is one, becomes an earlier one."""
    number = sum(1 for _ in _steps(provenance))
    for fact in _FACTS if number else ():
        if f"prune_{fact}" in provenance:
            provenance[f"prune_{number}_{fact}"] = provenance.pop(f"prune_{fact}")
