"""LD pruning is the published greedy rule, whatever the correlations, the type of the genotypes and where they lie."""

from __future__ import annotations

import numpy as np
import pytest
from dataset_examples import example
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.disk_genotypes import DiskGenotypes
from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.row_stream import RowStream
from gpmap_cli.dataset.splits import TEST, paper_split
from gpmap_cli.errors import InputError
from gpmap_cli.ld_pruning import greedy
from gpmap_cli.ld_pruning.dataset_pruning import prune
from gpmap_cli.ld_pruning.deciding import by_split
from gpmap_cli.ld_pruning.greedy import kept_loci
from gpmap_cli.ld_pruning.loci import MatrixLoci, ScratchLoci
from gpmap_cli.ld_pruning.settings import Pruning
from gpmap_cli.ld_pruning.writing import write_pruned
from gpmap_cli.progress import no_progress


def naive(genotypes, max_abs_r):
    """The published loop over the matrix of all correlations; constant loci are left out before."""
    varying = np.flatnonzero(genotypes.min(axis=0) < genotypes.max(axis=0))
    r = np.atleast_2d(np.corrcoef(genotypes[:, varying].astype(np.float64).T))
    kept, left = [], list(range(len(varying)))
    while left:
        first = left[0]
        kept.append(first)
        left = [other for other in left[1:] if abs(r[first, other]) <= max_abs_r]
    return varying[kept]


def linked(num_samples, num_loci, seed, shuffled=False, copies=0):
    """Genotypes 0/1 along a chromosome with stretches of strong linkage, perhaps in disorder, with copies far away."""
    rng = np.random.default_rng(seed)
    rates = rng.choice([0, 0.005, 0.02, 0.1, 0.5], (num_loci,), p=[0.3, 0.3, 0.2, 0.1, 0.1])
    switches = (rng.random((num_samples, num_loci)) < rates).astype(np.int8)
    switches[:, 0] = rng.integers(0, 2, num_samples)
    genotypes = np.bitwise_xor.accumulate(switches, axis=1)
    if copies:
        genotypes[:, -copies:] = 1 - genotypes[:, :copies]
    return genotypes[:, rng.permutation(num_loci)] if shuffled else genotypes


@pytest.fixture(autouse=True)
def small_spans(monkeypatch):
    """Spans and tiles of a few loci, so that small data cross their borders."""
    monkeypatch.setattr(greedy, "_SPAN", 48)
    monkeypatch.setattr(greedy, "TILE", 16)
    monkeypatch.setattr(greedy, "_NUM_RECENT", 5)


def test_the_golden_file(shared):
    golden = np.load(shared / "golden" / "ld_pruning.npz")
    calls = ((golden["genotypes"] + 1) // 2).astype(np.int8)
    pruned = kept_loci(MatrixLoci(calls), float(golden["threshold"]))
    np.testing.assert_array_equal(pruned.kept, golden["kept"])
    assert pruned.num_constant == 0


@pytest.mark.parametrize("max_abs_r", [0.1, 0.5, 0.8, 0.94, 1.0])
@pytest.mark.parametrize("how", ["in order", "shuffled", "copies on another chromosome"])
def test_it_is_the_naive_rule(max_abs_r, how):
    copies = 100 if how == "copies on another chromosome" else 0
    genotypes = linked(211, 260, seed=3, shuffled=how == "shuffled", copies=copies)
    genotypes[:, [0, 50, 200]] = 1
    pruned = kept_loci(MatrixLoci(genotypes), max_abs_r)
    np.testing.assert_array_equal(pruned.kept, naive(genotypes, max_abs_r))
    assert pruned.num_constant == (genotypes.min(axis=0) == genotypes.max(axis=0)).sum() >= 3


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 60), st.integers(1, 120), st.integers(0, 10**6), st.sampled_from([0.19, 0.37, 0.53, 0.71, 0.94]))
def test_it_is_the_naive_rule_for_few_samples(num_samples, num_loci, seed, max_abs_r):
    """Many correlations are equal then, and many are 1."""
    genotypes = linked(num_samples, num_loci, seed)
    if (genotypes.min(axis=0) < genotypes.max(axis=0)).sum() > 1:
        np.testing.assert_array_equal(kept_loci(MatrixLoci(genotypes), max_abs_r).kept, naive(genotypes, max_abs_r))


