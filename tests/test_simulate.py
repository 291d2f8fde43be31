"""Simulated data: the settings, the phenotype's formulas, the noise ceiling, and files equal byte for byte."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from scipy import stats

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.writer import write_dataset
from gpmap_cli.errors import Problem
from gpmap_cli.settings import Group, fill
from gpmap_cli.simulate.phenotypes import Interactions, draw_architecture
from gpmap_cli.simulate.settings import SimulatedData, temperature
from gpmap_cli.simulate.simulation import simulate, write_simulation

STANDARD_ERRORS = 4.5
GROUP = Group("data.", "simulated")
CONFIG = Path(__file__).parents[1] / "configs" / "data" / "simulated.yaml"


def explained(observed: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    return float(1 - ((observed - predicted) ** 2).sum() / ((observed - observed.mean()) ** 2).sum())


def additive_r2(dataset: Dataset) -> float:
    """R^2 of least squares on the genotypes, for the noise-free phenotype of the first environment."""
    x = np.column_stack([np.ones(dataset.num_samples), dataset.genotypes])
    values = dataset.truth["noise_free"][:, 0]
    return explained(values, x @ np.linalg.lstsq(x, values, rcond=None)[0])


# -- settings -----------------------------------------------------------------------------------------


def test_the_config_file_holds_every_setting_with_its_default_and_a_comment() -> None:
    text = CONFIG.read_text(encoding="utf-8")
    mapping = yaml.safe_load(text)
    assert list(mapping) == [item.name for item in dataclasses.fields(SimulatedData)]
    problems: list[Problem] = []
    assert fill(SimulatedData, mapping, GROUP, problems) == SimulatedData()
    assert problems == []
    lines = text.splitlines()
    assert lines[0].startswith("# gpmap simulate data=simulated")
    assert all("  # " in line for line in lines if not line.startswith(("#", "name:")))


def test_the_settings_import_no_array_library() -> None:
    code = "import sys, gpmap_cli.simulate.settings; print(sorted({'numpy', 'h5py', 'torch'} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_one_order_may_be_given_as_a_number() -> None:
    made = fill(SimulatedData, {"order": 2, "environments": "23C", "allele_frequency": 0.1}, GROUP, [])
    assert made is not None
    assert (made.order, made.environments, made.allele_frequency) == ((2,), ("23C",), (0.1,))


REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"num_samples": 0}, "data.num_samples must be at least 1"),
    ({"num_loci": 0}, "data.num_loci must be at least 1"),
    ({"order": 0}, "data.order must be at least 1"),
    ({"order": []}, "data.order is empty"),
    ({"order": [2, 3, 2]}, "data.order names one twice"),
    ({"order": 13}, "data.order must be 1..data.num_loci (12), got `13`"),
    ({"order": "four"}, "data.order must be a whole number"),
    ({"order": 51, "num_loci": 60, "coding": "dosage", "ploidy": 2}, "data.order must be at most 50"),
    ({"num_interactions": 0}, "data.num_interactions must be at least 1"),
    ({"num_interactions": 221}, "data.num_interactions must be at most 220 with data.order=3"),
    ({"num_interactions": 70, "order": [3, 2]}, "data.num_interactions must be at most 66 with data.order=2"),
    ({"epsilon": -0.1}, "data.epsilon must be at least 0"),
    ({"epsilon": 1.1}, "data.epsilon must be at most 1"),
    ({"effects": "gausian"}, "data.effects must be one of"),
    ({"effect_mean": 2e6}, "data.effect_mean must be at most 1e+06"),
    ({"effect_mean": -2e6}, "data.effect_mean must be at least -1e+06"),
    ({"effect_std": -1}, "data.effect_std must be at least 0"),
    ({"effect_std": 2e6}, "data.effect_std must be at most 1e+06"),
    ({"noise": -0.2}, "data.noise must be at least 0"),
    ({"noise": 2e6}, "data.noise must be at most 1e+06"),
    ({"environments": []}, "data.environments is empty"),
    ({"environments": ["23C", "30C", "23C"]}, "data.environments names the same temperature twice"),
    ({"environments": ["30C", "30.0C"]}, "data.environments names the same temperature twice: `30C` and `30.0C`"),
    *(
        ({"environments": [name]}, f"data.environments must be temperatures of -273.15C to 1000C, got `{name}`")
        for name in (
            "30",
            "30c",
            "C",
            "hotC",
            "30 C",
            "30CC",
            "nanC",
            "1e2C",
            "--5C",
            "\u0663\u0660C",
            "-300C",
            "1001C",
            "",
        )
    ),
    ({"coding": "0/1"}, "data.coding must be one of"),
    ({"ploidy": 0}, "data.ploidy must be at least 1"),
    ({"ploidy": 3}, "data.ploidy must be at most 2"),
    ({"linkage": "linked"}, "data.linkage must be one of"),
    ({"allele_frequency": 0}, "data.allele_frequency must be above 0"),
    ({"allele_frequency": [0.5] * 11 + [1]}, "data.allele_frequency must be below 1"),
    ({"allele_frequency": []}, "data.allele_frequency must be one number or one per locus (12), got 0 numbers"),
    ({"allele_frequency": [0.5, 0.5]}, "data.allele_frequency must be one number or one per locus (12)"),
    ({"map": "map.csv"}, "data.map needs data.linkage=cross"),
    ({"linkage": "cross", "num_chromosomes": 4, "allele_frequency": 0.4}, "data.allele_frequency must be 0.5"),
    ({"linkage": "cross", "num_chromosomes": 4, "ploidy": 2}, "data.ploidy must be 1 with data.linkage=cross"),
    ({"num_chromosomes": 0}, "data.num_chromosomes must be at least 1"),
    ({"linkage": "cross", "num_chromosomes": 16}, "data.num_chromosomes must be at most data.num_loci (12), got `16`"),
    ({"chromosome_length_cm": 0}, "data.chromosome_length_cm must be above 0"),
    ({"chromosome_length_cm": 2e6}, "data.chromosome_length_cm must be at most 1e+06"),
    (
        {"linkage": "cross", "num_chromosomes": 4, "chromosome_length_cm": [100, 100]},
        "data.chromosome_length_cm must be one number or one per chromosome (4), got 2 numbers",
    ),
    ({"cm_per_kb": 0}, "data.cm_per_kb must be at least 1e-06"),
    ({"cm_per_kb": 2e6}, "data.cm_per_kb must be at most 1e+06"),
    ({"seed": -1}, "data.seed must be at least 0"),
    ({"seed": 2**63}, "data.seed must be at most"),
    ({"num_locus": 5}, "data.num_locus is not a setting of simulated"),
]


@pytest.mark.parametrize(("mapping", "message"), REFUSALS, ids=[message[:70] for _, message in REFUSALS])
def test_what_cannot_be_simulated_is_refused(mapping: dict[str, Any], message: str) -> None:
    problems: list[Problem] = []
    assert fill(SimulatedData, mapping, GROUP, problems) is None
    assert [problem.message.startswith(message) for problem in problems] == [True], problems
    assert problems[0].hint


def test_all_that_is_wrong_is_said_at_once_under_the_name_of_the_group() -> None:
    problems: list[Problem] = []
    fill(SimulatedData, {"order": 13, "environments": ["hot"], "map": "map.csv"}, Group("other.", "it"), problems)
    assert [problem.message.startswith("other.") for problem in problems] == [True] * 3


@pytest.mark.parametrize(("name", "degrees"), [("30C", 30.0), ("-5C", -5.0), ("37.5C", 37.5), ("0C", 0.0)])
def test_an_environment_is_named_by_its_temperature(name: str, degrees: float) -> None:
    assert temperature(name) == degrees
    assert SimulatedData(environments=(name,)).problems(GROUP) == []


# -- the formulas -------------------------------------------------------------------------------------


def naive_fitness(settings: SimulatedData, genotypes: list[int], degrees: float, truth: dict[str, Any]) -> float:
    """The formulas as they stand, one sample, one environment, in plain Python."""
    dt = degrees - 30
    x = [float(copies) for copies in genotypes]
    if settings.coding == "plus_minus_one":
        x = [2 * copies / settings.ploidy - 1 for copies in x]
    additive = 0.0
    for value, (a0, a1, a2) in zip(x, truth["additive/coefficients"], strict=True):
        additive += value * (a2 * dt**2 + a1 * dt + a0)
    interacting, count = 0.0, 0
    for order in settings.order:
        loci = truth[f"interactions/order_{order}/loci"]
        for chosen, (b0, b1, b2) in zip(loci, truth[f"interactions/order_{order}/coefficients"], strict=True):
            interacting += math.prod(x[locus] for locus in chosen) * (b2 * dt**2 + b1 * dt + b0)
            count += 1
    epsilon = truth["epsilon"]
    mixed = epsilon * additive / len(x) + (1 - epsilon) * interacting / count + truth["offset"]
    return float(1 - 0.01 * mixed)


@pytest.mark.parametrize("effects", ["gaussian", "exponential"])
@pytest.mark.parametrize("ploidy", [1, 2])
@pytest.mark.parametrize("coding", ["plus_minus_one", "dosage"])
@pytest.mark.parametrize("order", [(1,), (2,), (3,), (4,), (5,), (9,), (2, 4), (3, 1, 9)])
def test_the_phenotype_is_the_formula(order: tuple[int, ...], coding: Any, ploidy: int, effects: Any) -> None:
    settings = SimulatedData(
        num_samples=8,
        num_loci=9,
        order=order,
        coding=coding,
        ploidy=ploidy,
        effects=effects,
        epsilon=0.4,
        noise=0,
        allele_frequency=(0.7,),
        environments=("30C", "-4C", "37.5C"),
    )
    dataset = simulate(settings, 5)
    expected = [
        [naive_fitness(settings, row, degrees, dataset.truth) for degrees in (30.0, -4.0, 37.5)]
        for row in dataset.genotypes.tolist()
    ]
    np.testing.assert_allclose(dataset.truth["noise_free"], expected, rtol=1e-12)
    np.testing.assert_array_equal(dataset.phenotypes, dataset.truth["noise_free"].astype(np.float32))
    assert dataset.covariates["temperature"].tolist() == [30.0, -4.0, 37.5]


def test_many_terms_and_samples_are_summed_over_blocks_as_over_one() -> None:
    settings = SimulatedData(num_samples=20_000, num_loci=16, order=(4,), num_interactions=1_500, environments=("23C",))
    dataset = simulate(settings, 1)
    for row in (0, 8_191, 8_192, 19_999):
        expected = naive_fitness(settings, dataset.genotypes[row].tolist(), 23.0, dataset.truth)
        assert dataset.truth["noise_free"][row, 0] == pytest.approx(expected, rel=1e-12)


def test_the_sums_are_exact_so_their_order_does_not_matter() -> None:
    settings = SimulatedData(num_loci=40, order=(3,), num_interactions=5_000)
    architecture = draw_architecture(settings, 2)
    terms = architecture.interactions[3]
    backwards = Interactions(terms.loci[::-1], terms.coefficients[::-1])
    x = 2 * np.random.default_rng(0).integers(0, 2, (300, 40), dtype=np.int8) - 1
    turned = dataclasses.replace(architecture, interactions={3: backwards})
    np.testing.assert_array_equal(turned.noise_free(x, (23.0,)), architecture.noise_free(x, (23.0,)))


@pytest.mark.parametrize("effects", ["gaussian", "exponential"])
def test_effects_have_the_distribution_asked_for(effects: Any) -> None:
    settings = SimulatedData(num_loci=5_000, order=(2,), effects=effects, effect_mean=-1.5, effect_std=2.0)
    architecture = draw_architecture(settings, 7)
    expected = stats.norm(-1.5, 2.0) if effects == "gaussian" else stats.expon()
    for terms in (architecture.additive, architecture.interactions[2]):
        for column in terms.coefficients.T:
            assert stats.kstest(column, expected.cdf).pvalue > 1e-5
    together = np.hstack([architecture.additive.coefficients, architecture.interactions[2].coefficients])
    correlations = np.atleast_2d(np.corrcoef(together.T))[np.triu_indices(6, 1)]
    assert np.abs(correlations).max() < STANDARD_ERRORS / math.sqrt(5_000)
    small = dataclasses.replace(settings, num_loci=2)
    offsets = [draw_architecture(small, seed).offset for seed in range(1_000)]
    expected = stats.norm(0, 1) if effects == "gaussian" else stats.expon()
    assert stats.kstest(offsets, expected.cdf).pvalue > 1e-5


def test_tiny_effects_keep_their_spread() -> None:
    settings = SimulatedData(num_loci=200, order=(2,), effect_mean=0, effect_std=1e-12)
    coefficients = draw_architecture(settings, 0).additive.coefficients
    assert len(np.unique(coefficients)) == coefficients.size


def test_epsilon_one_is_purely_additive() -> None:
    dataset = simulate(SimulatedData(num_samples=500, num_loci=10, order=(3,), epsilon=1), 4)
    assert additive_r2(dataset) > 1 - 1e-12


@pytest.mark.parametrize("order", [2, 3, 4])
def test_epsilon_zero_has_no_additive_part(order: int) -> None:
    num_samples, num_loci = 5_000, 10
    settings = SimulatedData(num_samples=num_samples, num_loci=num_loci, order=(order,), epsilon=0)
    by_chance = (num_loci + 5 * math.sqrt(2 * num_loci)) / num_samples  # R^2 of 10 unrelated predictors
    assert additive_r2(simulate(settings, 4)) < by_chance
    every_genotype = np.array(list(itertools.product((-1, 1), repeat=num_loci)), dtype=np.int8)
    values = draw_architecture(settings, 4).noise_free(every_genotype, (30.0,))[:, 0]
    assert values.std() > 1e-4
    assert np.abs(every_genotype.T @ (values - values.mean())).max() / len(values) < 1e-15


# -- noise and environments ---------------------------------------------------------------------------


@pytest.mark.parametrize(("noise", "environments"), [(0.2, ("30C",)), (0.2, ("23C", "30C")), (1.0, ("23C", "30C"))])
def test_the_best_prediction_reaches_the_noise_ceiling(noise: float, environments: tuple[str, ...]) -> None:
    num_samples = 50_000
    settings = SimulatedData(num_samples=num_samples, noise=noise, environments=environments)
    dataset = simulate(settings, 11)
    ceiling = 1 / (1 + noise**2)
    assert dataset.noise_ceiling_r2 == pytest.approx(dict.fromkeys(environments, ceiling), rel=1e-15)
    sampling_error = 2 * math.sqrt(ceiling) * (1 - ceiling) / math.sqrt(num_samples)
    residuals = []
    for column in range(len(environments)):
        observed = dataset.phenotypes[:, column].astype(np.float64)
        best = dataset.truth["noise_free"][:, column]
        assert abs(explained(observed, best) - ceiling) < STANDARD_ERRORS * sampling_error
        residuals.append((observed - best) / (noise * best.std()))
        assert stats.kstest(residuals[-1], "norm").pvalue > 1e-5
    correlations = np.atleast_2d(np.corrcoef(residuals))[np.triu_indices(len(environments), 1)]
    assert (np.abs(correlations) < STANDARD_ERRORS / math.sqrt(num_samples)).all()


@pytest.mark.parametrize("changes", [{"num_samples": 1}, {"effect_mean": 0.0, "effect_std": 0.0}])
def test_a_phenotype_that_does_not_vary_has_no_ceiling_and_no_noise(changes: dict[str, Any]) -> None:
    dataset = simulate(dataclasses.replace(SimulatedData(num_samples=100), **changes), 0)
    assert np.isnan(dataset.truth["noise_ceiling_r2"]).all()
    np.testing.assert_array_equal(dataset.phenotypes, dataset.truth["noise_free"].astype(np.float32))


def test_an_environment_is_the_same_whichever_others_are_asked_for() -> None:
    settings = SimulatedData(num_samples=3_000, num_loci=50, order=(2, 3))
    alone = simulate(settings, 9)
    for names in (("23C", "30C"), ("30C", "23C", "37C"), tuple(f"{degrees}C" for degrees in range(20, 40))):
        together = simulate(dataclasses.replace(settings, environments=names), 9)
        column = names.index("30C")
        np.testing.assert_array_equal(together.genotypes, alone.genotypes)
        np.testing.assert_array_equal(together.phenotypes[:, column], alone.phenotypes[:, 0])
        np.testing.assert_array_equal(together.truth["noise_free"][:, column], alone.truth["noise_free"][:, 0])
        other = (column + 1) % len(names)
        assert not np.array_equal(together.phenotypes[:, other], together.phenotypes[:, column])


def test_another_order_leaves_the_other_terms_alone() -> None:
    one = draw_architecture(SimulatedData(order=(3,)), 1)
    two = draw_architecture(SimulatedData(order=(2, 3)), 1)
    np.testing.assert_array_equal(one.additive.coefficients, two.additive.coefficients)
    np.testing.assert_array_equal(one.interactions[3].loci, two.interactions[3].loci)
    np.testing.assert_array_equal(one.interactions[3].coefficients, two.interactions[3].coefficients)


# -- the dataset and its file -------------------------------------------------------------------------

VARIED = [
    SimulatedData(num_samples=2_500, num_loci=1_000, order=(2, 4), environments=("23C", "30C")),
    SimulatedData(num_samples=2_500, num_loci=1_000, ploidy=2, coding="dosage", allele_frequency=(0.3,)),
    SimulatedData(num_samples=700, num_loci=40, linkage="cross", effects="exponential"),
    SimulatedData(num_samples=1, num_loci=1, order=(1,)),
]


@pytest.mark.parametrize("settings", VARIED, ids=["haploid", "dosage", "cross", "smallest"])
def test_the_streamed_file_is_the_dataset_in_memory_byte_for_byte(settings: SimulatedData, tmp_path: Path) -> None:
    told: list[int] = []
    write_simulation(tmp_path / "streamed.h5", settings, 3, progress=told.append)
    dataset = simulate(settings, 3)
    write_dataset(tmp_path / "at_once.h5", dataset)
    assert (tmp_path / "streamed.h5").read_bytes() == (tmp_path / "at_once.h5").read_bytes()
    assert sum(told) == settings.num_samples
    assert len(told) == (3 if settings.num_loci == 1_000 else 1)
    with DatasetFile(tmp_path / "streamed.h5") as written:
        read = written.load()
    np.testing.assert_array_equal(read.genotypes, dataset.genotypes)
    np.testing.assert_array_equal(read.phenotypes, dataset.phenotypes)
    assert read.truth.keys() == dataset.truth.keys()
    for name, array in dataset.truth.items():
        np.testing.assert_array_equal(read.truth[name], array)
        assert read.truth[name].dtype == array.dtype
    assert read.provenance == dataset.provenance
    assert read.ploidy == settings.ploidy


@pytest.mark.parametrize("settings", VARIED, ids=["haploid", "dosage", "cross", "smallest"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_dataset(
    settings: SimulatedData, tmp_path: Path
) -> None:
    for name, seed in (("a.h5", 1), ("b.h5", 1), ("c.h5", 2)):
        write_simulation(tmp_path / name, settings, seed)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert (tmp_path / "a.h5").read_bytes() != (tmp_path / "c.h5").read_bytes()
    first, second = simulate(settings, 1), simulate(settings, 2)
    assert not np.array_equal(first.phenotypes, second.phenotypes)
    assert first.truth["offset"] != second.truth["offset"]
    if settings.num_samples > 1:
        assert not np.array_equal(first.genotypes, second.genotypes)


def test_its_own_seed_wins_over_the_seed_of_the_run(tmp_path: Path) -> None:
    settings = SimulatedData(num_samples=100)
    write_simulation(tmp_path / "own.h5", dataclasses.replace(settings, seed=5), 99)
    write_simulation(tmp_path / "run.h5", settings, 5)
    assert (tmp_path / "own.h5").read_bytes() == (tmp_path / "run.h5").read_bytes()
    assert simulate(dataclasses.replace(settings, seed=0), 99).provenance["seed"] == 0


def test_the_dataset_says_what_it_is(tmp_path: Path) -> None:
    settings = SimulatedData(
        num_samples=30, num_loci=9_000, order=(2, 3), environments=("23C", "30C"), allele_frequency=(0.25,) * 9_000
    )
    write_simulation(tmp_path / "data.h5", settings, 8)
    with DatasetFile(tmp_path / "data.h5") as written:
        dataset = written.load()
    assert dataset.sample_ids.tolist()[:2] == ["sample_0", "sample_1"]
    assert dataset.locus_ids.tolist()[-1] == "locus_8999"
    assert dataset.environment_names == ("23C", "30C")
    assert (dataset.chromosomes, dataset.positions, dataset.splits) == (None, None, {})
    assert {name: array.shape for name, array in dataset.truth.items()} == {
        "additive/coefficients": (9_000, 3),
        "epsilon": (),
        "interactions/order_2/coefficients": (9_000, 3),
        "interactions/order_2/loci": (9_000, 2),
        "interactions/order_3/coefficients": (9_000, 3),
        "interactions/order_3/loci": (9_000, 3),
        "noise_ceiling_r2": (2,),
        "noise_free": (30, 2),
        "offset": (),
    }
    arrays = (dataset.genotypes, dataset.phenotypes, dataset.truth["noise_free"])
    assert [array.dtype for array in arrays] == [np.int8, np.float32, np.float64]
    assert (dataset.provenance["made_by"], dataset.provenance["seed"]) == ("gpmap simulate", 8)
    told = json.loads(str(dataset.provenance["settings"]))
    assert list(told) == sorted(told)
    assert (told["num_samples"], told["seed"], told["environments"]) == (30, 8, ["23C", "30C"])
