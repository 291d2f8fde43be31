"""A small whole input of every kind that `gpmap prepare` imports, and the settings that import it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from array_examples import arrays, save
from dataset_examples import example
from deposit_examples import COUNTS, write_deposit

from gpmap_cli.dataset.writer import write_dataset
from gpmap_cli.prepare import sources

# kind -> source, its settings with file names inside the directory, and the programs that make the input
KINDS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "dryad": ("dryad", {"path": "", "loci_per_chromosome": COUNTS}, ()),
    "dryad_separators": ("dryad", {"path": "", "loci_per_chromosome": COUNTS}, ()),
    "arrays_h5": ("arrays", {"path": "raw.h5"}, ()),
    "arrays_npz": ("arrays", {"path": "raw.npz"}, ()),
    "zenodo_split": ("zenodo_split", {"path": "", "environments": ("a", "b", "c")}, ()),
    "dataset": ("dataset", {"path": "data.h5"}, ()),
    "csv": ("csv", {"path": "genotypes.csv", "phenotypes": "phenotypes.csv", "map": "map.csv"}, ()),
    "csv_one_table": ("csv", {"path": "cross.tsv.gz", "genotype_columns": ("locus_*",)}, ()),
    "rqtl2": ("rqtl2", {"path": "cross.json"}, ()),
    "rqtl": ("rqtl", {"path": "cross.csv", "crosstype": "f2"}, ()),
    "variant_strings": ("variant_strings", {"path": "variants.csv"}, ()),
    "plink1": ("plink1", {"path": "cross", "phenotypes": "phenotypes.csv"}, ("plink1.9",)),
    "plink2": ("plink2", {"path": "cross", "phenotypes": "phenotypes.csv"}, ("plink2",)),
    "vcf": ("vcf", {"path": "cross.vcf", "phenotypes": "phenotypes.csv"}, ()),
    "vcf_gz": ("vcf", {"path": "cross.vcf.gz"}, ("bcftools",)),
    "bcf": ("vcf", {"path": "cross.bcf"}, ("bcftools",)),
}
NUM_SAMPLES, NUM_LOCI = 12, 6


def settings_of(kind: str, directory: Path) -> Any:
    """The settings that import the input in the directory."""
    name, values, _ = KINDS[kind]
    files = {"path", "phenotypes", "map"}
    placed = {key: str(directory / value) if key in files else value for key, value in values.items()}
    return sources.settings_class(name)(**placed)


def missing_programs(kind: str) -> list[str]:
    return [program for program in KINDS[kind][2] if shutil.which(program) is None]


def make(kind: str, directory: Path) -> None:
    """Write the whole input."""
    directory.mkdir(parents=True)
    source, options, _ = KINDS[kind]
    if source == "dryad":
        write_deposit(directory, separators=kind == "dryad_separators", compressed=kind == "dryad", parts=2)
    elif source == "arrays":
        save(directory, kind.partition("_")[2], arrays())
    elif source == "zenodo_split":
        rng = np.random.default_rng(0)
        for part, count in (("train", 9), ("val", 3), ("test", 4)):
            np.save(directory / f"geno_{part}.npy", rng.choice([-1.0, 1.0], (count, NUM_LOCI)))
            np.save(directory / f"pheno_{part}.npy", rng.normal(size=(count, 3)))
    elif source == "dataset":
        write_dataset(directory / options["path"], example())
    elif source == "variant_strings":
        _write_variants(directory / options["path"])
    elif source in ("plink1", "plink2", "vcf"):
        _write_vcf(kind, directory)
    else:
        _write_cross(kind, directory)
    if "phenotypes" in options:
        lines = [f"s{row},{row / 7:.3f},{'NA' if row == 4 else row - 3}" for row in range(NUM_SAMPLES)]
        (directory / "phenotypes.csv").write_text("\n".join(["id,growth,size", *lines]) + "\n")


def _calls() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 3, (NUM_SAMPLES, NUM_LOCI))


def _write_variants(path: Path) -> None:
    reference = "MKVLA"
    rows = [f"{reference},0.5"]
    for place, letter in ((0, "A"), (1, "G"), (2, "T"), (4, "S"), (1, "W")):
        rows.append(f"{reference[:place]}{letter}{reference[place + 1 :]},{place / 3:.3f}")
    path.write_text("\n".join(["mutated_sequence,score", *rows]) + "\n")


def _write_vcf(kind: str, directory: Path) -> None:
    names = [f"s{row}" for row in range(NUM_SAMPLES)]
    lines = [
        "##fileformat=VCFv4.2",
        '##FILTER=<ID=PASS,Description="passed">',
        "##contig=<ID=1,length=10000>",
        "##contig=<ID=2,length=10000>",
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *names]),
    ]
    for locus, column in enumerate(_calls().T):
        calls = [("0/0", "0/1", "1/1")[call] for call in column]
        calls[locus] = "./."
        start = [str(1 + locus // 4), str(100 * locus + 5), f"rs{locus}", "A", "G", ".", "PASS", ".", "GT"]
        lines.append("\t".join([*start, *calls]))
    text = directory / "cross.vcf"
    text.write_text("\n".join(lines) + "\n")
    made = {
        "plink1": ["plink1.9", "--vcf", "cross.vcf", "--double-id", "--make-bed", "--out", "cross"],
        "plink2": ["plink2", "--vcf", "cross.vcf", "--make-pgen", "--out", "cross"],
        "vcf_gz": ["bcftools", "view", "-Oz", "-o", "cross.vcf.gz", "cross.vcf"],
        "bcf": ["bcftools", "view", "-Ob", "-o", "cross.bcf", "cross.vcf"],
    }
    if kind in made:
        subprocess.run(made[kind], cwd=directory, check=True, capture_output=True)
        for leftover in (text, directory / "cross.log", directory / "cross.nosex"):
            leftover.unlink(missing_ok=True)


def _write_cross(kind: str, directory: Path) -> None:
    """The same F2 as CSV tables, with an R/qtl2 control file, or as R/qtl's one file."""
    calls = _calls()
    loci = [f"locus_{locus}" for locus in range(NUM_LOCI)]
    chromosomes = [str(1 + locus // 4) for locus in range(NUM_LOCI)]
    letters = np.array(["A", "H", "B"])[calls]
    letters[3, 2] = "-"

    def table(name: str, header: list[str], rows: list[list[str]], mark: str = ",") -> None:
        (directory / name).write_text("\n".join(mark.join(row) for row in [header, *rows]) + "\n")

    numbers = [[f"s{row}", *map(str, calls[row])] for row in range(NUM_SAMPLES)]
    traits = [[f"s{row}", f"{row / 7:.3f}"] for row in range(NUM_SAMPLES)]
    if kind == "csv":
        table("genotypes.csv", ["id", *loci], numbers)
        places = [[name, chromosomes[locus], str(100 * locus)] for locus, name in enumerate(loci)]
        table("map.csv", ["locus", "chromosome", "position"], places)
    elif kind == "csv_one_table":
        import gzip

        both = [[*row, trait] for row, (_, trait) in zip(numbers, traits, strict=True)]
        lines = ["\t".join(row) for row in [["id", *loci, "growth"], *both]]
        (directory / "cross.tsv.gz").write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    elif kind == "rqtl2":
        table("geno.csv", ["id", *loci], [[f"s{row}", *letters[row]] for row in range(NUM_SAMPLES)])
        table("pheno.csv", ["id", "growth"], traits)
        table("gmap.csv", ["marker", "chr", "pos"], [[n, chromosomes[i], str(3 * i)] for i, n in enumerate(loci)])
        control = {
            "crosstype": "f2",
            "geno": "geno.csv",
            "pheno": "pheno.csv",
            "gmap": "gmap.csv",
            "alleles": ["A", "B"],
            "genotypes": {"A": 1, "H": 2, "B": 3},
            "na.strings": ["-", "NA"],
        }
        (directory / "cross.json").write_text(json.dumps(control, indent=1))
    else:
        rows = [["", *chromosomes], ["", *(str(3 * locus) for locus in range(NUM_LOCI))]]
        rows += [[f"{row / 7:.3f}", *letters[row]] for row in range(NUM_SAMPLES)]
        table("cross.csv", ["growth", *loci], rows)
