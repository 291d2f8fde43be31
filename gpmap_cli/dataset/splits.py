"""Which samples train, validate and test. Every function gives labels: 0 train, 1 validation, 2 test (3 none)."""

from __future__ import annotations

import hashlib
import random

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import SPLIT_NAMES, Dataset
from gpmap_cli.dataset.group_split import group_folds, nearest_groups
from gpmap_cli.dataset.mutations import mutation_counts, mutation_split
from gpmap_cli.dataset.sample_groups import SampleGroups, sample_groups
from gpmap_cli.dataset.settings import DEFAULT_VALIDATION, Split
from gpmap_cli.errors import InputError, did_you_mean
from gpmap_cli.random_streams import stream

TRAIN, VALIDATION, TEST = 0, 1, 2
PAPER = "paper"  # the name under which a file stores the published split
Labels = NDArray[np.int8]


def which_paper_split(dataset: Dataset) -> str:
    """Which labels `split=paper` means for this dataset, for the log."""
    if PAPER in dataset.splits:
        return f"as stored in the file (splits/{PAPER})"
    return "computed from the number of samples"


def make_split(settings: Split, dataset: Dataset, seed: int, needs_validation: bool = True) -> Labels:
    """The labels (N,) that the settings ask for. A part that would be empty is refused.

    needs_validation: whether the model chooses anything by validation samples. One that does not gets none in
    cross-validation, where all folds but one are to train, unless the settings give a fraction.
    A file that stores `splits/paper` was pruned by it, or came with it: it goes before the computed published split,
    and in a subset of the samples its labels stay what they were.
    """
    num_samples = dataset.num_samples
    rng = stream(seed if settings.seed is None else settings.seed, "split")
    validation_fraction = DEFAULT_VALIDATION if settings.validation_fraction is None else settings.validation_fraction
    may_lack_validation = settings.is_cross_validation and settings.validation_fraction is None and not needs_validation
    fold_validation = 0.0 if may_lack_validation else validation_fraction
    found = ""
    if settings.method == "random":
        labels = random_split(num_samples, settings.test_fraction, validation_fraction, rng)
    elif settings.method == "paper":
        labels = dataset.splits[PAPER] if PAPER in dataset.splits else paper_split(num_samples)
    elif settings.method == "file":
        labels = stored_split(dataset, settings.name)
    elif settings.method == "grouped":
        labels = grouped_split(settings, sample_groups(settings, dataset), fold_validation, rng)
    elif settings.method == "mutation_order":
        assert settings.max_train_mutations is not None  # by its rules
        counts = mutation_counts(dataset, settings.reference)
        limits = settings.max_train_mutations, settings.min_test_mutations
        labels = mutation_split(counts, *limits, validation_fraction, rng)
        found = f": they have {counts.min()} to {counts.max()} mutations"
    else:
        if settings.name is None:
            assert settings.num_folds is not None  # by its rules
            folds = (rng.permutation(num_samples) % settings.num_folds).astype(np.int16)
        else:
            folds = stored_folds(dataset, settings.name)
        labels = fold_split(folds, settings.fold, fold_validation, rng)
    for part, name in enumerate(SPLIT_NAMES):
        if not (labels == part).any() and not (part == VALIDATION and may_lack_validation):
            raise InputError(
                f"split={settings.method} of {num_samples} samples leaves no {name} samples{found}",
                "use more samples or other split settings",
            )
    return labels


def random_split(
    num_samples: int, test_fraction: float, validation_fraction: float, rng: np.random.Generator
) -> Labels:
    """Fractions of all samples, rounded to whole samples."""
    order = rng.permutation(num_samples)
    num_test, num_validation = round(test_fraction * num_samples), round(validation_fraction * num_samples)
    labels = np.zeros(num_samples, np.int8)
    labels[order[:num_test]] = TEST
    labels[order[num_test : num_test + num_validation]] = VALIDATION
    return labels


