"""Linked loci: terms that are one signal merged under a lead term, and support intervals of its loci.

In a cross, a true pair of loci makes every pair of their neighbours significant too. Of the terms of one order that
pass the family-wise threshold the strongest becomes a lead term; then, given the background and the leads so far, the
strongest of those that still pass, until none does (forward selection, each step by the t statistic in the joint
least-squares fit). A term that no longer passes belongs to the lead whose product, less the background, is most
correlated with its own.

The interval of each locus of a lead: with the others of the lead in place and given all other leads, every locus of its
chromosome is put in its stead, LOD = n/2 log10(RSS without the term / RSS with it), and the interval goes outward from
the largest LOD to the last locus that is within 1.5 of it, and one locus on (as `lodint` of R/qtl; Dupuis and Siegmund
1999 for 1.5). Here the lower-order parts of terms of order 3 and 4 are not in the fit, which they were in the test.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.scan.background import Projected, Residuals
from gpmap_cli.scan.p_values import log10_p
from gpmap_cli.scan.products import Arithmetic, Weights, times_transposed

DROP = 1.5  # of LOD
_CHUNK = 16_384  # samples
_DIGITS = 5
_DETERMINED = 1e-4  # of a product's variance: given the leads less than that is left of it


@dataclass(frozen=True)
class Lead:
    """A lead term: which of the terms given it is, who belongs to it, and what is known of it among the other leads.

    members: places of terms, the lead first; effect, std_error, log10_p: in the joint fit of all leads; low, high: (k,)
    the columns where the interval of each of its loci begins and ends.
    """

    term: int
    members: NDArray[np.intp]
    effect: float
    std_error: float
    log10_p: float
    low: NDArray[np.intp]
    high: NDArray[np.intp]


def lead_terms(
    genotypes: torch.Tensor,
    residuals: Residuals,
    environment: int,
    loci: NDArray[np.int32],
    log10_level: float,
    chromosomes: NDArray | None = None,
    drop: float = DROP,
) -> list[Lead]:
    """Leads among terms (T, k) that pass in one environment, strongest first, by the order in which they enter.

    log10_level: of the p-value that passes; chromosomes: (L,) of the loci in order along the map; None: one.
    """
    if len(loci) == 0:
        return []
    projection = next(one for one in residuals.projections if environment in one.environments)
    fit = _Fit(genotypes, residuals, projection, environment)
    gram, with_y = fit.products(loci)
    chosen = _forward(gram, with_y, fit, log10_level)
    if not chosen:
        return []
    leads = []
    correlation = np.abs(gram) / np.sqrt(np.maximum(np.outer(gram.diagonal(), gram.diagonal()), 1e-300))
    owner = np.argmax(correlation[:, chosen], axis=1)
    owner[chosen] = np.arange(len(chosen))
    joint = np.linalg.inv(gram[np.ix_(chosen, chosen)])
    effects = joint @ with_y[chosen]
    df = fit.df - len(chosen)
    variance = max(fit.total - float(effects @ with_y[chosen]), 0.0) / df
    errors = np.sqrt(variance * joint.diagonal())
    log_p = log10_p(effects / errors, df)
    places = np.zeros(len(genotypes)) if chromosomes is None else np.unique(chromosomes, return_inverse=True)[1]
    for number, term in enumerate(chosen):
        others = loci[[one for one in chosen if one != term]]
        spans = [_interval(fit, loci[term], at, others, places, drop) for at in range(loci.shape[1])]
        rest = np.flatnonzero((owner == number) & (np.arange(len(loci)) != term))
        leads.append(
            Lead(
                term,
                np.concatenate([[term], rest]).astype(np.intp),
                float(effects[number]),
                float(errors[number]),
                float(log_p[number]),
                np.array([low for low, _ in spans]),
                np.array([high for _, high in spans]),
            )
        )
    return leads


class _Fit:
    """Products of terms less what the background explains of them, with each other and with the residuals."""

    def __init__(self, genotypes: torch.Tensor, residuals: Residuals, projection: Projected, environment: int) -> None:
        self.genotypes, self._projection = genotypes, projection
        r = residuals.phenotypes.residuals[:, environment]
        self.total = float(r @ r)
        self.df = float(residuals.df[environment])
        self.num_samples = len(projection.rows)
        self._here = torch.zeros(genotypes.shape[1], dtype=genotypes.dtype, device=genotypes.device)
        self._here[torch.from_numpy(projection.rows).to(genotypes.device)] = 1
        columns = [*projection.basis.T.cpu().numpy(), r]
        arithmetic: Arithmetic = "int8" if genotypes.dtype == torch.int8 else "float64"
        self._columns = [Weights.of(column, arithmetic, str(genotypes.device), _DIGITS) for column in columns]

    def products(self, loci: NDArray[np.int32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """p~'p~ (T, T) and p~'r (T,) of terms (T, k)."""
        places = torch.from_numpy(loci.astype(np.int64)).to(self.genotypes.device)
        rows = torch.cat([one.digits for one in self._columns])
        has_loci = self._projection.root is not None
        total: torch.Tensor | None = None
        for start in range(0, self.genotypes.shape[1], _CHUNK):
            samples = slice(start, start + _CHUNK)
            block = self.genotypes[:, samples]
            product = block[places[:, 0]] * self._here[samples]
            for column in range(1, places.shape[1]):
                product *= block[places[:, column]]
            others = [product, rows[:, samples], *([block] if has_loci else [])]
            if product.dtype == torch.int8:
                found = times_transposed(product, torch.cat(others)).double()
            else:
                found = product.double() @ torch.cat([other.double() for other in others]).T
            total = found if total is None else total + found
        assert total is not None
        gram, right, with_loci = total.split([len(loci), len(rows), total.shape[1] - len(loci) - len(rows)], dim=1)
        parts = right.T.split([len(one.digits) for one in self._columns])
        sums = torch.stack([one.combined(part) for one, part in zip(self._columns, parts, strict=True)])
        inside = self._projection.coordinates(with_loci.T if has_loci else None, sums[:-1])
        return (gram - inside.T @ inside).cpu().numpy(), sums[-1].cpu().numpy()


def _forward(gram: NDArray[np.float64], with_y: NDArray[np.float64], fit: _Fit, log10_level: float) -> list[int]:
    """The terms that enter, in turn."""
    whole = gram.diagonal().copy()
    left, product, rest = gram.copy(), with_y.copy(), fit.total
    chosen: list[int] = []
    while len(chosen) < len(gram):
        diagonal = left.diagonal()
        is_left = diagonal > np.maximum(_DETERMINED * whole, 1e-9 * fit.num_samples)
        gain = np.where(is_left, product**2 / np.where(is_left, diagonal, 1.0), 0.0)
        gain[chosen] = 0.0
        best = int(np.argmax(gain))
        df = fit.df - len(chosen) - 1
        if df < 1 or gain[best] <= 0:
            break
        t = np.sqrt(gain[best] * df / max(rest - gain[best], 1e-300))
        if float(log10_p(t, df)) > log10_level:
            break
        chosen.append(best)
        direction = left[:, best] / np.sqrt(left[best, best])
        product = product - direction * (product[best] / np.sqrt(left[best, best]))
        left = left - np.outer(direction, direction)
        rest -= gain[best]
    return chosen


def _interval(
    fit: _Fit, lead: NDArray[np.int32], at: int, others: NDArray[np.int32], chromosome: NDArray, drop: float
) -> tuple[int, int]:
    """The columns where the support interval of one locus of a lead begins and ends."""
    own = int(lead[at])
    along = np.flatnonzero(chromosome == chromosome[own])
    along = along[(along == own) | ~np.isin(along, lead)]
    tried = np.repeat(lead[None], len(along), axis=0)
    tried[:, at] = along
    lod = _lod(fit, tried, others)
    top = int(np.argmax(lod))
    low, high = top, top
    while low > 0 and lod[low - 1] >= lod[top] - drop:
        low -= 1
    while high + 1 < len(lod) and lod[high + 1] >= lod[top] - drop:
        high += 1
    return int(along[max(low - 1, 0)]), int(along[min(high + 1, len(along) - 1)])


def _lod(fit: _Fit, tried: NDArray[np.int32], others: NDArray[np.int32]) -> NDArray[np.float64]:
    """LOD (T,) of each of the terms tried, given the others."""
    gram, with_y = fit.products(np.concatenate([others, tried]))
    num_others = len(others)
    first, cross = gram[:num_others, :num_others], gram[:num_others, num_others:]
    solved = np.linalg.solve(first, np.column_stack([cross, with_y[:num_others]])) if num_others else np.zeros((0, 1))
    whole = gram.diagonal()[num_others:]
    left, product, rest = whole.copy(), with_y[num_others:].copy(), fit.total
    if num_others:
        left -= (cross * solved[:, :-1]).sum(axis=0)
        product -= cross.T @ solved[:, -1]
        rest -= float(with_y[:num_others] @ solved[:, -1])
    is_left = left > np.maximum(_DETERMINED * whole, 1e-9 * fit.num_samples)
    gain = np.where(is_left, product**2 / np.where(is_left, left, 1.0), 0.0)
    share = np.minimum(gain / max(rest, 1e-300), 1 - 1e-15)
    return np.asarray(-fit.num_samples / 2 * np.log10(1 - share))
