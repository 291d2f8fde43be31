"""Fitted predictors and functions that are known, for tests of what is learned."""

from __future__ import annotations

import numpy as np
from conftest import make_samples, split_samples

from gpmap_cli import models
from gpmap_cli.dataset.coding import PhenotypeScale
from gpmap_cli.explain.differences import Substitutions
from gpmap_cli.run_dir.predictor import FittedPredictor
from gpmap_cli.training.context import FitContext
from gpmap_cli.training.settings import TrainingSettings

QUICK = TrainingSettings("test", epochs=1, batch_size=32, learning_rate=0.01, initial_scale=0.3)


def predictor_of(name, scale=(3.0, 0.5), ploidy=1, **settings):
    """A model fitted to simulated samples at 6 loci, and their genotypes."""
    train, validation = split_samples(make_samples(150, ploidy=ploidy))
    model = models.model_class(name)(models.settings_class(name)(**settings))
    model.fit(train, validation, FitContext(3, ("e0", "e1"), QUICK, precision="float64"))
    units = PhenotypeScale(np.array([1.0, 2.0]), np.array(scale))
    ids = tuple(f"l{number}" for number in range(6))
    return FittedPredictor(model, train.genotypes.coding, units, ids, ("e0", "e1")), train.genotypes.stored


def substitutions(function, genotypes, ploidy=1):
    return Substitutions(lambda some, which: function(some), genotypes, ploidy)


def coded(genotypes, ploidy=1):
    return 2.0 * genotypes / ploidy - 1


def draw(num_genotypes=60, num_loci=6, ploidy=1, seed=1):
    return np.random.default_rng(seed).integers(0, ploidy + 1, (num_genotypes, num_loci)).astype(np.int8)
