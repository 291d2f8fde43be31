"""Importing PLINK 1 filesets that the real tools wrote, against the tools' own text exports."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from variant_examples import (
    alternative_counts,
    cross,
    exported,
    known,
    needs,
    prepared,
    refused,
    tool,
    vcf_text,
)

from gpmap_cli.prepare.variants import locus_major

# The smallest fileset that can be written by hand: 3 samples at 2 variants, calls 2 (A1), 1, missing and 0, 0, 2.
BED = b"\x6c\x1b\x01" + bytes([0b00_01_10_00, 0b00_00_11_11])
BIM = "1 rs1 0 10 C A\n2 rs2 0.5 20 G T\n"
FAM = "f s0 0 0 1 1.5\nf s1 0 0 2 -9\nf s2 0 0 0 0.5\n"


def plink1(directory, records, *options, name="cross"):
    """A PLINK 1 fileset that PLINK 1 made of a VCF file."""
    (directory / f"{name}.vcf").write_text(vcf_text(records))
    tool(directory, "plink1.9", "--vcf", f"{name}.vcf", "--make-bed", "--out", name, *options)
    return directory / name


def by_hand(directory, bed=BED, bim=BIM, fam=FAM):
    for suffix, contents in ((".bed", bed), (".bim", bim), (".fam", fam)):
        text = contents.encode("utf-8", "surrogateescape") if isinstance(contents, str) else contents
        (directory / f"hand{suffix}").write_bytes(text)
    return directory / "hand"


# -- genotypes -------------------------------------------------------------------------------------------


@needs("plink1.9")
@pytest.mark.parametrize("options", [(), ("--keep-allele-order",)])
@pytest.mark.parametrize("block_bytes", [2**24, 60])
def test_counts_the_allele_that_plink_counts(tmp_path, monkeypatch, options, block_bytes):
    """A1, which is the alternative allele only with --keep-allele-order (or from PLINK 2), else the rarer one."""
    monkeypatch.setattr(locus_major, "_BLOCK_BYTES", block_bytes)
    records = cross()
    prefix = plink1(tmp_path, records, *options)
    tool(tmp_path, "plink1.9", "--bfile", prefix, *options, "--recode", "A", "--out", "counts")
    ids, _, names, counts = exported(tmp_path / "counts.raw")
    dataset, lines = prepared("plink1", prefix, tmp_path)
    np.testing.assert_array_equal(known(dataset.genotypes), counts)
    assert dataset.genotypes.dtype == np.int8
    assert dataset.sample_ids.tolist() == ids
    assert dataset.locus_ids.tolist() == [name.rsplit("_", 1)[0] for name in names]
    assert dataset.positions.tolist() == [record.position for record in records]
    assert sorted(set(dataset.chromosomes)) == ["1", "2", "23"]  # PLINK 1 writes 23 for X
    counts_alternative = [name.endswith("_C") for name in names]
    assert all(counts_alternative) if options else 0 < sum(counts_alternative) < len(names)
    num_missing = int(np.isnan(counts).sum())
    assert f"missing genotypes: {num_missing} of 312 ({100 * num_missing / 312:.2f} %)" in lines
    num_heterozygous, num_calls = int((counts == 1).sum()), 312 - num_missing
    share = 100 * num_heterozygous / num_calls
    assert f"heterozygous calls: {num_heterozygous} of {num_calls} ({share:.2f} %)" in lines
    assert "cross.bed: PLINK 1, 13 samples, 24 variants; genotypes count A1 (column 5 of the .bim file)" in lines


@needs("plink1.9", "plink2")
def test_files_of_plink2_count_the_alternative_allele(tmp_path):
    records = cross()
    (tmp_path / "cross.vcf").write_text(vcf_text(records))
    tool(tmp_path, "plink2", "--vcf", "cross.vcf", "--make-bed", "--out", "cross")
    dataset, _ = prepared("plink1", tmp_path / "cross.bim", tmp_path)
    np.testing.assert_array_equal(known(dataset.genotypes), alternative_counts(records))
    assert set(dataset.chromosomes) == {"1", "2", "X"}


@needs("plink1.9")
def test_the_other_allele(tmp_path):
    prefix = plink1(tmp_path, cross())
    alleles = [line.split() for line in Path(f"{prefix}.bim").read_text().splitlines()]
    (tmp_path / "a2.txt").write_text("".join(f"{line[1]} {line[5]}\n" for line in alleles))
    tool(tmp_path, "plink1.9", "--bfile", prefix, "--recode", "A", "--recode-allele", "a2.txt", "--out", "counts")
    dataset, lines = prepared("plink1", prefix, tmp_path, counted_allele="a2")
    np.testing.assert_array_equal(known(dataset.genotypes), exported(tmp_path / "counts.raw")[3])
    assert "genotypes count A2 (column 6 of the .bim file)" in lines[0]


@needs("plink1.9")
def test_haploids(tmp_path):
    prefix = plink1(tmp_path, cross(), "--keep-allele-order")
    diploid = alternative_counts(cross())
    dataset, lines = prepared("plink1", prefix, tmp_path, ploidy=1)
    expected = np.where(diploid == 1, np.nan, diploid / 2)
    np.testing.assert_array_equal(known(dataset.genotypes), expected)
    assert dataset.ploidy == 1
    assert f"heterozygous calls: {int((diploid == 1).sum())}, missing since source.ploidy=1" in lines
    homozygous = [replace(one, cells=[f"{cell[0]}/{cell[0]}" for cell in one.cells]) for one in cross(missing=0)]
    _, lines = prepared("plink1", plink1(tmp_path, homozygous), tmp_path)
    assert "not a single heterozygous call: if the samples are haploid, add source.ploidy=1" in lines


def test_by_hand(tmp_path):
    prefix = by_hand(tmp_path)
    dataset, lines = prepared("plink1", prefix, tmp_path)
    assert dataset.genotypes.tolist() == [[2, 0], [1, 0], [-1, 2]]
    assert dataset.locus_ids.tolist() == ["rs1", "rs2"]
    assert dataset.environment_names == ("phenotype",)
    np.testing.assert_array_equal(dataset.phenotypes.ravel(), [1.5, np.nan, 0.5])
    assert dataset.provenance["source_file"] == "hand.bed, hand.bim, hand.fam"
    command = "sha256sum hand.bed hand.bim hand.fam | sha256sum"
    expected = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True).stdout.split()[0]
    assert dataset.provenance["source_sha256"] == expected
    for path in ("hand.bed", "hand.bim", "hand.fam"):
        assert prepared("plink1", tmp_path / path, tmp_path)[1] == lines


# -- variants and samples --------------------------------------------------------------------------------


@needs("plink1.9")
def test_variants_that_plink_leaves_out(tmp_path):
    """A position below 0; 0 stands for an unknown one. Without centimorgans, too."""
    prefix = plink1(tmp_path, cross())
    lines = Path(f"{prefix}.bim").read_text().splitlines(keepends=True)
    lines[3] = lines[3].replace("\t40\t", "\t-40\t")
    lines[5] = lines[5].replace("\t60\t", "\t0\t")
    Path(f"{prefix}.bim").write_text("".join("\t".join(np.delete(line.split("\t"), 2)) for line in lines))
    tool(tmp_path, "plink1.9", "--bfile", prefix, "--recode", "A", "--out", "counts")
    dataset, said = prepared("plink1", prefix, tmp_path)
    counts = exported(tmp_path / "counts.raw")[3]
    assert counts.shape == (13, 23)
    np.testing.assert_array_equal(known(dataset.genotypes), counts)
    assert "left out 1 variants with a position below 0, as PLINK does" in said
    assert "positions that are 0 (unknown): 1" in said
    assert dataset.positions.tolist()[3:6] == [50, 0, 70]


def test_ids_of_loci_and_samples(tmp_path):
    prefix = by_hand(tmp_path, bim="1 . 0 10 C A\n2 . 0 0 G T\n", fam="a s 0 0 0 1\nb s 0 0 0 2\nc t 0 0 0 2\n")
    dataset, lines = prepared("plink1", prefix, tmp_path)
    assert dataset.locus_ids.tolist() == ["1:10:A:C", "2:0:T:G"]
    assert dataset.sample_ids.tolist() == ["a_s", "b_s", "c_t"]
    assert "loci without an id: 2, called by place and alleles, as `1:10:A:C`" in lines
    assert "hand.fam: individual ids are not unique, so samples are called FID_IID, as `a_s`" in lines
    other, _ = prepared("plink1", prefix, tmp_path, counted_allele="a2")
    assert other.locus_ids.tolist() == ["1:10:C:A", "2:0:G:T"]
    dataset, lines = prepared("plink1", by_hand(tmp_path, bim="1 x 0 0 C A\n2 x 0 0 G T\n"), tmp_path)
    assert dataset.locus_ids.tolist() == ["1:0:A:C", "2:0:T:G"]
    assert dataset.positions is None


# -- phenotypes ------------------------------------------------------------------------------------------


@needs("plink1.9")
@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ("1.5 NA -9 0", ""),
        ("1.5 0 -9.0 nan", ""),
        ("1 2 0 -9", "`phenotype` is case/control, 1 or 2; missing as in PLINK: 1 zeros"),
        ("1 abc 2 NA", "`phenotype` is case/control, 1 or 2; missing as in PLINK: 0 zeros, 1 texts"),
        ("0 1 1 0", "missing as in PLINK: 2 zeros (source.missing=[-9] keeps zeros)"),
        ("1 1 1 -9", "`phenotype` is case/control"),
        ("3 -9.5 1e-3 1", ""),
        ("0 0 0 0", "missing as in PLINK: 4 zeros (source.missing=[-9] keeps zeros)"),
        ("-9 -9 -9 -9", "all missing, and so left out: `phenotype`"),
    ],
)
def test_phenotypes_are_those_of_plink(tmp_path, cells, said):
    prefix = plink1(tmp_path, cross(num_samples=4))
    rows = [f"s{number} s{number} 0 0 0 {cell}\n" for number, cell in enumerate(cells.split())]
    Path(f"{prefix}.fam").write_text("".join(rows))
    tool(tmp_path, "plink1.9", "--bfile", prefix, "--recode", "A", "--allow-no-sex", "--out", "counts")
    expected = np.array(exported(tmp_path / "counts.raw")[1], np.float32)
    expected[expected == -9] = np.nan
    dataset, lines = prepared("plink1", prefix, tmp_path)
    assert said in "\n".join(lines)
    assert ("case/control" in "\n".join(lines)) == ("case" in said or "zeros" in said)
    if np.isnan(expected).all():
        assert dataset.environment_names == ()
        assert "cross.fam: all missing, and so left out: `phenotype`" in lines
        assert "no phenotypes were given" in lines
    else:
        assert dataset.environment_names == ("phenotype",)
        np.testing.assert_array_equal(dataset.phenotypes.ravel(), expected)


def test_other_texts_for_missing_phenotypes(tmp_path):
    prefix = by_hand(tmp_path, fam="a a 0 0 0 0\nb b 0 0 0 1\nc c 0 0 0 -9\n")
    dataset, _ = prepared("plink1", prefix, tmp_path, missing=("-9",))
    np.testing.assert_array_equal(dataset.phenotypes.ravel(), [0, 1, np.nan])
    dataset, _ = prepared("plink1", prefix, tmp_path, missing=())
    np.testing.assert_array_equal(dataset.phenotypes.ravel(), [0, 1, -9])
    problem = refused("plink1", by_hand(tmp_path, fam=FAM.replace("0.5", "low")), tmp_path)
    assert "hand.fam:3: `low` in column `phenotype` is not a finite number" in problem.message
    problem = refused("plink1", by_hand(tmp_path), tmp_path, environments=("growth",))
    assert "there is no phenotype `growth`" in problem.message
    assert problem.hint == "choose from `source.environments=phenotype`"


def test_with_a_table_of_phenotypes(tmp_path):
    table = tmp_path / "growth.txt"
    table.write_text("FID IID 30C 35C\nf s2 -9 2\nf s1 1 2.5\nf s9 1 1\n")
    dataset, lines = prepared("plink1", by_hand(tmp_path), tmp_path, phenotypes=str(table), environments=("35C", "30C"))
    assert dataset.environment_names == ("35C", "30C")
    np.testing.assert_array_equal(dataset.phenotypes, [[np.nan, np.nan], [2.5, 1], [2, np.nan]])
    text = "\n".join(lines)
    assert "growth.txt: 2 of 3 genotyped samples are in it" in text
    assert "1 samples have genotypes and no phenotypes: `s0`" in text
    assert "1 samples have phenotypes and no genotypes, and are left out: `s9`" in text
    dataset, _ = prepared("plink1", by_hand(tmp_path), tmp_path, phenotypes=str(table), missing=("NA",))
    assert dataset.phenotypes[2].tolist() == [-9, 2]


# -- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bed": BED[:-1]}, "hand.bed: 4 bytes; 3 samples (.fam) at 2 variants (.bim) take 5"),
        ({"bed": BED + b"\0"}, "hand.bed: 6 bytes; 3 samples (.fam) at 2 variants (.bim) take 5"),
        ({"bed": b""}, "hand.bed: not a PLINK 1 .bed file (it begins with ``"),
        ({"bed": b"chr1\t10\t20\n"}, "hand.bed: not a PLINK 1 .bed file (it begins with `63 68 72`"),
        ({"bed": BED[:2] + b"\0" + BED[3:]}, "hand.bed: byte 2 says `00`: sample by sample"),
        ({"bed": BED[:2] + b"\x10" + BED[3:]}, "hand.bed: byte 2 says `10`: a PLINK 2 file"),
        ({"bed": BED[:4] + b"\xcf"}, "hand.bed: byte 4 (variant 2) holds genotypes beyond the 3 samples (.fam)"),
        ({"fam": FAM + "f s3 0 0 0 1\nf s4 0 0 0 1\n"}, "5 samples (.fam) at 2 variants (.bim) take 7"),
        ({"bim": BIM + "2 rs3 0 30 G T\n"}, "3 samples (.fam) at 3 variants (.bim) take 6"),
        ({"fam": FAM.replace("f s1 0 0", "f s1 0")}, "hand.fam:2: 5 values, and the table has 6 columns"),
        ({"bim": BIM.replace("0.5 20", "0.5 20 30")}, "hand.bim:2: 7 values, and the table has 6 columns"),
        ({"bim": BIM.replace("20", "2e1")}, "hand.bim:2: `2e1` is not a position"),
        ({"fam": FAM.replace("s1", "s\udcff")}, "hand.fam:2: not UTF-8 text"),
        ({"bim": BIM.replace("rs1", "r\0s")}, "hand.bim:1: a zero byte"),
        ({"fam": FAM.replace("s1", "s0")}, "hand.fam:2: the sample `f_s0` is in the file already"),
        ({"fam": ""}, "hand.fam: no samples in it"),
        ({"bim": ""}, "hand.bim: no variants in it"),
    ],
)
def test_filesets_that_are_refused(tmp_path, changed, message):
    assert message in refused("plink1", by_hand(tmp_path, **changed), tmp_path).message


@needs("plink1.9")
def test_samples_that_the_size_of_the_file_does_not_tell(tmp_path):
    """13 samples take as many bytes as 14 to 16: a .fam file of fewer lines is found out by the bits that fill up."""
    prefix = plink1(tmp_path, cross(num_samples=16))
    lines = Path(f"{prefix}.fam").read_text().splitlines(keepends=True)
    for count in (15, 14, 13):
        Path(f"{prefix}.fam").write_text("".join(lines[:count]))
        problem = refused("plink1", prefix, tmp_path)
        assert f"holds genotypes beyond the {count} samples (.fam)" in problem.message


def test_filesets_that_are_not_there(tmp_path):
    prefix = by_hand(tmp_path)
    problem = refused("plink1", tmp_path / "other", tmp_path)
    assert f"{tmp_path / 'other.bed'}: there is no such file" in problem.message
    assert "`other.bed`, `other.bim`, `other.fam`" in problem.hint
    assert refused("plink1", tmp_path / "cross.vcf.gz", tmp_path).hint == "use source=vcf"
    assert refused("plink1", tmp_path / "cross.pgen", tmp_path).hint == "use source=plink2"
    assert refused("plink2", Path(f"{prefix}.bed"), tmp_path).hint == "use source=plink1"


@pytest.mark.parametrize(("source", "library"), [("plink1", "bed_reader"), ("plink2", "pgenlib")])
def test_the_library_is_not_installed(tmp_path, monkeypatch, source, library):
    monkeypatch.setitem(sys.modules, library, None)
    problem = refused(source, by_hand(tmp_path), tmp_path)
    assert f"the library `{library}`" in problem.message
    assert problem.hint == "pip install 'gpmap-cli[plink]'"
