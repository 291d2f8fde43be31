"""How linkage disequilibrium between loci decays with their distance, estimated on a sample of loci and samples."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import is_known
from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.random_streams import stream

_MOST_LOCI = 2000
_MOST_SAMPLES = 5000
_MIN_SAMPLES = 3  # with two, r2 is always 1
_STEPS = (1, 2, 5)  # of each decade of distance


@dataclass(frozen=True)
class LdDecay:
    """Mean r2 between loci of one chromosome in classes of distance, and between loci of different chromosomes.

    unit: of the distances: `bp`, `position` (positions without chromosomes) or `loci` (the difference in rank
    along the chromosome). has_chromosomes: whether they are named; if not, all loci are taken as on one.
    lower, upper (classes,): a class holds lower <= distance < upper; classes without a pair are left out.
    num_pairs, mean_distance (geometric) and mean_r2: of each class. unlinked_r2: mean over the num_unlinked
    pairs on different chromosomes; None without such a pair.
    num_loci: polymorphic loci used; num_samples: samples used, each missing genotype at its locus' mean.
    """

    unit: str
    has_chromosomes: bool
    num_samples: int
    num_loci: int
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    num_pairs: NDArray[np.int64]
    mean_distance: NDArray[np.float64]
    mean_r2: NDArray[np.float64]
    num_unlinked: int
    unlinked_r2: float | None

    @property
    def chance_r2(self) -> float:
        """What r2 averages between independent loci in that many samples, 1 / (n - 1)."""
        return 1 / (self.num_samples - 1)


@dataclass(frozen=True)
class LocusMap:
    """Where the L loci lie for the purposes of LD: chromosome number (L,), place along it (L,), unit of the places."""

    chromosome: NDArray[np.intp]
    place: NDArray[np.float64]
    unit: str
    has_chromosomes: bool = True

    def take(self, loci: NDArray[np.intp]) -> LocusMap:
        """The map of these loci."""
        return replace(self, chromosome=self.chromosome[loci], place=self.place[loci])


def locus_map(file: DatasetFile) -> LocusMap:
    """Positions where the file has some, else ranks in the order of the file; one chromosome where it names none."""
    named = file.chromosomes is not None
    chromosome = np.zeros(file.num_loci, np.intp)
    if file.chromosomes is not None:
        chromosome = np.unique(file.chromosomes.astype(str), return_inverse=True)[1].astype(np.intp)
    if file.positions is not None and _differ_within(chromosome, file.positions):
        return LocusMap(chromosome, file.positions.astype(np.float64), "bp" if named else "position", named)
    order = np.argsort(chromosome, kind="stable")
    starts = np.searchsorted(chromosome[order], chromosome[order])
    rank = np.empty(file.num_loci)
    rank[order] = np.arange(file.num_loci) - starts
    return LocusMap(chromosome, rank, "loci", named)


def _differ_within(chromosome: NDArray[np.intp], positions: NDArray[np.int64]) -> bool:
    """Whether two loci of one chromosome have different positions: a column of zeros says nothing."""
    order = np.lexsort((positions, chromosome))
    same = chromosome[order[1:]] == chromosome[order[:-1]]
    return bool((same & (positions[order[1:]] != positions[order[:-1]])).any())


def choose_loci(places: LocusMap, most: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """At most `most` loci whose pairs cover every distance, in ascending order.

    All of them where they are few enough. Else families of loci: a random one and those 1, 2, 4, 8, ... loci
    further along its chromosome. Differences of powers of two give pairs at every scale, from neighbours to
    the ends of a chromosome, while loci spread evenly would leave out all short distances.
    """
    num_loci = len(places.place)
    if num_loci <= most:
        return np.arange(num_loci)
    order = np.lexsort((places.place, places.chromosome))
    along = places.chromosome[order]
    steps = np.concatenate([[0], 2 ** np.arange(np.ceil(np.log2(num_loci)).astype(int))])
    chosen = np.zeros(num_loci, np.bool_)
    num_chosen = 0
    for anchor in rng.permutation(num_loci):
        family = anchor + steps
        family = family[family < num_loci]
        family = family[(along[family] == along[anchor]) & ~chosen[family]][: most - num_chosen]
        chosen[family] = True
        num_chosen += len(family)
        if num_chosen == most:
            break
    return np.sort(order[chosen])


class LdSample:
    """Keeps, block by block, the genotypes of the samples and loci that LD is estimated from."""

    def __init__(self, file: DatasetFile, most_loci: int = _MOST_LOCI, most_samples: int = _MOST_SAMPLES) -> None:
        rng = stream(0, "ld decay")
        self._places = locus_map(file)
        self._loci = choose_loci(self._places, most_loci, rng)
        self._rows = np.arange(file.num_samples)
        if file.num_samples > most_samples:
            # At random: evenly spaced rows of genotypes listed in order would make some loci constant.
            self._rows = np.sort(rng.choice(file.num_samples, most_samples, replace=False))
        self._genotypes = np.empty((len(self._rows), len(self._loci)), file.genotype_type)

    def add(self, rows: slice, block: NDArray) -> None:
        """Take what is wanted of the genotypes (rows, L) of these samples."""
        first, last = np.searchsorted(self._rows, [rows.start, rows.stop])
        if first < last:
            self._genotypes[first:last] = block[np.ix_(self._rows[first:last] - rows.start, self._loci)]

    def decay(self) -> LdDecay | str:
        """LD decay of the kept genotypes, or why there is none to see."""
        return ld_decay(self._genotypes, self._places.take(self._loci))


def ld_decay(genotypes: NDArray, places: LocusMap) -> LdDecay | str:
    """Mean r2 in classes of distance, r being Pearson's correlation of the allele counts of two loci.

    genotypes: (n, l) as stored; a missing one takes the mean of its locus, constant loci are left out. Of
    haploids r2 is the usual one of two loci, D^2 / (p1 (1 - p1) p2 (1 - p2)); of diploids that of genotypes.
    Source: Hill and Robertson (1968), Theor Appl Genet 38: 226-231.
    """
    num_samples = len(genotypes)
    if num_samples < _MIN_SAMPLES:
        return f"fewer than {_MIN_SAMPLES} samples"
    coded, kept = _standardised(genotypes)
    if len(kept) < 2:
        return "fewer than two polymorphic loci"
    r2 = (coded.T @ coded) ** 2
    places = places.take(kept)
    first, second = np.triu_indices(len(kept), 1)
    r2 = r2[first, second]
    linked = places.chromosome[first] == places.chromosome[second]
    distance = np.abs(places.place[first] - places.place[second])[linked]
    edges = _edges(distance.max(initial=0.0))
    of_class = np.searchsorted(edges, distance, side="right") - 1
    num_pairs = np.bincount(of_class, minlength=len(edges) - 1)
    occupied = np.flatnonzero(num_pairs)
    sum_r2 = np.bincount(of_class, weights=r2[linked], minlength=len(num_pairs))
    sum_log = np.bincount(of_class, weights=np.log(np.maximum(distance, 1)), minlength=len(num_pairs))
    mean_distance = np.exp(sum_log[occupied] / num_pairs[occupied])
    mean_distance[edges[occupied] == 0] = 0
    unlinked = r2[~linked]
    return LdDecay(
        places.unit,
        places.has_chromosomes,
        num_samples,
        len(kept),
        edges[occupied],
        edges[occupied + 1],
        num_pairs[occupied],
        mean_distance,
        sum_r2[occupied] / num_pairs[occupied],
        len(unlinked),
        float(unlinked.mean()) if len(unlinked) else None,
    )


def _standardised(genotypes: NDArray) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Columns of mean 0 and length 1, missing ones 0, and which loci they are: those that are polymorphic."""
    known = is_known(genotypes)
    values = genotypes.astype(np.float64)
    low = np.where(known, values, np.inf).min(axis=0)
    high = np.where(known, values, -np.inf).max(axis=0)
    kept = np.flatnonzero(low < high)
    values, known = values[:, kept], known[:, kept]
    values[~known] = 0
    values -= values.sum(axis=0) / known.sum(axis=0)
    values[~known] = 0
    return values / np.sqrt((values**2).sum(axis=0)), kept


def _edges(longest: float) -> NDArray[np.float64]:
    """Bounds of the classes of distance: 0, 1, 2, 5, 10, 20, 50, ... to the first beyond the longest."""
    edges = [0.0]
    decade = 1.0
    while edges[-1] <= longest:
        edges += [step * decade for step in _STEPS]
        decade *= 10
    return np.array(edges)
