"""Sums over samples, kept apart by cross-validation fold: all that a regression needs to know of the genotypes.

The sums of a fold's training samples are those of all samples minus its own, so K-fold cross-validation reads the data
as often as one fit does. Hard-called haploid genotypes are -1/+1: unweighted sums of their products are whole numbers
below 2^24 and are added up exactly in single precision; all others in double precision. Genotypes are read in row
blocks, and no floating-point matrix of all samples is held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes, GenotypeCoding

_EXACT_IN_FLOAT32 = 2**24
_BLOCK_BYTES = 2**24
_FEWEST_ROWS = 256
_CACHE_BYTES = 2**29
# Rows and loci of which the products of two stay in the processor's cache.
_ROWS_OF_PAIRS, _GROUP = 2048, 16


@dataclass(frozen=True)
class Moments:
    """Weighted sums over some samples: of 1, y and y^2, and for P candidates x (each (P,)) of x, x^2 and x y."""

    weight: float
    y: float
    y_square: float
    x: NDArray[np.float64]
    x_square: NDArray[np.float64]
    xy: NDArray[np.float64]

    def __sub__(self, other: Moments) -> Moments:
        return Moments(
            self.weight - other.weight,
            self.y - other.y,
            self.y_square - other.y_square,
            self.x - other.x,
            self.x_square - other.x_square,
            self.xy - other.xy,
        )


class FoldSums:
    """Sums by fold and environment of genotypes (N, L), phenotypes (N, E), weights (N, E), folds (N,) 0..F-1.

    A weight of zero leaves a sample out of that environment; its phenotype must be a number all the same. A column of
    products sum_i w_i x_ip x_iq for all loci p is read from the data when it is asked for (N L multiply-adds), for all
    folds together, and kept for the other folds and for the environments with the same weights.
    """

    def __init__(
        self,
        genotypes: CodedGenotypes,
        phenotypes: NDArray[np.float64],
        weights: NDArray[np.float64],
        folds: NDArray[np.intp],
        device: str,
    ) -> None:
        self._genotypes, self._device = genotypes, device
        self.num_loci, self.num_folds = genotypes.num_loci, int(folds.max()) + 1
        self._rows = [np.flatnonzero(folds == fold) for fold in range(self.num_folds)]
        self._dtype = torch.float32 if sums_are_exact(genotypes, weights) else torch.float64
        # Environments with equal weights share their columns, under the first one's number.
        seen: dict[bytes, int] = {}
        self._like = [seen.setdefault(column.tobytes(), number) for number, column in enumerate(weights.T)]
        self._weights = torch.from_numpy(np.ascontiguousarray(weights)).to(device)
        self._columns: dict[tuple[int, int], NDArray] = {}
        num_environments = weights.shape[1]
        self.num_passes = 1
        self._small = np.stack([weights, weights * phenotypes, weights * phenotypes**2])
        self._small = np.stack([self._small[:, rows].sum(axis=1) for rows in self._rows])  # (F, 3, E)
        y = torch.from_numpy(phenotypes).to(device)
        sums = torch.zeros(self.num_folds, 3, num_environments, self.num_loci, dtype=torch.float64, device=device)
        for fold, rows, block in self._blocks(torch.float64):
            w = self._weights[rows].T
            sums[fold, 0].addmm_(w, block)
            sums[fold, 2].addmm_(w * y[rows].T, block)
            sums[fold, 1].addmm_(w, block.square_())
        self._sums = sums.cpu().numpy()

    def moments(self, environment: int, fold: int | None = None) -> Moments:
        """Of the samples of a fold, or of all."""
        if fold is None:
            small, sums = self._small[:, :, environment].sum(axis=0), self._sums[:, :, environment].sum(axis=0)
        else:
            small, sums = self._small[fold, :, environment], self._sums[fold, :, environment]
        return Moments(float(small[0]), float(small[1]), float(small[2]), sums[0], sums[1], sums[2])

    def column(self, environment: int, locus: int, fold: int | None = None) -> NDArray[np.float64]:
        """Sums of x_p x_locus for all loci p, (L,), of the samples of a fold, or of all."""
        self.fetch([(environment, locus)])
        stored = self._columns[self._like[environment], locus]
        return stored[self.num_folds if fold is None else fold].astype(np.float64)

    def fetch(self, wanted: Iterable[tuple[int, int]], perhaps: Iterable[tuple[int, int]] = ()) -> None:
        """Make sure of the columns of these (environment, locus), all in one pass over the data.

        `perhaps` are read along when there has to be a pass anyway.
        """
        needed = {(self._like[environment], locus) for environment, locus in wanted}
        for key in needed & self._columns.keys():  # the latest used stand last
            self._columns[key] = self._columns.pop(key)
        missing = needed - self._columns.keys()
        if not missing:
            return
        along = {(self._like[environment], locus) for environment, locus in perhaps} - self._columns.keys()
        self._read(sorted(missing | along))
        held = sum(column.nbytes for column in self._columns.values())
        for key in [key for key in self._columns if key not in needed]:
            if held <= _CACHE_BYTES:
                break
            held -= self._columns.pop(key).nbytes

    def _read(self, keys: list[tuple[int, int]]) -> None:
        environments, loci = (torch.tensor(part, device=self._device) for part in zip(*keys, strict=True))
        shape = (self.num_folds, len(keys), self.num_loci)
        products = torch.zeros(shape, dtype=self._dtype, device=self._device)
        for fold, rows, block in self._blocks(self._dtype):
            weighted = block[:, loci] * self._weights[rows][:, environments].to(self._dtype)
            products[fold].addmm_(weighted.T, block)
        self.num_passes += 1
        whole = torch.cat([products, products.sum(dim=0, keepdim=True)]).cpu().numpy()
        for place, key in enumerate(keys):
            self._columns[key] = whole[:, place].copy()

    def _blocks(self, dtype: torch.dtype) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Fold, row numbers and coded genotypes (rows, L) of every block."""
        step = max(_FEWEST_ROWS, _BLOCK_BYTES // (8 * max(1, self.num_loci)))
        for fold, rows in enumerate(self._rows):
            for start in range(0, len(rows), step):
                which = rows[start : start + step]
                block = torch.from_numpy(self._genotypes.rows(which, _NUMPY[dtype])).to(self._device)
                yield fold, torch.from_numpy(which).to(self._device), block


class PairSums:
    """Training and held-out sums of all products of two of K loci, and of the loci themselves: Q = K (K + 1) / 2.

    The candidates are the products x_a x_b, a < b, of [1, x_1, ..., x_K] in the order of `candidates`, so that the
    first K are the loci. With x a sample's loci, the sums of one candidate's products with all others are one matrix,
    sum_i w_i x_ia x_ib [1, x_i] [1, x_i]' : n K^2 multiply-adds, and no pair is formed.

    genotypes (n, K), phenotype (n,), weights (n,): the first `num_train` rows are the training samples. held_cross
    (K, K): sums of products of two loci in the held-out ones.
    """

    def __init__(
        self,
        genotypes: CodedGenotypes,
        phenotype: NDArray[np.float64],
        weights: NDArray[np.float64],
        num_train: int,
        device: str,
    ) -> None:
        self._genotypes, self._device = genotypes, device
        self._parts = (slice(0, num_train), slice(num_train, len(genotypes)))
        self._dtype = torch.float32 if sums_are_exact(genotypes, weights) else torch.float64
        self._weights = torch.from_numpy(weights).to(device)
        size = genotypes.num_loci + 1
        self.candidates = np.triu_indices(size, 1)
        self._upper = tuple(torch.from_numpy(part).to(device) for part in self.candidates)
        small = np.stack([weights, weights * phenotype, weights * phenotype**2])
        self._small = [small[:, part].sum(axis=1) for part in self._parts]
        y = torch.from_numpy(phenotype).to(device)
        square = torch.zeros(2, size, size, dtype=torch.float64, device=device)
        linear = torch.zeros_like(square)
        plain = torch.zeros(2, size, size, dtype=self._dtype, device=device)
        for part, rows, block in self._blocks():
            w = self._weights[rows]
            double = block.double()
            linear[part].addmm_(double * (w * y[rows]), double.T)
            square[part].addmm_(double.square() * w, double.square().T)
            plain[part].addmm_(block * w.to(self._dtype), block.T)
        self.held_cross = plain[1, 1:, 1:].double().cpu().numpy()
        self._sums = [[self._of_candidates(of[part]) for of in (plain, square, linear)] for part in (0, 1)]

    def moments(self, part: int) -> Moments:
        """Of the training (0) or the held-out samples (1)."""
        weight, y, y_square = self._small[part]
        return Moments(float(weight), float(y), float(y_square), *self._sums[part])

    def cross(self) -> NDArray[np.float64]:
        """Sums of each locus' products with all candidates in the training samples, (K, Q).

        Costs n K^3 / 6 multiply-adds, as products of three are the same in any order, and (K + 1)^3 numbers meanwhile.
        """
        size = self._genotypes.num_loci + 1
        sums = torch.zeros(size, size, size, dtype=self._dtype, device=self._device)
        for _, rows, block in self._blocks((0,)):
            weighted = (block * self._weights[rows].to(self._dtype)).T
            for start in range(0, len(weighted), _ROWS_OF_PAIRS):
                end = start + _ROWS_OF_PAIRS
                _add_products_of_three(sums, block[:, start:end], weighted[start:end])
        third = sums.cpu().numpy()
        first, second = self.candidates
        cross = np.empty((size - 1, len(first)))
        for locus in range(1, size):
            least, most = np.minimum(first, locus), np.maximum(second, locus)
            cross[locus - 1] = third[first + second + locus - least - most, most, least]
        return cross

    def column(self, candidate: int, part: int) -> NDArray[np.float64]:
        """Sums of this candidate's products with all candidates, (Q,)."""
        a, b = (int(of[candidate]) for of in self.candidates)
        size = self._genotypes.num_loci + 1
        products = torch.zeros(size, size, dtype=self._dtype, device=self._device)
        for _, rows, block in self._blocks((part,)):
            weighted = block * (block[a] * block[b] * self._weights[rows].to(self._dtype))
            products.addmm_(weighted, block.T)
        return self._of_candidates(products)

    def _of_candidates(self, products: torch.Tensor) -> NDArray[np.float64]:
        return products[self._upper].double().cpu().numpy()

    def _blocks(self, parts: tuple[int, ...] = (0, 1)) -> Iterator[tuple[int, slice, torch.Tensor]]:
        """Part, rows and [1, x], loci by rows (K + 1, rows), of every block."""
        step = max(_FEWEST_ROWS, _BLOCK_BYTES // (8 * (self._genotypes.num_loci + 1)))
        for part in parts:
            for start in range(self._parts[part].start, self._parts[part].stop, step):
                rows = slice(start, min(start + step, self._parts[part].stop))
                coded = self._genotypes.rows(rows, _NUMPY[self._dtype])
                block = torch.ones(coded.shape[1] + 1, len(coded), dtype=self._dtype, device=self._device)
                block[1:] = torch.from_numpy(coded).to(self._device).T
                yield part, rows, block


def _add_products_of_three(sums: torch.Tensor, x: torch.Tensor, weighted: torch.Tensor) -> None:
    """Add sum_i w_i x_ai x_bi x_ci to sums[a, b, c] for c <= a <= b, and for some others; x (K + 1, n), w x (n, K + 1).

    By groups of a, so that the products of two are made once and used while they are at hand.
    """
    for start in range(0, len(x), _GROUP):
        end = min(start + _GROUP, len(x))
        pairs = (x[start:end, None] * x[None, start:]).reshape(-1, x.shape[1])
        sums[start:end, start:, :end] += (pairs @ weighted[:, :end]).reshape(end - start, -1, end)


_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


def sums_are_exact(genotypes: CodedGenotypes, weights: NDArray[np.float64]) -> bool:
    """Whether single precision adds up weighted products of these genotypes without any rounding."""
    unweighted = bool(((weights == 0) | (weights == 1)).all())
    return unweighted and len(genotypes) < _EXACT_IN_FLOAT32 and genotypes.is_plus_minus_one


def at_loci(genotypes: CodedGenotypes, loci: NDArray[np.intp], rows: NDArray[np.intp] | None = None) -> CodedGenotypes:
    """The genotypes at some loci only, still as stored, of all samples or of some."""
    coding = genotypes.coding
    part = GenotypeCoding(coding.ploidy, coding.shift[loci], coding.fill[loci])
    which = np.arange(len(genotypes)) if rows is None else rows
    stored = np.empty((len(which), len(loci)), genotypes.stored.dtype)
    step = max(1, 2**24 // max(1, genotypes.num_loci))
    for start in range(0, len(which), step):
        stored[start : start + step] = genotypes.stored[which[start : start + step]][:, loci]
    return CodedGenotypes(stored, part)
