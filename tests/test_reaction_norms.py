"""Environments by their covariates: reaction norms, what they predict of environments never seen, and the commands."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from gpmap_cli.dataset.coding import PhenotypeScale
from gpmap_cli.dataset.reaction_norms import KnownEnvironments
from gpmap_cli.errors import InputError

TRAINED = "[23C,25C,27C,31C,33C,35C,37C]"
ALL = "[23C,25C,27C,29C,31C,33C,35C,37C]"


def environments_of(phenotypes, **covariates):
    scale = PhenotypeScale.learn(phenotypes)
    names = tuple(f"e{number}" for number in range(phenotypes.shape[1]))
    return KnownEnvironments.learn(names, covariates, scale, scale.standardise(phenotypes))


def polynomial_phenotypes(temperatures, degree, noise=0.0, num_samples=300, seed=0):
    """Phenotypes (N, E) that are a polynomial of the temperature for every sample, in units that differ."""
    rng = np.random.default_rng(seed)
    powers = np.stack([((np.asarray(temperatures) - 30) / 4) ** k for k in range(degree + 1)])
    values = rng.normal(0.3, 1, (num_samples, degree + 1)) @ powers
    return values + noise * values.std(axis=0) * rng.normal(size=values.shape)


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("asked", [None, "same"])
def test_polynomials_are_predicted_exactly(degree, asked):
    temperatures = np.array([23.0, 25, 27, 30, 33, 37])
    norms, rows = environments_of(polynomial_phenotypes(temperatures, degree), temperature=temperatures).norms(
        ("temperature",), degree if asked else None
    )
    assert norms.degree == degree
    assert rows.tolist() == list(range(6))
    weights = norms.weights(np.array([[29.0], [20.0]]))
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    new = polynomial_phenotypes([*temperatures, 29, 20], degree, seed=1)
    np.testing.assert_allclose(new[:, :6] @ weights.T, new[:, 6:], rtol=1e-8, atol=1e-8)


def test_several_covariates_and_environments_without_them():
    rng = np.random.default_rng(0)
    temperature = np.array([23.0, 23, 30, 30, 37, 37, np.nan])
    dose = np.array([0.0, 2, 0, 1, 1, 3, 1])
    coefficients = rng.normal(size=(50, 3))

    def phenotypes(t, c):
        return coefficients @ np.stack([np.ones(len(t)), np.nan_to_num(t) / 30, c])

    environments = environments_of(phenotypes(temperature, dose), temperature=temperature, dose=dose)
    norms, rows = environments.norms(("dose", "temperature"), 1)
    assert rows.tolist() == [0, 1, 2, 3, 4, 5]
    weights = norms.weights(np.array([[2.5, 33.0]]))
    expected = phenotypes(np.array([33.0]), np.array([2.5]))
    np.testing.assert_allclose(phenotypes(temperature, dose)[:, rows] @ weights.T, expected, rtol=1e-9)
    with pytest.raises(InputError, match="`e6` has no `temperature`") as caught:
        environments.whole_norms(("temperature",))
    assert "data.environment_covariates={e6: {temperature: 23}}" in caught.value.problems[0].hint
    with pytest.raises(InputError, match="`temperatur` is not a covariate") as caught:
        environments.norms(("temperatur",))
    assert "temperature" in caught.value.problems[0].hint


def test_the_degree_is_what_predicts_an_environment_left_out():
    temperatures = np.array([23.0, 25, 27, 29, 31, 33, 35])
    noisy = environments_of(polynomial_phenotypes(temperatures, 1, noise=0.5), temperature=temperatures)
    assert noisy.norms(("temperature",))[0].degree == 1
    assert noisy.norms(("temperature",), 3)[0].degree == 3
    three = environments_of(polynomial_phenotypes(temperatures[:3], 1), temperature=temperatures[:3])
    assert three.norms(("temperature",))[0].degree == 2
    one = environments_of(polynomial_phenotypes(temperatures[:1], 1), temperature=temperatures[:1])
    assert one.norms(("temperature",))[0].degree == 0


def test_correlations_are_over_samples_measured_in_both():
    phenotypes = polynomial_phenotypes([23.0, 30, 37], 2)
    phenotypes[::3, 0] = np.nan
    phenotypes[1::4, 1] = np.nan
    found = environments_of(phenotypes, temperature=np.array([23.0, 30, 37])).correlation
    np.testing.assert_allclose(found, pd.DataFrame(phenotypes).corr().to_numpy(), rtol=1e-9)
    apart = np.full((8, 2), np.nan)
    apart[:4, 0], apart[4:, 1] = np.arange(4), np.arange(4)
    assert environments_of(apart).correlation.tolist() == [[1, 1], [1, 1]]


def test_coordinates_are_unit_vectors_whose_products_are_genetic_correlations():
    temperatures = np.array([23.0, 25, 27, 30, 33, 37])
    phenotypes = polynomial_phenotypes([*temperatures, 29.0], 2)
    norms, _ = environments_of(phenotypes[:, :6], temperature=temperatures).norms(("temperature",), 2)
    rows = norms.coordinates(np.array([[one] for one in (*temperatures, 29.0)]))
    np.testing.assert_allclose(rows @ rows.T, np.corrcoef(phenotypes.T), atol=1e-8)
    basis = norms.basis()
    np.testing.assert_allclose(basis.T @ basis, 6 * np.eye(3), atol=1e-9)


def test_what_is_known_survives_the_disk():
    temperatures = np.array([23.0, 25, 27, 30])
    one = environments_of(polynomial_phenotypes(temperatures, 2), temperature=temperatures)
    again = KnownEnvironments.from_state(one.names, one.scale, one.state())
    there, here = (known.norms(("temperature",))[0].weights(np.array([[28.0]])) for known in (one, again))
    np.testing.assert_array_equal(there, here)


# -- the commands -----------------------------------------------------------------------------------------


@pytest.fixture
def simulated(gpmap):
    """Eight temperatures, second-order epistasis."""
    words = ("data.num_samples=1200", "data.num_loci=6", "data.order=2", f"data.environments={ALL}")
    result = gpmap("simulate", *words, "hydra.run.dir=sim")
    assert result.returncode == 0, result.stderr
    return gpmap


SAME = ("data=file", "data.path=sim/dataset.h5")


def score(tmp_path, name):
    return {
        environment: values["r2"]
        for environment, values in json.loads((tmp_path / name / "metrics.json").read_text())["splits"]["test"][
            "environments"
        ].items()
    }


@pytest.mark.parametrize(
    "words",
    [
        ("model=pairwise",),
        ("model=transformer", "model.environment_covariates=[temperature]", "training.epochs=15", "model.num_units=64"),
    ],
    ids=["pairwise", "transformer"],
)
def test_an_unseen_temperature_is_predicted_as_well_as_those_trained(simulated, tmp_path, words):
    """29C, where phenotypes vary least and effects are another mixture than in its neighbours."""
    result = simulated("train", *SAME, *words, f"data.environments={TRAINED}", "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr
    asked = ("environments=[29C,31C]", "rows=test")
    result = simulated("evaluate", "run=run", *SAME, *asked, "hydra.run.dir=scored")
    assert result.returncode == 0, result.stderr
    found = score(tmp_path, "scored")
    assert list(found) == ["29C", "31C"]
    assert found["29C"] > 0.9
    trained = score(tmp_path, "run")
    assert found["31C"] == pytest.approx(trained["31C"], abs=1e-6)
    assert found["29C"] > np.mean(list(trained.values())) - 0.04
    result = simulated("predict", "run=run", "environments={29C: {temperature: 29}}", "hydra.run.dir=predicted")
    assert result.returncode == 0, result.stderr
    assert "1200 samples x 1 environments" in result.stdout
    table = pd.read_csv(tmp_path / "predicted" / "predictions.csv.gz", dtype={"sample_id": str})
    assert set(table.environment) == {"29C"}
    scored = pd.read_csv(tmp_path / "scored" / "predictions.csv.gz", dtype={"sample_id": str})
    both = scored[scored.environment == "29C"].merge(table, on="sample_id")
    np.testing.assert_allclose(both.predicted_x, both.predicted_y, rtol=1e-6)
    # The nearest trained temperature, even if its mean and standard deviation were those of 29C.
    near = scored[scored.environment == "31C"].predicted.to_numpy()
    observed = both.observed_x.to_numpy()
    near = (near - near.mean()) / near.std() * observed.std() + observed.mean()
    assert 1 - ((observed - near) ** 2).sum() / ((observed - observed.mean()) ** 2).sum() < found["29C"] - 0.1


def test_attention_is_told_of_environments_by_covariates(simulated, tmp_path):
    words = ("model=attention_multi_env", "model.environment_covariates=[temperature]", "training=debug")
    result = simulated("train", *SAME, *words, f"data.environments={TRAINED}", "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr
    with np.load(tmp_path / "run" / "checkpoints" / "best.npz") as archive:
        # The slots do not grow with the environments: 12 + 3 + 1 numbers for a token, 7 environments.
        assert archive["model/query_matrix_1"].shape == (16, 16)
        assert archive["model/coordinates"].shape == (7, 3)
    result = simulated("predict", "run=run", "environments={29C: {temperature: 29}, 31C: {}}", "hydra.run.dir=new")
    assert result.returncode == 0, result.stderr
    assert "1200 samples x 2 environments" in result.stdout
    assert simulated("explain", "run=run", "num_genotypes=3", "hydra.run.dir=maps").returncode == 0


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["environments=[29C]"], "`29C` is not an environment of the model", "environments={29C: {temperature: 29}}"),
        (["environments={29C: {dose: 1}}"], "`dose` is not a covariate of the model's", "temperature"),
        (["environments={29C: hot}"], "environments must be", "environments"),
        (["environments=[]"], "environments is empty", "leave it out"),
    ],
)
def test_new_environments_that_cannot_be_predicted(simulated, tmp_path, words, message, hint):
    simulated("train", *SAME, "model=mean", f"data.environments={TRAINED}", "hydra.run.dir=run")
    result = simulated("predict", "run=run", *words, "hydra.run.dir=predicted")
    assert result.returncode == 2
    assert message in result.stderr
    assert hint in result.stderr.split("hint:")[1]
    assert not (tmp_path / "predicted").exists()


def test_what_lies_outside_is_said(simulated):
    simulated("train", *SAME, "model=mean", f"data.environments={TRAINED}", "hydra.run.dir=run")
    result = simulated("predict", "run=run", "environments={42C: {temperature: 42}}", "hydra.run.dir=predicted")
    assert result.returncode == 0
    assert "42C: temperature 42 is outside of the model's 23 to 37: extrapolated" in result.stderr


def test_covariates_from_the_command_line(gpmap, tmp_path):
    given = "data.environment_covariates={ACE2: {charge: 1}, CB6: {charge: 2}, S309: {charge: 4}}"
    words = ("train", "data=rbd", "data.num_samples=400", "data.environments=[ACE2,CB6,S309]", "model=ridge")
    assert gpmap(*words, given, "hydra.run.dir=run").returncode == 0
    result = gpmap("predict", "run=run", "environments={other: {charge: 3}}", "hydra.run.dir=predicted")
    assert result.returncode == 0, result.stderr
    table = pd.read_csv(tmp_path / "predicted" / "predictions.csv.gz")
    assert np.isfinite(table.predicted).all()
    result = gpmap(*words, "data.environment_covariates={ACE: {charge: 1}}", "hydra.run.dir=wrong")
    assert result.returncode == 2
    assert "ACE2" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.environment_covariates=[dose]"], "`dose` is not a covariate of the environments"),
        (["model.environment_covariates=[]"], "model.environment_covariates is empty"),
        (["model.environment_covariates=[temperature,temperature]"], "names one twice"),
        (["model.covariate_degree=2"], "model.environment_covariates, which is not set"),
        (["data.environment_covariates=3"], "data.environment_covariates must be a mapping"),
        (["data.environment_covariates={23C: {temperature: warm}}"], "data.environment_covariates must be a number"),
    ],
)
def test_covariates_that_cannot_be(simulated, words, message):
    result = simulated("train", *SAME, "model=transformer", *words, "training=debug", "hydra.run.dir=run")
    assert result.returncode == 2
    assert message in result.stderr
    assert "hint:" in result.stderr
