"""Variance components by Haseman-Elston regression: products of phenotypes regressed on products of genotypes.

Model, for the n measured samples of an environment: y = X b + sum_k g_k + e, X the mean and the covariates, with
covariance V = sum_k theta_k K_k + theta_e I, K_k the kernels by epistasis order. With P = M - Q Q' the projection that
takes X away (Q orthonormal, M the mask of the environment), the quadratic forms y' P K_k P y equal, in expectation,
sum_m T_km theta_m with T_km = tr(P K_k P K_m), the identity being the kernel of the residual; solving these equations
gives unbiased estimates without any iteration (Haseman and Elston 1972; Golan, Lander and Rosset 2014; Wu and
Sankararaman 2018). All traces are exact and respect every missing phenotype: tr(P K_k P K_m) needs only K_k Q, K_m Q
and (K_k o K_m) m for the diagonal m of M, so that one pass over the kernels, block by block, serves all environments.
n^2 L / 2 multiply-adds for each order; memory in proportion to n.

What is estimated is the variance in these very samples, v_k = g_k' P g_k / tr(P): a geneticist asks how this
cross varies. An estimate y' B y misses it by y' B y - g_k' P g_k / tr(P), a quadratic form in normal variables
of variance 2 tr(B V B V) + 2 theta_k^2 tr(P K_k P K_k) / tr(P)^2 - 4 theta_k^2 tr(B K_k P K_k) / tr(P), whose root
is the standard error. The traces of four kernels come from a second pass with random vectors. Effects are taken to
be random in sign: when linked loci have effects of one sign, more varies than independent effects would make vary,
and the estimate is too large; restricted maximum likelihood (`reml`) lets effects have a mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.random_streams import stream
from gpmap_cli.solvers.epistasis_kernels import EpistasisKernels
from gpmap_cli.solvers.missing import SharedRows, shared_rows
from gpmap_cli.variance.components import VarianceComponents, component_names
from gpmap_cli.variance.fixed_basis import fixed_basis, without

Progress = Callable[[int], object]


def haseman_elston(
    genotypes: CodedGenotypes,
    phenotypes: NDArray[np.float64],
    max_order: int,
    device: str,
    seed: int = 0,
    num_probes: int = 12,
    progress: Progress = lambda amount: None,
    covariates: NDArray[np.float64] | None = None,
) -> VarianceComponents:
    """Variance components of phenotypes (n, E), NaN missing, for the orders 1 to `max_order`.

    covariates: (n, q), of which no variance is shared out.
    num_probes: random vectors for the standard errors (the estimates need none); 0 leaves the errors NaN.
    progress: called with the number of sample pairs done, 2 n (n + 1) / 2 in all, or half of it without probes.
    """
    kernels = EpistasisKernels.learn(genotypes, max_order, device)
    groups = shared_rows(phenotypes)
    bases = _bases(groups, np.zeros((len(phenotypes), 0)) if covariates is None else covariates)
    masks, centred = _masked(phenotypes, groups, bases)
    probes = _probes(groups, bases, num_probes, seed)
    first = _pass(kernels, genotypes, np.concatenate([*bases, centred, *probes], axis=1), masks, progress)
    moments = _Moments.collect(kernels, genotypes, first, masks, centred, groups, bases)
    fourth = None
    if num_probes:
        fourth = _fourth_order(kernels, genotypes, first, probes, bases, phenotypes.shape[1], progress)
    return _assemble(moments, fourth, groups, max_order)


def num_sample_pairs(num_samples: int, num_probes: int) -> int:
    """What `progress` counts up to."""
    return num_samples * (num_samples + 1) // 2 * (2 if num_probes else 1)


def _bases(groups: list[SharedRows], covariates: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Q (n, r) of each group of environments measured in the same samples, 0 in other samples."""
    found = []
    for group in groups:
        of_rows = fixed_basis(covariates[group.rows])
        basis = np.zeros((len(covariates), of_rows.shape[1]))
        basis[group.rows] = of_rows
        found.append(basis)
    return found


