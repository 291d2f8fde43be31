"""Importing a deep mutational scan: variants (N) of one sequence and their scores (N, E).

Every substitution that occurs at a position becomes one locus, called `A24G`, that is 1 in the variants that have it
and 0 in all others; a position with several alternatives becomes several loci. Residues that nobody knows are
missing at all loci of their position.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import MISSING as MISSING_GENOTYPE
from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.hdf5 import file_sha256, refuse_what_cannot_fit
from gpmap_cli.errors import InputError, did_you_mean, listing
from gpmap_cli.prepare.sources.variant_strings import Settings
from gpmap_cli.prepare.tables.phenotype_table import PhenotypeTable, phenotypes_of
from gpmap_cli.prepare.tables.substitutions import Variants, from_mutations, from_sequences
from gpmap_cli.prepare.tables.text_table import MISSING, TextTable, read_table, shown

_MUTANT_COLUMNS = ("mutant", "mutations", "mutation", "variant", "aa_substitutions", "hgvs_pro", "hgvs_nt")
_SEQUENCE_COLUMNS = ("mutated_sequence", "sequence", "seq", "aaseq")
_SCORE_COLUMNS = ("score", "dms_score")
_UNMUTATED = "WT"


def read_variant_strings(source: Settings) -> tuple[Dataset, list[str]]:
    """The dataset (N variants, L substitutions, E scores) in a table, and lines that say what was found and kept."""
    if source.path is None:
        raise InputError("source.path is not set", "add source.path=scores.csv")
    path = Path(source.path)
    table = read_table(path, comment="#", absent_hint="check source.path")
    column, is_mutants = _variant_column(table, source)
    table, lines = _with_variants(table, column)
    cells = table.column(column)
    reference = None if source.reference is None else source.reference.upper()
    variants = (from_mutations if is_mutants else from_sequences)(cells, reference, table.wrong)
    loci = sorted({one for found in variants.substitutions for one in found if one[1] != "X"})
    if not loci:
        raise InputError(f"{path}: not a single substitution in {len(cells)} variants", "variants differ somewhere")
    ids = [_variant_id(found, variants.reference, source.offset) for found in variants.substitutions]
    scores = _scores(table, source, column)
    rows, phenotypes, std, about_duplicates = _merged(table, ids, scores, source.duplicates)
    genotypes = _genotypes(path, [variants.substitutions[row] for row in rows], loci)
    positions = np.array([position + source.offset for position, _ in loci], np.int64)
    dataset = Dataset(
        genotypes=genotypes,
        phenotypes=phenotypes,
        sample_ids=np.array([ids[row] for row in rows], dtype=object),
        locus_ids=np.array([_locus_id(one, variants.reference, source.offset) for one in loci], dtype=object),
        environment_names=scores.environment_names,
        ploidy=1,
        phenotype_std=std,
        positions=positions,
        provenance={
            "made_by": "gpmap prepare source=variant_strings",
            "source_file": path.resolve().name,
            "source_sha256": file_sha256(path),
        },
    )
    return dataset, [
        f"{path.name}: variants in column `{shown(column)}`, as {'mutations' if is_mutants else 'whole sequences'};"
        f" the unmutated residues are {variants.reference_source}",
        f"{dataset.num_samples} variants x {dataset.num_loci} substitutions x {len(scores.environment_names)} scores"
        f" ({listing(map(shown, scores.environment_names))}), ploidy 1",
        *lines,
        *_about(variants, loci, genotypes, ids),
        f"missing phenotypes: {int(np.isnan(phenotypes).sum())} of {phenotypes.size}",
        *about_duplicates,
        *scores.lines,
    ]


def _variant_column(table: TextTable, source: Settings) -> tuple[str, bool]:
    """The column that variants are read from, and whether it holds mutations."""
    for wanted, key, is_mutants in (
        (source.mutant_column, "mutant_column", True),
        (source.sequence_column, "sequence_column", False),
    ):
        if wanted is not None:
            if wanted not in table.columns:
                raise InputError(
                    f"{table.path}: there is no column `{shown(wanted)}`",
                    did_you_mean(wanted, table.columns, f"source.{key}="),
                )
            return wanted, is_mutants
    for names, is_mutants in ((_MUTANT_COLUMNS, True), (_SEQUENCE_COLUMNS, False)):
        for name in names:
            for column in table.columns:
                if column.lower() == name and any(cell not in MISSING for cell in table.column(column)):
                    return column, is_mutants
    raise InputError(
        f"{table.path}: no column of variants among {listing(map(shown, table.columns))}",
        "name it: source.mutant_column=... (A24G:C30T) or source.sequence_column=... (whole sequences)",
    )


def _with_variants(table: TextTable, column: str) -> tuple[TextTable, list[str]]:
    """The rows that name a variant."""
    kept = [row for row, cell in enumerate(table.column(column)) if cell not in MISSING]
    num_without = len(table.rows) - len(kept)
    if not kept:
        raise InputError(f"{table.path}: not a single variant in column `{shown(column)}`", "check the column")
    if not num_without:
        return table, []
    part = replace(table, rows=[table.rows[row] for row in kept], lines=[table.lines[row] for row in kept])
    return part, [f"{num_without} rows name no variant in column `{shown(column)}`, and are left out"]


def _scores(table: TextTable, source: Settings, column: str) -> PhenotypeTable:
    """The scores (rows, E) as they stand, variants on several lines and all."""
    names = source.score_columns
    if names is None:
        usual = [name for name in table.columns if name.lower() in _SCORE_COLUMNS and name != column]
        names = tuple(usual) or None
    else:
        for name in names:
            if name not in table.columns:
                hint = did_you_mean(name, table.columns, "source.score_columns=")
                raise InputError(f"{table.path}: there is no column `{shown(name)}`", hint)
    number = "row" + "_" * max(map(len, table.columns))  # a name that no column has
    rows = [[str(row), *cells] for row, cells in enumerate(table.rows)]
    numbered = TextTable(table.path, (number, *table.columns), rows, table.lines)
    scores = phenotypes_of(numbered, sample_column=number, environments=names, numbers_only=True)
    if not scores.environment_names:
        raise InputError(f"{table.path}: not a single column of scores", "name them: source.score_columns=[...]")
    return scores


def _merged(
    table: TextTable, ids: list[str], scores: PhenotypeTable, duplicates: str
) -> tuple[list[int], NDArray[np.float32], NDArray[np.float32] | None, list[str]]:
    """The row that stands for each variant, its scores and their errors: the mean of all rows of the variant.

    The error of a mean of n scores, with errors s_1..s_n, is sqrt(sum of their squares) / n.
    """
    rows_of: defaultdict[str, list[int]] = defaultdict(list)
    for row, one in enumerate(ids):
        rows_of[one].append(row)
    several = [rows for rows in rows_of.values() if len(rows) > 1]
    if not several:
        return list(range(len(ids))), scores.phenotypes, scores.phenotype_std, []
    if duplicates == "refuse":
        first, second = several[0][:2]
        raise table.wrong(
            second,
            f"variant `{shown(ids[second])}` is on line {table.lines[first]} already"
            f" ({len(several)} variants are on several lines)",
            "source.duplicates=mean takes the mean of their scores",
        )
    firsts = [rows[0] for rows in rows_of.values()]
    phenotypes = scores.phenotypes[firsts]
    std = None if scores.phenotype_std is None else scores.phenotype_std[firsts]
    for place, rows in enumerate(rows_of.values()):
        if len(rows) == 1:
            continue
        values = scores.phenotypes[rows].astype(np.float64)
        known = ~np.isnan(values)
        counts = np.maximum(known.sum(axis=0), 1)
        phenotypes[place] = np.where(known.any(axis=0), np.where(known, values, 0).sum(axis=0) / counts, np.nan)
        if std is not None and scores.phenotype_std is not None:
            squares = np.where(known, scores.phenotype_std[rows].astype(np.float64) ** 2, 0)  # NaN: not known
            std[place] = np.where(known.any(axis=0), np.sqrt(squares.sum(axis=0)) / counts, np.nan)
    extra = len(ids) - len(firsts)
    return firsts, phenotypes, std, [f"{len(several)} variants are on several lines ({extra} more): mean scores"]


def _genotypes(path: Path, variants: Sequence[tuple[tuple[int, str], ...]], loci: list[tuple[int, str]]) -> NDArray:
    """Genotypes (N, L) int8: 1 where a variant has the substitution, -1 where its residue is not known."""
    refuse_what_cannot_fit(f"{path}: the genotypes", len(variants) * len(loci))
    column_of = {one: column for column, one in enumerate(loci)}
    columns_at: defaultdict[int, list[int]] = defaultdict(list)
    for column, (position, _) in enumerate(loci):
        columns_at[position].append(column)
    genotypes = np.zeros((len(variants), len(loci)), np.int8)
    for row, found in enumerate(variants):
        for position, residue in found:
            if residue == "X":
                genotypes[row, columns_at[position]] = MISSING_GENOTYPE
            else:
                genotypes[row, column_of[position, residue]] = 1
    return genotypes


def _locus_id(one: tuple[int, str], reference: dict[int, str], offset: int) -> str:
    position, residue = one
    return f"{reference[position]}{position + offset}{residue}"


def _variant_id(found: tuple[tuple[int, str], ...], reference: dict[int, str], offset: int) -> str:
    return ":".join(_locus_id(one, reference, offset) for one in found) or _UNMUTATED


def _about(variants: Variants, loci: list[tuple[int, str]], genotypes: NDArray, ids: list[str]) -> list[str]:
    positions = [position for position, _ in loci]
    _, counts = np.unique(positions, return_counts=True)
    lines = [
        f"{len(counts)} positions are mutated, {int((counts > 1).sum())} of them to several residues, a locus each",
        f"missing genotypes (unknown residues): {int((genotypes == MISSING_GENOTYPE).sum())} of {genotypes.size}",
        "the unmutated sequence is among the variants" if _UNMUTATED in ids else "no variant is unmutated",
    ]
    if variants.num_silent:
        lines.append(f"{variants.num_silent} mutations change nothing, and are no substitutions")
    return lines
