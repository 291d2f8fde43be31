"""Reading a PLINK 2 fileset: hard calls or dosages in .pgen, variants in .pvar, samples and phenotypes in .psam.

What is counted are copies of the alternative alleles: those in the column ALT of the .pvar file, one locus for each.
A file in which any variant has dosages is read as dosages throughout; where a sample has none, its hard call stands.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import MISSING
from gpmap_cli.dataset.hdf5 import refuse_what_cannot_fit
from gpmap_cli.errors import InputError, listing, one_line
from gpmap_cli.prepare.sources.plink2 import Settings
from gpmap_cli.prepare.variants.allele_copies import NO_VARIANTS, UNKNOWN, AlleleCopies
from gpmap_cli.prepare.variants.genotyped import Genotyped, library
from gpmap_cli.prepare.variants.locus_major import LocusMajor
from gpmap_cli.prepare.variants.locus_names import Loci
from gpmap_cli.prepare.variants.pgen_layout import PgenLayout, read_layout
from gpmap_cli.prepare.variants.plink_samples import own_phenotypes, read_psam, sample_ids
from gpmap_cli.prepare.variants.plink_variants import Variants, fileset, read_pvar
from gpmap_cli.progress import Progress, no_progress

_NONE = ("", ".", "0", *NO_VARIANTS)  # in the place of an alternative allele: no locus


def read_plink2(settings: Settings, progress: Progress = no_progress) -> Genotyped:
    """Copies of each alternative allele (N, L), int8 or float16/float32 dosages, of the samples of a fileset."""
    assert settings.path is not None
    pgenlib = library("pgenlib", "plink")
    files = _files(settings.path)
    pgen, pvar, psam = files
    layout = read_layout(pgen)
    samples = read_psam(psam)
    ids, lines = sample_ids(samples)
    variants = _compressed_variants(pvar, pgenlib) if pvar.suffix == ".zst" else read_pvar(pvar)
    _check_counts(pgen, layout, variants, len(ids))
    phenotypes = own_phenotypes(samples, ids, settings)
    kept, about_kept = variants.kept()
    if layout.has_dosage.any():
        num_dosages = int(layout.has_dosage.sum())
        lines.append(f"variants with dosages: {num_dosages}; hard calls of the others are read as dosages")
    reading = _Reading(pgen, layout, variants, AlleleCopies(settings.ploidy, found=2))
    reading.read(pgenlib, kept, progress)
    said = f"{pgen.name}: PLINK 2, {len(ids)} samples, {len(variants)} variants"
    lines = [said, *about_kept, *lines, *reading.lines(kept)]
    return Genotyped(files, ids, reading.loci, reading.genotypes, reading.copies.ploidy, phenotypes, lines)


class _Reading:
    """The genotypes of a .pgen file, variant by variant."""

    def __init__(self, path: Path, layout: PgenLayout, variants: Variants, copies: AlleleCopies) -> None:
        self.path, self.layout, self.variants, self.copies = path, layout, variants, copies
        self.has_dosages = bool(layout.has_dosage.any())
        self.genotypes = LocusMajor(path, layout.num_samples, self.has_dosages)
        self.loci = Loci()

    def read(self, pgenlib: Any, kept: list[int], progress: Progress) -> None:
        counts = [len(alternatives) for alternatives in self.variants.alternatives]
        num_loci = sum(counts[number] for number in kept)
        itemsize = 4 if self.has_dosages else 1
        refuse_what_cannot_fit(f"{self.path}: the genotypes", num_loci * self.layout.num_samples * itemsize)
        # Without these the library takes every variant for one of two alleles, and says nothing.
        offsets = np.concatenate([[0], np.cumsum(np.array(counts) + 1)]).astype(np.uintp)
        try:
            reader = pgenlib.PgenReader(
                os.fsencode(self.path),
                raw_sample_ct=self.layout.num_samples,
                variant_ct=self.layout.num_variants,
                allele_idx_offsets=offsets,
            )
        except Exception as trouble:  # the library raises RuntimeError and MemoryError, by its version
            raise InputError(f"{self.path}: cannot be opened ({_said(trouble)})", "get an undamaged copy") from trouble
        with reader, progress(f"reading {self.path.name}", len(kept), "variants") as advance:
            for number in kept:
                if self._alternatives(number):
                    self._read_variant(reader, number)
                advance(1)

    def _read_variant(self, reader: Any, number: int) -> None:
        num_alternatives = len(self.variants.alternatives[number])
        given = self.variants.ids[number]
        try:
            if num_alternatives == 1:
                self._read_one_alternative(reader, number)
            else:
                self._read_calls(reader, number)
        except InputError:
            raise
        except Exception as trouble:
            what = f"{self._where(number)} cannot be read ({_said(trouble)})"
            raise InputError(what, "get an undamaged copy") from trouble
        for _, alternative in self._alternatives(number):
            self.loci.add(
                self.variants.chromosomes[number],
                self.variants.positions[number],
                f"{given}_{alternative}" if given and num_alternatives > 1 else given,
                self.variants.references[number],
                alternative,
            )

    def _read_one_alternative(self, reader: Any, number: int) -> None:
        room = self.genotypes.next_locus()
        if not self.has_dosages:
            reader.read(number, room)
            room[:] = self.copies.of_diploid_counts(room)
        elif not self.layout.has_dosage[number]:
            calls = np.empty(self.layout.num_samples, np.int8)
            reader.read(number, calls)
            room[:] = _as_dosages(self.copies.of_diploid_counts(calls))
        else:
            reader.read_dosages(number, room)
            room[room < 0] = np.nan
            if not (np.isnan(room) | (room <= 2)).all():
                raise InputError(f"{self._where(number)} has a dosage above 2", "get an undamaged copy")
            room *= self.copies.ploidy / 2
        self.genotypes.keep()

    def _read_calls(self, reader: Any, number: int) -> None:
        if self.layout.has_dosage[number]:
            raise InputError(
                f"{self._where(number)} has dosages of several alternative alleles, which the library does not read",
                "split such variants into several, or erase the dosages (plink2 --make-pgen erase-dosage)",
            )
        alleles = np.empty(2 * self.layout.num_samples, np.int32)
        reader.read_alleles(number, alleles)
        alleles[alleles < 0] = UNKNOWN
        num_alternatives = len(self.variants.alternatives[number])
        copies = self.copies.of_calls(alleles.reshape(-1, 2), num_alternatives, lambda: self._where(number))
        for place, _ in self._alternatives(number):
            self.genotypes.append(_as_dosages(copies[place]) if self.has_dosages else copies[place])

    def _alternatives(self, number: int) -> list[tuple[int, str]]:
        """The alternative alleles of a variant that become loci, each with its place among all of them."""
        return [pair for pair in enumerate(self.variants.alternatives[number]) if pair[1] not in _NONE]

    def _where(self, number: int) -> str:
        return f"{self.path}: {self.variants.called(number)}"

    def lines(self, kept: list[int]) -> list[str]:
        """What became of the variants."""
        said = self.copies.lines()
        several = [number for number in kept if len(self.variants.alternatives[number]) > 1]
        if several:
            num_loci = sum(len(self._alternatives(number)) for number in several)
            said.append(f"multiallelic variants: {len(several)}, with a locus for each alternative allele: {num_loci}")
        num_without = sum(not self._alternatives(number) for number in kept)
        if num_without:
            said.append(f"left out {num_without} variants without an alternative allele")
        num_placeholders = sum(
            allele in NO_VARIANTS for number in several for allele in self.variants.alternatives[number]
        )
        if num_placeholders:
            said.append(f"left out {num_placeholders} alleles of multiallelic variants that are {listing(NO_VARIANTS)}")
        return said


def _files(path: str) -> tuple[Path, Path, Path]:
    """The .pgen, .pvar (or .pvar.zst) and .psam file of a fileset."""
    suffixes = (".pgen", ".pvar", ".psam")
    prefix = next((path.removesuffix(end) for end in (*suffixes, ".pvar.zst") if path.endswith(end)), path)
    compressed = not Path(f"{prefix}.pvar").exists() and Path(f"{prefix}.pvar.zst").exists()
    chosen = (".pgen", ".pvar.zst" if compressed else ".pvar", ".psam")
    pgen, pvar, psam = fileset(prefix if prefix != path else path, chosen, "PLINK 2")
    return pgen, pvar, psam


def _compressed_variants(path: Path, pgenlib: Any) -> Variants:
    """The variants in a .pvar.zst file, which the library can decompress."""
    try:
        reader = pgenlib.PvarReader(os.fsencode(path))
        numbers = range(reader.get_variant_ct())
        alleles = [
            [reader.get_allele_code(number, allele).decode() for allele in range(reader.get_allele_ct(number))]
            for number in numbers
        ]
        ids = [reader.get_variant_id(number).decode() for number in numbers]
        return Variants(
            path,
            [reader.get_variant_chrom(number).decode() for number in numbers],
            [int(reader.get_variant_pos(number)) for number in numbers],
            ["" if one == "." else one for one in ids],
            [reference for reference, *_ in alleles],
            [alternatives for _, *alternatives in alleles],
        )
    except Exception as trouble:  # RuntimeError from the library, AttributeError from an old one, no UTF-8
        raise InputError(
            f"{path}: cannot be decompressed and read ({_said(trouble)})",
            f"decompress it first: zstd -d {path.name}",
        ) from trouble


def _check_counts(path: Path, layout: PgenLayout, variants: Variants, num_samples: int) -> None:
    """Refuse files that are not of one fileset."""
    for what, count, other in (
        ("variants", layout.num_variants, len(variants)),
        ("samples", layout.num_samples, num_samples),
    ):
        if count != other:
            beside = "the .pvar file" if what == "variants" else "the .psam file"
            raise InputError(
                f"{path}: {count} {what}, where {beside} has {other}",
                "the three files are not of one fileset, or one is truncated",
            )
    has_one = np.array([len(alternatives) == 1 for alternatives in variants.alternatives])
    wrong = layout.has_other_alternatives & has_one
    if wrong.any():
        number = int(np.argmax(wrong))
        raise InputError(
            f"{path}: {variants.called(number)} has calls of several alternative alleles, and one in the .pvar file",
            "the files are not of one fileset, or one is damaged",
        )


def _as_dosages(counts: NDArray[np.int8]) -> NDArray[np.float32]:
    return np.where(counts == MISSING, np.nan, counts).astype(np.float32)


def _said(trouble: Exception) -> str:
    """What the library says, which comes as bytes."""
    said = trouble.args[0] if trouble.args else type(trouble).__name__
    return one_line(said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said), 200)
