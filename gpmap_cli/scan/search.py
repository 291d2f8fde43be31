"""All sets of k loci against residual phenotypes: score statistics of all of them, and the strongest kept.

For the residual phenotype r of an environment (of mean zero over its N_e measured samples, 0 elsewhere) and the product
p = prod_S x of the coded genotypes of a set S of loci,

    z_S = (sum_n p r) / sqrt(v SS),    v = sum r^2 / (N_e - 1),    SS = sum p^2 - (sum p)^2 / N_e  over those samples,

is the correlation of p with r times sqrt(N_e - 1), and v SS the variance of the sum when residuals are permuted. SS is
exact for pairs and for genotypes that are not -1/+1. For sets of three and more loci of -1/+1 it is taken as N_e, its
largest value, so that |z| is never overstated: products of independent loci at frequency 1/2 have SS near N_e, those of
tightly linked loci far less. What is kept is tested exactly afterwards (`exact_tests`).

Permutations exchange residuals among the samples measured in the same environments, and of each the largest |z| of all
sets is kept, for the family-wise error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.random_streams import stream
from gpmap_cli.scan.candidates import Block, Candidates, Sets, num_entries
from gpmap_cli.scan.products import Accumulator, Arithmetic, Weights
from gpmap_cli.scan.tallies import NUM_BINS, TopTerms, count

_CHUNK = 16_384  # samples: what is multiplied stays in the caches
_ROWS = 1024  # of a product, where several weights can be multiplied together
_EVERY = 30.0  # seconds between states that are saved
_ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-9}

State = dict[str, NDArray]


@dataclass(frozen=True)
class Phenotypes:
    """Residual phenotypes (N, E) of mean zero over the measured samples, 0 elsewhere, and which are measured (N, E)."""

    residuals: NDArray[np.float64]
    measured: NDArray[np.bool_]

    @property
    def num_measured(self) -> NDArray[np.int64]:
        return self.measured.sum(axis=0)

    @property
    def variance(self) -> NDArray[np.float64]:
        """v (E,): of the residuals as they are, over N_e - 1."""
        return np.asarray((self.residuals**2).sum(axis=0) / np.maximum(self.num_measured - 1, 1))

    def patterns(self) -> tuple[list[NDArray[np.intp]], NDArray[np.intp]]:
        """The environments measured in the same samples, and the number of the group of each."""
        groups: dict[bytes, list[int]] = {}
        for environment in range(self.measured.shape[1]):
            groups.setdefault(self.measured[:, environment].tobytes(), []).append(environment)
        of = np.empty(self.measured.shape[1], np.intp)
        for number, columns in enumerate(groups.values()):
            of[columns] = number
        return [np.array(columns) for columns in groups.values()], of

    def permuted(self, seed: int, number: int) -> NDArray[np.float64]:
        """Residuals (N, E) with the samples measured in the same environments exchanged at random."""
        found = np.zeros_like(self.residuals)
        for columns in self.patterns()[0]:
            rows = np.flatnonzero(self.measured[:, columns[0]])
            order = stream(seed, "permuted residuals", number).permutation(rows)
            found[np.ix_(rows, columns)] = self.residuals[np.ix_(order, columns)]
        return found


@dataclass
class Found:
    """What a scan of sets of k loci found.

    top: the strongest terms of each environment; counts: (E, bins) how many |z| were how large, `tallies`;
    largest_permuted: (B, E) the largest |z| of each permutation; num_candidates: of each environment.
    """

    order: int
    num_candidates: int
    top: list[TopTerms]
    counts: NDArray[np.int64]
    largest_permuted: NDArray[np.float64]
    next_block: int = 0
    seconds: float = 0.0

    @classmethod
    def nothing(cls, candidates: Candidates, num_environments: int, num_terms: int, permutations: int) -> Found:
        return cls(
            candidates.order,
            len(candidates),
            [TopTerms(candidates.order, num_terms) for _ in range(num_environments)],
            np.zeros((num_environments, NUM_BINS), np.int64),
            np.zeros((permutations, num_environments)),
        )

    def state(self) -> State:
        """As plain arrays."""
        return {
            "counts": self.counts,
            "largest_permuted": self.largest_permuted,
            "progress": np.array([self.next_block, self.seconds]),
            "num_kept": np.array([len(top) for top in self.top]),
            "z": np.concatenate([top.z for top in self.top]),
            "loci": np.concatenate([top.loci for top in self.top]),
        }

    def restore(self, state: Mapping[str, NDArray]) -> None:
        """Go on from a state of the same scan."""
        self.counts, self.largest_permuted = state["counts"].copy(), state["largest_permuted"].copy()
        self.next_block, self.seconds = int(state["progress"][0]), float(state["progress"][1])
        at = np.cumsum(state["num_kept"])[:-1]
        for top, z, loci in zip(self.top, np.split(state["z"], at), np.split(state["loci"], at), strict=True):
            top.take(z, loci)


@dataclass(frozen=True)
class Options:
    """How a scan computes, and what it keeps."""

    arithmetic: Arithmetic
    num_terms: int = 1000
    permutations: int = 0
    seed: int = 0


@dataclass
class Hooks:
    """Whom a scan tells how far it is: candidates done, and now and then a state to go on from."""

    advance: Callable[[int], object] = lambda amount: None
    save: Callable[[State], None] = lambda state: None
    stop: Callable[[], bool] = lambda: False
    every: float = _EVERY


class Stopped(Exception):
    """The scan was asked to stop, and its state is saved."""


def scan_order(
    genotypes: torch.Tensor,
    phenotypes: Phenotypes,
    order: int,
    options: Options,
    hooks: Hooks | None = None,
    state: Mapping[str, NDArray] | None = None,
) -> Found:
    """Score statistics of all sets of `order` (2 to 4) loci.

    genotypes: (L, N') as `products.locus_major` makes them, -1/+1 where the arithmetic is int8. state: of `Hooks.save`,
    to go on from; the result is the same. Costs C(L, k) N multiply-adds for each digit of a weight and environment.
    """
    search = Search(genotypes, phenotypes, order, options)
    found = Found.nothing(search.candidates, search.num_environments, options.num_terms, options.permutations)
    if state is not None:
        found.restore(state)
    hooks = Hooks() if hooks is None else hooks
    blocks = search.candidates.blocks
    hooks.advance(sum(num_entries(block) for block in blocks[: found.next_block]))
    saved = began = time.perf_counter()
    before = found.seconds
    for number in range(found.next_block, len(blocks)):
        search.visit(blocks[number], found)
        found.next_block, now = number + 1, time.perf_counter()
        found.seconds = before + now - began
        hooks.advance(num_entries(blocks[number]))
        if hooks.stop() and found.next_block < len(blocks):
            hooks.save(found.state())
            raise Stopped
        if now - saved > hooks.every:
            hooks.save(found.state())
            saved = now
    return found


@dataclass(frozen=True)
class _Job:
    """One weight of a block: the residuals of an environment, or a permutation of them; factor: 1 / sqrt(v)."""

    environment: int
    weights: Weights
    factor: float
    permutation: int | None


@dataclass
class _Group:
    """Environments measured in the same samples: their weights, those of permutations, and who is measured."""

    environments: NDArray[np.intp]
    num_measured: int
    everyone: Weights
    weights: list[Weights]
    factors: list[float] = field(default_factory=list)  # 1 / sqrt(v)


class Search:
    """The matrix products of a scan, block by block."""

    def __init__(self, genotypes: torch.Tensor, phenotypes: Phenotypes, order: int, options: Options) -> None:
        self.candidates = Candidates(len(genotypes), order)
        self.num_environments = phenotypes.residuals.shape[1]
        self._genotypes, self._phenotypes, self._options = genotypes, phenotypes, options
        self._device = str(genotypes.device)
        self._exact = order == 2 or options.arithmetic != "int8"
        self._is_sign = options.arithmetic == "int8"
        self._plain: tuple[tuple[int, int, int], torch.Tensor] | None = None
        variance = phenotypes.variance
        self._groups = []
        for environments in phenotypes.patterns()[0]:
            measured = phenotypes.measured[:, environments[0]]
            self._groups.append(
                _Group(
                    environments,
                    int(measured.sum()),
                    self._weights(measured.astype(np.float64)),
                    [self._weights(phenotypes.residuals[:, e]) for e in environments],
                    [float(1 / np.sqrt(variance[e])) if variance[e] > 0 else 0.0 for e in environments],
                )
            )
        self._permuted: dict[tuple[int, int], Weights] = {}
        for number in range(options.permutations):
            residuals = phenotypes.permuted(options.seed, number)
            for e in range(self.num_environments):
                self._permuted[number, e] = self._weights(residuals[:, e])

    def _weights(self, values: NDArray[np.float64]) -> Weights:
        return Weights.of(values, self._options.arithmetic, self._device)

    @property
    def num_products(self) -> int:
        """Matrix products of all blocks, each digit of each weight one."""
        found = 0
        for group in self._groups:
            if self._exact:
                found += len(group.everyone.digits) * (1 if self._is_sign else 2)
            found += sum(len(weights.digits) for weights in group.weights)
        return found + sum(len(weights.digits) for weights in self._permuted.values())

    def visit(self, block: Block, found: Found, only_some: bool = False) -> int:
        """Add what a block holds; returns how many products that took. only_some: of as few weights as go together."""
        in_order = self.candidates.layouts[block.layout].in_order(block)
        invalid = None if in_order is None else torch.from_numpy(~in_order).to(self._device)
        num_products = 0
        for group in self._groups:
            spread = self._spread(block, group)
            if self._exact:
                num_products += len(group.everyone.digits) * (1 if self._is_sign else 2)
            for jobs in self._batches(group, block.weighted.stop - block.weighted.start):
                weights = [job.weights for job in jobs]
                for job, sums in zip(jobs, self._sums(block, weights), strict=True):
                    z = sums.mul_(job.factor).mul_(spread)
                    size = z.abs()
                    if invalid is not None:
                        size.masked_fill_(invalid, -1.0)
                    self._record(found, block, job, z, size, invalid is None)
                num_products += sum(len(one.digits) for one in weights)
                if only_some:
                    return num_products
        return num_products

    def _batches(self, group: _Group, rows: int) -> Iterator[list[_Job]]:
        """What is asked of a block, so much at a time that a product has about as many rows as it should."""
        batch: list[_Job] = []
        height = 0
        for environment, weights, factor in zip(group.environments.tolist(), group.weights, group.factors, strict=True):
            numbers = range(self._options.permutations)
            permuted = [_Job(environment, self._permuted[number, environment], factor, number) for number in numbers]
            for job in [_Job(environment, weights, factor, None), *permuted]:
                more = rows * len(job.weights.digits)
                if batch and height + more > _ROWS:
                    yield batch
                    batch, height = [], 0
                batch.append(job)
                height += more
        if batch:
            yield batch

    def _record(
        self, found: Found, block: Block, job: _Job, z: torch.Tensor, size: torch.Tensor, everywhere: bool
    ) -> None:
        """Keep what is to be kept of z (a, b) of a block; size: |z|, below zero where an entry is no candidate."""
        environment = job.environment
        if job.permutation is not None:
            before = found.largest_permuted[job.permutation, environment]
            found.largest_permuted[job.permutation, environment] = max(before, float(size.max()))
            return
        found.counts[environment] += count(size, everywhere)
        found.top[environment].offer(z, size, lambda rows, columns: self.candidates.loci(block, rows, columns))

    def _spread(self, block: Block, group: _Group) -> torch.Tensor | float:
        """1 / sqrt(SS) of the entries of a block, 0 where SS is; one number where SS is taken as N_e."""
        if not self._exact:
            return float(1 / np.sqrt(group.num_measured))
        (total,) = self._sums(block, [group.everyone])
        if self._is_sign:
            rest = group.num_measured - total.square_() / group.num_measured
            least = torch.full_like(rest, 1e-4)
        else:
            (squares,) = self._sums(block, [group.everyone], squared=True)
            # Below rounding of the two that are subtracted there is no variation.
            rest = squares - total.square_() / group.num_measured
            least = _ROUNDING[squares.dtype] * squares
        return torch.where(rest > least, rest.clamp_min(1e-30).rsqrt(), torch.zeros_like(rest))

    def _sums(self, block: Block, weights: Sequence[Weights], squared: bool = False) -> Iterator[torch.Tensor]:
        """Sums over samples (a, b) of the products of all loci times each weight; squared: of their squares."""
        layout = self.candidates.layouts[block.layout]
        plain = self._plain_products(block, layout.plain)
        sums = Accumulator(weights)
        for start in range(0, self._genotypes.shape[1], _CHUNK):
            samples = slice(start, start + _CHUNK)
            digits = torch.cat([one.digits[:, samples] for one in weights])
            left = self._weighted_products(layout.weighted, block.weighted, samples, digits, squared)
            right = plain[:, samples]
            sums.add(left, right**2 if squared else right)
        return sums.totals()

    def _weighted_products(
        self, sets: Sets, part: slice, samples: slice, digits: torch.Tensor, squared: bool
    ) -> torch.Tensor:
        """Products of the loci of each set times each digit (D, chunk) of the weights, (D a, chunk)."""
        here = self._genotypes[:, samples]
        if squared:
            here = here**2
        found = torch.empty(
            len(digits), part.stop - part.start, here.shape[1], dtype=here.dtype, device=self._genotypes.device
        )
        for fixed, others, places in sets.runs(part):
            for digit, out in zip(digits, found, strict=True):
                torch.mul(here[others], digit if fixed is None else digit * here[fixed], out=out[places])
        return found.view(-1, here.shape[1])

    def _plain_products(self, block: Block, sets: Sets) -> torch.Tensor:
        """Products of the loci of each plain set, (b, N'); those of pairs are kept for the next block."""
        if sets.loci.shape[1] == 1:
            return self._genotypes[block.plain]
        key, products = self._plain if self._plain is not None else ((-1, 0, 0), None)
        if products is None or key[0] != block.layout or not key[1] <= block.plain.start < block.plain.stop <= key[2]:
            self._plain = None
            part = block.plain
            products = torch.empty(
                part.stop - part.start, self._genotypes.shape[1], dtype=self._genotypes.dtype, device=self._device
            )
            for fixed, others, places in sets.runs(part):
                torch.mul(self._genotypes[others], self._genotypes[fixed], out=products[places])
            key = (block.layout, part.start, part.stop)
            self._plain = (key, products)
        return products[block.plain.start - key[1] : block.plain.stop - key[1]]


def spread_of_blocks(candidates: Candidates, number: int) -> Iterator[Block]:
    """So many blocks (or all), evenly over the work of the scan."""
    sizes = np.cumsum([num_entries(block) for block in candidates.blocks])
    if len(sizes) == 0:
        return
    wanted = (np.arange(number) + 0.5) / number * sizes[-1]
    for at in np.unique(np.searchsorted(sizes, wanted)):
        yield candidates.blocks[int(at)]
