"""Which samples decide the LD pruning of a dataset outside a run: all, or those that a split does not test."""

from __future__ import annotations

from dataclasses import dataclass

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.splits import PAPER, Labels, paper_split
from gpmap_cli.errors import InputError, did_you_mean
from gpmap_cli.ld_pruning.settings import Pruning

ALL = "all"


@dataclass(frozen=True)
class Deciding:
    """The labels (N,) of the split whose test samples do not decide (None: all samples do), its name for the
    provenance, and its name in a sentence after "LD pruning on".
    """

    labels: Labels | None
    split: str
    whose: str


ALL_SAMPLES = Deciding(None, ALL, "all samples")


def by_split(labels: Labels, split: str, which: str) -> Deciding:
    """The train and validation samples of a split decide."""
    return Deciding(labels, split, f"the train and validation samples of {which}")


def deciding_samples(pruning: Pruning, tables: Dataset) -> Deciding:
    """Who decides: `splits/paper` or, where it is not stored, the only split that is, or else the published one.

    A dataset that came with one split of its own is meant to be scored by it. `prune.split` names another.
    """
    if pruning.rows == "all":
        return ALL_SAMPLES
    name, stored = pruning.split, tables.splits
    if name is None:
        name = next(iter(stored)) if len(stored) == 1 else PAPER
    if name in stored:
        return by_split(stored[name], name, f"the stored split `{name}`")
    if name != PAPER:
        raise InputError(
            f"prune.split: `splits/{name}` is not in the dataset",
            did_you_mean(name, [PAPER, *sorted(stored)], "prune.split="),
        )
    return by_split(paper_split(tables.num_samples), PAPER, "the published split (computed)")