def _masked(
    phenotypes: NDArray[np.float64], groups: list[SharedRows], bases: list[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """1 where measured, (n, E), and the phenotypes less what the bases explain of them, 0 where missing."""
    known = ~np.isnan(phenotypes)
    filled = np.where(known, phenotypes, 0.0)
    for group, basis in zip(groups, bases, strict=True):
        filled[:, group.columns] = without(basis, filled[:, group.columns])
    return known.astype(np.float64), filled


def _probes(
    groups: list[SharedRows], bases: list[NDArray[np.float64]], num_probes: int, seed: int
) -> list[NDArray[np.float64]]:
    """P z of random signs z for each group, (n, probes)."""
    signs = stream(seed, "haseman_elston").integers(0, 2, (len(bases[0]), num_probes)) * 2.0 - 1
    found = []
    for group, basis in zip(groups, bases, strict=True):
        masked = np.zeros_like(signs)
        masked[group.rows] = signs[group.rows]
        found.append(without(basis, masked))
    return found


@dataclass
class _Passed:
    """products[k] = K_k @ columns (n, C); overlaps[k, m] = masks' (K_k o K_m) masks (E, E)."""

    products: list[NDArray[np.float64]]
    overlaps: NDArray[np.float64]


def _pass(
    kernels: EpistasisKernels,
    genotypes: CodedGenotypes,
    columns: NDArray[np.float64],
    masks: NDArray[np.float64] | None,
    progress: Progress,
) -> _Passed:
    """One pass over the kernels; without masks no overlaps are summed."""
    device, order = kernels.mean.device, kernels.max_order
    right = torch.from_numpy(columns.astype(np.float32)).to(device)
    totals = [torch.zeros(columns.shape, dtype=torch.float64, device=device) for _ in range(order)]
    num_masks = 0 if masks is None else masks.shape[1]
    overlaps = torch.zeros(order, order, num_masks, num_masks, dtype=torch.float64, device=device)
    of_masks = None if masks is None else torch.from_numpy(masks.astype(np.float32)).to(device)
    for rows, others, blocks in kernels.blocks(genotypes):
        on_diagonal = rows == others
        for k, block in enumerate(blocks):
            totals[k][rows] += block @ right[others]
            if not on_diagonal:
                totals[k][others] += block.T @ right[rows]
            if of_masks is None:
                continue
            for m in range(k + 1):
                shared = of_masks[rows].double().T @ ((block * blocks[m]) @ of_masks[others]).double()
                overlaps[k, m] += shared if on_diagonal else shared + shared.T
        count = rows.stop - rows.start
        progress(count * (count + 1) // 2 if on_diagonal else count * (others.stop - others.start))
    for k in range(order):
        for m in range(k):
            overlaps[m, k] = overlaps[k, m].T
    return _Passed([total.cpu().numpy() for total in totals], overlaps.cpu().numpy())


@dataclass
class _Moments:
    """Coefficients and right-hand sides of the estimating equations, for every pair of environments e, f.

    The products of two environments' phenotypes, sample by sample, have the expectation
    sum_m theta_m P_e K_m P_f; P_e = M_e - Q_e Q_e'. traces (C, C, E, E): tr(P_e K_k P_f K_m); forms (C, E, E):
    y_e' K_k y_f. The last component is the residual, its kernel the identity.
    """

    traces: NDArray[np.float64]
    forms: NDArray[np.float64]

    @classmethod
    def collect(
        cls,
        kernels: EpistasisKernels,
        genotypes: CodedGenotypes,
        passed: _Passed,
        masks: NDArray[np.float64],
        centred: NDArray[np.float64],
        groups: list[SharedRows],
        bases: list[NDArray[np.float64]],
    ) -> _Moments:
        num_environments, order = masks.shape[1], kernels.max_order
        ends = np.cumsum([basis.shape[1] for basis in bases])
        of_bases = [np.split(product[:, : ends[-1]], ends[:-1], axis=1) for product in passed.products] + [bases]
        after = slice(ends[-1], ends[-1] + num_environments)
        of_phenotypes = [product[:, after] for product in passed.products] + [centred]
        member = np.empty(num_environments, np.intp)  # the group of each environment
        for number, group in enumerate(groups):
            member[group.columns] = number
        overlaps = np.zeros((order + 1, order + 1, num_environments, num_environments))
        overlaps[:order, :order] = passed.overlaps
        overlaps[order, order] = masks.T @ masks
        for k, diagonal in enumerate(kernels.diagonals(genotypes)):
            overlaps[k, order] = overlaps[order, k] = (masks * diagonal.cpu().numpy()[:, None]).T @ masks
        inner = [_between(bases, images) for images in of_bases]
        traces = np.empty_like(overlaps)
        for k in range(order + 1):
            for m in range(order + 1):
                pairs = zip(of_bases[k], of_bases[m], strict=True)
                across = np.stack([(one * two).sum(axis=1) @ masks for one, two in pairs])  # tr(Q_a' K_k M_f K_m Q_a)
                sums = np.einsum("abij,abij->ab", inner[k], inner[m])
                traces[k, m] = overlaps[k, m] - across[member] - across[member].T + sums[np.ix_(member, member)]
        forms = np.stack([centred.T @ product for product in of_phenotypes])
        return cls(traces, (forms + forms.transpose(0, 2, 1)) / 2)

    def inverse(self, e: int, f: int) -> NDArray[np.float64]:
        """What takes the forms to theta, (C, C); a kernel without variance gets theta 0."""
        return np.asarray(np.linalg.pinv(self.traces[:, :, e, f], rcond=1e-10, hermitian=True), np.float64)

    def solve(self) -> NDArray[np.float64]:
        """theta (C, E, E) of the variances and covariances of all environments."""
        num_environments = self.forms.shape[1]
        theta = np.empty_like(self.forms)
        for e in range(num_environments):
            for f in range(e + 1):
                theta[:, e, f] = theta[:, f, e] = self.inverse(e, f) @ self.forms[:, e, f]
        return theta


def _between(bases: list[NDArray[np.float64]], images: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Q_a' K Q_b of all groups, (G, G, r, r), 0 where a basis has fewer columns than others."""
    most = max(basis.shape[1] for basis in bases)
    found = np.zeros((len(bases), len(bases), most, most))
    for a, basis in enumerate(bases):
        for b, image in enumerate(images):
            found[a, b, : basis.shape[1], : image.shape[1]] = basis.T @ image
    return found


def _fourth_order(
    kernels: EpistasisKernels,
    genotypes: CodedGenotypes,
    first: _Passed,
    probes: list[NDArray[np.float64]],
    bases: list[NDArray[np.float64]],
    num_environments: int,
    progress: Progress,
) -> list[NDArray[np.float64]]:
    """tr(P K_l P K_m P K_j P K_i), (C, C, C, C), of each group of environments measured in the same samples."""
    order, num_probes = kernels.max_order, probes[0].shape[1]
    once = []  # P K_m z of every group, the identity last
    before = sum(basis.shape[1] for basis in bases) + num_environments
    for number, (basis, probe) in enumerate(zip(bases, probes, strict=True)):
        place = before + number * num_probes
        once.append([_project(product[:, place : place + num_probes], basis) for product in first.products] + [probe])
    columns = np.concatenate([part for parts in once for part in parts], axis=1)
    passed = _pass(kernels, genotypes, columns, None, progress)
    found = []
    width = (order + 1) * num_probes
    for number, basis in enumerate(bases):
        twice = np.empty((order + 1, order + 1, len(columns), num_probes))  # P K_m P K_l z
        for l in range(order + 1):
            place = number * width + l * num_probes
            for m in range(order):
                twice[m, l] = _project(passed.products[m][:, place : place + num_probes], basis)
            twice[order, l] = once[number][l]
        found.append(np.einsum("mlnb,jinb->lmji", twice, twice, optimize=True) / num_probes)
    return found


def _project(columns: NDArray[np.float64], basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """P times the columns: the mean is in every basis, so that it is nowhere 0 in the samples of its group."""
    return without(basis, np.where(basis[:, :1] != 0, columns, 0.0))


def _assemble(
    moments: _Moments, fourth: list[NDArray[np.float64]] | None, groups: list[SharedRows], max_order: int
) -> VarianceComponents:
    theta = moments.solve()
    size, num_environments = theta.shape[:2]
    own = np.arange(num_environments)
    parameter = theta[:, own, own].T
    degrees = moments.traces[:, -1, own, own].T  # tr(P K_k); of the residual tr(P)
    freedom = np.maximum(degrees[:, -1:], 1)
    errors = np.full((num_environments, size), np.nan)
    correlation, correlation_error = _correlations(theta, None)
    if fourth is not None:
        for group, traces in zip(groups, fourth, strict=True):
            for e in group.columns:
                errors[e] = _errors(moments.inverse(e, e), parameter[e], moments.traces[:, :, e, e], traces)
        errors *= degrees / freedom
        weights = moments.inverse(groups[0].columns[0], groups[0].columns[0])[0]
        correlation, correlation_error = _correlations(theta, np.einsum("l,j,lmji->mi", weights, weights, fourth[0]))
    return VarianceComponents(
        component_names(max_order),
        parameter * degrees / freedom,
        errors,
        moments.forms[-1, own, own] / freedom[:, 0],
        parameter,
        correlation,
        correlation_error,
        "Haseman-Elston regression",
    )


def _errors(
    inverse: NDArray[np.float64], theta: NDArray[np.float64], traces: NDArray[np.float64], fourth: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Standard error of each theta (C,) as an estimate of g' P g / tr(P K): the formula at the top of this file."""
    positive = np.maximum(theta, 0)
    found = np.empty(len(theta))
    for k, weights in enumerate(inverse):
        of_estimate = np.einsum("l,m,j,i,lmji->", weights, positive, weights, positive, fourth, optimize=True)
        degrees = traces[k, -1]
        if degrees <= 0:
            found[k] = 0.0
            continue
        of_target = positive[k] ** 2 * traces[k, k] / degrees**2
        shared = positive[k] ** 2 * (weights @ fourth[:, k, k, -1]) / degrees
        found[k] = np.sqrt(max(2 * of_estimate + 2 * of_target - 4 * shared, 0.0))
    return found


def _correlations(
    theta: NDArray[np.float64], weights: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Additive genetic correlations (E, E) and, by the delta method, their standard errors.

    weights (C, C): W with Cov(y_e' B y_f, y_g' B y_h) = sum_mi W_mi (theta_m^eg theta_i^fh + theta_m^eh theta_i^fg)
    for the estimator B of the additive component.
    """
    additive = theta[0]
    variances = np.diagonal(additive)
    scale = np.sqrt(np.where(variances > 0, variances, np.nan))
    correlation = additive / np.outer(scale, scale)
    errors = np.full_like(correlation, np.nan)
    if weights is None:
        return correlation, errors

    def covariance(e: int, f: int, g: int, h: int) -> float:
        return float(theta[:, e, g] @ weights @ theta[:, f, h] + theta[:, e, h] @ weights @ theta[:, f, g])

    for e in range(len(variances)):
        errors[e, e] = 0.0
        for f in range(e):
            if np.isnan(correlation[e, f]):
                continue
            pairs = ((e, f), (e, e), (f, f))
            gradient = np.array(
                [
                    1 / (scale[e] * scale[f]),
                    -correlation[e, f] / (2 * variances[e]),
                    -correlation[e, f] / (2 * variances[f]),
                ]
            )
            table = np.array([[covariance(*one, *other) for other in pairs] for one in pairs])
            errors[e, f] = errors[f, e] = np.sqrt(max(gradient @ table @ gradient, 0.0))
    return correlation, errors
