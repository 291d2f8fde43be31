"""Importing PLINK 2 filesets that the real tool wrote, against the tool's own text exports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from variant_examples import (
    Record,
    alternative_counts,
    cross,
    exported,
    known,
    needs,
    prepared,
    refused,
    tool,
    vcf_text,
    with_values,
)

from gpmap_cli.prepare.variants.pgen_layout import read_layout


def plink2(directory, records, *options, dosage=(), name="cross"):
    """A PLINK 2 fileset that PLINK 2 made of a VCF file."""
    (directory / f"{name}.vcf").write_text(vcf_text(records))
    tool(directory, "plink2", "--vcf", f"{name}.vcf", *dosage, "--make-pgen", *options, "--out", name)
    return directory / name


# -- genotypes -------------------------------------------------------------------------------------------


def counted_by_plink2(directory, prefix, records):
    """Copies (N, L) of every alternative allele as PLINK 2 exports them: one export for the n-th alternative of all."""
    found = {}
    for number in range(3):
        chosen = {record.id: record.alternatives.split(",")[number : number + 1] for record in records}
        chosen = {one: alleles[0] for one, alleles in chosen.items() if alleles}
        if not chosen:
            break
        (directory / "alleles.txt").write_text("".join(f"{one}\t{allele}\n" for one, allele in chosen.items()))
        tool(
            directory, "plink2", "--pfile", prefix, "--export", "A", "--export-allele", "alleles.txt", "--out", "counts"
        )
        _, _, names, counts = exported(directory / "counts.raw")
        for name, column in zip(names, counts.T, strict=True):
            one, allele = name.rsplit("_", 1)
            if chosen.get(one) == allele:
                found[(one, number)] = column
    return np.array(
        [found[record.id, number] for record in records for number in range(record.alternatives.count(",") + 1)]
    ).T


@needs("plink2")
@pytest.mark.parametrize("options", [(), ("vzs",)])
def test_calls_are_those_of_plink(tmp_path, options):
    records = cross(several=True)
    prefix = plink2(tmp_path, records, *options)
    dataset, lines = prepared("plink2", prefix, tmp_path)
    np.testing.assert_array_equal(known(dataset.genotypes), alternative_counts(records))
    if "vzs" in options:
        assert dataset.provenance["source_file"] == "cross.pgen, cross.pvar.zst, cross.psam"
    else:
        np.testing.assert_array_equal(known(dataset.genotypes), counted_by_plink2(tmp_path, prefix, records))
        assert prepared("plink2", tmp_path / "cross.pvar", tmp_path)[1] == lines
    assert dataset.genotypes.dtype == np.int8
    assert dataset.locus_ids.tolist()[:6] == ["v0", "v1_C", "v1_G", "v2_CT", "v2_G", "v2_T"]
    assert dataset.sample_ids.tolist() == [f"s{number}" for number in range(13)]
    assert dataset.positions.tolist()[:4] == [10, 20, 20, 30]
    assert set(dataset.chromosomes) == {"1", "2", "X"}
    assert "cross.pgen: PLINK 2, 13 samples, 24 variants" in lines
    assert "multiallelic variants: 16, with a locus for each alternative allele: 40" in lines


@needs("plink2")
def test_and_vcf_give_the_same(tmp_path):
    """Of all that the two formats can say alike: alleles that are no variant, no id, no alternative, half calls."""
    records = [
        *cross(several=True),
        Record(["0/1", *["1/2"] * 12], position=500, alternatives="C,*"),
        Record(["0/0"] * 13, position=510, id="same", alternatives="."),
        Record(["./1", *["0/1"] * 12], position=520, id="half"),
    ]
    prefix = plink2(tmp_path, records, "--sort-vars", dosage=("--vcf-half-call", "m"))
    for ploidy in (None, 1):
        ours, lines = prepared("plink2", prefix, tmp_path, ploidy=ploidy)
        theirs, about_theirs = prepared("vcf", tmp_path / "cross.vcf", tmp_path, ploidy=ploidy)
        order = np.argsort(theirs.chromosomes.astype(str), kind="stable")
        np.testing.assert_array_equal(ours.genotypes, theirs.genotypes[:, order])
        for name in ("locus_ids", "chromosomes", "positions"):
            assert getattr(ours, name).tolist() == getattr(theirs, name)[order].tolist()
        assert "1:500:A:C" in ours.locus_ids.tolist()
        assert "left out 1 variants without an alternative allele" in lines
        assert "left out 1 alleles of multiallelic variants that are `*`, `<*>`, `<NON_REF>`" in lines
        [line] = [line for line in lines if line.startswith("heterozygous calls: ")]
        assert line.endswith("missing since source.ploidy=1") == (ploidy == 1)
        assert line in about_theirs


@needs("plink2")
@pytest.mark.parametrize(("step", "stored"), [(0.25, np.float16), (0.01, np.float32)])
def test_dosages_are_those_of_plink(tmp_path, step, stored):
    """Of half of the variants; the others have calls alone."""
    rng = np.random.default_rng(6)
    records = []
    for number, record in enumerate(cross()):
        values = [f"{value:g}" for value in rng.integers(0, 2 / step, 13) * step]
        # Some missing calls have a dosage, and some have not.
        values = [
            "." if cell == "./." and number % 4 == 1 else value
            for cell, value in zip(record.cells, values, strict=True)
        ]
        records.append(with_values(record, values) if number % 2 else record)
    prefix = plink2(tmp_path, records, dosage=("dosage=DS",))
    expected = counted_by_plink2(tmp_path, prefix, records)
    num_missing = np.isnan(expected).sum(axis=0)
    assert num_missing[::2].any()
    assert num_missing[1::4].any()
    assert not num_missing[3::4].any()
    dataset, lines = prepared("plink2", prefix, tmp_path)
    assert dataset.genotypes.dtype == stored
    np.testing.assert_allclose(dataset.genotypes, expected, atol=5e-5)
    np.testing.assert_allclose(dataset.genotypes[:, ::2], alternative_counts(records)[:, ::2])
    assert "variants with dosages: 12; hard calls of the others are read as dosages" in lines
    halved, lines = prepared("plink2", prefix, tmp_path, ploidy=1)
    calls = expected[:, ::2]
    np.testing.assert_allclose(halved.genotypes[:, 1::2], expected[:, 1::2] / 2, atol=5e-5)
    np.testing.assert_array_equal(halved.genotypes[:, ::2], np.where(calls == 1, np.nan, calls / 2))
    assert f"heterozygous calls: {int((calls == 1).sum())}, missing since source.ploidy=1" in lines


@needs("plink2")
def test_fixed_width_and_no_header_line(tmp_path):
    """The other forms of a .pgen file that PLINK writes, and of a .pvar and .psam file that it reads."""
    records = cross()
    prefix = plink2(tmp_path, records, "format=2", "erase-phase")
    assert Path(f"{prefix}.pgen").read_bytes()[2] == 2
    expected = alternative_counts(records)
    np.testing.assert_array_equal(known(prepared("plink2", prefix, tmp_path)[0].genotypes), expected)
    tool(tmp_path, "plink2", "--pfile", prefix, "--make-bed", "--out", "old")
    (tmp_path / "old.bim").rename(f"{prefix}.pvar")
    (tmp_path / "old.fam").rename(f"{prefix}.psam")
    tool(tmp_path, "plink2", "--pfile", prefix, "--make-just-pvar", "--out", "check")
    assert "v3\tA\tC" in (tmp_path / "check.pvar").read_text()
    dataset, _ = prepared("plink2", prefix, tmp_path)
    np.testing.assert_array_equal(known(dataset.genotypes), expected)
    assert dataset.locus_ids.tolist() == [record.id for record in records]


@needs("plink2")
def test_more_variants_than_a_block_of_the_head(tmp_path):
    """65,536; the layout is read only if the lengths of all records lead to the end of the file."""
    rng = np.random.default_rng(7)
    calls = np.array(["0/0", "0/1", "1/1"])[rng.integers(0, 3, (65_600, 4))].tolist()
    calls[:3] = [["1/1"] * 4, ["0/0"] * 4, ["./."] * 4]
    prefix = plink2(tmp_path, [Record(cells, position=number + 1) for number, cells in enumerate(calls)])
    layout = read_layout(Path(f"{prefix}.pgen"))
    assert (layout.num_variants, layout.num_samples, len(layout.record_types)) == (65_600, 4, 65_600)
    assert layout.record_types[:3].tolist() == [6, 4, 7]  # all alike, but for a list of differences: none
    assert not layout.has_dosage.any()


# -- phenotypes, and what is refused ---------------------------------------------------------------------


@needs("plink2")
def test_phenotypes_are_those_of_plink(tmp_path):
    prefix = plink2(tmp_path, cross(num_samples=4))
    rows = ["1.5 1 A -9", "NA 2 B -9", "-9 0 A -9", "0 -9 B NA"]
    table = "".join(f"s{number} 1 {row}\n".replace(" ", "\t") for number, row in enumerate(rows))
    Path(f"{prefix}.psam").write_text(f"#IID\tSEX\tgrowth\tsick\tgroup\tnone\n{table}")
    dataset, lines = prepared("plink2", prefix, tmp_path)
    assert dataset.environment_names == ("growth", "sick")
    for place, name in enumerate(dataset.environment_names):
        options = ("--pheno-name", name, "--export", "A", "--out", "counts")
        tool(tmp_path, "plink2", "--pfile", prefix, *options)
        expected = np.array(exported(tmp_path / "counts.raw")[1], np.float32)
        expected[expected == -9] = np.nan
        np.testing.assert_array_equal(dataset.phenotypes[:, place], expected)
    text = "\n".join(lines)
    assert "cross.psam: left out 1 columns without numbers: `group`" in text
    assert "cross.psam: `sick` is case/control, 1 or 2; missing as in PLINK: 1 zeros" in text
    assert "cross.psam: all missing, and so left out: `none`" in text
    dataset, _ = prepared("plink2", prefix, tmp_path, environments=("sick",))
    assert dataset.environment_names == ("sick",)
    assert (
        "did you mean source.environments=growth?" in refused("plink2", prefix, tmp_path, environments=("grwth",)).hint
    )


@needs("plink2")
def test_truncated_files(tmp_path):
    prefix = plink2(tmp_path, cross(several=True))
    path = Path(f"{prefix}.pgen")
    contents = path.read_bytes()
    for length in [*range(0, len(contents), max(1, len(contents) // 40)), len(contents) - 1]:
        path.write_bytes(contents[:length])
        assert str(path) in refused("plink2", prefix, tmp_path).message, length
    path.write_bytes(contents + b"\0")
    assert "where the records of 24 variants end at byte" in refused("plink2", prefix, tmp_path).message


@needs("plink2")
@pytest.mark.parametrize(
    ("at", "byte", "message"),
    [
        (0, 0, "not a PLINK 2 .pgen file (it begins with `00 1b 10`)"),
        (2, 1, "a PLINK 1 .bed file, by its third byte"),
        (2, 0x20, "storage mode 0x20 is not read"),
        (3, 23, "bytes"),
        (6, 0x7F, "bytes cannot hold"),
        (7, 12, "cross.pgen: 12 samples, where the .psam file has 13"),
        (11, 0x4F, "byte 11 holds `4f`"),
        (20, 5, "variant 1 has a record of no possible type"),
    ],
)
def test_heads_that_are_refused(tmp_path, at, byte, message):
    prefix = plink2(tmp_path, cross())
    path = Path(f"{prefix}.pgen")
    contents = bytearray(path.read_bytes())
    contents[at] = byte
    path.write_bytes(contents)
    assert message in refused("plink2", prefix, tmp_path).message


@needs("plink2")
def test_texts_that_are_refused(tmp_path):
    prefix = plink2(tmp_path, cross(several=True))
    for suffix, old, new, message in (
        (".pvar", "v1\tA\tC,G", "v1\tA\tC", "cross.pgen: variant 2 (`v1`) has calls of several alternative alleles"),
        (".pvar", "v1\tA\tC,G", "v1\tC,G", "cross.pvar:9: 6 values, and the table has 7 columns"),
        (".pvar", "REF", "REFERENCE", "cross.pvar: there is no column `REF`"),
        (".pvar", "\t20\t", "\ttwenty\t", "cross.pvar:9: `twenty` is not a position"),
        (".psam", "s12\tNA\n", "", "cross.pgen: 13 samples, where the .psam file has 12"),
        (".psam", "s12", "s11", "cross.psam:14: the sample `s11` is in the file already"),
        (".psam", "#IID", "#FID", "cross.psam:1: there is no column `IID`"),
    ):
        path = Path(f"{prefix}{suffix}")
        whole = path.read_text()
        assert old in whole, (suffix, old)
        path.write_text(whole.replace(old, new))
        assert message in refused("plink2", prefix, tmp_path).message
        path.write_text(whole)
    path = Path(f"{prefix}.pvar")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert "cross.pgen: 24 variants, where the .pvar file has 23" in refused("plink2", prefix, tmp_path).message


@needs("plink2")
def test_from_the_command_line(gpmap, tmp_path):
    plink2(tmp_path, cross())
    result = gpmap("prepare", "source=plink2", "source.path=cross", "source.ploidy=1", "out=cross.h5")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "cross.h5\n"
    assert "cross.pgen: PLINK 2, 13 samples, 24 variants" in result.stderr
    assert "gpmap prepare source=plink2" in gpmap("info", "cross.h5").stdout
    assert gpmap("prepare", "source=plink1", "source.path=cross", "out=cross.h5").returncode == 2
