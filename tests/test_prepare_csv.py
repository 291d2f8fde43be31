"""Tables of text: two joined by sample id, or one; what is read is what stood there, what is wrong is named by line."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import math

import numpy as np
import pandas as pd
import pytest

from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.errors import InputError
from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.sources.csv import Settings, prepare
from gpmap_cli.prepare.tables import genotype_text
from gpmap_cli.prepare.tables.csv_tables import read_csv_tables
from gpmap_cli.prepare.tables.genotype_codes import parse_codes
from gpmap_cli.settings import Group

NAN = math.nan
GENOTYPES = "id,l1,l2,l3\ns1,0,1,2\ns2,1,NA,0\ns3,2,2,1\n"
TRAITS = "line,y,y_se,z\ns3,3.5,0.3,-1\ns1,1.5,0.1,NA\ns9,0,0,0\n"
ALL = "id,y,l1,l2,z,farm\na,1.5,0,1,10,north\nb,NA,1,.,20,south\n"


def write(tmp_path, content, name="genotypes.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def read(tmp_path, content, phenotypes=None, places=None, **options):
    if phenotypes is not None:
        options["phenotypes"] = write(tmp_path, phenotypes, "traits.csv")
    if places is not None:
        options["map"] = write(tmp_path, places, "map.csv")
    return read_csv_tables(Settings(path=write(tmp_path, content), **options))


def refused(tmp_path, content, **options):
    with pytest.raises(InputError) as trouble:
        read(tmp_path, content, **options)
    [problem] = trouble.value.problems
    assert problem.hint
    return problem


def test_two_tables_join_by_id(tmp_path):
    dataset, lines = read(tmp_path, GENOTYPES, TRAITS)
    assert dataset.genotypes.tolist() == [[0, 1, 2], [1, -1, 0], [2, 2, 1]]
    assert (dataset.genotypes.dtype, dataset.ploidy) == (np.int8, 2)
    assert (dataset.sample_ids.tolist(), dataset.locus_ids.tolist()) == (["s1", "s2", "s3"], ["l1", "l2", "l3"])
    assert dataset.environment_names == ("y", "z")
    np.testing.assert_array_equal(dataset.phenotypes, [[1.5, NAN], [NAN, NAN], [3.5, -1]])
    np.testing.assert_array_equal(dataset.phenotype_std, np.array([[0.1, NAN], [NAN, NAN], [0.3, NAN]], np.float32))
    assert {dataset.chromosomes, dataset.positions} == {None}
    assert "missing genotypes: 1 of 9" in lines
    assert "traits.csv: 2 of 3 genotyped samples are in it" in lines
    assert "1 samples have genotypes and no phenotypes: `s2`" in lines
    assert "1 samples have phenotypes and no genotypes, and are left out: `s9`" in lines
    sums = [hashlib.sha256(text.encode()).hexdigest() for text in (GENOTYPES, TRAITS)]
    assert dataset.provenance == {
        "made_by": "gpmap prepare source=csv",
        "source_file": "genotypes.csv",
        "source_sha256": sums[0],
        "phenotypes_file": "traits.csv",
        "phenotypes_sha256": sums[1],
    }


def test_columns_in_another_order_say_the_same(tmp_path):
    one, _ = read(tmp_path, GENOTYPES, TRAITS)
    table = pd.read_csv(tmp_path / "genotypes.csv", dtype=str, keep_default_na=False)
    traits = pd.read_csv(tmp_path / "traits.csv", dtype=str, keep_default_na=False)
    shuffled = table[["l3", "l1", "id", "l2"]].to_csv(index=False)
    other, _ = read(
        tmp_path, shuffled, traits[["z", "y_se", "y", "line"]].rename(columns={"line": "id"}).to_csv(index=False),
        sample_column="id",
    )  # fmt: skip
    assert other.genotypes[:, [1, 2, 0]].tolist() == one.genotypes.tolist()
    np.testing.assert_array_equal(other.phenotypes[:, [1, 0]], one.phenotypes)


@pytest.mark.parametrize(
    "options",
    [
        {"genotype_columns": ("l1", "l2")},
        {"genotype_columns": ("l*",)},
        {"phenotype_columns": ("y", "z")},
        {"genotype_columns": ("l[12]",), "phenotype_columns": ("[yz]",)},
    ],
)
def test_one_table_with_both(tmp_path, options):
    dataset, lines = read(tmp_path, ALL, **options)
    assert dataset.genotypes.tolist() == [[0, 1], [1, -1]]
    assert (dataset.locus_ids.tolist(), dataset.sample_ids.tolist()) == (["l1", "l2"], ["a", "b"])
    assert dataset.environment_names == ("y", "z")
    np.testing.assert_array_equal(dataset.phenotypes, [[1.5, 10], [NAN, 20]])
    assert dataset.ploidy == 1
    assert "ids of the samples: column `id`" in lines
    assert ("genotype_columns" in options and "phenotype_columns" in options) or any("`farm`" in one for one in lines)


def test_one_table_without_ids(tmp_path):
    dataset, lines = read(
        tmp_path, "l1,l2,y,y_se\n0,1,2,0.5\n1,1,3,0.25\n", genotype_columns=("l*",), phenotype_columns=("y",)
    )
    assert dataset.sample_ids.tolist() == ["0", "1"]
    np.testing.assert_array_equal(dataset.phenotype_std, [[0.5], [0.25]])
    assert "no column of ids: samples are numbered from 0" in lines
    dataset, _ = read(tmp_path, "y,y_se,l1\n2,0.5,0\n3,0.25,1\n", phenotype_columns=("y",))
    assert (dataset.sample_ids.tolist(), dataset.locus_ids.tolist()) == (["0", "1"], ["l1"])


def test_the_pedigree_of_a_file_of_plink_is_no_genotype(tmp_path):
    """As `plink --recode A` writes it: sexes and case/control phenotypes are numbers like those of genotypes."""
    raw = "FID IID PAT MAT SEX PHENOTYPE rs1_A rs2_C\nf a 0 0 1 2 0 2\nf b 0 0 2 1 NA 1\n"
    for options in ({}, {"phenotype_columns": ("PHENOTYPE",)}, {"genotype_columns": ("rs*",)}):
        dataset, _ = read(tmp_path, raw, **options)
        assert dataset.locus_ids.tolist() == ["rs1_A", "rs2_C"]
        assert dataset.sample_ids.tolist() == ["a", "b"]
        assert dataset.genotypes.tolist() == [[0, 2], [-1, 1]]
        assert ("PHENOTYPE" in dataset.environment_names) == bool(options)
    dataset, _ = read(tmp_path, raw, "IID,y\nb,1\na,2\n")
    assert dataset.phenotypes.tolist() == [[2], [1]]


def test_which_columns_were_taken_for_what_is_said(tmp_path):
    _, lines = read(tmp_path, GENOTYPES, TRAITS)
    assert "genotypes: 3 columns, `l1` to `l3`" in lines
    assert "phenotypes: 2 columns of traits.csv: `y`, `z`" in lines
    _, lines = read(tmp_path, ALL, genotype_columns=("l1",))
    assert "genotypes: 1 column, `l1`" in lines
    assert "phenotypes: 3 columns of genotypes.csv: `y`, `l2`, `z`" in lines
    _, lines = read(tmp_path, "locus,chr,a,b\nm1,I,0,1\n", orientation="loci_in_rows")
    assert "samples: 2 columns, `a` to `b`" in lines


def table_with(traits, num_loci=10, name="m{}", values=(0, 1)):
    """A table of haploids at some loci, with columns beside them that nobody names as phenotypes."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({name.format(n): rng.choice(values, 20) for n in range(num_loci)})
    for place, (trait, few) in enumerate(traits.items()):
        frame.insert(3 * place, trait, rng.choice(few, 20))
    return frame.to_csv(index_label="id")


