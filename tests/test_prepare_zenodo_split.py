"""A ready-made split in six .npy files: genotypes, phenotypes and the split come through as they are."""

from __future__ import annotations

import io
import json
import pickle
import zipfile

import numpy as np
import pytest

from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.errors import InputError
from gpmap_cli.prepare.arrays import zenodo_split
from gpmap_cli.prepare.arrays.zenodo_split import read_zenodo_split
from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.sources.zenodo_split import Settings, prepare
from gpmap_cli.simulate.yeast_environments import ENVIRONMENTS

COUNTS = {"train": 14, "val": 4, "test": 6}


def arrays(num_loci=9, num_environments=18, **changes):
    rng = np.random.default_rng(0)
    found = {}
    for part, count in COUNTS.items():
        found[f"geno_{part}"] = rng.choice([-1.0, 1.0], (count, num_loci))
        phenotypes = rng.normal(size=(count, num_environments))
        phenotypes[rng.random(phenotypes.shape) < 0.2] = np.nan
        found[f"pheno_{part}"] = phenotypes
    return {name: array for name, array in {**found, **changes}.items() if array is not None}


def as_directory(path, named):
    path.mkdir(parents=True, exist_ok=True)
    for name, array in named.items():
        np.save(path / f"{name}.npy", array)
    return path


def as_zip(path, named, folder=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"__MACOSX/{folder}._geno_train.npy", b"rubbish")
        for name, array in named.items():
            stream = io.BytesIO()
            np.save(stream, array)
            archive.writestr(f"{folder}{name}.npy", stream.getvalue())
    return path


def read(path, **options):
    return read_zenodo_split(Settings(path=str(path), **options))


def refused(path, **options):
    with pytest.raises(InputError) as trouble:
        read(path, **options)
    [problem] = trouble.value.problems
    assert problem.hint
    return problem.message


@pytest.mark.parametrize("kind", ["directory", "nested directory", "zip", "nested zip"])
@pytest.mark.parametrize("rows_at_once", [2**22, 27])
def test_everything_comes_through(tmp_path, monkeypatch, kind, rows_at_once):
    monkeypatch.setattr(zenodo_split, "_BLOCK_VALUES", rows_at_once)
    named = arrays()
    if "directory" in kind:
        folder = tmp_path / "data"
        as_directory(folder / "datasets" if "nested" in kind else folder, named)
    else:
        folder = as_zip(tmp_path / "datasets.zip", named, "datasets/" if "nested" in kind else "")
    dataset, lines = read(folder)
    genotypes = np.concatenate([named[f"geno_{part}"] for part in COUNTS])
    np.testing.assert_array_equal(dataset.genotypes, (genotypes > 0).astype(np.int8))
    assert dataset.genotypes.dtype == np.int8
    phenotypes = np.concatenate([named[f"pheno_{part}"] for part in COUNTS])
    np.testing.assert_array_equal(dataset.phenotypes, phenotypes.astype(np.float32))
    assert dataset.environment_names == tuple(ENVIRONMENTS)
    assert dataset.splits["zenodo"].tolist() == [0] * 14 + [1] * 4 + [2] * 6
    assert dataset.sample_ids[[0, 13, 14, 18, 23]].tolist() == ["train_0", "train_13", "val_0", "test_0", "test_5"]
    assert dataset.ploidy == 1
    assert dataset.provenance["made_by"] == "gpmap prepare source=zenodo_split"
    text = "\n".join(lines)
    assert "a split of 14 train, 4 validation and 6 test segregants" in text
    assert f"missing phenotypes: {np.isnan(phenotypes).sum()} of {phenotypes.size}" in text
    assert "missing genotypes: 0 of 216" in text


def test_the_published_order_of_environments(shared):
    """As in the paper's table of scores."""
    table = (shared / "paper.md").read_text().split("## 7. Scores")[1].split("\n## 8")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]
    assert tuple(rows[2:20]) == tuple(ENVIRONMENTS)


def test_genotypes_between_the_alleles_are_dosages(tmp_path):
    mixed = arrays()["geno_val"]
    mixed[1, 2], mixed[3, 4], mixed[0, 0] = 0.5, 0, np.nan
    dataset, lines = read(as_directory(tmp_path, arrays(geno_val=mixed)))
    assert dataset.genotypes.dtype == np.float32
    expected = np.concatenate([arrays()["geno_train"], mixed, arrays()["geno_test"]])
    np.testing.assert_array_equal(dataset.genotypes, ((expected + 1) / 2).astype(np.float32))
    assert "missing genotypes: 1 of 216" in lines
    assert "genotypes stored as float32 (dosages: not all are -1 or +1)" in lines[1]
    mixed[1, 2], mixed[3, 4] = 1, -1
    dataset, _ = read(as_directory(tmp_path, arrays(geno_val=mixed)))
    assert dataset.genotypes.dtype == np.int8
    assert dataset.genotypes[14, 0] == -1


