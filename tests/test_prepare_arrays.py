"""Importing plain arrays: HDF5, .npy and .npz alike; what is read is what was there, and what is wrong is named."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import subprocess
import zipfile

import h5py
import numpy as np
import pytest
from array_examples import KINDS, arrays, imported, prepare_arrays, refused, save

from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.errors import InputError
from gpmap_cli.prepare.arrays.named_arrays import read_arrays
from gpmap_cli.prepare.sources.arrays import Settings as ArraysSource

SHARED_FILES = ["yeast_bloom2013_dev", "rbd_moulana2022", "antibody_cr6261", "wheat_cimmyt"]


@pytest.mark.parametrize("name", SHARED_FILES)
def test_published_data_come_through_unchanged(shared, tmp_path, name):
    path = shared / "data" / f"{name}.h5"
    lines = prepare_arrays(ArraysSource(path=str(path)), str(tmp_path / "out.h5"))
    with h5py.File(path) as raw, DatasetFile(tmp_path / "out.h5") as file:
        read = file.load()
        assert read.genotypes.dtype == np.int8
        np.testing.assert_array_equal(read.genotypes, raw["genotypes"][...])
        np.testing.assert_array_equal(read.phenotypes, raw["phenotypes"][...])
        for ours, theirs in (
            (read.sample_ids, "sample_ids"),
            (read.locus_ids, "locus_names"),
            (np.array(read.environment_names), "environment_names"),
            (read.chromosomes, "chromosome"),
        ):
            assert (None if ours is None else ours.tolist()) == (
                raw[theirs].asstr()[...].tolist() if theirs in raw else None
            )
        for ours, theirs in (
            (read.phenotype_std, "phenotype_std"),
            (read.positions, "position"),
            (read.folds.get("cv_folds"), "cv_folds"),
        ):
            np.testing.assert_array_equal(ours, raw[theirs][...] if theirs in raw else None)
        per_environment = {key for key in raw if key.startswith("published") and raw[key].dtype.kind == "f"}
        assert set(read.covariates) == per_environment
        for key in per_environment:
            np.testing.assert_array_equal(read.covariates[key], raw[key][...])
        for key in ("source", "citation", "license", "notes"):
            assert read.provenance[key] == raw.attrs[key]
        num_missing = np.isnan(raw["phenotypes"][...]).sum()
    assert read.provenance["source_file"] == f"{name}.h5"
    assert read.provenance["source_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert f"missing phenotypes: {num_missing} of {read.phenotypes.size}" in "\n".join(lines)


@pytest.mark.parametrize("kind", KINDS)
def test_the_three_kinds_of_input_say_the_same(tmp_path, kind):
    named = arrays()
    dataset, lines = imported(save(tmp_path, kind, named, citation="Müller 2020", license="CC0", notes=""))
    for name in ("genotypes", "phenotypes", "phenotype_std"):
        np.testing.assert_array_equal(getattr(dataset, name), named[name])
        assert getattr(dataset, name).dtype == named[name].dtype
    assert dataset.sample_ids.tolist() == ["s0", "s1", "s2", "s3", "s4", "s5"]
    assert dataset.locus_ids.tolist() == ["a", "b", "c", "δ"]
    assert dataset.environment_names == ("30C", "Kälte")
    assert dataset.chromosomes.tolist() == ["I", "I", "II", "II"]
    assert dataset.positions.tolist() == [10, 20, 5, 3_000_000_000]
    assert dataset.positions.dtype == np.int64
    assert dataset.folds["cv_folds"].tolist() == [0, 1, 2, 0, 1, 2]
    assert dataset.folds["cv_folds"].dtype == np.int16
    assert dataset.covariates["published_H2"].tolist() == [0.5, 0.75]
    assert dataset.ploidy == 1
    said = {key: dataset.provenance[key] for key in ("made_by", "source_file", "citation", "license")}
    assert said == {
        "made_by": "gpmap prepare source=arrays",
        "source_file": tmp_path.name if kind == "npy" else f"raw.{kind}",
        "citation": "Müller 2020",
        "license": "CC0",
    }
    assert "notes" not in dataset.provenance
    text = "\n".join(lines)
    assert "6 samples x 4 loci x 2 environments, ploidy 1, genotypes stored as int8" in text
    assert f"missing genotypes: {(named['genotypes'] == -1).sum()} of 24" in text
    assert "missing phenotypes: 6 of 12 (50.00 %)" in text
    assert "environment covariates: `published_H2`" in text
    assert re.search(r"left out \d other arrays: `alternative`", text)


@pytest.mark.parametrize("kind", KINDS)
def test_genotypes_alone_will_do(tmp_path, kind):
    dataset, lines = imported(save(tmp_path, kind, {"genotypes": np.array([[0, 1, 2], [2, -1, 0]])}))
    assert dataset.genotypes.tolist() == [[0, 1, 2], [2, -1, 0]]
    assert (dataset.genotypes.dtype, dataset.ploidy) == (np.int8, 2)
    assert dataset.sample_ids.tolist() == ["0", "1"]
    assert dataset.locus_ids.tolist() == ["0", "1", "2"]
    assert (dataset.environment_names, dataset.phenotypes.shape) == ((), (2, 0))
    assert {dataset.chromosomes, dataset.positions, dataset.phenotype_std} == {None}
    assert "no sample_ids: samples are numbered from 0" in lines
    prepare_arrays(
        ArraysSource(path=str(tmp_path if kind == "npy" else tmp_path / f"raw.{kind}")), str(tmp_path / "out.h5")
    )
    with DatasetFile(tmp_path / "out.h5") as file:
        assert file.load().genotypes.tolist() == [[0, 1, 2], [2, -1, 0]]


def test_many_missing_genotypes_may_be_homozygotes(tmp_path):
    """-1, 0 and 1 are the genotypes of diploids in other programs, and 0 and 1 with some missing those of haploids."""
    genotypes = np.random.default_rng(0).integers(-1, 2, (20, 10)).astype(np.int8)
    dataset, lines = imported(save(tmp_path, "npz", {"genotypes": genotypes}))
    assert dataset.ploidy == 1
    warning = f"warning: {(genotypes == -1).sum()} of 200 genotypes are -1, taken for missing"
    assert any(line.startswith(warning) for line in lines)
    few = np.where(np.arange(200).reshape(20, 10) % 10, np.abs(genotypes), -1)
    for quiet, options in ((few, {}), (genotypes, {"coding": "plus_minus_one", "ploidy": 2})):
        _, lines = imported(save(tmp_path, "npz", {"genotypes": quiet}), **options)
        assert not any("warning" in line for line in lines)


def test_what_may_be_absent_or_empty(tmp_path):
    named = arrays(environment_names=None, phenotypes=np.full((6, 2), np.nan), phenotype_std=None)
    dataset, lines = imported(save(tmp_path, "npz", named))
    assert dataset.environment_names == ("environment_0", "environment_1")
    assert np.isnan(dataset.phenotypes).all()
    assert "no environment_names: called `environment_0`, `environment_1`" in lines
    dataset, _ = imported(save(tmp_path, "npz", arrays(phenotypes=None)))
    assert np.isnan(dataset.phenotypes).all()
    assert dataset.environment_names == ("30C", "Kälte")
    one = arrays(phenotypes=np.arange(6), phenotype_std=None, environment_names=np.array(["a"]), published_H2=None)
    dataset, _ = imported(save(tmp_path, "npz", one))
    assert dataset.phenotypes.tolist() == [[0], [1], [2], [3], [4], [5]]
    assert dataset.phenotypes.dtype == np.float32


@pytest.mark.parametrize("position", [[10.5, 20, 5, 3], [np.nan, 20, 5, 3], [np.inf, 20, 5, 3], [1e300, 2, 3, 4]])
def test_positions_that_are_no_base_pairs_are_left_out(tmp_path, position):
    dataset, lines = imported(save(tmp_path, "npz", arrays(position=np.array(position))))
    assert dataset.positions is None
    assert "position left out: 1 of 4 are not whole numbers of base pairs" in lines


def test_names_may_be_whole_numbers_and_positions_integers(tmp_path):
    named = arrays(sample_ids=np.arange(6) * 10, chromosome=np.array([1, 1, 2, 2], np.uint8), position=np.arange(4))
    dataset, _ = imported(save(tmp_path, "h5", named))
    assert dataset.sample_ids.tolist() == ["0", "10", "20", "30", "40", "50"]
    assert dataset.chromosomes.tolist() == ["1", "1", "2", "2"]
    assert dataset.positions.tolist() == [0, 1, 2, 3]


def test_other_byte_and_column_orders(tmp_path):
    named = arrays(
        phenotypes=np.asfortranarray(np.ones((6, 2), ">f8")), genotypes=np.asfortranarray(arrays()["genotypes"])
    )
    dataset, _ = imported(save(tmp_path, "npy", {**named, "position": np.arange(4, dtype=">i4")}))
    assert dataset.phenotypes.dtype.isnative
    np.testing.assert_array_equal(dataset.genotypes, named["genotypes"])
    assert dataset.positions.tolist() == [0, 1, 2, 3]


def test_the_hash_of_a_directory_is_that_of_its_hashes(tmp_path):
    """So that `LC_ALL=C sha256sum *.npy | sha256sum` gives it."""
    dataset, _ = imported(save(tmp_path, "npy", arrays()))
    command = "LC_ALL=C; export LC_ALL; sha256sum *.npy | sha256sum"
    expected = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True).stdout.split()[0]
    assert dataset.provenance["source_sha256"] == expected


def test_the_same_input_gives_the_same_bytes(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for directory, out in ((tmp_path / "a", "one.h5"), (tmp_path / "a" / "b", "two.h5")):
        path = directory / "raw.npz"
        with zipfile.ZipFile(path, "w") as archive:
            for name, array in arrays().items():
                stream = io.BytesIO()
                np.save(stream, array)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), stream.getvalue())
        prepare_arrays(ArraysSource(path=str(path)), str(tmp_path / out))
    contents = (tmp_path / "one.h5").read_bytes()
    assert contents == (tmp_path / "two.h5").read_bytes()
    assert str(tmp_path).encode() not in contents


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"genotypes": None}, "`genotypes` is missing"),
        ({"phenotypes": np.zeros((5, 2))}, "`phenotypes` has 5 entries, but `genotypes` has 6 samples"),
        ({"phenotypes": np.zeros((6, 2, 1))}, "`phenotypes` has shape (6, 2, 1)"),
        ({"phenotypes": np.zeros((6, 0))}, "`phenotypes` is empty"),
        ({"phenotypes": np.full((6, 2), np.inf)}, "`phenotypes` holds an infinite value at row 0, environment 0"),
        ({"phenotypes": np.full((6, 2), -1e300)}, "`phenotypes` holds an infinite value"),
        ({"phenotypes": np.array([["a", "b"]] * 6).astype("S")}, "`phenotypes` has type |S1"),
        ({"phenotype_std": np.zeros((6, 3))}, "`phenotype_std` has 3 columns, but there are 2 environments"),
        ({"phenotype_std": np.zeros((7, 2))}, "`phenotype_std` has 7 entries, but `genotypes` has 6 samples"),
        ({"phenotype_std": np.full((6, 2), -1.0)}, "`phenotype_std` holds a negative measurement error"),
        ({"phenotype_std": np.full((6, 2), np.inf)}, "`phenotype_std` holds an infinite value"),
        ({"sample_ids": np.array(["x"] * 6)}, "`sample_ids` holds `x` more than once"),
        ({"sample_ids": np.array(list("abcde"))}, "`sample_ids` has 5 entries, but `genotypes` has 6 samples"),
        ({"sample_ids": np.array([list("abcdef")])}, "`sample_ids` has shape (1, 6), not 1 dimension"),
        ({"sample_ids": np.arange(6.0)}, "`sample_ids` has type float64, not text"),
        ({"sample_ids": np.array([b"\xff%d" % n for n in range(6)])}, "`sample_ids` holds text that is not UTF-8"),
        ({"locus_names": np.array([b"a"] * 4)}, "`locus_names` holds `a` more than once"),
        ({"locus_names": np.array(list("abcde"))}, "`locus_names` has 5 entries, but `genotypes` has 4 loci"),
        ({"environment_names": np.array(["a", "a"])}, "`environment_names` holds `a` more than once"),
        ({"environment_names": np.array(["a", ""])}, "`environment_names` holds an empty name"),
        ({"environment_names": np.array(list("abc"))}, "`environment_names` has 3 entries, but `phenotypes` has 2"),
        ({"environment_names": np.array([0.5, 1.5])}, "`environment_names` has type float64, not text"),
        ({"chromosome": np.array(["I"])}, "`chromosome` has 1 entries, but `genotypes` has 4 loci"),
        ({"position": np.zeros(3)}, "`position` has 3 entries, but `genotypes` has 4 loci"),
        ({"position": np.array([b"a"] * 4)}, "`position` has type |S1, not a type of numbers"),
        ({"cv_folds": np.zeros(7, np.int32)}, "`cv_folds` has 7 entries, but `genotypes` has 6 samples"),
        ({"cv_folds": np.array([0, 1, 2, 3, 4, 40000])}, "`cv_folds` holds 40000 at row 5"),
        ({"cv_folds": np.array([0, 1, np.nan, 3, 4, 5])}, "`cv_folds` holds nan at row 2"),
        ({"cv_folds": np.array([0, 0.5, 0, 0, 0, 0])}, "`cv_folds` holds 0.5 at row 1"),
        ({"cv_folds": np.zeros((6, 1), int)}, "`cv_folds` has shape (6, 1)"),
    ],
)
def test_arrays_that_are_refused(tmp_path, kind, change, message):
    directory = tmp_path / "raw"
    directory.mkdir()
    path = save(directory, kind, arrays(**change))
    problem = refused(path)
    assert message in problem.message
    out = tmp_path / "out.h5"
    with pytest.raises(InputError):
        prepare_arrays(ArraysSource(path=str(path)), str(out))
    assert sorted(tmp_path.iterdir()) == [directory]


def test_environments_without_names_or_phenotypes_have_no_errors(tmp_path):
    path = save(tmp_path, "npz", arrays(phenotypes=None, environment_names=None))
    assert "`phenotype_std` has 2 columns, but there are 0 environments" in refused(path).message


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_python_objects_are_never_loaded(tmp_path, kind):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    path = save(tmp_path, kind, arrays(sample_ids=np.array([Trap()] * 6, dtype=object)))
    problem = refused(path)
    assert "`sample_ids` holds Python objects (a pickle), which are not loaded" in problem.message
    assert "astype('U')" in problem.hint
    save(tmp_path, kind, arrays(unasked=np.array([Trap()] * 2, dtype=object)))
    _, lines = imported(path)
    assert any("`unasked`" in line for line in lines)
    assert not (tmp_path / "sprung").exists()


def test_a_pickle_under_the_name_of_an_array(tmp_path):
    save(tmp_path, "npy", arrays())
    (tmp_path / "phenotypes.npy").write_bytes(pickle.dumps([1, 2, 3]))
    with pytest.raises(InputError, match=r"phenotypes\.npy: `phenotypes` cannot be read"):
        imported(tmp_path)


def test_input_that_is_none_of_the_three(tmp_path):
    for name, contents, words in (
        ("missing.h5", None, "there is no such file"),
        ("empty.h5", b"", "not a readable HDF5 file"),
        ("text.csv", b"id,genotype\n" * 9, "not a readable HDF5 file"),
        ("short.npz", b"PK\x03\x04", "not a readable .npz file"),
        ("one.npy", b"\x93NUMPY\x01\x00", "one .npy file is not enough"),
    ):
        if contents is not None:
            (tmp_path / name).write_bytes(contents)
        assert words in refused(tmp_path / name).message
    (tmp_path / "empty").mkdir()
    assert "found here: no arrays" in refused(tmp_path / "empty").hint
    with pytest.raises(InputError, match=r"source\.path is not set"):
        read_arrays(ArraysSource())


def test_a_dataset_file_needs_no_import(tmp_path):
    prepare_arrays(ArraysSource(path=str(save(tmp_path, "npz", arrays()))), str(tmp_path / "out.h5"))
    problem = refused(tmp_path / "out.h5")
    assert "this is a dataset file already" in problem.message
    assert f"data.path={tmp_path / 'out.h5'}" in problem.hint


@pytest.mark.parametrize(
    ("name", "link", "words"),
    [
        ("phenotypes", h5py.ExternalLink("other.h5", "/x"), "is a link"),
        ("phenotypes", h5py.SoftLink("/genotypes"), "is a link"),
        ("unasked", h5py.ExternalLink("/etc/passwd", "/"), "is a link"),
        ("unasked", h5py.SoftLink("/nowhere"), "is a link"),
    ],
)
def test_links_are_refused(tmp_path, name, link, words):
    path = save(tmp_path, "h5", arrays(phenotypes=None, phenotype_std=None))
    with h5py.File(path, "r+") as file:
        file[name] = link
    assert f"`{name}` {words}" in refused(path).message


def test_values_in_other_files_are_refused(tmp_path):
    path = save(tmp_path, "h5", arrays(genotypes=None))
    with h5py.File(path, "r+") as file:
        file.create_dataset("genotypes", (6, 4), "i1", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])
    assert "`genotypes` keeps its values in another file" in refused(path).message
    with h5py.File(path, "r+") as file:
        del file["genotypes"]
        layout = h5py.VirtualLayout((6, 4), "i1")
        layout[...] = h5py.VirtualSource("other.h5", "x", (6, 4))
        file.create_virtual_dataset("genotypes", layout)
    assert "`genotypes` keeps its values in another file" in refused(path).message


def test_odd_things_that_nothing_asks_for_are_left_out(tmp_path):
    path = save(tmp_path, "h5", arrays(), n_samples=6)
    with h5py.File(path, "r+") as file:
        file.create_group("group/deeper")
        file["compound"] = np.zeros(2, [("a", "i4")])
        file["integers"] = np.zeros(2, np.int32)
    dataset, lines = imported(path)
    assert set(dataset.covariates) == {"published_H2"}
    assert "left out 4 other arrays: `alternative`, `compound`, `group`, `integers`" in lines
    assert "n_samples" not in dataset.provenance


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_input(tmp_path, kind):
    path = save(tmp_path, kind, arrays())
    path = path / "genotypes.npy" if kind == "npy" else path
    contents = path.read_bytes()
    for length in range(0, len(contents), max(1, len(contents) // 40)):
        path.write_bytes(contents[:length])
        with pytest.raises(InputError):
            imported(tmp_path if kind == "npy" else path)


def test_an_archive_with_one_name_twice(tmp_path):
    path = save(tmp_path, "npz", arrays())
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("genotypes.npy", b"")
    assert "holds two arrays of one name" in refused(path).message


def test_a_header_that_promises_too_much(tmp_path):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 10**6)})
    with zipfile.ZipFile(tmp_path / "raw.npz", "w") as archive:
        archive.writestr("genotypes.npy", stream.getvalue())
    assert "GB of memory" in refused(tmp_path / "raw.npz").message
    (tmp_path / "genotypes.npy").write_bytes(stream.getvalue())
    assert "cannot be read" in refused(tmp_path).message


def test_a_result_in_the_way(tmp_path):
    path = save(tmp_path, "npz", arrays())
    out = tmp_path / "out.h5"
    out.write_text("precious")
    with pytest.raises(InputError, match="already there"):
        prepare_arrays(ArraysSource(path=str(path)), str(out))
    assert out.read_text() == "precious"
    prepare_arrays(ArraysSource(path=str(path)), str(out), overwrite=True)
    with DatasetFile(out) as file:
        assert file.num_samples == 6