ODD = {
    "fractions": ({"y": [0.25, 1.5, 2]}, "hold fractions, and all others whole numbers: `y` (phenotypes?"),
    "a count": ({"y": [0, 1, 2]}, "hold numbers above 1, and no others do: `y` (phenotypes?"),
    "a disease": ({"sick": [0, 1]}, "are not called `m#` like the others: `sick` (phenotypes?"),
}


@pytest.mark.parametrize("kind", ODD)
def test_columns_that_look_unlike_genotypes_are_pointed_at(tmp_path, kind):
    traits, warning = ODD[kind]
    _, lines = read(tmp_path, table_with(traits))
    found = [line for line in lines if line.startswith("warning: columns of genotypes that ")]
    assert any(warning in line for line in found)
    [named] = [line for line in found if "are not called" in line]
    assert warning in named or len(found) == 2
    [trait] = traits
    for options in ({"phenotype_columns": (trait,)}, {"genotype_columns": ("m*",)}):
        dataset, lines = read(tmp_path, table_with(traits), **options)
        assert (dataset.num_loci, dataset.ploidy, dataset.genotypes.dtype) == (10, 1, np.int8)
        assert not any(line.startswith("warning") for line in lines)


@pytest.mark.parametrize(
    "options",
    [
        {"values": (0, 1, 2)},
        {"values": (0, 0.5, 1)},
        {"name": "rs{}"},
        {"name": "I:{}:A:C"},
        {"num_loci": 1},
        {"traits": {"chr1_7": [0, 1], "chrM_3": [0, 1], "x": [0, 1]}},
    ],
)
def test_genotypes_alone_are_not_warned_about(tmp_path, options):
    _, lines = read(tmp_path, table_with(options.pop("traits", {}), **options))
    assert not any(line.startswith("warning") for line in lines)


