"""Variants of a small cross as VCF text, the tools that convert it, and what those tools say is in it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, replace

import numpy as np
import pytest

from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.errors import InputError
from gpmap_cli.prepare import sources
from gpmap_cli.prepare.job import Job

HEADER = """\
##fileformat=VCFv4.2
##FILTER=<ID=PASS,Description="All filters passed">
##FILTER=<ID=q10,Description="Quality below 10">
##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
##FORMAT=<ID=DS,Number=A,Type=Float,Description="Dosage">
##FORMAT=<ID=GP,Number=G,Type=Float,Description="Probabilities">
##contig=<ID=1,length=100000>
##contig=<ID=2,length=100000>
##contig=<ID=X,length=100000>
"""


def needs(*tools):
    """A mark for tests against the real tools: skips, visibly, where one is not installed."""
    absent = [tool for tool in tools if shutil.which(tool) is None]
    return pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)}")


def tool(directory, *words):
    """Run a tool; gives what it prints."""
    result = subprocess.run(list(map(str, words)), cwd=directory, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@dataclass(frozen=True)
class Record:
    """One line of a VCF file; `cells` holds the samples' columns."""

    cells: list[str]
    chromosome: str = "1"
    position: int = 1
    id: str = "."
    reference: str = "A"
    alternatives: str = "C"
    filter: str = "PASS"
    format: str = "GT"

    def line(self):
        fixed = (self.chromosome, self.position, self.id, self.reference, self.alternatives, ".", self.filter, ".")
        return "\t".join([*map(str, fixed), self.format, *self.cells]) + "\n"


def samples(count):
    return [f"s{number}" for number in range(count)]


def vcf_text(records, ids=None, header=HEADER):
    """A VCF file."""
    ids = samples(len(records[0].cells)) if ids is None else ids
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *ids]
    return header + "\t".join(columns) + "\n" + "".join(record.line() for record in records)


def cross(num_samples=13, num_records=24, several=False, missing=0.1, seed=0):
    """Diploid calls on three chromosomes, some phased, some missing; with `several`, up to 3 alternative alleles."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(num_records):
        alternatives = ["C", "C,G", "CT,G,T"][number % 3 if several else 0]
        num_alleles = alternatives.count(",") + 2
        # Among the records are some in which the alternative allele is the common one.
        shares = rng.dirichlet(np.ones(num_alleles))
        calls = rng.choice(num_alleles, (num_samples, 2), p=shares)
        cells = [f"{a}|{b}" if number % 4 == 1 else f"{min(a, b)}/{max(a, b)}" for a, b in calls]
        cells = ["./." if rng.random() < missing else cell for cell in cells]
        chromosome = ["1", "2", "X"][3 * number // num_records]
        found.append(Record(cells, chromosome, 10 * number + 10, f"v{number}", alternatives=alternatives))
    return found


def copies(cell, allele):
    """Copies of an allele in a call as VCF writes it; NaN where any allele of it is unknown."""
    alleles = cell.replace("|", "/").split("/")
    return np.nan if "." in alleles else alleles.count(str(allele))


def with_values(record, values, name="DS"):
    """The record with a second field."""
    cells = [f"{cell}:{value}" for cell, value in zip(record.cells, values, strict=True)]
    return replace(record, cells=cells, format=f"{record.format}:{name}")


def prepared(source, path, directory, **settings):
    """Import; gives the dataset and the lines that are said about it."""
    module, out = sources.module(source), directory / "prepared.h5"
    lines = module.prepare(module.Settings(path=str(path), **settings), Job(str(out), overwrite=True))
    with DatasetFile(out) as file:
        return file.load(), lines


def refused(source, path, directory, **settings):
    """The problem that an import is refused with, of which nothing is left behind."""
    before = sorted(directory.rglob("*"))
    module = sources.module(source)
    with pytest.raises(InputError) as trouble:
        module.prepare(module.Settings(path=str(path), **settings), Job(str(directory / "refused.h5")))
    assert sorted(directory.rglob("*")) == before
    [problem] = trouble.value.problems
    assert problem.hint
    return problem


def known(genotypes):
    """Genotypes as numbers, NaN where missing."""
    numbers = genotypes.astype(np.float64)
    return np.where(numbers < 0, np.nan, numbers) if genotypes.dtype.kind == "i" else numbers


def exported(path):
    """What PLINK wrote with --recode A or --export A: sample ids, phenotypes, locus names, copies (N, L)."""
    header, *rows = [line.split() for line in path.read_text().splitlines()]
    values = [[np.nan if cell == "NA" else float(cell) for cell in row[6:]] for row in rows]
    return [row[1] for row in rows], [float(row[5]) for row in rows], header[6:], np.array(values)


def alternative_counts(records):
    """Copies (N, L) of every alternative allele, from the text of the calls."""
    return np.array(
        [
            [copies(cell, number + 1) for cell in record.cells]
            for record in records
            for number in range(record.alternatives.count(",") + 1)
        ]
    ).T


def saved_vcf(directory, records, kind="vcf", **options):
    """A VCF file of a kind."""
    text = directory / "cross.vcf"
    text.write_text(vcf_text(records, **options))
    if kind == "vcf":
        return text
    path = directory / f"cross.{kind}"
    tool(directory, "bcftools", "view", "--no-version", "-Ob" if kind == "bcf" else "-Oz", "-o", path, text)
    return path
