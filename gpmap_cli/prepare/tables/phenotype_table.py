"""A table of phenotypes keyed by sample id, and its join with genotyped samples.

One row per sample, one column per environment, numbers in the phenotype's own units. A column `X_std` or `X_se`
beside a column `X` is the standard error of X. Samples match by id; who matched and who did not is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.hdf5 import first_repeated
from gpmap_cli.errors import InputError, did_you_mean, listing
from gpmap_cli.prepare.tables.text_table import MISSING, TextTable, parsed, read_table, shown

ERROR_SUFFIXES = ("_std", "_se")
_FAMILY_COLUMNS = ("FID", "#FID")
_STAND_INS = (-9, -99, -999, -9999)  # written for a missing number
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class PhenotypeTable:
    """Phenotypes (M, E) float32, NaN missing, of M samples, and their standard errors where there are some."""

    path: Path
    sample_ids: list[str]
    environment_names: tuple[str, ...]
    phenotypes: NDArray[np.float32]
    phenotype_std: NDArray[np.float32] | None
    lines: list[str]


@dataclass(frozen=True)
class Joined:
    """Phenotypes of N genotyped samples, in their order: (N, E) both, NaN where a sample has none."""

    environment_names: tuple[str, ...]
    phenotypes: NDArray[np.float32]
    phenotype_std: NDArray[np.float32] | None
    lines: list[str]


def read_phenotypes(
    path: Path,
    *,
    sample_column: str | None = None,
    environments: Sequence[str] | None = None,
    missing: Sequence[str] = MISSING,
) -> PhenotypeTable:
    """The table in a file. `environments` chooses and orders the columns; None takes all that hold numbers.

    The sample column is the first, or `IID` where the first two are PLINK's FID and IID. A column of texts without
    a single number is left out with a line that says so, or, where `environments` asks for it, its labels are numbered
    (a factor such as sex or plate); one that holds both is refused with the first such text.
    """
    table = read_table(path, absent_hint="check source.phenotypes")
    return phenotypes_of(table, sample_column=sample_column, environments=environments, missing=missing)


def phenotypes_of(
    table: TextTable,
    *,
    sample_column: str | None = None,
    environments: Sequence[str] | None = None,
    missing: Sequence[str] = MISSING,
    numbers_only: bool = False,
) -> PhenotypeTable:
    """The phenotypes in a table that has been read; with `numbers_only`, labels are refused even where asked for."""
    id_column = _sample_column(table, sample_column)
    ids = table.unique(id_column, "samples")
    lines: list[str] = []
    others = [name for name in table.columns if name != id_column and name not in _FAMILY_COLUMNS]
    errors = _error_columns(others)
    if environments is None:
        names = [name for name in others if name not in errors.values()]
        texts = [name for name in names if _holds_texts_alone(table, name, missing)]
        if texts:
            some = listing(map(shown, texts))
            lines.append(f"{table.path.name}: left out {len(texts)} columns without numbers: {some}")
        names = [name for name in names if name not in texts]
    else:
        twice = first_repeated(np.array(environments, dtype=object))
        if twice is not None:
            raise InputError(f"{table.path}: `{shown(twice)}` is asked for twice", "name each environment once")
        for name in environments:
            if name not in table.columns or name == id_column:
                raise InputError(
                    f"{table.path}: there is no column `{shown(name)}`",
                    did_you_mean(name, [one for one in table.columns if one != id_column], "source.environments="),
                )
        names = list(environments)
    if "" in names:
        raise InputError(f"{table.path}: a column of phenotypes has no name", "name every column in the first line")
    phenotypes = np.empty((len(ids), len(names)), np.float32)
    std = np.full(phenotypes.shape, np.nan, np.float32)
    for place, name in enumerate(names):
        if environments is not None and not numbers_only and _holds_texts_alone(table, name, missing):
            phenotypes[:, place], line = _numbered_labels(table, name, missing)
            lines.append(line)
            continue
        phenotypes[:, place] = _float32(table, name, missing)
        lines += _about_stand_in(table.path, name, phenotypes[:, place])
        if name in errors:
            std[:, place] = _float32(table, errors[name], missing)
            if (std[:, place] < 0).any():
                row = int(np.argmax(std[:, place] < 0))
                raise table.wrong(row, f"a standard error below zero in column `{shown(errors[name])}`", "correct it")
    has_std = any(name in errors for name in names)
    return PhenotypeTable(table.path, ids, tuple(names), phenotypes, std if has_std else None, lines)


def join(table: PhenotypeTable, sample_ids: Sequence[str]) -> Joined:
    """Phenotypes of the genotyped samples, matched by id; refused when not a single id matches."""
    row_of = {one: row for row, one in enumerate(table.sample_ids)}
    rows = np.array([row_of.get(one, -1) for one in sample_ids], dtype=np.intp)
    matched = rows >= 0
    if not matched.any():
        raise InputError(
            f"{table.path}: none of its {len(table.sample_ids)} sample ids is among the {len(sample_ids)} genotyped"
            f" samples (here {listing(map(shown, table.sample_ids), 3)}, there {listing(map(shown, sample_ids), 3)})",
            "samples match by id: set source.sample_column, or make the ids agree",
        )
    known = set(sample_ids)
    without_genotypes = [one for one in table.sample_ids if one not in known]
    without_phenotypes = [one for one, found in zip(sample_ids, matched, strict=True) if not found]
    lines = [*table.lines, f"{table.path.name}: {int(matched.sum())} of {len(sample_ids)} genotyped samples are in it"]
    if without_phenotypes:
        some = listing(map(shown, without_phenotypes), 5)
        lines.append(f"{len(without_phenotypes)} samples have genotypes and no phenotypes: {some}")
    if without_genotypes:
        some = listing(map(shown, without_genotypes), 5)
        lines.append(f"{len(without_genotypes)} samples have phenotypes and no genotypes, and are left out: {some}")

    def taken(values: NDArray[np.float32]) -> NDArray[np.float32]:
        found = values[rows]
        found[~matched] = np.nan
        return found

    std = None if table.phenotype_std is None else taken(table.phenotype_std)
    return Joined(table.environment_names, taken(table.phenotypes), std, lines)


def no_phenotypes(num_samples: int) -> Joined:
    """Genotypes alone: no environments."""
    return Joined((), np.empty((num_samples, 0), np.float32), None, ["no phenotypes were given"])


def _sample_column(table: TextTable, wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in table.columns:
            raise InputError(
                f"{table.path}: there is no column `{shown(wanted)}`",
                did_you_mean(wanted, table.columns, "source.sample_column="),
            )
        return wanted
    if len(table.columns) > 1 and table.columns[0] in _FAMILY_COLUMNS and table.columns[1] == "IID":
        return "IID"
    return table.columns[0]


def _error_columns(names: Sequence[str]) -> dict[str, str]:
    """The column of standard errors of each phenotype that has one."""
    known = set(names)
    found: dict[str, str] = {}
    for name in names:
        for suffix in ERROR_SUFFIXES:
            if name and name not in found and name + suffix in known and name not in found.values():
                found[name] = name + suffix
    return found


def _holds_texts_alone(table: TextTable, name: str, missing: Sequence[str]) -> bool:
    """Whether a column holds texts and not a single number; missing cells are neither."""
    values = [parsed(cell, missing) for cell in table.column(name)]
    return None in values and not any(value is not None and not math.isnan(value) for value in values)


def _numbered_labels(table: TextTable, name: str, missing: Sequence[str]) -> tuple[NDArray[np.float32], str]:
    """A column of labels that was asked for by name (sex, batch, plate) as numbers 0, 1, ... in alphabetical order."""
    cells = table.column(name)
    is_label = [parsed(cell, missing) is None for cell in cells]
    labels = sorted({cell for cell, known in zip(cells, is_label, strict=True) if known})
    number = {label: place for place, label in enumerate(labels)}
    values = [number[cell] if known else np.nan for cell, known in zip(cells, is_label, strict=True)]
    some = listing([f"{shown(label)}={place}" for label, place in number.items()], 10)
    line = f"{table.path.name}: labels of `{shown(name)}` are numbered: {some}; for training: data.factors=[{name}]"
    return np.array(values, np.float32), line


def _about_stand_in(path: Path, name: str, values: NDArray[np.float32]) -> list[str]:
    """A warning where the smallest number of a phenotype is one that many programs write for a missing one."""
    known = values[~np.isnan(values)]
    smallest = float(known.min(initial=0))
    others = known[known != smallest]
    if smallest not in _STAND_INS or not others.size:
        return []
    is_far = others.min() - smallest > np.ptp(others)
    if others.min() < 0 and not is_far:
        return []
    count = known.size - others.size
    where = f"{path.name}: {smallest:g} in column `{shown(name)}`, {count} times"
    return [f"warning: {where}, is read as a number, and many programs write it for a missing one"]


def _float32(table: TextTable, name: str, missing: Sequence[str]) -> NDArray[np.float32]:
    values = table.numbers(name, missing)
    too_large = np.abs(values) > _LARGEST
    if too_large.any():
        row = int(np.argmax(too_large))
        raise table.wrong(row, f"{values[row]:g} in column `{shown(name)}` is too large", "phenotypes are float32")
    return values.astype(np.float32)
