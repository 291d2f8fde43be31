"""A dataset file that is wrong or damaged is refused with the path inside the file, and nothing else happens."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from dataset_examples import example

from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.writer import write_dataset
from gpmap_cli.errors import InputError

N, L, E = 30, 20, 3
UTF8 = h5py.string_dtype("utf-8")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "example.h5"
    write_dataset(path, example(N, L))
    return path


@pytest.fixture
def path(original, tmp_path):
    return Path(shutil.copy(original, tmp_path / "example.h5"))


def read_all(path):
    with DatasetFile(path) as file:
        file.load()


def put(name, values, **options):
    """A damage: other values in place of an array."""

    def change(file):
        if name in file:
            del file[name]
        file.create_dataset(name, data=values, **options)

    return change


def changed(name, at, value):
    """A damage: one other value in an array."""

    def change(file):
        file[name][at] = value

    return change


def without(name):
    def change(file):
        del file[name]

    return change


def attribute(name, value):
    def change(file):
        file.attrs[name] = value

    return change


def linked(name, link):
    def change(file):
        if name in file:
            del file[name]
        file[name] = link

    return change


def elsewhere(name, shape, dtype):
    """A damage: an array whose values lie in another file, as an external or a virtual dataset."""

    def external(file):
        del file[name]
        file.create_dataset(name, shape, dtype, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])

    def virtual(file):
        del file[name]
        layout = h5py.VirtualLayout(shape, dtype)
        layout[...] = h5py.VirtualSource("other.h5", "x", shape)
        file.create_virtual_dataset(name, layout)

    return external, virtual


TWICE = ["same"] * 2
DAMAGES = [
    # attributes
    ("attribute `format`", attribute("format", "other")),
    ("attribute `format`", lambda file: file.attrs.__delitem__("format")),
    ("attribute `format`", attribute("format", np.arange(3))),
    ("attribute `format_version` is 2", attribute("format_version", 2)),
    ("attribute `format_version` is 0", attribute("format_version", 0)),
    ("attribute `format_version` is '1'", attribute("format_version", "1")),
    ("attribute `format_version` is None", lambda file: file.attrs.__delitem__("format_version")),
    ("attribute `ploidy` is None", lambda file: file.attrs.__delitem__("ploidy")),
    ("attribute `ploidy` is 0", attribute("ploidy", 0)),
    ("attribute `ploidy` is 17", attribute("ploidy", 17)),
    ("attribute `ploidy` is 1.5", attribute("ploidy", 1.5)),
    # missing arrays
    ("`genotypes` is missing", without("genotypes")),
    ("`samples/id` is missing", without("samples/id")),
    ("`samples/id` is missing", without("samples")),
    ("`loci/id` is missing", without("loci/id")),
    ("`environments/name` is missing", without("environments/name")),
    # shapes
    ("`genotypes` has shape (30,)", put("genotypes", np.zeros(N, np.int8))),
    ("`genotypes` has shape (30, 20, 1)", put("genotypes", np.zeros((N, L, 1), np.int8))),
    ("`genotypes` is empty", put("genotypes", np.zeros((0, L), np.int8))),
    ("`genotypes` is empty", put("genotypes", np.zeros((N, 0), np.int8))),
    ("`genotypes` holds no values", put("genotypes", h5py.Empty("i1"))),
    ("`samples/id` has shape (29,), not (30,)", put("samples/id", ["x"] * 29, dtype=UTF8)),
    ("`samples/id` has shape ()", put("samples/id", "x", dtype=UTF8)),
    ("`loci/id` has shape (21,), not (20,)", put("loci/id", ["x"] * 21, dtype=UTF8)),
    ("`environments/name` has shape (1, 3)", put("environments/name", [["a", "b", "c"]], dtype=UTF8)),
    ("`phenotypes` has shape (30, 2), not (30, 3)", put("phenotypes", np.zeros((N, 2), np.float32))),
    ("`phenotypes` has shape (30,)", put("phenotypes", np.zeros(N, np.float32))),
    ("`phenotype_std` has shape (3, 30)", put("phenotype_std", np.zeros((E, N), np.float32))),
    ("`loci/chromosome` has shape (1,)", put("loci/chromosome", ["I"], dtype=UTF8)),
    ("`loci/position` has shape (19,)", put("loci/position", np.zeros(19, np.int64))),
    ("`environments/covariate/pH` has shape (2,)", put("environments/covariate/pH", np.zeros(2))),
    ("`splits/paper` has shape (31,)", put("splits/paper", np.zeros(31, np.int8))),
    ("`folds/ten` has shape (30, 1)", put("folds/ten", np.zeros((N, 1), np.int16))),
    ("`truth/noise_ceiling_r2` has shape (2,)", put("truth/noise_ceiling_r2", np.zeros(2))),
    ("`truth/noise_free` has shape (3, 30)", put("truth/noise_free", np.zeros((E, N)))),
    # types
    ("`genotypes` has type int16", put("genotypes", np.zeros((N, L), np.int16))),
    ("`genotypes` has type uint8", put("genotypes", np.zeros((N, L), np.uint8))),
    ("`genotypes` has type float64", put("genotypes", np.zeros((N, L)))),
    ("`samples/id` has type int64, not text", put("samples/id", np.arange(N))),
    ("`loci/id` has type float64, not text", put("loci/id", np.arange(20.0))),
    ("`phenotypes` has type int64", put("phenotypes", np.zeros((N, E), np.int64))),
    ("`phenotype_std` has type", put("phenotype_std", np.full((N, E), "x", dtype=object), dtype=UTF8)),
    ("`loci/chromosome` has type int64, not text", put("loci/chromosome", np.arange(L))),
    ("`loci/position` has type float64", put("loci/position", np.arange(20.0))),
    ("`environments/covariate/pH` has type", put("environments/covariate/pH", ["a", "b", "c"], dtype=UTF8)),
    ("`splits/paper` has type float32", put("splits/paper", np.zeros(N, np.float32))),
    ("`folds/ten` has type float64", put("folds/ten", np.zeros(N))),
    ("`truth/noise_ceiling_r2` has type int64", put("truth/noise_ceiling_r2", np.zeros(E, np.int64))),
    ("`truth/offset` has type", put("truth/offset", np.zeros(3, [("a", "i4"), ("b", "f4")]))),
    ("`genotypes` is not an array", lambda file: [without("genotypes")(file), file.create_group("genotypes")]),
    ("`samples` is not a group", lambda file: [without("samples")(file), put("samples", [1.0])(file)]),
    ("`splits` is not a group", lambda file: [without("splits")(file), put("splits", [1.0])(file)]),
    ("`splits/deep` is not an array", lambda file: file.create_group("splits/deep")),
    # values
    (
        "`samples/id` holds `same` more than once",
        put("samples/id", TWICE + list("abcdefghijklmnopqrstuvwxyz12"), dtype=UTF8),
    ),
    ("`loci/id` holds `same` more than once", put("loci/id", TWICE + list("abcdefghijklmnopqr"), dtype=UTF8)),
    ("`environments/name` holds `same` more than once", put("environments/name", [*TWICE, "x"], dtype=UTF8)),
    ("`environments/name` holds an empty name", put("environments/name", ["", "x", "y"], dtype=UTF8)),
    ("`loci/id` holds text that is not UTF-8", put("loci/id", np.array([b"\xff%d" % n for n in range(L)]))),
    ("`samples/id` holds text that is not UTF-8", put("samples/id", [b"\xe4%d" % n for n in range(N)], dtype=UTF8)),
    ("`genotypes` holds 2 at row 7, locus 3", changed("genotypes", (7, 3), 2)),
    ("`genotypes` holds -2 at row 29, locus 19", changed("genotypes", (29, 19), -2)),
    ("`phenotypes` holds an infinite value at row 4, environment 1", changed("phenotypes", (4, 1), np.inf)),
    ("`phenotypes` holds an infinite value", put("phenotypes", np.full((N, E), 1e300))),
    ("`phenotype_std` holds an infinite value at row 0, environment 2", changed("phenotype_std", (0, 2), -np.inf)),
    ("`phenotype_std` holds a negative measurement error at row 5", changed("phenotype_std", (5, 0), -0.5)),
    ("`splits/paper` holds labels", changed("splits/paper", 8, 3)),
    ("`splits/paper` holds labels", changed("splits/paper", 8, -1)),
    ("`folds/ten` holds numbers that do not fit int16", put("folds/ten", np.full(N, 40_000))),
    ("`loci/position` holds numbers that do not fit int64", put("loci/position", np.full(L, 2**63, np.uint64))),
    # what leaves the file
    ("`genotypes` is a link", linked("genotypes", h5py.SoftLink("/phenotypes"))),
    ("`phenotypes` is a link", linked("phenotypes", h5py.SoftLink("/nowhere"))),
    ("`phenotypes` is a link", linked("phenotypes", h5py.ExternalLink("other.h5", "/x"))),
    ("`samples` is a link", linked("samples", h5py.ExternalLink("other.h5", "/"))),
    ("`environments` is a link", linked("environments", h5py.SoftLink("/nowhere"))),
    ("`loci/chromosome` is a link", linked("loci/chromosome", h5py.SoftLink("/loci/id"))),
    ("`splits` is a link", linked("splits", h5py.ExternalLink("/etc/passwd", "/"))),
    ("`folds/more` is a link", linked("folds/more", h5py.SoftLink("/folds/ten"))),
    ("`truth` is a link", linked("truth", h5py.ExternalLink("other.h5", "/"))),
    ("`truth/more` is a link", linked("truth/more", h5py.SoftLink("/truth/offset"))),
    *(("`genotypes` keeps its values in another file", one) for one in elsewhere("genotypes", (N, L), "i1")),
    *(("`loci/position` keeps its values in another file", one) for one in elsewhere("loci/position", (L,), "i8")),
    *(
        ("`truth/noise_free` keeps its values in another file", one)
        for one in elsewhere("truth/noise_free", (N, E), "f8")
    ),
    ("is nested too deep", lambda file: file["truth"].__setitem__("again", file["truth"])),
]


@pytest.mark.parametrize(
    ("words", "damage"), DAMAGES, ids=[f"{number}-{words}" for number, (words, _) in enumerate(DAMAGES)]
)
def test_what_is_wrong_is_named(path, words, damage):
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(InputError) as trouble:
        read_all(path)
    assert words in str(trouble.value)
    assert str(path) in str(trouble.value)
    assert trouble.value.problems[0].hint


@pytest.mark.parametrize("genotype_type", ["float16", "float32"])
@pytest.mark.parametrize("value", [-0.25, 2.002, np.inf, -np.inf])
def test_dosages_stay_within_the_ploidy(tmp_path, genotype_type, value):
    path = tmp_path / "dosages.h5"
    write_dataset(path, example(N, L, genotype_type, ploidy=2))
    read_all(path)
    with h5py.File(path, "r+") as file:
        file["genotypes"][17, 5] = value
    with pytest.raises(InputError, match=r"`genotypes` holds \S+ at row 17, locus 5; only 0..2 or missing"):
        read_all(path)


def test_a_name_that_is_not_utf8(path):
    with h5py.File(path, "r+") as file:
        file.copy("splits/paper", file["splits"], name=b"\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8") as trouble:
        read_all(path)
    assert str(trouble.value).isprintable()


def test_strange_provenance_is_read_or_left(path):
    with h5py.File(path, "r+") as file:
        file.attrs.create("latin", b"M\xfcller", dtype=UTF8)
        file.attrs.create("fixed", np.bytes_("M\u00fcller".encode()))
        file.attrs["list"] = np.arange(4)
        file.attrs["empty"] = h5py.Empty("f4")
        file.attrs["compound"] = np.zeros((), [("a", "i4")])
        file.attrs["one"] = np.array([2.5])
    with DatasetFile(path) as file:
        said = file.provenance
    assert said["latin"].isprintable()
    assert (said["fixed"], said["one"]) == ("Müller", 2.5)
    assert not {"list", "empty", "compound"} & set(said)


def test_more_than_memory_holds_is_refused(path, monkeypatch):
    with h5py.File(path, "r+") as file:
        del file["genotypes"]
        file.create_dataset("genotypes", (N, 10**13), "i1", chunks=(1, 2**20))
        del file["loci"]
        file.create_dataset("loci/id", (10**13,), "S8", chunks=(2**20,))
    with pytest.raises(InputError, match=r"`loci/id` needs .* GB of memory"):
        read_all(path)
    write_dataset(path, example(), overwrite=True)
    monkeypatch.setattr("gpmap_cli.dataset.physical_memory.os.sysconf", lambda name: 10)
    with (
        DatasetFile.__new__(DatasetFile) if False else pytest.raises(InputError, match="of memory and the machine has")
    ):
        read_all(path)


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"", "not a readable HDF5 file"),
        (b"hello\n" * 100, "not a readable HDF5 file"),
        (None, "there is no such file"),
    ],
)
def test_files_that_are_no_hdf5(tmp_path, contents, words):
    path = tmp_path / "x.h5"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(InputError, match=words):
        DatasetFile(path)


def test_other_things_under_the_name(tmp_path):
    with pytest.raises(InputError, match="this is a directory"):
        DatasetFile(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not an ordinary file"):
        DatasetFile(tmp_path / "pipe")
    with pytest.raises(InputError) as trouble:
        DatasetFile(tmp_path / "none.h5", where_to_get_it="ask a friend")
    assert trouble.value.problems[0].hint == "ask a friend"
    with pytest.raises(InputError, match="cannot be read"):
        DatasetFile(tmp_path / ("x" * 300))
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["genotypes"] = np.zeros((2, 2), np.int8)
    with pytest.raises(InputError, match="not a gpmap dataset file") as trouble:
        DatasetFile(tmp_path / "plain.h5")
    assert "gpmap prepare source=arrays" in trouble.value.problems[0].hint


def run_damaged(kind, damage, path, first, last, step=1):
    """Reads variants of a file in another process and checks that each was read right or refused."""
    words = [kind, damage, path, *map(str, (first, last, step))]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("read_damaged.py"), *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    counts = json.loads(done.stdout)
    assert counts["otherwise"] == []
    assert counts["read_right"] + counts["refused"] == len(range(first, last, step))
    return counts


@pytest.mark.parametrize(("genotype_type", "num_variants"), [("int8", 300), ("float32", 100)])
def test_flipped_bytes_are_noticed_or_harmless(tmp_path, genotype_type, num_variants):
    write_dataset(tmp_path / "example.h5", example(N, L, genotype_type))
    counts = run_damaged("dataset", "flip", tmp_path / "example.h5", 0, num_variants)
    assert min(counts["read_right"], counts["refused"]) > num_variants // 10


def test_truncated_files_are_refused(path):
    size = path.stat().st_size
    for first, last, step in ((0, 100, 1), (100, size, 97), (size - 100, size, 1)):
        assert run_damaged("dataset", "cut", path, first, last, step)["read_right"] == 0


def test_flipped_bytes_in_the_oldest_layout(tmp_path):
    """A file as other programs write it: no checksums, texts of variable length. Read wrongly, perhaps; never worse."""
    data = example(N, L)
    with h5py.File(tmp_path / "old.h5", "w", libver="earliest") as file:
        file["genotypes"] = data.genotypes
        file["phenotypes"] = data.phenotypes
        for name, texts in (("sample_ids", data.sample_ids), ("locus_names", data.locus_ids)):
            file.create_dataset(name, data=texts.tolist(), dtype=UTF8)
        file["environment_names"] = np.array([b"a", b"b", b"c"])
        file.attrs["citation"] = "somebody " * 20
    counts = run_damaged("arrays", "flip", tmp_path / "old.h5", 0, 300)
    assert min(counts["read_right"], counts["refused"]) > 30


@pytest.mark.parametrize("at", [4, 20, 40])
def test_heaps_without_end_are_refused(tmp_path, at):
    """A free block of size 0 in a heap of texts, a circle of free names in a group: the library would never return."""
    path = tmp_path / "old.h5"
    with h5py.File(path, "w", libver="earliest") as file:
        file["genotypes"] = np.zeros((2, 2), np.int8)
        file.attrs["citation"] = "x" * at
    contents = bytearray(path.read_bytes())
    start = contents.index(b"GCOL")
    free = start + 32 + (at + 7) // 8 * 8
    assert contents[free : free + 2] == b"\0\0"
    contents[free + 8 : free + 16] = bytes(8)
    path.write_bytes(contents)
    with pytest.raises(InputError, match=f"heap of texts without end at byte {start}"):
        DatasetFile(path)


def test_texts_longer_than_the_file_are_refused(path):
    """The library would allot four gigabytes for the one text before it looks whether it is there."""
    ids = [f"segregant {number}" for number in range(N)]
    with h5py.File(path, "r+") as file:
        del file["samples/id"]
        made = file.create_dataset("samples/id", data=ids, dtype=UTF8)
        file.flush()
        at = made.id.get_offset()
    read_all(path)
    contents = bytearray(path.read_bytes())
    contents[at + 16 * 5 + 3] = 0xF5  # the highest byte of the length of the sixth
    path.write_bytes(contents)
    with pytest.raises(InputError, match="`samples/id` is damaged: its texts are longer than the file"):
        read_all(path)
