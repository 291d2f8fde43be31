"""VCF and BCF that are truncated, damaged or no such files: refused with the line or the record that is wrong."""

from __future__ import annotations

import gzip
import sys
from contextlib import contextmanager

import pytest
from variant_examples import Record, cross, needs, prepared, refused, saved_vcf, tool, vcf_text

from gpmap_cli.prepare.sources.vcf import Settings
from gpmap_cli.prepare.variants.vcf import read_vcf

KINDS = ["vcf", "vcf.gz", "bcf"]


@needs("bcftools")
@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files(tmp_path, kind):
    path = saved_vcf(tmp_path, cross(several=True), kind)
    contents = path.read_bytes()
    # Of a text, every end but that of a line is refused; a whole number of records cannot be told from a whole file.
    for length in [*range(0, len(contents), len(contents) // 30), len(contents) - 1]:
        path.write_bytes(contents[:length])
        if kind == "vcf" and contents[:length].endswith(b"\n") and b"#CHROM" in contents[:length]:
            continue
        assert str(path) in refused("vcf", path, tmp_path).message, length


@needs("bgzip")
def test_a_compressed_file_without_its_last_block(tmp_path):
    """Which htslib reads without a word, though records may be missing."""
    saved_vcf(tmp_path, cross())
    tool(tmp_path, "bgzip", "cross.vcf")
    path = tmp_path / "cross.vcf.gz"
    path.write_bytes(path.read_bytes()[:-28])
    assert "the file is truncated (the block that ends it is not there)" in refused("vcf", path, tmp_path).message


def test_a_plain_gzip_file(tmp_path):
    """No blocks, as gzip itself writes it."""
    path = tmp_path / "cross.vcf.gz"
    path.write_bytes(gzip.compress(vcf_text(cross()).encode()))
    assert prepared("vcf", path, tmp_path)[0].num_loci == 24
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    assert "the compressed file is damaged" in refused("vcf", path, tmp_path).message


def test_windows_line_ends(tmp_path):
    path = tmp_path / "cross.vcf"
    path.write_bytes(vcf_text(cross()).replace("\n", "\r\n").encode())
    dataset, _ = prepared("vcf", path, tmp_path)
    assert (dataset.num_loci, dataset.sample_ids[-1]) == (24, "s12")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\t0/1\n", "\t0/1", ":12: the last line does not end"),
        ("\t0/1\n", "\t0/1\n\n", ":13: 1 columns, and the header has 11"),
        ("\t0/1\n", "\n", ":12: 10 columns, and the header has 11"),
        ("\t0/1\n", "\t0/1\t0/1\n", ":12: 12 columns, and the header has 11"),
        ("\t0/1\n", "\t0/x\n", ":12: the record cannot be read"),
        ("\t0/1\n", "\t\n", ":12: the record cannot be read"),
        ("\t0/1\n", "\t0/1:5\n", ":12: the record cannot be read"),
        ("\t0/1\n", "\t0/7\n", ":12 (1:7): the call of sample 2 has allele 7, and there are 1 alternative alleles"),
        ("\t0/1\n", "\t0/1\n2\t8", ":13: the last line does not end"),
        ("1\t7", "1\tx", ":12: `x` is not a position"),
        ("1\t7", "1\t99999999999999", ":12: `99999999999999` is not a position"),
        ("1\t7", "1\t-7", ":12: `-7` is not a position"),
        ("1\t7", "\t7", ":12: a chromosome or an allele is empty"),
        ("A\tC", "A\tC,", ":12: a chromosome or an allele is empty"),
        ("here", "h\0re", ":12: a zero byte in a line of text"),
        ("here", "h\udcffre", ":12: not UTF-8 text at byte 5 of the line"),
        ("s1\n", "s\udcff\n", ":11: not UTF-8 text"),
        ("s1\n", "s0\n", ":11: the sample `s0` is there twice"),
        ("s0\ts1\n", "s0\t\n", ":11: a sample has no id"),
        ("POS", "position", ":11: not the columns of a VCF file"),
        ("\tFORMAT\ts0\ts1\n", "\n", ":11: no samples"),
        ("##fileformat=VCF", "##fileformat=XYZ", ": neither VCF nor BCF"),
        ("#CHROM", "CHROM", ": line 11 is no header line before there is a line that begins with `#CHROM`"),
        ("GT,Number=1,Type=String", "GT,Number=1,Type=Integer", ":12: the record cannot be read"),
    ],
)
def test_texts_that_are_refused(tmp_path, old, new, message):
    text = vcf_text([Record(["1/1", "0/1"], position=7, id="here")])
    assert text.count(old) >= 1
    path = tmp_path / "cross.vcf"
    path.write_bytes(text.replace(old, new, 1).encode("utf-8", "surrogateescape"))
    assert refused("vcf", path, tmp_path).message.startswith(f"{path}{message}")


def test_files_that_are_no_vcf(tmp_path):
    assert "no such file" in refused("vcf", tmp_path / "none.vcf", tmp_path).message
    assert "directory" in refused("vcf", tmp_path, tmp_path).message
    for contents in (b"", b"PK\x03\x04", b"##fileformat=VCFv4.2\n", b"\x1f\x8b", gzip.compress(b"")):
        (tmp_path / "other.vcf").write_bytes(contents)
        assert str(tmp_path / "other.vcf") in refused("vcf", tmp_path / "other.vcf", tmp_path).message


@needs("bcftools")
def test_damaged_bcf(tmp_path):
    """Records that are cut short or are of other samples, in a file whose blocks are whole."""
    path = saved_vcf(tmp_path, cross(), "bcf")
    whole = gzip.decompress(path.read_bytes())
    first = 9 + int.from_bytes(whole[5:9], "little")  # where the header ends
    for contents, message in (
        (whole[:-5], "record 24 is cut short"),
        (whole[: first + 3], "record 1 is cut short"),
        (whole[: first + 28] + b"\x07" + whole[first + 29 :], "record 1 has 7 samples, and the header 13"),
        (whole[:200], "the header is"),
    ):
        path.write_bytes(gzip.compress(contents))
        assert message in refused("vcf", path, tmp_path).message
    path.write_bytes(whole)
    assert "uncompressed BCF" in refused("vcf", path, tmp_path).message


def test_a_library_that_stops_early(tmp_path, monkeypatch):
    """Records are counted before, and so one that the library leaves out is noticed."""
    import cyvcf2

    class Stopping(cyvcf2.VCF):
        def __iter__(self):
            return iter([next(super().__iter__())])

    path = saved_vcf(tmp_path, cross())
    monkeypatch.setattr(cyvcf2, "VCF", Stopping)
    assert ":13: the library stops before this record, of 24" in refused("vcf", path, tmp_path).message


def test_the_library_is_not_installed(tmp_path, monkeypatch):
    path = saved_vcf(tmp_path, cross())
    monkeypatch.setitem(sys.modules, "cyvcf2", None)
    assert refused("vcf", path, tmp_path).hint == "pip install 'gpmap-cli[vcf]'"


@needs("bgzip")
def test_progress_reaches_the_end(tmp_path):
    """Of the bytes that are checked, and of the records that are read."""
    path = saved_vcf(tmp_path, cross())
    tool(tmp_path, "bgzip", "cross.vcf")
    path = tmp_path / "cross.vcf.gz"
    told = []

    @contextmanager
    def progress(description, total, unit):
        done = []
        yield done.append
        told.append((description, total, sum(done), unit))

    read_vcf(Settings(path=str(path)), progress)
    size = path.stat().st_size
    assert told == [("checking cross.vcf.gz", size, size, "B"), ("reading cross.vcf.gz", 24, 24, "records")]
