"""Variance components by restricted maximum likelihood, and from them the variance realised in the samples.

Average-information REML (Patterson and Thompson 1971; Gilmour, Thompson and Cullis 1995) of the model that
`reml_systems` writes out: theta <- theta + I^-1 s, s_k = (y' P K_k P y - tr(P K_k)) / 2,
I_km = y' P K_k P K_m P y / 2, with steps halved until the likelihood rises. Components may be negative, so that
estimates are not biased at zero, but none may take away more than nine tenths of the residual variance in any
direction: where V is all but singular the likelihood has maxima that mean nothing.

Reported is the variance of g_k in these very samples given the data, v_k = E[g_k' M g_k | y] / (n - rank X),
g_k | y ~ N(A_k P y, S_k), S_k = A_k - A_k P A_k. Where the samples determine the effects, v_k depends on the data and
no longer on the prior, which may be wrong about them. Its variance is
(2 tr(M S M S) + 4 g' M S M g) / (n - rank X)^2 plus what the uncertainty of theta (inverse average information) adds.

More samples than can be factorised at once are dealt at random into parts. Each part has the same effects and its own
noise; the variance in all samples is the mean of the variances in the parts, and the errors of the parts are taken to
be independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.errors import InputError
from gpmap_cli.random_streams import stream
from gpmap_cli.solvers.epistasis_kernels import EpistasisKernels
from gpmap_cli.solvers.missing import SharedRows, shared_rows
from gpmap_cli.variance.components import VarianceComponents
from gpmap_cli.variance.fixed_basis import fixed_basis
from gpmap_cli.variance.reml_effects import effect_systems, num_features
from gpmap_cli.variance.reml_samples import AmongSamples, SampleKernels
from gpmap_cli.variance.reml_systems import Point, System

LARGEST_SYSTEM = 3000  # samples or effects
LARGEST_PART = 2000  # samples; the work grows with the square of it, standard errors shrink with its root at best
_MOST_STEPS = 60
_CLOSE = 1e-7
_GAINED = 1e-6  # log likelihood: a thousandth of a standard error of theta
_DIFFERENCE = 1e-3
_MOST_TAKEN, _LEAST_NOISE = 0.9, 1e-9


def noise_profile(phenotypes: NDArray[np.float64], phenotype_std: NDArray) -> NDArray[np.float64]:
    """The squares of measurement errors (N, E), of mean 1 over the phenotypes of each environment that are there."""
    known = ~np.isnan(phenotypes)
    errors = np.where(known, phenotype_std, 1.0).astype(np.float64)
    if not (errors > 0).all():
        raise InputError(
            "weighted=true needs a measurement error above 0 for every phenotype, and some have none",
            "leave weighted out, or drop those phenotypes",
        )
    squares = np.where(known, errors**2, 0.0)
    return np.where(known, squares * known.sum(axis=0) / np.maximum(squares.sum(axis=0), 1e-300), 1.0)


def num_parts(num_samples: int, num_loci: int, max_order: int) -> int:
    """How many parts the samples of an environment are dealt into."""
    if min(num_samples, num_features(num_loci, max_order)) <= LARGEST_SYSTEM:
        return 1
    return -(-num_samples // LARGEST_PART)


def num_maxima(phenotypes: NDArray, num_loci: int, max_order: int) -> int:
    """What the progress of `refine_by_reml` counts up to."""
    return sum(num_parts(count, num_loci, max_order) for count in _counts(phenotypes))


def reml_operations(phenotypes: NDArray, num_loci: int, max_order: int) -> float:
    """About how many multiply-adds `refine_by_reml` takes."""
    total = 0.0
    for count in _counts(phenotypes):
        parts = num_parts(count, num_loci, max_order)
        total += parts * 20.0 * min(count / parts, num_features(num_loci, max_order)) ** 3
    return total


def _counts(phenotypes: NDArray) -> list[int]:
    return list(map(int, (~np.isnan(phenotypes)).sum(axis=0)))


def refine_by_reml(
    start: VarianceComponents,
    genotypes: CodedGenotypes,
    phenotypes: NDArray[np.float64],
    device: str,
    seed: int = 0,
    progress: Callable[[int], object] = lambda amount: None,
    covariates: NDArray[np.float64] | None = None,
    noise: NDArray[np.float64] | None = None,
) -> VarianceComponents:
    """`start` with variances, errors and parameters replaced by those of restricted maximum likelihood.

    phenotypes: (n, E), NaN missing. seed: deals the samples. covariates: (n, q), of which no variance is shared out.
    noise: (n, E), to which residual variances are proportional, from `noise_profile`; None: the same everywhere.
    """
    fixed = np.zeros((len(phenotypes), 0)) if covariates is None else covariates
    profile = np.ones_like(phenotypes) if noise is None else noise
    shape = start.variance.shape
    variance, squares, parameter, parts = np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros((shape[0], 1))
    theta = start.parameter.copy()
    for group in shared_rows(phenotypes):
        for e, system in _systems(genotypes, phenotypes, fixed, profile, group, len(start.names) - 1, device, seed):
            point, theta[e] = _maximum(system, theta[e])  # from what the part before came to
            values, errors = _realised(system, point, theta[e])
            parameter[e] += theta[e]
            variance[e] += values
            squares[e] += errors**2
            parts[e] += 1
            progress(1)
    method = "REML" if parts.max() == 1 else f"REML in {int(parts.max())} parts of the samples"
    return replace(
        start,
        variance=variance / parts,
        std_error=np.sqrt(squares) / parts,
        parameter=parameter / parts,
        method=method,
    )


def parameters_of_mean_zero(
    start: VarianceComponents,
    genotypes: CodedGenotypes,
    phenotypes: NDArray[np.float64],
    device: str,
    seed: int,
    noise: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """theta (E, C) of effects that have no mean but zero, as a ridge penalty has it; else as `refine_by_reml`."""
    fixed, profile = np.zeros((len(phenotypes), 0)), np.ones_like(phenotypes) if noise is None else noise
    theta, total, parts = start.parameter.copy(), np.zeros(start.parameter.shape), np.zeros((len(start.parameter), 1))
    for group in shared_rows(phenotypes):
        for e, system in _systems(genotypes, phenotypes, fixed, profile, group, len(start.names) - 1, device, seed):
            system.wide = [0.0] * len(system.wide)
            if system.total > 1e-9 * start.total[e]:  # phenotypes without variance have no maximum
                _, theta[e] = _maximum(system, theta[e])
            total[e] += theta[e]
            parts[e] += 1
    return total / parts


def _systems(
    genotypes: CodedGenotypes,
    phenotypes: NDArray[np.float64],
    covariates: NDArray[np.float64],
    noise: NDArray[np.float64],
    group: SharedRows,
    order: int,
    device: str,
    seed: int,
) -> Iterator[tuple[int, System]]:
    """The smaller of the two forms, for every environment of the group and every part of its samples."""
    if num_features(genotypes.num_loci, order) <= min(len(group.rows), LARGEST_SYSTEM):
        cells = np.ix_(group.rows, group.columns)
        systems = effect_systems(
            genotypes.take(group.rows), phenotypes[cells], order, device, covariates[group.rows], noise[cells]
        )
        yield from zip(group.columns, systems, strict=True)
        return
    learned = EpistasisKernels.learn(genotypes.take(group.rows), order, device)
    dealt = stream(seed, "reml").permutation(group.rows)
    for part in np.array_split(dealt, num_parts(len(dealt), genotypes.num_loci, order)):
        rows = np.sort(part)
        shared = SampleKernels.of(learned, genotypes.take(rows), fixed_basis(covariates[rows]))
        for e in group.columns:
            measured = torch.from_numpy(phenotypes[rows, e]).to(device)
            yield e, AmongSamples(shared, measured, torch.from_numpy(noise[rows, e]).to(device))


def _maximum(system: System, start: NDArray[np.float64]) -> tuple[Point, NDArray[np.float64]]:
    """The model at the theta (C,) with the largest restricted likelihood."""
    point, theta = _start(system, start)
    for _ in range(_MOST_STEPS):
        step = _step(system, point, theta)
        length, better, tried = 1.0, None, theta
        while length > 1e-4:
            tried = _allowed(system, theta + length * step)
            better = system.at(tried)
            if better is not None and better.likelihood >= point.likelihood - 1e-10 * abs(point.likelihood):
                break
            length, better = length / 2, None
        if better is None:
            break
        gained, moved = better.likelihood - point.likelihood, float(np.abs(tried - theta).max())
        theta, point = tried, better
        if moved < _CLOSE * system.total or (gained < _GAINED and length == 1):
            break
    return point, theta


def _step(system: System, point: Point, theta: NDArray[np.float64]) -> NDArray[np.float64]:
    """The average-information step of the components that are not held at their bound."""
    score, information = point.derivatives()
    free = (theta > _allowed(system, theta - 1e-9 * system.total)) | (score > 0)
    step = np.zeros(len(theta))
    step[free] = np.linalg.lstsq(information[np.ix_(free, free)], score[free], rcond=1e-12)[0]
    return step


def _allowed(system: System, theta: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest theta that leaves a tenth of the residual variance in every direction."""
    noise = max(float(theta[-1]), _LEAST_NOISE * system.total)
    bounds = [-_MOST_TAKEN * noise / max(largest, 1e-300) for largest in system.largest]
    return np.maximum(theta, [*bounds, noise])


def _start(system: System, start: NDArray[np.float64]) -> tuple[Point, NDArray[np.float64]]:
    """From the given theta if it can be one, else from equal shares."""
    equal = np.full(len(start), system.total / len(start))
    for theta in (_allowed(system, np.maximum(np.nan_to_num(start), 0.02 * system.total)), equal):
        point = system.at(theta)
        if point is not None:
            return point, theta
    raise ArithmeticError("these phenotypes have no variance to share out")


def _realised(
    system: System, point: Point, theta: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Realised variances and their standard errors, (C,) each."""
    found = point.realised(with_spread=True)
    gradient = np.zeros((len(theta), len(theta)))
    for k in range(len(theta)):
        moved = theta.copy()
        moved[k] += _DIFFERENCE * system.total
        nearby = system.at(moved)
        if nearby is not None:  # V grows with theta; only rounding could make it indefinite
            gradient[:, k] = (nearby.realised(with_spread=False).values - found.values) / (moved[k] - theta[k])
    covariance = np.linalg.pinv(point.derivatives()[1], hermitian=True)
    of_parameters = np.einsum("vk,km,vm->v", gradient, covariance, gradient)
    return found.values, np.sqrt(np.maximum(found.spread, 0) + np.maximum(of_parameters, 0))
