"""Genotypes beyond `memory_limit` stay on disk: the fit is the same, and memory is held to the limit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from shutil import _ntuple_diskusage as Usage

import numpy as np
import pytest
import torch
from dataset_examples import example

from gpmap_cli.commands import variance
from gpmap_cli.dataset.coding import CodedGenotypes, GenotypeCoding
from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.disk_genotypes import DiskGenotypes, select_loci, select_rows
from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.row_stream import RowStream
from gpmap_cli.dataset.writer import DatasetWriter, put_all_but_genotypes, write_dataset
from gpmap_cli.errors import InputError
from gpmap_cli.ld_pruning.loci import ScratchLoci
from gpmap_cli.ld_pruning.settings import Pruning
from gpmap_cli.ld_pruning.writing import write_pruned
from gpmap_cli.progress import no_progress
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
        loci = np.array([6, 1, 2, 4])
        part, expected = select_loci(view, loci), array[:, loci]
        assert part.shape == expected.shape
        np.testing.assert_array_equal(select_loci(part, loci[2:] - 1)[:], expected[:, [1, 3]])
        np.testing.assert_array_equal(select_rows(part, np.array([9, 0]))[:], expected[[9, 0]])
        for key in KEYS:
            np.testing.assert_array_equal(part[key], expected[key])
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


def test_variance_components_from_disk_are_those_from_memory(gpmap, tmp_path, monkeypatch):
    dataset = example(120, 8)
    write_dataset(tmp_path / "data.h5", dataset)
    seen, estimate = [], variance._estimate

    def watched(loaded, *rest):
        seen.append(type(loaded.genotypes))
        return estimate(loaded, *rest)

    monkeypatch.setattr(variance, "_estimate", watched)
    for name, extra in (("memory", ()), ("disk", ("memory_limit=100",))):
        words = ("variance", "data=file", "data.path=data.h5", f"hydra.run.dir={name}", *extra)
        result = gpmap(*words)
        assert result.returncode == 0, result.stderr
    results = [(tmp_path / name / "variance.csv").read_text() for name in ("memory", "disk")]
    assert results[0] == results[1]
    assert seen == [np.ndarray, DiskGenotypes]


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


def test_no_room_for_the_scratch_file_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("TMPDIR", raising=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="no room for the scratch file of genotypes"):
        DiskGenotypes.write(tmp_path / "file", [], 3, np.dtype(np.int8))
    with pytest.raises(InputError, match="no room for the scratch file of genotypes"):
        ScratchLoci(tmp_path / "file", 3, "int8")


def test_what_will_not_fit_the_disk_is_refused_before_it_is_written(tmp_path, monkeypatch):
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**10, 10**10 - 5999, 5999))
    blocks = (np.zeros((num_rows, 3), np.int8) for num_rows in (1000, 1000))
    with pytest.raises(InputError, match=r"0\.0 GB are needed, 0\.0 GB are free") as refused:
        DiskGenotypes.write(tmp_path, blocks, 3, np.dtype(np.int8), 2000)
    assert "TMPDIR" in refused.value.problems[0].hint
    assert len(next(blocks)) == 1000  # nothing was read
    with pytest.raises(InputError, match="no room"):
        ScratchLoci(tmp_path, 3, "float16", 1000)
    dataset = example(100, 20)
    write_dataset(tmp_path / "data.h5", replace(dataset, truth={}))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**10, 10**10 - 1999, 1999))
    with DatasetFile(tmp_path / "data.h5") as file:
        for write in (
            lambda: file.stream().on_disk(tmp_path),
            lambda: write_pruned(tmp_path / "x.h5", file.stream(), Pruning(0.9), False, no_progress),
        ):
            with pytest.raises(InputError, match="no room"):
                write()
    assert [path.name for path in tmp_path.iterdir()] == ["data.h5"]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**10, 0, 2000))
    with DatasetFile(tmp_path / "data.h5") as file:
        assert isinstance(file.stream().on_disk(tmp_path).genotypes, DiskGenotypes)


def test_scratch_files_lie_in_tmpdir_where_it_is_set(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file: no room .*\(.*exists"):
        DiskGenotypes.write(tmp_path, [], 3, np.dtype(np.int8))


@pytest.mark.parametrize("command", ["evaluate", "predict"])
@pytest.mark.parametrize("genotype_type", ["int8", "float16"])
def test_fitted_models_read_from_disk_alike(gpmap, tmp_path, command, genotype_type):
    """The loci in another order than the model's, and more of them."""
    dataset = replace(example(120, 10, genotype_type), truth={})
    write_dataset("data.h5", dataset)
    part = ("data=file", "data.path=data.h5", "data.loci=[locus_7,locus_2,locus_5,locus_3]")
    gpmap("train", "model=attention", "training=debug", *part, "hydra.run.dir=run")
    words = (command, "run=run", "data=file", "data.path=data.h5", *(("rows=test",) if command == "evaluate" else ()))
    made = []
    stream = RowStream.on_disk
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RowStream, "on_disk", lambda *given: made.append(given) or stream(*given))
        for name, extra in (("memory", ()), ("disk", ("memory_limit=100",))):
            result = gpmap(*words, f"hydra.run.dir={name}", *extra)
            assert result.returncode == 0, result.stderr
    assert len(made) == 1
    results = [(tmp_path / name / "predictions.csv.gz").read_bytes() for name in ("memory", "disk")]
    assert results[0] == results[1]
    assert len(results[0]) > 500


@pytest.mark.parametrize(("limit", "on_disk"), [(1201, True), (12 * 100 * 2.55 + 3, False)])
def test_the_limit_counts_every_copy(gpmap, limit, on_disk):
    """100 samples at 12 loci: whole, as train and validation rows, and as the rows that are measured."""
    made = []
    stream = RowStream.on_disk
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RowStream, "on_disk", lambda *given: made.append(given) or stream(*given))
        words = ("train", "model=ridge", "data.num_samples=100", "data.num_loci=12", f"memory_limit={int(limit)}")
        assert gpmap(*words).returncode == 0
    assert bool(made) is on_disk


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
