"""Few mutations train, more test: how mutations are counted, who is in which part, and scores by their number."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
from dataset_examples import example

from gpmap_cli.dataset import mutations
from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.mutations import UNUSED, mutation_counts
from gpmap_cli.dataset.settings import Split
from gpmap_cli.dataset.splits import TEST, TRAIN, VALIDATION, make_split
from gpmap_cli.errors import InputError
from gpmap_cli.metrics import r2_score
from gpmap_cli.run_dir.mutation_table import scores_by_mutations
from gpmap_cli.settings import Group


def genotypes_of(rows, ploidy=1, dtype=np.int8):
    genotypes = np.array(rows, dtype)
    num_samples, num_loci = genotypes.shape
    return Dataset(
        genotypes=genotypes,
        phenotypes=np.zeros((num_samples, 1), np.float32),
        sample_ids=np.array([f"s{number}" for number in range(num_samples)]),
        locus_ids=np.array([f"m{number}" for number in range(num_loci)]),
        environment_names=("y",),
        ploidy=ploidy,
    )


def test_mutations_are_loci_that_differ_from_the_reference(monkeypatch):
    monkeypatch.setattr(mutations, "_BLOCK_VALUES", 8)  # two rows at a time
    haploid = genotypes_of([[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 1], [1, -1, 1, 1], [1, 1, 1, 0]])
    assert mutation_counts(haploid, "all_reference").tolist() == [0, 1, 3, 3, 3]
    assert mutation_counts(haploid, "majority").tolist() == [1, 0, 2, 2, 2]  # 1 0 0 0: ties have fewest copies
    assert mutation_counts(haploid, "s3").tolist() == [3, 2, 1, 0, 1]  # its missing locus counts for nobody
    diploid = genotypes_of([[0, 2, 1], [2, 2, 2], [0, 1, 2]], ploidy=2)
    assert mutation_counts(diploid, "all_reference").tolist() == [2, 3, 2]
    assert mutation_counts(diploid, "majority").tolist() == [1, 1, 1]
    dosages = genotypes_of([[0.1, 1.9, np.nan], [0.6, 0.4, 2.0]], 2, np.float16)
    assert mutation_counts(dosages, "all_reference").tolist() == [1, 2]
    assert mutation_counts(dosages, "s0").tolist() == [0, 2]


def complete(num_loci=6):
    return genotypes_of([[code >> locus & 1 for locus in range(num_loci)] for code in range(2**num_loci)])


def test_few_train_and_more_test():
    dataset = complete()
    counts = dataset.genotypes.sum(axis=1)
    split = Split("mutation_order", max_train_mutations=3, validation_fraction=0.25)
    labels = make_split(split, dataset, 0)
    assert ((labels == TEST) == (counts > 3)).all()
    assert (labels == VALIDATION).sum() == round(0.25 * (1 + 6 + 15 + 20))  # of the training side, not of all
    assert (labels != make_split(split, dataset, 1)).any()
    gap = make_split(replace(split, min_test_mutations=5), dataset, 0)
    assert ((gap == UNUSED) == (counts == 4)).all()
    assert ((gap == TEST) == (counts > 4)).all()
    assert ((gap == TRAIN) == (labels == TRAIN)).all()
    other = make_split(replace(split, reference="s63"), dataset, 0)
    assert ((other == TEST) == (counts < 3)).all()


@pytest.mark.parametrize(
    ("split", "words"),
    [
        (Split(max_train_mutations=6), "leaves no test samples: they have 0 to 6 mutations"),
        (Split(max_train_mutations=0), "leaves no validation samples: they have 0 to 6"),
        (Split(max_train_mutations=2, reference="s64"), "split.reference: the data have no sample `s64`"),
    ],
)
def test_parts_that_would_be_empty_are_refused(split, words):
    with pytest.raises(InputError, match=words):
        make_split(replace(split, method="mutation_order"), complete(), 0)


@pytest.mark.parametrize(
    ("split", "messages"),
    [
        (Split("mutation_order"), ["split.max_train_mutations is not set"]),
        (Split("mutation_order", max_train_mutations=3, min_test_mutations=3), ["must be above"]),
        (Split("mutation_order", max_train_mutations=3, min_test_mutations=4), []),
        (Split("grouped", num_folds=None, test_fraction=0.9), ["leave no training samples"]),
        (Split("grouped", num_folds=3, fold=3), ["split.fold must be below split.num_folds (3)"]),
        (Split("grouped", num_folds=3, test_fraction=0.9), []),
        (Split("kfold", num_folds=None), ["split.num_folds is not set"]),
        (Split("kfold", num_folds=None, name="stored"), []),
    ],
)
def test_rules_across_fields(split, messages):
    found = split.problems(Group("split.", "split"))
    assert len(found) == len(messages)
    assert all(message in problem.message for problem, message in zip(found, messages, strict=True))


def test_scores_are_of_the_genotypes_with_so_many_mutations():
    rng = np.random.default_rng(0)
    observed, counts = rng.normal(size=(40, 3)), np.arange(40) % 4
    predicted = observed + 0.3 * rng.normal(size=observed.shape)
    observed[counts == 2, 1] = np.nan
    observed[3, 2] = np.nan
    rows = np.arange(40) < 30
    found = scores_by_mutations(observed, predicted, {"test": rows}, example().environment_names, counts)
    assert [(one.environment, one.num_mutations) for one in found] == [
        *[("23C", number) for number in range(4)],
        *[("30C", number) for number in (0, 1, 3)],
        *[("Kälte", number) for number in range(4)],
    ]
    these = rows & (counts == 3) & (np.arange(40) != 3)
    assert found[-1].r2 == pytest.approx(r2_score(observed[these, 2], predicted[these, 2]))
    assert found[-1].mse == pytest.approx(((observed[these, 2] - predicted[these, 2]) ** 2).mean())
    assert found[-1].num_samples == these.sum()


def test_from_the_command_line(gpmap, tmp_path):
    words = ("model=ridge", "data=rbd", "data.num_samples=2000", "data.environments=[ACE2,S309]")
    split = ("split=mutation_order", "split.max_train_mutations=6", "split.min_test_mutations=8")
    result = gpmap("train", *words, *split, "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr
    assert "in no part), 15 loci" in result.stderr
    assert "test R^2 by number of mutations: 8: " in result.stderr
    with gzip.open(tmp_path / "run" / "predictions.csv.gz", "rt") as file:
        parts = [row["split"] for row in csv.DictReader(file) if row["environment"] == "S309"]
    assert len(parts) == 2000
    numbers = {name: parts.count(name) for name in ("train", "validation", "test", "")}
    scored = json.loads((tmp_path / "run" / "metrics.json").read_text())["splits"]
    with open(tmp_path / "run" / "metrics_by_mutations.csv") as file:
        table = [row for row in csv.DictReader(file) if row["environment"] == "S309"]
    for name, part in scored.items():
        own = [row for row in table if row["split"] == name]
        assert sum(int(row["num_samples"]) for row in own) == part["environments"]["S309"]["num_samples"]
        mutations_found = {int(row["num_mutations"]) for row in own}
        assert max(mutations_found) <= 6 if name != "test" else min(mutations_found) == 8
        weighed = sum(float(row["mse"]) * int(row["num_samples"]) for row in own)
        assert weighed / sum(int(row["num_samples"]) for row in own) == pytest.approx(
            part["environments"]["S309"]["mse"], rel=1e-6
        )
        assert part["environments"]["S309"]["num_samples"] == numbers[name]
    assert numbers[""] > 100
    assert gpmap("evaluate", "run=run", "hydra.run.dir=again").returncode == 0
    for name in ("metrics_by_mutations.csv", "metrics.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()
    missing = gpmap("train", *words, "split=mutation_order", "hydra.run.dir=x")
    assert missing.returncode == 2
    assert "split.max_train_mutations is not set" in missing.stderr
