"""Reading VCF or BCF: genotype calls, dosages or genotype probabilities at variants with any number of alleles.

Each alternative allele of a record becomes a locus. field=GT: the copies of the allele in each call. field=DS: the
alternative allele's dosage as it stands. field=GP: the expected number of copies,

    dosage_a = sum over genotypes g of P(g) * (copies of a in g) / sum over genotypes of P(g),

with genotypes in the order of the VCF specification (0/0, 0/1, 1/1, 0/2, 1/2, 2/2, ...).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.errors import InputError, one_line
from gpmap_cli.prepare.sources.vcf import Settings
from gpmap_cli.prepare.tables.text_table import shown
from gpmap_cli.prepare.variants.allele_copies import NO_VARIANTS, AlleleCopies
from gpmap_cli.prepare.variants.genotyped import Genotyped, library
from gpmap_cli.prepare.variants.locus_major import LocusMajor
from gpmap_cli.prepare.variants.locus_names import Loci
from gpmap_cli.prepare.variants.vcf_scan import VcfScan, scan
from gpmap_cli.progress import Progress, no_progress

_ROUNDING = 0.001  # that a dosage may exceed its range by
_SUM_ROUNDING = 0.05  # that the probabilities of a call may sum to other than 1 by
_HTSLIB_ERRORS_ONLY = 1


def read_vcf(settings: Settings, progress: Progress = no_progress) -> Genotyped:
    """Copies or dosages of each alternative allele (N, L), int8 or float16/float32, of the samples of a file."""
    assert settings.path is not None
    cyvcf2 = library("cyvcf2", "vcf")
    path = Path(settings.path)
    found = scan(path, progress)
    reading = _Reading(settings, found)
    with _quiet(cyvcf2), progress(f"reading {path.name}", found.num_records, "records") as advance:
        for record in _records(cyvcf2, found, settings.field):
            reading.take(record)
            advance(1)
    size = f"{len(found.sample_ids)} samples, {found.num_records} records"
    lines = [f"{path.name}: {found.kind}, {size}, field {settings.field}", *reading.lines()]
    return Genotyped((path,), found.sample_ids, reading.loci, reading.genotypes, reading.copies.ploidy, None, lines)


@dataclass(frozen=True)
class _Record:
    """What is used of a record: alleles of calls (N, P), values (N, K) of DS or GP; None where it has no such field."""

    number: int  # from 1
    chromosome: str
    position: int
    id: str
    reference: str
    alternatives: list[str]
    failed: bool
    calls: NDArray[np.int16] | None
    values: NDArray | None


def _records(cyvcf2: Any, found: VcfScan, name: str) -> Iterator[_Record]:
    """All records of the file; what the library raises, or leaves out, becomes a refusal."""
    number = 0
    try:  # the library raises OSError and bare Exceptions
        vcf = cyvcf2.VCF(str(found.path))
        samples = list(vcf.samples)
    except Exception as trouble:
        what = f"{found.path}: its header cannot be read ({_said(trouble)})"
        raise InputError(what, "get an undamaged copy") from trouble
    if samples != found.sample_ids:
        raise InputError(f"{found.path}: the samples in its header are read in two ways", "get an undamaged copy")
    variants = iter(vcf)
    while True:
        try:
            variant = next(variants, None)
            record = None if variant is None else _extracted(variant, number + 1, name)
        except Exception as trouble:
            raise InputError(
                f"{found.where(number + 1)}: the record cannot be read ({_said(trouble)})",
                "check its FORMAT column and its samples, for instance with bcftools view",
            ) from trouble
        if record is None:
            break
        number += 1
        yield record
    vcf.close()
    if number != found.num_records:
        raise InputError(
            f"{found.where(number + 1)}: the library stops before this record, of {found.num_records}",
            "get an undamaged copy",
        )


def _extracted(variant: Any, number: int, name: str) -> _Record:
    fields = variant.FORMAT
    has_calls = "GT" in fields
    return _Record(
        number,
        variant.CHROM,
        variant.POS,
        variant.ID or "",
        variant.REF,
        variant.ALT,
        variant.FILTER is not None,
        variant.genotype.array()[:, :-1] if has_calls else None,  # its last column tells phased calls
        variant.format(name) if name != "GT" and name in fields else None,
    )


@dataclass
class _Reading:
    """The genotypes so far, and what was left out."""

    settings: Settings
    found: VcfScan
    loci: Loci = field(default_factory=Loci)
    num_failed: int = 0  # a filter: left out, or imported all the same
    num_monomorphic: int = 0
    num_without_field: int = 0
    num_no_variants: int = 0
    num_symbolic: int = 0
    num_multiallelic: int = 0
    num_loci_of_multiallelic: int = 0

    def __post_init__(self) -> None:
        self.copies = AlleleCopies(self.settings.ploidy)
        dosages = self.settings.field != "GT"
        self.genotypes = LocusMajor(self.found.path, len(self.found.sample_ids), dosages)

    def take(self, record: _Record) -> None:
        """Add the loci of a record."""
        kept = [pair for pair in enumerate(record.alternatives) if pair[1] not in NO_VARIANTS]
        if self.settings.pass_only and record.failed:
            self.num_failed += 1
        elif not record.alternatives:
            self.num_monomorphic += 1
        elif (record.calls if self.settings.field == "GT" else record.values) is None:
            self.num_without_field += 1
        else:
            self.num_failed += record.failed and bool(kept)
            self.num_no_variants += len(record.alternatives) - len(kept)
            if len(record.alternatives) > 1:
                self.num_multiallelic += 1
                self.num_loci_of_multiallelic += len(kept)
            counts = self._counts(record)
            for place, alternative in kept:
                self._add(record, alternative, counts[place])

    def _add(self, record: _Record, alternative: str, genotypes: NDArray) -> None:
        given = record.id
        if given and len(record.alternatives) > 1:
            given = f"{given}_{alternative}"
        self.num_symbolic += alternative.startswith("<")
        self.loci.add(record.chromosome, record.position, given, record.reference, alternative)
        self.genotypes.append(genotypes)

    def _counts(self, record: _Record) -> NDArray:
        """Copies or dosages (A, N) of each alternative allele of the record."""

        def where() -> str:
            return f"{self.found.where(record.number)} ({record.chromosome}:{record.position})"

        num_alternatives = len(record.alternatives)
        if record.values is None:
            assert record.calls is not None
            return self.copies.of_calls(record.calls, num_alternatives, where)
        if record.values.dtype.kind not in "fi":
            raise self._wrong(where(), "are texts, by the header", "declare them as Type=Float in the header")
        values = record.values.astype(np.float64)
        if record.values.dtype.kind == "i":
            values[record.values == np.iinfo(np.int32).min] = np.nan
        if self.settings.field == "DS":
            dosages, ploidies = self._from_dosages(values, record, where())
        else:
            dosages, ploidies = self._from_probabilities(values, num_alternatives, where())
        return self.copies.of_dosages(dosages, ploidies, where)

    def _from_dosages(self, values: NDArray, record: _Record, where: str) -> tuple[NDArray, NDArray]:
        """Dosages (A, N), and the ploidies (N,) at which they stand: those of the calls beside them."""
        shape = (len(values), len(record.alternatives))
        if values.shape != shape:
            if not np.isnan(values).all():
                raise self._wrong(
                    where, f"are {values.shape[1]} for {shape[1]} alternative alleles", "there is one for each allele"
                )
            values = np.full(shape, np.nan)
        usual = self.copies.wanted or self.copies.found or 2
        if record.calls is None:
            ploidies = np.full(shape[0], usual)
        else:
            ploidies, is_missing = self.copies.ploidies(record.calls)
            known = ploidies[~is_missing]
            ploidies = np.where(is_missing, known.max() if known.size else usual, ploidies)
        limit = ploidies[:, None]
        self._refuse_outside((values < -_ROUNDING) | (values > limit + _ROUNDING), values, where)
        return np.clip(values, 0, limit).T, ploidies

    def _from_probabilities(self, values: NDArray, num_alternatives: int, where: str) -> tuple[NDArray, NDArray]:
        """Dosages (A, N) expected under genotype probabilities, of diploids or haploids by how many there are."""
        of_ploidy = {1: num_alternatives + 1, 2: (num_alternatives + 1) * (num_alternatives + 2) // 2}
        known = (~np.isnan(values)).sum(axis=1)
        self._refuse_outside((values < 0) | (values > 1 + _SUM_ROUNDING), values, where)
        dosages = np.full((num_alternatives, len(values)), np.nan)
        ploidies = np.full(len(values), self.copies.wanted or self.copies.found or 2)
        total = np.nansum(values, axis=1)
        for ploidy, count in of_ploidy.items():
            rows = (known == count) & (total > 0)  # all zero is how some write that nothing is known
            if not rows.any():
                continue
            probabilities = values[rows, :count]
            if np.isnan(probabilities).any() or (np.abs(total[rows] - 1) > _SUM_ROUNDING).any():
                raise self._wrong(where, "lack some, or do not sum to 1", "GP holds probabilities, no Phred scores")
            dosages[:, rows] = (probabilities @ _genotype_copies(num_alternatives, ploidy) / total[rows, None]).T
            ploidies[rows] = ploidy
        odd = (known > 0) & ~np.isin(known, list(of_ploidy.values()))
        if odd.any():
            sample = shown(self.found.sample_ids[int(np.argmax(odd))])
            raise self._wrong(
                where,
                f"of sample `{sample}` are {int(known[odd][0])}",
                f"with {num_alternatives} alternative alleles there are {of_ploidy[2]}, or {of_ploidy[1]} of a haploid",
            )
        return dosages, ploidies

    def _refuse_outside(self, outside: NDArray[np.bool_], values: NDArray, where: str) -> None:
        if outside.any():
            row, column = np.argwhere(outside)[0]
            sample = shown(self.found.sample_ids[row])
            hint = "a dosage is from 0 to the ploidy, a probability from 0 to 1 (and not a Phred score)"
            raise self._wrong(where, f"of sample `{sample}` hold {values[row, column]:g}", hint)

    def _wrong(self, where: str, what: str, hint: str) -> InputError:
        return InputError(f"{where}: the values of {self.settings.field} {what}", hint)

    def lines(self) -> list[str]:
        """What was left out, and what was turned."""
        name = self.settings.field
        failed = "imported {} records that failed a filter (source.pass_only=true leaves them out)"
        if self.settings.pass_only:
            failed = "left out {} records that failed a filter"
        said = [
            (self.num_failed, failed),
            (self.num_monomorphic, "left out {} records without an alternative allele"),
            (self.num_without_field, f"left out {{}} records without the field {name}"),
            (self.num_no_variants, "left out {} alternative alleles that are no variant: `*`, `<*>` or `<NON_REF>`"),
            (self.num_symbolic, "loci with a symbolic alternative allele, such as <DEL>: {}"),
            (
                self.num_multiallelic,
                f"multiallelic records: {{}}, with a locus for each allele: {self.num_loci_of_multiallelic}",
            ),
        ]
        return [text.format(count) for count, text in said if count] + self.copies.lines()


def _genotype_copies(num_alternatives: int, ploidy: int) -> NDArray[np.float64]:
    """Copies (genotypes, A) of each alternative allele in each genotype, in the order of the VCF specification."""
    alleles = range(num_alternatives + 1)
    genotypes: list[tuple[int, ...]] = [(allele,) for allele in alleles]
    if ploidy == 2:
        genotypes = [(first, second) for second in alleles for first in range(second + 1)]
    return np.array([[genotype.count(a + 1) for a in range(num_alternatives)] for genotype in genotypes], np.float64)


@contextmanager
def _quiet(cyvcf2: Any) -> Iterator[None]:
    """Without htslib's warnings, for instance one for each chromosome that the header does not name."""
    try:
        htslib = ctypes.CDLL(cyvcf2.cyvcf2.__file__)
        level = htslib.hts_get_log_level()
        htslib.hts_set_log_level(_HTSLIB_ERRORS_ONLY)
    except (AttributeError, OSError):  # a build that hides them
        yield
        return
    try:
        yield
    finally:
        htslib.hts_set_log_level(level)


def _said(trouble: Exception) -> str:
    return one_line(str(trouble) or type(trouble).__name__, 200)
