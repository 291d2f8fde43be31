"""Genotypes as they come in files become genotypes as a dataset file stores them.

Two passes over row blocks: the first finds what values there are, the second converts. So no more than the
result and one block is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import MISSING
from gpmap_cli.dataset.hdf5 import refuse_what_cannot_fit
from gpmap_cli.prepare.arrays.array_files import ArrayFile
from gpmap_cli.prepare.tables.genotype_rows import about_minus_ones

Coding = Literal["dosage", "plus_minus_one"]
_BLOCK_VALUES = 2**23


@dataclass(frozen=True)
class Genotypes:
    """Genotypes (N, L) as stored, int8 calls or floating-point dosages, how many are missing, and doubts about them."""

    stored: NDArray
    ploidy: int
    num_missing: int
    lines: list[str]


@dataclass
class _Survey:
    """The values that occur among known genotypes."""

    smallest: float = np.inf
    largest: float = -np.inf
    num_nan: int = 0
    num_minus_one: int = 0
    has_zero: bool = False
    has_one: bool = False
    all_whole: bool = True

    def add(self, block: NDArray) -> None:
        known = block
        if block.dtype.kind == "f":
            is_nan = np.isnan(block)
            self.num_nan += int(is_nan.sum())
            known = block[~is_nan]
            self.all_whole = self.all_whole and bool((known == np.rint(known)).all())
        if known.size:
            self.smallest = min(self.smallest, known.min().item())
            self.largest = max(self.largest, known.max().item())
        self.num_minus_one += int((known == -1).sum())
        self.has_zero = self.has_zero or bool((known == 0).any())
        self.has_one = self.has_one or bool((known == 1).any())


def read_genotypes(file: ArrayFile, coding: Coding, ploidy: int | None) -> Genotypes:
    """Read `genotypes` (N, L): copies of the alternative allele, or -1/+1.

    coding=dosage: integers 0..ploidy with -1 missing, or floats in [0, ploidy] with NaN missing; floats that
    are all whole become int8, others keep their precision up to float32.
    coding=plus_minus_one: x in [-1, 1] becomes ploidy * (x + 1) / 2; NaN is missing.
    """
    shape, dtype = file.layout("genotypes")
    if dtype.kind not in "iubf":
        raise file.wrong("genotypes", f"has type {dtype}, not a type of numbers")
    if len(shape) != 2:
        raise file.wrong("genotypes", f"has shape {shape}, not 2 dimensions (samples, loci)")
    if 0 in shape:
        raise file.wrong("genotypes", f"is empty ({shape[0]} samples x {shape[1]} loci)")
    survey = _Survey()
    for _, block in _blocks(file, shape, dtype):
        survey.add(block)
    is_float = dtype.kind == "f"
    if coding == "dosage":
        ploidy = _check_dosages(file, survey, shape, dtype, ploidy)
        all_whole = survey.all_whole
    else:
        ploidy = _check_plus_minus_one(file, survey, shape, dtype, ploidy)
        all_whole = survey.all_whole and (not survey.has_zero or ploidy % 2 == 0)
    stored_type = np.dtype(np.int8) if all_whole else _float_type(dtype)
    refuse_what_cannot_fit(f"{file.path}: `genotypes`", shape[0] * shape[1] * stored_type.itemsize)
    stored = np.empty(shape, stored_type)
    for rows, block in _blocks(file, shape, dtype):
        if coding == "plus_minus_one":
            block = (block.astype(np.float64) + 1) * (ploidy / 2)
        if all_whole and block.dtype.kind == "f":
            block = np.where(np.isnan(block), MISSING, block)
        stored[rows] = block.astype(stored_type)
    if is_float or coding == "plus_minus_one":
        return Genotypes(stored, ploidy, survey.num_nan, [])
    doubts = about_minus_ones(survey.num_minus_one, stored.size, survey.largest)
    return Genotypes(stored, ploidy, survey.num_minus_one, doubts)


def _check_dosages(
    file: ArrayFile, survey: _Survey, shape: tuple[int, ...], dtype: np.dtype, ploidy: int | None
) -> int:
    is_float = dtype.kind == "f"
    if not is_float and survey.num_minus_one and survey.has_one and not survey.has_zero:
        raise file.wrong(
            "genotypes",
            "holds -1 and +1 but not a single 0: are these alleles coded -1/+1?",
            "set source.coding=plus_minus_one (with source.coding=dosage, -1 means missing)",
        )
    limit = ploidy if ploidy is not None else 1 if survey.largest <= 1 else 2
    lowest = 0 if is_float else MISSING
    if survey.smallest < lowest or survey.largest > limit:
        hint = "set source.ploidy if there are more copies of each locus; genotypes count the alternative allele"
        if survey.smallest < lowest:
            hint = "genotypes count copies of the alternative allele from 0; -1 marks a missing one among integers"
        if is_float and survey.smallest == -1:
            hint = "set source.coding=plus_minus_one for alleles coded -1/+1; among floats NaN marks a missing genotype"
        what = _first_outside(file, shape, dtype, lowest, limit)
        raise file.wrong("genotypes", f"{what}; only 0..{limit} or missing may stand there", hint)
    return limit


def _check_plus_minus_one(
    file: ArrayFile, survey: _Survey, shape: tuple[int, ...], dtype: np.dtype, ploidy: int | None
) -> int:
    if survey.smallest < -1 or survey.largest > 1:
        what = _first_outside(file, shape, dtype, -1, 1)
        raise file.wrong(
            "genotypes",
            f"{what}; with source.coding=plus_minus_one only -1..+1 may stand there",
            "leave source.coding out if genotypes count copies of the alternative allele",
        )
    if survey.has_zero and survey.all_whole and not survey.num_minus_one:
        raise file.wrong(
            "genotypes",
            "holds 0 but not a single -1: these do not look coded -1/+1",
            "leave source.coding out if genotypes count copies of the alternative allele",
        )
    if survey.has_zero and survey.all_whole and ploidy is None:
        raise file.wrong(
            "genotypes",
            "holds 0 besides -1 and +1",
            "set source.ploidy=2 if 0 is the heterozygote, or source.ploidy=1 if it is a dosage of one half",
        )
    return 1 if ploidy is None else ploidy


def _float_type(dtype: np.dtype) -> np.dtype:
    return np.dtype(np.float16 if dtype == np.float16 else np.float32)


def _blocks(file: ArrayFile, shape: tuple[int, ...], dtype: np.dtype) -> Iterator[tuple[slice, NDArray]]:
    """Row blocks: integers as they are, floats already in the type they may be stored in."""
    num_rows = max(1, _BLOCK_VALUES // shape[1])
    for start in range(0, shape[0], num_rows):
        rows = slice(start, min(start + num_rows, shape[0]))
        block = file.read("genotypes", rows)
        if dtype.kind == "f":
            with np.errstate(over="ignore", invalid="ignore"):  # an infinite value is refused by its range
                block = block.astype(_float_type(dtype))
        elif dtype.kind == "b":
            block = block.astype(np.int8)
        yield rows, block


def _first_outside(file: ArrayFile, shape: tuple[int, ...], dtype: np.dtype, lowest: float, highest: float) -> str:
    """Says where the first genotype outside the range stands."""
    for rows, block in _blocks(file, shape, dtype):
        outside = np.argwhere((block < lowest) | (block > highest))
        if len(outside):
            row, locus = outside[0]
            return f"holds {block[row, locus]} at row {rows.start + row}, locus {locus}"
    raise AssertionError("the survey and the search for its extremes disagree")