@pytest.mark.parametrize(("num_samples", "mismatches", "max_abs_r"), [(400, 6, 0.94), (200, 3, 0.94), (8, 1, 0.5)])
def test_a_correlation_that_is_the_threshold_is_decided_as_numpy_decides_it(num_samples, mismatches, max_abs_r):
    """Balanced loci that differ in 2k of n samples have r = 1 - 4k / n, here exactly the threshold on paper."""
    one = np.arange(num_samples, dtype=np.int8) % 2
    other = one.copy()
    other[: 2 * mismatches] = 1 - one[: 2 * mismatches]
    pair = np.stack([one, other], axis=1)
    r = np.corrcoef(pair.T.astype(float))[0, 1]
    assert r == pytest.approx(max_abs_r, abs=1e-15)
    assert len(kept_loci(MatrixLoci(pair), max_abs_r).kept) == (1 if abs(r) > max_abs_r else 2)
    constant = np.stack([np.zeros_like(one), one], axis=1)
    assert kept_loci(MatrixLoci(constant), 0.0).kept.tolist() == [1]


@pytest.mark.parametrize("genotype_type", ["int8", "float16", "float32"])
def test_scratch_files_give_what_memory_gives(tmp_path, genotype_type):
    genotypes = linked(300, 130, seed=5).astype(genotype_type)
    if genotype_type != "int8":
        genotypes = np.abs(genotypes - np.random.default_rng(0).uniform(0, 0.1, genotypes.shape)).astype(genotype_type)
    deciding = np.random.default_rng(1).random(300) < 0.8
    expected = kept_loci(MatrixLoci(genotypes, np.flatnonzero(deciding)), 0.9)
    np.testing.assert_array_equal(expected.kept, naive(genotypes[deciding], 0.9))
    with ScratchLoci(tmp_path, 130, genotype_type) as scratch:
        scratch._rows_per_block = 47
        for start in range(0, 300, 13):
            scratch.append(genotypes[start : start + 13])
        scratch.finish()
        assert scratch.num_rows == 300
        scratch.decide_by(deciding)
        np.testing.assert_array_equal(kept_loci(scratch, 0.9).kept, expected.kept)
        back = np.concatenate(list(scratch.row_blocks(expected.kept)))
    np.testing.assert_array_equal(back, genotypes[:, expected.kept])
    assert back.dtype == genotypes.dtype
    assert list(tmp_path.iterdir()) == []


def test_a_missing_genotype_counts_as_the_mean_of_its_locus():
    genotypes = linked(200, 60, seed=8)
    missing = np.random.default_rng(2).random(genotypes.shape) < 0.1
    missing[:, 7] = True
    filled = np.where(missing, np.nan, genotypes)
    with np.errstate(invalid="ignore"):
        means = np.where(missing.all(axis=0), 0, np.nansum(filled, axis=0) / np.maximum((~missing).sum(axis=0), 1))
    expected = naive(np.where(missing, means, genotypes), 0.8)
    as_calls = np.where(missing, -1, genotypes).astype(np.int8)
    as_dosages = filled.astype(np.float32)
    np.testing.assert_array_equal(kept_loci(MatrixLoci(as_calls), 0.8).kept, expected)
    np.testing.assert_array_equal(kept_loci(MatrixLoci(as_dosages), 0.8).kept, expected)


def test_no_kept_pair_is_above_the_threshold_and_every_dropped_locus_is_like_an_earlier_kept_one():
    genotypes = linked(500, 400, seed=11)
    kept = kept_loci(MatrixLoci(genotypes), 0.7).kept
    r = np.abs(np.corrcoef(genotypes.T.astype(float)))
    among = r[np.ix_(kept, kept)] - np.eye(len(kept))
    assert among.max() <= 0.7
    for locus in set(range(400)) - set(kept.tolist()):
        assert r[locus, kept[kept < locus]].max() > 0.7


def dataset_of(genotypes):
    part = example(*genotypes.shape)
    return Dataset(**{**vars(part), "genotypes": genotypes, "truth": {**part.truth, "by_id/effects": np.zeros(3)}})


def stream_of(dataset, num_rows=7):
    empty = Dataset(**{**vars(dataset), "genotypes": np.empty((dataset.num_samples, 0), np.int8)})
    blocks = (dataset.genotypes[start : start + num_rows] for start in range(0, dataset.num_samples, num_rows))
    return RowStream((None, dataset.num_loci), dataset.genotypes.dtype.name, 1, blocks, lambda _: empty)


