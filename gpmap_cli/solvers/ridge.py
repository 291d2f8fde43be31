"""Ridge regression on coded genotypes, exactly, for a whole path of penalties; environments share what they can.

Objective, for each environment with phenotype y (standardised), genotypes X (n samples x L loci) and weights d:

    sum_i d_i (y_i - b - x_i . w)^2 + penalty * |w|^2,        the intercept b is not penalised.

`ridge_routes` says which way a problem takes and what it costs; `ridge_problem` how it is centred and weighted. Missing
genotypes are coded before; a missing phenotype has the weight 0 in its own environment.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.solvers.allele_counts import AlleleCounts

# What other solvers take from here.
from gpmap_cli.solvers.genotype_blocks import centred_kernel, centred_loci, coded_blocks, mean_genotype
from gpmap_cli.solvers.leave_one_out import leave_one_out_errors
from gpmap_cli.solvers.ridge_factors import Factors, FactorSource
from gpmap_cli.solvers.ridge_iterative import TOLERANCE, solve_iteratively
from gpmap_cli.solvers.ridge_problem import PATH_EXPONENTS, RidgeProblem, RidgeSolution, best_penalty
from gpmap_cli.solvers.ridge_routes import choose_route
from gpmap_cli.training.context import Reporter, Silent

__all__ = [
    "RidgeSolution",
    "centred_kernel",
    "centred_loci",
    "coded_blocks",
    "linear_prediction",
    "mean_genotype",
    "solve_ridge",
]

_VALUES_AT_ONCE = 2**24


def solve_ridge(
    genotypes: CodedGenotypes,
    phenotypes: NDArray[np.float64],
    penalty: float | None,
    validation: tuple[CodedGenotypes, NDArray[np.float64]] | None,
    device: str,
    *,
    choice: str = "loo",
    route: str = "auto",
    weights: NDArray[np.float64] | None = None,
    reporter: Reporter | None = None,
    seed: int = 0,
    tolerance: float = TOLERANCE,
) -> RidgeSolution:
    """Ridge of phenotypes (n, E), NaN where missing, on genotypes (n, L).

    `penalty` fixes the penalty; otherwise the path's best one by validation error where `validation` is given, else by
    exact leave-one-out error (`choice` loo) or restricted likelihood (reml), is refined by a parabola through its
    neighbours. weights: (n, E), 0 where missing, mean 1 elsewhere. route: `ridge_routes`; tolerance: of iteration.
    """
    reporter = Silent() if reporter is None else reporter
    choice = "validation" if validation is not None else choice
    weights = (~np.isnan(phenotypes)).astype(np.float64) if weights is None else weights
    problem = RidgeProblem(genotypes, phenotypes, weights, device)
    groups = problem.groups()
    taken = choose_route(
        route,
        len(genotypes),
        genotypes.num_loci,
        phenotypes.shape[1],
        len(groups),
        any(group.is_weighted for group in groups),
        penalty is None,
    )
    if taken == "iterative":
        return solve_iteratively(problem, penalty, choice, validation, reporter, seed, tolerance)
    num_environments = phenotypes.shape[1]
    effects, errors = (np.empty((genotypes.num_loci, num_environments)) for _ in range(2))
    penalties = np.empty(num_environments)
    source = FactorSource(problem, taken)
    reporter.begin("", len(groups), 0)
    for number, group in enumerate(groups):
        factors = source.factors(group, penalty, last=number == len(groups) - 1)
        if penalty is None:
            path, criterion = path_of(factors, problem, choice, validation)
            chosen = np.array([best_penalty(path, criterion[:, place]) for place in range(len(group.columns))])
        else:
            chosen = np.full(len(group.columns), float(penalty))
        penalties[group.columns] = chosen
        effects[:, group.columns] = factors.weights(chosen, np.arange(len(group.columns)))
        errors[:, group.columns] = np.sqrt(factors.inverse_diagonal(chosen) * factors.residual_variance(chosen))
        reporter.step(float("nan") if penalty is not None else float(np.min(criterion)))
    return RidgeSolution(effects, problem.intercept(effects), penalties, errors, taken)


def path_of(
    factors: Factors,
    problem: RidgeProblem,
    choice: str,
    validation: tuple[CodedGenotypes, NDArray[np.float64]] | None = None,
) -> tuple[NDArray, NDArray]:
    """The penalties that are tried (P,), and the criterion by which they are chosen (P, E'), infinite far off."""
    path = factors.scale * 10.0**PATH_EXPONENTS
    if choice == "validation":
        assert validation is not None
        return path, _validation_errors(factors, problem, path, *validation)
    return path, leave_one_out_errors(factors, path, only_least=True) if choice == "loo" else factors.likelihoods(path)


def _validation_errors(
    factors: Factors, problem: RidgeProblem, path: NDArray, genotypes: CodedGenotypes, phenotypes: NDArray
) -> NDArray[np.float64]:
    """Mean squared error (P, E') of every penalty at the validation samples."""
    errors = np.empty((len(path), len(factors.columns)))
    step = max(1, _VALUES_AT_ONCE // max(1, genotypes.num_loci))
    for place, column in enumerate(factors.columns):
        known = np.flatnonzero(~np.isnan(phenotypes[:, column]))
        observed = phenotypes[known, column]
        there = genotypes.take(known)
        for start in range(0, len(path), step):
            penalties = path[start : start + step]
            effects = factors.weights(penalties, np.full(len(penalties), place))
            intercept = problem.intercept_at(int(column), effects)
            predicted = linear_prediction(there, effects, intercept)
            squares = ((observed[:, None] - predicted) ** 2).sum(axis=0)
            errors[start : start + step, place] = squares / max(len(known), 1)
    return errors


def linear_prediction(
    genotypes: CodedGenotypes, weights: NDArray[np.float64], intercept: NDArray[np.float64]
) -> NDArray[np.float64]:
    """x . w + b for every sample, (N, E), in row blocks."""
    if len(genotypes) == 0:
        return np.empty((0, weights.shape[1]))
    counts = AlleleCounts(genotypes, "cpu")
    predicted = counts.times(torch.from_numpy(np.ascontiguousarray(weights, dtype=np.float64))).numpy()
    return counts.scale * predicted + (counts.shift @ weights + intercept)