def test_genotypes_alone(tmp_path):
    dataset, lines = read(tmp_path, GENOTYPES)
    assert (dataset.environment_names, dataset.phenotypes.shape) == ((), (3, 0))
    assert "no phenotypes were given" in lines


def test_texts_beside_genotypes_are_left_out_and_said(tmp_path):
    dataset, lines = read(tmp_path, "id,family,l1\na,F1,0\nb,F2,1\n", "id,y\na,1\nb,2\n")
    assert dataset.locus_ids.tolist() == ["l1"]
    assert "left out 1 columns of texts, which are no genotypes: `family`" in lines
    assert "missing genotypes: 0 of 2" in lines


def test_loci_in_rows(tmp_path):
    content = "locus\tchr\tpos\ta\tb\tc\nm1\tI\t10\t0\t1\tNA\nm2\tII\t3000000000\t1\t1\t0\n"
    dataset, _ = read(tmp_path, content, "id,y\nc,3\na,1\n", orientation="loci_in_rows")
    assert dataset.genotypes.tolist() == [[0, 1], [1, 1], [-1, 0]]
    assert dataset.genotypes.flags["C_CONTIGUOUS"]
    assert (dataset.sample_ids.tolist(), dataset.locus_ids.tolist()) == (["a", "b", "c"], ["m1", "m2"])
    assert (dataset.chromosomes.tolist(), dataset.positions.tolist()) == (["I", "II"], [10, 3_000_000_000])
    np.testing.assert_array_equal(dataset.phenotypes, [[1], [NAN], [3]])
    problem = refused(tmp_path, content.replace("m2", "m1"), orientation="loci_in_rows")
    assert "csv:3: `m1` in column `locus` is on line 2 already" in problem.message


@pytest.mark.parametrize("mark", [",", "\t", ";"])
@pytest.mark.parametrize("packed", [False, True])
def test_other_delimiters_and_gzip(tmp_path, mark, packed):
    content = GENOTYPES.replace(",", mark).encode("utf-8-sig")
    dataset, _ = read(tmp_path, gzip.compress(content) if packed else content)
    assert dataset.genotypes.tolist() == [[0, 1, 2], [1, -1, 0], [2, 2, 1]]


# -- what cells mean -------------------------------------------------------------------------------------


def test_dosages(tmp_path):
    dataset, _ = read(tmp_path, "id,a,b\ns1,0,1\ns2,0.25,NA\ns3,1.75,2.0\n")
    assert (dataset.genotypes.dtype, dataset.ploidy) == (np.float32, 2)
    np.testing.assert_array_equal(dataset.genotypes, [[0, 1], [0.25, NAN], [1.75, 2]])
    dataset, _ = read(tmp_path, "id,a\ns1,0.0\ns2,1e0\n")
    assert (dataset.genotypes.dtype, dataset.genotypes.tolist(), dataset.ploidy) == (np.int8, [[0], [1]], 1)


