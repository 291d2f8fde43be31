"""Settings of simulated data. No array library is imported here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gpmap_cli.errors import Problem
from gpmap_cli.settings import Rule, Ruled, setting

LARGEST_DOSAGE_ORDER = 50  # 2**50: a product of more allele counts of 0..2 leaves what float32 phenotypes can hold
_ENVIRONMENT = re.compile(r"(-?[0-9]{1,4}(?:\.[0-9]{1,12})?)C")
_COLDEST, _HOTTEST = -273.15, 1000.0


@dataclass(frozen=True)
class SimulatedData(Ruled):
    """How many samples and loci, how they are inherited, and how they make the phenotype."""

    name: str = "simulated"
    num_samples: int = setting(20000, minimum=1)
    num_loci: int = setting(12, minimum=1)
    order: tuple[int, ...] = setting((3,), minimum=1)
    num_interactions: int | None = setting(None, minimum=1)
    epsilon: float = setting(0.3, minimum=0, maximum=1)
    effects: Literal["gaussian", "exponential"] = "gaussian"
    effect_mean: float = setting(0.5, minimum=-1e6, maximum=1e6)
    effect_std: float = setting(0.5, minimum=0, maximum=1e6)
    noise: float = setting(0.2, minimum=0, maximum=1e6)
    environments: tuple[str, ...] = ("30C",)
    coding: Literal["plus_minus_one", "dosage"] = "plus_minus_one"
    ploidy: int = setting(1, minimum=1, maximum=2)
    linkage: Literal["independent", "cross"] = "independent"
    allele_frequency: tuple[float, ...] = setting((0.5,), above=0, below=1)
    num_chromosomes: int | None = setting(None, minimum=1)
    chromosome_length_cm: tuple[float, ...] = setting((100.0,), above=0, maximum=1e6)
    cm_per_kb: float = setting(0.30, minimum=1e-6, maximum=1e6)
    map: str | None = None
    seed: int | None = setting(None, minimum=0, maximum=2**63 - 1)  # it is written into the file as int64

    def rules(self) -> tuple[Rule, ...]:
        return self._order_problems, self._environment_problems, self._inheritance_problems

    def num_interactions_of(self, order: int) -> int:
        """K, the number of interactions of this epistasis order: by default min(L, C(L, k))."""
        if self.num_interactions is not None:
            return self.num_interactions
        return num_subsets(self.num_loci, order, self.num_loci)

    @property
    def num_chromosomes_of_cross(self) -> int:
        """Chromosomes of a cross without a map: as many as lengths are given, else 16 as in yeast, where loci allow."""
        if self.num_chromosomes is not None:
            return self.num_chromosomes
        return len(self.chromosome_length_cm) if len(self.chromosome_length_cm) > 1 else min(16, self.num_loci)

    def _order_problems(self, prefix: str) -> Iterator[Problem]:
        key = f"{prefix}order"
        if not self.order:
            yield Problem(f"{key} is empty", f"name at least one epistasis order: {key}=3")
        if len(set(self.order)) < len(self.order):
            yield Problem(f"{key} names one twice", "name each epistasis order only once")
        largest = max(self.order, default=1)
        if largest > self.num_loci:
            yield Problem(
                f"{key} must be 1..{prefix}num_loci ({self.num_loci}), got `{largest}`",
                f"an interaction of order k needs k loci: lower {key} or raise {prefix}num_loci",
            )
        elif self.coding == "dosage" and self.ploidy == 2 and largest > LARGEST_DOSAGE_ORDER:
            yield Problem(
                f"{key} must be at most {LARGEST_DOSAGE_ORDER} with {prefix}coding=dosage and {prefix}ploidy=2,"
                f" got `{largest}`",
                f"products of so many allele counts overflow: take {prefix}coding=plus_minus_one",
            )
        for order in self.order:
            wanted = self.num_interactions
            if wanted is None or order > self.num_loci:
                continue
            possible = num_subsets(self.num_loci, order, wanted)
            if possible < wanted:
                yield Problem(
                    f"{prefix}num_interactions must be at most {possible} with {key}={order} and"
                    f" {prefix}num_loci={self.num_loci}, got `{wanted}`",
                    f"there are only {possible} sets of {order} of {self.num_loci} loci:"
                    f" lower {prefix}num_interactions or raise {prefix}num_loci",
                )

    def _environment_problems(self, prefix: str) -> Iterator[Problem]:
        key = f"{prefix}environments"
        if not self.environments:
            yield Problem(f"{key} is empty", f"name at least one temperature: {key}=[30C]")
        seen: dict[float, str] = {}
        for name in self.environments:
            degrees = temperature(name)
            if degrees is None:
                yield Problem(
                    f"{key} must be temperatures of {_COLDEST:g}C to {_HOTTEST:g}C, got `{name}`",
                    f"write degrees Celsius as a number and a C: {key}=[23C,30C,37.5C]",
                )
            elif degrees in seen:
                yield Problem(
                    f"{key} names the same temperature twice: `{seen[degrees]}` and `{name}`", "name each only once"
                )
            else:
                seen[degrees] = name

    def _inheritance_problems(self, prefix: str) -> Iterator[Problem]:
        frequencies = self.allele_frequency
        if len(frequencies) not in (1, self.num_loci):
            yield Problem(
                f"{prefix}allele_frequency must be one number or one per locus ({self.num_loci}),"
                f" got {len(frequencies)} numbers",
                f"give {prefix}allele_frequency 1 or {self.num_loci} numbers",
            )
        if self.linkage == "independent":
            if self.map is not None:
                yield Problem(
                    f"{prefix}map needs {prefix}linkage=cross",
                    f"independent loci have no map: add {prefix}linkage=cross, or leave {prefix}map out",
                )
            return
        if set(frequencies) - {0.5}:
            yield Problem(
                f"{prefix}allele_frequency must be 0.5 with {prefix}linkage=cross",
                f"a cross of two strains segregates 1:1: leave {prefix}allele_frequency out,"
                f" or take {prefix}linkage=independent",
            )
        if self.ploidy != 1:
            yield Problem(
                f"{prefix}ploidy must be 1 with {prefix}linkage=cross, got `{self.ploidy}`",
                f"the segregants of the cross are haploid: set {prefix}ploidy=1, or take {prefix}linkage=independent",
            )
        if self.map is not None:
            return  # the chromosomes are those of the map
        num_chromosomes = self.num_chromosomes_of_cross
        if num_chromosomes > self.num_loci:
            yield Problem(
                f"{prefix}num_chromosomes must be at most {prefix}num_loci ({self.num_loci}), got `{num_chromosomes}`",
                f"each chromosome carries at least one locus: lower {prefix}num_chromosomes or raise {prefix}num_loci",
            )
        if len(self.chromosome_length_cm) not in (1, num_chromosomes):
            yield Problem(
                f"{prefix}chromosome_length_cm must be one number or one per chromosome ({num_chromosomes}),"
                f" got {len(self.chromosome_length_cm)} numbers",
                f"give {prefix}chromosome_length_cm 1 or {num_chromosomes} numbers",
            )


def temperature(environment: str) -> float | None:
    """The temperature of an environment called `30C`, in degrees Celsius; None for any other name."""
    found = _ENVIRONMENT.fullmatch(environment)
    degrees = float(found[1]) if found else None
    return degrees if degrees is not None and _COLDEST <= degrees <= _HOTTEST else None


def num_subsets(num_loci: int, order: int, limit: int) -> int:
    """How many sets of `order` loci there are, C(L, k), or `limit` where there are more.

    Stopping at the limit keeps this instant where the binomial coefficient has thousands of digits.
    """
    count = 1
    smaller = min(order, num_loci - order)
    for step in range(1, smaller + 1):
        count = count * (num_loci - smaller + step) // step
        if count >= limit:
            return limit
    return min(count, limit)
