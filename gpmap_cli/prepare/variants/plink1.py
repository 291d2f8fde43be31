"""Reading a PLINK 1 fileset: hard calls in .bed, variants in .bim, samples (and one phenotype) in .fam.

A .bed file stores, for each variant, how many of the two alleles of a sample are A1, column 5 of the .bim file. That
is the allele counted here (as by `plink --recode A`), and so the alternative allele of the dataset. A1 is the
alternative allele where PLINK 2 wrote the files (`plink2 --make-bed`) or PLINK 1 was told `--keep-allele-order`;
otherwise PLINK 1 makes A1 the rarer allele *of the samples at hand*, be it the reference or not. So two filesets of
one cross may count different alleles at a locus of the same id: make both with either of the two, or import the VCF.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.hdf5 import refuse_what_cannot_fit
from gpmap_cli.errors import InputError
from gpmap_cli.prepare.sources.plink1 import Settings
from gpmap_cli.prepare.variants.allele_copies import AlleleCopies
from gpmap_cli.prepare.variants.genotyped import Genotyped, library
from gpmap_cli.prepare.variants.locus_major import LocusMajor
from gpmap_cli.prepare.variants.locus_names import Loci
from gpmap_cli.prepare.variants.plink_samples import own_phenotypes, read_fam, sample_ids
from gpmap_cli.prepare.variants.plink_variants import fileset, read_bim
from gpmap_cli.progress import Progress, no_progress

_MAGIC = b"\x6c\x1b"
_HEADER = 3
_SUFFIXES = (".bed", ".bim", ".fam")


def read_plink1(settings: Settings, progress: Progress = no_progress) -> Genotyped:
    """Copies of the counted allele (N, L) int8, -1 missing, of a fileset's samples and variants."""
    assert settings.path is not None
    bed_reader = library("bed_reader", "plink")
    bed, bim, fam = fileset(settings.path, _SUFFIXES, "PLINK 1")
    samples, variants = read_fam(fam), read_bim(bim)
    ids, lines = sample_ids(samples)
    phenotypes = own_phenotypes(samples, ids, settings)
    _check_bed(bed, len(ids), len(variants))
    kept, about_kept = variants.kept()
    refuse_what_cannot_fit(f"{bed}: the genotypes", len(ids) * len(kept))
    copies = AlleleCopies(settings.ploidy, found=2)
    genotypes = LocusMajor(bed, len(ids))
    step = genotypes.num_loci_of_a_block
    counts_a1 = settings.counted_allele == "a1"
    # The counts keep the library from reading the texts beside the .bed file by itself.
    with (
        bed_reader.open_bed(bed, iid_count=len(ids), sid_count=len(variants), count_A1=counts_a1) as reader,
        progress(f"reading {bed.name}", len(kept), "loci") as advance,
    ):
        for start in range(0, len(kept), step):
            block = reader.read(np.s_[:, kept[start : start + step]], dtype="int8", order="F")
            genotypes.append_block(copies.of_diploid_counts(block.T))
            advance(block.shape[1])
    loci = Loci()
    for number in kept:
        a1, a2 = ",".join(variants.alternatives[number]), variants.references[number]
        reference, alternative = (a2, a1) if counts_a1 else (a1, a2)
        loci.add(variants.chromosomes[number], variants.positions[number], variants.ids[number], reference, alternative)
    counted = "A1 (column 5 of the .bim file)" if counts_a1 else "A2 (column 6 of the .bim file)"
    said = f"{bed.name}: PLINK 1, {len(ids)} samples, {len(variants)} variants; genotypes count {counted}"
    lines = [said, *about_kept, *lines, *copies.lines()]
    return Genotyped((bed, bim, fam), ids, loci, genotypes, copies.ploidy, phenotypes, lines)


def _check_bed(path: Path, num_samples: int, num_variants: int) -> None:
    """Refuse a .bed file that is none, or not of these samples and variants."""
    with path.open("rb") as stream:
        head = stream.read(_HEADER)
    size = path.stat().st_size
    if head[:2] != _MAGIC or len(head) < _HEADER:
        raise InputError(
            f"{path}: not a PLINK 1 .bed file (it begins with `{head.hex(' ')}`, not `6c 1b 01`)",
            "a .bed file of genome intervals, which other tools write, holds no genotypes",
        )
    if head[2] != 1:
        what = "a PLINK 2 file" if head[2] > 1 else "sample by sample, as very old PLINK wrote it"
        hint = "use source=plink2" if head[2] > 1 else "rewrite it: plink1.9 --bfile PREFIX --make-bed --out NEW"
        raise InputError(f"{path}: byte 2 says `{head[2]:02x}`: {what}", hint)
    variant_bytes = -(-num_samples // 4)
    expected = _HEADER + variant_bytes * num_variants
    if size != expected:
        raise InputError(
            f"{path}: {size} bytes; {num_samples} samples (.fam) at {num_variants} variants (.bim) take {expected}",
            "the file is truncated, or the three files are not of one fileset",
        )
    _check_last_samples(path, num_samples, variant_bytes)


def _check_last_samples(path: Path, num_samples: int, variant_bytes: int) -> None:
    """Refuse genotypes beyond the last sample: each variant fills up its last byte with zero bits.

    The size of the file cannot tell 9 samples from 12; this can, nearly always.
    """
    num_used = num_samples % 4
    if not num_used:
        return
    last: NDArray[np.uint8] = np.memmap(path, np.uint8, "r", _HEADER)[variant_bytes - 1 :: variant_bytes]
    beyond = last >> (2 * num_used)
    if beyond.any():
        variant = int(np.argmax(beyond > 0))
        at = _HEADER + (variant + 1) * variant_bytes - 1
        raise InputError(
            f"{path}: byte {at} (variant {variant + 1}) holds genotypes beyond the {num_samples} samples (.fam)",
            "the .fam file lacks samples, or the .bed file is damaged",
        )
