"""Importing VCF and BCF, against what bcftools and PLINK 2 say is in the same files."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from variant_examples import (
    HEADER,
    Record,
    copies,
    cross,
    exported,
    known,
    needs,
    prepared,
    refused,
    saved_vcf,
    tool,
    with_values,
)

from gpmap_cli.prepare.variants import locus_major

KINDS = ["vcf", "vcf.gz", "bcf"]


def queried(path, field="GT"):
    """A field of all records and samples (L, N), as bcftools prints it."""
    printed = tool(path.parent, "bcftools", "query", "-f", f"[%{field}\\t]\\n", path)
    return [line.rstrip("\t").split("\t") for line in printed.splitlines()]


@needs("bcftools")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block_bytes", [2**24, 60])
def test_calls_are_what_bcftools_prints(tmp_path, monkeypatch, kind, block_bytes):
    monkeypatch.setattr(locus_major, "_BLOCK_BYTES", block_bytes)  # one block of loci, or one for every four
    records = cross(several=True)
    records[4] = replace(records[4], cells=["./1", "1|.", *records[4].cells[2:]])
    path = saved_vcf(tmp_path, records, kind)
    calls = queried(path)
    assert calls[4][:2] == ["./1", "1|."]
    columns, ids = [], []
    for record, row in zip(records, calls, strict=True):
        for number, allele in enumerate(record.alternatives.split(","), 1):
            columns.append([copies(cell, number) for cell in row])
            ids.append(f"{record.id}_{allele}" if "," in record.alternatives else record.id)
    dataset, lines = prepared("vcf", path, tmp_path)
    np.testing.assert_array_equal(known(dataset.genotypes), np.transpose(columns))
    assert (dataset.genotypes.dtype, dataset.ploidy) == (np.int8, 2)
    assert dataset.locus_ids.tolist() == ids
    assert dataset.sample_ids.tolist() == [f"s{number}" for number in range(13)]
    assert (dataset.environment_names, dataset.phenotypes.shape) == ((), (13, 0))
    place = [(record.chromosome, record.position) for record in records for _ in record.alternatives.split(",")]
    assert list(zip(dataset.chromosomes.tolist(), dataset.positions.tolist(), strict=True)) == place
    num_missing = int(np.isnan(columns).sum())
    assert f"cross.{kind}: {kind[:3].upper()}, 13 samples, 24 records, field GT" in lines
    assert "multiallelic records: 16, with a locus for each allele: 40" in lines
    assert "half calls, with one allele unknown as in ./1: 2, which count as missing" in lines
    assert "13 samples x 48 loci x 0 environments, ploidy 2, genotypes stored as int8" in lines
    assert f"missing genotypes: {num_missing} of 624 ({100 * num_missing / 624:.2f} %)" in lines
    assert dataset.provenance["made_by"] == "gpmap prepare source=vcf"
    assert dataset.provenance["source_file"] == f"cross.{kind}"
    assert dataset.provenance["source_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


# -- ploidy ----------------------------------------------------------------------------------------------


def test_haploid_calls(tmp_path):
    path = saved_vcf(tmp_path, [Record(["0", "1", ".", "2"], alternatives="C,G")])
    dataset, lines = prepared("vcf", path, tmp_path)
    assert dataset.genotypes.tolist() == [[0, 0], [1, 0], [-1, -1], [0, 1]]
    assert dataset.ploidy == 1
    dataset, lines = prepared("vcf", path, tmp_path, ploidy=2)
    assert dataset.genotypes.tolist() == [[0, 0], [2, 0], [-1, -1], [0, 2]]
    assert dataset.ploidy == 2
    assert "haploid calls: 3, counted as two copies since source.ploidy=2" in lines


def test_haploid_samples_called_as_diploids(tmp_path):
    path = saved_vcf(tmp_path, [Record(["0/0", "1|1", "./.", "2/2"], alternatives="C,G"), Record(["0/0", "1/1"] * 2)])
    dataset, lines = prepared("vcf", path, tmp_path)
    assert dataset.genotypes.tolist() == [[0, 0, 0], [2, 0, 2], [-1, -1, 0], [0, 2, 2]]
    assert "not a single heterozygous call: if the samples are haploid, add source.ploidy=1" in lines
    dataset, lines = prepared("vcf", path, tmp_path, ploidy=1)
    assert dataset.genotypes.tolist() == [[0, 0, 0], [1, 0, 1], [-1, -1, 0], [0, 1, 1]]
    assert dataset.ploidy == 1
    assert "heterozygous calls: 0, missing since source.ploidy=1" in lines


def test_heterozygous_calls_of_haploids_are_missing_and_counted(tmp_path):
    """At every allele of the record, also those that are not among the two of the call."""
    path = saved_vcf(tmp_path, [Record(["0/1", "1/2", "3/3", "0/0", "./1"], alternatives="C,G,T")])
    dataset, lines = prepared("vcf", path, tmp_path, ploidy=1)
    assert dataset.genotypes.tolist() == [[-1] * 3, [-1] * 3, [0, 0, 1], [0, 0, 0], [-1] * 3]
    assert "heterozygous calls: 2, missing since source.ploidy=1" in lines
    assert "half calls, with one allele unknown as in ./1: 1, which count as missing" in lines


def test_heterozygous_calls_of_diploids_are_counted(tmp_path):
    """A call once, however many loci its record becomes; missing and half calls are not among those counted."""
    records = [
        Record(["0/1", "1|2", "3/3", "0/0", "./1", "./."], alternatives="C,G,T"),
        Record(["0/1", "1|1", "0/0", "0/0", "0/0", "1/0"]),
    ]
    path = saved_vcf(tmp_path, records)
    for ploidy in (None, 2):
        _, lines = prepared("vcf", path, tmp_path, ploidy=ploidy)
        assert "heterozygous calls: 4 of 10 (40.00 %)" in lines
    males = saved_vcf(tmp_path, [Record(["0/1", "1", "0"])])
    assert "heterozygous calls: 1 of 3 (33.33 %)" in prepared("vcf", males, tmp_path, ploidy=2)[1]
    haploids = saved_vcf(tmp_path, [Record(["1", "0", "."])])
    assert not any("heterozygous" in line for line in prepared("vcf", haploids, tmp_path)[1])


@pytest.mark.parametrize("cells", [["0/1", "0/1", "1"], ["1", "0", "0/1"]])
def test_mixed_ploidies(tmp_path, cells):
    """In one record or in two; each is told by its line."""
    one = [Record(cells, position=5)]
    two = [Record([cells[0]] * 3), Record([cells[2]] * 3, position=5)]
    for number, records in enumerate((one, two), 1):
        path = saved_vcf(tmp_path, records)
        problem = refused("vcf", path, tmp_path)
        assert problem.message.startswith(f"{path}:{HEADER.count(chr(10)) + 1 + number} (1:5): a call of ploidy ")
        assert "source.ploidy=2" in problem.hint
    dataset, _ = prepared("vcf", saved_vcf(tmp_path, one), tmp_path, ploidy=2)
    assert dataset.genotypes.ravel().tolist() == [1 if "/" in cell else 2 * int(cell) for cell in cells]
    dataset, _ = prepared("vcf", saved_vcf(tmp_path, one), tmp_path, ploidy=1)
    assert dataset.genotypes.ravel().tolist() == [-1 if "/" in cell else int(cell) for cell in cells]


def test_polyploids(tmp_path):
    path = saved_vcf(tmp_path, [Record(["0/0/1/1", "1/1/1/2", "0/0/0/.", "2/2/2/2"], alternatives="C,G")])
    dataset, lines = prepared("vcf", path, tmp_path)
    assert dataset.genotypes.tolist() == [[2, 0], [3, 1], [-1, -1], [0, 4]]
    assert dataset.ploidy == 4
    assert "heterozygous calls: 2 of 3 (66.67 %)" in lines
    dataset, _ = prepared("vcf", path, tmp_path, ploidy=1)
    assert dataset.genotypes.tolist() == [[-1, -1], [-1, -1], [-1, -1], [0, 1]]
    assert "a call of 4 alleles" in refused("vcf", path, tmp_path, ploidy=2).message


# -- dosages ---------------------------------------------------------------------------------------------


@needs("bcftools")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("step", "stored"), [(0.125, np.float16), (0.001, np.float32)])
def test_dosages_are_what_bcftools_prints(tmp_path, kind, step, stored):
    rng = np.random.default_rng(3)
    records = []
    for record in cross(several=True):
        num_alternatives = record.alternatives.count(",") + 1
        values = rng.integers(0, 2 / step, (13, num_alternatives)) * step
        texts = ["." if rng.random() < 0.1 else ",".join(f"{value:g}" for value in row) for row in values]
        records.append(with_values(record, texts))
    path = saved_vcf(tmp_path, records, kind)
    columns = []
    for record, row in zip(records, queried(path, "DS"), strict=True):
        for number in range(record.alternatives.count(",") + 1):
            columns.append([np.nan if cell == "." else np.float32(cell.split(",")[number]) for cell in row])
    dataset, lines = prepared("vcf", path, tmp_path, field="DS")
    assert dataset.genotypes.dtype == stored
    np.testing.assert_array_equal(dataset.genotypes.astype(np.float32), np.transpose(columns).astype(np.float32))
    assert f"missing genotypes: {int(np.isnan(columns).sum())} of 624" in "\n".join(lines)
    halved, _ = prepared("vcf", path, tmp_path, field="DS", ploidy=1)
    assert halved.ploidy == 1
    np.testing.assert_allclose(halved.genotypes, dataset.genotypes / 2, rtol=1e-6)


def test_dosages_of_haploids(tmp_path):
    """Their calls say so; without calls, source.ploidy does."""
    values = ["0.25", "1", "0", "."]
    with_calls = [Record(["0:0.25", "1:1", ".:0", ".:."], format="GT:DS")]
    dataset, _ = prepared("vcf", saved_vcf(tmp_path, with_calls), tmp_path, field="DS")
    assert dataset.ploidy == 1
    np.testing.assert_array_equal(dataset.genotypes.ravel(), [0.25, 1, 0, np.nan])
    doubled, _ = prepared("vcf", saved_vcf(tmp_path, with_calls), tmp_path, field="DS", ploidy=2)
    np.testing.assert_array_equal(doubled.genotypes.ravel(), [0.5, 2, 0, np.nan])
    without = [Record(values, format="DS")]
    for ploidy, expected in ((1, 1), (None, 2)):
        dataset, _ = prepared("vcf", saved_vcf(tmp_path, without), tmp_path, field="DS", ploidy=ploidy)
        assert dataset.ploidy == expected
        np.testing.assert_array_equal(dataset.genotypes.ravel(), [0.25, 1, 0, np.nan])


def test_dosages_beside_missing_calls(tmp_path):
    """A missing call says nothing about ploidy, however it is written, and a dosage beside it counts."""
    records = [
        Record(["0/1:1", ".:0.5", "./.:2", ".:."], format="GT:DS"),
        Record(["0/1:.", "1/2:.", ".:.", "./.:."], alternatives="C,G", format="GT:DS"),
    ]
    dataset, _ = prepared("vcf", saved_vcf(tmp_path, records), tmp_path, field="DS")
    assert dataset.ploidy == 2
    nothing = [np.nan, np.nan]
    np.testing.assert_array_equal(
        dataset.genotypes, [[1, *nothing], [0.5, *nothing], [2, *nothing], [np.nan, *nothing]]
    )


@needs("plink2")
def test_probabilities_give_the_dosages_of_plink2(tmp_path):
    rng = np.random.default_rng(4)
    probabilities = rng.dirichlet(np.ones(3), (24, 13)).round(3)
    records = [
        with_values(record, [",".join(f"{p:g}" for p in one) for one in rows], "GP")
        for record, rows in zip(cross(missing=0), probabilities, strict=True)
    ]
    path = saved_vcf(tmp_path, records)
    tool(tmp_path, "plink2", "--vcf", path, "dosage=GP-force", "--export", "A", "--out", "plink")
    _, _, names, references = exported(tmp_path / "plink.raw")
    assert names == [f"v{number}_A" for number in range(24)]  # PLINK 2 counts the reference allele
    dataset, _ = prepared("vcf", path, tmp_path, field="GP")
    # PLINK 2 takes probabilities that sum to 1.001 as they are.
    np.testing.assert_allclose(dataset.genotypes, 2 - references, atol=2.5e-3)
    assert np.median(np.abs(dataset.genotypes - (2 - references))) < 1e-4


def test_probabilities_of_several_alleles_and_of_haploids(tmp_path):
    diploid = "0.1,0.2,0.05,0.3,0.25,0.1"  # 0/0 0/1 1/1 0/2 1/2 2/2
    rounded = "0.32,0.33,0.33,0,0,0"  # as they come with two decimals
    cells = [diploid, "0,0,0,0,0,0", ".", "0,0,0,0,0,1", rounded]
    dataset, _ = prepared(
        "vcf", saved_vcf(tmp_path, [Record(cells, alternatives="C,G", format="GP")]), tmp_path, field="GP"
    )
    expected = [[0.2 + 2 * 0.05 + 0.25, 0.3 + 0.25 + 2 * 0.1], [np.nan] * 2, [np.nan] * 2, [0, 2], [0.99 / 0.98, 0]]
    np.testing.assert_allclose(dataset.genotypes, expected, rtol=1e-6)
    haploid = [Record(["0.25,0.5,0.25", "0,0,1"], alternatives="C,G", format="GP")]
    dataset, _ = prepared("vcf", saved_vcf(tmp_path, haploid), tmp_path, field="GP")
    assert (dataset.genotypes.tolist(), dataset.ploidy) == ([[0.5, 0.25], [0, 1]], 1)
    mixed = [Record(["0.5,0.5", "0,0,1"], format="GP")]
    assert "a call of ploidy 2" in refused("vcf", saved_vcf(tmp_path, mixed), tmp_path, field="GP").message
    dataset, _ = prepared("vcf", saved_vcf(tmp_path, mixed), tmp_path, field="GP", ploidy=2)
    assert dataset.genotypes.tolist() == [[1], [2]]


@pytest.mark.parametrize(
    ("field", "cells", "message"),
    [
        ("DS", ["0.5", "2.1"], "the values of DS of sample `s1` hold 2.1"),
        ("DS", ["-0.5", "1"], "the values of DS of sample `s0` hold -0.5"),
        ("DS", ["inf", "1"], "the values of DS of sample `s0` hold inf"),
        ("DS", ["0.5,1", "0,1"], "the values of DS are 2 for 1 alternative alleles"),
        ("GP", ["0.5,0.4,0.4", "1,0,0"], "the values of GP lack some, or do not sum to 1"),
        ("GP", ["0.5,.,0.5", "1,0,0"], "the values of GP lack some, or do not sum to 1"),
        ("GP", ["30,0,1", "1,0,0"], "the values of GP of sample `s0` hold 30"),
        ("GP", ["1,0,0", "1,0,0,0"], "the values of GP of sample `s1` are 4"),
    ],
)
def test_values_that_are_refused(tmp_path, field, cells, message):
    problem = refused("vcf", saved_vcf(tmp_path, [Record(cells, position=7, format=field)]), tmp_path, field=field)
    assert f"(1:7): {message}" in problem.message


def test_values_declared_as_texts(tmp_path):
    header = HEADER.replace("ID=DS,Number=A,Type=Float", "ID=DS,Number=1,Type=String")
    path = saved_vcf(tmp_path, [Record(["0.5", "1"], format="DS")], header=header)
    assert "the values of DS are texts" in refused("vcf", path, tmp_path, field="DS").message


# -- records and loci ------------------------------------------------------------------------------------


def test_what_is_no_variant_is_left_out_and_counted(tmp_path):
    records = [
        Record(["0/1", "1/2"], id="star", alternatives="C,*"),
        Record(["0/1", "1/1"], id="only_star", alternatives="*"),
        Record(["0/0", "0/1"], id="gvcf", alternatives="G,<NON_REF>"),
        Record(["0/0", "0/0"], id="same", alternatives="."),
        Record(["0/1", "1/1"], id="deletion", alternatives="<DEL>"),
        Record(["3", "4"], id="no_calls", format="DP"),
    ]
    dataset, lines = prepared("vcf", saved_vcf(tmp_path, records), tmp_path)
    assert dataset.locus_ids.tolist() == ["star_C", "gvcf_G", "deletion"]
    assert dataset.genotypes.tolist() == [[1, 0, 1], [1, 1, 2]]
    assert "left out 1 records without an alternative allele" in lines
    assert "left out 1 records without the field GT" in lines
    assert "left out 3 alternative alleles that are no variant: `*`, `<*>` or `<NON_REF>`" in lines
    assert "loci with a symbolic alternative allele, such as <DEL>: 1" in lines
    problem = refused("vcf", saved_vcf(tmp_path, records[3:4]), tmp_path)
    assert "not a single locus to import" in problem.message
    assert "left out 1 records without an alternative allele" in problem.message


@needs("bcftools")
def test_records_that_failed_a_filter(tmp_path):
    filters = ["PASS", "q10", "."] * 8
    records = [replace(one, filter=name) for one, name in zip(cross(), filters, strict=True)]
    path = saved_vcf(tmp_path, records)
    passed = tool(tmp_path, "bcftools", "query", "-i", 'FILTER="PASS" || FILTER="."', "-f", "%ID\n", path).split()
    assert len(passed) == 16
    dataset, lines = prepared("vcf", path, tmp_path, pass_only=True)
    assert dataset.locus_ids.tolist() == passed
    assert "left out 8 records that failed a filter" in lines
    dataset, lines = prepared("vcf", path, tmp_path)
    assert dataset.num_loci == 24
    assert "imported 8 records that failed a filter (source.pass_only=true leaves them out)" in lines
    _, lines = prepared("vcf", saved_vcf(tmp_path, cross()), tmp_path)
    assert not any("filter" in line for line in lines)


def test_ids_of_loci(tmp_path):
    calls = ["0/1", "1/1"]
    records = [
        Record(calls, position=1, id="own"),
        Record(calls, position=2),
        Record(calls, position=3, id="shared"),
        Record(calls, position=4, id="shared", chromosome="2"),
        Record(calls, position=5, alternatives="G"),
        Record(calls, position=5, alternatives="G"),
        Record(calls, position=6, id="two", alternatives="G,T"),
    ]
    dataset, lines = prepared("vcf", saved_vcf(tmp_path, records), tmp_path)
    ids = ["own", "1:2:A:C", "1:3:A:C", "2:4:A:C", "1:5:A:G", "1:5:A:G:2", "two_G", "two_T"]
    assert dataset.locus_ids.tolist() == ids
    assert "loci without an id: 3, called by place and alleles, as `1:2:A:C`" in lines
    assert "loci whose id is not theirs alone: 2, called by place and alleles, as `1:3:A:C`" in lines
    assert "loci that are in the file more than once: 1 repeats, numbered as `1:5:A:G:2`" in lines
    unplaced, lines = prepared("vcf", saved_vcf(tmp_path, [replace(records[0], position=0)]), tmp_path)
    assert unplaced.positions is None
    assert "no positions: all are 0" in lines


# -- phenotypes ------------------------------------------------------------------------------------------


def test_phenotypes_are_joined_by_id(tmp_path):
    path = saved_vcf(tmp_path, [Record(["0/1", "1/1", "0/0"])])
    table = tmp_path / "growth.csv"
    table.write_text("30C,30C_se,note,strain\n1.5,0.1,a,s2\n2,0.1,b,ghost\nNA,0.1,c,s0\n")
    by_strain = {"phenotypes": str(table), "sample_column": "strain"}
    dataset, lines = prepared("vcf", path, tmp_path, **by_strain)
    assert dataset.environment_names == ("30C",)
    np.testing.assert_array_equal(dataset.phenotypes.ravel(), [np.nan, np.nan, 1.5])
    np.testing.assert_array_equal(dataset.phenotype_std.ravel(), np.float32([0.1, np.nan, 0.1]))
    text = "\n".join(lines)
    assert "growth.csv: 2 of 3 genotyped samples are in it" in text
    assert "1 samples have genotypes and no phenotypes: `s1`" in text
    assert "1 samples have phenotypes and no genotypes, and are left out: `ghost`" in text
    assert "missing phenotypes: 2 of 3 (66.67 %)" in text
    assert dataset.provenance["phenotypes_file"] == "growth.csv"
    assert dataset.provenance["phenotypes_sha256"] == hashlib.sha256(table.read_bytes()).hexdigest()
    chosen, _ = prepared("vcf", path, tmp_path, environments=("30C_se",), **by_strain)
    assert chosen.environment_names == ("30C_se",)
    only, _ = prepared("vcf", path, tmp_path, missing=("NA", "1.5"), **by_strain)
    assert np.isnan(only.phenotypes).all()
    assert "none of its 3 sample ids" in refused("vcf", path, tmp_path, phenotypes=str(table)).message
    assert "no such file" in refused("vcf", path, tmp_path, phenotypes=str(tmp_path / "none.csv")).message


# -- the command -----------------------------------------------------------------------------------------


@needs("bgzip")
def test_from_the_command_line(gpmap, tmp_path):
    rng = np.random.default_rng(5)
    records = cross(num_samples=90, missing=0)
    records = [replace(one, cells=[cell[0] + "/" + cell[0] for cell in one.cells]) for one in records]
    saved_vcf(tmp_path, records)
    tool(tmp_path, "bgzip", "cross.vcf")
    effects = np.array([[copies(cell, 1) for cell in one.cells] for one in records]).T @ rng.normal(size=24)
    rows = [f"s{number}\t{effect:.4f}\n" for number, effect in enumerate(effects)]
    (tmp_path / "growth.tsv").write_text("".join(["strain\t30C\n", *rows]))
    result = gpmap(
        "prepare", "source=vcf", "source.path=cross.vcf.gz", "source.phenotypes=growth.tsv", "source.ploidy=1",
        "out=cross.h5",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout == "cross.h5\n"
    assert "heterozygous calls: 0, missing since source.ploidy=1" in result.stderr
    assert "growth.tsv: 90 of 90 genotyped samples are in it" in result.stderr
    result = gpmap("train", "model=ridge", "data=file", "data.path=cross.h5", "device=cpu")
    assert result.returncode == 0, result.stderr
    [row] = [line.split() for line in result.stdout.splitlines() if line.strip().startswith("30C")]
    assert max(float(value) for value in row[1:4] if value[0].isdigit()) > 0.9
    problem = gpmap("prepare", "source=vcf", "source.sample_column=strain", "out=no.h5")
    assert problem.returncode == 2
    assert "source.path is not set" in problem.stderr
    assert "source.sample_column is about a table of phenotypes" in problem.stderr
