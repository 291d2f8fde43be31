"""Simulated genotypes: allele frequencies, linkage in a cross, interacting loci, memory, and the map file."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.errors import InputError
from gpmap_cli.random_streams import stream
from gpmap_cli.simulate.genotypes import genetic_map, genotype_blocks
from gpmap_cli.simulate.phenotypes import distinct_subsets
from gpmap_cli.simulate.settings import SimulatedData, num_subsets
from gpmap_cli.simulate.simulation import check_simulation, simulate, write_simulation

STANDARD_ERRORS = 4.5
HEADER = "locus,chromosome,position,centimorgan\n"
DISTANCES = {"I": [0.0, 1.0, 5.0, 20.0, 50.0, 120.0], "II": [3.0, 13.0]}
MAP_LOCI = sum(len(distances) for distances in DISTANCES.values())


def write_map(path: Path) -> Path:
    rows = [
        f"{name}_{number},{name},{1000 + 100 * number},{centimorgan}\n"
        for name, distances in DISTANCES.items()
        for number, centimorgan in enumerate(distances)
    ]
    path.write_text(HEADER + "".join(rows), encoding="utf-8")
    return path


@pytest.fixture
def map_file(tmp_path: Path) -> Path:
    return write_map(tmp_path / "map.csv")


def cross(map_file: Path | None, **changes: Any) -> SimulatedData:
    settings = SimulatedData(
        num_loci=MAP_LOCI, linkage="cross", map=None if map_file is None else str(map_file), num_samples=40_000
    )
    return dataclasses.replace(settings, **changes)


def draw(settings: SimulatedData, seed: int = 0) -> NDArray[np.int8]:
    return np.concatenate([block for _, block in genotype_blocks(settings, genetic_map(settings), seed)])


def standard_error(probability: float, num_samples: int) -> float:
    return math.sqrt(probability * (1 - probability) / num_samples)


# -- independent loci ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ploidy", [1, 2])
def test_each_locus_has_its_own_allele_frequency_and_hardy_weinberg_genotypes(ploidy: int) -> None:
    frequencies = (0.03, 0.25, 0.5, 0.9)
    settings = SimulatedData(num_samples=30_000, num_loci=4, allele_frequency=frequencies, ploidy=ploidy)
    genotypes = draw(settings)
    assert genotypes.dtype == np.int8
    assert genotypes.shape == (30_000, 4)
    for locus, frequency in enumerate(frequencies):
        for copies in range(ploidy + 1):
            expected = math.comb(ploidy, copies) * frequency**copies * (1 - frequency) ** (ploidy - copies)
            seen = (genotypes[:, locus] == copies).mean()
            assert abs(seen - expected) < STANDARD_ERRORS * standard_error(expected, 30_000)


def test_one_allele_frequency_stands_for_all_loci() -> None:
    genotypes = draw(SimulatedData(num_samples=30_000, num_loci=5, allele_frequency=(0.2,)))
    assert np.abs(genotypes.mean(axis=0) - 0.2).max() < STANDARD_ERRORS * standard_error(0.2, 30_000)


def test_independent_loci_are_uncorrelated_also_across_blocks_of_rows() -> None:
    settings = SimulatedData(num_samples=6_000, num_loci=1_000, order=(2,))
    blocks = [block for _, block in genotype_blocks(settings, None, 3)]
    assert len(blocks) > 2
    assert not np.array_equal(blocks[0], blocks[1])
    x = 2.0 * np.concatenate(blocks)[:, :40] - 1
    correlations = (x.T @ x / len(x))[np.triu_indices(40, 1)]
    assert np.abs(correlations).max() < (STANDARD_ERRORS + 1) / math.sqrt(len(x))  # 780 pairs at once


# -- a cross ------------------------------------------------------------------------------------------


def test_recombination_follows_haldane_at_every_distance_and_chromosomes_are_independent(map_file: Path) -> None:
    settings = cross(map_file)
    genotypes = draw(settings)
    place = [(name, centimorgan) for name, distances in DISTANCES.items() for centimorgan in distances]
    for first in range(MAP_LOCI):
        assert abs(genotypes[:, first].mean() - 0.5) < STANDARD_ERRORS * standard_error(0.5, len(genotypes))
        for second in range(first + 1, MAP_LOCI):
            expected = 0.5
            if place[first][0] == place[second][0]:
                expected = (1 - math.exp(-2 * (place[second][1] - place[first][1]) / 100)) / 2
            seen = (genotypes[:, first] != genotypes[:, second]).mean()
            assert abs(seen - expected) < STANDARD_ERRORS * standard_error(expected, len(genotypes))


def test_double_recombinants_show_no_interference(map_file: Path) -> None:
    genotypes = draw(cross(map_file))[:, : len(DISTANCES["I"])]
    recombined = genotypes[:, 1:] != genotypes[:, :-1]
    for interval in range(1, recombined.shape[1] - 1):
        left, right = recombined[:, interval], recombined[:, interval + 1]
        spacing = np.diff(DISTANCES["I"])[interval : interval + 2] / 100
        expected = math.prod((1 - math.exp(-2 * float(morgans))) / 2 for morgans in spacing)
        seen = (left & right).mean()
        assert abs(seen - expected) < STANDARD_ERRORS * standard_error(expected, len(genotypes))


def test_loci_at_the_same_place_never_recombine(tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    path.write_text(HEADER + "a,I,10,5\nb,I,20,5\n")
    genotypes = draw(cross(path, num_loci=2, order=(2,), num_samples=1_000))
    assert (genotypes[:, 0] == genotypes[:, 1]).all()


def test_without_a_map_loci_are_shared_by_length_and_evenly_spaced() -> None:
    settings = cross(None, num_loci=9, num_chromosomes=4, chromosome_length_cm=(120.0, 60.0, 60.0, 3.0))
    found = genetic_map(settings)
    assert found is not None
    assert found.chromosomes == ("chr01",) * 4 + ("chr02",) * 2 + ("chr03",) * 2 + ("chr04",)
    assert found.centimorgans.tolist() == [0, 40, 80, 120, 0, 60, 0, 60, 1.5]
    assert found.positions.tolist() == [1, 133_334, 266_668, 400_001, 1, 200_001, 1, 200_001, 5_001]
    assert found.locus_ids == tuple(f"locus_{number}" for number in range(9))


@pytest.mark.parametrize("num_loci", [4, 5, 23, 400])
def test_every_chromosome_carries_a_locus_and_none_is_lost(num_loci: int) -> None:
    lengths = (1.0, 500.0, 30.0, 2.0)
    found = genetic_map(cross(None, num_loci=num_loci, num_chromosomes=4, chromosome_length_cm=lengths))
    assert found is not None
    counts = [found.chromosomes.count(f"chr{number:02d}") for number in range(1, 5)]
    assert sum(counts) == num_loci
    assert min(counts) >= 1
    if num_loci == 400:
        assert counts == pytest.approx([400 * length / sum(lengths) for length in lengths], abs=1.5)


def test_the_dataset_file_of_a_cross_knows_chromosomes_and_positions(map_file: Path, tmp_path: Path) -> None:
    settings = cross(map_file, num_samples=50)
    write_simulation(tmp_path / "cross.h5", settings, 1)
    with DatasetFile(tmp_path / "cross.h5") as written:
        assert written.locus_ids.tolist() == [f"{name}_{n}" for name, d in DISTANCES.items() for n in range(len(d))]
        assert written.chromosomes is not None
        assert written.chromosomes.tolist() == [name for name, d in DISTANCES.items() for _ in d]
        assert written.positions is not None
        assert written.positions.tolist() == [1000 + 100 * n for d in DISTANCES.values() for n in range(len(d))]
        told = json.loads(str(written.provenance["settings"]))
    assert told["map_sha256"] == hashlib.sha256(map_file.read_bytes()).hexdigest()
    assert "map" not in told


def test_the_file_does_not_depend_on_where_the_map_lies(map_file: Path, tmp_path: Path) -> None:
    elsewhere = write_map(tmp_path / "another_name.csv")
    for path, target in ((map_file, "a.h5"), (elsewhere, "b.h5")):
        write_simulation(tmp_path / target, cross(path, num_samples=50), 1)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


# -- the sets of interacting loci ---------------------------------------------------------------------


@pytest.mark.parametrize("num_loci", [1, 2, 7])
def test_counting_sets_of_loci_stops_at_the_limit(num_loci: int) -> None:
    for order, limit in itertools.product(range(1, num_loci + 1), (1, 2, 20, 10**6)):
        assert num_subsets(num_loci, order, limit) == min(limit, math.comb(num_loci, order))
    assert num_subsets(10**6, 500_000, 10**30) == 10**30  # instant, where the coefficient has 300,000 digits


@pytest.mark.parametrize(
    ("num_loci", "order", "expected"), [(12, 3, 12), (12, 12, 1), (12, 11, 12), (3, 2, 3), (5, 1, 5)]
)
def test_by_default_there_are_as_many_interactions_as_loci_where_there_can_be(
    num_loci: int, order: int, expected: int
) -> None:
    dataset = simulate(SimulatedData(num_samples=5, num_loci=num_loci, order=(order,)), 0)
    assert dataset.truth[f"interactions/order_{order}/loci"].shape == (expected, order)


@pytest.mark.parametrize(
    ("num_loci", "order", "count"),
    [(12, 3, 12), (12, 3, 220), (12, 3, 200), (100, 4, 5_000), (1_200, 10, 300), (40, 20, 500), (7, 7, 1), (30, 1, 30)],
)
def test_interactions_are_distinct_ascending_sets_of_loci(num_loci: int, order: int, count: int) -> None:
    loci = distinct_subsets(stream(0, "test"), num_loci, order, count)
    assert loci.dtype == np.int32
    assert loci.shape == (count, order)
    assert (np.diff(loci, axis=1) > 0).all()
    assert loci.min() >= 0
    assert loci.max() < num_loci
    assert len(set(map(tuple, loci.tolist()))) == count


@pytest.mark.parametrize(("num_loci", "order", "count"), [(5, 2, 1), (5, 2, 4), (6, 3, 9), (5, 2, 7), (7, 5, 3)])
def test_every_set_of_loci_is_equally_likely(num_loci: int, order: int, count: int) -> None:
    rng = stream(0, "test")
    num_draws = 2_000
    seen = dict.fromkeys(itertools.combinations(range(num_loci), order), 0)
    for _ in range(num_draws):
        for chosen in distinct_subsets(rng, num_loci, order, count).tolist():
            seen[tuple(chosen)] += 1
    share = count / len(seen)
    counts = np.array(list(seen.values()))
    # A draw takes `count` different sets, so the counts are a little less variable than a multinomial's.
    statistic = ((counts - num_draws * share) ** 2).sum() / (num_draws * share * (1 - share)) * (1 - 1 / len(seen))
    assert statistic < stats.chi2.isf(1e-5, len(seen) - 1)


def test_every_choice_of_several_sets_is_equally_likely() -> None:
    rng = stream(0, "test")
    num_draws = 4_000
    choices = [tuple(map(tuple, distinct_subsets(rng, 4, 2, 3).tolist())) for _ in range(num_draws)]
    possible = list(itertools.combinations(itertools.combinations(range(4), 2), 3))
    counts = np.array([choices.count(choice) for choice in possible])
    assert counts.sum() == num_draws
    expected = num_draws / len(possible)
    assert ((counts - expected) ** 2 / expected).sum() < stats.chi2.isf(1e-5, len(possible) - 1)


# -- memory -------------------------------------------------------------------------------------------


def peak_memory(settings: SimulatedData, path: Path) -> int:
    tracemalloc.start()
    try:
        write_simulation(path, settings, 0)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_many_interactions_cost_no_memory_but_their_own(tmp_path: Path) -> None:
    few = SimulatedData(num_samples=4_000, num_loci=100, order=(4,), num_interactions=200)
    many = dataclasses.replace(few, num_interactions=20_000)
    extra = peak_memory(many, tmp_path / "many.h5") - peak_memory(few, tmp_path / "few.h5")
    # The loci and coefficients take 0.8 MB, a products table of samples x interactions 80 MB.
    assert extra < 2_000_000


def test_genotypes_are_never_all_in_memory(tmp_path: Path) -> None:
    settings = SimulatedData(num_samples=15_000, num_loci=1_000, order=(2,), num_interactions=10)
    fewer = dataclasses.replace(settings, num_samples=3_000)
    extra = peak_memory(settings, tmp_path / "all.h5") - peak_memory(fewer, tmp_path / "fewer.h5")
    assert extra < 4_000_000  # names and phenotypes; 12,000 x 1,000 genotypes take 12 MB as bytes


# -- wrong map files ----------------------------------------------------------------------------------

GOOD = b"a,I,10,0\nb,I,20,1\n"
WRONG_MAPS = {
    "empty": (b"", ":1:"),
    "columns": (b"locus,chromosome,position\na,I,10\n", ":1:"),
    "no loci": (HEADER.encode(), "no loci"),
    "too few values": (HEADER.encode() + GOOD + b"c,I,30\n", ":4:"),
    "too many values": (HEADER.encode() + b"c,I,30,1,9\n", ":2:"),
    "position": (HEADER.encode() + GOOD + b"c,I,1.5e3,2\n", ":4: position"),
    "negative position": (HEADER.encode() + b"c,I,-1,2\n", ":2: position"),
    "position beyond int64": (HEADER.encode() + b"c,I,9223372036854775808,2\n", ":2: position"),
    "centimorgan": (HEADER.encode() + GOOD + b"\nc,I,30,far\n", ":5: centimorgan"),
    "infinite centimorgan": (HEADER.encode() + b"c,I,30,inf\n", ":2: centimorgan"),
    "nan centimorgan": (HEADER.encode() + b"c,I,30,nan\n", ":2: centimorgan"),
    "decreasing": (HEADER.encode() + GOOD + b"c,I,30,0.5\n", ":4: centimorgan falls"),
    "duplicate locus": (HEADER.encode() + GOOD + b"a,II,30,3\n", ":4: locus `a` is on line 2"),
    "scattered chromosome": (HEADER.encode() + GOOD + b"c,II,30,0\nd,I,30,5\n", ":5: chromosome `I`"),
    "no locus id": (HEADER.encode() + b",I,30,0\n", ":2: locus"),
    "nul in a chromosome": (HEADER.encode() + b"a,I\x00I,30,0\n", ":2: chromosome"),
    "not utf-8": (HEADER.encode() + GOOD + b"\xe9,I,30,3\n", ":4: the map is not UTF-8"),
    "open quote": (HEADER.encode() + b'"a,I,10,0\n', ":2: not a CSV line"),
}


@pytest.mark.parametrize("name", WRONG_MAPS)
def test_a_wrong_map_is_refused_with_its_line(name: str, tmp_path: Path) -> None:
    content, where = WRONG_MAPS[name]
    path = tmp_path / "map.csv"
    path.write_bytes(content)
    settings = cross(path, num_loci=3)
    with pytest.raises(InputError) as refusal:
        check_simulation(settings)
    assert str(path) in str(refusal.value)
    assert where in str(refusal.value)
    assert refusal.value.problems[0].hint


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_map_that_is_no_file_is_refused_and_nothing_is_left(name: str, tmp_path: Path) -> None:
    settings = cross(tmp_path / name)
    with pytest.raises(InputError, match="cannot be read"):
        simulate(settings, 0)
    with pytest.raises(InputError, match="cannot be read"):
        write_simulation(tmp_path / "out.h5", settings, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_map_of_another_number_of_loci_names_both(map_file: Path) -> None:
    with pytest.raises(InputError, match=r"8 loci, but data.num_loci is 12") as refusal:
        check_simulation(cross(map_file, num_loci=12))
    assert refusal.value.problems[0].hint == "set data.num_loci=8"


def test_a_map_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    path.write_bytes(b'\xef\xbb\xbflocus,chromosome,position,centimorgan\r\n"a",I, 10,0\r\nb,I,20,1.5\r\n\r\n')
    found = genetic_map(cross(path, num_loci=2))
    assert found is not None
    assert found.locus_ids == ("a", "b")
    assert found.centimorgans.tolist() == [0.0, 1.5]
