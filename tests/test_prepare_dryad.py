"""The yeast deposit: every variant of its layout is read right, and what is wrong is named with file and line."""

from __future__ import annotations

import gzip
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from deposit_examples import (
    COUNTS,
    genotype_line,
    imported,
    phenotypes,
    probabilities,
    refusal,
    write_deposit,
    write_genotypes,
    write_phenotypes,
)

from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.prepare.dryad import genotypes as dryad_genotypes


@pytest.fixture
def deposit(tmp_path):
    """A directory to put files into and the file to write, each in a directory of its own."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    return tmp_path / "in", tmp_path / "out" / "yeast.h5"


def loaded(path):
    with DatasetFile(path) as file:
        return file.load()


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("separators", [True, False])
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_every_layout_of_the_genotypes(deposit, compressed, separators, parts):
    directory, out = deposit
    values, measured = write_deposit(directory, compressed=compressed, separators=separators, parts=parts)
    lines = imported(directory, out)
    read = loaded(out)
    assert read.genotypes.dtype == np.float16
    np.testing.assert_array_equal(read.genotypes, values.astype(np.float16))
    names = ["1"] * 5 + ["3"] * 7 + ["4"] * 4
    assert read.chromosomes.tolist() == names if not separators else True
    assert len(set(read.chromosomes.tolist())) == 3
    assert read.locus_ids.tolist()[:6] == ["1:1", "1:2", "1:3", "1:4", "1:5", f"{read.chromosomes[5]}:1"]
    assert read.environment_names == ("23C", "30C", "cu")  # the published order
    for place, name in enumerate(read.environment_names):
        fitness, std = measured[name]
        np.testing.assert_array_equal(read.phenotypes[:, place], fitness.astype(np.float32))
        np.testing.assert_array_equal(read.phenotype_std[:, place], std.astype(np.float32))
    np.testing.assert_array_equal(read.covariates["temperature"], [23, 30, np.nan])
    assert read.sample_ids.tolist() == [str(row) for row in range(40)]
    said = "\n".join(lines)
    stored = values.astype(np.float16)
    uncertain = ((stored > np.float16(0.1)) & (stored < np.float16(0.9))).sum()
    assert "40 segregants x 16 loci x 3 environments" in said
    assert f"uncertain genotypes (probability between 0.1 and 0.9): {uncertain} of" in said
    assert "bits per genotype" in said


def test_concatenated_parts_are_one_gzip_file(deposit):
    directory, out = deposit
    values, _ = write_deposit(directory)
    parts = sorted(directory.glob("geno_data_*"))
    (directory / "geno_data.txt.gz").write_bytes(b"".join(part.read_bytes() for part in parts))
    for part in parts:
        part.unlink()
    imported(directory, out)
    np.testing.assert_array_equal(loaded(out).genotypes, values.astype(np.float16))


@pytest.mark.parametrize("name", ["geno_data_all.txt.gz", "geno_data.gz", "geno_data_1-5", "geno_data.tsv"])
def test_the_only_genotype_file_may_have_another_name(deposit, name):
    directory, out = deposit
    values, _ = write_deposit(directory, parts=1)
    (directory / "geno_data.txt.gz").rename(directory / name)
    imported(directory, out)
    read = loaded(out)
    np.testing.assert_array_equal(read.genotypes, values.astype(np.float16))
    assert len(read.environment_names) == 3
    assert name in read.provenance["source_files"]
    (directory / "geno_data_old").write_text("what is this?")
    message = refusal(directory, out.with_name("other.h5"))
    assert f"2 files may hold the genotypes: `{min(name, 'geno_data_old')}`" in message
    (directory / name).rename(directory / "geno_data.txt.gz")
    lines = imported(directory, out.with_name("third.h5"))
    assert "not read, though called alike: `geno_data_old`" in lines


def test_the_genotype_file_may_be_named_itself(deposit):
    directory, out = deposit
    values, measured = write_deposit(directory, parts=1)
    for name in ("geno_data.txt.gz", "cross.txt"):
        if name == "cross.txt":
            (directory / "geno_data.txt.gz").rename(directory / name)
            assert "no geno_data_*.txt.gz in it" in refusal(directory, out)
        imported(directory / name, out)
        read = loaded(out)
        np.testing.assert_array_equal(read.genotypes, values.astype(np.float16))
        np.testing.assert_array_equal(read.phenotypes[:, 2], measured["cu"][0].astype(np.float32))
        out.unlink()


def test_no_phenotypes_only_where_that_is_asked_for(deposit, gpmap):
    directory, out = deposit
    values = probabilities()
    write_genotypes(directory, values)
    (directory / "pheno_data_23C.csv").write_text("id,fitness\n0,0.1\n")
    counts = f"source.loci_per_chromosome=[{','.join(map(str, COUNTS))}]"
    words = ("prepare", "source=dryad", f"source.path={directory}", counts, f"out={out}")
    result = gpmap(*words)
    assert result.returncode == 2
    assert "no pheno_data_ENVIRONMENT.txt in it, but `pheno_data_23C.csv`" in result.stderr
    assert "source.environments=[] imports genotypes alone" in result.stderr
    assert not out.exists()
    result = gpmap(*words, "source.environments=[]")
    assert result.returncode == 0, result.stderr
    assert "warning: genotypes alone, without a single phenotype" in result.stderr
    read = loaded(out)
    assert (read.num_samples, read.environment_names) == (40, ())
    np.testing.assert_array_equal(read.genotypes, values.astype(np.float16))


def test_ten_parts_follow_each_other_by_number(deposit):
    directory, out = deposit
    values, _ = write_deposit(directory, parts=11)
    imported(directory, out)
    np.testing.assert_array_equal(loaded(out).genotypes, values.astype(np.float16))


def test_blocks_and_pieces_of_any_size_give_the_same(deposit, monkeypatch):
    directory, out = deposit
    values, _ = write_deposit(directory, parts=1)
    for read_bytes, piece_bytes in ((1, 1), (50, 7), (130, 200), (1000, 64)):
        monkeypatch.setattr(dryad_genotypes, "_READ_BYTES", read_bytes)
        monkeypatch.setattr(dryad_genotypes, "_PIECE_BYTES", piece_bytes)
        imported(directory, out)
        np.testing.assert_array_equal(loaded(out).genotypes, values.astype(np.float16))
        out.unlink()


@pytest.mark.parametrize("ending", ["", "\n\n\n", "\r\n"])
def test_line_ends(deposit, ending):
    directory, out = deposit
    values, _ = write_deposit(directory, compressed=False, parts=1)
    path = directory / "geno_data.txt"
    text = path.read_bytes()
    if ending == "\r\n":
        path.write_bytes(text.replace(b"\n", b"\r\n"))
    else:
        path.write_bytes(text.rstrip(b"\n") + ending.encode())
    imported(directory, out)
    np.testing.assert_array_equal(loaded(out).genotypes, values.astype(np.float16))


FORMS = {
    "%.18e": "{:.18e}".format,
    "%.4f": "{:.4f}".format,
    "%g": "{:g}".format,
    "repr": lambda value: repr(float(value)),
    "%.12f": "{:.12f}".format,
    "%d": lambda value: str(round(value)),
}


@pytest.mark.parametrize("form", FORMS)
def test_numbers_however_they_are_written(deposit, form):
    directory, out = deposit
    values = np.random.default_rng(3).beta(0.05, 0.05, (30, 16))
    values[0, :4] = [0.0, 1.0, 1e-7, 0.5]
    write_genotypes(directory, values, form=FORMS[form])
    imported(directory, out, environments=())
    expected = np.array([[float(FORMS[form](value)) for value in row] for row in values])
    np.testing.assert_array_equal(loaded(out).genotypes, expected.astype(np.float16))


def test_hard_calls_and_missing_genotypes(deposit):
    directory, out = deposit
    values = probabilities()
    values[2, 3], values[4, 5], values[4, 6] = 0.5, np.nan, 0.49999
    write_genotypes(directory, values)
    lines = imported(directory, out, environments=())
    read = loaded(out)
    np.testing.assert_array_equal(read.genotypes, values.astype(np.float16))
    assert "missing genotypes: 1 of 640" in "\n".join(lines)
    out.unlink()
    imported(directory, out, genotypes="hard", environments=())
    read = loaded(out)
    assert read.genotypes.dtype == np.int8
    np.testing.assert_array_equal(read.genotypes, np.where(np.isnan(values), -1, values >= 0.5))


@pytest.mark.parametrize(
    ("header", "with_std", "ids"),
    [
        ("id\tfit\tse", True, None),
        ("id\tfit", False, None),
        (None, True, False),  # fitness and standard error alone
        (None, True, None),
        ("fit\tse", True, None),  # as R writes tables
        ("\tfit\tse", True, None),  # as pandas does
        ("\t0\t1", True, None),  # as pandas does without names
        ("fit\tse", True, False),  # a header, and no ids
    ],
)
def test_phenotype_files_with_and_without_header_and_error(deposit, header, with_std, ids):
    directory, out = deposit
    write_genotypes(directory, probabilities())
    fitness, std = phenotypes()
    write_phenotypes(directory, "23C", fitness, std if with_std else None, header=header, ids=ids)
    imported(directory, out)
    read = loaded(out)
    np.testing.assert_array_equal(read.phenotypes[:, 0], fitness.astype(np.float32))
    if with_std:
        np.testing.assert_array_equal(read.phenotype_std[:, 0], std.astype(np.float32))
    else:
        assert read.phenotype_std is None


@pytest.mark.parametrize("extra", ["trailing\tnan\tnan\n", "total\tfoo\n", "40\t0.5\t0.1\n"])
def test_one_trailing_row_of_phenotypes_is_left_out_and_said(deposit, extra):
    directory, out = deposit
    write_deposit(directory)
    fitness, std = phenotypes()
    write_phenotypes(directory, "30C", fitness, std, extra=extra)
    lines = imported(directory, out)
    read = loaded(out)
    np.testing.assert_array_equal(read.phenotypes[:, 1], fitness.astype(np.float32))
    assert "one trailing row left out of the phenotypes of `30C`" in "\n".join(lines)


def test_an_empty_row_of_phenotypes_keeps_its_place(deposit):
    directory, out = deposit
    write_genotypes(directory, probabilities())
    rows = [f"{row}\t0.1" for row in range(41)]
    rows[10] = "\t"
    path = directory / "pheno_data_23C.txt"
    path.write_text("\n".join(rows) + "\n")
    imported(directory, out)
    fitness = loaded(out).phenotypes[:, 0]
    assert np.isnan(fitness[10])
    assert fitness[9] == 9
    assert fitness[11] == 11
    out.unlink()
    path.write_text("\n".join([*rows[:10], "", *rows[11:]]) + "\n")
    assert "pheno_data_23C.txt:11: " in refusal(directory, out)


@pytest.mark.parametrize("empty", [[0], [39], [38, 39], [0, 1, 20, 39]])
@pytest.mark.parametrize(("header", "ids"), [("id\tfit\tse", None), (None, None), (None, False)])
def test_rows_of_nothing_but_tabs_are_segregants(deposit, empty, header, ids):
    """At the beginning and at the end too, where they could be taken for empty lines."""
    directory, out = deposit
    write_genotypes(directory, probabilities())
    fitness, std = np.arange(40) / 100, np.full(40, 0.5)
    write_phenotypes(directory, "23C", fitness, std, header=header, ids=ids)
    path = directory / "pheno_data_23C.txt"
    lines = path.read_text().splitlines()
    first = 0 if header is None else 1
    for row in empty:
        lines[first + row] = "\t" * lines[first + row].count("\t")
    path.write_text("\n".join(lines) + "\n")
    imported(directory, out)
    read = loaded(out)
    fitness[empty], std[empty] = np.nan, np.nan
    np.testing.assert_array_equal(read.phenotypes[:, 0], fitness.astype(np.float32))
    np.testing.assert_array_equal(read.phenotype_std[:, 0], std.astype(np.float32))


def test_ids_become_sample_ids_where_the_files_agree(deposit):
    directory, out = deposit
    write_genotypes(directory, probabilities())
    ids = [f"bc{row}" for row in range(40)]
    for name in ("23C", "30C"):
        write_phenotypes(directory, name, *phenotypes(), ids=ids)
    imported(directory, out)
    assert loaded(out).sample_ids.tolist() == ids
    out.unlink()
    write_phenotypes(directory, "30C", *phenotypes(), ids=["other", *ids[1:]])
    assert "samples are numbered" in "\n".join(imported(directory, out))
    assert loaded(out).sample_ids.tolist() == [str(row) for row in range(40)]
    out.unlink()
    write_phenotypes(directory, "30C", *phenotypes(), ids=[*ids[1:], ids[0]])
    assert "pheno_data_30C.txt:2: the ids are those of pheno_data_23C.txt in another order" in refusal(directory, out)
    for name in ("23C", "30C"):
        write_phenotypes(directory, name, *phenotypes(), ids=["twin", "twin", *ids[2:]])
    assert "not unique" in "\n".join(imported(directory, out))


@pytest.mark.parametrize("quote", ['"', "'"])
def test_quotes_are_no_part_of_an_id(deposit, quote):
    """R quotes ids and names; of two files that say the same, one may be quoted."""
    directory, out = deposit
    write_genotypes(directory, probabilities())
    ids = [f"bc{row}" for row in range(40)]
    fitness, std = phenotypes()
    quoted = [f"{quote}{one}{quote}" for one in ids]
    header = "\t".join(f"{quote}{name}{quote}" for name in ("fit", "se"))
    write_phenotypes(directory, "23C", fitness, std, ids=quoted, header=header)
    write_phenotypes(directory, "30C", fitness, std, ids=ids)
    lines = imported(directory, out)
    read = loaded(out)
    assert read.sample_ids.tolist() == ids
    assert not any("ids" in line for line in lines)
    np.testing.assert_array_equal(read.phenotypes[:, 0], fitness.astype(np.float32))


def test_chosen_environments(deposit):
    directory, out = deposit
    _, measured = write_deposit(directory)
    imported(directory, out, environments=("cu", "23C"))
    read = loaded(out)
    assert read.environment_names == ("cu", "23C")
    np.testing.assert_array_equal(read.phenotypes[:, 0], measured["cu"][0].astype(np.float32))


def edited(path, row, change):
    """Change one line of a genotype file."""
    is_gzip = path.suffix == ".gz"
    lines = (gzip.decompress(path.read_bytes()) if is_gzip else path.read_bytes()).decode().splitlines(keepends=True)
    lines[row] = change(lines[row])
    text = "".join(lines).encode()
    path.write_bytes(gzip.compress(text) if is_gzip else text)


GENOTYPE_FAULTS = {
    "a value too few": (lambda line: line.rsplit("\t", 1)[0] + "\n", "geno_data_2.txt.gz:4: 16 values, and the first"),
    "a value too many": (lambda line: line.strip() + "\t0.5\n", "geno_data_2.txt.gz:4: 18 values, and the first"),
    "no number": (lambda line: line.replace("\t", "\tx", 1), "geno_data_2.txt.gz:4: `x"),
    "above one": (lambda line: "3\t" + "\t".join(["1.01"] * 16) + "\n", "geno_data_2.txt.gz:4: 1.01 in column 1 "),
    "below zero": (lambda line: "3\t" + "\t".join(["-0.1"] * 16) + "\n", "geno_data_2.txt.gz:4: -0.1 in column 1 "),
    "a huge field": (lambda line: line.strip() + "0" * 100_000 + "\n", "geno_data_2.txt.gz:4: `"),
    "an empty line": (lambda line: "\n", "geno_data_2.txt.gz:4: an empty line, and the first line has 17"),
    "a zero byte": (lambda line: line.replace("\t", "\0", 1), "geno_data_2.txt.gz:4: 16 values"),
    "another byte": (lambda line: line.replace("0.", "\x07.", 1), "geno_data_2.txt.gz:4: holds the byte 7"),
    "infinite": (lambda line: "3\t" + "\t".join(["inf"] * 16) + "\n", "geno_data_2.txt.gz:4: `inf` in column 1 "),
}


@pytest.mark.parametrize("fault", GENOTYPE_FAULTS)
def test_faults_of_genotype_lines_are_named_by_file_and_line(deposit, fault):
    directory, out = deposit
    write_deposit(directory)
    change, message = GENOTYPE_FAULTS[fault]
    edited(directory / "geno_data_2.txt.gz", 3, change)
    assert message in refusal(directory, out)


def test_an_endless_line_is_refused_before_it_is_read(deposit):
    directory, out = deposit
    write_deposit(directory)
    path = directory / "geno_data_2.txt.gz"
    path.write_bytes(path.read_bytes() + gzip.compress(b"40\t" + b"0" * 2**25))
    assert "geno_data_2.txt.gz:21: a line of over 1048576 bytes" in refusal(directory, out)


def test_an_empty_last_cell_is_a_missing_genotype(deposit):
    directory, out = deposit
    values = probabilities()
    [path] = write_genotypes(directory, values, parts=1, compressed=False)
    text = path.read_text()
    path.write_text(text[: text.rstrip().rindex("\t") + 1] + "\n")
    imported(directory, out, environments=())
    read = loaded(out).genotypes
    assert np.isnan(read[-1, -1])
    np.testing.assert_array_equal(read[:-1], values[:-1].astype(np.float16))


def test_a_truncated_file_is_refused_with_the_byte(deposit):
    directory, out = deposit
    write_deposit(directory)
    path = directory / "geno_data_2.txt.gz"
    whole = path.read_bytes()
    for length in (0, 5, 30, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        path.write_bytes(whole[:length])
        message = refusal(directory, out)
        assert "geno_data_2.txt.gz" in message or (length == 0 and "has 40 rows and the genotypes have 20" in message)
    path.write_bytes(whole[:-6] + bytes(2) + whole[-4:])
    assert "damaged" in refusal(directory, out)


def test_a_separator_that_is_none_in_a_later_line(deposit):
    directory, out = deposit
    write_deposit(directory, separators=True)
    edited(directory / "geno_data_2.txt.gz", 3, lambda line: line.replace("2.0", "0.1", 1))
    assert "geno_data_2.txt.gz:4: 0.1 in column 6 (counted from 0), where the first line has the 2" in refusal(
        directory, out
    )


def test_counts_that_disagree_are_both_named(deposit):
    directory, out = deposit
    write_deposit(directory)
    fitness, std = phenotypes(num_rows=42)
    write_phenotypes(directory, "23C", fitness, std)
    message = refusal(directory, out)
    assert "has 40 rows" in message
    assert "42" in message
    for name in ("30C", "cu"):
        write_phenotypes(directory, name, fitness, std)
    message = refusal(directory, out)
    assert "pheno_data_23C.txt has 42 rows and the genotypes have 40" in message


def test_a_bad_last_row_is_no_trailing_row_where_counts_agree(deposit):
    directory, out = deposit
    write_deposit(directory)
    fitness, std = phenotypes(num_rows=39)
    write_phenotypes(directory, "23C", fitness, std, extra="39\tbroken\t0.1\n")
    assert "pheno_data_23C.txt:41: `broken` is not a finite number" in refusal(directory, out)


PHENOTYPE_FAULTS = {
    "ragged": ("5\t0.1\n", "5: 2 values, and the first row has 3"),
    "no number": ("5\tabc\t0.1\n", "5: `abc` is not a finite number"),
    "infinite": ("5\tinf\t0.1\n", "5: `inf` is not a finite number"),
    "too large": ("5\t1e39\t0.1\n", "5: `1e39` is not a finite number"),
    "a standard error below zero": ("5\t0.1\t-0.1\n", "5: `-0.1` is a standard error below zero"),
    "not UTF-8": (b"5\t\xff\t0.1\n", "5: not UTF-8 text"),
    "a zero byte": (b"5\t\0\t0.1\n", "5: a zero byte"),
    "huge": ("5\t" + "1" * 10**6 + "\t0.1\n", "5: `1111"),
}


@pytest.mark.parametrize("fault", PHENOTYPE_FAULTS)
def test_faults_of_phenotype_lines_are_named_by_file_and_line(deposit, fault):
    directory, out = deposit
    write_deposit(directory)
    path = directory / "pheno_data_30C.txt"
    line, message = PHENOTYPE_FAULTS[fault]
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = line if isinstance(line, bytes) else line.encode()
    path.write_bytes(b"".join(lines))
    assert f"pheno_data_30C.txt:{message}" in refusal(directory, out)


def test_files_that_lack_or_are_there_twice(deposit):
    directory, out = deposit
    assert "no geno_data_*.txt.gz in it" in refusal(directory, out)
    write_deposit(directory, parts=3)
    (directory / "geno_data_2.txt").write_text("again")
    assert "geno_data_2.txt and geno_data_2.txt.gz are the same part" in refusal(directory, out)
    (directory / "geno_data_2.txt").unlink()
    whole = (directory / "geno_data_2.txt.gz").read_bytes()
    (directory / "geno_data_2.txt.gz").unlink()
    assert "part 2 of the genotypes lacks" in refusal(directory, out)
    (directory / "geno_data_2.txt.gz").write_bytes(whole)
    (directory / "geno_data.txt").write_text("whole")
    assert "beside 3 numbered parts" in refusal(directory, out)
    (directory / "geno_data.txt").unlink()
    assert "no pheno_data_37C.txt in it" in refusal(directory, out, environments=("37C",))
    assert "no such directory" in refusal(directory / "nowhere", out)
    assert "one of 3 parts of the genotypes" in refusal(directory / "geno_data_1.txt.gz", out)
    assert "phenotypes, by its name" in refusal(directory / "pheno_data_cu.txt", out)


def test_other_numbers_of_snps_than_announced(deposit):
    directory, out = deposit
    write_deposit(directory)
    write_genotypes(directory, probabilities(num_loci=17))
    assert "17 SNPs, and source.loci_per_chromosome adds up to 16" in refusal(directory, out)
    (directory / "geno_data_1.txt.gz").write_bytes(b"")
    assert "geno_data_1.txt.gz:1: the file is empty" in refusal(directory, out)


@pytest.mark.parametrize("separators", [True, False])
def test_genotypes_without_an_index_are_refused(deposit, separators):
    """Or else the first SNP would be taken for it, and lost; chromosomes by separators hide that one lacks."""
    directory, out = deposit
    values, _ = write_deposit(directory, separators=separators, parts=1, compressed=False)
    path = directory / "geno_data.txt"
    path.write_text("".join(line.split("\t", 1)[1] for line in path.read_text().splitlines(keepends=True)))
    assert f"geno_data.txt:1: `{float(values[0, 0])!r}` in column 0 is not an index" in refusal(directory, out)


def test_what_the_columns_of_phenotypes_were_taken_for_is_said(deposit):
    directory, out = deposit
    write_deposit(directory)
    fitness, std = phenotypes()
    write_phenotypes(directory, "30C", fitness, std, header=None, ids=False)
    lines = imported(directory, out)
    assert "phenotype files of id, fitness, standard error: `23C`, `cu`" in lines
    assert "phenotype files of fitness, standard error: `30C`" in lines
    assert not any(line.startswith("warning") for line in lines)
    out.unlink()
    write_phenotypes(directory, "30C", np.abs(fitness), header=None)
    assert "warning: fitness counts the rows, as an index does, in `30C`" in "\n".join(imported(directory, out))


def test_lines_of_two_files_of_other_lengths(deposit):
    directory, out = deposit
    write_deposit(directory)
    (directory / "geno_data_2.txt.gz").write_bytes(gzip.compress(genotype_line(20, [0.5] * 15).encode()))
    assert "geno_data_2.txt.gz:1: 16 values, and the first line has 17" in refusal(directory, out)


def test_pruning_on_the_way(deposit, gpmap):
    directory, out = deposit
    write_deposit(directory)
    counts = f"source.loci_per_chromosome=[{','.join(map(str, COUNTS))}]"
    result = gpmap("prepare", "source=dryad", f"source.path={directory}", counts, f"out={out}", "prune.max_abs_r=0.3")
    assert result.returncode == 0, result.stderr
    assert "LD pruning at |r| 0.3" in result.stderr
    read = loaded(out)
    assert 0 < read.num_loci < 16
    assert "paper" in read.splits
    trained = gpmap("train", "model=ridge", "data=yeast", f"data.path={out}", "split=paper", "hydra.run.dir=run")
    assert trained.returncode == 0, trained.stderr
    assert "has seen" not in trained.stderr


@pytest.mark.slow
def test_a_deposit_of_the_full_width_goes_through_without_a_hand_on_it(gpmap, tmp_path):
    """41,594 SNPs: simulated, written as text by the script, imported, pruned, trained on."""
    made = gpmap("simulate", "data=yeast_synthetic", "data.num_samples=400", "hydra.run.dir=made")
    assert made.returncode == 0, made.stderr
    script = [sys.executable, str(ROOT / "scripts" / "make_yeast_deposit"), "made/dataset.h5", "deposit"]
    subprocess.run([*script, "--separators", "--trailing-row", "--parts", "2"], check=True, cwd=tmp_path)
    result = gpmap("prepare", "source=dryad", "source.path=deposit", "out=yeast.h5", "prune.max_abs_r=0.94")
    assert result.returncode == 0, result.stderr
    assert "of 41594 loci" in result.stderr
    assert "15 separator columns" in result.stderr
    small = ("data=yeast", "data.path=yeast.h5", "split=paper", "training=debug", "training.epochs=1")
    swept = gpmap("train", "-m", "model=ridge,pairwise", *small, "hydra.sweep.dir=sweep")
    assert swept.returncode == 0, swept.stderr
    read = loaded(tmp_path / "yeast.h5")
    assert 200 < read.num_loci < 3000
    assert len(read.environment_names) == 18
    assert len(set(read.chromosomes.tolist())) == 16
