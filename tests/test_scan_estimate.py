"""What a scan is expected to take: operations exactly, time in proportion, memory at least what is held."""

from __future__ import annotations

import numpy as np
import pytest
from scan_examples import example

from gpmap_cli.scan import estimate as module
from gpmap_cli.scan.background import residual_phenotypes
from gpmap_cli.scan.candidates import Candidates, num_entries
from gpmap_cli.scan.estimate import estimate
from gpmap_cli.scan.search import Found, Options, Search, spread_of_blocks


def scanned(arithmetic="int8", ploidy=1, num_loci=40):
    data = example(arithmetic, ploidy, num_loci=num_loci)
    design = np.zeros((len(data.y), 0))
    return data, residual_phenotypes(data.genotypes, data.coded, data.y, design, "additive")


@pytest.mark.parametrize(("arithmetic", "ploidy", "order"), [("int8", 1, 2), ("int8", 1, 3), ("float32", 2, 3)])
@pytest.mark.parametrize("permutations", [0, 4])
def test_products_are_counted_as_they_are_made(arithmetic, ploidy, order, permutations):
    data, residuals = scanned(arithmetic, ploidy)
    options = Options(arithmetic, permutations=permutations)
    search = Search(data.genotypes, residuals.phenotypes, order, options)
    found = Found.nothing(search.candidates, 3, 10, permutations)
    made = [search.visit(block, found) for block in search.candidates.blocks]
    assert set(made) == {search.num_products}
    digits = 2 if arithmetic == "int8" else 1
    exact = {"int8": 3 if order == 2 else 0, "float32": 6}[arithmetic]  # one pattern of missing phenotypes each
    assert search.num_products == 3 * digits * (1 + permutations) + exact
    one = estimate(data.genotypes, residuals, order, options)
    assert one.candidates == len(Candidates(40, order))
    entries = search.candidates.num_computed
    assert one.operations == 2.0 * entries * search.num_products * data.genotypes.shape[1]


def test_time_is_that_of_all_blocks_and_tests(monkeypatch):
    """With a clock on which an entry of a product takes a second, and a batch of tests a thousand."""
    data, residuals = scanned()
    clock = {"products": 0.0}

    def timed(work, device):
        before = clock["products"]
        result = work()
        return clock["products"] - before if isinstance(result, int) else 1000.0

    visit = Search.visit

    def counted(self, block, found, only_some=False):
        products = visit(self, block, found, only_some)
        clock["products"] += products * num_entries(block)
        return products

    monkeypatch.setattr(module, "timed", timed)
    monkeypatch.setattr(Search, "visit", counted)
    one = estimate(data.genotypes, residuals, 3, Options("int8", num_terms=100))
    entries = Candidates(40, 3).num_computed
    assert one.seconds == pytest.approx(entries * 6 + 1000.0 * 3)


def test_memory_grows_with_what_is_held():
    data, residuals = scanned()
    few = estimate(data.genotypes, residuals, 2, Options("int8"))
    many = estimate(data.genotypes, residuals, 2, Options("int8", permutations=1000))
    assert many.num_bytes - few.num_bytes > 1000 * 3 * 2 * 403


@pytest.mark.parametrize("number", [1, 3, 1000])
def test_blocks_that_are_tried_are_spread_over_the_work(number):
    candidates = Candidates(60, 4)
    chosen = list(spread_of_blocks(candidates, number))
    places = [candidates.blocks.index(block) for block in chosen]
    assert places == sorted(set(places))
    assert 1 <= len(chosen) <= min(number, len(candidates.blocks))
    assert not list(spread_of_blocks(Candidates(3, 4), number))
