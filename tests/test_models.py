"""The contract every model keeps; a new model is picked up by itself."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
import yaml
from conftest import ROOT, make_samples, split_samples

from gpmap_cli import models
from gpmap_cli.dataset.coding import Samples
from gpmap_cli.errors import InputError
from gpmap_cli.training.context import FitContext
from gpmap_cli.training.settings import TrainingSettings

QUICK = TrainingSettings("test", epochs=2, batch_size=32, learning_rate=0.01, initial_scale=0.3)
NAMES = models.names()


def fitted(name, samples=None, seed=3, num_environments=2):
    samples = make_samples(num_environments=num_environments) if samples is None else samples
    train, validation = split_samples(samples)
    environments = tuple(f"e{number}" for number in range(samples.phenotypes.shape[1]))
    model = models.model_class(name)(models.settings_class(name)())
    model.fit(train, validation, FitContext(seed, environments, QUICK))
    return model


def test_every_model_has_a_configuration_and_every_configuration_a_model():
    configured = {path.stem for path in (ROOT / "configs" / "model").glob("*.yaml")}
    assert configured == set(NAMES)
    assert {"mean", "ridge", "pairwise", "attention", "attention_multi_env"} <= configured


@pytest.mark.parametrize("name", NAMES)
def test_configuration_has_the_defaults_of_the_settings(name):
    written = yaml.safe_load((ROOT / "configs" / "model" / f"{name}.yaml").read_text())
    assert list(written) == [item.name for item in fields(models.settings_class(name))]
    assert written == {item.name: item.default for item in fields(models.settings_class(name))}


@pytest.mark.parametrize("name", NAMES)
def test_importing_a_model_imports_no_array_library(name):
    code = f"import sys, gpmap_cli.models.{name}; print([m for m in ('torch', 'numpy', 'h5py') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", NAMES)
def test_shape_and_finite_predictions(name):
    model = fitted(name)
    predicted = model.predict(make_samples(seed=9).genotypes)
    assert predicted.shape == (200, 2)
    assert predicted.dtype == np.float64
    assert np.isfinite(predicted).all()
    assert model.num_parameters > 0
    assert isinstance(model.describe(), dict)


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_restored_it_predicts_the_same(name):
    model, genotypes = fitted(name), make_samples(seed=9).genotypes
    state = model.state()
    assert all(isinstance(array, np.ndarray) and array.dtype != object for array in state.values())
    again = models.model_class(name).from_state(models.settings_class(name)(), state)
    np.testing.assert_array_equal(again.predict(genotypes), model.predict(genotypes))
    assert again.num_parameters == model.num_parameters


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_model(name):
    genotypes = make_samples(seed=9).genotypes
    np.testing.assert_array_equal(fitted(name).predict(genotypes), fitted(name).predict(genotypes))


@pytest.mark.parametrize("name", NAMES)
def test_permuting_samples_permutes_predictions(name):
    model, genotypes = fitted(name), make_samples(seed=9).genotypes
    order = np.random.default_rng(1).permutation(len(genotypes))
    shuffled = model.predict(genotypes.take(order))
    np.testing.assert_allclose(shuffled, model.predict(genotypes)[order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_missing_genotypes_and_phenotypes_are_taken(name):
    model = fitted(name, make_samples(missing=0.1))
    assert np.isfinite(model.predict(make_samples(seed=9, missing=0.2).genotypes)).all()


@pytest.mark.parametrize("name", NAMES)
def test_diploid_dosages_are_taken(name):
    assert np.isfinite(fitted(name, make_samples(ploidy=2)).predict(make_samples(ploidy=2, seed=9).genotypes)).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_phenotype_masks_only_its_own_cell(name):
    """The second environment's phenotypes change nothing for the first, except in joint models."""
    samples = make_samples(num_environments=2)
    other = samples.phenotypes.copy()
    other[::3, 1] = np.nan
    first = fitted(name, samples).predict(samples.genotypes)[:, 0]
    second = fitted(name, Samples(samples.genotypes, other)).predict(samples.genotypes)[:, 0]
    if models.model_class(name).joint_environments:
        assert not np.array_equal(first, second)
    else:
        np.testing.assert_allclose(first, second, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_unfitted(name):
    model = models.model_class(name)(models.settings_class(name)())
    with pytest.raises(RuntimeError, match="not been fitted"):
        model.predict(make_samples().genotypes)
    with pytest.raises(RuntimeError, match="not been fitted"):
        model.state()


@pytest.mark.parametrize("name", NAMES)
def test_wrong_loci(name):
    with pytest.raises(InputError, match=r"6 loci.*have 7"):
        fitted(name).predict(make_samples(num_loci=7).genotypes)


@pytest.mark.parametrize("name", NAMES)
def test_an_environment_without_phenotypes_is_named(name):
    samples = make_samples()
    samples.phenotypes[:150, 1] = np.nan
    with pytest.raises(InputError, match="`e1` has no phenotype"):
        fitted(name, samples)


@pytest.mark.parametrize("name", NAMES)
def test_hopeless_input_gives_finite_predictions(name):
    """Constant loci, duplicated loci, a constant phenotype, three samples."""
    samples = make_samples(num_samples=53)
    samples.genotypes.stored[:, 0] = 1
    samples.genotypes.stored[:, 1] = samples.genotypes.stored[:, 2]
    samples.phenotypes[:, 1] = 0.0
    train, validation = split_samples(samples)
    assert len(train) == 3
    model = models.model_class(name)(models.settings_class(name)())
    model.fit(train, validation, FitContext(0, ("e0", "e1"), QUICK))
    assert np.isfinite(model.predict(samples.genotypes)).all()


def test_an_unknown_model_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match="not a model") as caught:
        models.settings_class("atention")
    assert caught.value.problems[0].hint == "did you mean model=attention?"
    with pytest.raises(InputError):
        models.model_class("base")  # a module of the package, but no model
