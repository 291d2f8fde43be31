"""The dataset file: what is written is what is read, in blocks or whole, and nothing half-written is left."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace

import h5py
import numpy as np
import pytest
from dataset_examples import assert_same, example
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.writer import DatasetWriter, with_provenance, write_dataset
from gpmap_cli.errors import InputError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "example.h5"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The example, and the file it was written to."""
    path = tmp_path_factory.mktemp("written") / "example.h5"
    dataset = example(num_samples=50)
    write_dataset(path, dataset)
    return path, dataset


@pytest.mark.parametrize("genotype_type", ["int8", "float16", "float32"])
@pytest.mark.parametrize("ploidy", [1, 2, 16])
def test_every_field_comes_back(path, genotype_type, ploidy):
    dataset = example(genotype_type=genotype_type, ploidy=ploidy)
    write_dataset(path, dataset)
    with DatasetFile(path) as file:
        assert_same(file.load(), dataset)
        assert file.genotype_type == genotype_type
        assert file.load().noise_ceiling_r2 == file.noise_ceiling_r2 == {"23C": 0.96, "30C": 0.9, "Kälte": 0.5}


def test_genotypes_alone_will_do(path):
    bare = replace(
        example(),
        phenotypes=np.empty((30, 0), np.float32),
        environment_names=(),
        phenotype_std=None,
        chromosomes=None,
        positions=None,
        covariates={},
        splits={},
        folds={},
        truth={},
        provenance={},
    )
    write_dataset(path, bare)
    with DatasetFile(path) as file:
        read = file.load()
    assert read.phenotypes.shape == (30, 0)
    assert {read.chromosomes, read.positions, read.phenotype_std} == {None}
    np.testing.assert_array_equal(read.genotypes, bare.genotypes)


def test_environments_without_phenotypes_are_all_missing(path):
    write_dataset(path, replace(example(), phenotype_std=None))
    with h5py.File(path, "r+") as file:
        del file["phenotypes"]
    with DatasetFile(path) as file:
        assert np.isnan(file.load().phenotypes).all()


def test_the_same_contents_give_the_same_bytes(tmp_path):
    write_dataset(tmp_path / "one.h5", example())
    time.sleep(1.1)  # HDF5 can record times, to the second
    write_dataset(tmp_path / "elsewhere" / "two.h5", example())
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "elsewhere" / "two.h5").read_bytes()


def test_genotypes_may_come_in_blocks(tmp_path):
    dataset = example(num_samples=50)
    write_dataset(tmp_path / "whole.h5", dataset)
    write_dataset(tmp_path / "blocks.h5", dataset, (dataset.genotypes[row : row + 1] for row in range(50)))
    assert (tmp_path / "whole.h5").read_bytes() == (tmp_path / "blocks.h5").read_bytes()


def test_the_file_says_what_the_format_prescribes(written):
    path, _ = written
    with h5py.File(path) as file:
        assert file.attrs["format"] == "gpmap-dataset"
        assert file.attrs["format_version"] == 1
        assert file.attrs["ploidy"] == 1
        assert file["genotypes"].dtype == np.int8
        assert file["genotypes"].chunks
        assert file["genotypes"].compression
        assert file["phenotypes"].dtype == file["phenotype_std"].dtype == np.float32
        assert file["loci/position"].dtype == np.int64
        assert file["splits/paper"].dtype == np.int8
        assert file["folds/families"].dtype == np.int16
        assert h5py.check_string_dtype(file["samples/id"].dtype).encoding == "utf-8"
        assert file["loci/id"].asstr()[-1] == "λ"
        unprotected = []
        file.visititems(
            lambda name, node: (
                unprotected.append(name)
                if isinstance(node, h5py.Dataset) and node.shape and not node.fletcher32
                else None
            )
        )
        assert not unprotected


@settings(max_examples=30, deadline=None)
@given(num_rows=st.one_of(st.none(), st.integers(1, 60)))
def test_row_blocks_make_up_the_whole(written, num_rows):
    path, dataset = written
    with DatasetFile(path) as file:
        parts = list(file.row_blocks(num_rows))
    np.testing.assert_array_equal(np.concatenate([block for _, block in parts]), dataset.genotypes)
    assert [row for rows, _ in parts for row in range(rows.start, rows.stop)] == list(range(50))
    assert num_rows is None or all(len(block) <= num_rows for _, block in parts)


