"""Genotypes of simulated samples: independent loci, or haploid segregants of a cross of two strains."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.errors import InputError
from gpmap_cli.random_streams import stream
from gpmap_cli.simulate.apportionment import apportion
from gpmap_cli.simulate.settings import SimulatedData

MAP_HEADER = ("locus", "chromosome", "position", "centimorgan")
# Rows drawn from one random stream. It depends on L alone, so the draws do not depend on memory or on N; the
# dataset file compresses genotypes in chunks of as many, so a block fills whole chunks of the file.
_BLOCK_ENTRIES = 2**20


@dataclass(frozen=True)
class GeneticMap:
    """Where the L loci lie: chromosome, position (bp) and genetic distance (cM) along the chromosome."""

    locus_ids: tuple[str, ...]
    chromosomes: tuple[str, ...]
    positions: NDArray[np.int64]
    centimorgans: NDArray[np.float64]
    sha256: str | None = None  # of the file it was read from

    def recombination(self) -> NDArray[np.float64]:
        """Probability of recombination between each locus and the one before, (L,); 1/2 at a chromosome's start.

        r = (1 - exp(-2 d)) / 2 with d in Morgans: crossovers without interference.
        Source: Haldane (1919), The combination of linkage values, J Genet 8: 299-309.
        """
        morgans = np.diff(self.centimorgans, prepend=0.0) / 100
        chromosomes = np.array(self.chromosomes, dtype=object)
        morgans[0] = np.inf
        morgans[1:][chromosomes[1:] != chromosomes[:-1]] = np.inf
        return -np.expm1(-2 * morgans) / 2


def genetic_map(settings: SimulatedData) -> GeneticMap | None:
    """The map of the cross: from the file, or loci spread over chromosomes; None for independent loci.

    Raises InputError when the file is wrong or has another number of loci than the settings.
    """
    if settings.linkage == "independent":
        return None
    if settings.map is None:
        return _even_map(settings)
    found = _read_map(Path(settings.map))
    if len(found.locus_ids) != settings.num_loci:
        raise InputError(
            f"{settings.map}: the map has {len(found.locus_ids)} loci, but data.num_loci is {settings.num_loci}",
            f"set data.num_loci={len(found.locus_ids)}",
        )
    return found


def genotype_blocks(
    settings: SimulatedData, linkage_map: GeneticMap | None, seed: int
) -> Iterator[tuple[slice, NDArray[np.int8]]]:
    """Copies of the alternative allele, 0..ploidy, as (rows, (rows, L) int8) block by block.

    Independent loci: Binomial(ploidy, allele frequency). A cross: the first locus of a chromosome is a fair
    coin, and each further locus has its neighbour's allele unless they recombined.
    """
    num_loci = settings.num_loci
    num_rows = max(1, _BLOCK_ENTRIES // num_loci)
    frequency = np.broadcast_to(np.array(settings.allele_frequency), num_loci)
    recombination = None if linkage_map is None else linkage_map.recombination()
    for number, start in enumerate(range(0, settings.num_samples, num_rows)):
        rng = stream(seed, "genotypes", number)
        shape = (min(num_rows, settings.num_samples - start), num_loci)
        if recombination is None:
            block = (rng.random(shape) < frequency).astype(np.int8)
            if settings.ploidy == 2:
                block += rng.random(shape) < frequency
        else:
            switches = (rng.random(shape) < recombination).view(np.int8)
            block = np.bitwise_xor.accumulate(switches, axis=1)
        yield slice(start, start + len(block)), block


def _even_map(settings: SimulatedData) -> GeneticMap:
    """Loci evenly spaced from end to end of each chromosome; a chromosome's only locus lies in its middle."""
    num_chromosomes = settings.num_chromosomes_of_cross
    lengths = np.broadcast_to(np.array(settings.chromosome_length_cm), num_chromosomes)
    counts = apportion(settings.num_loci, lengths.tolist(), least=1)
    centimorgans = np.concatenate(
        [
            np.linspace(0.0, length, count) if count > 1 else np.array([length / 2])
            for length, count in zip(lengths, counts, strict=True)
        ]
    )
    names = [f"chr{number:02d}" for number in range(1, num_chromosomes + 1)]
    return GeneticMap(
        locus_ids=tuple(f"locus_{number}" for number in range(settings.num_loci)),
        chromosomes=tuple(name for name, count in zip(names, counts, strict=True) for _ in range(count)),
        positions=1 + np.round(centimorgans / settings.cm_per_kb * 1000).astype(np.int64),
        centimorgans=centimorgans,
    )