def paper_split_rows(num_samples: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Train, validation and test rows, in the order in which the published notebooks leave them.

    Rows are shuffled with Python's `random.seed(0)`, then 15 % are held out twice the way scikit-learn's
    `train_test_split(test_size=0.15, random_state=42)` does (Rijal et al. 2026).
    """
    rows = list(range(num_samples))
    random.Random(0).shuffle(rows)

    def hold_out(index: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        order = np.random.RandomState(42).permutation(len(index))
        num_out = int(np.ceil(0.15 * len(index)))
        return index[order[num_out:]], index[order[:num_out]]

    rest, test = hold_out(np.array(rows, dtype=np.intp))
    train, validation = hold_out(rest)
    return train, validation, test


def paper_split(num_samples: int) -> Labels:
    """The published split of Rijal et al. 2026, as labels."""
    labels = np.zeros(num_samples, np.int8)
    _, validation, test = paper_split_rows(num_samples)
    labels[validation], labels[test] = VALIDATION, TEST
    return labels


def stored_split(dataset: Dataset, name: str | None) -> Labels:
    """The split `splits/<name>` of the dataset file; the name may be left out when there is only one."""
    return _stored(dataset.splits, name, "splits", "split.name").astype(np.int8)


def stored_folds(dataset: Dataset, name: str) -> NDArray[np.int16]:
    """The cross-validation folds `folds/<name>` of the dataset file."""
    return _stored(dataset.folds, name, "folds", "split.name")


def fold_split(folds: NDArray[np.int16], fold: int, validation_fraction: float, rng: np.random.Generator) -> Labels:
    """Fold number `fold` (counted from 0 over the sorted fold labels) tests; a random part of the rest validates."""
    labels_of_folds = np.unique(folds)
    if fold >= len(labels_of_folds):
        raise InputError(
            f"split.fold is `{fold}` but there are {len(labels_of_folds)} folds",
            f"folds count from 0: set split.fold to 0..{len(labels_of_folds) - 1}",
        )
    labels = np.zeros(len(folds), np.int8)
    labels[folds == labels_of_folds[fold]] = TEST
    rest = np.flatnonzero(labels != TEST)
    num_validation = min(round(validation_fraction * len(folds)), len(rest) - 1)
    labels[rng.permutation(rest)[:num_validation]] = VALIDATION
    return labels


def grouped_split(
    settings: Split, groups: SampleGroups, validation_fraction: float, rng: np.random.Generator
) -> Labels:
    """Whole groups test and validate: fractions of all samples, or one of several folds and a fraction of the rest.

    Each part is as near its fraction as whole groups can be, the test part first; where only one set of groups comes
    nearest, every seed draws that one.
    """
    sizes = np.bincount(groups.of_sample)
    num_spare = 1 + (validation_fraction > 0)  # groups that are left to train and to validate
    num_needed = max(settings.num_folds or 0, 1 + num_spare)
    if groups.num_groups < num_needed:
        raise InputError(
            f"split=grouped needs at least {num_needed} groups, {groups.source} has {groups.num_groups}",
            "use finer groups, fewer folds or another split",
        )
    if settings.num_folds is None:
        is_test = nearest_groups(sizes, round(settings.test_fraction * sizes.sum()), num_spare, rng)
    else:
        folds = group_folds(groups.of_sample, settings.num_folds, rng)
        is_test = np.zeros(len(sizes), bool)
        is_test[groups.of_sample[folds == settings.fold]] = True
    part_of = np.where(is_test, TEST, TRAIN)
    rest = np.flatnonzero(~is_test)
    if len(rest) < num_spare:
        raise InputError(
            f"split=grouped leaves {len(rest)} of {groups.num_groups} groups to train and validate",
            "use finer groups or other fractions or folds",
        )
    if validation_fraction > 0:
        chosen = nearest_groups(sizes[rest], round(validation_fraction * sizes.sum()), 1, rng)
        part_of[rest[chosen]] = VALIDATION
    return part_of[groups.of_sample].astype(np.int8)


def about_split(settings: Split, dataset: Dataset, labels: Labels) -> list[str]:
    """What the log says of how the labels came about, beside the settings."""
    if settings.method == PAPER:
        return [f"split=paper: {which_paper_split(dataset)}"]
    if settings.method != "grouped":
        return []
    groups = sample_groups(settings, dataset)
    part_of = np.zeros(groups.num_groups, np.int8)
    part_of[groups.of_sample] = labels
    counts = ", ".join(f"{int((part_of == part).sum())} {name}" for part, name in enumerate(SPLIT_NAMES))
    lines = [f"split=grouped: {groups.num_groups} groups of {groups.source} ({counts})"]
    if groups.num_unknown:
        lines.append(f"{groups.num_unknown} samples of {groups.source} are not among those of this run")
    return lines


def split_hash(labels: Labels) -> str:
    """SHA-256 of the labels: two runs with the same hash split the same rows the same way."""
    return hashlib.sha256(labels.astype(np.int8).tobytes()).hexdigest()


def _stored(stored: dict[str, NDArray], name: str | None, group: str, key: str) -> NDArray:
    if not stored:
        raise InputError(f"the dataset has no `{group}/`", "use split=random or split=kfold instead")
    if name is None and len(stored) == 1:
        return next(iter(stored.values()))
    if name is None:
        raise InputError(
            f"{key} is not set and the dataset has {len(stored)} entries in `{group}/`",
            f"set {key} to one of {', '.join(sorted(stored))}",
        )
    if name not in stored:
        raise InputError(f"`{group}/{name}` is not in the dataset", did_you_mean(name, sorted(stored), f"{key}="))
    return stored[name]
