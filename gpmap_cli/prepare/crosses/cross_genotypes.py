"""Genotypes of an experimental cross of two lines, as R/qtl and R/qtl2 number them, become copies of one allele.

1 is AA, 2 AB, 3 BB, 4 "not BB" and 5 "not AA"; in crosses that know but two genotypes, 2 is the second of them. The
second allele, B, is the one that is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import MISSING

CrossType = Literal["bc", "f2", "riself", "risib", "dh", "haploid"]
CROSS_TYPES: tuple[CrossType, ...] = ("bc", "f2", "riself", "risib", "dh", "haploid")
AA, AB, BB, NOT_BB, NOT_AA = 1, 2, 3, 4, 5
LARGEST_CODE = NOT_AA
# What R/qtl and R/qtl2 take where nothing else is said.
DEFAULT_CODES = {"A": AA, "H": AB, "B": BB, "D": NOT_BB, "C": NOT_AA}
MALE, FEMALE = ("1", "m", "male"), ("0", "f", "female")
_WORDS = {
    "bc": "backcross: 0 is AA and 1 is AB, two genotypes that differ in one copy, and so ploidy 1",
    "f2": "intercross: copies of the second allele, 0 to 2",
    "riself": "recombinant inbred lines by selfing: 0 is AA and 1 is BB, ploidy 1",
    "risib": "recombinant inbred lines by sib mating: 0 is AA and 1 is BB, ploidy 1",
    "dh": "doubled haploids: 0 is AA and 1 is BB, ploidy 1",
    "haploid": "haploids: 0 is A and 1 is B",
}


@dataclass(frozen=True)
class Cross:
    """Copies of the second allele (N, L) int8, -1 missing, and lines that say what could not be counted."""

    genotypes: NDArray[np.int8]
    ploidy: int
    lines: list[str]


def copies(
    codes: NDArray[np.int8], crosstype: CrossType, is_x: NDArray[np.bool_], is_male: NDArray[np.bool_] | None
) -> Cross:
    """Copies of the second allele in genotypes (N, L) numbered 1 to 5, -1 missing.

    is_x (L,) marks loci on the X chromosome, is_male (N,) the males, None where nobody says. A male's only X is
    counted like the homozygote of its allele; a male that is heterozygous there is an error of typing, and missing.
    """
    lines = [f"{crosstype}, {_WORDS[crosstype]}"]
    table = np.full(LARGEST_CODE + 2, MISSING, np.int8)  # by code; the last one is that of missing genotypes, -1
    table[AA] = 0
    if crosstype == "f2":
        table[[AB, BB]] = 1, 2
        genotypes = table[codes]
        lines += _counted((codes == NOT_BB) | (codes == NOT_AA), "are only partly known (not BB, not AA): missing")
        if is_male is not None:
            impossible = (codes == AB) & is_x & is_male[:, None]
            genotypes[impossible] = MISSING
            lines += _counted(impossible, "of males are heterozygous on the X chromosome: missing")
    elif crosstype == "bc":
        table[AB] = 1
        genotypes = table[codes]
        hemizygous = (codes == BB) & is_x & (True if is_male is None else is_male[:, None])
        genotypes[hemizygous] = 1
        lines += _counted(hemizygous, "on the X chromosome are the second allele alone (males): 1")
        lines += _counted((codes > AA) & (genotypes == MISSING), "have a code that a backcross does not know: missing")
    else:
        has_third = bool((codes == BB).any())
        table[BB if has_third else AB] = 1
        genotypes = table[codes]
        lines += _counted((codes == AB) & has_third, "are heterozygous in a cross without heterozygotes: missing")
        lines += _counted(codes > BB, f"have a code that {crosstype} does not know: missing")
    if is_x.any():
        lines.append(_about_x(int(is_x.sum()), is_male))
    return Cross(genotypes, 2 if crosstype == "f2" else 1, lines)


def _counted(which: NDArray[np.bool_], what: str) -> list[str]:
    number = int(which.sum())
    return [f"{number} genotypes {what}"] if number else []


def _about_x(num_loci: int, is_male: NDArray[np.bool_] | None) -> str:
    if is_male is None:
        return f"{num_loci} loci on the X chromosome; sexes are not given, so they are read like the others"
    return (
        f"{num_loci} loci on the X chromosome; the only X of {int(is_male.sum())} males counts like the homozygote"
        " of its allele"
    )
