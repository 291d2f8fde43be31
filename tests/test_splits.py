"""Splits: the published one to the row, random ones by fraction, folds, and those stored in the file."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import replace

import numpy as np
import pytest
from dataset_examples import example
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from gpmap_cli.dataset.settings import Split
from gpmap_cli.dataset.splits import (
    TEST,
    TRAIN,
    VALIDATION,
    fold_split,
    make_split,
    paper_split,
    paper_split_rows,
    random_split,
    split_hash,
    stored_folds,
    stored_split,
    which_paper_split,
)
from gpmap_cli.errors import InputError
from gpmap_cli.random_streams import stream


@pytest.mark.parametrize("num_samples", [20, 1000, 99950])
def test_the_published_split_to_the_row(shared, num_samples):
    golden = json.loads((shared / "golden" / "split.json").read_text())[str(num_samples)]
    for name, rows in zip(("train", "validation", "test"), paper_split_rows(num_samples), strict=True):
        assert len(rows) == golden[name]["count"]
        assert rows[: len(golden[name]["first"])].tolist() == golden[name]["first"]
        assert hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest() == golden[name]["sha256_of_int64_le"]


@settings(max_examples=25, deadline=None)
@given(num_samples=st.integers(4, 3000))
def test_the_published_split_holds_out_as_scikit_learn_does(num_samples):
    rows = list(range(num_samples))
    random.Random(0).shuffle(rows)
    rest, test = train_test_split(rows, test_size=0.15, random_state=42)
    train, validation = train_test_split(rest, test_size=0.15, random_state=42)
    for ours, theirs in zip(paper_split_rows(num_samples), (train, validation, test), strict=True):
        assert ours.tolist() == theirs
    labels = paper_split(num_samples)
    assert np.flatnonzero(labels == TEST).tolist() == sorted(test)
    assert np.flatnonzero(labels == VALIDATION).tolist() == sorted(validation)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 2000), st.floats(0.01, 0.6), st.floats(0.01, 0.39), st.integers(0, 2**32))
def test_random_fractions_are_of_all_samples(num_samples, test_fraction, validation_fraction, seed):
    labels = random_split(num_samples, test_fraction, validation_fraction, stream(seed, "split"))
    assert labels.dtype == np.int8
    assert (labels == TEST).sum() == round(test_fraction * num_samples)
    assert (labels == VALIDATION).sum() == min(
        round(validation_fraction * num_samples), num_samples - (labels == TEST).sum()
    )


def test_the_seed_of_the_run_decides_unless_the_split_has_its_own():
    dataset = example(200)
    one, again, other = (make_split(Split(), dataset, seed) for seed in (1, 1, 2))
    assert split_hash(one) == split_hash(again) != split_hash(other)
    pinned = [make_split(Split(seed=5), dataset, seed) for seed in (1, 2)]
    assert split_hash(pinned[0]) == split_hash(pinned[1])
    assert split_hash(pinned[0]) == split_hash(make_split(Split(), dataset, 5))


def test_a_stored_published_split_goes_before_the_computed_one():
    """And a subset of the samples keeps its labels, rather than being split anew."""
    dataset = example(200)
    stored = make_split(Split(method="paper"), dataset, 1)
    np.testing.assert_array_equal(stored, dataset.splits["paper"])
    assert "splits/paper" in which_paper_split(dataset)
    rows = np.arange(0, 200, 2)
    np.testing.assert_array_equal(make_split(Split(method="paper"), dataset.take_rows(rows), 1), stored[rows])
    bare = replace(dataset, splits={"other": stored})
    np.testing.assert_array_equal(make_split(Split(method="paper"), bare, 1), paper_split(200))
    assert "computed" in which_paper_split(bare)


def test_the_split_does_not_depend_on_phenotypes():
    dataset = example(200)
    shuffled = replace(dataset, phenotypes=dataset.phenotypes[::-1])
    np.testing.assert_array_equal(make_split(Split(), dataset, 3), make_split(Split(), shuffled, 3))


def test_drawn_folds_test_every_sample_once():
    dataset = example(103)
    tested = np.zeros(103, int)
    for fold in range(5):
        labels = make_split(Split(method="kfold", num_folds=5, fold=fold), dataset, 9)
        tested += labels == TEST
        assert (labels == TEST).sum() in (20, 21)
        assert (labels == VALIDATION).sum() == round(0.15 * 103)
    assert (tested == 1).all()


def test_stored_folds_are_counted_over_their_sorted_labels():
    folds = np.array([7, 7, -2, 30, 30, 30, -2, 7, 7, 30], dtype=np.int16)
    for fold, label in enumerate((-2, 7, 30)):
        labels = fold_split(folds, fold, 0.2, stream(0, "x"))
        np.testing.assert_array_equal(labels == TEST, folds == label)
        assert (labels == VALIDATION).sum() == 2
        assert (labels == TRAIN).sum() == 8 - (folds == label).sum()
    with pytest.raises(InputError, match=r"split\.fold is `3` but there are 3 folds"):
        fold_split(folds, 3, 0.2, stream(0, "x"))
    assert (fold_split(folds, 0, 0.99, stream(0, "x")) == TRAIN).sum() == 1


def test_what_is_stored_in_the_file():
    dataset = example()
    np.testing.assert_array_equal(stored_split(dataset, "paper"), dataset.splits["paper"])
    np.testing.assert_array_equal(stored_split(dataset, None), dataset.splits["paper"])
    np.testing.assert_array_equal(stored_folds(dataset, "ten"), dataset.folds["ten"])
    labels = make_split(Split(method="kfold", name="families", fold=2), dataset, 0)
    np.testing.assert_array_equal(labels == TEST, dataset.folds["families"] == 2)


@pytest.mark.parametrize(
    ("dataset", "split", "words", "hint"),
    [
        (example(), Split("file", name="papers"), "`splits/papers` is not in the dataset", "split.name=paper"),
        (example(), Split("kfold", name="familys"), "`folds/familys` is not", "split.name=families"),
        (replace(example(), splits={}), Split("file"), "has no `splits/`", "split=random"),
        (replace(example(), folds={}), Split("kfold", name="x"), "has no `folds/`", "split=random"),
        (
            replace(example(), splits={"a": example().splits["paper"], "b": example().splits["paper"]}),
            Split("file"),
            "split.name is not set",
            "a, b",
        ),
        (
            replace(example(), splits={"a": np.zeros(30, np.int8)}),
            Split("file"),
            "split=file of 30 samples leaves no validation samples",
            "other split settings",
        ),
        (example(2), Split(), "leaves no", "more samples"),
        (example(3), Split("kfold", num_folds=5, fold=4), "there are 3 folds", "0..2"),
        (replace(example(2), splits={}), Split("paper"), "leaves no train samples", "more samples"),
    ],
)
def test_splits_that_cannot_be_made(dataset, split, words, hint):
    with pytest.raises(InputError, match=words) as trouble:
        make_split(split, dataset, 0)
    assert hint in trouble.value.problems[0].hint


@pytest.mark.parametrize("needs", [True, False])
def test_cross_validation_spares_validation_samples_for_models_that_choose_by_them(needs):
    dataset = example(100)
    labels = make_split(Split(method="kfold", validation_fraction=None), dataset, 0, needs)
    assert [(labels == part).sum() for part in range(3)] == ([65, 15, 20] if needs else [80, 0, 20])
    asked_for = make_split(Split(method="kfold", validation_fraction=0.1), dataset, 0, needs)
    assert (asked_for == 1).sum() == 10
    random = make_split(Split(validation_fraction=None), dataset, 0, needs)
    assert (random == 1).sum() == 15


def test_a_cross_validated_run_without_validation_samples_is_scored_and_evaluated(gpmap):
    words = ("data.num_samples=200", "data.num_loci=8", "data.order=2", "split=kfold", "split.fold=1")
    result = gpmap("train", "model=ridge", *words, "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr
    with open("run/metrics.json") as file:
        scores = json.load(file)["splits"]
    assert {name: part["environments"]["30C"]["num_samples"] for name, part in scores.items()} == {
        "train": 160,
        "validation": 0,
        "test": 40,
    }
    assert scores["validation"]["mean_r2"] is None
    assert gpmap("evaluate", "run=run", "hydra.run.dir=again").returncode == 0
    with open("again/metrics.json") as file:
        assert json.load(file)["splits"] == scores
    chosen = gpmap("train", "model=ridge", "model.penalty_choice=validation", *words, "hydra.run.dir=chosen")
    assert chosen.returncode == 0, chosen.stderr
    assert "130 train, 30 validation, 40 test" in chosen.stderr
