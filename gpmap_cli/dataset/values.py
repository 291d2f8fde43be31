"""Which values may stand in the tables of a dataset: the same rules when writing and when reading."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import MISSING

GENOTYPE_TYPES = ("int8", "float16", "float32")


def genotype_trouble(block: NDArray, ploidy: int, first_row: int = 0) -> str | None:
    """What is wrong with stored genotypes (rows, L), or None: they are 0..ploidy or missing (-1, or NaN)."""
    bad = _bad_genotypes(block, ploidy)
    if bad is None:
        return None
    row, locus = np.argwhere(bad)[0]
    return (
        f"holds {block[row, locus]} at row {first_row + row}, locus {locus};"
        f" only 0..{ploidy} or missing may stand there"
    )


def _bad_genotypes(block: NDArray, ploidy: int) -> NDArray[np.bool_] | None:
    if block.size == 0:
        return None
    if block.dtype.kind == "i":
        if block.min() >= MISSING and block.max() <= ploidy:
            return None
        return (block < MISSING) | (block > ploidy)
    # As unsigned integers, floats from 0 upwards keep their order, and all others (negative ones, NaN) lie
    # above them. One pass over integers is 50 times faster than comparing 16-bit floats.
    bits = block.view(f"u{block.dtype.itemsize}")
    top, infinite, minus_zero = (int(np.array(value, block.dtype).view(bits.dtype)) for value in (ploidy, np.inf, -0.0))
    if bits.max() <= top:
        return None
    is_nan = (bits & (minus_zero - 1)) > infinite
    bad = (bits > top) & (bits != minus_zero) & ~is_nan
    return bad if bad.any() else None


def phenotype_trouble(table: NDArray, is_std: bool = False) -> str | None:
    """What is wrong with phenotypes or their standard deviations (N, E), or None: finite or NaN (and not negative)."""
    infinite = np.isinf(table)
    if infinite.any():
        row, column = np.argwhere(infinite)[0]
        return f"holds an infinite value at row {row}, environment {column}"
    if is_std and (table < 0).any():
        row, column = np.argwhere(table < 0)[0]
        return f"holds a negative measurement error at row {row}, environment {column}"
    return None