def test_row_blocks_of_many_chunks(path, monkeypatch):
    monkeypatch.setattr("gpmap_cli.dataset.writer._CHUNK_BYTES", 100)
    monkeypatch.setattr("gpmap_cli.dataset.file._BLOCK_BYTES", 250)
    dataset = example(num_samples=53)
    write_dataset(path, dataset)
    with DatasetFile(path) as file:
        assert [rows.stop - rows.start for rows, _ in file.row_blocks()] == [10, 10, 10, 10, 10, 3]
        assert_same(file.load(), dataset)
        rows = np.array([52, 0, 11, 11, 30])
        np.testing.assert_array_equal(file.load(rows).genotypes, dataset.genotypes[rows])


@settings(max_examples=40, deadline=None)
@given(
    rows=st.none() | st.lists(st.integers(0, 49), min_size=1, max_size=60),
    loci=st.none() | st.lists(st.integers(0, 19), min_size=1, unique=True),
    environments=st.none() | st.lists(st.integers(0, 2), min_size=1, unique=True),
)
def test_a_selection_is_what_indexing_gives(written, rows, loci, environments):
    """Rows, loci and environments in the order asked for; rows may repeat."""
    path, dataset = written
    rows, loci, environments = (None if one is None else np.array(one) for one in (rows, loci, environments))
    with DatasetFile(path) as file:
        read = file.load(rows, loci, environments)
    by_row, by_locus, by_environment = (
        np.arange(count) if chosen is None else chosen for chosen, count in ((rows, 50), (loci, 20), (environments, 3))
    )
    np.testing.assert_array_equal(read.genotypes, dataset.genotypes[by_row][:, by_locus])
    np.testing.assert_array_equal(read.phenotypes, dataset.phenotypes[by_row][:, by_environment])
    np.testing.assert_array_equal(read.phenotype_std, dataset.phenotype_std[by_row][:, by_environment])
    assert read.sample_ids.tolist() == dataset.sample_ids[by_row].tolist()
    assert read.locus_ids.tolist() == dataset.locus_ids[by_locus].tolist()
    assert read.chromosomes.tolist() == dataset.chromosomes[by_locus].tolist()
    np.testing.assert_array_equal(read.positions, dataset.positions[by_locus])
    assert read.environment_names == tuple(dataset.environment_names[number] for number in by_environment)
    np.testing.assert_array_equal(read.covariates["pH"], dataset.covariates["pH"][by_environment])
    np.testing.assert_array_equal(read.splits["paper"], dataset.splits["paper"][by_row])
    np.testing.assert_array_equal(read.folds["ten"], dataset.folds["ten"][by_row])
    np.testing.assert_array_equal(read.truth["noise_ceiling_r2"], dataset.truth["noise_ceiling_r2"][by_environment])
    part = [
        chosen is not None and not np.array_equal(chosen, np.arange(count))
        for chosen, count in ((loci, 20), (environments, 3))
    ]
    assert ("offset" in read.truth) is not any(part)
    assert ("noise_free" in read.truth) is (rows is None)
    if rows is None:
        np.testing.assert_array_equal(read.truth["noise_free"], dataset.truth["noise_free"][:, by_environment])


def test_rows_beyond_the_file_are_an_error(written):
    with DatasetFile(written[0]) as file:
        for rows in ([50], [-1, 3]):
            with pytest.raises(IndexError, match="50 samples"):
                file.load(np.array(rows))


def test_names_are_found_in_the_order_asked_for(written):
    with DatasetFile(written[0]) as file:
        assert file.find_environments(("Kälte", "23C")).tolist() == [2, 0]
        assert file.find_environments(None).tolist() == [0, 1, 2]
        assert file.find_loci(("λ", "locus_3")).tolist() == [19, 3]
        with pytest.raises(InputError) as trouble:
            file.find_environments(("30c",))
        assert "`30c` is not in `environments/name`" in str(trouble.value)
        assert trouble.value.problems[0].hint == "did you mean data.environments=30C?"
        with pytest.raises(InputError, match="`locus_33` is not in `loci/id`"):
            file.find_loci(("locus_33",))


def test_a_file_in_the_way_is_refused_unless_it_may_go(path):
    path.write_text("precious")
    with pytest.raises(InputError, match="already there"):
        write_dataset(path, example())
    assert path.read_text() == "precious"
    assert list(path.parent.iterdir()) == [path]
    write_dataset(path, example(), overwrite=True)
    with DatasetFile(path) as file:
        assert file.num_samples == 30


def test_a_file_that_appears_meanwhile_is_not_replaced(path):
    dataset = example()

    def blocks():
        yield dataset.genotypes
        path.write_text("precious")

    with pytest.raises(InputError, match="already there"):
        write_dataset(path, dataset, blocks())
    assert path.read_text() == "precious"
    assert list(path.parent.iterdir()) == [path]


class Halt(Exception):
    pass


