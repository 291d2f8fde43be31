"""Importing a cross of R/qtl in one CSV file (`write.cross(cross, "csv")`, or "csvr", the same rotated).

The first line names phenotypes and then markers, the second tells the markers' chromosomes and is blank below
phenotypes, a third that is blank below phenotypes holds genetic positions in cM; one line follows for each of N
individuals. Genotypes (N, L) become copies of the second allele. Source: `read.cross` of R/qtl (Broman et al. 2003,
Bioinformatics 19:889).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import MISSING, Dataset
from gpmap_cli.dataset.hdf5 import file_sha256
from gpmap_cli.errors import InputError, listing
from gpmap_cli.prepare.crosses.cross_genotypes import AB, BB, FEMALE, MALE, CrossType, copies
from gpmap_cli.prepare.sources.rqtl import Settings
from gpmap_cli.prepare.tables.genotype_text import CellValues, Rule, read_genotypes
from gpmap_cli.prepare.tables.phenotype_table import Joined, no_phenotypes, phenotypes_of
from gpmap_cli.prepare.tables.text_table import (
    Record,
    TextTable,
    check_header,
    parsed,
    read_records,
    refuse_ragged,
    refuse_repeated,
    shown,
)

_SEX, _DIRECTION, _ID = "sex", "pgm", "id"


def read_rqtl(source: Settings) -> tuple[Dataset, list[str]]:
    """The dataset (N samples, L loci, E environments) of a cross, and lines that say what was found and kept."""
    if source.path is None:
        raise InputError("source.path is not set", "add source.path=cross.csv")
    path = Path(source.path)
    records = read_records(path, absent_hint="check source.path")
    if source.format == "csvr":
        records = _rotated(path, records)
    names, chromosomes, num_phenotypes, has_positions, rows = _head(path, records)
    codes = {code: float(number) for number, code in enumerate(source.genotypes, 1)}
    cells = CellValues(codes, ("", *source.missing), unknown_is_missing=True)
    table = read_genotypes(path, names, rows, range(num_phenotypes, len(names)), cells, Rule(codes=codes))
    lines = _unknown_codes(path, cells, table.matrix)
    is_x = np.array([one in ("X", "x") for one in chromosomes], dtype=bool)
    crosstype, inferred = _crosstype(source, table.matrix, is_x)
    cross = copies(table.matrix, crosstype, is_x, _males(table.rest))
    sample_ids, about_ids = _sample_ids(table.rest)
    joined = _phenotypes(table.rest, ("", *source.missing))
    dataset = Dataset(
        genotypes=cross.genotypes,
        phenotypes=joined.phenotypes,
        sample_ids=np.array(sample_ids, dtype=object),
        locus_ids=np.array(table.columns, dtype=object),
        environment_names=joined.environment_names,
        ploidy=cross.ploidy,
        phenotype_std=joined.phenotype_std,
        chromosomes=np.array(chromosomes, dtype=object),
        provenance={
            "made_by": "gpmap prepare source=rqtl",
            "source_file": path.resolve().name,
            "source_sha256": file_sha256(path),
        },
    )
    no_places = ["genetic positions (cM) are left out: a dataset file holds base pairs"] if has_positions else []
    return dataset, [
        f"{path.name}: {dataset.num_samples} samples x {dataset.num_loci} loci x"
        f" {len(joined.environment_names)} environments, ploidy {dataset.ploidy}",
        *inferred,
        *cross.lines,
        *lines,
        f"missing genotypes: {int((cross.genotypes == MISSING).sum())} of {cross.genotypes.size}",
        f"missing phenotypes: {int(np.isnan(joined.phenotypes).sum())} of {joined.phenotypes.size}",
        *about_ids,
        *joined.lines,
        *no_places,
    ]


def _head(path: Path, records: Iterator[Record]) -> tuple[list[str], list[str], int, bool, Iterator[Record]]:
    """Names of all columns, the markers' chromosomes, the number of phenotypes, and the individuals' lines."""
    head = [(line, [cell.strip() for cell in fields]) for line, fields in islice(records, 3)]
    if len(head) < 3:
        raise InputError(f"{path}: fewer than 3 lines", "R/qtl's CSV has names, chromosomes, and a line per individual")
    (line, names), (second, below), (third, perhaps) = head
    check_header(path, line, names)
    for number, cells in ((second, below), (third, perhaps)):
        refuse_ragged(path, number, len(cells), len(names))
    if below[0]:
        raise InputError(
            f"{path}:{second}: begins with `{shown(below[0])}`, not with a blank below a phenotype",
            "the second line holds the chromosomes of the markers; at least one phenotype comes before them",
        )
    num_phenotypes = next((place for place, cell in enumerate(below) if cell), None)
    if num_phenotypes is None:
        raise InputError(f"{path}:{second}: not a single chromosome", "the second line holds those of the markers")
    chromosomes = below[num_phenotypes:]
    if "" in chromosomes:
        name = names[num_phenotypes + chromosomes.index("")]
        raise InputError(f"{path}:{second}: marker `{shown(name)}` has no chromosome", "phenotypes come before markers")
    has_positions = not any(perhaps[:num_phenotypes])
    if not has_positions:
        return names, chromosomes, num_phenotypes, False, chain([head[2]], records)
    for name, cell in zip(names[num_phenotypes:], perhaps[num_phenotypes:], strict=True):
        value = parsed(cell, ())
        if value is None or not np.isfinite(value):
            raise InputError(
                f"{path}:{third}: `{shown(cell)}` is not the position of marker `{shown(name)}`",
                "a third line that is blank below the phenotypes holds positions in cM",
            )
    return names, chromosomes, num_phenotypes, True, records


def _rotated(path: Path, records: Iterator[Record]) -> Iterator[Record]:
    """The columns of a file as records; what is said of a line is then true of a column."""
    rows: list[list[str]] = []
    for line, fields in records:
        if rows:
            refuse_ragged(path, line, len(fields), len(rows[0]))
        rows.append(fields)
    for number, column in enumerate(zip(*rows, strict=True), 1):
        yield number, list(column)


def _crosstype(source: Settings, codes: NDArray[np.int8], is_x: NDArray[np.bool_]) -> tuple[CrossType, list[str]]:
    """The cross as it is given, or as `read.cross` tells it from the genotypes that occur."""
    if source.crosstype is not None:
        return source.crosstype, []
    shown_by = codes[:, ~is_x] if not is_x.all() else codes
    heterozygous, others = bool((shown_by == AB).any()), bool((shown_by >= BB).any())
    found: CrossType = "f2" if heterozygous and others else "bc" if not others else "dh"
    why = {"f2": "all three genotypes occur", "bc": "AA and AB occur alone", "dh": "no genotype is heterozygous"}
    return found, [f"taken as crosstype {found}, since {why[found]} (source.crosstype says otherwise)"]


def _unknown_codes(path: Path, cells: CellValues, codes: NDArray[np.int8]) -> list[str]:
    unknown = sum(cells.unknown.values())
    if not unknown:
        return []
    some = ", ".join(f"`{shown(code)}` {number} times" for code, number in cells.unknown.most_common(5))
    if not (codes != MISSING).any():
        raise InputError(
            f"{path}: no genotype has one of the codes {listing(map(shown, cells.codes or ()))}; found {some}",
            "give the codes of AA, AB and BB: source.genotypes=[BB,BA,AA]",
        )
    return [f"{unknown} genotypes have a code that is none of source.genotypes: missing ({some})"]


def _column(rest: TextTable, name: str) -> str | None:
    return next((column for column in rest.columns if column.lower() == name), None)


def _males(rest: TextTable) -> NDArray[np.bool_] | None:
    column = _column(rest, _SEX)
    if column is None:
        return None
    words = [cell.lower() for cell in rest.column(column)]
    if not any(word in (*MALE, *FEMALE) for word in words):
        return None
    return np.array([word in MALE for word in words])


def _sample_ids(rest: TextTable) -> tuple[list[str], list[str]]:
    column = _column(rest, _ID)
    if column is None:
        return [str(number) for number in range(len(rest.rows))], ["no column `id`: samples are numbered from 0"]
    ids = rest.column(column)
    refuse_repeated(rest.path, ids, rest.lines, f"in column `{shown(column)}`", "samples")
    return ids, []


def _phenotypes(rest: TextTable, missing: Sequence[str]) -> Joined:
    """The columns before the markers, but for sample ids, sex and the direction of the cross."""
    no_traits = [name for name in rest.columns if name.lower() in (_ID, _SEX, _DIRECTION)]
    kept = [place for place, name in enumerate(rest.columns) if name not in no_traits]
    number = "individual" + "_" * max(map(len, rest.columns))  # a name that no phenotype has
    rows = [[str(row), *(cells[place] for place in kept)] for row, cells in enumerate(rest.rows)]
    table = phenotypes_of(
        TextTable(rest.path, (number, *(rest.columns[place] for place in kept)), rows, rest.lines),
        sample_column=number,
        missing=missing,
    )
    said = [f"no phenotypes, left out: {listing(map(shown, no_traits))}"] if no_traits else []
    if not table.environment_names:
        nothing = no_phenotypes(len(rest.rows))
        return Joined(nothing.environment_names, nothing.phenotypes, None, [*said, *table.lines])
    return Joined(table.environment_names, table.phenotypes, table.phenotype_std, [*said, *table.lines])
