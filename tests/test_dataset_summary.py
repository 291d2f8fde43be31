"""What `gpmap info` says of a dataset file, and the dataset files that ship with the program."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dataset_examples import assert_same, example

from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.package_data import resolve
from gpmap_cli.dataset.summary import count_alleles, summarise
from gpmap_cli.dataset.writer import write_dataset
from gpmap_cli.errors import InputError
from gpmap_cli.prepare.arrays import prepare_arrays
from gpmap_cli.prepare.settings import ArraysSource


@pytest.fixture
def path(tmp_path):
    return tmp_path / "example.h5"


@pytest.fixture
def written(path):
    """The example, and the file it was written to."""
    dataset = example(num_samples=50)
    write_dataset(path, dataset)
    return path, dataset


def test_the_summary_says_what_is_in_the_file(written):
    path, dataset = written
    with DatasetFile(path) as file:
        lines = summarise(file)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 80
    known = dataset.phenotypes[:, 1][~np.isnan(dataset.phenotypes[:, 1])].astype(float)
    row = next(line for line in lines if line.startswith("30C"))
    assert row.split() == [
        "30C",
        str(len(known)),
        str(50 - len(known)),
        *(f"{value:.4g}" for value in (known.mean(), known.std(), known.min(), known.max())),
        "0.9000",
    ]
    for words in (
        f"{(dataset.genotypes == -1).sum()} of 1000 missing",
        "20 on 3 chromosomes",
        "split paper    17 train, 17 validation, 16 test",
        "folds families 5 folds of 10 samples",
        "temperature: 23 30 4",
        "noise_ceiling_r2",
        "citation       Müller et al.",
        "made_by        a test",
    ):
        assert words in text, words


@pytest.mark.parametrize("genotype_type", ["int8", "float16"])
def test_alleles_are_counted_in_blocks(path, monkeypatch, genotype_type):
    monkeypatch.setattr("gpmap_cli.dataset.file._BLOCK_BYTES", 200)
    monkeypatch.setattr("gpmap_cli.dataset.writer._CHUNK_BYTES", 100)
    dataset = example(genotype_type=genotype_type, ploidy=2)
    genotypes = dataset.genotypes.copy()
    missing = -1 if genotype_type == "int8" else np.nan
    genotypes[:, 4], genotypes[:, 5], genotypes[3:, 6], genotypes[:3, 6] = missing, 1, missing, 2
    write_dataset(path, replace(dataset, genotypes=genotypes))
    with DatasetFile(path) as file:
        counts = count_alleles(file)
        assert "constant loci  3" in summarise(file)
    known = ~np.isnan(genotypes) & (genotypes != -1)
    np.testing.assert_array_equal(counts.known, known.sum(axis=0))
    np.testing.assert_allclose(counts.total, np.where(known, genotypes, 0).sum(axis=0, dtype=float))
    assert np.flatnonzero(counts.is_constant).tolist() == [4, 5, 6]


def test_the_summary_of_a_strange_file_stays_in_its_columns(path):
    dataset = replace(
        example(),
        environment_names=("x" * 200, "\x1b[2J", "c"),
        phenotypes=np.full((30, 3), -1.23456e-30, np.float32),
        provenance={"citation": "a\x1b]0;b " * 50},
    )
    write_dataset(path, dataset)
    with DatasetFile(path) as file:
        lines = summarise(file)
    assert max(map(len, lines)) <= 80
    assert all(line.isprintable() for line in lines)


def test_package_data_has_no_paths(tmp_path):
    assert resolve("data/x.h5").as_posix() == "data/x.h5"
    with DatasetFile(resolve("package:rbd_moulana2022.h5")) as file:
        assert (file.num_samples, file.num_loci, len(file.environment_names)) == (32768, 15, 5)
        assert "CC BY 4.0" in file.provenance["license"]
        assert "Moulana" in file.provenance["citation"]
    for name in ("../x.h5", "a/b.h5", "/etc/passwd", "..", "", "a\\b"):
        with pytest.raises(InputError, match="not a path"):
            resolve(f"package:{name}")
    with pytest.raises(InputError) as trouble:
        resolve("package:rbd_moulana.h5")
    assert trouble.value.problems[0].hint == "did you mean package:rbd_moulana2022.h5?"


def test_the_file_that_ships_is_what_the_importer_makes(shared, tmp_path):
    prepare_arrays(ArraysSource(path=str(shared / "data" / "rbd_moulana2022.h5")), str(tmp_path / "rbd.h5"))
    with DatasetFile(tmp_path / "rbd.h5") as made, DatasetFile(resolve("package:rbd_moulana2022.h5")) as shipped:
        assert_same(made.load(), shipped.load())