def test_minus_one_means_missing_among_whole_numbers(tmp_path):
    dataset, lines = read(tmp_path, "id,a,b\ns1,0,-1\ns2,1,NA\n")
    assert dataset.genotypes.tolist() == [[0, -1], [1, -1]]
    assert "missing genotypes: 2 of 4 (1 of them written as -1)" in lines
    assert any(line.startswith("warning: 1 of 4 genotypes are -1") for line in lines)
    for few in ("id,a,b\n" + "s,0,-1\n" + "".join(f"s{n},0,1\n" for n in range(9)), "id,a,b\ns1,0,-1\ns2,2,NA\n"):
        assert not any("are -1" in line for line in read(tmp_path, few)[1])
    problem = refused(tmp_path, "id,a,b\ns1,0,0.5\ns2,1,-1\n")
    assert "csv:3: `-1` in column `b`, and other cells hold dosages" in problem.message
    assert read(tmp_path, "id,a,b\ns1,0,0.5\ns2,1,-1\n", missing=("-1",))[0].genotypes.dtype == np.float32
    problem = refused(tmp_path, "id,a,b\ns1,-1,1\ns2,1,-1\n")
    assert "source.coding=plus_minus_one" in problem.hint


def test_alleles_coded_plus_minus_one(tmp_path):
    signed = {"coding": "plus_minus_one"}
    dataset, lines = read(tmp_path, "id,a,b\ns1,-1,1\ns2,1,NA\n", **signed)
    assert (dataset.genotypes.tolist(), dataset.ploidy) == ([[0, 1], [1, -1]], 1)
    assert "missing genotypes: 1 of 4" in lines
    assert read(tmp_path, "id,a,b\ns1,-1,0\ns2,1,1\n", ploidy=2, **signed)[0].genotypes.tolist() == [[0, 1], [2, 2]]
    dataset, _ = read(tmp_path, "id,a,b\ns1,-1,0\ns2,1,1\n", ploidy=1, **signed)
    assert (dataset.genotypes.tolist(), dataset.genotypes.dtype) == ([[0, 0.5], [1, 1]], np.float32)
    assert "holds 0 besides -1 and +1" in refused(tmp_path, "id,a,b\ns1,-1,0\ns2,1,1\n", **signed).message
    assert "holds 0 but not a single -1" in refused(tmp_path, "id,a,b\ns1,1,0\n", **signed).message
    assert "only -1..+1 may stand there" in refused(tmp_path, "id,a\ns1,2\n", **signed).message


def test_letters(tmp_path):
    codes = ("A:0", "H=1", "B:2")
    dataset, _ = read(tmp_path, "id,m1,m2\ns1,A,H\ns2,B,-\n", codes=codes)
    assert (dataset.genotypes.tolist(), dataset.ploidy) == ([[0, 1], [2, -1]], 2)
    assert read(tmp_path, "id,m1\ns1,A\ns2,A\n", codes=codes)[0].ploidy == 2
    assert read(tmp_path, "id,m1\ns1,S\ns2,B\n", codes=("S:0", "B:1"))[0].ploidy == 1
    message = refused(tmp_path, "id,m1,m2\ns1,A,H\ns2,B,b\n", codes=codes).message
    assert "csv:3: `b` in column `m2` is none of the genotype codes `A`, `H`, `B`" in message
    assert "source.codes=[A:0" in refused(tmp_path, "id,m1\ns1,A\ns2,B\n").hint


def test_codes_in_the_settings():
    assert parse_codes(("A:0", "a=b=1", "x:y:0.5", "0:2")) == {"A": 0, "a=b": 1, "x:y": 0.5, "0": 2}
    for bad in (("A",), (":1",), ("A:x",), ("A:-1",), ("A:17",), ("A:nan",), ("A:0", "A:1"), ()):
        with pytest.raises(ValueError, match=r"CODE:COPIES|twice|empty"):
            parse_codes(bad)
    group = Group("source.", "csv")

    def problems(**options):
        return [problem.message for problem in Settings(path="x", **options).problems(group)]

    assert problems(codes=("A:0", "B:2"), ploidy=1) == ["source.codes counts more copies than source.ploidy=1"]
    assert "exclude each other" in problems(codes=("A:0",), coding="plus_minus_one")[0]
    assert "which is not CODE:COPIES" in problems(codes=("A",))[0]
    assert "columns are samples" in problems(orientation="loci_in_rows", phenotype_columns=("y",))[0]
    assert "goes with samples_in_rows" in problems(orientation="loci_in_rows", genotype_columns=("y",))[0]
    assert Settings().problems(group)[0].message == "source.path is not set"
    assert problems(codes=("A:0", "B:2"), ploidy=2) == []


