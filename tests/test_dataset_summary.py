"""What `gpmap info` says of a dataset file, and the dataset files that ship with the program."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from array_examples import prepare_arrays
from dataset_examples import assert_same, example

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.description import describe
from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.heritability import replicate_heritability
from gpmap_cli.dataset.package_data import resolve
from gpmap_cli.dataset.statistics import count_genotypes
from gpmap_cli.dataset.summary import summarise
from gpmap_cli.dataset.survey import survey
from gpmap_cli.dataset.writer import write_dataset
from gpmap_cli.errors import InputError
from gpmap_cli.prepare.sources.arrays import Settings as ArraysSource


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
        counts = count_genotypes(file)
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
        lines = summarise(file) + describe(file, survey(file))
    assert max(map(len, lines)) <= 80
    assert all(line.isprintable() for line in lines)


def described(path, dataset):
    """The long description of a dataset, by its lines."""
    write_dataset(path, dataset)
    with DatasetFile(path) as file:
        lines = describe(file, survey(file))
    assert max(map(len, lines)) <= 80
    assert all(line == line.rstrip() for line in lines)
    return lines


def section(lines, first):
    """The lines from the one that begins with `first` to the next empty one, split into words."""
    start = next(number for number, line in enumerate(lines) if line.startswith(first))
    end = next((number for number in range(start, len(lines)) if not lines[number]), len(lines))
    return [line.split() for line in lines[start:end]]


def bare(genotypes, phenotypes=None, **parts):
    """A dataset with as little as possible beside its genotypes."""
    genotypes = np.array(genotypes, np.int8)
    phenotypes = np.empty((len(genotypes), 0)) if phenotypes is None else np.array(phenotypes, float)
    return Dataset(
        genotypes,
        phenotypes.astype(np.float32),
        np.array([f"s{number}" for number in range(len(genotypes))]),
        np.array([f"l{number}" for number in range(genotypes.shape[1])]),
        tuple("abcdefghijklm"[: phenotypes.shape[1]]),
        **parts,
    )


class TestDescription:
    def test_it_says_what_the_summary_says_and_more(self, written):
        path, _ = written
        with DatasetFile(path) as file:
            short, found = summarise(file), survey(file)
            lines = describe(file, found)
        assert set(short) <= set(lines)
        missing = found.genotypes.missing_by_locus
        shares = [f"{100 * share:.2f}" for share in (np.median(missing), np.quantile(missing, 0.95), missing.max())]
        words = section(lines, "missing genotypes")[1]
        assert words[2::2] == [*shares, str((missing > 0.1).sum())]
        assert words[-1] == f"locus_{missing.argmax()}"
        decay = section(lines, "LD decay")
        assert "LD decay: r2 of 20 polymorphic of 20 loci in 50 of 50 samples" in " ".join(decay[0])
        assert decay[3][:7] == ["5", "Gb", "to", "10", "Gb", "17", f"{found.ld.mean_r2[0]:.4f}"]
        assert decay[-1] == ["other", "chromosomes", "133", f"{found.ld.unlinked_r2:.4f}"]
        shape = section(lines, "environment  skewness")[2]
        assert shape[:5] == ["30C", f"{found.distributions[1].skewness:.3f}", "0", "1", "1"]
        assert section(lines, "environment  H2")[3] == ["Kälte", f"{found.error_bound[2]:.4f}"]
        matrix = section(lines, "correlation of environments")
        r = found.correlation.r
        assert matrix[2:5] == [["1", "23C"], ["2", "30C", f"{r[0, 1]:.2f}"],
                               ["3", "Kälte", f"{r[0, 2]:.2f}", f"{r[1, 2]:.2f}"]]  # fmt: skip
        assert " ".join(matrix[5]) == (
            f"mean {r[np.triu_indices(3, 1)].mean():.3f}, strongest {r[1, 2]:.3f} (30C, Kälte), weakest {r[0, 1]:.3f}"
            " (23C, 30C)"
        )

    def test_allele_frequencies_and_heterozygosity_of_diploids(self, path):
        genotypes = np.zeros((40, 10), int)
        genotypes[:20, :4], genotypes[0, 4], genotypes[:10, 5:] = 2, 1, 1
        lines = described(path, bare(genotypes, ploidy=2))
        for line in (
            "quantiles      0.0631, 0.1250, 0.5000, 0.5000 (5, 25, 75, 95 % of loci)",
            "frequencies    0 |: @       %         | 1",
            "minor allele   below 0.05 at 1 loci, below 0.01 at 0",
            "heterozygosity observed 0.1275 (samples 0.0000 to 0.6000), expected 0.3158,",
            "               inbreeding F = 0.596",
            "phenotypes     none",
        ):
            assert line in lines
        assert [words[:-2] for words in section(lines, "distance (loci)")[1:]] == [
            ["1", "9"], ["2", "to", "4", "21"], ["5", "to", "9", "15"]
        ]  # fmt: skip
        assert "Positions are not known" in " ".join(lines)
        assert "Chromosomes are not named" in " ".join(lines)

    def test_replicated_genotypes_tell_of_heritability(self, path):
        genotypes = np.repeat(np.eye(6, dtype=int), [4, 3, 2, 1, 1, 1], axis=0)
        y = np.array([[1, 2, 1, 2, 5, 6, 5, 9, 8, 3, 3, 3], [1] * 12], float).T
        lines = described(path, bare(genotypes, y))
        table = section(lines, "environment  H2 of replicates")
        a = replicate_heritability(y[:, 0].astype(np.float32), np.repeat([0, 1, 2, -1], [4, 3, 2, 3]))
        assert table[1:3] == [["a", f"{a.h2:.4f}", "3", "9"], ["b", "-", "3", "9"]]
        assert "the file has 3 such in 9 samples." in " ".join(lines)
        assert "phenotype_std is not in the file: no bound of H2 from measurement error." in lines

    def test_without_errors_and_replicates_one_line_says_so(self, path):
        lines = described(path, bare(np.eye(4, dtype=int), np.arange(8).reshape(4, 2)))
        assert section(lines, "heritability")[0][1:4] == ["no", "measurement", "errors"]
        assert "H2" not in " ".join(lines)

    def test_many_environments_are_summed_up(self, path):
        y = np.random.default_rng(0).normal(size=(60, 13))
        y[:, 12] = 0.1 - y[:, 3]
        lines = described(path, bare(np.random.default_rng(1).integers(0, 2, (60, 8)), y))
        summary = section(lines, "correlation of environments")[1:]
        assert len(summary) <= 2
        assert "strongest -1.000 (d, m), weakest" in " ".join(map(" ".join, summary))

    @pytest.mark.parametrize(
        "dataset",
        [
            bare([[1]], [[1]]),
            bare([[1, 0, 1]], [[1, 2]]),
            bare([[1], [0], [1]], [[1, 2], [2, np.nan], [3, 2]]),
            bare([[-1, -1]] * 5, [[np.nan, np.nan]] * 5, ploidy=2),
            bare([[1, 1, 1]] * 9, [[3.3]] * 9),
            bare(np.eye(5, dtype=int), chromosomes=np.array(["a", "b", "c", "d", "e"])),
            bare(np.eye(5, dtype=int), positions=np.array([7, 7, 7, 7, 7])),
            bare(np.eye(3, dtype=int), np.eye(3), phenotype_std=np.full((3, 3), np.nan, np.float32)),
        ],
    )
    def test_what_cannot_be_computed_is_left_out(self, path, dataset):
        text = "\n".join(described(path, dataset))
        assert "nan" not in text
        assert "inf" not in text


def test_simulate_prints_the_short_summary(gpmap):
    result = gpmap("simulate", "data.num_samples=50", "data.num_loci=6", "hydra.run.dir=run")
    assert "allele freq." in result.stdout
    assert "LD decay" not in result.stdout
    result = gpmap("info", "run/dataset.h5")
    assert "LD decay" in result.stdout
    assert result.stdout.splitlines()[-1] == "figures: add figures=DIR"
    assert not result.stderr


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
