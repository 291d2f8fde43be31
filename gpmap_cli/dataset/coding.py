"""Genotype coding and phenotype scale: learned on the training rows, carried with the fitted model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpmap_cli.dataset.contents import MISSING
from gpmap_cli.dataset.disk_genotypes import StoredGenotypes, select_rows

_BLOCK_VALUES = 2**23


@dataclass(frozen=True)
class GenotypeCoding:
    """How allele counts become numbers a model sees.

    Haploid genotypes g become 2g - 1, that is -1/+1 (an inferred probability p becomes 2p - 1); with a
    higher ploidy they become dosages minus their training mean. A missing genotype takes the training
    mean of its locus.

    scale: the factor; shift: (L,) what is added after it; fill: (L,) the coded value of a missing genotype.
    """

    ploidy: int
    shift: NDArray[np.float64]
    fill: NDArray[np.float64]

    @property
    def scale(self) -> float:
        return 2.0 if self.ploidy == 1 else 1.0

    @classmethod
    def learn(cls, genotypes: StoredGenotypes, ploidy: int) -> GenotypeCoding:
        """From the training genotypes (N, L). A locus that is missing everywhere is filled with half the ploidy."""
        total = np.zeros(genotypes.shape[1])
        count = np.zeros(genotypes.shape[1])
        step = max(1, _BLOCK_VALUES // max(1, genotypes.shape[1]))
        for start in range(0, len(genotypes), step):
            block = genotypes[start : start + step]
            known = is_known(block)
            is_whole = block.dtype.kind in "iu"  # such a sum is exact, and faster
            everywhere = bool(known.all())
            values = block if everywhere else np.where(known, block, 0)
            total += values.sum(axis=0, dtype=np.int64 if is_whole else np.float64)
            count += len(block) if everywhere else known.sum(axis=0)
        mean = np.where(count > 0, total / np.maximum(count, 1), ploidy / 2)
        if ploidy == 1:
            return cls(ploidy, np.full(len(mean), -1.0), 2 * mean - 1)
        return cls(ploidy, -mean, np.zeros(len(mean)))

    def apply(self, genotypes: NDArray, dtype: DTypeLike = np.float64) -> NDArray:
        """Coded genotypes (rows, L)."""
        coded = genotypes.astype(dtype)
        coded *= np.asarray(self.scale, dtype)
        coded += self.shift.astype(dtype)
        known = is_known(genotypes)
        if not known.all():
            np.copyto(coded, self.fill.astype(dtype), where=~known)
        return coded

    def state(self) -> dict[str, NDArray]:
        return {"ploidy": np.array(self.ploidy), "shift": self.shift, "fill": self.fill}

    @classmethod
    def from_state(cls, state: dict[str, NDArray]) -> GenotypeCoding:
        return cls(int(state["ploidy"]), state["shift"], state["fill"])


@dataclass(frozen=True)
class Projection:
    """What covariates take away from coded genotypes: design (N, q) of these samples times slopes (q, L)."""

    design: NDArray[np.float64]
    slopes: NDArray[np.float64]


@dataclass(frozen=True)
class CodedGenotypes:
    """Genotypes as stored, (N, L), and the coding that turns any rows of them into numbers when needed.

    projection: the covariates that are projected out of them, if any are.
    """

    stored: StoredGenotypes
    coding: GenotypeCoding
    projection: Projection | None = None

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def num_loci(self) -> int:
        return self.stored.shape[1]

    def rows(self, which: NDArray[np.intp] | slice, dtype: DTypeLike = np.float64) -> NDArray:
        """Coded genotypes of these rows, (rows, L)."""
        coded = self.coding.apply(self.stored[which], dtype)
        if self.projection is not None:
            coded -= (self.projection.design[which] @ self.projection.slopes).astype(dtype)
        return coded

    def loci(self, which: slice, dtype: DTypeLike = np.float64) -> NDArray:
        """Coded genotypes of all samples at these loci, (N, loci)."""
        part = GenotypeCoding(self.coding.ploidy, self.coding.shift[which], self.coding.fill[which])
        coded = part.apply(self.stored[:, which], dtype)
        if self.projection is not None:
            coded -= (self.projection.design @ self.projection.slopes[:, which]).astype(dtype)
        return coded

    def take(self, which: NDArray[np.intp]) -> CodedGenotypes:
        projection = self.projection
        if projection is not None:
            projection = Projection(projection.design[which], projection.slopes)
        return CodedGenotypes(select_rows(self.stored, which), self.coding, projection)

    def in_memory(self) -> CodedGenotypes:
        """The same, with no file behind it."""
        return CodedGenotypes(self.stored[:], self.coding, self.projection)

    def state(self) -> dict[str, NDArray]:
        """Genotypes as stored, their coding and their projection, as arrays."""
        projection = self.projection
        projected = {} if projection is None else {"design": projection.design, "slopes": projection.slopes}
        return {"stored": self.stored[:], **self.coding.state(), **projected}

    @classmethod
    def from_state(cls, state: dict[str, NDArray]) -> CodedGenotypes:
        projection = Projection(state["design"], state["slopes"]) if "design" in state else None
        return cls(state["stored"], GenotypeCoding.from_state(state), projection)

    @property
    def is_plus_minus_one(self) -> bool:
        """Haploid hard calls without a missing one: every coded value is exactly -1 or +1."""
        is_hard = self.coding.ploidy == 1 and self.stored.dtype == np.int8
        return is_hard and self.projection is None and not self.has_missing

    @property
    def has_missing(self) -> bool:
        """Whether any genotype is missing."""
        step = max(1, _BLOCK_VALUES // max(1, self.num_loci))
        blocks = (self.stored[start : start + step] for start in range(0, len(self), step))
        return not all(is_known(block).all() for block in blocks)


@dataclass(frozen=True)
class PhenotypeScale:
    """Mean and standard deviation of each environment's training phenotypes, (E,), NaN ignored."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    @classmethod
    def learn(cls, phenotypes: NDArray) -> PhenotypeScale:
        """From the training phenotypes (N, E). A constant phenotype keeps the scale 1."""
        known = ~np.isnan(phenotypes)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, phenotypes, 0).sum(axis=0, dtype=np.float64) / count
        squares = np.where(known, (phenotypes - mean) ** 2, 0).sum(axis=0, dtype=np.float64)
        std = np.sqrt(squares / count)
        return cls(mean, np.where(std > 0, std, 1.0))

    def standardise(self, phenotypes: NDArray) -> NDArray[np.float64]:
        return (phenotypes - self.mean) / self.std

    def restore(self, standardised: NDArray) -> NDArray[np.float64]:
        return standardised * self.std + self.mean

    def state(self) -> dict[str, NDArray]:
        return {"mean": self.mean, "std": self.std}

    @classmethod
    def from_state(cls, state: dict[str, NDArray]) -> PhenotypeScale:
        return cls(state["mean"], state["std"])


@dataclass(frozen=True)
class Samples:
    """What a model is fitted to: coded genotypes (N, L) and standardised phenotypes (N, E), NaN missing.

    phenotype_std: (N, E) standard errors of the phenotypes in the same units, where the data have them.
    """

    genotypes: CodedGenotypes
    phenotypes: NDArray[np.float64]
    phenotype_std: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.genotypes)


def is_known(genotypes: NDArray) -> NDArray[np.bool_]:
    """Where the genotype is not missing."""
    return genotypes != MISSING if genotypes.dtype.kind in "iu" else ~np.isnan(genotypes)
