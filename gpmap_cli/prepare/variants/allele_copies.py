"""Calls become copies of alternative alleles, at one ploidy for the whole dataset.

A call lists the alleles that a sample carries: 0 the reference, 1, 2, ... the alternatives. With a wanted ploidy of
None all calls must agree on theirs. With 1, a homozygous call counts as one copy and a heterozygous one, which no
haploid can be, as missing. With 2, a haploid call counts as two copies (males at the X, as PLINK writes them).
Everything that is turned is counted, and so are the heterozygous calls of diploids: of inbred lines they are errors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import MISSING
from gpmap_cli.errors import InputError

UNKNOWN, ABSENT = -1, -2  # in a call: an allele that is not known, and none since the ploidy is lower
_LARGEST_PLOIDY = 16
# In the place of an alternative allele: deleted by a variant before, or any other allele, not seen here.
NO_VARIANTS = ("*", "<*>", "<NON_REF>")
Where = Callable[[], str]  # the place in the file, for a refusal


@dataclass
class AlleleCopies:
    """The wanted ploidy, the one that the calls turn out to have, and how many calls were turned how."""

    wanted: int | None
    found: int | None = None
    num_calls: int = 0  # those that are not missing
    num_half: int = 0
    num_heterozygous: int = 0
    num_doubled: int = 0

    @property
    def ploidy(self) -> int:
        """Of the dataset; 2 when not a single call says."""
        return self.wanted or self.found or 2

    def of_calls(self, alleles: NDArray, num_alternatives: int, where: Where) -> NDArray[np.int8]:
        """Copies (A, N) of each of A alternative alleles in N calls (N, P); -1 where the call is missing.

        A call with some alleles unknown, such as ./1, is missing as a whole.
        """
        if alleles.max(initial=UNKNOWN) > num_alternatives:
            sample = int(np.argmax((alleles > num_alternatives).any(axis=1)))
            raise InputError(
                f"{where()}: the call of sample {sample + 1} has allele {alleles[sample].max()}, and there are"
                f" {num_alternatives} alternative alleles",
                "get an undamaged copy, or correct the call",
            )
        ploidies, is_missing = self.ploidies(alleles)
        self.num_half += int((is_missing & (alleles >= 0).any(axis=1)).sum())
        self.agree(ploidies[~is_missing], where)
        if self.wanted is not None:
            # The absent second allele of a haploid call becomes its first: homozygous as a diploid one.
            alleles = np.where(alleles == ABSENT, alleles[:, :1], alleles)
        heterozygous = ((alleles != alleles[:, :1]) & (alleles != ABSENT)).any(axis=1) & ~is_missing
        self.num_calls += int((~is_missing).sum())
        self.num_heterozygous += int(heterozygous.sum())
        if self.wanted == 1:
            is_missing = is_missing | heterozygous
            alleles = alleles[:, :1]
        elif self.wanted == 2:
            self.num_doubled += int((ploidies[~is_missing] == 1).sum())
            alleles = alleles[:, :2] if alleles.shape[1] >= 2 else np.repeat(alleles, 2, axis=1)
        counts = np.zeros((num_alternatives, len(alleles)), np.int8)
        for number in range(num_alternatives):
            for allele in alleles.T:
                counts[number] += allele == number + 1
        counts[:, is_missing] = MISSING
        return counts

    def of_diploid_counts(self, counts: NDArray[np.int8]) -> NDArray[np.int8]:
        """The same for copies 0, 1, 2 of one alternative allele in diploid calls, below 0 where missing; any shape."""
        counts = np.where(counts < 0, np.int8(MISSING), counts)
        heterozygous = counts == 1
        self.num_calls += int((counts != MISSING).sum())
        self.num_heterozygous += int(heterozygous.sum())
        if self.wanted == 1:
            counts[heterozygous] = MISSING
            counts[counts == 2] = 1
        return counts

    def of_dosages(self, dosages: NDArray, ploidies: NDArray, where: Where) -> NDArray[np.float32]:
        """Dosages (A, N) of samples of the given ploidies (N,), at the dataset's ploidy; NaN missing."""
        known = ~np.isnan(dosages).all(axis=0)
        self.agree(ploidies[known], where)
        if self.wanted == 2:
            self.num_doubled += int((ploidies[known] == 1).sum())
        return (dosages * (self.ploidy / ploidies)).astype(np.float32)

    def agree(self, ploidies: NDArray, where: Where) -> None:
        """Take note of the ploidies of known calls, and refuse those that do not go together."""
        if not ploidies.size:
            return
        lowest, highest = int(ploidies.min()), int(ploidies.max())
        if highest > (2 if self.wanted == 2 else _LARGEST_PLOIDY):
            raise InputError(
                f"{where()}: a call of {highest} alleles"
                + (", and source.ploidy=2 takes no more than 2" if self.wanted == 2 else ""),
                "leave source.ploidy out for polyploids; calls may have up to 16 alleles",
            )
        if self.wanted is not None:
            return
        if self.found is None:
            self.found = lowest
        if not lowest == highest == self.found:
            other = highest if highest != self.found else lowest
            raise InputError(
                f"{where()}: a call of ploidy {other}, where others have ploidy {self.found}",
                "set source.ploidy=2 to count a haploid call as two copies, or source.ploidy=1 to count a homozygous"
                " diploid call as one",
            )

    @staticmethod
    def ploidies(alleles: NDArray) -> tuple[NDArray, NDArray[np.bool_]]:
        """Of calls (N, P): their ploidies (N,), and which are missing."""
        if alleles.size and alleles.min() >= 0:
            return np.full(len(alleles), alleles.shape[1]), np.zeros(len(alleles), bool)
        present = (alleles != ABSENT).sum(axis=1)
        return present, (present == 0) | (alleles == UNKNOWN).any(axis=1)

    def lines(self) -> list[str]:
        """What was turned, and how often; nothing about calls where dosages were read instead."""
        said = []
        if self.num_half:
            said.append(f"half calls, with one allele unknown as in ./1: {self.num_half}, which count as missing")
        if self.num_calls and self.wanted == 1:
            said.append(f"heterozygous calls: {self.num_heterozygous}, missing since source.ploidy=1")
        elif self.num_calls and self.ploidy > 1:
            share = 100 * self.num_heterozygous / self.num_calls
            said.append(f"heterozygous calls: {self.num_heterozygous} of {self.num_calls} ({share:.2f} %)")
        if self.num_doubled:
            said.append(f"haploid calls: {self.num_doubled}, counted as two copies since source.ploidy=2")
        return said
