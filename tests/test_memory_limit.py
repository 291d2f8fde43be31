"""Genotypes beyond `memory_limit` stay on disk: the fit is the same, and memory is held to the limit."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from dataset_examples import example

from gpmap_cli.dataset.coding import CodedGenotypes, GenotypeCoding
from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.disk_genotypes import DiskGenotypes, select_rows
from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.writer import DatasetWriter, put_all_but_genotypes, write_dataset
from gpmap_cli.errors import InputError
from gpmap_cli.settings import num_bytes
from gpmap_cli.training.batches import DeviceGenotypes

KEYS = [
    slice(None),
    slice(3, 9),
    np.array([4, 5, 6, 1, 1]),
    np.array([], dtype=np.intp),
    (slice(2, 8), slice(1, 4)),
    (slice(None), np.array([3, 0])),
]


@pytest.mark.parametrize("genotype_type", ["int8", "float16", "float32"])
def test_rows_on_disk_are_those_of_the_array(tmp_path, genotype_type):
    genotypes = example(23, 7, genotype_type).genotypes
    on_disk = DiskGenotypes.write(tmp_path, [genotypes[:10], genotypes[10:11], genotypes[11:]], 7, genotypes.dtype)
    rows = np.array([20, 3, 4, 5, 22, 0, 7, 8, 9, 10])
    for view, array in ((on_disk, genotypes), (select_rows(on_disk, rows), genotypes[rows])):
        assert view.shape == array.shape
        assert len(view) == len(array)
        for key in KEYS:
            found = view[key]
            assert found.dtype == genotypes.dtype
            np.testing.assert_array_equal(found, array[key])
    assert list(tmp_path.iterdir()) == []  # the file has no name


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2GB", 2 * 10**9), ("500MB", 5 * 10**8), ("1.5 GiB", 3 * 2**29), ("100", 100), ("7k", 7000), ("1e9", None)]
    + [(wrong, None) for wrong in ("", "GB", "2XB", "-1GB", "2 i", "nan", "1.2.3MB")],
)
def test_sizes(text, expected):
    assert num_bytes(text) == expected


def test_a_wrong_limit_is_refused(gpmap):
    result = gpmap("train", "memory_limit=lots")
    assert result.returncode == 2
    assert "memory_limit must be a size, got `lots`" in result.stderr


@pytest.mark.parametrize("genotype_type", ["int8", "float16"])
@pytest.mark.parametrize(
    "model", ["model=mean", "model=ridge", "model=pairwise", "model=attention", "model=attention_multi_env"]
)
def test_every_model_fits_alike_from_disk(gpmap, tmp_path, model, genotype_type):
    dataset = example(120, 10, genotype_type)
    dataset.truth.clear()
    write_dataset("data.h5", dataset)
    words = ("train", model, "data=file", "data.path=data.h5", "training=debug", "data.num_samples=100")
    for name, extra in (("memory", ()), ("disk", ("memory_limit=100",))):
        result = gpmap(*words, f"hydra.run.dir={name}", *extra)
        assert result.returncode == 0, result.stderr
    results = [(tmp_path / name / "predictions.csv.gz").read_bytes() for name in ("memory", "disk")]
    assert results[0] == results[1]
    assert json.loads((tmp_path / "disk" / "metrics.json").read_text())["status"] == "completed"


def test_networks_take_the_rows_of_a_batch_from_disk(tmp_path):
    genotypes = example(40, 5).genotypes
    coding = GenotypeCoding.learn(genotypes, 1)
    on_disk = DiskGenotypes.write(tmp_path, [genotypes], 5, genotypes.dtype)
    streamed, held = (DeviceGenotypes(CodedGenotypes(one, coding), "cpu", "float64") for one in (on_disk, genotypes))
    assert streamed._stored is on_disk
    for rows in (torch.tensor([7, 3, 3]), slice(5, 30)):
        assert torch.equal(streamed[rows], held[rows])


def test_rows_loci_and_environments_are_chosen_alike_from_disk(tmp_path):
    dataset = example(60, 12)
    write_dataset(tmp_path / "data.h5", dataset)
    rows, loci, environments = np.array([3, 4, 9, 50]), np.array([5, 2, 7]), np.array([2, 0])
    with DatasetFile(tmp_path / "data.h5") as file:
        expected = file.load(rows, loci, environments)
        streamed = file.stream(rows, loci, environments).within(1, tmp_path)
        in_memory = file.stream(rows, loci, environments).within(None, tmp_path)
    assert isinstance(streamed.genotypes, DiskGenotypes)
    for found in (streamed, in_memory):
        np.testing.assert_array_equal(found.genotypes[:], expected.genotypes)
        np.testing.assert_array_equal(found.phenotypes, expected.phenotypes)
        assert found.locus_ids.tolist() == expected.locus_ids.tolist()


def test_simulated_data_and_pruning_from_disk(gpmap, tmp_path):
    words = ("train", "model=ridge", "data.num_samples=400", "data.num_loci=60", "data.linkage=cross", "data.order=2")
    for name, extra in (("memory", ()), ("disk", ("memory_limit=1kB",))):
        result = gpmap(*words, "prune.max_abs_r=0.6", f"hydra.run.dir={name}", *extra)
        assert result.returncode == 0, result.stderr
    results = [(tmp_path / name / "predictions.csv.gz").read_bytes() for name in ("memory", "disk")]
    assert results[0] == results[1]


def test_no_room_for_the_scratch_file_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="no room for the genotypes"):
        DiskGenotypes.write(tmp_path / "file", [], 3, np.dtype(np.int8))


def large_file(path, num_samples, num_loci):
    """A file of many samples, written in no time: the same block again and again, other phenotypes."""
    rng = np.random.default_rng(0)
    block = (rng.random((5000, num_loci)) < 0.5).astype(np.int8)
    tables = Dataset(
        genotypes=np.empty((num_samples, 0), np.int8),
        phenotypes=rng.normal(size=(num_samples, 1)).astype(np.float32),
        sample_ids=np.array([str(number) for number in range(num_samples)], dtype=object),
        locus_ids=np.array([str(number) for number in range(num_loci)], dtype=object),
        environment_names=("30C",),
    )
    with DatasetWriter(path, (num_samples, num_loci), "int8", 1) as writer:
        for start in range(0, num_samples, len(block)):
            writer.append_genotypes(block[: num_samples - start])
        put_all_but_genotypes(writer, tables)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mean", "ridge"])
def test_memory_is_held_to_the_limit(tmp_path, model):
    """Over what a small file of as many loci takes: the limit, and the blocks that are worked on (under 80 MB).

    The genotypes take 160 MB; with all of them in memory the fit takes more than twice that.
    """
    num_loci, limit_mb, working_mb = 1000, 20, 80
    peak = {}
    for name, num_samples in (("small", 4000), ("large", 160_000)):
        large_file(tmp_path / f"{name}.h5", num_samples, num_loci)
        words = [f"model={model}", "data=file", f"data.path={name}.h5", f"hydra.run.dir={name}", "device=cpu"]
        subprocess.run(
            [sys.executable, "-m", "gpmap_cli", "train", *words, f"memory_limit={limit_mb}MB"],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
        peak[name] = json.loads((tmp_path / name / "metrics.json").read_text())["peak_memory_mb"]
    assert peak["large"] - peak["small"] < limit_mb + working_mb
