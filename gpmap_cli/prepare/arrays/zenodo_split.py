"""Importing a ready-made split: genotypes and phenotypes of three sets of segregants as six .npy files.

`geno_{train,val,test}.npy` (rows, L) hold alleles coded -1/+1 (or anything between, a dosage), NaN missing, and
`pheno_{train,val,test}.npy` (rows, E) phenotypes that were standardised by whoever made the split, NaN missing.
They are in a directory or in a .zip file, there or in one folder below. Rows keep their order: train, validation,
test, as `splits/zenodo`. Source: Zenodo record 15313069 (Arcadia Science 2025), of the yeast data of Nguyen Ba et
al. 2022.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.hdf5 import check_readable
from gpmap_cli.dataset.values import phenotype_trouble
from gpmap_cli.errors import InputError, listing
from gpmap_cli.prepare.arrays.array_files import ArrayFile, NpyDirectory, NpzArchive
from gpmap_cli.prepare.sources.zenodo_split import Settings
from gpmap_cli.prepare.tables.genotype_rows import GenotypeRows
from gpmap_cli.simulate.yeast_environments import ENVIRONMENTS

PARTS = ("train", "val", "test")
_BLOCK_VALUES = 2**22
_HINT = "geno_{train,val,test}.npy are (rows, loci), pheno_{train,val,test}.npy (rows, environments), both of numbers"


def read_zenodo_split(source: Settings) -> tuple[Dataset, list[str]]:
    """The dataset (N samples, L loci, E environments) with its split, and lines that say what was found and kept."""
    if source.path is None:
        raise InputError("source.path is not set", "add source.path=datasets.zip (or the directory)")
    file, prefix = _opened(Path(source.path))
    try:
        counts, num_loci, num_environments = _shapes(file, prefix)
        names = _environment_names(file, source.environments, num_environments)
        rows = GenotypeRows(f"{file.path}: the genotypes")
        for part, count in zip(PARTS, counts, strict=True):
            _append_genotypes(file, f"{prefix}geno_{part}", (count, num_loci), rows)
        phenotypes = np.concatenate([_phenotypes(file, f"{prefix}pheno_{part}") for part in PARTS])
        genotypes = rows.matrix()
        dataset = Dataset(
            genotypes=genotypes,
            phenotypes=phenotypes,
            sample_ids=np.array([f"{p}_{n}" for p, count in zip(PARTS, counts, strict=True) for n in range(count)]),
            locus_ids=np.array([f"locus_{number}" for number in range(num_loci)]),
            environment_names=names,
            ploidy=1,
            splits={"zenodo": np.repeat(np.arange(3, dtype=np.int8), counts)},
            provenance={
                "made_by": "gpmap prepare source=zenodo_split",
                "source_file": file.path.resolve().name,
                "source_sha256": file.sha256(),
            },
        )
        used = {f"{prefix}{kind}_{part}" for kind in ("geno", "pheno") for part in PARTS}
        others = [name for name in file.names if name not in used and not name.startswith("__MACOSX/")]
    finally:
        file.close()
    kind = "calls 0/1" if rows.are_whole else "dosages: not all are -1 or +1"
    lines = [
        f"{file.path.resolve().name}: six .npy files with a split of {counts[0]} train, {counts[1]} validation and"
        f" {counts[2]} test segregants (splits/zenodo)",
        f"{sum(counts)} samples x {num_loci} loci x {num_environments} environments, haploid, genotypes stored as"
        f" {genotypes.dtype} ({kind})",
        f"missing genotypes: {rows.num_missing} of {genotypes.size}",
        f"missing phenotypes: {int(np.isnan(phenotypes).sum())} of {phenotypes.size}",
        f"environments: {listing(names, 18)}; phenotypes are kept as they are, on their standardised scale",
        "the files name no segregants or loci: they are numbered within their set, and along the columns",
    ]
    return dataset, lines + ([f"left out {len(others)} other arrays: {listing(others)}"] if others else [])


def _opened(path: Path) -> tuple[ArrayFile, str]:
    """The arrays, and the folder inside them that the six are in (with its slash)."""
    if path.is_dir():
        return _directory(path), ""
    check_readable(path, "check source.path: datasets.zip, or a directory of .npy files")
    with path.open("rb") as stream:
        if stream.read(2) != b"PK":
            raise InputError(
                f"{path}: not a .zip file", "name datasets.zip, or the directory that holds the .npy files"
            )
    archive = NpzArchive(path)
    places = [name.removesuffix("geno_train") for name in archive.names if name.split("/")[-1] == "geno_train"]
    if len(places) != 1:
        archive.close()
        raise InputError(
            f"{path}: {'more than one' if places else 'no'} geno_train.npy in it", f"{_HINT}, once each, in one folder"
        )
    return archive, places[0]


def _directory(path: Path) -> ArrayFile:
    """The directory itself, or the only one in it that holds the genotypes."""
    try:
        if (path / "geno_train.npy").exists():
            return NpyDirectory(path)
        below = sorted(file.parent for file in path.glob("*/geno_train.npy"))
    except OSError as trouble:
        raise InputError(f"{path}: cannot be read ({trouble.strerror})", "check the permissions") from trouble
    if len(below) != 1:
        raise InputError(
            f"{path}: {'more than one directory in it holds a' if below else 'there is no'} geno_train.npy",
            "name the directory that holds geno_train.npy and the others",
        )
    return NpyDirectory(below[0])


def _shapes(file: ArrayFile, prefix: str) -> tuple[list[int], int, int]:
    """Rows of the three sets, and the loci and environments that all of them must share."""
    counts: list[int] = []
    widths: dict[str, int] = {}
    for part in PARTS:
        for kind, of in (("geno", "loci"), ("pheno", "environments")):
            name = f"{prefix}{kind}_{part}"
            if name not in file.names:
                raise file.wrong(name, "is missing", f"found here: {listing(file.names)}")
            shape, dtype = file.layout(name)
            if dtype.kind not in "fiu":
                raise file.wrong(name, f"has type {dtype}, not a type of numbers", _HINT)
            if len(shape) != 2 or 0 in shape:
                raise file.wrong(name, f"has shape {shape}, not (rows, {of})", _HINT)
            if widths.setdefault(kind, shape[1]) != shape[1]:
                raise file.wrong(name, f"has {shape[1]} {of}, but `{kind}_train` has {widths[kind]}", _HINT)
            if kind == "geno":
                counts.append(shape[0])
            elif shape[0] != counts[-1]:
                raise file.wrong(name, f"has {shape[0]} rows, but `geno_{part}` has {counts[-1]}", _HINT)
    return counts, widths["geno"], widths["pheno"]


def _environment_names(file: ArrayFile, given: tuple[str, ...] | None, count: int) -> tuple[str, ...]:
    names = tuple(ENVIRONMENTS) if given is None else given
    if len(names) != count:
        raise InputError(
            f"{file.path}: {count} columns of phenotypes, and {len(names)} names of environments"
            + ("" if given else " were published"),
            "name the columns in their order: source.environments=[30C,...]",
        )
    return names


def _append_genotypes(file: ArrayFile, name: str, shape: tuple[int, int], rows: GenotypeRows) -> None:
    """Add the segregants of one set, block by block: copies of the +1 allele."""
    num_rows = max(1, _BLOCK_VALUES // shape[1])
    smallest = np.inf
    for start in range(0, shape[0], num_rows):
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is outside of the alleles
            block = file.read(name, slice(start, start + num_rows)).astype(np.float32)
        outside = np.abs(block) > 1
        if outside.any():
            row, locus = np.argwhere(outside)[0]
            raise file.wrong(
                name,
                f"holds {block[row, locus]:g} at row {start + row}, locus {locus}",
                "genotypes here are alleles coded -1/+1, NaN where missing; other arrays are read by source=arrays",
            )
        smallest = np.fmin(smallest, np.fmin.reduce(block, axis=None))
        rows.append((block + 1) / 2)
    if 0 <= smallest < 1:  # copies 0 and 1 would become one half and one
        raise file.wrong(
            name,
            f"holds {smallest:g} and nothing below 0: this does not look coded -1/+1",
            "genotypes here are alleles coded -1/+1; copies of an allele are read by source=arrays",
        )


def _phenotypes(file: ArrayFile, name: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is refused as infinite
        table = file.read(name).astype(np.float32)
    trouble = phenotype_trouble(table)
    if trouble:
        raise file.wrong(name, trouble, "mark missing phenotypes with NaN")
    return table