def test_missing_texts(tmp_path):
    assert read(tmp_path, "id,a\ns1,9\ns2,\ns3,1\n", missing=("9",))[0].genotypes.tolist() == [[-1], [-1], [1]]
    assert "`NA` in column `a`" in refused(tmp_path, "id,a\ns1,9\ns2,NA\ns3,1\n", missing=("9",)).message


def test_more_copies(tmp_path):
    content = "id,a\ns1,0\ns2,4\n"
    assert "only 0..2 or missing" in refused(tmp_path, content).message
    assert [read(tmp_path, f"id,a\ns1,{one}\ns2,1\n")[0].ploidy for one in (0, 1, 2)] == [1, 1, 2]
    dataset, _ = read(tmp_path, content, ploidy=4)
    assert (dataset.genotypes.tolist(), dataset.ploidy) == ([[0], [4]], 4)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", {}, "the table is empty"),
        ("id,a\n", {}, "a header and no rows"),
        ("id\ns1\n", {}, "no column of genotypes"),
        ("id,a,\ns1,0,1\n", {}, "column 3 has no name"),
        ("id,a,a\n", {}, "csv:1: columns 2 and 3 are both called `a`"),
        ("id,a,b\ns1,0,1\ns2,0\n", {}, "csv:3: 2 values, and the table has 3 columns"),
        ("id,a\ns1,0\ns2,1\ns1,1\n", {}, "csv:4: `s1` in column `id` is on line 2 already"),
        ("id,a\ns1,0\n,1\n", {}, "csv:3: an empty id in column `id`"),
        ("id,a\ns1,0\ns2,x\n", {}, "csv:3: `x` in column `a` is not a number"),
        ("id,a\ns1,0\ns2,inf\n", {}, "csv:3: `inf` in column `a` is not a genotype"),
        ("id,a\ns1,0\ns2,1e300\n", {}, "csv:3: `1e300` in column `a` is not a genotype"),
        ("id,a\ns1,0\ns2,-0.5\n", {}, "csv:3: `-0.5` in column `a` is not a genotype"),
        ("id,a\ns1,0\ns2,3\n", {}, "csv:3: `3` in column `a` is not a genotype"),
        ("id,a\ns1,0\ns2,1_0\n", {}, "`1_0` in column `a` is not a number"),
        (ALL, {"genotype_columns": ("m*",)}, "no column is called `m*`"),
        (ALL, {"genotype_columns": ("l*", "y"), "phenotype_columns": ("y",)}, "`y` cannot be two things at once"),
        (ALL, {"genotype_columns": ("l*",), "sample_column": "l1"}, "`l1` cannot be two things at once"),
        (ALL, {"phenotype_columns": ("y",)}, "csv:2: `10` in column `z` is not a genotype"),
        (ALL, {"sample_column": "ID"}, "there is no column `ID`"),
        (b"id,a\ns\xff,0\n", {}, "csv:2: not UTF-8 text"),
    ],
)
@pytest.mark.parametrize("num_kept", [2**16, 0])
def test_what_is_refused(tmp_path, monkeypatch, content, options, message, num_kept):
    monkeypatch.setattr(genotype_text, "_MANY", num_kept)
    assert message in refused(tmp_path, content, **options).message
    with pytest.raises(InputError):
        prepare(Settings(path=str(tmp_path / "genotypes.csv"), **options), Job(str(tmp_path / "out.h5")))
    assert [path.name for path in tmp_path.iterdir()] == ["genotypes.csv"]


# -- maps ------------------------------------------------------------------------------------------------


def test_a_map(tmp_path):
    dataset, lines = read(tmp_path, GENOTYPES, places="marker,Chr,pos,cM\nl3,II,7,1.5\nl1,I,5,0\nl2,I,6,1\nl9,X,1,1\n")
    assert (dataset.chromosomes.tolist(), dataset.positions.tolist()) == (["I", "I", "II"], [5, 6, 7])
    assert "map.csv: 3 of 3 loci are on the map" in lines
    assert "1 loci are on the map and have no genotypes" in lines
    assert "genetic positions (cM) are left out: a dataset file holds base pairs" in lines


