"""The sparse model: its sums, selection and joint fit against what they stand for, and what it finds in the truth."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from conftest import make_samples, split_samples
from test_gradient import Memory, ask_to_stop, same
from test_models import QUICK

from gpmap_cli import models
from gpmap_cli.dataset.coding import CodedGenotypes, GenotypeCoding, Samples
from gpmap_cli.errors import Interrupted
from gpmap_cli.models.sparse_epistasis import Settings, SparseEpistasis
from gpmap_cli.scan.products import locus_major
from gpmap_cli.sparse_terms import columns as term_columns
from gpmap_cli.sparse_terms import search as term_search
from gpmap_cli.sparse_terms.columns import fitted_values, moments, orders_of, term_products
from gpmap_cli.sparse_terms.joint_fit import Validation, fit
from gpmap_cli.sparse_terms.search import Plan, Selected, TermSearch, Watch
from gpmap_cli.sparse_terms.selection import joint_tests, select, without_background
from gpmap_cli.training.context import FitContext

TERMS = np.array([[0, 2, -1, -1], [1, 3, 4, -1], [0, 1, 2, 5]], np.int32)


def explicit(x, terms):
    """Columns (N, L + T)."""
    return np.column_stack([x, *(np.prod(x[:, term[term >= 0]], axis=1) for term in terms)])


@pytest.mark.parametrize(("ploidy", "arithmetic"), [(1, "int8"), (1, "float32"), (2, "float64")])
def test_sums_over_samples_are_those_of_the_columns(ploidy, arithmetic, monkeypatch):
    monkeypatch.setattr(term_columns, "_CHUNK", 101)
    samples = make_samples(num_samples=333, ploidy=ploidy, num_environments=3)
    y = samples.phenotypes.copy()
    measured = np.random.default_rng(1).random(len(y)) < 0.8
    y[~measured] = np.nan
    found = moments(locus_major(samples.genotypes, arithmetic, "cpu"), TERMS, y, measured)
    x = explicit(samples.genotypes.rows(slice(None)), TERMS)[measured]
    centred, known = x - x.mean(axis=0), y[measured] - y[measured].mean(axis=0)
    assert found.num_samples == measured.sum()
    for ours, theirs in (
        (found.gram, centred.T @ centred),
        (found.cross, centred.T @ known),
        (found.squares, (known**2).sum(axis=0)),
        (found.column_means, x.mean(axis=0)),
        (found.means, y[measured].mean(axis=0)),
    ):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-5 * len(x) if arithmetic == "float32" else 1e-9)


def test_predictions_are_sums_of_columns_and_effects(monkeypatch):
    monkeypatch.setattr(term_columns, "_CHUNK", 1)
    samples = make_samples(num_samples=150, missing=0.05)
    effects = np.random.default_rng(0).normal(size=(9, 2))
    effects[[1, 7]] = 0
    found = fitted_values(samples.genotypes, TERMS, effects, np.array([1.0, -2.0]))
    expected = explicit(samples.genotypes.rows(slice(None)), TERMS) @ effects + np.array([1.0, -2.0])
    np.testing.assert_allclose(found, expected, atol=1e-12)
    block = torch.from_numpy(samples.genotypes.rows(slice(None)).T)
    assert torch.equal(term_products(block, TERMS[:0]), block.new_empty(0, 150))
    assert orders_of(TERMS).tolist() == [2, 3, 4]


def problem(num_samples=400, num_background=6, num_columns=12, seed=0):
    """Background loci, candidate columns that lean on them, and a phenotype of three candidates."""
    rng = np.random.default_rng(seed)
    loci = rng.normal(size=(num_samples, num_background))
    candidates = rng.normal(size=(num_samples, num_columns)) + 0.7 * loci[:, [0]]
    candidates[:, 5] = candidates[:, 4] + 0.6 * rng.normal(size=num_samples)
    y = loci @ rng.normal(size=num_background) + candidates[:, [1, 4, 8]] @ [1.0, -0.8, 0.5]
    y += rng.normal(size=num_samples)
    whole = np.column_stack([loci, candidates])
    return whole - whole.mean(axis=0), y - y.mean()


def sums_of(whole, y, num, penalty):
    gram = torch.from_numpy(whole.T @ whole)
    return without_background(gram, torch.from_numpy(whole.T @ y), float(y @ y), len(y) - 1.0, num, penalty)


@pytest.mark.parametrize("penalty", [0.0, 50.0])
def test_tests_beside_a_background_are_generalised_least_squares(penalty):
    whole, y = problem()
    loci, chosen = whole[:, :6], [1, 4, 8]
    effects, errors, t, df = joint_tests(sums_of(whole, y, 6, penalty), chosen)
    if penalty:
        inverse = np.linalg.inv(np.eye(len(y)) + loci @ loci.T / penalty)
    else:
        inverse = np.eye(len(y)) - loci @ np.linalg.pinv(loci)
    x = whole[:, 6:][:, chosen]
    covariance = np.linalg.inv(x.T @ inverse @ x)
    expected = covariance @ x.T @ inverse @ y
    left = y - x @ expected
    variance = left @ inverse @ left / df
    np.testing.assert_allclose(effects.numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(errors.numpy(), np.sqrt(np.diag(covariance) * variance), rtol=1e-6)
    np.testing.assert_allclose(t.numpy(), effects.numpy() / errors.numpy(), rtol=1e-12)


@pytest.mark.parametrize("begin", [[], [2, 5]])
def test_selection_finds_what_matters_and_drops_what_does_not(begin):
    """Column 5 stands in for 4 as long as that is not in; 2 has no effect."""
    sums = sums_of(*problem(), 6, 0.0)
    least = torch.full((12,), 4.0, dtype=torch.float64)
    assert select(sums, least, begin) == [1, 4, 8]
    assert (joint_tests(sums, [1, 4, 8])[2].abs() > 4).all()
    assert select(sums, least * 1000, begin) == []


def test_columns_that_others_determine_stay_out():
    whole, y = problem()
    twice = np.column_stack([whole, whole[:, 7], whole[:, 0] + whole[:, 1]])
    sums = sums_of(twice, y, 6, 0.0)
    chosen = select(sums, torch.full((14,), 4.0, dtype=torch.float64), [])
    assert [one % 12 if one == 12 else one for one in chosen] in ([1, 4, 8], [0, 4, 8], [4, 8, 12])
    assert 13 not in chosen
    assert len(chosen) == 3


def test_thresholds_are_each_column_s_own():
    sums = sums_of(*problem(), 6, 0.0)
    least = torch.full((12,), 4.0, dtype=torch.float64)
    least[8] = 1e6
    assert select(sums, least, []) == [1, 4]


def test_the_joint_fit_is_a_ridge_regression_with_a_penalty_for_each_group():
    samples = make_samples(num_samples=300, num_environments=2)
    genotypes = locus_major(samples.genotypes, "float64", "cpu")
    everyone = np.ones(300, bool)
    sums = moments(genotypes, TERMS, samples.phenotypes, everyone)
    other = make_samples(num_samples=80, num_environments=2, seed=0)
    rows = np.arange(80)
    held_out = moments(genotypes[:, rows], TERMS, samples.phenotypes[rows], everyone[:80])
    validation = Validation(held_out, 1)
    groups = [torch.tensor([0, 1, 3, 4, 5]), torch.tensor([2, 6, 7]), torch.tensor([8])]
    found = fit(sums, 1, groups, (30.0, 0.1, 3.0), validation)
    penalties = np.empty(9)
    for group, penalty in zip(groups, found.penalties, strict=True):
        penalties[group.numpy()] = penalty
    x = explicit(samples.genotypes.rows(slice(None)), TERMS)
    centred, y = x - x.mean(axis=0), samples.phenotypes[:, 1]
    free = penalties < 1e4 * 300
    inverse = np.linalg.inv(centred[:, free].T @ centred[:, free] + np.diag(penalties[free]))
    expected = np.zeros(9)
    expected[free] = inverse @ centred[:, free].T @ (y - y.mean())
    np.testing.assert_allclose(found.effects.numpy(), expected, atol=1e-10)
    predicted = x[:80] @ expected + found.intercept
    r2 = 1 - ((y[:80] - predicted) ** 2).sum() / ((y[:80] - y[:80].mean()) ** 2).sum()
    assert found.validation_r2 == pytest.approx(r2, abs=1e-10)
    assert len(other) == 80
    first = validation.r2(
        *(lambda one: (one.effects, one.intercept))(fit(sums, 1, groups, found.penalties, validation))
    )
    assert first == pytest.approx(r2, abs=1e-5)


def test_penalties_are_those_of_the_least_validation_error():
    """No other penalty on the grid, of one group at a time, does better."""
    samples = make_samples(num_samples=200, num_environments=1)
    x, everyone = locus_major(samples.genotypes, "float64", "cpu"), np.ones(200, bool)
    train, rest = np.arange(120), np.arange(120, 200)
    sums = moments(x[:, train], TERMS, samples.phenotypes[train], everyone[train])
    validation = Validation(moments(x[:, rest], TERMS, samples.phenotypes[rest], everyone[rest]), 0)
    groups = [torch.arange(6), torch.tensor([6]), torch.tensor([7, 8])]
    found = fit(sums, 0, groups, (1.0, 1.0, 1.0), validation)
    for number in range(3):
        for factor in (10**0.5, 10**-0.5):
            other = list(found.penalties)
            other[number] *= factor
            columns = explicit(samples.genotypes.rows(train), TERMS)
            centred, y = columns - columns.mean(axis=0), samples.phenotypes[train, 0]
            each = np.repeat(other, [6, 1, 2])
            effects = np.linalg.solve(centred.T @ centred + np.diag(each), centred.T @ (y - y.mean()))
            intercept = y.mean() - columns.mean(axis=0) @ effects
            assert validation.r2(torch.from_numpy(effects), float(intercept)) <= found.validation_r2 + 1e-6


# ---- the model ------------------------------------------------------------------------------------------------------


def simulated(num_samples=1500, num_loci=14, environments=2, noise=0.5, seed=0, ploidy=1):
    """Two loci, two pairs and a triple act; the second environment has a pair of its own and lacks the triple."""
    rng = np.random.default_rng(seed)
    genotypes = rng.integers(0, 2, (ploidy, num_samples, num_loci))
    genotypes = genotypes.sum(axis=0).astype(np.int8)
    x = 2.0 * genotypes / ploidy - 1
    y = np.empty((num_samples, environments))
    for e in range(environments):
        y[:, e] = 0.5 * x[:, 3] - 0.4 * x[:, 9] + 0.6 * x[:, 1] * x[:, 7] + noise * rng.normal(size=num_samples)
        y[:, e] += 0.5 * x[:, 2] * x[:, 5] * x[:, 11] if e == 0 else 0.5 * x[:, 4] * x[:, 8]
    y = (y - y.mean(axis=0)) / y.std(axis=0)
    return Samples(CodedGenotypes(genotypes, GenotypeCoding.learn(genotypes, ploidy)), y)


TRUE = [{(3,), (9,), (1, 7), (2, 5, 11)}, {(3,), (9,), (1, 7), (4, 8)}]


def fitted(samples, store=None, stop_after=None, num_validation=300, **settings):
    train, validation = split_samples(samples, num_validation)
    names = tuple(f"e{number}" for number in range(samples.phenotypes.shape[1]))
    context = FitContext(0, names, QUICK, checkpoints=store)
    if stop_after is not None:
        ask_to_stop(context, store, stop_after)
    model = SparseEpistasis(Settings(**settings))
    model.fit(train, validation, context)
    return model


def found_by(model, environment):
    table = model.tables()["terms.csv"]
    rows = table["environment"] == environment
    places = np.column_stack([table[name][rows] for name in ("locus", "locus_2", "locus_3", "locus_4")])
    assert ((places >= 0).sum(axis=1) == table["order"][rows]).all()
    return {tuple(int(locus) for locus in row if locus >= 0) for row in places}


@pytest.mark.parametrize("ploidy", [1, 2])
def test_it_finds_exactly_the_true_terms_of_each_environment(ploidy):
    samples = simulated(ploidy=ploidy, noise=0.3, num_samples=3000 if ploidy == 2 else 1500)
    samples.phenotypes[np.random.default_rng(1).random(samples.phenotypes.shape) < 0.1] = np.nan
    model = fitted(samples)
    assert [found_by(model, environment) for environment in (0, 1)] == TRUE
    table = model.tables()["terms.csv"]
    assert (np.abs(table["t"]) > 5).all()
    assert (table["log10_p"] < -6).all()
    assert model.describe()["num_terms"] == {"2": 2, "3": 1}


def test_it_predicts_to_the_noise_ceiling():
    samples = simulated(num_samples=4000)
    model = fitted(samples)
    others = simulated(num_samples=3000, seed=5)
    r2 = 1 - ((model.predict(others.genotypes) - others.phenotypes) ** 2).mean(axis=0)
    ceiling = 1 - 0.25 / (0.25 + 0.16 + 0.36 + 0.25 + 0.25)
    assert (np.abs(r2 - ceiling) < 0.02).all()


def test_noise_has_no_terms():
    """Of 40 phenotypes without any effect at level 0.01 together, about none has a term."""
    samples = simulated(num_samples=500, environments=1)
    y = np.random.default_rng(8).normal(size=(500, 40))
    model = fitted(Samples(samples.genotypes, y), max_order=3)
    assert len(model.tables()["terms.csv"]["order"]) <= 3
    assert np.abs(model.predict(samples.genotypes)).mean() < 0.2


def test_a_pair_that_additive_effects_explain_is_none():
    """Where two loci together all but say what a third one is, and only that one acts."""
    rng = np.random.default_rng(0)
    genotypes = rng.integers(0, 2, (2000, 8)).astype(np.int8)
    genotypes[:, 5] = np.where(rng.random(2000) < 0.95, 1 - (genotypes[:, 1] ^ genotypes[:, 3]), genotypes[:, 5])
    y = (2.0 * genotypes[:, 5] - 1 + rng.normal(size=2000))[:, None]
    samples = Samples(CodedGenotypes(genotypes, GenotypeCoding.learn(genotypes, 1)), (y - y.mean()) / y.std())
    assert found_by(fitted(samples, max_order=3), 0) == {(5,)}
    search = TermSearch(*split_samples(samples, 300), np.array([1.0]), Plan((2,), 0.01, 10, 3, 0), "cpu", Watch())
    pair = np.array([[1, 3]], np.int32)
    chosen = search._selected(Selected(pair, np.zeros((1, 1), bool), np.zeros((8, 1), bool)))
    assert len(chosen.terms) == 0
    assert np.flatnonzero(chosen.loci).tolist() == [5]


def test_orders_beyond_what_it_may_cost_are_left_out():
    samples = simulated(environments=1)
    model = fitted(samples, max_products=1200 * 100)
    assert found_by(model, 0) == {(3,), (9,), (1, 7)}
    assert found_by(fitted(samples, max_order=1), 0) == {(3,), (9,)}


@pytest.mark.parametrize("stop_after", [1, 3, 4])
def test_a_search_that_was_stopped_goes_on_to_the_same_model(stop_after, monkeypatch):
    """Without another scan of what was scanned before."""
    scans = []
    scan = term_search.scan_order
    monkeypatch.setattr(term_search, "scan_order", lambda *what: scans.append(what[2]) or scan(*what))
    samples = simulated()
    reference = fitted(samples).state()
    whole, store = list(scans), Memory()
    scans.clear()
    with pytest.raises(Interrupted):
        fitted(samples, store, stop_after)
    assert len(store.saved) == stop_after
    store.save = Memory.save.__get__(store)
    assert same(fitted(samples, store).state(), reference)
    assert scans == whole


def test_its_state_is_the_whole_model():
    model = fitted(simulated())
    again = models.model_class("sparse_epistasis").from_state(Settings(), model.state())
    genotypes = simulated(num_samples=50, seed=3).genotypes
    np.testing.assert_array_equal(again.predict(genotypes), model.predict(genotypes))
    assert all(
        np.array_equal(a, b)
        for a, b in zip(again.tables()["terms.csv"].values(), model.tables()["terms.csv"].values(), strict=True)
    )


def test_the_command_writes_the_terms(gpmap):
    result = gpmap(
        "train", "model=sparse_epistasis", "data.num_samples=3000", "data.num_loci=12", "data.order=3",
        "data.epsilon=0.5", "hydra.run.dir=run",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    with open("run/terms.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["order"] for row in rows} == {"1", "3"}
    assert all(row["locus_3"] for row in rows if row["order"] == "3")
    assert all(float(row["p"]) < 1e-4 for row in rows)
