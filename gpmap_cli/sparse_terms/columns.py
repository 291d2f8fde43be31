"""Columns of a regression on all loci and on chosen products of loci, and their sums over samples.

A term is a set S of two or more loci, its column p = prod_S x of the coded genotypes. Terms are rows of locus numbers
(T, k), those of fewer than k loci filled up with -1 at the end. Columns are the L loci first, then the T terms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.scan.products import times_transposed

_CHUNK = 8192  # samples
NO_LOCUS = -1


@dataclass(frozen=True)
class Moments:
    """Sums over n samples of centred columns (P) and phenotypes (E'), in double precision.

    gram: (P, P); cross: (P, E'); squares: (E',); column_means: (P,); means: (E',).
    """

    num_samples: int
    gram: torch.Tensor
    cross: torch.Tensor
    squares: torch.Tensor
    column_means: torch.Tensor
    means: torch.Tensor


def orders_of(terms: NDArray[np.int32]) -> NDArray[np.int64]:
    """How many loci each term has, (T,)."""
    return np.asarray((terms != NO_LOCUS).sum(axis=1), np.int64)


def widened(terms: NDArray[np.int32], width: int) -> NDArray[np.int32]:
    """The same terms with room for so many loci."""
    more = np.full((len(terms), width - terms.shape[1]), NO_LOCUS, np.int32)
    return np.concatenate([terms, more], axis=1)


def term_products(block: torch.Tensor, terms: NDArray[np.int32]) -> torch.Tensor:
    """Columns (T, n) of terms, of genotypes (L, n)."""
    found = block.new_empty(len(terms), block.shape[1])
    orders = orders_of(terms)
    for order in np.unique(orders):
        which = np.flatnonzero(orders == order)
        places = torch.from_numpy(terms[which, :order].astype(np.int64)).to(block.device)
        product = block[places[:, 0]]
        for column in range(1, int(order)):
            product *= block[places[:, column]]
        found[torch.from_numpy(which).to(block.device)] = product
    return found


def moments(
    genotypes: torch.Tensor, terms: NDArray[np.int32], phenotypes: NDArray[np.float64], measured: NDArray[np.bool_]
) -> Moments:
    """Of genotypes (L, N'), as scan.products.locus_major makes them, and phenotypes (N, E') of measured samples (N,).

    Costs N (L + T)^2 multiply-adds, exact in 8-bit integers where genotypes are -1/+1.
    """
    device, num_columns = genotypes.device, len(genotypes) + len(terms)
    gram = torch.zeros(num_columns, num_columns, dtype=torch.float64, device=device)
    cross = torch.zeros(num_columns, phenotypes.shape[1], dtype=torch.float64, device=device)
    total = torch.zeros(num_columns, dtype=torch.float64, device=device)
    here = torch.from_numpy(measured).to(device)
    y = torch.from_numpy(np.where(measured[:, None], phenotypes, 0.0)).to(device)
    for start in range(0, len(measured), _CHUNK):
        samples = slice(start, min(start + _CHUNK, len(measured)))
        block = genotypes[:, samples]
        columns = torch.cat([block, term_products(block, terms)]) * here[samples].to(block.dtype)
        if columns.dtype != torch.int8:
            columns = columns.double()
        gram += _with_itself(columns)
        wide = columns.double()
        cross += wide @ y[samples]
        total += wide.sum(dim=1)
    count = int(measured.sum())
    sums = y.sum(dim=0)
    gram -= torch.outer(total, total) / max(count, 1)
    cross -= torch.outer(total, sums) / max(count, 1)
    squares = (y**2).sum(dim=0) - sums**2 / max(count, 1)
    return Moments(count, gram, cross, squares, total / max(count, 1), sums / max(count, 1))


def _with_itself(columns: torch.Tensor) -> torch.Tensor:
    if columns.dtype == torch.int8 and columns.shape[1] % 8:  # as accelerators want it
        columns = torch.nn.functional.pad(columns, (0, 8 - columns.shape[1] % 8))
    return times_transposed(columns, columns)


def fitted_values(
    genotypes: CodedGenotypes, terms: NDArray[np.int32], effects: NDArray[np.float64], intercept: NDArray[np.float64]
) -> NDArray[np.float64]:
    """intercept (E,) + columns effects (P, E) of every sample, (N, E)."""
    used = np.flatnonzero((effects != 0).any(axis=1))
    num_loci = genotypes.num_loci
    loci, kept = used[used < num_loci], terms[used[used >= num_loci] - num_loci]
    weights = torch.from_numpy(effects[used])
    found = np.empty((len(genotypes), effects.shape[1]))
    step = max(1, _CHUNK * 1024 // max(1024, num_loci + len(kept)))
    for start in range(0, len(genotypes), step):
        rows = slice(start, min(start + step, len(genotypes)))
        block = torch.from_numpy(np.ascontiguousarray(genotypes.rows(rows).T))
        columns = torch.cat([block[torch.from_numpy(loci)], term_products(block, kept)])
        found[rows] = (columns.T @ weights).numpy() + intercept
    return found
