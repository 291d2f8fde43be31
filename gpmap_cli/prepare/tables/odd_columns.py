"""Columns among those of genotypes that look like something else: a phenotype that nobody named as one.

Values tell some: fractions among whole numbers, a 2 where all others hold 0 and 1. A trait of 0 and 1 only its name
tells, where nearly all loci are called alike but for their numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.errors import listing
from gpmap_cli.prepare.tables.text_table import shown

_NEARLY_ALL = 0.9  # of the columns make the rule that the others break
_FEWEST = 5  # columns from which on their names tell anything


def odd_columns(names: Sequence[str], has_fraction: NDArray[np.bool_], largest: NDArray[np.floating]) -> list[str]:
    """Warnings about the columns (L,) that break a rule that nearly all others keep.

    has_fraction says which hold numbers between whole ones, largest the largest number in each (-inf if there is none).
    """
    found = []
    few = max(1, round((1 - _NEARLY_ALL) * len(names)))
    if 0 < has_fraction.sum() <= few and len(names) > 1:
        found.append((has_fraction, "hold fractions, and all others whole numbers"))
    beyond = largest > 1
    if 0 < beyond.sum() <= few and len(names) > 1 and not has_fraction.any():
        found.append((beyond, "hold numbers above 1, and no others do"))
    shapes = [re.sub(r"\d+", "#", name) for name in names]
    shape, count = Counter(shapes).most_common(1)[0]
    if len(names) >= _FEWEST and "#" in shape and _NEARLY_ALL * len(names) <= count < len(names):
        found.append((np.array([one != shape for one in shapes]), f"are not called `{shown(shape)}` like the others"))
    lines = []
    for which, what in found:
        odd = listing(shown(name) for name, is_odd in zip(names, which, strict=True) if is_odd)
        hint = "(phenotypes? source.phenotype_columns or source.genotype_columns says so)"
        lines.append(f"warning: columns of genotypes that {what}: {odd} {hint}")
    return lines