@pytest.mark.parametrize(
    ("places", "positions", "line"),
    [
        ("locus,position\nl1,5\nl2,6.5\nl3,7\n", None, "positions left out: 1 of 3 are not whole numbers"),
        ("locus,position\nl1,5\nl3,7\n", None, "positions left out: 1 of 3 loci have none"),
        ("locus,position\nl1,5\nl2,1e300\nl3,7\n", None, "positions left out: 1 of 3 are not whole numbers"),
        ("locus,bp\nl1,5\nl2,6\nl3,7e0\n", [5, 6, 7], "3 of 3 loci are on the map"),
    ],
)
def test_positions_are_base_pairs_or_left_out(tmp_path, places, positions, line):
    dataset, lines = read(tmp_path, GENOTYPES, places=places)
    assert (None if dataset.positions is None else dataset.positions.tolist()) == positions
    assert line in "\n".join(lines)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ("thing,chr\nl1,I\n", "no column of locus ids"),
        ("locus,other\nl1,I\n", "neither a column `chromosome` nor `position`"),
        ("locus,chr\nL1,I\n", "none of its 1 loci is among the genotypes"),
        ("locus,chr\nl1,I\nl1,I\n", "map.csv:3: `l1` in column `locus` is on line 2 already"),
        ("locus,pos\nl1,here\n", "map.csv:2: `here` in column `pos` is not a number"),
    ],
)
def test_maps_that_are_refused(tmp_path, places, message):
    assert message in refused(tmp_path, GENOTYPES, places=places).message


# -- as a whole ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["calls", "dosages"])
@pytest.mark.parametrize("num_kept", [2**16, 100])
def test_what_pandas_writes_comes_back(tmp_path, monkeypatch, kind, num_kept):
    monkeypatch.setattr(genotype_text, "_MANY", num_kept)
    rng = np.random.default_rng(1)
    if kind == "calls":
        genotypes = rng.integers(0, 3, (40, 300)).astype(float)
    else:
        genotypes = 2 * rng.random((40, 300))
        genotypes[:2] = np.rint(genotypes[:2])  # they come first, and are whole
    genotypes[rng.random(genotypes.shape) < 0.1] = NAN
    frame = pd.DataFrame(genotypes, [f"s{n}" for n in range(40)], [f"m{n}" for n in range(300)])
    path = tmp_path / "table.csv.gz"
    frame.to_csv(path, na_rep="NA", quoting=csv.QUOTE_NONNUMERIC)
    dataset, lines = read_csv_tables(Settings(path=str(path)))
    stored = np.where(dataset.genotypes < 0, NAN, dataset.genotypes) if kind == "calls" else dataset.genotypes
    np.testing.assert_array_equal(stored, genotypes.astype(np.float32))
    assert dataset.genotypes.dtype == (np.int8 if kind == "calls" else np.float32)
    assert f"missing genotypes: {np.isnan(genotypes).sum()} of 12000" in lines


def test_from_the_command_line(gpmap, tmp_path):
    rng = np.random.default_rng(2)
    genotypes = rng.integers(0, 2, (120, 5))
    frame = pd.DataFrame(genotypes, columns=[f"locus_{n}" for n in range(5)])
    frame["yield"] = genotypes @ rng.normal(size=5)
    frame.to_csv(tmp_path / "all.tsv", sep="\t", index_label="id")
    result = gpmap("prepare", "source=csv", "source.path=all.tsv", "source.genotype_columns=[locus_*]", "out=x.h5")
    assert (result.returncode, result.stdout) == (0, "x.h5\n"), result.stderr
    assert gpmap("train", "model=ridge", "data=file", "data.path=x.h5", "hydra.run.dir=run").returncode == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["splits"]["test"]["mean_r2"] > 0.99
    words = ("source=csv", "source.path=all.tsv", "source.phenotype_columns=yield", "source.codes=[0:0,1:1]")
    assert gpmap("prepare", *words, "out=y.h5", "prune.max_abs_r=0.9").returncode == 0
    with DatasetFile(tmp_path / "x.h5") as one, DatasetFile(tmp_path / "y.h5") as other:
        assert one.load().genotypes.tolist() == other.load().genotypes.tolist() == genotypes.tolist()
    result = gpmap("prepare", "source=csv", "source.path=all.tsv", "source.codes=[A,B:3]", "out=z.h5")
    assert result.returncode == 2
    assert "error: source.codes holds `A`" in result.stderr
