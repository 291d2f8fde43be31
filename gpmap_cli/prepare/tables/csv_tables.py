"""Importing tables of text: genotypes (N samples x L loci) and phenotypes (N x E), in two tables or in one.

Genotypes are copies of the alternative allele, dosages, alleles coded -1/+1, or letters with their numbers of
copies. Samples of two tables match by id, and who did not is said; a table may have loci in rows; a map gives
chromosomes and positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.hdf5 import file_sha256
from gpmap_cli.errors import InputError, did_you_mean, listing
from gpmap_cli.prepare.sources.csv import Settings
from gpmap_cli.prepare.tables.genotype_codes import parse_codes
from gpmap_cli.prepare.tables.genotype_rows import about_minus_ones
from gpmap_cli.prepare.tables.genotype_text import CellValues, GenotypeTable, Rule, read_genotypes
from gpmap_cli.prepare.tables.locus_map import Placed, is_place_column, place_loci, places_in
from gpmap_cli.prepare.tables.odd_columns import odd_columns
from gpmap_cli.prepare.tables.phenotype_table import ERROR_SUFFIXES, Joined, join, no_phenotypes, phenotypes_of
from gpmap_cli.prepare.tables.text_table import MISSING, TextTable, header_of, read_records, read_table, shown


def read_csv_tables(source: Settings) -> tuple[Dataset, list[str]]:
    """The dataset (N samples, L loci, E environments) in the tables, and lines that say what was found and kept."""
    if source.path is None:
        raise InputError("source.path is not set", "add source.path=genotypes.csv")
    path = Path(source.path)
    missing = MISSING if source.missing is None else ("", *source.missing)
    codes = None if source.codes is None else parse_codes(source.codes)
    loci_in_rows = source.orientation == "loci_in_rows"
    records = read_records(path, absent_hint="check source.path")
    header = header_of(path, records)
    roles = _loci_in_rows(header) if loci_in_rows else _samples_in_rows(path, source, header)
    may_be_others = source.genotype_columns is None and not loci_in_rows
    table = read_genotypes(
        path,
        header,
        records,
        roles.genotypes,
        CellValues(codes, missing),
        Rule(source.coding, source.ploidy, codes),
        may_hold_texts=may_be_others,
    )
    row_ids, lines = _row_ids(table, roles, "loci" if loci_in_rows else "samples")
    sample_ids, locus_ids = (table.columns, row_ids) if loci_in_rows else (row_ids, table.columns)
    if source.phenotypes is not None:
        joined = _other_table(Path(source.phenotypes), source, sample_ids, missing)
    else:
        joined = _same_table(table.rest, roles, missing)
    placed = Placed(None, None, [])
    if source.map is not None:
        placed = place_loci(Path(source.map), locus_ids)
    elif loci_in_rows:
        placed = places_in(table.rest, range(len(locus_ids)))
    genotypes = np.ascontiguousarray(table.matrix.T) if loci_in_rows else table.matrix
    dataset = Dataset(
        genotypes=genotypes,
        phenotypes=joined.phenotypes,
        sample_ids=np.array(sample_ids, dtype=object),
        locus_ids=np.array(locus_ids, dtype=object),
        environment_names=joined.environment_names,
        ploidy=table.ploidy,
        phenotype_std=joined.phenotype_std,
        chromosomes=placed.chromosomes,
        positions=placed.positions,
        provenance=_provenance(source),
    )
    return dataset, [
        f"{dataset.num_samples} samples x {dataset.num_loci} loci x {len(joined.environment_names)} environments,"
        f" ploidy {dataset.ploidy}, genotypes stored as {genotypes.dtype}",
        f"missing genotypes: {table.num_missing} of {genotypes.size}"
        + (f" ({table.num_minus_one} of them written as -1)" if table.num_minus_one else ""),
        f"missing phenotypes: {int(np.isnan(joined.phenotypes).sum())} of {joined.phenotypes.size}",
        *about_minus_ones(table.num_minus_one, genotypes.size, table.largest.max()),
        *lines,
        _columns("samples" if loci_in_rows else "genotypes", table.columns),
        *_about_phenotypes(joined, path if source.phenotypes is None else Path(source.phenotypes)),
        *(odd_columns(table.columns, table.has_fraction, table.largest) if may_be_others else []),
        *joined.lines,
        *placed.lines,
    ]


_PEDIGREE = ("FID", "IID", "PAT", "MAT", "SEX", "PHENOTYPE")  # before the loci, where PLINK recodes genotypes as text


@dataclass(frozen=True)
class _Roles:
    """What the columns of the genotypes' table are. `phenotypes` of None are all others that hold numbers."""

    row_ids: str | None
    genotypes: list[int]
    phenotypes: list[str] | None


def _loci_in_rows(header: list[str]) -> _Roles:
    """Locus ids first, then chromosomes and positions if there are any, then a column for every sample."""
    start = 1
    while start < len(header) and is_place_column(header[start]):
        start += 1
    return _Roles(header[0], list(range(start, len(header))), [])