def test_other_widths_need_names(tmp_path):
    path = as_directory(tmp_path, arrays(num_environments=2))
    assert "2 columns of phenotypes, and 18 names of environments were published" in refused(path)
    assert "2 columns of phenotypes, and 1 names" in refused(path, environments=("a",))
    assert read(path, environments=("a", "b"))[0].environment_names == ("a", "b")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"geno_val": None}, "`geno_val` is missing"),
        ({"pheno_test": None}, "`pheno_test` is missing"),
        ({"geno_test": np.ones((6, 8))}, "`geno_test` has 8 loci, but `geno_train` has 9"),
        ({"pheno_val": np.ones((4, 17))}, "`pheno_val` has 17 environments, but `pheno_train` has 18"),
        ({"pheno_val": np.ones((5, 18))}, "`pheno_val` has 5 rows, but `geno_val` has 4"),
        ({"geno_val": np.ones(4)}, "`geno_val` has shape (4,)"),
        ({"geno_val": np.ones((0, 9))}, "`geno_val` has shape (0, 9)"),
        ({"geno_val": np.full((4, 9), "A")}, "`geno_val` has type <U1"),
        ({"geno_val": np.full((4, 9), 2.0)}, "`geno_val` holds 2 at row 0, locus 0"),
        ({"geno_val": (arrays()["geno_val"] + 1) / 2}, "`geno_val` holds 0 and nothing below 0"),
        ({"geno_val": np.full((4, 9), 1e300)}, "`geno_val` holds inf at row 0, locus 0"),
        ({"geno_val": np.full((4, 9), -np.inf)}, "`geno_val` holds -inf at row 0, locus 0"),
        ({"pheno_val": np.full((4, 18), np.inf)}, "`pheno_val` holds an infinite value"),
        ({"pheno_val": np.full((4, 18), 1e300)}, "`pheno_val` holds an infinite value"),
        ({"pheno_val": np.array([[print] * 18] * 4)}, "`pheno_val` holds Python objects"),
    ],
)
def test_what_is_refused(tmp_path, packed, changes, message):
    named = arrays(**changes)
    path = as_zip(tmp_path / "x.zip", named) if packed else as_directory(tmp_path / "x", named)
    assert message in refused(path)
    with pytest.raises(InputError):
        prepare(Settings(path=str(path)), Job(str(tmp_path / "out.h5")))
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_what_is_no_split(tmp_path):
    assert "there is no such file" in refused(tmp_path / "nowhere")
    (tmp_path / "text").write_text("hello")
    assert "not a .zip file" in refused(tmp_path / "text")
    assert "there is no geno_train.npy" in refused(tmp_path)
    for name in ("a", "b"):
        as_directory(tmp_path / name, arrays())
    assert "more than one directory" in refused(tmp_path)
    assert "no geno_train.npy in it" in refused(as_zip(tmp_path / "x.zip", {}))
    both = as_zip(tmp_path / "y.zip", {"a/geno_train": np.ones(1), "b/geno_train": np.ones(1)})
    assert "more than one geno_train.npy" in refused(both)


def test_damaged_archives(tmp_path):
    whole = as_zip(tmp_path / "x.zip", arrays()).read_bytes()
    for length in range(0, len(whole), len(whole) // 25):
        (tmp_path / "x.zip").write_bytes(whole[:length])
        refused(tmp_path / "x.zip")


def test_nothing_is_unpickled(tmp_path):
    with zipfile.ZipFile(as_zip(tmp_path / "x.zip", arrays(geno_val=None)), "a") as archive:
        archive.writestr("geno_val.npy", pickle.dumps(print))
    assert "`geno_val` cannot be read" in refused(tmp_path / "x.zip")


def test_from_the_command_line(gpmap, tmp_path):
    as_zip(tmp_path / "datasets.zip", arrays(extra=np.ones(2)), "datasets/")
    result = gpmap("prepare", "source=zenodo_split", "source.path=datasets.zip", "out=yeast.h5")
    assert (result.returncode, result.stdout) == (0, "yeast.h5\n")
    assert "left out 1 other arrays: `datasets/extra`" in result.stderr
    words = ("data=file", "data.path=yeast.h5", "data.environments=[30C]", "split=file", "split.name=zenodo")
    result = gpmap("train", "model=ridge", *words, "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr
    scores = json.loads((tmp_path / "run" / "metrics.json").read_text())["splits"]
    with DatasetFile(tmp_path / "yeast.h5") as file:
        known = ~np.isnan(file.phenotypes()[file.splits["zenodo"] == 2, file.environment_names.index("30C")])
    assert scores["test"]["environments"]["30C"]["num_samples"] == known.sum()
    assert gpmap("prepare", "source=zenodo_split", "out=x.h5").returncode == 2


def test_pruning_is_decided_by_the_split_that_came_with_the_data(gpmap, tmp_path):
    as_directory(tmp_path / "data", arrays())
    words = ("source=zenodo_split", "source.path=data", "out=yeast.h5", "prune.max_abs_r=0.94")
    result = gpmap("prepare", *words)
    assert result.returncode == 0, result.stderr
    assert "on the train and validation samples of the stored split `zenodo`" in result.stderr
    with DatasetFile(tmp_path / "yeast.h5") as file:
        assert set(file.splits) == {"zenodo"}
    words = ("data=file", "data.path=yeast.h5", "split=file", "split.name=zenodo")
    assert "has seen the genotypes" not in gpmap("train", "model=mean", *words).stderr
    computed = gpmap("train", "model=mean", *words[:2], "split=paper")
    assert "split=paper: computed from the number of samples" in computed.stderr
    assert "has seen the genotypes" in computed.stderr
