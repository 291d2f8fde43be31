"""Exact tests of chosen terms: the t statistic of a term in a joint least-squares fit with its lower-order parts.

A set S of loci is tested by the coefficient of prod_S x in the regression of the phenotype on the background
(intercept, covariates, and all loci where these are in it), the products of all proper subsets of S, and prod_S x:

    effect = p~'r / p~'p~,    SE^2 = (r~'r~ - effect^2 p~'p~) / (df - m),    t = effect / SE,

p~ being the product less what the background and the subsets explain of it, r~ the residual phenotype less what the
subsets explain, m the terms that are added to a background with df degrees of freedom left. `effect` is in the
phenotype's units per unit of the product of coded genotypes: for -1/+1, 2^-k times the k-th difference.
Where the background is of ridge regression, r are its residuals, the loci of S are among the subsets, and the test is
conditional on the ridge fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.scan.background import Projected, Residuals
from gpmap_cli.scan.p_values import log10_p
from gpmap_cli.scan.products import Weights, times_transposed

_CHUNK = 8192  # samples
_LONG_CHUNK = 32_768  # of them in 8-bit integers
_DIGITS = 5
_COLUMNS = 1024  # terms and their parts at once
_NOTHING_LEFT = 1e-7  # of the product's variance: below that the lower-order parts determine the term


@dataclass(frozen=True)
class TermTests:
    """Of T terms: effect, standard error, t and log10 of its two-sided p-value, all (T,).

    NaN, and a p-value of 1, where lower-order parts determine the term.
    """

    effect: NDArray[np.float64]
    std_error: NDArray[np.float64]
    t: NDArray[np.float64]
    log10_p: NDArray[np.float64]


def test_terms(genotypes: torch.Tensor, residuals: Residuals, environment: int, loci: NDArray[np.int32]) -> TermTests:
    """Tests of terms (T, k) in one environment. Costs N L multiply-adds for each term and part of order 2 and more."""
    projection = next(one for one in residuals.projections if environment in one.environments)
    order = loci.shape[1]
    parts, step = _parts(order, residuals), terms_at_once(order, residuals)
    y = torch.zeros(genotypes.shape[1], dtype=torch.float64, device=genotypes.device)
    r = residuals.phenotypes.residuals[:, environment]
    y[: len(r)] = torch.from_numpy(r).to(y.device)
    found = [_tests(genotypes, projection, y, loci[start : start + step], parts) for start in range(0, len(loci), step)]
    effect, std_error, df = (np.concatenate([np.empty(0), *(one[at] for one in found)]) for at in range(3))
    t = effect / std_error
    p = np.full(len(t), np.nan)
    for same in np.unique(df):
        p[df == same] = log10_p(t[df == same], float(same))
    return TermTests(effect, std_error, t, np.where(np.isnan(p), 0.0, p))


def terms_at_once(order: int, residuals: Residuals) -> int:
    """How many terms are tested together."""
    return max(1, _COLUMNS // len(_parts(order, residuals)))


def _parts(order: int, residuals: Residuals) -> list[tuple[int, ...]]:
    """The parts of a set of loci that are fitted with it, by size, itself the last; not those in the background."""
    lowest = 2 if residuals.has_loci and order > 1 else 1
    return [part for size in range(lowest, order + 1) for part in combinations(range(order), size)]


test_terms.__test__ = False  # type: ignore[attr-defined]  # it is no test of this program


def _tests(
    genotypes: torch.Tensor,
    projection: Projected,
    y: torch.Tensor,
    loci: NDArray[np.int32],
    parts: list[tuple[int, ...]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Effects, standard errors and degrees of freedom (T,) of terms, whose own product is the last of the parts."""
    num_terms, size = len(loci), len(parts)
    sums = _sums_of_signs if genotypes.dtype == torch.int8 else _sums
    with_loci, with_right, gram = sums(genotypes, projection, torch.cat([projection.basis, y[:, None]], 1), loci, parts)
    inside = projection.coordinates(None if with_loci is None else with_loci.T, with_right[:, :-1].T)
    inside = inside.T.view(num_terms, size, -1)
    whole = gram.diagonal(dim1=1, dim2=2)[:, -1].clone()
    gram = gram - inside @ inside.transpose(1, 2)
    return _partial(gram.cpu().numpy(), with_right[:, -1].view(num_terms, size).cpu().numpy(), whole, y, projection)


Sums = tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]


def _sums(
    genotypes: torch.Tensor,
    projection: Projected,
    right: torch.Tensor,
    loci: NDArray[np.int32],
    parts: list[tuple[int, ...]],
) -> Sums:
    """Sums over samples of the products of T terms' m parts: times loci (T m, L), right (T m, .), each other (T, m, m).

    Times loci only where these are in the background.
    """
    num_terms, size, device = len(loci), len(parts), genotypes.device
    places = torch.from_numpy(loci.astype(np.int64)).to(device)
    here = _measured(genotypes, projection)
    with_right = torch.zeros(size * num_terms, right.shape[1], dtype=torch.float64, device=device)
    with_loci = None
    if projection.root is not None:
        with_loci = torch.zeros(size * num_terms, len(genotypes), dtype=torch.float64, device=device)
    gram = torch.zeros(num_terms, size, size, dtype=torch.float64, device=device)
    for start in range(0, genotypes.shape[1], _CHUNK):
        samples = slice(start, start + _CHUNK)
        block = genotypes[:, samples]
        products = _products(block, places, parts, here[samples]).double().transpose(0, 1).contiguous()
        flat = products.view(num_terms * size, -1)
        if with_loci is not None:
            with_loci += flat @ block.T.double()
        gram += products @ products.transpose(1, 2)
        with_right += flat @ right[samples]
    return with_loci, with_right, gram


