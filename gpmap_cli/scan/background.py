"""What interactions are tested over: intercept, covariates and the additive effects of all loci, least squares.

Residual phenotypes r = (I - H) y, with H the projection on the intercept, the fixed covariates and, for an additive
background, all coded loci, over the samples measured in the environment. Of loci that others determine (duplicates, or
constant ones) nothing is added. Where there are not at least twice as many samples as loci, effects are those of ridge
regression by restricted likelihood instead, and r is no projection.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes, Projection
from gpmap_cli.dataset.fixed_effects import effects_on_genotypes
from gpmap_cli.scan.products import padded, times_transposed
from gpmap_cli.scan.search import Phenotypes
from gpmap_cli.scan.settings import Background
from gpmap_cli.solvers.ridge import linear_prediction, solve_ridge

_CHUNK = 8192  # samples whose genotypes are in float64 at once
_SAMPLES_PER_LOCUS = 2
_MOST_LOCI = 12_000  # matrices of all pairs of loci, in float64
_SINGULAR = 1e-9  # of a locus' variance: less than that is not left of it by the others


@dataclass(frozen=True)
class Projected:
    """The projection H of environments that are measured in the same samples.

    rows: (n,) these samples; basis: (N', f) orthonormal over them, of intercept and covariates, 0 elsewhere; sums:
    (f, L) of basis times loci; root: (L, q) with H = basis basis' + X root root' X', X less what the basis explains;
    None where no loci are in the background. rank: f + q.
    """

    environments: NDArray[np.intp]
    rows: NDArray[np.intp]
    basis: torch.Tensor
    sums: torch.Tensor | None
    root: torch.Tensor | None

    @property
    def rank(self) -> int:
        return self.basis.shape[1] + (0 if self.root is None else self.root.shape[1])

    def coordinates(self, with_loci: torch.Tensor | None, with_basis: torch.Tensor) -> torch.Tensor:
        """Coordinates (f + q, T) of columns in an orthonormal basis of H, of their products with loci (L, T), basis."""
        if self.root is None or self.sums is None or with_loci is None:
            return with_basis
        return torch.cat([with_basis, self.root.T @ (with_loci - self.sums.T @ with_basis)])


@dataclass(frozen=True)
class Residuals:
    """Residual phenotypes, and the projections that made them, by environments measured in the same samples.

    df: (E,) degrees of freedom of the residuals; has_loci: whether the loci are in the projections; method: in words.
    """

    phenotypes: Phenotypes
    projections: list[Projected]
    df: NDArray[np.float64]
    has_loci: bool
    method: str


def residual_phenotypes(
    genotypes: torch.Tensor,
    coded: CodedGenotypes,
    phenotypes: NDArray[np.float64],
    design: NDArray[np.float64],
    background: Background,
    seed: int = 0,
) -> Residuals:
    """Residuals of phenotypes (N, E), NaN missing; design (N, q) of fixed covariates.

    genotypes: (L, N') as `products.locus_major` makes them of `coded`. Costs N L^2 multiply-adds for each pattern of
    missing phenotypes and 2 N L E.
    """
    measured = ~np.isnan(phenotypes)
    values = np.where(measured, phenotypes, 0.0)
    patterns = Phenotypes(values, measured).patterns()[0]
    num_loci = len(genotypes)
    fewest = min((int(measured[:, columns[0]].sum()) for columns in patterns), default=0)
    needed = _SAMPLES_PER_LOCUS * (num_loci + design.shape[1] + 1)
    by_projection = background == "additive" and fewest >= needed and num_loci <= _MOST_LOCI
    bases = [_basis(genotypes, np.flatnonzero(measured[:, columns[0]]), design) for columns in patterns]
    projections = []
    whole: torch.Tensor | None = None
    sums = _with_loci(genotypes, torch.cat(bases, dim=1)) if by_projection else None
    at = 0
    for columns, basis in zip(patterns, bases, strict=True):
        here = measured[:, columns[0]]
        own, root = None, None
        if sums is not None:
            own = sums[:, at : at + basis.shape[1]].T
            at += basis.shape[1]
            if here.mean() < 0.5:
                gram = _gram(genotypes, np.flatnonzero(here))
            else:  # of all samples, once, less those that are missing
                whole = _gram(genotypes, np.arange(len(here))) if whole is None else whole
                gram = whole - _gram(genotypes, np.flatnonzero(~here))
            root = _root(gram, own)
        projections.append(Projected(columns, np.flatnonzero(here), basis, own, root))
    y = torch.zeros(genotypes.shape[1], values.shape[1], dtype=torch.float64, device=genotypes.device)
    y[: len(values)] = torch.from_numpy(values).to(y.device)
    method = "intercept and covariates"
    if background == "additive" and not by_projection:
        fitted = _ridge_fit(coded, phenotypes, design, str(genotypes.device), seed)
        y[: len(values)] -= torch.from_numpy(np.where(measured, fitted, 0.0)).to(y.device)
        method = "ridge regression on all loci"
    for one in projections:
        y[:, one.environments] -= one.basis @ (one.basis.T @ y[:, one.environments])
    if by_projection:
        method = "least squares on all loci"
        y -= _fitted(genotypes, y, projections)
    residuals = y[: len(values)].cpu().numpy()
    df = np.empty(values.shape[1])
    for one in projections:
        df[one.environments] = len(one.rows) - one.rank
    return Residuals(Phenotypes(np.where(measured, residuals, 0.0), measured), projections, df, by_projection, method)


def _orthonormal(design: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the intercept and covariates of these samples, (n, f)."""
    num_samples = len(design)
    if num_samples == 0:
        return np.zeros((0, 0))
    centred = design - design.mean(axis=0)
    found = [np.full((num_samples, 1), num_samples**-0.5)]
    if design.shape[1]:
        left, values, _ = np.linalg.svd(centred, full_matrices=False)
        found.append(left[:, values > 1e-10 * max(values.max(initial=0.0), 1e-300)])
    return np.concatenate(found, axis=1)


def _basis(genotypes: torch.Tensor, rows: NDArray[np.intp], design: NDArray[np.float64]) -> torch.Tensor:
    """Orthonormal over these samples, of intercept and covariates, 0 elsewhere, (N', f)."""
    orthonormal = torch.from_numpy(_orthonormal(design[rows])).to(genotypes.device)
    basis = torch.zeros(genotypes.shape[1], orthonormal.shape[1], dtype=torch.float64, device=genotypes.device)
    basis[torch.from_numpy(rows).to(basis.device)] = orthonormal
    return basis


def _root(gram: torch.Tensor, sums: torch.Tensor) -> torch.Tensor:
    """A root (L, q) of the inverse of X'X (L, L) less what the basis explains, whose sums with loci are (f, L)."""
    gram = gram - sums.T @ sums
    whole = gram.diagonal() + (sums**2).sum(dim=0)
    kept = torch.nonzero(gram.diagonal() > _SINGULAR * whole).flatten()
    scale = gram.diagonal()[kept].rsqrt()
    scaled = gram[kept][:, kept] * scale[:, None] * scale
    factor, trouble = torch.linalg.cholesky_ex(scaled)
    root = torch.zeros(len(gram), len(kept), dtype=torch.float64, device=gram.device)
    if not int(trouble) and bool((factor.diagonal() ** 2 > _SINGULAR).all()):
        identity = torch.eye(len(kept), dtype=torch.float64, device=gram.device)
        root[kept] = torch.linalg.solve_triangular(factor, identity, upper=False).T * scale[:, None]
        return root
    values, vectors = torch.linalg.eigh(scaled)
    large = values > _SINGULAR * len(kept)
    root = root[:, : int(large.sum())]
    root[kept] = vectors[:, large] * values[large].rsqrt() * scale[:, None]
    return root


def _gram(genotypes: torch.Tensor, rows: NDArray[np.intp]) -> torch.Tensor:
    """Sums of products of all pairs of loci over these samples, (L, L) in float64."""
    found = torch.zeros(len(genotypes), len(genotypes), dtype=torch.float64, device=genotypes.device)
    for start in range(0, len(rows), _CHUNK):
        chosen = rows[start : start + _CHUNK]
        if chosen[-1] - chosen[0] == len(chosen) - 1:
            part = genotypes[:, chosen[0] : chosen[-1] + 1].contiguous()
        else:
            part = genotypes[:, torch.from_numpy(chosen).to(genotypes.device)]
        if part.dtype == torch.int8:
            part = torch.nn.functional.pad(part, (0, padded(part.shape[1]) - part.shape[1]))
        else:
            part = part.double()
        found += times_transposed(part, part)
    return found


def _with_loci(genotypes: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Sums over samples of loci times columns (N', m): (L, m)."""
    found = torch.zeros(len(genotypes), right.shape[1], dtype=torch.float64, device=right.device)
    for samples in _chunks(genotypes):
        found += genotypes[:, samples].double() @ right[samples]
    return found


def _fitted(genotypes: torch.Tensor, y: torch.Tensor, projections: list[Projected]) -> torch.Tensor:
    """What the loci explain of phenotypes (N', E) that have nothing of the basis left."""
    products = _with_loci(genotypes, y)
    effects = torch.zeros_like(products)
    for one in projections:
        assert one.root is not None
        effects[:, one.environments] = one.root @ (one.root.T @ products[:, one.environments])
    fitted = torch.empty_like(y)
    for samples in _chunks(genotypes):
        fitted[samples] = genotypes[:, samples].T.double() @ effects
    for one in projections:
        here = torch.zeros(len(y), 1, dtype=torch.float64, device=y.device)
        here[torch.from_numpy(one.rows).to(y.device)] = 1
        part = fitted[:, one.environments] * here
        fitted[:, one.environments] = part - one.basis @ (one.basis.T @ part)
    return fitted


def _chunks(genotypes: torch.Tensor) -> list[slice]:
    return [slice(start, start + _CHUNK) for start in range(0, genotypes.shape[1], _CHUNK)]


def _ridge_fit(
    coded: CodedGenotypes, phenotypes: NDArray[np.float64], design: NDArray[np.float64], device: str, seed: int
) -> NDArray[np.float64]:
    """Additive predictions (N, E) by ridge regression on loci, both less the covariates."""
    left = phenotypes.copy()
    if design.shape[1]:
        coded = CodedGenotypes(coded.stored, coded.coding, Projection(design, effects_on_genotypes(design, coded)))
        for column in left.T:
            known = ~np.isnan(column)
            centred = design[known] - design[known].mean(axis=0)
            column[known] -= centred @ np.linalg.lstsq(centred, column[known], rcond=1e-10)[0]
    scale = np.nanstd(left, axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    standardised = (left - np.nanmean(left, axis=0)) / scale
    solution = solve_ridge(coded, standardised, None, None, device, choice="reml", seed=seed)
    return linear_prediction(coded, solution.weights, solution.intercept) * scale
