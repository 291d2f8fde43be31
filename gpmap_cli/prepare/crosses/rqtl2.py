"""Importing a cross of R/qtl2: genotypes, phenotypes and maps in the tables that a control file names.

Genotypes (N, L) become copies of the second allele; samples match by id between the tables, markers between
genotypes and maps, and what matches nothing is counted. Physical positions, in Mbp there, become base pairs;
centimorgans and covariates have no place in a dataset file and are left out. Source: the R/qtl2 input file format
(Broman et al. 2019, Genetics 211:495).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import MISSING, Dataset
from gpmap_cli.dataset.hdf5 import files_sha256
from gpmap_cli.errors import InputError, listing
from gpmap_cli.prepare.crosses.cross_genotypes import FEMALE, MALE, copies
from gpmap_cli.prepare.crosses.rqtl2_control import Control, Files, read_control
from gpmap_cli.prepare.sources.rqtl2 import Settings
from gpmap_cli.prepare.tables.genotype_text import CellValues, Rule, read_genotypes
from gpmap_cli.prepare.tables.phenotype_table import Joined, join, no_phenotypes, phenotypes_of
from gpmap_cli.prepare.tables.text_table import TextTable, header_of, parsed, refuse_repeated, shown, table_in

_LARGEST_MBP = 1e5  # no chromosome is that long; larger positions are base pairs
_MBP = 1_000_000


def read_rqtl2(source: Settings) -> tuple[Dataset, list[str]]:
    """The dataset (N samples, L loci, E environments) of a cross, and lines that say what was found and kept."""
    if source.path is None:
        raise InputError("source.path is not set", "add source.path=cross.yaml")
    files = Files(Path(source.path))
    try:
        return _read(files, read_control(files))
    finally:
        files.close()


def _read(files: Files, control: Control) -> tuple[Dataset, list[str]]:
    samples, markers, codes, lines = _genotypes(files, control)
    chromosomes, positions, about_maps = _maps(files, control, markers)
    is_x = np.array([one in control.x_chromosomes for one in chromosomes], dtype=bool)
    is_male, about_sexes = _males(files, control, samples) if is_x.any() else (None, [])
    cross = copies(codes, control.crosstype, is_x, is_male)
    joined = _phenotypes(files, control, samples)
    dataset = Dataset(
        genotypes=cross.genotypes,
        phenotypes=joined.phenotypes,
        sample_ids=np.array(samples, dtype=object),
        locus_ids=np.array(markers, dtype=object),
        environment_names=joined.environment_names,
        ploidy=cross.ploidy,
        phenotype_std=joined.phenotype_std,
        chromosomes=chromosomes,
        positions=positions,
        provenance=_provenance(files),
    )
    counted = control.alleles[1] if len(control.alleles) == 2 else "B"
    left_out = [key for key in ("covar", "phenocovar") if key in control.tables] + list(control.others)
    return dataset, [
        f"{control.path.name}: {dataset.num_samples} samples x {dataset.num_loci} loci x"
        f" {len(joined.environment_names)} environments, ploidy {dataset.ploidy}",
        *cross.lines,
        *about_sexes,
        f"the allele that is counted is `{shown(counted)}`",
        *lines,
        f"missing genotypes: {int((cross.genotypes == MISSING).sum())} of {cross.genotypes.size}",
        f"missing phenotypes: {int(np.isnan(joined.phenotypes).sum())} of {joined.phenotypes.size}",
        *joined.lines,
        *about_maps,
        *([f"left out: {listing(map(shown, left_out))}"] if left_out else []),
    ]


def _genotypes(files: Files, control: Control) -> tuple[list[str], list[str], NDArray[np.int8], list[str]]:
    """Ids of the samples and markers, and the codes (N, L) of their genotypes from 1 to 5, -1 missing."""
    cells = CellValues(control.codes, control.missing, unknown_is_missing=True)
    row_of: dict[str, int] = {}
    parts: list[tuple[list[str], NDArray[np.int8]]] = []
    markers: dict[str, str] = {}
    for name in control.tables["geno"]:
        path, records = control.records(files, name)
        header = header_of(path, records)
        places = range(1, len(header))
        table = read_genotypes(path, header, records, places, cells, Rule(codes=control.codes))
        is_transposed = "geno" in control.transposed
        rows = table.rest.column(header[0])
        refuse_repeated(path, rows, table.rest.lines, "in the first column", "markers" if is_transposed else "samples")
        samples, found = (table.columns, rows) if is_transposed else (rows, table.columns)
        for marker in found:
            if marker in markers:
                raise InputError(
                    f"{path}: marker `{shown(marker)}` is in {markers[marker]} too", "leave one of them out"
                )
            markers[marker] = path.name
        for sample in samples:
            row_of.setdefault(sample, len(row_of))
        parts.append((samples, table.matrix.T if is_transposed else table.matrix))
    codes = np.full((len(row_of), len(markers)), MISSING, np.int8)
    start = num_absent = 0
    for samples, matrix in parts:
        codes[[row_of[sample] for sample in samples], start : start + matrix.shape[1]] = matrix
        num_absent += (len(row_of) - len(samples)) * matrix.shape[1]
        start += matrix.shape[1]
    lines = [f"{num_absent} genotypes are missing because a sample is not in every file"] if num_absent else []
    unknown = sum(cells.unknown.values())
    if unknown:
        if not (codes != MISSING).any():
            raise InputError(
                f"{control.path}: not a single genotype has one of the codes {listing(map(shown, control.codes))};"
                f" found are {listing(map(shown, cells.unknown), 5)}",
                "`genotypes` in the control file gives codes their numbers",
            )
        some = ", ".join(f"`{shown(code)}` {number} times" for code, number in cells.unknown.most_common(5))
        lines.append(f"{unknown} genotypes have a code that the control file does not know: missing ({some})")
    return list(row_of), list(markers), codes, lines


def _table(files: Files, control: Control, section: str, name: str) -> TextTable:
    """A table in memory, with samples (or markers) in rows."""
    path, records = control.records(files, name)
    table = table_in(path, records)
    if section not in control.transposed:
        return table
    first = table.columns[0]
    columns = (first, *table.unique(first, "columns"))
    rows = [list(row) for row in zip(table.columns[1:], *(row[1:] for row in table.rows), strict=True)]
    return TextTable(path, columns, rows, [1] * len(rows))


def _phenotypes(files: Files, control: Control, samples: list[str]) -> Joined:
    if "pheno" not in control.tables:
        return no_phenotypes(len(samples))
    joins = []
    for name in control.tables["pheno"]:
        table = _table(files, control, "pheno", name)
        joins.append(join(phenotypes_of(table, sample_column=table.columns[0], missing=control.missing), samples))
    names = [name for joined in joins for name in joined.environment_names]
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise InputError(f"{control.path}: phenotype `{shown(twice)}` is in two files of `pheno`", "rename one of them")
    stds = [joined.phenotype_std for joined in joins]
    std = None
    if any(one is not None for one in stds):
        empty = [np.full(joined.phenotypes.shape, np.nan, np.float32) for joined in joins]
        std = np.hstack([other if one is None else one for one, other in zip(stds, empty, strict=True)])
    return Joined(
        tuple(names), np.hstack([joined.phenotypes for joined in joins]), std, [x for one in joins for x in one.lines]
    )


def _maps(files: Files, control: Control, markers: list[str]) -> tuple[NDArray, NDArray[np.int64] | None, list[str]]:
    """Chromosomes (L,), empty where no map has the marker, positions (L,) in bp if all are known, and counts."""
    genetic, physical = (_map(files, control, section) for section in ("gmap", "pmap"))
    lines = []
    if not genetic and not physical:
        lines.append("no map: chromosomes are not known")
    for section, places in (("gmap", genetic), ("pmap", physical)):
        if places:
            known = set(markers)
            absent, extra = sum(one not in places for one in markers), sum(one not in known for one in places)
            lines.append(
                f"{section}: {len(markers) - absent} of {len(markers)} markers are on it; {absent} are not, and"
                f" {extra} on it have no genotypes"
            )
    other = [one for one in markers if one in genetic and one in physical and genetic[one][0] != physical[one][0]]
    if other:
        lines.append(
            f"{len(other)} markers are on another chromosome of pmap than of gmap, which counts: {listing(other, 5)}"
        )
    if genetic:
        lines.append("genetic positions (cM) are left out: a dataset file holds base pairs")
    both = {**physical, **genetic}
    chromosomes = np.array([both[one][0] if one in both else "" for one in markers], dtype=object)
    positions, line = _base_pairs([physical[one][1] if one in physical else np.nan for one in markers])
    return chromosomes, positions, lines + ([line] if physical and line else [])


def _map(files: Files, control: Control, section: str) -> dict[str, tuple[str, float]]:
    """Chromosome and position of each marker, in the units of the map; NaN where a position is missing."""
    places: dict[str, tuple[str, float]] = {}
    for name in control.tables.get(section, ()):
        table = _table(files, control, section, name)
        if len(table.columns) < 3:
            raise InputError(f"{table.path}: {len(table.columns)} columns", "a map has columns marker, chr, pos")
        for number, (marker, chromosome, position, *_) in enumerate(table.rows):
            value = parsed(position, control.missing)
            if value is None or np.isinf(value):
                raise table.wrong(number, f"`{shown(position)}` is not a position", "columns are marker, chr, pos")
            if not marker or marker in places:
                what = f"marker `{shown(marker)}` is on the map already" if marker else "a marker without a name"
                raise table.wrong(number, what, "every marker has one place")
            places[marker] = chromosome, value
    return places


def _base_pairs(mbp: list[float]) -> tuple[NDArray[np.int64] | None, str]:
    """Physical positions in base pairs, or None and why."""
    values = np.array(mbp, np.float64)
    unknown = int(np.isnan(values).sum())
    if unknown:
        return None, f"positions left out: {unknown} of {len(values)} markers have none on pmap"
    if np.abs(values).max(initial=0) <= _LARGEST_MBP:
        return np.rint(values * _MBP).astype(np.int64), ""
    if np.abs(values).max() < 2**53 and (values == np.rint(values)).all():
        return values.astype(np.int64), "pmap is in base pairs, not in Mbp as the format has it: taken as they are"
    return None, "positions left out: pmap is neither in Mbp nor in base pairs"


def _males(files: Files, control: Control, samples: list[str]) -> tuple[NDArray[np.bool_] | None, list[str]]:
    """Which samples are male by the sex that the control file points to; None where it does not."""
    said = dict(control.sex)
    column, file = said.pop("covar", None), said.pop("file", None)
    if column is None and file is None:
        return None, []
    sexes: dict[str, str] = {}
    for name in control.tables.get("covar", ()) if file is None else (file,):
        table = _table(files, control, "covar" if file is None else "sex", name)
        if column is None and len(table.columns) < 2:
            raise InputError(f"{table.path}: no column of sexes", "sex stands in the second column")
        wanted = table.columns[1] if column is None else column
        if wanted in table.columns:
            sexes.update(zip(table.unique(table.columns[0], "samples"), table.column(wanted), strict=True))
            break
    else:
        raise InputError(
            f"{control.path}: `sex` names the covariate `{shown(str(column))}`, which no table of `covar` holds",
            "correct `sex` in the control file, or leave it out",
        )
    words = [said.get(sexes.get(sample, ""), "").lower() for sample in samples]
    unknown = sum(word not in (*MALE, *FEMALE) for word in words)
    lines = [f"{unknown} samples have no sex that the control file knows, and count as females"] if unknown else []
    return np.array([word in MALE for word in words]), lines


def _provenance(files: Files) -> dict[str, str | int | float]:
    used = [files.path] if files.archive is not None else files.used
    return {
        "made_by": "gpmap prepare source=rqtl2",
        "source_file": ", ".join(path.name for path in used),
        "source_sha256": files_sha256(used),
    }