@pytest.mark.parametrize("rows", ["train_validation", "all"])
def test_a_pruned_file_holds_the_kept_loci_the_split_and_what_made_it(tmp_path, rows):
    genotypes = linked(120, 80, seed=4)
    genotypes[:, 3] = 0
    dataset = dataset_of(genotypes)
    dataset.splits.clear()
    path = tmp_path / "pruned.h5"
    [said] = write_pruned(path, stream_of(dataset), Pruning(0.9, rows), False, no_progress)
    labels = paper_split(120)
    deciding = genotypes if rows == "all" else genotypes[labels != TEST]
    expected = naive(deciding, 0.9)
    with DatasetFile(path) as file:
        read = file.load()
    np.testing.assert_array_equal(read.genotypes, genotypes[:, expected])
    assert read.locus_ids.tolist() == dataset.locus_ids[expected].tolist()
    assert read.chromosomes.tolist() == dataset.chromosomes[expected].tolist()
    np.testing.assert_array_equal(read.positions, dataset.positions[expected])
    np.testing.assert_array_equal(read.phenotypes, dataset.phenotypes)
    assert ("paper" in read.splits) is (rows == "train_validation")
    if rows == "train_validation":
        np.testing.assert_array_equal(read.splits["paper"], labels)
    assert read.provenance["prune_max_abs_r"] == 0.9
    assert read.provenance["prune_num_loci_before"] == 80
    assert read.provenance["prune_num_constant"] == (deciding.min(axis=0) == deciding.max(axis=0)).sum() >= 1
    assert f"kept {len(expected)} of 80 loci" in said
    assert {"noise_free", "noise_ceiling_r2", "by_id/effects"} == set(read.truth)
    assert [one.name for one in tmp_path.iterdir()] == ["pruned.h5"]