def _sums_of_signs(
    genotypes: torch.Tensor,
    projection: Projected,
    right: torch.Tensor,
    loci: NDArray[np.int32],
    parts: list[tuple[int, ...]],
) -> Sums:
    """As `_sums` of genotypes -1/+1, in exact integers.

    What is on the right is written with five digits of base 128, to 3e-11 of its largest value. The product of
    two parts is the part of the loci that are in one of them alone, so that sums of all parts are all that is needed.
    """
    num_terms, size, device = len(loci), len(parts), genotypes.device
    places = torch.from_numpy(loci.astype(np.int64)).to(device)
    here = _measured(genotypes, projection)
    columns = [Weights.of(column.cpu().numpy(), "int8", str(device), _DIGITS) for column in right.T]
    rows = torch.cat([*(one.digits for one in columns), here[None]])
    has_loci = projection.root is not None
    total = torch.zeros(
        size * num_terms, len(rows) + (len(genotypes) if has_loci else 0), dtype=torch.int32, device=device
    )
    of_loci = torch.zeros(len(genotypes), 1, dtype=torch.int32, device=device)
    for start in range(0, genotypes.shape[1], _LONG_CHUNK):
        samples = slice(start, start + _LONG_CHUNK)
        block = genotypes[:, samples]
        products = _products(block, places, parts, here[samples])
        others = torch.cat([rows[:, samples], block]) if has_loci else rows[:, samples].contiguous()
        total += times_transposed(products.view(num_terms * size, -1), others)
        of_loci += times_transposed(block.contiguous(), here[None, samples].contiguous())
    total = total.view(size, num_terms, -1).transpose(0, 1).reshape(size * num_terms, -1)  # by terms, as elsewhere
    at, with_right = 0, []
    for one in columns:
        with_right.append(one.combined(total[:, at : at + len(one.digits)].T))
        at += len(one.digits)
    sums = total[:, at].view(num_terms, size).double()
    gram = torch.empty(num_terms, size, size, dtype=torch.float64, device=device)
    number = {part: place for place, part in enumerate(parts)}
    for i, one_part in enumerate(parts):
        for j, other in enumerate(parts):
            alone = tuple(sorted(set(one_part) ^ set(other)))
            if not alone:
                gram[:, i, j] = float(len(projection.rows))
            elif len(alone) == 1:
                gram[:, i, j] = of_loci[places[:, alone[0]], 0].double()
            else:
                gram[:, i, j] = sums[:, number[alone]]
    return total[:, at + 1 :].double() if has_loci else None, torch.stack(with_right, dim=1), gram


def _measured(genotypes: torch.Tensor, projection: Projected) -> torch.Tensor:
    """1 where measured, else 0, in the type of the genotypes, (N',)."""
    here = torch.zeros(genotypes.shape[1], dtype=genotypes.dtype, device=genotypes.device)
    here[torch.from_numpy(projection.rows).to(here.device)] = 1
    return here


def _products(
    block: torch.Tensor, places: torch.Tensor, parts: list[tuple[int, ...]], here: torch.Tensor
) -> torch.Tensor:
    """Products of the parts of terms whose loci are (T, k), 0 where not measured: (m, T, chunk)."""
    alone = [block[places[:, column]] for column in range(places.shape[1])]
    found = torch.empty(len(parts), *alone[0].shape, dtype=block.dtype, device=block.device)
    number = {part: place for place, part in enumerate(parts)}
    measured: dict[int, torch.Tensor] = {}
    for part, out in zip(parts, found, strict=True):
        before = part[:-1]
        if not before:
            torch.mul(alone[part[0]], here, out=out)
        elif before in number:  # parts come by size
            torch.mul(found[number[before]], alone[part[-1]], out=out)
        else:
            first = measured.setdefault(before[0], alone[before[0]] * here)
            for column in before[1:]:
                first = first * alone[column]
            torch.mul(first, alone[part[-1]], out=out)
    return found


def _partial(
    gram: NDArray[np.float64],
    with_y: NDArray[np.float64],
    whole: torch.Tensor,
    y: torch.Tensor,
    projection: Projected,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The last coefficient of each small regression, its standard error and df: products (T, m, m) and (T, m)."""
    total = float(y @ y)
    before, cross = gram[:, :-1, :-1], gram[:, :-1, -1]
    # Parts that the background or other parts determine add nothing.
    values, vectors = np.linalg.eigh(before)
    large = values > 1e-9 * whole.cpu().numpy()[:, None]
    root = vectors * np.where(large, np.where(large, values, 1.0) ** -0.5, 0.0)[:, None, :]
    of_term = np.einsum("tij,ti->tj", root, cross)
    of_y = np.einsum("tij,ti->tj", root, with_y[:, :-1])
    left = gram[:, -1, -1] - (of_term**2).sum(axis=1)
    product = with_y[:, -1] - (of_term * of_y).sum(axis=1)
    squares = total - (of_y**2).sum(axis=1)
    is_left = left > _NOTHING_LEFT * np.maximum(whole.cpu().numpy(), 1e-300)
    left = np.where(is_left, left, np.nan)
    effect = product / left
    df = len(projection.rows) - projection.rank - 1 - large.sum(axis=1).astype(np.float64)
    df = np.where(df > 0, df, np.nan)
    rest = np.maximum(squares - effect**2 * left, 0.0)
    return effect, np.sqrt(rest / df / left), df
