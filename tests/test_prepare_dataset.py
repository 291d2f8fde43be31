"""A dataset file once more: a copy, a part, pruned; what is kept is what was there."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from dataset_examples import assert_same, example

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.writer import write_dataset
from gpmap_cli.errors import InputError
from gpmap_cli.ld_pruning.settings import Pruning
from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.sources.dataset import Settings, prepare
from gpmap_cli.settings import Group


def load(path):
    with DatasetFile(path) as file:
        return file.load()


@pytest.mark.parametrize(("genotype_type", "ploidy"), [("int8", 2), ("float16", 1), ("float32", 2)])
def test_a_copy(tmp_path, genotype_type, ploidy):
    whole = example(genotype_type=genotype_type, ploidy=ploidy)
    write_dataset(tmp_path / "a.h5", whole)
    lines = prepare(Settings(path=str(tmp_path / "a.h5")), Job(str(tmp_path / "b.h5")))
    copied = load(tmp_path / "b.h5")
    with DatasetFile(tmp_path / "a.h5") as file:
        step = {"derived_from": f"a.h5 (SHA-256 {file.sha256()})"}
    assert_same(copied, replace(whole, provenance={**whole.provenance, **step}))
    assert "kept: all samples, 20 of 20 loci, 3 of 3 environments" in lines
    prepare(Settings(path=str(tmp_path / "b.h5")), Job(str(tmp_path / "c.h5")))
    told = load(tmp_path / "c.h5").provenance["derived_from"]
    assert told.startswith(step["derived_from"] + "; b.h5 (SHA-256 ")


def test_a_part(tmp_path):
    whole = example()
    write_dataset(tmp_path / "a.h5", whole)
    source = Settings(path=str(tmp_path / "a.h5"), environments=("Kälte", "23C"), loci=("λ", "locus_3", "locus_0"))
    lines = prepare(source, Job(str(tmp_path / "b.h5")))
    part = load(tmp_path / "b.h5")
    loci, environments = [19, 3, 0], [2, 0]
    np.testing.assert_array_equal(part.genotypes, whole.genotypes[:, loci])
    np.testing.assert_array_equal(part.phenotypes, whole.phenotypes[:, environments])
    np.testing.assert_array_equal(part.phenotype_std, whole.phenotype_std[:, environments])
    assert part.locus_ids.tolist() == ["λ", "locus_3", "locus_0"]
    assert part.environment_names == ("Kälte", "23C")
    assert part.chromosomes.tolist() == whole.chromosomes[loci].tolist()
    assert part.positions.tolist() == whole.positions[loci].tolist()
    assert part.covariates["temperature"].tolist() == [4, 23]
    assert set(part.folds) == set(whole.folds)
    np.testing.assert_array_equal(part.splits["paper"], whole.splits["paper"])
    assert part.truth["noise_ceiling_r2"].tolist() == [0.5, 0.96]
    np.testing.assert_array_equal(part.truth["noise_free"], whole.truth["noise_free"][:, environments])
    assert set(part.truth) == {"noise_ceiling_r2", "noise_free"}
    assert "of the simulated truth, 3 arrays are not true of a part, and are left out" in lines


def test_pruned(tmp_path):
    rng = np.random.default_rng(0)
    genotypes = rng.integers(0, 2, (200, 6)).astype(np.int8)
    genotypes[:, 3] = 1 - genotypes[:, 1]
    genotypes[:, 4] = 1
    whole = replace(
        example(200, 6), genotypes=genotypes, splits={"mine": (np.arange(200) % 3).astype(np.int8)}, truth={}
    )
    write_dataset(tmp_path / "a.h5", whole)
    pruning = Pruning(max_abs_r=0.94, split="mine")
    lines = prepare(Settings(path=str(tmp_path / "a.h5")), Job(str(tmp_path / "b.h5"), pruning=pruning))
    part = load(tmp_path / "b.h5")
    kept = [0, 1, 2, 5]
    np.testing.assert_array_equal(part.genotypes, genotypes[:, kept])
    assert part.locus_ids.tolist() == whole.locus_ids[kept].tolist()
    assert set(part.splits) == {"mine"}
    assert part.provenance["prune_max_abs_r"] == 0.94
    assert "a.h5 (SHA-256" in part.provenance["derived_from"]
    assert any("kept 4 of 6 loci" in line for line in lines)


def test_large_files_go_through_in_blocks(tmp_path):
    """100 MB of genotypes, in blocks of 16 MB."""
    genotypes = np.zeros((10_000, 10_000), np.int8)
    genotypes[::7, ::3] = 1
    ids = np.arange(10_000).astype(str)
    write_dataset(tmp_path / "a.h5", Dataset(genotypes, np.empty((10_000, 0), np.float32), ids, ids, ()))
    del genotypes
    tracemalloc.start()
    prepare(Settings(path=str(tmp_path / "a.h5")), Job(str(tmp_path / "b.h5")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 70e6
    with DatasetFile(tmp_path / "b.h5") as file:
        assert sum(int(block.sum()) for _, block in file.row_blocks()) == 1429 * 3334


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"environments": ("30c",)}, "`30c` is not in `environments/name`", "did you mean source.environments=30C?"),
        ({"loci": ("locus_33",)}, "`locus_33` is not in `loci/id`", "did you mean source.loci=locus_3?"),
    ],
)
def test_parts_that_are_not_there(tmp_path, options, message, hint):
    write_dataset(tmp_path / "a.h5", example())
    with pytest.raises(InputError) as trouble:
        prepare(Settings(path=str(tmp_path / "a.h5"), **options), Job(str(tmp_path / "b.h5")))
    [problem] = trouble.value.problems
    assert message in problem.message
    assert problem.hint == hint
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_settings():
    group = Group("source.", "dataset")
    assert [problem.message for problem in Settings().problems(group)] == ["source.path is not set"]
    bad = Settings(path="a.h5", environments=("a", "a"), loci=()).problems(group)
    assert [problem.message for problem in bad] == ["source.environments names one twice", "source.loci names none"]


def test_files_that_are_refused(tmp_path):
    (tmp_path / "text").write_text("hello")
    for name, words in (("nowhere.h5", "there is no such file"), ("text", "not a readable HDF5 file")):
        with pytest.raises(InputError, match=words):
            prepare(Settings(path=str(tmp_path / name)), Job(str(tmp_path / "b.h5")))


def test_a_damaged_file_leaves_nothing(tmp_path):
    write_dataset(tmp_path / "a.h5", example(2000, 300))
    contents = bytearray((tmp_path / "a.h5").read_bytes())
    middle = len(contents) // 2  # in the genotypes
    contents[middle : middle + 8] = bytes(8)
    (tmp_path / "a.h5").write_bytes(bytes(contents))
    with pytest.raises(InputError, match="genotypes"):
        prepare(Settings(path=str(tmp_path / "a.h5")), Job(str(tmp_path / "b.h5")))
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_from_the_command_line(gpmap, tmp_path):
    words = ("data.num_samples=300", "data.num_loci=6", "data.environments=[23C,30C]")
    assert gpmap("simulate", *words, "hydra.run.dir=sim").returncode == 0
    words = ("source=dataset", "source.path=sim/dataset.h5", "source.environments=[30C]", "prune.max_abs_r=0.94")
    result = gpmap("prepare", *words, "out=b.h5")
    assert (result.returncode, result.stdout) == (0, "b.h5\n"), result.stderr
    assert gpmap("train", "model=ridge", "data=file", "data.path=b.h5", "hydra.run.dir=run").returncode == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert list(metrics["splits"]["test"]["environments"]) == ["30C"]
    with DatasetFile(tmp_path / "b.h5") as file:
        assert file.provenance["made_by"] == "gpmap simulate"
