"""Variance components by restricted maximum likelihood, and from them the variance realised in the samples.

Average-information REML (Patterson and Thompson 1971; Gilmour, Thompson and Cullis 1995) of the model that
`reml_systems` writes out: theta <- theta + A^-1 s, s_k = (y' P K_k P y - tr(P K_k)) / 2,
A_km = y' P K_k P K_m P y / 2, with steps halved until the likelihood rises. Nothing but V > 0 is asked of theta, so
that estimates are not biased at zero.

Reported is the variance of g_k in these very samples given the data, v_k = E[g_k' C g_k | y] / (n - 1), C the centring,
g_k | y ~ N(theta_k K_k P y, S_k), S_k = theta_k K_k - theta_k^2 K_k P K_k. Where the samples determine the effects, v_k
depends on the data and no longer on the prior, which may be wrong about them. Its variance is
(2 tr(C S C S) + 4 g' C S C g) / (n - 1)^2 plus what the uncertainty of theta (inverse average information) adds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.solvers.epistasis_kernels import EpistasisKernels
from gpmap_cli.solvers.missing import SharedRows, shared_rows
from gpmap_cli.variance.components import VarianceComponents
from gpmap_cli.variance.reml_systems import AmongSamples, Point, System, feature_sums, num_features

LARGEST_SYSTEM = 3000  # samples or effects
_MOST_STEPS = 60
_CLOSE = 1e-7
_DIFFERENCE = 1e-3


def size_of_reml(num_samples: int, num_loci: int, max_order: int) -> int:
    """The order of the matrices that REML would factorise: the number of samples or of effects."""
    return min(num_samples, num_features(num_loci, max_order))


def refine_by_reml(
    start: VarianceComponents, genotypes: CodedGenotypes, phenotypes: NDArray[np.float64], device: str
) -> VarianceComponents:
    """`start` with variances, errors and parameters replaced by those of restricted maximum likelihood.

    phenotypes: (n, E), NaN missing.
    """
    order = len(start.names) - 1
    variance, errors, parameter = start.variance.copy(), start.std_error.copy(), start.parameter.copy()
    for group in shared_rows(phenotypes):
        for e, system in _systems(genotypes.take(group.rows), phenotypes[group.rows], group, order, device):
            parameter[e], variance[e], errors[e] = _estimate(system, parameter[e])
    return replace(start, variance=variance, std_error=errors, parameter=parameter, method="REML")


def _systems(
    genotypes: CodedGenotypes, phenotypes: NDArray[np.float64], group: SharedRows, order: int, device: str
) -> Iterator[tuple[int, System]]:
    """The smaller of the two forms, for every environment of the group."""
    if num_features(genotypes.num_loci, order) <= len(genotypes):
        yield from zip(group.columns, feature_sums(genotypes, phenotypes[:, group.columns], order, device), strict=True)
        return
    kernels = EpistasisKernels.learn(genotypes, order, device).dense(genotypes)
    for e in group.columns:
        yield e, AmongSamples(kernels, torch.from_numpy(phenotypes[:, e].copy()).to(device))


def _estimate(system: System, start: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """theta, the realised variances and their standard errors, (C,) each."""
    point, theta = _start(system, start)
    for _ in range(_MOST_STEPS):
        score, information = point.derivatives()
        step = np.linalg.lstsq(information, score, rcond=1e-12)[0]
        length, better, tried = 1.0, None, theta
        while length > 1e-4:
            tried = theta + length * step
            better = system.at(tried)
            if better is not None and better.likelihood >= point.likelihood - 1e-10 * abs(point.likelihood):
                break
            length, better = length / 2, None
        if better is None:
            break
        gained, moved = better.likelihood - point.likelihood, float(np.abs(tried - theta).max())
        theta, point = tried, better
        if moved < _CLOSE * system.total or (gained < 1e-9 and moved < 1e-4 * system.total):
            break
    return theta, *_realised(system, point, theta)


def _start(system: System, start: NDArray[np.float64]) -> tuple[Point, NDArray[np.float64]]:
    """From the given theta if it can be one, else from equal shares."""
    equal = np.full(len(start), system.total / len(start))
    for theta in (np.maximum(np.nan_to_num(start), 0.02 * system.total), equal):
        point = system.at(theta)
        if point is not None:
            return point, theta
    raise ArithmeticError("these phenotypes have no variance to share out")


def _realised(
    system: System, point: Point, theta: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
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
