"""The products of a scan against explicit ones, set by set; what is kept, counted and gone on from."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
import torch
from scan_examples import example

from gpmap_cli.dataset.coding import CodedGenotypes, GenotypeCoding
from gpmap_cli.scan import candidates, products, search
from gpmap_cli.scan.candidates import Candidates, num_entries
from gpmap_cli.scan.products import Weights, int8_is_right, locus_major
from gpmap_cli.scan.search import Hooks, Options, Phenotypes, Stopped, scan_order
from gpmap_cli.scan.single_loci import scan_loci
from gpmap_cli.scan.tallies import BINS_PER_UNIT, NUM_BINS, TopTerms, count, inflation

KINDS = [("int8", 1, 3e-4), ("float32", 1, 1e-5), ("float64", 1, 1e-12), ("float32", 2, 1e-5), ("float64", 2, 1e-12)]


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("num_loci", [1, 2, 3, 4, 5, 13, 30])
def test_every_set_of_loci_comes_once(order, num_loci, monkeypatch):
    monkeypatch.setattr(candidates, "_MOST_ROWS", 37)
    monkeypatch.setattr(candidates, "_MOST_COLUMNS", 41)
    found = Candidates(num_loci, order)
    sets = [np.empty((0, order), np.int32)]
    for block in found.blocks:
        shape = (block.weighted.stop - block.weighted.start, block.plain.stop - block.plain.start)
        in_order = found.layouts[block.layout].in_order(block)
        in_order = np.ones(shape, bool) if in_order is None else in_order
        assert in_order.shape == shape
        assert in_order.any()
        sets.append(found.loci(block, *np.nonzero(in_order)))
    every = np.concatenate(sets)
    assert len(every) == len(found) == comb(num_loci, order)
    assert len({tuple(one) for one in every.tolist()}) == len(every)
    assert (np.diff(every, axis=1) > 0).all()


def test_few_entries_are_computed_in_vain():
    for num_loci, order, most in ((1164, 3, 1.01), (1164, 2, 1.12), (100, 4, 1.25)):
        found = Candidates(num_loci, order)
        assert found.num_computed <= most * len(found)


@pytest.mark.parametrize(("arithmetic", "ploidy", "error"), KINDS)
@pytest.mark.parametrize("order", [2, 3, 4])
def test_statistics_equal_those_of_explicit_products(order, arithmetic, ploidy, error, monkeypatch):
    """Several blocks and chunks, missing phenotypes and all, in every arithmetic."""
    for name, value in (("_MOST_ROWS", 17), ("_MOST_COLUMNS", 23)):
        monkeypatch.setattr(candidates, name, value)
    monkeypatch.setattr(search, "_CHUNK", 136)
    data = example(arithmetic, ploidy)
    found = scan_order(data.genotypes, data.phenotypes, order, Options(arithmetic, num_terms=20))
    assert found.num_candidates == comb(11, order)
    for environment, top in enumerate(found.top):
        exact = arithmetic != "int8" or order == 2
        every = data.score_statistics(order, environment, exact)
        assert [every[tuple(loci)] for loci in top.loci.tolist()] == pytest.approx(top.z.tolist(), abs=error)
        strongest = sorted(map(abs, every.values()), reverse=True)[:20]
        assert np.abs(top.z).tolist() == pytest.approx(strongest, abs=error)
        sizes = np.abs(list(every.values()))
        assert found.counts[environment].sum() == len(every)
        upto = np.cumsum(found.counts[environment])
        for bin in range(0, 3 * BINS_PER_UNIT, 97):  # all but those that are within an error of an edge of a bin
            edge = (bin + 1) / BINS_PER_UNIT
            assert (sizes < edge - error).sum() <= upto[bin] <= (sizes < edge + error).sum()


@pytest.mark.parametrize(("arithmetic", "ploidy", "error"), KINDS)
def test_single_loci_too(arithmetic, ploidy, error):
    data = example(arithmetic, ploidy)
    found = scan_loci(data.genotypes, data.phenotypes, Options(arithmetic, num_terms=5, permutations=3))
    for environment, top in enumerate(found.top):
        every = data.score_statistics(1, environment)
        assert [every[tuple(loci)] for loci in top.loci.tolist()] == pytest.approx(top.z.tolist(), abs=1e-6)
        assert np.abs(top.z).tolist() == pytest.approx(sorted(map(abs, every.values()))[:-6:-1], abs=1e-6)
        assert found.counts[environment].sum() == 11


def test_a_statistic_never_overstates_where_its_spread_is_taken_as_the_number_of_samples():
    data = example("int8", seed=3)
    found = scan_order(data.genotypes, data.phenotypes, 3, Options("int8", num_terms=200))
    for environment, top in enumerate(found.top):
        exact = data.score_statistics(3, environment)
        assert all(abs(z) <= abs(exact[tuple(loci)]) + 3e-4 for loci, z in zip(top.loci.tolist(), top.z, strict=True))


def test_constant_products_are_no_candidates_for_anything():
    """Two loci that are the same have a product of 1 throughout; one that is constant tests the other locus alone."""
    data = example("int8")
    data.genotypes[4] = data.genotypes[2]
    for arithmetic in ("int8", "float32", "float64"):
        genotypes = data.genotypes.to(products.DTYPES[arithmetic])
        found = scan_order(genotypes, data.phenotypes, 2, Options(arithmetic, num_terms=100))
        z = dict(zip(map(tuple, found.top[0].loci.tolist()), found.top[0].z, strict=True))
        assert z[2, 4] == 0
        assert all(np.isfinite(list(z.values())))


@pytest.mark.parametrize("outlier", [1.0, 50.0, 5000.0])
def test_weights_are_rounded_by_less_than_a_thousandth_of_a_standard_error(outlier):
    rng = np.random.default_rng(1)
    values = rng.normal(size=3000)
    values[7] = outlier * 3
    values[:40] *= rng.random(40) > 0.5
    weights = Weights.of(values, "int8", "cpu")
    rounded = weights.rounded(len(values))
    assert weights.digits.abs().max() <= 127
    assert np.abs(rounded - values).max() <= 0.51 * weights.scale
    assert (rounded[values == 0] == 0).all()
    std = np.sqrt((values**2).sum() / np.count_nonzero(values))
    assert np.sqrt(((rounded - values) ** 2).mean()) < 2.1e-4 * std


def test_products_of_integers_are_exact():
    assert int8_is_right("cpu")
    left, right = (torch.randint(-127, 128, (20, 999), dtype=torch.int8) for _ in range(2))
    assert (products.times_transposed(left, right) == (left.double() @ right.double().T)).all()


def test_equal_statistics_stay_in_the_order_of_their_loci():
    top = TopTerms(2, 3)
    sizes = torch.tensor([[2.0, 1.0, -1.0], [1.0, 1.0, 1.0]])
    top.offer(sizes, sizes, lambda rows, columns: np.stack([rows, columns], axis=1).astype(np.int32) + 5)
    assert top.loci.tolist() == [[5, 5], [5, 6], [6, 5]]
    top.offer(-sizes, sizes, lambda rows, columns: np.stack([rows, columns], axis=1).astype(np.int32))
    assert top.loci.tolist() == [[0, 0], [5, 5], [0, 1]]
    assert top.z.tolist() == [-2.0, 2.0, -1.0]


def test_many_ties_across_blocks_keep_the_first_sets(monkeypatch):
    """Loci that are all the same: every pair has z = 0, every triple that of the locus."""
    for name, value in (("_MOST_ROWS", 5), ("_MOST_COLUMNS", 7)):
        monkeypatch.setattr(candidates, name, value)
    data = example("int8")
    genotypes = data.genotypes[:1].repeat(12, 1)
    found = scan_order(genotypes, data.phenotypes, 3, Options("int8", num_terms=9))
    assert found.top[0].loci.tolist() == [list(loci) for loci in combinations(range(12), 3)][:9]
    assert len(set(found.top[0].z.tolist())) == 1


def test_counts_of_bins_and_their_median():
    z = torch.tensor([[0.0, 1 / 256, 0.5, -1.0], [100.0, 0.999 / 256, 0.5, 0.5]])
    counts = count(z, everywhere=False)
    assert counts.sum() == 7
    assert (counts[0], counts[1], counts[128], counts[NUM_BINS - 1]) == (2, 1, 3, 1)
    normal = torch.from_numpy(np.random.default_rng(0).normal(size=(400, 400))).abs()
    assert inflation(count(normal, everywhere=True)) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(("arithmetic", "ploidy"), [("int8", 1), ("float32", 2)])
def test_permutations_exchange_samples_that_are_measured_alike(arithmetic, ploidy):
    data = example(arithmetic, ploidy, missing=(0.2, 0.0, 0.0))
    permuted = data.phenotypes.permuted(5, 1)
    for environment in range(3):
        known = data.phenotypes.measured[:, environment]
        assert (permuted[~known, environment] == 0).all()
        before, after = data.phenotypes.residuals[known, environment], permuted[known, environment]
        assert sorted(before) == sorted(after)
        assert not np.array_equal(before, after)
    pairs = {tuple(row) for row in data.phenotypes.residuals[:, 1:].tolist()}
    assert {tuple(row) for row in permuted[:, 1:].tolist()} == pairs  # environments stay together
    found = scan_order(data.genotypes, data.phenotypes, 2, Options(arithmetic, permutations=2, seed=5))
    data.phenotypes = Phenotypes(permuted, data.phenotypes.measured)
    for environment in range(3):
        largest = max(map(abs, data.score_statistics(2, environment).values()))
        assert found.largest_permuted[1, environment] == pytest.approx(largest, abs=3e-4)


@pytest.mark.parametrize("arithmetic", ["int8", "float32"])
@pytest.mark.parametrize("order", [2, 3])
def test_a_scan_that_is_stopped_goes_on_to_the_same_result(order, arithmetic, monkeypatch):
    for name, value in (("_MOST_ROWS", 7), ("_MOST_COLUMNS", 9)):
        monkeypatch.setattr(candidates, name, value)
    num_loci = {2: 30, 3: 11}[order]
    data = example(arithmetic, num_loci=num_loci)
    options = Options(arithmetic, num_terms=12, permutations=2)
    whole = scan_order(data.genotypes, data.phenotypes, order, options)
    state, stops, done = None, 0, []
    while True:
        states, amounts = [], []
        hooks = Hooks(amounts.append, states.append, lambda amounts=amounts: len(amounts) > 2)
        try:
            found = scan_order(data.genotypes, data.phenotypes, order, options, hooks, state)
            break
        except Stopped:
            state, stops = states[-1], stops + 1
            done.append(sum(amounts))
    assert stops > 2
    assert done == sorted(done)
    assert sum(amounts) == sum(map(num_entries, Candidates(num_loci, order).blocks))
    assert (found.counts == whole.counts).all()
    assert (found.largest_permuted == whole.largest_permuted).all()
    for one, other in zip(found.top, whole.top, strict=True):
        assert (one.z == other.z).all()
        assert (one.loci == other.loci).all()


def test_states_are_saved_now_and_then():
    data, states = example("int8"), []
    hooks = Hooks(save=states.append, every=0.0)
    scan_order(data.genotypes, data.phenotypes, 3, Options("int8"), hooks)
    assert len(states) == len(Candidates(11, 3).blocks)


def test_genotypes_by_locus_are_padded_with_zeros():
    stored = np.array([[0, 1], [1, -1], [1, 1]], np.int8)
    coded = CodedGenotypes(stored, GenotypeCoding.learn(stored, 1))
    found = locus_major(coded, "float64", "cpu")
    assert found.tolist() == [[-1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]]  # a missing one at its locus' mean
    assert not coded.is_plus_minus_one
