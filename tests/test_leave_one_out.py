"""The penalty that is chosen by evaluating a few errors is the one that evaluating all of them chooses."""

from __future__ import annotations

import numpy as np
import pytest
from test_ridge_routes import linked

from gpmap_cli.dataset.coding import CodedGenotypes, GenotypeCoding
from gpmap_cli.solvers import ridge_factors
from gpmap_cli.solvers.leave_one_out import leave_one_out_errors
from gpmap_cli.solvers.missing import row_weights
from gpmap_cli.solvers.ridge import path_of, solve_ridge
from gpmap_cli.solvers.ridge_factors import FactorSource
from gpmap_cli.solvers.ridge_problem import RidgeProblem, best_penalty


def rare(num_samples, num_loci, num_environments):
    """Rare alleles, some of one sample alone, whose bearers have wild phenotypes: leverages of all sizes matter."""
    rng = np.random.default_rng(7)
    stored = (rng.random((num_samples, num_loci)) < rng.beta(0.3, 3, num_loci)).astype(np.int8)
    stored[:, 0] = np.arange(num_samples) == 3
    phenotypes = stored @ rng.normal(size=(num_loci, num_environments)) / 3 + rng.normal(size=(num_samples, 1))
    phenotypes += rng.standard_t(1.5, phenotypes.shape) * stored.mean(axis=1, keepdims=True) * 5
    return CodedGenotypes(stored, GenotypeCoding.learn(stored, 1)), phenotypes


def noise_free(num_samples, num_loci, num_environments):
    """Neither noise nor missing phenotypes in the first environment, nothing but noise in the others."""
    genotypes, phenotypes = linked(num_samples, num_loci, num_environments, missing=0)
    phenotypes[:, 1:] = np.random.default_rng(3).normal(size=phenotypes[:, 1:].shape)
    phenotypes[:, 0] = genotypes.rows(slice(None)) @ np.random.default_rng(4).normal(size=num_loci)
    return genotypes, phenotypes


DATA = {
    "complete": lambda *shape: linked(*shape, missing=0),
    "missing": lambda *shape: linked(*shape, missing=0.2),
    "diploid": lambda *shape: linked(*shape, ploidy=2, kind="missing", missing=0),
    "dosages": lambda *shape: linked(*shape, kind="dosages", missing=0),
    "rare": rare,
    "noise free": noise_free,
}


def exhaustive(genotypes, phenotypes, weights, form):
    """The penalty (E,) that is best among all of the path, and how many of the errors were needed to know it."""
    given = (~np.isnan(phenotypes)).astype(float) if weights is None else weights
    problem = RidgeProblem(genotypes, phenotypes, given, "cpu")
    source, penalties, needed = FactorSource(problem, form), np.empty(phenotypes.shape[1]), []
    for group in problem.groups():
        factors = source.factors(group, None, last=False)
        path, few = path_of(factors, problem, "loo")
        everything = leave_one_out_errors(factors, path)
        evaluated = np.isfinite(few)
        np.testing.assert_allclose(few[evaluated], everything[evaluated], rtol=1e-4)
        penalties[group.columns] = [best_penalty(path, errors) for errors in everything.T]
        needed.append(evaluated.mean())
    return penalties, np.mean(needed)


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", ["primal", "dual"])
@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("shape", [(300, 40), (60, 50), (60, 150)])
def test_few_errors_choose_as_all_do(shape, kind, form, weighted, single, monkeypatch):
    if single:
        monkeypatch.setattr(ridge_factors, "_MANY", 0)
    genotypes, phenotypes = DATA[kind](*shape, 4)
    std = np.random.default_rng(5).uniform(0.3, 3.0, phenotypes.shape)
    weights = row_weights(phenotypes, std) if weighted else None
    chosen = solve_ridge(genotypes, phenotypes, None, None, "cpu", route=form, weights=weights).penalty
    best, _ = exhaustive(genotypes, phenotypes, weights, form)
    np.testing.assert_allclose(chosen, best, rtol=1e-2 if single else 1e-9)


def test_few_errors_are_evaluated():
    """What the bound is for: with many samples of many loci, a handful of the 61 penalties is left."""
    genotypes, phenotypes = linked(2000, 300, 6, missing=0)
    _, needed = exhaustive(genotypes, phenotypes, None, "primal")
    assert needed < 0.15


def test_leverages_that_single_precision_spoils_are_computed_again(monkeypatch):
    """An environment that wants hardly any penalty, where the bearer of a private allele has a leverage next to 1."""
    monkeypatch.setattr(ridge_factors, "_MANY", 0)
    genotypes, _ = rare(300, 40, 1)
    truth = np.random.default_rng(4).normal(size=(40, 1))
    phenotypes = genotypes.rows(slice(None)) @ truth
    problem = RidgeProblem(genotypes, phenotypes, np.ones(phenotypes.shape), "cpu")
    factors = FactorSource(problem, "primal").factors(problem.groups()[0], None, last=True)
    path, few = path_of(factors, problem, "loo")
    everything = leave_one_out_errors(factors, path)
    assert few.argmin() == everything.argmin()
    np.testing.assert_allclose(few.min(), everything.min(), rtol=1e-9)
