"""Whole groups on one side of a split: exact sums, grouped folds, where groups come from, and what is refused."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from dataset_examples import example
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmap_cli.dataset.group_split import group_folds, nearest_groups
from gpmap_cli.dataset.sample_groups import sample_groups
from gpmap_cli.dataset.settings import Split
from gpmap_cli.dataset.splits import TEST, TRAIN, VALIDATION, make_split
from gpmap_cli.errors import InputError
from gpmap_cli.random_streams import stream

GROUPED = Split("grouped", num_folds=None, groups="family")


def in_families(sizes):
    """A dataset whose samples, in random order, are in families of these sizes."""
    family = np.random.default_rng(1).permutation(np.repeat(np.arange(len(sizes)), sizes)).astype(float)
    return replace(example(len(family)), sample_groups={"family": family}), family


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=3, max_size=8), st.integers(0, 120), st.integers(0, 2), st.integers(0, 99))
def test_no_other_groups_come_nearer(sizes, target, spare, seed):
    chosen = nearest_groups(np.array(sizes), target, spare, stream(seed, "x"))
    assert 1 <= chosen.sum() <= len(sizes) - spare
    totals = [
        sum(some)
        for number in range(1, len(sizes) - spare + 1)
        for some in itertools.combinations(sizes, number)
    ]  # fmt: skip
    distance = min(abs(total - target) for total in totals)
    total = np.array(sizes)[chosen].sum()
    assert abs(total - target) == distance
    assert total == min(each for each in totals if abs(each - target) == distance)


def test_thousands_of_groups_hit_the_number_exactly():
    sizes = np.random.default_rng(0).integers(1, 40, 3000)
    chosen = nearest_groups(sizes, 9000, 2, stream(0, "x"))
    assert sizes[chosen].sum() == 9000
    assert 0.1 < chosen.mean() < 0.2  # not only small ones, not only large ones


def test_parts_are_whole_groups_of_about_their_fractions_and_random():
    dataset, family = in_families([7, 13, 20, 9, 11, 5, 15, 10, 4, 6])
    tested = set()
    for seed in range(8):
        labels = make_split(GROUPED, dataset, seed)
        assert all(len(set(labels[family == one])) == 1 for one in range(10))
        assert (labels == TEST).sum() == (labels == VALIDATION).sum() == 15
        assert (labels == TRAIN).sum() == 70
        tested.add(labels.tobytes())
        np.testing.assert_array_equal(labels, make_split(GROUPED, dataset, seed))
    assert len(tested) > 4


def test_two_groups_are_left_to_train_and_validate():
    """The small families together are nearest to the fraction, and would leave one family for two parts."""
    dataset, _ = in_families([85, 5, 5, 5])
    labels = make_split(GROUPED, dataset, 0)
    assert [(labels == part).sum() for part in (TRAIN, VALIDATION, TEST)] == [85, 5, 10]


@pytest.mark.parametrize("needs", [True, False])
def test_grouped_folds_test_every_group_once(needs):
    dataset, family = in_families([7, 13, 20, 9, 11, 5, 15, 10, 4, 6])
    split = replace(GROUPED, num_folds=4, validation_fraction=None)
    tested = np.zeros(100, int)
    for fold in range(4):
        labels = make_split(replace(split, fold=fold), dataset, 3, needs)
        tested += labels == TEST
        assert all(len(set(labels[family == one])) == 1 for one in range(10))
        assert (labels == TEST).sum() in (22, 26)  # 20+6, 15+7, 13+9+4, 11+10+5
        assert (labels == VALIDATION).sum() == (15 if needs else 0)
    assert (tested == 1).all()


def test_groups_of_one_size_are_dealt_at_random():
    groups = np.repeat(np.arange(20), 3)
    folds = [group_folds(groups, 5, stream(seed, "x")) for seed in (0, 0, 1)]
    assert (np.bincount(folds[0]) == 12).all()
    assert (folds[0] == folds[1]).all()
    assert (folds[0] != folds[2]).any()


def test_where_groups_come_from(tmp_path):
    dataset, family = in_families([10, 10, 10])
    expected = family.astype(int)
    for split in (GROUPED, replace(GROUPED, groups=None)):
        np.testing.assert_array_equal(sample_groups(split, dataset).of_sample, expected)
    covariate = replace(dataset, sample_groups={}, sample_covariates={"family": family})
    np.testing.assert_array_equal(sample_groups(GROUPED, covariate).of_sample, expected)
    stored = replace(dataset, sample_groups={}, folds={"family": family.astype(np.int16)})
    found = sample_groups(GROUPED, stored)
    np.testing.assert_array_equal(found.of_sample, expected)
    assert found.source == "folds/family"
    rows = [(name, f"F{one:g}", "x") for name, one in zip(dataset.sample_ids, family, strict=True)]
    for name, comma, header, key in (
        ("a.csv", ",", ("sample_id", "group", "note"), None),
        ("b.tsv", "\t", ("strain", "family", "note"), "family"),
    ):
        path = tmp_path / name
        path.write_text("\n".join(comma.join(row) for row in [header, *rows[::-1], ("stranger", "F9", "")]))
        found = sample_groups(Split("grouped", groups=key, groups_file=str(path)), dataset)
        np.testing.assert_array_equal(found.of_sample, expected)
        assert (found.num_groups, found.num_unknown) == (3, 1)


IDS = [f"segregant {number}" for number in range(30)]
TABLE = "sample_id,group\n" + "".join(f"{name},{number % 6}\n" for number, name in enumerate(IDS))


@pytest.mark.parametrize(
    ("text", "split", "words", "hint"),
    [
        (TABLE.replace("segregant 3,", "segregant x,"), Split(), "1 samples have no group in .*`segregant 3`", "`segr"),
        (TABLE.replace("segregant 3,3", "segregant 3,"), Split(), "1 samples have no group", "one of its own"),
        (TABLE.replace("segregant", "S"), Split(), "none of the 30 samples of .* is in the data", "`S 0`"),
        (TABLE.replace("segregant 3,", "segregant 4,"), Split(), "names `segregant 4` twice", "one group"),
        (TABLE + "segregant 30\n", Split(), "line 32 has 1 of 2 columns", "sample_id,group"),
        ("sample_id\nsegregant 0\n", Split(), "has no column of groups", "sample_id,group"),
        ("", Split(), "has no column of groups", "sample_id,group"),
        (TABLE.replace("group", "family"), Split(groups="famly"), "no column `famly`", "split.groups=family"),
        ("id,plate,batch\nsegregant 0,1,2\n", Split(), "split.groups is not set", "split.groups=batch"),
        (TABLE, Split(num_folds=7), "needs at least 7 groups, .* has 6", "fewer folds"),
        (None, Split(groups="families", num_folds=None, validation_fraction=0.1), None, None),
        (None, Split(groups="family"), "no column and no `folds/` called `family`", "split.groups=families"),
        (None, Split(groups="30C"), "`30C` is one of the phenotypes", r"data.groups=[30C]"),
        (None, Split(), "does not say what the groups are", "split.groups_file"),
    ],
)
def test_groups_that_cannot_be_split_by(tmp_path, text, split, words, hint):
    split = replace(split, method="grouped")
    if text is not None:
        (tmp_path / "groups.csv").write_text(text)
        split = replace(split, groups_file=str(tmp_path / "groups.csv"))
    if words is None:
        make_split(split, example(), 0)
        return
    with pytest.raises(InputError, match=words) as trouble:
        make_split(split, example(), 0)
    assert hint in trouble.value.problems[0].hint


@pytest.mark.parametrize(
    ("sizes", "split", "words"),
    [
        ([15, 15], GROUPED, "needs at least 3 groups, the column `family` has 2"),
        ([15, 15], replace(GROUPED, num_folds=2), "needs at least 3 groups"),
        ([20, 5, 5], replace(GROUPED, num_folds=2, fold=1), "leaves 1 of 3 groups to train and validate"),
    ],
)
def test_too_few_groups(sizes, split, words):
    dataset, _ = in_families(sizes)
    with pytest.raises(InputError, match=words):
        make_split(split, dataset, 0)


def test_a_column_without_a_value_is_no_group():
    dataset, family = in_families([10, 10, 10])
    family[4] = np.nan
    with pytest.raises(InputError, match="1 samples have no group in the column `family`: `segregant 4`"):
        make_split(GROUPED, dataset, 0)


WORDS = ("model=ridge", "data.num_samples=120", "data.num_loci=6", "data.order=2", "split=grouped")


def sets_of(run):
    with gzip.open(f"{run}/predictions.csv.gz", "rt") as file:
        return {row["sample_id"]: row["split"] for row in csv.DictReader(file)}


def test_from_the_command_line(gpmap, tmp_path):
    """Families stay whole, an evaluation has the same parts, and a table that was changed is noticed."""
    first = gpmap("simulate", "data.num_samples=120", "data.num_loci=6", "data.order=2", "hydra.run.dir=sim")
    assert first.returncode == 0, first.stderr
    refused = gpmap("train", *WORDS, "split.groups_file=none.csv", "hydra.run.dir=run")
    assert refused.returncode == 2
    assert "split.groups_file: none.csv is not there" in refused.stderr
    assert not (tmp_path / "run").exists()
    data = ("data=file", "data.path=sim/dataset.h5")
    ids = sets_of_all(gpmap, data)
    family = {name: f"F{number % 8}" for number, name in enumerate(ids)}
    table = "sample_id,group\n" + "".join(f"{name},{group}\n" for name, group in family.items())
    (tmp_path / "families.csv").write_text(table)
    split = ("split=grouped", "split.groups_file=families.csv")
    result = gpmap("train", "model=ridge", *data, *split, "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr
    assert "split=grouped: 8 groups of families.csv (6 train, 1 validation, 1 test)" in result.stderr
    parts = sets_of("run")
    for group in set(family.values()):
        assert len({parts[name] for name, own in family.items() if own == group}) == 1
    assert gpmap("evaluate", "run=run", "hydra.run.dir=again").returncode == 0
    assert sets_of("again") == parts
    hashes = [json.loads((tmp_path / run / "provenance.json").read_text())["split_sha256"] for run in ("run", "again")]
    assert hashes[0] == hashes[1]
    (tmp_path / "families.csv").write_text(table.replace("F0", "F1", 3))
    changed = gpmap("evaluate", "run=run", "hydra.run.dir=changed")
    assert changed.returncode == 2
    assert "its split is not the one that it was fitted with" in changed.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    (tmp_path / "run" / "metrics.json").write_text(json.dumps({**metrics, "status": "interrupted"}))
    resumed = gpmap("train", "resume=run")
    assert resumed.returncode == 2
    assert "the split is not the one that this run began with" in resumed.stderr


def sets_of_all(gpmap, data):
    assert gpmap("train", "model=ridge", *data, "hydra.run.dir=ids").returncode == 0
    return list(sets_of("ids"))


def test_a_column_of_groups_is_no_phenotype(gpmap, tmp_path):
    rng = np.random.default_rng(0)
    lines = ["id," + ",".join(f"m{l}" for l in range(5)) + ",growth,plate"]
    for i in range(60):
        genotype = rng.integers(0, 2, 5)
        lines.append(f"s{i}," + ",".join(map(str, genotype)) + f",{genotype.sum() + rng.normal():.4f},P{i % 6}")
    (tmp_path / "cross.csv").write_text("\n".join(lines))
    prepared = gpmap(
        *("prepare", "source=csv", "source.path=cross.csv", "out=cross.h5"),
        "source.phenotype_columns=[growth,plate]",
    )
    assert prepared.returncode == 0, prepared.stderr
    words = ("data=file", "data.path=cross.h5", "data.groups=[plate]", "split=grouped", "split.num_folds=3")
    result = gpmap("train", "-m", "model=ridge", *words, "split.fold=0,1,2", "hydra.sweep.dir=sweep")
    assert result.returncode == 0, result.stderr
    tested = []
    for metrics in sorted((tmp_path / "sweep").glob("*/metrics.json")):
        found = json.loads(metrics.read_text())["splits"]
        assert list(found["test"]["environments"]) == ["growth"]
        assert {name: part["environments"]["growth"]["num_samples"] for name, part in found.items()} == {
            "train": 40,
            "validation": 0,
            "test": 20,
        }
        parts = sets_of(metrics.parent)
        plates = {int(name[1:]) % 6 for name, part in parts.items() if part == "test"}
        assert len(plates) == 2
        tested += sorted(plates)
    assert sorted(tested) == list(range(6))
    wrong = gpmap("train", "model=ridge", *words, "data.environments=[plate]", "hydra.run.dir=x")
    assert wrong.returncode == 2
    assert "plate is a column of groups and among data.environments" in wrong.stderr