def _read_map(path: Path) -> GeneticMap:
    try:
        content = path.read_bytes()
    except OSError as trouble:
        raise InputError(
            f"{path}: the map cannot be read ({trouble.strerror})",
            f"data.map is a CSV file with the header {','.join(MAP_HEADER)}",
        ) from trouble
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as trouble:
        line = content.count(b"\n", 0, trouble.start) + 1
        raise InputError(f"{path}:{line}: the map is not UTF-8 text", "save the map as CSV in UTF-8") from trouble
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[_MapRow] = []
    try:
        _check_header(path, next(reader, []))
        for fields in reader:
            if fields:
                rows.append(_map_row(path, reader.line_num, fields))
    except csv.Error as trouble:
        raise InputError(f"{path}:{reader.line_num}: not a CSV line ({trouble})", "save the map as CSV") from trouble
    _check_order(path, rows)
    return GeneticMap(
        locus_ids=tuple(row.locus for row in rows),
        chromosomes=tuple(row.chromosome for row in rows),
        positions=np.array([row.position for row in rows], dtype=np.int64),
        centimorgans=np.array([row.centimorgan for row in rows], dtype=np.float64),
        sha256=hashlib.sha256(content).hexdigest(),
    )


@dataclass(frozen=True)
class _MapRow:
    line: int
    locus: str
    chromosome: str
    position: int
    centimorgan: float


def _check_header(path: Path, fields: list[str]) -> None:
    if tuple(field.strip() for field in fields) != MAP_HEADER:
        raise InputError(
            f"{path}:1: the columns of the map are `{','.join(fields)}`",
            f"the first line of a map is {','.join(MAP_HEADER)}",
        )


def _map_row(path: Path, line: int, fields: list[str]) -> _MapRow:
    where = f"{path}:{line}"
    if len(fields) != len(MAP_HEADER):
        raise InputError(
            f"{where}: {len(fields)} values, not {len(MAP_HEADER)}", f"each line holds {','.join(MAP_HEADER)}"
        )
    locus, chromosome, position, centimorgan = (field.strip() for field in fields)
    for column, text in (("locus", locus), ("chromosome", chromosome)):
        if not text or not text.isprintable():
            raise InputError(f"{where}: {column} is {text!r}", f"give each locus a {column} of printable text")
    try:
        base_pairs = int(position)
    except ValueError:
        base_pairs = -1
    if not 0 <= base_pairs < 2**63:
        raise InputError(f"{where}: position is `{position}`", "a position is a whole number of base pairs from 0")
    try:
        distance = float(centimorgan)
    except ValueError:
        distance = math.nan
    if not math.isfinite(distance):
        raise InputError(f"{where}: centimorgan is `{centimorgan}`", "a genetic distance is a finite number of cM")
    return _MapRow(line, locus, chromosome, base_pairs, distance)


def _check_order(path: Path, rows: list[_MapRow]) -> None:
    """Each locus once, each chromosome in one piece, genetic distances never going back."""
    if not rows:
        raise InputError(f"{path}: the map has no loci", "add a line per locus below the header")
    loci: dict[str, int] = {}
    chromosomes: set[str] = set()
    previous: _MapRow | None = None
    for row in rows:
        if row.locus in loci:
            raise InputError(
                f"{path}:{row.line}: locus `{row.locus}` is on line {loci[row.locus]} already",
                "name each locus once",
            )
        loci[row.locus] = row.line
        if previous is None or row.chromosome != previous.chromosome:
            if row.chromosome in chromosomes:
                raise InputError(
                    f"{path}:{row.line}: chromosome `{row.chromosome}` comes back after another",
                    "keep the loci of a chromosome together",
                )
            chromosomes.add(row.chromosome)
        elif row.centimorgan < previous.centimorgan:
            raise InputError(
                f"{path}:{row.line}: centimorgan falls from {previous.centimorgan:g} to {row.centimorgan:g} along"
                f" chromosome `{row.chromosome}`",
                "sort the loci of a chromosome by centimorgan",
            )
        previous = row
