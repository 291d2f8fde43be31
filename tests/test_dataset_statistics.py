"""What is computed to describe a dataset file, against independent computations on the whole matrix."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pandas as pd
import pytest
from dataset_examples import example
from scipy import stats

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.heritability import GenotypeHashes, error_bound, replicate_heritability
from gpmap_cli.dataset.linkage import LdSample, LocusMap, choose_loci, ld_decay, locus_map
from gpmap_cli.dataset.phenotype_statistics import correlations, distribution
from gpmap_cli.dataset.statistics import GenotypeCounter, count_genotypes, heterozygosity
from gpmap_cli.dataset.survey import survey
from gpmap_cli.dataset.writer import write_dataset


@pytest.fixture
def path(tmp_path):
    return tmp_path / "example.h5"


@pytest.fixture
def small_blocks(monkeypatch):
    """Files written after this are read a few rows at a time."""
    monkeypatch.setattr("gpmap_cli.dataset.file._BLOCK_BYTES", 200)
    monkeypatch.setattr("gpmap_cli.dataset.writer._CHUNK_BYTES", 100)


def counted(genotypes, ploidy=2):
    counter = GenotypeCounter(*genotypes.shape, ploidy)
    counter.add(slice(0, len(genotypes)), genotypes)
    return counter.counts()


class TestGenotypes:
    @pytest.mark.parametrize(("genotype_type", "ploidy"), [("int8", 1), ("int8", 2), ("float16", 2), ("float32", 1)])
    def test_counts_in_blocks_are_those_of_the_matrix(self, path, small_blocks, genotype_type, ploidy):
        genotypes = example(genotype_type=genotype_type, ploidy=ploidy).genotypes.copy()
        missing = -1 if genotype_type == "int8" else np.nan
        genotypes[:, 4], genotypes[:, 5], genotypes[3:, 6], genotypes[:3, 6] = missing, 1, missing, ploidy
        genotypes[7] = missing
        write_dataset(path, replace(example(ploidy=ploidy), genotypes=genotypes))
        with DatasetFile(path) as file:
            assert len(list(file.row_blocks())) > 2
            counts = count_genotypes(file)
        g = np.where(genotypes == -1, np.nan, genotypes).astype(float)
        known = ~np.isnan(g)
        heterozygous = np.rint(np.nextafter(g, 9)) == 1 if ploidy == 2 else np.zeros(g.shape, bool)
        np.testing.assert_array_equal(counts.known, known.sum(axis=0))
        np.testing.assert_array_equal(counts.known_by_sample, known.sum(axis=1))
        np.testing.assert_array_equal(counts.heterozygous, heterozygous.sum(axis=0))
        np.testing.assert_array_equal(counts.heterozygous_by_sample, heterozygous.sum(axis=1))
        np.testing.assert_allclose(counts.allele_frequency, np.nanmean(g[:, known.any(axis=0)], axis=0) / ploidy)
        typed = known.any(axis=0)
        np.testing.assert_array_equal(counts.smallest[typed], np.nanmin(g[:, typed], axis=0))
        np.testing.assert_array_equal(counts.largest[typed], np.nanmax(g[:, typed], axis=0))
        assert not np.isfinite([counts.smallest[~typed], counts.largest[~typed]]).any()
        np.testing.assert_allclose(counts.missing_by_locus, 1 - known.mean(axis=0))
        np.testing.assert_allclose(counts.missing_by_sample, 1 - known.mean(axis=1))
        assert counts.num_missing == (~known).sum()
        assert np.flatnonzero(counts.is_constant).tolist() == [4, 5, 6]

    def test_random_mating_has_no_inbreeding_and_inbred_lines_have_it_all(self):
        rng = np.random.default_rng(0)
        frequency = rng.uniform(0.1, 0.9, 300)
        alleles = (rng.random((2, 400, 300)) < frequency).astype(np.int8)
        found = heterozygosity(counted(alleles.sum(axis=0, dtype=np.int8)))
        assert found.expected == pytest.approx((2 * frequency * (1 - frequency)).mean(), rel=0.02)
        assert found.inbreeding == pytest.approx(0, abs=0.02)
        assert found.lowest < found.observed < found.highest
        inbred = heterozygosity(counted(2 * alleles[0]))
        assert (inbred.observed, inbred.inbreeding) == (0, 1)

    def test_expected_heterozygosity_is_corrected_for_small_samples(self):
        found = heterozygosity(counted(np.array([[0, 1], [1, -1], [-1, -1]], np.int8)))
        # Locus 1: three of four alleles alike, 2 * 3/4 * 1/4 * 4/3 = 1/2; locus 2: one sample, two alleles, 1.
        assert found.expected == pytest.approx((0.5 + 1) / 2)
        assert found.observed == pytest.approx((0.5 + 1) / 2)
        assert (found.lowest, found.highest) == (0.5, 1)

    def test_haploids_and_untyped_samples_have_no_heterozygosity(self):
        assert heterozygosity(counted(np.ones((3, 2), np.int8), ploidy=1)) is None
        assert heterozygosity(counted(np.full((3, 2), -1, np.int8))) is None


class TestPhenotypes:
    def test_a_distribution_is_that_of_the_known_values(self):
        values = np.random.default_rng(0).exponential(size=500).astype(np.float32) + 100
        values[:3], values[3:50] = [150, 100, 100], np.nan
        found = distribution(values)
        known = values[~np.isnan(values)].astype(float)
        assert (found.count, found.missing) == (453, 47)
        assert (found.mean, found.sd) == (known.mean(), known.std())
        assert found.skewness == pytest.approx(stats.skew(known))
        assert found.num_outliers == (np.abs(stats.zscore(known)) > 5).sum() == 1
        assert (found.minimum, found.num_lowest, found.maximum, found.num_highest) == (100, 2, 150, 1)

    @pytest.mark.parametrize("value", [0.1, 1e30, np.nan])
    def test_constants_and_the_unmeasured_have_no_shape(self, value):
        found = distribution(np.full(1000, value, np.float32))
        assert found.skewness is None
        assert found.num_outliers == 0
        assert found.sd == 0 or found.count == 0

    @pytest.mark.parametrize(("scale", "offset"), [(1, 0), (1e-3, 1e2), (1e30, 0), (1e-30, 0)])
    def test_correlations_are_those_of_the_complete_pairs(self, monkeypatch, scale, offset):
        monkeypatch.setattr("gpmap_cli.dataset.phenotype_statistics._ROWS_AT_ONCE", 64)
        rng = np.random.default_rng(1)
        y = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6))
        y[rng.random(y.shape) < 0.3] = np.nan
        y = (y * scale + offset).astype(np.float32)
        found = correlations(y)
        expected = pd.DataFrame(y.astype(float) / scale).corr(min_periods=3)
        np.testing.assert_allclose(found.r, expected, atol=1e-9)
        known = ~np.isnan(y)
        assert found.num_pairs[1, 4] == (known[:, 1] & known[:, 4]).sum()

    def test_undefined_correlations_are_nan(self):
        y = np.random.default_rng(2).normal(size=(50, 5)).astype(np.float32)
        y[:, 1] = 7.1  # constant
        y[:, 2] = np.nan  # never measured
        y[:, 3], y[3:, 4] = np.where(np.arange(50) < 10, 1, y[:, 3]), np.nan  # constant where the other is known
        found = correlations(y)
        first, second, r = found.pairs()
        assert list(zip(first, second, strict=True)) == [(0, 3), (0, 4)]
        assert r[0] == pytest.approx(np.corrcoef(y[:, 0].astype(float), y[:, 3].astype(float))[0, 1])
        assert np.isnan(found.r[3, 4])
        assert np.isnan(correlations(y[:2]).r).all()


def cross(num_samples, centimorgans, seed=0):
    """Haploid segregants at loci so far apart, on one chromosome: crossovers without interference."""
    rng = np.random.default_rng(seed)
    recombination = np.append(0.5, (1 - np.exp(-2 * np.diff(centimorgans) / 100)) / 2)
    return np.bitwise_xor.accumulate(rng.random((num_samples, len(recombination))) < recombination, axis=1).view(
        np.int8
    )


class TestLinkageDisequilibrium:
    def test_it_decays_in_a_cross_as_haldane_has_it(self):
        """r = 1 - 2 rec = exp(-2 d), so r2 = exp(-4 d); chance adds (1 - r2)^2 / (n - 1)."""
        num_samples, num_loci = 4000, 60
        centimorgans = np.linspace(0, 180, num_loci)
        genotypes = np.concatenate([cross(num_samples, centimorgans, seed) for seed in (0, 1)], axis=1)
        positions = np.tile(np.round(1000 * centimorgans / 0.36), 2)
        ld = ld_decay(genotypes, LocusMap(np.repeat([0, 1], num_loci), positions, "bp"))
        first, second = np.triu_indices(num_loci, 1)
        distance = positions[second] - positions[first]
        for lower, upper, pairs, r2 in zip(ld.lower, ld.upper, ld.num_pairs, ld.mean_r2, strict=True):
            inside = (distance >= lower) & (distance < upper)
            squared = np.exp(-4 * (centimorgans[second] - centimorgans[first])[inside] / 100)
            assert pairs == 2 * inside.sum()
            assert r2 == pytest.approx((squared + (1 - squared) ** 2 / (num_samples - 1)).mean(), abs=0.01)
        assert ld.mean_r2[0] > 0.8
        assert ld.num_pairs.sum() == 2 * len(first)
        assert ld.num_unlinked == num_loci**2
        assert ld.unlinked_r2 == pytest.approx(ld.chance_r2, rel=0.2)
        assert ld.chance_r2 == pytest.approx(1 / 3999)

    @pytest.mark.parametrize("genotype_type", ["int8", "float16"])
    def test_a_missing_genotype_takes_the_mean_of_its_locus(self, genotype_type):
        genotypes = example(80, 25, genotype_type, ploidy=2).genotypes.copy()
        genotypes[:, 3] = -1 if genotype_type == "int8" else np.nan
        genotypes[:, 9] = 1
        chromosome = np.arange(25) // 9
        place = np.random.default_rng(0).integers(0, 500, 25).astype(float)
        place[1] = place[0]
        ld = ld_decay(genotypes, LocusMap(chromosome, place, "bp"))
        table = pd.DataFrame(np.where(genotypes == -1, np.nan, genotypes).astype(float))
        r2 = table.fillna(table.mean()).corr().to_numpy() ** 2
        sums: dict[tuple[float, float], list[float]] = {}
        unlinked = []
        for i in range(25):
            for j in range(i):
                if {i, j} & {3, 9}:
                    continue
                if chromosome[i] != chromosome[j]:
                    unlinked.append(r2[i, j])
                    continue
                apart = abs(place[i] - place[j])
                edges = [0, *(step * 10**power for power in range(4) for step in (1, 2, 5))]
                upper = next(at for at, edge in enumerate(edges) if edge > apart)
                sums.setdefault((edges[upper - 1], edges[upper]), []).append(r2[i, j])
        assert sorted(sums) == list(zip(ld.lower, ld.upper, strict=True))
        np.testing.assert_allclose(ld.mean_r2, [np.mean(sums[key]) for key in sorted(sums)])
        assert ld.num_pairs.tolist() == [len(sums[key]) for key in sorted(sums)]
        assert ld.unlinked_r2 == pytest.approx(np.mean(unlinked))
        assert (ld.num_loci, ld.num_samples, ld.mean_distance[0]) == (23, 80, 0)
        assert all((ld.lower <= ld.mean_distance) & (ld.mean_distance < ld.upper))

    def test_the_chosen_loci_cover_every_distance_on_every_chromosome(self):
        rng = np.random.default_rng(0)
        chromosome = rng.permutation(np.repeat([0, 1, 2], [400000, 200000, 6000]))
        place = rng.permutation(len(chromosome)).astype(float)
        chosen = choose_loci(LocusMap(chromosome, place, "bp"), 2000, np.random.default_rng(1))
        assert len(np.unique(chosen)) == len(chosen) == 2000
        assert (np.diff(chosen) > 0).all()
        for number, least in ((0, 1200), (1, 550), (2, 5)):
            assert (chromosome[chosen] == number).sum() > least
        first = np.flatnonzero(chromosome == 0)
        rank = np.empty(len(chromosome), int)
        rank[first[np.argsort(place[first])]] = np.arange(len(first))
        ranks = rank[chosen[chromosome[chosen] == 0]]
        apart = np.abs(ranks[:, None] - ranks)[np.triu_indices(len(ranks), 1)]
        number_at = [((apart >= 2**power) & (apart < 2 ** (power + 1))).sum() for power in range(18)]
        assert min(number_at) > 60
        assert min(number_at[2:]) > 150

    def test_on_many_short_chromosomes_neighbours_are_chosen_together(self):
        chromosome = np.arange(20000) // 4
        chosen = choose_loci(LocusMap(chromosome, np.arange(20000.0), "loci"), 2000, np.random.default_rng(0))
        assert (np.diff(chromosome[chosen]) == 0).sum() > 700
        few = LocusMap(chromosome[:50], np.arange(50.0), "loci")
        assert choose_loci(few, 50, np.random.default_rng(0)).tolist() == list(range(50))

    def test_of_a_large_file_a_sample_is_taken_and_said(self, path, small_blocks):
        dataset = example(90, 30)
        write_dataset(path, dataset)
        with DatasetFile(path) as file:
            sample = LdSample(file, most_loci=12, most_samples=40)
            for rows, block in file.row_blocks():
                sample.add(rows, block)
            places = locus_map(file)
        ld = sample.decay()
        assert (ld.num_loci, ld.num_samples) == (12, 40)
        assert len(np.unique(sample._rows)) == 40
        expected = ld_decay(dataset.genotypes[np.ix_(sample._rows, sample._loci)], places.take(sample._loci))
        np.testing.assert_array_equal(ld.mean_r2, expected.mean_r2)

    @pytest.mark.parametrize(
        ("chromosomes", "positions", "place", "unit"),
        [
            (None, None, [0, 1, 2, 3], "loci"),
            (["b", "a", "b", "a"], None, [0, 0, 1, 1], "loci"),
            (["b", "a", "b", "a"], [0, 0, 0, 0], [0, 0, 1, 1], "loci"),
            (["b", "a", "c", "d"], [5, 6, 7, 8], [0, 0, 0, 0], "loci"),
            (["b", "a", "b", "a"], [50, 60, 70, 60], [50, 60, 70, 60], "bp"),
            (None, [50, 60, 70, 60], [50, 60, 70, 60], "position"),
        ],
    )
    def test_places_are_positions_or_else_ranks(self, path, chromosomes, positions, place, unit):
        dataset = replace(
            example(5, 4),
            chromosomes=None if chromosomes is None else np.array(chromosomes),
            positions=None if positions is None else np.array(positions),
        )
        write_dataset(path, dataset)
        with DatasetFile(path) as file:
            places = locus_map(file)
        assert (places.place.tolist(), places.unit) == (place, unit)
        assert places.has_chromosomes == (chromosomes is not None)
        same = np.array(chromosomes or ["a"] * 4)
        np.testing.assert_array_equal(places.chromosome[:, None] == places.chromosome, same[:, None] == same)

    @pytest.mark.parametrize(
        ("genotypes", "why"),
        [
            ([[0, 1], [1, 0]], "fewer than 3 samples"),
            ([[0], [1], [0]], "fewer than two polymorphic loci"),
            ([[0, 1], [1, 1], [-1, 1]], "fewer than two polymorphic loci"),
            ([[-1, -1]] * 4, "fewer than two polymorphic loci"),
        ],
    )
    def test_without_variation_there_is_none(self, genotypes, why):
        genotypes = np.array(genotypes, np.int8)
        number = genotypes.shape[1]
        assert ld_decay(genotypes, LocusMap(np.zeros(number, int), np.arange(number, dtype=float), "loci")) == why


class TestHeritability:
    def test_measurement_error_bounds_it(self):
        rng = np.random.default_rng(0)
        genetic = rng.normal(size=20000)
        std = rng.uniform(0.2, 0.8, (20000, 4)).astype(np.float32)
        y = (genetic[:, None] + std * rng.normal(size=std.shape)).astype(np.float32)
        y[::7, 0], std[::5, 0], y[:, 1], std[:, 2] = np.nan, np.nan, 3, np.nan
        bounds = error_bound(y, std)
        error = (0.8**3 - 0.2**3) / 3 / 0.6
        assert bounds[0] == pytest.approx(1 / (1 + error), abs=0.02)
        assert np.isnan(bounds[[1, 2]]).all()
        both = ~np.isnan(y[:, 0]) & ~np.isnan(std[:, 0])
        known = y[both, 0].astype(float), std[both, 0].astype(float)
        assert bounds[0] == pytest.approx(1 - (known[1] ** 2).mean() / known[0].var(ddof=1))
        assert error_bound(y, std + 9)[3] < 0

    def test_identical_complete_genotypes_are_replicates(self, path, small_blocks):
        rng = np.random.default_rng(0)
        genotypes = np.repeat(rng.integers(0, 2, (8, 20)), [1, 1, 2, 3, 1, 4, 2, 1], axis=0).astype(np.int8)
        genotypes = rng.permutation(genotypes)
        genotypes[[2, 9], 3] = -1
        write_dataset(path, replace(example(len(genotypes)), genotypes=genotypes))
        hashes = GenotypeHashes(len(genotypes))
        with DatasetFile(path) as file:
            for rows, block in file.row_blocks():
                hashes.add(rows, block)
        complete = (genotypes >= 0).all(axis=1)
        groups = hashes.replicates(complete)
        for i in range(len(genotypes)):
            same = complete & complete[i] & (genotypes == genotypes[i]).all(axis=1)
            expected = np.flatnonzero(same).tolist() if same.sum() > 1 else []
            assert np.flatnonzero((groups == groups[i]) & (groups[i] >= 0)).tolist() == expected
        assert sorted(set(groups)) == list(range(-1, groups.max() + 1))
        assert (hashes.replicates(np.zeros(len(genotypes), bool)) == -1).all()

    def test_zeros_of_either_sign_are_the_same_genotype(self):
        hashes = GenotypeHashes(3)
        hashes.add(slice(0, 3), np.array([[0.0, 1.0], [-0.0, 1.0], [0.5, 1.0]], np.float16))
        assert hashes.replicates(np.ones(3, bool)).tolist() == [0, 0, -1]

    @pytest.mark.parametrize("h2", [0.0, 0.4, 0.9])
    def test_replicates_recover_the_heritability_that_was_simulated(self, h2):
        rng = np.random.default_rng(3)
        groups = rng.permutation(np.repeat(np.arange(4000), rng.integers(2, 6, 4000)))
        y = np.sqrt(h2) * rng.normal(size=4000)[groups] + np.sqrt(1 - h2) * rng.normal(size=len(groups)) + 50
        found = replicate_heritability(y.astype(np.float32), groups)
        assert found.h2 == pytest.approx(h2, abs=0.03)
        assert (found.num_genotypes, found.num_samples) == (4000, len(groups))

    def test_the_analysis_of_variance_is_that_of_the_books(self):
        rng = np.random.default_rng(4)
        groups = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 4, -1, -1])
        y = (rng.normal(size=5)[groups] + rng.normal(size=len(groups))).astype(np.float32)
        y[9] = np.nan  # leaves genotype 3 with one sample, and so without a replicate
        found = replicate_heritability(y, groups)
        parts = [y[groups == group].astype(float) for group in (0, 1, 2)]
        f = stats.f_oneway(*parts).statistic
        n0 = (9 - (9 + 4 + 16) / 9) / 2
        assert found.h2 == pytest.approx((f - 1) / (f - 1 + n0))
        assert (found.num_genotypes, found.num_samples) == (3, 9)

    @pytest.mark.parametrize(
        ("y", "groups"), [([1, 2, 3], [-1, -1, -1]), ([1, 2, 3], [0, 0, 0]), ([5.1] * 4, [0, 0, 1, 1]), ([], [])]
    )
    def test_where_nothing_can_be_told_it_is_undefined(self, y, groups):
        assert replicate_heritability(np.array(y, np.float32), np.array(groups, int)).h2 is None

    def test_replicates_that_agree_exactly_leave_nothing_to_the_environment(self):
        found = replicate_heritability(np.array([1, 1, 2, 2], np.float32), np.array([0, 0, 1, 1]))
        assert found.h2 == 1


def assert_equal_numbers(one, other, name=""):
    assert type(one) is type(other), name
    if is_dataclass(one):
        for item in fields(one):
            assert_equal_numbers(getattr(one, item.name), getattr(other, item.name), f"{name}.{item.name}")
    elif isinstance(one, tuple):
        assert len(one) == len(other), name
        for left, right in zip(one, other, strict=True):
            assert_equal_numbers(left, right, name)
    elif isinstance(one, (np.ndarray, float)):
        np.testing.assert_allclose(one, other, rtol=1e-12, err_msg=name)
    else:
        assert one == other, name


class TestSurvey:
    @pytest.mark.parametrize("genotype_type", ["int8", "float16"])
    def test_rows_read_a_few_at_a_time_give_the_same_numbers(self, tmp_path, monkeypatch, genotype_type):
        dataset = example(60, 20, genotype_type, ploidy=2)
        genotypes = dataset.genotypes.copy()
        genotypes[:30] = np.nan_to_num(np.abs(genotypes[:30]))
        genotypes[10:20], genotypes[41] = genotypes[:10], genotypes[40]  # the last two have missing genotypes
        dataset = replace(dataset, genotypes=genotypes)
        found = []
        for number_of_bytes in (2**20, 100):
            monkeypatch.setattr("gpmap_cli.dataset.file._BLOCK_BYTES", number_of_bytes)
            monkeypatch.setattr("gpmap_cli.dataset.writer._CHUNK_BYTES", number_of_bytes)
            path = tmp_path / f"{number_of_bytes}.h5"
            write_dataset(path, dataset)
            told = []
            with DatasetFile(path) as file:
                found.append(survey(file, told.append))
            assert sum(told) == 60
        assert len(told) > 10
        assert (found[0].num_replicated_genotypes, found[0].num_replicated_samples) == (10, 20)
        assert_equal_numbers(*found)

    def test_a_file_without_phenotypes_has_genotypes_to_tell_of(self, path):
        genotypes = cross(50, np.linspace(0, 100, 9))
        names = np.array([f"s{number}" for number in range(50)])
        write_dataset(path, Dataset(genotypes, np.empty((50, 0), np.float32), names, names[:9], ()))
        with DatasetFile(path) as file:
            found = survey(file)
        assert (found.distributions, found.correlation, found.error_bound) == ((), None, None)
        assert found.ld.num_pairs.sum() == 36
