"""Genotypes of the synthetic yeast data: the map of the BY x RM cross and its haploid F1 segregants.

Shapes: N samples, L loci. Allele 0 is one parent's, 1 the other's; 1:1 segregation, no interference between crossovers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.random_streams import stream
from gpmap_cli.simulate.yeast_settings import CHROMOSOMES, YeastSyntheticData

# Segregants drawn from one random stream. A fixed number: a segregant is the same however many segregants and loci
# are asked for. At all 41,594 loci it is 16 chunks of the dataset file.
BLOCK_ROWS = 400


@dataclass(frozen=True)
class CrossMap:
    """Where the L loci lie, in the order of the genome: 0-based number of the chromosome and position in bp, (L,)."""

    chromosomes: NDArray[np.int64]
    positions: NDArray[np.int64]
    cm_per_kb: float

    @property
    def locus_ids(self) -> list[str]:
        """`chrI_12345`: chromosome and position."""
        return [f"{name}_{position}" for name, position in zip(self.names, self.positions.tolist(), strict=True)]

    @property
    def names(self) -> list[str]:
        """Name of the chromosome of each locus."""
        of_chromosome = list(CHROMOSOMES)
        return [of_chromosome[number] for number in self.chromosomes.tolist()]

    @property
    def chromosome_starts(self) -> NDArray[np.float64]:
        """Morgans from the beginning of the genome to the start of each chromosome, and to the genome's end, (17,)."""
        lengths = np.array([length for length, _ in CHROMOSOMES.values()])
        return np.concatenate([[0], np.cumsum(lengths)]) * self._morgans_per_bp

    @property
    def morgans(self) -> NDArray[np.float64]:
        """Morgans from the beginning of the genome, the chromosomes laid end to end, (L,)."""
        return self.chromosome_starts[self.chromosomes] + self.positions * self._morgans_per_bp

    @property
    def _morgans_per_bp(self) -> float:
        return self.cm_per_kb / 1e5


def draw_map(settings: YeastSyntheticData, seed: int) -> CrossMap:
    """SNPs at random places of each chromosome, no two at the same; `num_loci` takes evenly many of the same SNPs."""
    positions = []
    for number, ((length, num_snps), num_loci) in enumerate(
        zip(CHROMOSOMES.values(), settings.loci_of_chromosomes(), strict=True)
    ):
        all_snps = 1 + np.sort(stream(seed, "positions", number).choice(length, num_snps, replace=False))
        positions.append(all_snps[(2 * np.arange(num_loci) + 1) * num_snps // (2 * num_loci)])
    return CrossMap(
        chromosomes=np.repeat(np.arange(len(positions)), settings.loci_of_chromosomes()),
        positions=np.concatenate(positions).astype(np.int64),
        cm_per_kb=settings.cm_per_kb,
    )


def segregant_blocks(cross: CrossMap, num_samples: int, seed: int) -> Iterator[NDArray[np.int8]]:
    """Alleles 0/1 of consecutive segregants, (rows, L) int8 block by block.

    A segregant's crossovers are a Poisson process of one per Morgan, so that loci d Morgans apart recombine with
    probability r = (1 - exp(-2 d)) / 2; at the start of each chromosome a fair coin chooses the parent. An allele is
    the parity of the coins and crossovers before it. Costs one random number per crossover, not per locus.
    Source: Haldane (1919), The combination of linkage values, J Genet 8: 299-309.
    """
    morgans, genome = cross.morgans, float(cross.chromosome_starts[-1])
    first_loci = np.searchsorted(cross.chromosomes, np.arange(len(CHROMOSOMES)))
    for number, start in enumerate(range(0, num_samples, BLOCK_ROWS)):
        rng = stream(seed, "crossovers", number)
        num_crossovers = rng.poisson(genome, BLOCK_ROWS)
        row = np.repeat(np.arange(BLOCK_ROWS), num_crossovers)
        next_locus = np.searchsorted(morgans, rng.random(len(row)) * genome)
        coins = rng.integers(0, 2, (BLOCK_ROWS, len(CHROMOSOMES)), dtype=np.int8)
        num_rows = min(BLOCK_ROWS, num_samples - start)
        switches = np.zeros((num_rows, len(morgans)), np.int8)
        switches[:, first_loci] = coins[:num_rows]
        is_seen = (row < num_rows) & (next_locus < len(morgans))  # a crossover behind the last locus changes nothing
        np.bitwise_xor.at(switches.reshape(-1), row[is_seen] * len(morgans) + next_locus[is_seen], 1)
        yield np.bitwise_xor.accumulate(switches, axis=1, out=switches)
