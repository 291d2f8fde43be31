"""Synthetic yeast data: the cross, the genetic architecture, noise, missing phenotypes, and the truth by locus id."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import ROOT
from numpy.typing import NDArray
from scipy import stats

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.writer import write_dataset
from gpmap_cli.errors import Problem
from gpmap_cli.random_streams import stream
from gpmap_cli.settings import Group, fill
from gpmap_cli.simulate.apportionment import apportion
from gpmap_cli.simulate.simulation import simulate, write_simulation
from gpmap_cli.simulate.yeast_architecture import correlated_deviates, draw_architecture, term_variances
from gpmap_cli.simulate.yeast_environments import ENVIRONMENTS, TEMPERATURES
from gpmap_cli.simulate.yeast_genotypes import draw_map, segregant_blocks
from gpmap_cli.simulate.yeast_settings import CHROMOSOMES, YeastSyntheticData

STANDARD_ERRORS = 4.5
GROUP = Group("data.", "yeast_synthetic")
CONFIG = ROOT / "configs" / "data" / "yeast_synthetic.yaml"
PUBLISHED_ENVIRONMENTS = ["23C", "25C", "27C", "30C", "33C", "35C", "37C", "cu", "suloc", "ynb", "eth", "gu"]
PUBLISHED_ENVIRONMENTS += ["li", "mann", "mol", "raff", "sds", "4NQO"]
PUBLISHED_SNPS = [995, 3735, 558, 4035, 1859, 1288, 3931, 1638, 2078, 2974, 3239, 4310, 2945, 1799, 4289, 1921]
SMALL = YeastSyntheticData(num_samples=1_000, num_loci=300, environments=("23C", "37C", "cu"))


@pytest.fixture(scope="module")
def cross() -> Dataset:
    """Many segregants at few loci, in all environments."""
    return simulate(YeastSyntheticData(num_samples=20_000, num_loci=500), 3)


def by_order(dataset: Dataset) -> dict[str, NDArray[np.float64]]:
    """The sum of the terms of each epistasis order, (N, E), from the ids and effects of the truth alone."""
    column = {locus: number for number, locus in enumerate(dataset.locus_ids.tolist())}
    x = 2.0 * np.asarray(dataset.genotypes).T - 1
    sums = {}
    for order, name in (("additive", "locus"), ("pairwise", "loci"), ("third_order", "loci")):
        if f"by_id/{order}/effects" not in dataset.truth:
            continue
        loci = dataset.truth[f"by_id/{order}/{name}"]
        terms = np.vectorize(column.__getitem__)(loci.reshape(len(loci), -1))
        products = x[terms[:, 0]]
        for place in terms.T[1:]:
            products *= x[place]
        sums[order] = products.T @ dataset.truth[f"by_id/{order}/effects"]
    return sums


@pytest.fixture(scope="module")
def parts(cross: Dataset) -> dict[str, NDArray[np.float64]]:
    return by_order(cross)


# -- settings -----------------------------------------------------------------------------------------


def test_the_config_file_holds_every_setting_with_its_default_and_a_comment() -> None:
    text = CONFIG.read_text(encoding="utf-8")
    mapping = yaml.safe_load(text)
    assert list(mapping) == [item.name for item in dataclasses.fields(YeastSyntheticData)]
    problems: list[Problem] = []
    assert fill(YeastSyntheticData, mapping, GROUP, problems) == YeastSyntheticData()
    assert problems == []
    assert all("  # " in line for line in text.splitlines() if not line.startswith(("#", "name:")))


def test_the_config_file_tells_the_ranges_of_the_table() -> None:
    shares = [environment.shares for environment in ENVIRONMENTS.values()]
    text = CONFIG.read_text(encoding="utf-8")
    for values in (
        [share.heritability for share in shares],
        [share.pairwise / share.heritability for share in shares],
        [environment.missing for environment in ENVIRONMENTS.values()],
    ):
        assert f"null: {min(values):.3f} to {max(values):.3f} by environment" in text
    assert {round(share.third_order / share.heritability, 2) for share in shares} <= {0.03, 0.04}


def test_the_settings_import_no_array_library() -> None:
    code = "import sys, gpmap_cli.simulate.yeast_settings; print(sorted({'numpy', 'h5py', 'torch'} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


REFUSALS: list[tuple[dict[str, Any], str, str]] = [
    ({"num_samples": 0}, "data.num_samples must be at least 1", ""),
    ({"num_loci": 15}, "data.num_loci must be at least 16", ""),
    ({"num_loci": 41_595}, "data.num_loci must be at most 41594", ""),
    ({"cm_per_kb": 0}, "data.cm_per_kb must be at least 1e-06", ""),
    ({"environments": []}, "data.environments is empty", "leave data.environments out"),
    ({"environments": ["23C", "23C"]}, "data.environments names one twice", ""),
    ({"environments": ["4nqo"]}, "`4nqo` is not an environment of yeast_synthetic", "data.environments=4NQO?"),
    ({"heritability": 0}, "data.heritability must be above 0", ""),
    ({"heritability": 1.1}, "data.heritability must be at most 1", ""),
    ({"pairwise_share": -0.1}, "data.pairwise_share must be at least 0", ""),
    ({"third_order_share": 2}, "data.third_order_share must be at most 1", ""),
    (
        {"pairwise_share": 0.7, "third_order_share": 0.4},
        "data.pairwise_share and data.third_order_share add up to 1.1 in 23C",
        "together at most 1",
    ),
    ({"third_order_share": 1}, "data.pairwise_share and data.third_order_share add up to 1.128 in 23C", "set both"),
    ({"num_qtl": 0}, "data.num_qtl must be at least 1", ""),
    ({"num_qtl": 101, "num_loci": 100}, "data.num_qtl must be at most data.num_loci (100), got `101`", "lower"),
    ({"num_large_qtl": -1}, "data.num_large_qtl must be at least 0", ""),
    ({"num_large_qtl": 51, "num_qtl": 50}, "data.num_large_qtl must be at most the number of QTL (50)", "lower"),
    ({"large_qtl_share": 1.5}, "data.large_qtl_share must be at most 1", ""),
    ({"num_pairs": 0}, "data.num_pairs must be at least 1", ""),
    ({"num_pairs": 31, "num_qtl": 16}, "data.num_pairs must be at most 29 with 16 QTL, got `31`", "pairwise_share=0"),
    ({"num_triples": 141, "num_qtl": 16}, "data.num_triples must be at most 129 with 16 QTL", "third_order_share=0"),
    ({"num_qtl": 2, "num_large_qtl": 0, "pairwise_share": 0}, "data.num_triples must be at most 0 with 2 QTL", ""),
    ({"environment_correlation": 1.1}, "data.environment_correlation must be at most 1", ""),
    ({"temperature_scale": 0}, "data.temperature_scale must be above 0", ""),
    ({"phenotype_sd": 0}, "data.phenotype_sd must be at least 1e-06", ""),
    ({"error_variation": 4}, "data.error_variation must be at most 3", ""),
    ({"missing": 1}, "data.missing must be below 1", ""),
    ({"seed": -1}, "data.seed must be at least 0", ""),
    ({"num_locus": 5}, "data.num_locus is not a setting of yeast_synthetic", "data.num_loci?"),
]


@pytest.mark.parametrize(("mapping", "message", "hint"), REFUSALS, ids=[message[:60] for _, message, _ in REFUSALS])
def test_what_cannot_be_simulated_is_refused(mapping: dict[str, Any], message: str, hint: str) -> None:
    problems: list[Problem] = []
    assert fill(YeastSyntheticData, mapping, GROUP, problems) is None
    assert [problem.message.startswith(message) for problem in problems] == [True], problems
    assert problems[0].hint
    assert hint in problems[0].hint


@pytest.mark.parametrize("num_loci", [16, 17, 40, 200])
def test_few_loci_need_no_other_setting(num_loci: int) -> None:
    settings = YeastSyntheticData(num_samples=50, num_loci=num_loci)
    assert settings.problems(GROUP) == []
    dataset = simulate(settings, 0)
    assert len(dataset.truth["by_id/additive/locus"]) == num_loci
    assert len(dataset.truth["by_id/pairwise/loci"]) == settings.num_terms(2) >= 30


def test_chromosomes_get_their_shares_and_never_more_than_they_have() -> None:
    for count in (16, 17, 400, 2_000, 41_594):
        given = apportion(count, PUBLISHED_SNPS, least=1)
        assert sum(given) == count
        assert all(1 <= part <= whole for part, whole in zip(given, PUBLISHED_SNPS, strict=True))
        for fewer in (0, 1, 10, count // 2, count):
            of_those = apportion(fewer, given)
            assert sum(of_those) == fewer
            assert all(0 <= part <= whole for part, whole in zip(of_those, given, strict=True))
    assert apportion(41_594, PUBLISHED_SNPS, least=1) == PUBLISHED_SNPS
    assert apportion(10, [60.0, 30.0, 10.0]) == [6, 3, 1]


# -- the cross ----------------------------------------------------------------------------------------


def test_the_map_has_the_published_numbers_of_snps_on_chromosomes_of_the_right_length() -> None:
    found = draw_map(YeastSyntheticData(), 0)
    assert np.bincount(found.chromosomes).tolist() == PUBLISHED_SNPS
    assert [num_snps for _, num_snps in CHROMOSOMES.values()] == PUBLISHED_SNPS
    for number, (name, (length, _)) in enumerate(CHROMOSOMES.items()):
        positions = found.positions[found.chromosomes == number]
        assert (np.diff(positions) > 0).all()
        assert 1 <= positions[0] < positions[-1] <= length
        assert stats.kstest(positions / length, "uniform").pvalue > 1e-5
        assert found.names[np.flatnonzero(found.chromosomes == number)[0]] == name
    assert list(CHROMOSOMES)[0::5] == ["chrI", "chrVI", "chrXI", "chrXVI"]
    assert found.locus_ids[0] == f"chrI_{found.positions[0]}"
    assert len(set(found.locus_ids)) == 41_594
    assert sum(length for length, _ in CHROMOSOMES.values()) == 12_071_326


def test_fewer_loci_are_some_of_the_same_snps_and_have_the_same_genotypes() -> None:
    settings = YeastSyntheticData(num_loci=41_594)
    fewer = draw_map(dataclasses.replace(settings, num_loci=777), 5)
    every = draw_map(settings, 5)
    place = {name: number for number, name in enumerate(every.locus_ids)}
    columns = [place[name] for name in fewer.locus_ids]
    assert len(columns) == 777
    steps = np.diff(columns)[np.diff(fewer.chromosomes) == 0]
    assert (np.abs(steps - 41_594 / 777) < 8).all()  # evenly many of them
    of_every = np.concatenate(list(segregant_blocks(every, 450, 5)))
    of_fewer = np.concatenate(list(segregant_blocks(fewer, 450, 5)))
    np.testing.assert_array_equal(of_every[:, columns], of_fewer)
    assert of_every.shape == (450, 41_594)


def test_recombination_follows_haldane_at_every_distance_without_interference(cross: Dataset) -> None:
    genotypes = np.asarray(cross.genotypes)
    assert genotypes.dtype == np.int8
    assert set(np.unique(genotypes)) == {0, 1}
    num_samples, num_loci = genotypes.shape
    error = math.sqrt(0.25 / num_samples)
    assert np.abs(genotypes.mean(axis=0) - 0.5).max() < (STANDARD_ERRORS + 0.5) * error
    assert cross.chromosomes is not None
    assert cross.positions is not None
    morgans = cross.positions * 0.30 / 1e5
    rng = np.random.default_rng(0)
    for step in (1, 2, 5, 10, 20, 60):
        for first in rng.integers(0, num_loci - step, 30):
            second = first + step
            expected = 0.5
            if cross.chromosomes[first] == cross.chromosomes[second]:
                expected = -math.expm1(-2 * (morgans[second] - morgans[first])) / 2
            seen = (genotypes[:, first] != genotypes[:, second]).mean()
            assert abs(seen - expected) < STANDARD_ERRORS * math.sqrt(expected * (1 - expected) / num_samples)
    start = int(np.flatnonzero(cross.chromosomes == "chrIV")[0])
    left = genotypes[:, start] != genotypes[:, start + 3]
    right = genotypes[:, start + 3] != genotypes[:, start + 6]
    expected = left.mean() * right.mean()
    assert abs((left & right).mean() - expected) < STANDARD_ERRORS * math.sqrt(expected / num_samples)


def test_linkage_decays_with_the_recombination_rate() -> None:
    found = draw_map(dataclasses.replace(SMALL, cm_per_kb=3.0), 0)
    genotypes = np.concatenate(list(segregant_blocks(found, 4_000, 0)))
    expected = -math.expm1(-2 * (found.positions[1] - found.positions[0]) * 3.0 / 1e5) / 2
    seen = (genotypes[:, 0] != genotypes[:, 1]).mean()
    assert abs(seen - expected) < STANDARD_ERRORS * math.sqrt(expected * (1 - expected) / 4_000)


# -- the same and not the same ------------------------------------------------------------------------

VARIED = [
    SMALL,
    dataclasses.replace(SMALL, num_samples=1, error_variation=0.0),
    dataclasses.replace(SMALL, environments=None, pairwise_share=0.0, num_large_qtl=0),
]


@pytest.mark.parametrize("settings", VARIED, ids=["three", "one sample", "all environments"])
def test_the_streamed_file_is_the_dataset_in_memory_byte_for_byte(settings: YeastSyntheticData, tmp_path: Path) -> None:
    told: list[int] = []
    write_simulation(tmp_path / "streamed.h5", settings, 3, progress=told.append)
    dataset = simulate(settings, 3)
    write_dataset(tmp_path / "at_once.h5", dataset)
    streamed = (tmp_path / "streamed.h5").read_bytes()
    assert streamed == (tmp_path / "at_once.h5").read_bytes()
    assert told == ([400, 400, 200] if settings.num_samples == 1_000 else [1])
    write_simulation(tmp_path / "again.h5", dataclasses.replace(settings, seed=3), 99)
    assert (tmp_path / "again.h5").read_bytes() == streamed
    with DatasetFile(tmp_path / "streamed.h5") as written:
        read = written.load()
    np.testing.assert_array_equal(read.phenotypes, dataset.phenotypes)
    assert read.truth.keys() == dataset.truth.keys()
    for name, array in dataset.truth.items():
        np.testing.assert_array_equal(read.truth[name], array)
    np.testing.assert_array_equal(read.covariates["temperature"], dataset.covariates["temperature"])


def test_another_seed_gives_another_dataset() -> None:
    first, second = simulate(SMALL, 1), simulate(SMALL, 2)
    assert not np.array_equal(first.genotypes, second.genotypes)
    assert not np.array_equal(first.locus_ids, second.locus_ids)
    assert not np.array_equal(first.truth["by_id/additive/effects"], second.truth["by_id/additive/effects"])


def test_more_samples_only_add_to_fewer() -> None:
    many, few = simulate(SMALL, 4), simulate(dataclasses.replace(SMALL, num_samples=417), 4)
    np.testing.assert_array_equal(many.genotypes[:417], few.genotypes)
    np.testing.assert_array_equal(many.phenotypes[:417], few.phenotypes)
    np.testing.assert_array_equal(many.locus_ids, few.locus_ids)
    for name, array in few.truth.items():
        np.testing.assert_array_equal(many.truth[name][:417] if name == "noise_free" else many.truth[name], array)


def test_an_environment_is_the_same_whichever_others_are_asked_for() -> None:
    settings = dataclasses.replace(SMALL, environments=None)
    every = simulate(settings, 6)
    assert list(every.environment_names) == PUBLISHED_ENVIRONMENTS
    for names in (("4NQO",), ("cu", "23C", "37C"), tuple(reversed(PUBLISHED_ENVIRONMENTS))):
        some = simulate(dataclasses.replace(settings, environments=names), 6)
        columns = [PUBLISHED_ENVIRONMENTS.index(name) for name in names]
        np.testing.assert_array_equal(some.genotypes, every.genotypes)
        np.testing.assert_array_equal(some.phenotypes, every.phenotypes[:, columns])
        assert some.phenotype_std is not None
        assert every.phenotype_std is not None
        np.testing.assert_array_equal(some.phenotype_std, every.phenotype_std[:, columns])
        for name, array in every.truth.items():
            kept = array if array.dtype == object else array[..., columns]
            np.testing.assert_array_equal(some.truth[name], kept)


# -- the genetic architecture -------------------------------------------------------------------------


def test_the_truth_by_id_is_the_noise_free_phenotype_to_the_last_bit(
    cross: Dataset, parts: dict[str, NDArray[np.float64]]
) -> None:
    np.testing.assert_array_equal(sum(parts.values()), cross.truth["noise_free"])
    qtl = np.isin(cross.locus_ids, cross.truth["by_id/additive/locus"])
    assert qtl.sum() == 400
    columns = np.flatnonzero(qtl)
    pruned = cross.with_loci(columns, cross.genotypes[:, columns])
    first = dataclasses.replace(pruned, genotypes=pruned.genotypes[:500])
    np.testing.assert_array_equal(sum(by_order(first).values()), pruned.truth["noise_free"][:500])


def test_each_order_makes_its_share_of_the_variance(cross: Dataset, parts: dict[str, NDArray[np.float64]]) -> None:
    error = math.sqrt(2 / cross.num_samples)  # of a variance, relative
    for column, (name, environment) in enumerate(ENVIRONMENTS.items()):
        for order, part in parts.items():
            share = cross.truth[f"by_id/variance_share/{order}"][column]
            assert share == pytest.approx(getattr(environment.shares, order), rel=1e-12), name
            assert part[:, column].var() / 0.07**2 == pytest.approx(share, rel=1.2 * STANDARD_ERRORS * error), name
            assert abs(part[:, column].mean()) < STANDARD_ERRORS * part[:, column].std() / math.sqrt(cross.num_samples)
        r = np.corrcoef([part[:, column] for part in parts.values()])[np.triu_indices(3, 1)]
        assert np.abs(r).max() < STANDARD_ERRORS / math.sqrt(cross.num_samples)


@pytest.mark.parametrize("centimorgans", [0.5, 5.0, 50.0])
def test_the_variance_of_terms_takes_linkage_into_account(centimorgans: float) -> None:
    morgans = np.array([1.0, 1.0 + centimorgans / 100, 9.0, 9.1])
    chromosomes = np.array([0, 0, 3, 3])
    r, other = math.exp(-2 * centimorgans / 100), math.exp(-0.2)
    effects = np.array([[1.0, 1.0, 0.0], [2.0, -2.0, 1.0]])
    additive = term_variances(np.array([[0], [1]]), effects, morgans, chromosomes)
    np.testing.assert_allclose(additive, [5 + 4 * r, 5 - 4 * r, 1], rtol=1e-12)
    apart = term_variances(np.array([[0], [2]]), effects, morgans, chromosomes)
    np.testing.assert_allclose(apart, [5, 5, 1], rtol=1e-12)
    pairs = term_variances(np.array([[0, 2], [1, 3]]), effects, morgans, chromosomes)
    np.testing.assert_allclose(pairs, [5 + 4 * r * other, 5 - 4 * r * other, 1], rtol=1e-12)


def test_shares_are_as_set_in_every_environment() -> None:
    settings = dataclasses.replace(
        SMALL, num_samples=15_000, heritability=0.9, pairwise_share=0.5, third_order_share=0.2
    )
    dataset = simulate(settings, 2)
    assert dataset.noise_ceiling_r2 == pytest.approx(dict.fromkeys(("23C", "37C", "cu"), 0.9))
    for (order, part), share in zip(by_order(dataset).items(), (0.27, 0.45, 0.18), strict=True):
        np.testing.assert_allclose(dataset.truth[f"by_id/variance_share/{order}"], share, rtol=1e-12)
        np.testing.assert_allclose(
            part.var(axis=0) / 0.07**2, share, rtol=1.2 * STANDARD_ERRORS * math.sqrt(2 / 15_000)
        )


def test_an_order_without_variance_has_no_terms() -> None:
    purely_additive = simulate(dataclasses.replace(SMALL, pairwise_share=0.0, third_order_share=0.0), 0)
    assert {name for name in purely_additive.truth if name.startswith("by_id/")} == {
        "by_id/additive/locus",
        "by_id/additive/effects",
        *(f"by_id/variance_share/{order}" for order in ("additive", "pairwise", "third_order")),
    }
    x = np.column_stack([np.ones(1_000), np.asarray(purely_additive.genotypes)])
    values = purely_additive.truth["noise_free"]
    residual = values - x @ np.linalg.lstsq(x, values, rcond=None)[0]
    assert np.abs(residual).max() < 1e-12
    one_share = simulate(dataclasses.replace(SMALL, pairwise_share=1.0, third_order_share=0.0), 0)
    assert "by_id/additive/effects" not in one_share.truth


def test_terms_are_distinct_sets_of_qtl_on_different_chromosomes_more_often_the_larger(cross: Dataset) -> None:
    qtl, effects = cross.truth["by_id/additive/locus"], cross.truth["by_id/additive/effects"]
    for order, count in (("pairwise", 600), ("third_order", 200)):
        loci = cross.truth[f"by_id/{order}/loci"]
        assert len(loci) == count
        assert len(set(map(tuple, loci.tolist()))) == count
        assert set(loci.ravel()) <= set(qtl)
        for term in loci:
            assert len({locus.split("_")[0] for locus in term}) == len(term)
    size = np.sqrt((effects**2).mean(axis=1))
    times = np.array([(cross.truth["by_id/pairwise/loci"] == locus).sum() for locus in qtl])
    large, small = size > np.quantile(size, 0.9), size < np.median(size)
    assert times[large].mean() > 2.5 * times[small].mean()


def share_of_the_largest(settings: YeastSyntheticData) -> float:
    """Of the sum of squared additive effects, what the eight largest QTL make."""
    effects = draw_architecture(settings, draw_map(settings, 0), 0).terms[1].effects
    squares = np.sort((effects**2).mean(axis=1))[::-1]
    return float(squares[:8].sum() / squares.sum())


def test_few_large_qtl_make_their_share() -> None:
    settings = YeastSyntheticData(num_loci=4_000, num_qtl=4_000, num_large_qtl=8, pairwise_share=0, third_order_share=0)
    assert share_of_the_largest(dataclasses.replace(settings, num_large_qtl=0)) < 0.15
    for share in (0.3, 0.6, 0.9):
        assert share_of_the_largest(dataclasses.replace(settings, large_qtl_share=share)) == pytest.approx(
            share, abs=0.1
        )


def test_effects_correlate_between_environments_as_the_formula_says() -> None:
    settings = YeastSyntheticData(environment_correlation=0.3, temperature_scale=6.0)
    drawn = correlated_deviates(np.random.default_rng(0), 40_000, settings)
    np.testing.assert_allclose(drawn.std(axis=0), 1, atol=STANDARD_ERRORS / math.sqrt(80_000))
    seen = np.corrcoef(drawn.T)
    expected = np.full((18, 18), 0.3)
    np.fill_diagonal(expected, 1)
    warm = np.array(list(TEMPERATURES.values()))
    expected[:7, :7] = 0.3 + 0.7 * np.exp(-np.abs(warm[:, None] - warm) / 6.0)
    assert np.abs(seen - expected).max() < STANDARD_ERRORS / math.sqrt(40_000)


def test_temperatures_are_more_alike_than_other_environments_and_near_ones_most(cross: Dataset) -> None:
    r = np.corrcoef(cross.truth["noise_free"].T)
    warm, others = r[:7, :7][np.triu_indices(7, 1)], r[7:, 7:][np.triu_indices(11, 1)]
    assert warm.mean() > others.mean() + 0.2
    assert np.diag(r[:7, :7], 1).min() > r[0, 6]
    assert 0.2 < others.mean() < 0.6
    names = cross.environment_names
    temperature = dict(zip(names, cross.covariates["temperature"].tolist(), strict=True))
    assert [temperature[name] for name in names[:7]] == [23, 25, 27, 30, 33, 35, 37]
    assert np.isnan([temperature[name] for name in names[7:]]).all()


# -- measurement --------------------------------------------------------------------------------------


def test_the_best_prediction_reaches_the_noise_ceiling(cross: Dataset) -> None:
    assert cross.phenotype_std is not None
    for column, (name, ceiling) in enumerate(cross.noise_ceiling_r2.items()):
        known = ~np.isnan(cross.phenotypes[:, column])
        observed = cross.phenotypes[known, column].astype(np.float64)
        best = cross.truth["noise_free"][known, column]
        std = cross.phenotype_std[known, column].astype(np.float64)
        assert ceiling == pytest.approx(ENVIRONMENTS[name].shares.heritability, rel=1e-12)
        assert observed.std() == pytest.approx(0.07, rel=STANDARD_ERRORS / math.sqrt(2 * len(observed)))
        # Squared errors vary by 3 (1 + cv^2) - 1 about their mean, and the genetic variance by 2.
        error = (1 - ceiling) * math.sqrt((2.75 + 2) / len(observed))
        explained = 1 - ((observed - best) ** 2).mean() / observed.var()
        assert abs(explained - ceiling) < STANDARD_ERRORS * error
        assert stats.kstest((observed - best) / std, "norm").pvalue > 1e-5
        assert (std**2).mean() == pytest.approx(
            0.07**2 * (1 - ceiling), rel=STANDARD_ERRORS * 0.5 / math.sqrt(len(std))
        )
        assert (std**2).std() / (std**2).mean() == pytest.approx(0.5, rel=0.05)


def test_errors_can_be_all_alike_and_the_scale_set() -> None:
    dataset = simulate(dataclasses.replace(SMALL, error_variation=0.0, phenotype_sd=2.0, heritability=0.75), 0)
    assert dataset.phenotype_std is not None
    np.testing.assert_allclose(np.unique(dataset.phenotype_std[~np.isnan(dataset.phenotype_std)]), 1.0, rtol=1e-6)
    assert dataset.truth["noise_free"].std() == pytest.approx(math.sqrt(3), rel=0.15)
    without_noise = simulate(dataclasses.replace(SMALL, heritability=1.0, missing=0.0), 0)
    np.testing.assert_array_equal(without_noise.phenotypes, without_noise.truth["noise_free"].astype(np.float32))


def test_phenotypes_are_missing_as_often_as_set_and_often_of_the_same_sample(cross: Dataset) -> None:
    is_missing = np.isnan(cross.phenotypes)
    assert cross.phenotype_std is not None
    np.testing.assert_array_equal(np.isnan(cross.phenotype_std), is_missing)
    assert not np.isnan(cross.truth["noise_free"]).any()
    for column, environment in enumerate(ENVIRONMENTS.values()):
        expected = environment.missing
        error = math.sqrt(expected * (1 - expected) / cross.num_samples)
        assert abs(is_missing[:, column].mean() - expected) < STANDARD_ERRORS * error
    assert ENVIRONMENTS["23C"].missing == pytest.approx(1_390 / 84_957, abs=5e-4)
    both = (is_missing[:, 0] & is_missing[:, 1]).mean()
    expected = ENVIRONMENTS["25C"].missing / 2
    assert abs(both - expected) < STANDARD_ERRORS * math.sqrt(2 * expected / cross.num_samples)
    assert both > 10 * is_missing[:, 0].mean() * is_missing[:, 1].mean()


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.9])
def test_the_missing_fraction_can_be_set(fraction: float) -> None:
    dataset = simulate(dataclasses.replace(SMALL, num_samples=5_000, missing=fraction), 0)
    error = math.sqrt(fraction * (1 - fraction) / 5_000)
    assert np.abs(np.isnan(dataset.phenotypes).mean(axis=0) - fraction).max() <= STANDARD_ERRORS * error


# -- the whole ----------------------------------------------------------------------------------------


def test_the_dataset_says_what_it_is(tmp_path: Path) -> None:
    write_simulation(tmp_path / "data.h5", SMALL, 8)
    with DatasetFile(tmp_path / "data.h5") as written:
        dataset = written.load()
    assert {name: array.shape for name, array in dataset.truth.items()} == {
        "noise_free": (1_000, 3),
        "noise_ceiling_r2": (3,),
        "by_id/additive/locus": (300,),
        "by_id/additive/effects": (300, 3),
        "by_id/pairwise/loci": (600, 2),
        "by_id/pairwise/effects": (600, 3),
        "by_id/third_order/loci": (200, 3),
        "by_id/third_order/effects": (200, 3),
        "by_id/variance_share/additive": (3,),
        "by_id/variance_share/pairwise": (3,),
        "by_id/variance_share/third_order": (3,),
    }
    assert (dataset.ploidy, dataset.phenotypes.dtype, dataset.genotypes.dtype) == (1, np.float32, np.int8)
    told = json.loads(str(dataset.provenance["settings"]))
    assert (told["num_loci"], told["seed"], told["environments"]) == (300, 8, ["23C", "37C", "cu"])
    assert "no measurement is in it" in str(dataset.provenance["notes"])


def test_genotypes_are_never_all_in_memory(tmp_path: Path) -> None:
    def peak(num_samples: int) -> int:
        settings = YeastSyntheticData(
            num_samples=num_samples, num_loci=2_000, num_pairs=20, num_triples=20, environments=("23C",)
        )
        tracemalloc.start()
        try:
            write_simulation(tmp_path / f"{num_samples}.h5", settings, 0)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(9_000) - peak(1_000) < 4_000_000  # names and phenotypes; 8,000 x 2,000 genotypes take 16 MB as bytes


def test_train_and_simulate_take_it(gpmap, tmp_path) -> None:
    words = ("data=yeast_synthetic", "data.num_samples=400", "data.num_loci=100", "data.environments=[cu,30C]")
    assert gpmap("simulate", *words, "hydra.run.dir=sim").returncode == 0
    assert gpmap("train", "model=ridge", *words, "hydra.run.dir=drawn").returncode == 0
    result = gpmap("train", "model=ridge", "data=file", "data.path=sim/dataset.h5", "hydra.run.dir=read")
    assert result.returncode == 0, result.stderr
    drawn, read = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("drawn", "read"))
    assert drawn["data"] == "yeast_synthetic"
    assert list(drawn["noise_ceiling_r2"]) == ["cu", "30C"]
    assert drawn["splits"] == read["splits"]
    refused = gpmap("train", "data=yeast_synthetic", "data.environments=[30]", "data.num_qlt=3")
    assert refused.returncode == 2
    assert "data.num_qlt is not a setting of yeast_synthetic\nhint: did you mean data.num_qtl?" in refused.stderr


def test_streams_of_the_purposes_differ() -> None:
    words = [("positions", 0), ("qtl", 0), ("crossovers", 0), ("effects", 1), ("effects", 2), ("missing",)]
    assert len({float(stream(0, *word).random()) for word in words}) == len(words)
