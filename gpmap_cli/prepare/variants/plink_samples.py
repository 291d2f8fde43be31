"""The samples of a PLINK fileset, from its .fam or .psam file: their ids, and the phenotypes that stand there.

A sample is called by its individual id (IID), or by family and individual id, FID_IID, where IIDs are not unique.
Phenotypes are read as PLINK does: -9 and NA are missing, and a phenotype of only 0, 1 and 2 is a case/control one
(1 control, 2 case), of which 0 is missing too. Given texts for missing phenotypes replace all of this.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.hdf5 import first_repeated
from gpmap_cli.errors import InputError, did_you_mean, listing
from gpmap_cli.prepare.tables.phenotype_table import Joined, no_phenotypes, phenotypes_of
from gpmap_cli.prepare.tables.text_table import MISSING, TextTable, parsed, read_text, shown, table_of
from gpmap_cli.prepare.variants.genotype_settings import GenotypeFileSettings

FAM_PHENOTYPE = "phenotype"  # what the one phenotype of a .fam file, which has no name, is called
_FAM = ("FID", "IID", "PAT", "MAT", "SEX", FAM_PHENOTYPE)
_BARE_PSAM = ("FID", "IID", "PAT", "MAT", "SEX", "PHENO1")  # PLINK 2's names where there is no header line
_NO_PHENOTYPES = ("FID", "IID", "SID", "PAT", "MAT", "SEX")


def read_fam(path: Path) -> TextTable:
    """The samples of a PLINK 1 fileset: family, individual, father, mother, sex, phenotype."""
    return _not_empty(table_of(path, read_text(path), delimiter=" ", columns=_FAM))


def read_psam(path: Path) -> TextTable:
    """The samples of a PLINK 2 fileset, with any number of phenotypes; without a header line it is a .fam file."""
    text = read_text(path)
    lines = text.splitlines()
    at = next((number for number, line in enumerate(lines) if line.startswith(("#FID", "#IID"))), None)
    if at is None:
        first = next((line for line in lines if line.strip() and not line.startswith("#")), "")
        columns = _BARE_PSAM[:5] if len(first.split()) == 5 else _BARE_PSAM
        return _not_empty(table_of(path, text, delimiter=" ", columns=columns, comment="#"))
    # The header line loses its mark, and so is no comment as those before it are.
    lines[at] = lines[at][1:]
    table = _not_empty(table_of(path, "\n".join(lines), delimiter=" ", comment="#"))
    if "IID" not in table.columns:
        raise InputError(f"{path}:{at + 1}: there is no column `IID`", "a .psam file begins with `#IID` or `#FID IID`")
    return table


def sample_ids(table: TextTable) -> tuple[list[str], list[str]]:
    """Unique ids of the N samples, and what there is to say about them."""
    ids = table.column("IID")
    if first_repeated(np.array(ids, dtype=object)) is None:
        return ids, []
    if "FID" in table.columns:
        ids = [f"{family}_{one}" for family, one in zip(table.column("FID"), ids, strict=True)]
    repeated = first_repeated(np.array(ids, dtype=object))
    if repeated is not None:
        row = [place for place, one in enumerate(ids) if one == repeated][1]
        raise table.wrong(row, f"the sample `{shown(repeated)}` is in the file already", "samples need unique ids")
    return ids, [f"{table.path.name}: individual ids are not unique, so samples are called FID_IID, as `{ids[0]}`"]


def own_phenotypes(table: TextTable, ids: Sequence[str], settings: GenotypeFileSettings) -> Joined | None:
    """Phenotypes (N, E) in the file itself; None where those of a table are asked for instead."""
    if settings.phenotypes is not None:
        return None
    names = [name for name in table.columns if name not in _NO_PHENOTYPES]
    for name in settings.environments or ():
        if name not in names:
            raise InputError(
                f"{table.path}: there is no phenotype `{shown(name)}`",
                did_you_mean(name, names, "source.environments=") if names else "add source.phenotypes=FILE",
            )
    lines: list[str] = []
    columns = {name: table.column(name) for name in names}
    if settings.missing is None:
        columns = {name: _as_plink(table, name, cells, lines) for name, cells in columns.items()}
    # Column by column of the file becomes row by row of a table in which the first column is the id.
    rows = [list(row) for row in zip(ids, *columns.values(), strict=True)]
    found = phenotypes_of(
        TextTable(table.path, ("IID", *names), rows, table.lines),
        environments=settings.environments,
        missing=MISSING if settings.missing is None else settings.missing,
    )
    joined = Joined(found.environment_names, found.phenotypes, found.phenotype_std, found.lines + lines)
    if settings.environments is None:
        joined = _without_empty(joined, table)
    if not joined.environment_names:
        return replace(joined, lines=joined.lines + no_phenotypes(len(ids)).lines)
    return joined


def _as_plink(table: TextTable, name: str, cells: list[str], lines: list[str]) -> list[str]:
    """The cells of a phenotype, with an empty text for those that PLINK takes for missing."""
    values = [parsed(cell) for cell in cells]
    cells = ["" if value == -9 else cell for cell, value in zip(cells, values, strict=True)]
    known = {value for value in values if value is not None and not math.isnan(value) and value != -9}
    if not known or not known <= {0, 1, 2}:
        return cells
    # PLINK 1 takes texts in a case/control phenotype for missing, too; PLINK 2 refuses them, and so does what follows.
    is_fam = table.columns == _FAM
    kept = [cell if value or (value is None and not is_fam) else "" for cell, value in zip(cells, values, strict=True)]
    num_zeros, num_texts = values.count(0), sum(value is None for value in values) if is_fam else 0
    lines.append(
        f"{table.path.name}: `{shown(name)}` is case/control, 1 or 2;"
        f" missing as in PLINK: {num_zeros} zeros"
        + (f", {num_texts} texts" if num_texts else "")
        + (" (source.missing=[-9] keeps zeros)" if num_zeros else "")
    )
    return kept


def _without_empty(joined: Joined, table: TextTable) -> Joined:
    """Without the environments in which nobody has a phenotype, which is how PLINK writes that there is none."""
    is_empty: NDArray[np.bool_] = np.asarray(np.isnan(joined.phenotypes).all(axis=0))
    if not is_empty.any():
        return joined
    names = [name for name, empty in zip(joined.environment_names, is_empty, strict=True) if empty]
    return replace(
        joined,
        environment_names=tuple(name for name in joined.environment_names if name not in names),
        phenotypes=joined.phenotypes[:, ~is_empty],
        phenotype_std=None if joined.phenotype_std is None else joined.phenotype_std[:, ~is_empty],
        lines=[*joined.lines, f"{table.path.name}: all missing, and so left out: {listing(map(shown, names))}"],
    )


def _not_empty(table: TextTable) -> TextTable:
    if not table.rows:
        raise InputError(f"{table.path}: no samples in it", "get the whole file")
    return table