def _samples_in_rows(path: Path, source: Settings, header: list[str]) -> _Roles:
    """Which columns the settings name, and what that leaves. Of PLINK's .raw files the pedigree is left out."""
    genotypes, phenotypes = source.genotype_columns, source.phenotype_columns
    chosen = None if genotypes is None else _matching(path, header, genotypes, "source.genotype_columns")
    if source.phenotypes is not None:
        named: list[str] | None = []
    elif phenotypes is not None:
        named = _matching(path, header, phenotypes, "source.phenotype_columns")
    else:
        named = [] if chosen is None else None
    errors = {name + suffix for name in named or () for suffix in ERROR_SUFFIXES}
    taken = {*(chosen or ()), *(named or ()), *errors}
    sample = source.sample_column
    pedigree = set(_PEDIGREE) - taken if header[:2] == ["FID", "IID"] else set()
    if sample is None:
        usual = "IID" if pedigree else header[0]
        sample = None if usual in taken else usual
    elif sample not in header:
        raise InputError(
            f"{path}: there is no column `{shown(sample)}`",
            did_you_mean(sample, header[:1000], "source.sample_column="),
        )
    both = {*(named or ()), sample} & set(chosen or ()) | {sample} & set(named or ())
    if both:
        raise InputError(
            f"{path}: {listing(shown(str(name)) for name in sorted(map(str, both)))} cannot be two things at once",
            "make sample_column, genotype_columns and phenotype_columns name different columns",
        )
    wanted = set(header) - taken - pedigree - {sample} if chosen is None else set(chosen)
    return _Roles(sample, [place for place, name in enumerate(header) if name in wanted], named)


def _matching(path: Path, names: Sequence[str], wanted: Sequence[str], key: str) -> list[str]:
    """The columns that are named or match a pattern: in the order asked for, each once."""
    found: dict[str, None] = {}
    known = set(names)
    for one in wanted:
        matches = [one] if one in known else [name for name in names if fnmatchcase(name, one)]
        if not matches:
            raise InputError(f"{path}: no column is called `{shown(one)}`", did_you_mean(one, names[:1000], f"{key}="))
        found.update(dict.fromkeys(matches))
    return list(found)


def _row_ids(table: GenotypeTable, roles: _Roles, of: str) -> tuple[list[str], list[str]]:
    """Ids of the rows, and what there is to say about them and about the columns that are no genotypes."""
    lines = []
    if table.text_columns:
        some = listing(map(shown, table.text_columns))
        lines.append(f"left out {len(table.text_columns)} columns of texts, which are no genotypes: {some}")
    if roles.row_ids is None:
        lines.append(f"no column of ids: {of} are numbered from 0")
        return [str(number) for number in range(len(table.rest.rows))], lines
    lines.append(f"ids of the {of}: column `{shown(roles.row_ids)}`")
    return table.rest.unique(roles.row_ids, of), lines


def _columns(of: str, names: Sequence[str]) -> str:
    """Which columns were taken for genotypes, so that one that is none is seen."""
    if len(names) == 1:
        return f"{of}: 1 column, `{shown(names[0])}`"
    return f"{of}: {len(names)} columns, `{shown(names[0])}` to `{shown(names[-1])}`"


def _about_phenotypes(joined: Joined, path: Path) -> list[str]:
    names = joined.environment_names
    return [f"phenotypes: {len(names)} columns of {path.name}: {listing(map(shown, names))}"] if names else []


def _other_table(path: Path, source: Settings, sample_ids: list[str], missing: Sequence[str]) -> Joined:
    """Phenotypes of another table, by sample id."""
    table = read_table(path, absent_hint="check source.phenotypes")
    column = source.sample_column if source.sample_column in table.columns else None
    names = None
    if source.phenotype_columns is not None:
        names = _matching(path, table.columns, source.phenotype_columns, "source.phenotype_columns")
    return join(phenotypes_of(table, sample_column=column, environments=names, missing=missing), sample_ids)


def _same_table(rest: TextTable, roles: _Roles, missing: Sequence[str]) -> Joined:
    """Phenotypes that stand beside the genotypes."""
    if roles.phenotypes == []:
        return no_phenotypes(len(rest.rows))
    column = roles.row_ids
    if column is None:  # a column of row numbers, of a name that nothing else has
        column = "row" + "_" * max(len(name) for name in ("", *rest.columns))
        rows = [[str(number), *row] for number, row in enumerate(rest.rows)]
        rest = TextTable(rest.path, (column, *rest.columns), rows, rest.lines)
    table = phenotypes_of(rest, sample_column=column, environments=roles.phenotypes, missing=missing)
    if not table.environment_names:
        return no_phenotypes(len(rest.rows))
    return Joined(table.environment_names, table.phenotypes, table.phenotype_std, table.lines)


def _provenance(source: Settings) -> dict[str, str | int | float]:
    found: dict[str, str | int | float] = {"made_by": "gpmap prepare source=csv"}
    for kind, name in (("source", source.path), ("phenotypes", source.phenotypes), ("map", source.map)):
        if name is not None:
            found |= {f"{kind}_file": Path(name).resolve().name, f"{kind}_sha256": file_sha256(Path(name))}
    return found