def test_nothing_is_there_before_the_end_nor_after_a_failure(path):
    def blocks():
        yield example().genotypes[:10]
        assert not path.exists()
        assert len(list(path.parent.iterdir())) == 1  # under its temporary name
        raise Halt

    with pytest.raises(Halt):
        write_dataset(path, example(), blocks())
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            lambda d: replace(d, sample_ids=np.array(["same"] * 30)),
            InputError,
            "`samples/id` holds `same` more than once",
        ),
        (lambda d: replace(d, locus_ids=d.locus_ids[:-1]), InputError, "`loci/id` has shape"),
        (
            lambda d: replace(d, genotypes=np.full((30, 20), 3, np.int8)),
            InputError,
            "`genotypes` holds 3 at row 0, locus 0",
        ),
        (lambda d: replace(d, genotypes=np.empty((30, 0), np.int8)), InputError, "is empty"),
        (lambda d: replace(d, phenotypes=np.full((30, 3), np.inf)), InputError, "`phenotypes` holds an infinite value"),
        (lambda d: replace(d, phenotype_std=np.full((30, 3), -1)), InputError, "negative measurement error"),
        (lambda d: replace(d, splits={"mine": np.full(30, 3)}), InputError, "`splits/mine` holds labels"),
        (lambda d: replace(d, locus_ids=np.array(["\ud800"] * 20)), InputError, "not UTF-8"),
        (lambda d: replace(d, sample_ids=np.array(["a\0b"] * 30, object)), InputError, "zero byte"),
        (lambda d: replace(d, genotypes=np.zeros((30, 20))), ValueError, "not float64"),
    ],
)
def test_a_wrong_dataset_is_not_written(path, change, error, words):
    with pytest.raises(error, match=words) as trouble:
        write_dataset(path, change(example()))
    assert ".part" not in str(trouble.value)
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize(
    ("block", "error", "words"),
    [
        (np.zeros((2, 3)), TypeError, "would lose"),
        (np.full((2, 3), 300), ValueError, "beyond int8"),
        (np.zeros((2, 4), np.int8), ValueError, "shape"),
        (np.zeros((3, 3), np.int8), ValueError, "more than"),
        (np.zeros((1, 3), np.int8), ValueError, "1 of 2"),
    ],
)
def test_blocks_of_genotypes_must_fit(path, block, error, words):
    with pytest.raises(error, match=words), DatasetWriter(path, (2, 3), "int8", 1) as writer:
        writer.append_genotypes(block)
    assert not list(path.parent.iterdir())


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for path, words in (
        (tmp_path / "file" / "x.h5", "cannot be written"),
        (tmp_path, "is a directory"),
        (tmp_path / ("x" * 300), "cannot be"),
    ):
        with pytest.raises(InputError, match=words):
            write_dataset(path, example(), overwrite=True)


@pytest.mark.parametrize("limit", [100, 3_000, 20_000, 50_000, 100_000])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, limit):
    """A limit on the size of files stands in for the full disk."""

    def set_limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    program = (
        "from dataset_examples import example; from gpmap_cli.dataset.writer import write_dataset\n"
        "from gpmap_cli.errors import InputError\n"
        f"try: write_dataset({str(tmp_path / 'x.h5')!r}, example(2000, 100))\n"
        "except InputError as trouble: print(trouble)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=os.path.dirname(__file__),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=set_limit,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "x.h5: cannot be written (File too large)" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(tmp_path.iterdir())


def test_permissions_follow_the_umask(path):
    before = os.umask(0o027)
    try:
        write_dataset(path, example())
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_long_texts_are_not_padded(path, monkeypatch):
    monkeypatch.setattr("gpmap_cli.dataset.writer._MAX_PADDED_TEXT_BYTES", 100)
    write_dataset(path, example())
    with DatasetFile(path) as file:
        assert_same(file.load(), example())


def test_provenance_takes_any_seed(path):
    write_dataset(path, with_provenance(example(), seed=2**70))
    with DatasetFile(path) as file:
        assert file.provenance["seed"] == str(2**70)
        assert file.provenance["citation"] == "Müller et al."


def test_other_byte_orders_are_read(path):
    dataset = example(genotype_type="float32")
    write_dataset(path, dataset)
    with h5py.File(path, "r+") as file:
        for name in ("genotypes", "phenotypes"):
            values = file[name][...]
            del file[name]
            file.create_dataset(name, data=values, dtype=values.dtype.newbyteorder(">"))
    with DatasetFile(path) as file:
        read = file.load()
    assert read.genotypes.dtype.isnative
    assert read.phenotypes.dtype.isnative
    assert_same(read, dataset)