def test_a_stored_split_decides_before_the_computed_one(tmp_path):
    genotypes = linked(120, 80, seed=4)
    dataset = dataset_of(genotypes)
    stored = dataset.splits["paper"]
    write_pruned(tmp_path / "x.h5", stream_of(dataset), Pruning(0.9), False, no_progress)
    with DatasetFile(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(file.load().genotypes, genotypes[:, naive(genotypes[stored != TEST], 0.9)])


@pytest.mark.parametrize(
    ("stored", "deciding"),
    [
        ({}, "the published split (computed)"),
        ({"zenodo": 1}, "the stored split `zenodo`"),
        ({"zenodo": 1, "paper": 2}, "the stored split `paper`"),
        ({"zenodo": 1, "other": 2}, "the published split (computed)"),
    ],
)
def test_which_split_decides_where_none_is_named(tmp_path, stored, deciding):
    genotypes = linked(120, 80, seed=4)
    dataset = dataset_of(genotypes)
    dataset.splits.clear()
    dataset.splits.update({name: ((np.arange(120) // 7 + shift) % 3).astype(np.int8) for name, shift in stored.items()})
    before = set(dataset.splits)
    [said] = write_pruned(tmp_path / "x.h5", stream_of(dataset), Pruning(0.9), False, no_progress)
    assert f"on the train and validation samples of {deciding}: kept" in said
    name = deciding.split("`")[1] if "`" in deciding else "paper"
    labels = dataset.splits.get(name, paper_split(120))
    with DatasetFile(tmp_path / "x.h5") as file:
        read = file.load()
    np.testing.assert_array_equal(read.genotypes, genotypes[:, naive(genotypes[labels != TEST], 0.9)])
    assert read.provenance["prune_split"] == name
    assert set(read.splits) == before | ({"paper"} if name == "paper" else set())


def test_test_samples_have_no_say():
    """Other genotypes of the test samples leave the kept loci alone; other ones of the rest do not."""
    genotypes = linked(200, 100, seed=6)
    labels = paper_split(200)

    def kept(changed):
        data = dataset_of(changed)
        pruned, _ = prune(data, by_split(labels, "the run's", "the run's split"), Pruning(0.8), no_progress, None)
        return pruned.locus_ids.tolist()

    scrambled = genotypes.copy()
    scrambled[labels == TEST] = np.random.default_rng(0).integers(0, 2, scrambled[labels == TEST].shape)
    assert kept(scrambled) == kept(genotypes)
    scrambled = genotypes.copy()
    scrambled[labels != TEST] = np.random.default_rng(0).integers(0, 2, scrambled[labels != TEST].shape)
    assert kept(scrambled) != kept(genotypes)


def test_genotypes_on_disk_are_pruned_alike(tmp_path):
    genotypes = linked(200, 100, seed=6)
    labels = paper_split(200)
    on_disk = DiskGenotypes.write(tmp_path, [genotypes[:90], genotypes[90:]], 100, genotypes.dtype)
    deciding = by_split(labels, "the run's", "the run's split")
    in_memory, said = prune(dataset_of(genotypes), deciding, Pruning(0.8), no_progress, tmp_path)
    streamed, said_too = prune(dataset_of(on_disk), deciding, Pruning(0.8), no_progress, tmp_path)
    assert isinstance(streamed.genotypes, DiskGenotypes)
    np.testing.assert_array_equal(streamed.genotypes[:], in_memory.genotypes)
    assert said == said_too


def test_refusals_leave_nothing_behind(tmp_path):
    constant = dataset_of(np.ones((30, 5), np.int8))
    with pytest.raises(InputError, match="leaves no locus"):
        write_pruned(tmp_path / "x.h5", stream_of(constant), Pruning(0.9), False, no_progress)
    dataset = dataset_of(linked(30, 20, seed=1))
    with pytest.raises(InputError, match=r"splits/papre.*not in the dataset"):
        write_pruned(tmp_path / "x.h5", stream_of(dataset), Pruning(0.9, split="papre"), False, no_progress)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "x.h5").write_text("mine")
    stream = stream_of(dataset)
    with pytest.raises(InputError, match="already there"):
        write_pruned(tmp_path / "x.h5", stream, Pruning(0.9), False, no_progress)
    assert next(stream.blocks) is not None  # refused before anything was read
    assert (tmp_path / "x.h5").read_text() == "mine"


def test_pruning_in_a_run_uses_its_own_split_and_says_when_another_saw_test_samples(gpmap, tmp_path):
    cross = ("data.num_samples=300", "data.num_loci=200", "data.linkage=cross", "data.order=2", "seed=3")
    assert gpmap("simulate", *cross, "hydra.run.dir=raw").returncode == 0
    pruned = gpmap("simulate", *cross, "hydra.run.dir=pruned", "prune.max_abs_r=0.8")
    assert pruned.returncode == 0, pruned.stderr
    assert (
        "LD pruning at |r| 0.8 on the train and validation samples of the published split (computed): kept"
        in pruned.stderr
    )
    run = ("train", "model=ridge", "data=file")
    own = gpmap(*run, "data.path=raw/dataset.h5", "prune.max_abs_r=0.8", "hydra.run.dir=own")
    assert own.returncode == 0, own.stderr
    assert "of the run's split" in own.stderr
    assert "has seen" not in own.stderr
    other = gpmap(*run, "data.path=pruned/dataset.h5", "hydra.run.dir=other")
    assert "has seen the genotypes (and no phenotype)" in other.stderr
    same = gpmap(*run, "data.path=pruned/dataset.h5", "split=paper", "hydra.run.dir=same")
    assert same.returncode == 0
    assert "has seen" not in same.stderr
    named = gpmap(*run, "data.path=raw/dataset.h5", "prune.max_abs_r=0.8", "prune.split=paper", "hydra.run.dir=named")
    assert "samples of the published split (computed): kept" in named.stderr
    assert "has seen" in named.stderr
    scored = gpmap("evaluate", "run=own", "hydra.run.dir=scored")  # on the data of the run: loci match by id
    assert scored.returncode == 0, scored.stderr
    metrics = [(tmp_path / name / "metrics.csv").read_text() for name in ("own", "scored")]
    assert metrics[0] == metrics[1]


def test_every_step_of_pruning_stays_on_record(gpmap, tmp_path):
    """Pruned on all samples, then by a split, then in a run by its own: the run hears of the first two."""
    cross = ("data.num_samples=300", "data.num_loci=200", "data.linkage=cross", "data.order=2", "seed=3")
    gpmap("simulate", *cross, "hydra.run.dir=raw", "prune.max_abs_r=0.9", "prune.rows=all")
    prepare = ("prepare", "source=dataset", "source.path=raw/dataset.h5", "out=twice.h5", "prune.split=paper")
    twice = gpmap(*prepare, "prune.max_abs_r=0.8")
    assert twice.returncode == 0, twice.stderr
    with DatasetFile("twice.h5") as file:
        told = {name: value for name, value in file.provenance.items() if name.startswith("prune_")}
        num_loci = file.num_loci
    assert (told["prune_1_max_abs_r"], told["prune_1_rows"], told["prune_1_split"]) == (0.9, "all", "all")
    assert (told["prune_max_abs_r"], told["prune_rows"], told["prune_split"]) == (0.8, "train_validation", "paper")
    assert told["prune_1_num_loci_before"] == 200 > told["prune_num_loci_before"] > num_loci
    run = ("train", "model=mean", "data=file", "data.path=twice.h5")
    for words in ((), ("prune.max_abs_r=0.5",)):
        result = gpmap(*run, *words)
        assert result.returncode == 0, result.stderr
        seen = [line for line in result.stderr.splitlines() if "has seen the genotypes (and no phenotype)" in line]
        assert [line.split("decided on ")[1] for line in seen] == ["all samples", "splits/paper"]
        assert "of 45 of this run's test samples" in seen[0]
    own = gpmap(*run, "split=paper")
    assert own.stderr.count("has seen the genotypes") == 1


@pytest.mark.parametrize("word", ["prune.max_abs_r=1.5", "prune.rows=test", "prune.max_r=0.9", "prune=none"])
def test_wrong_settings_are_refused(gpmap, word):
    assert gpmap("train", word).returncode == 2
