"""What a scan of a fitted model works on: its predictions, in place of the phenotypes that it was fitted to."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from gpmap_cli.commands.fitted import FinishedRun, say_covariates
from gpmap_cli.config.schema import Config
from gpmap_cli.data_source import Source, open_source
from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.settings import Split
from gpmap_cli.dataset.splits import Labels, make_split
from gpmap_cli.errors import InputError
from gpmap_cli.explain.true_terms import Truth
from gpmap_cli.simulate.true_terms import true_terms

log = logging.getLogger("gpmap")


def source_of(config: Config) -> Source:
    """Where the samples come from: the configured data, or those that the model to be scanned was fitted to."""
    if config.root.run is None:
        return open_source(config.data, config.root.seed)
    if config.prune.is_on:
        raise InputError(
            "prune.max_abs_r has no meaning for a fitted model: its own loci are scanned", "leave prune.max_abs_r out"
        )
    return FinishedRun(config.root.run).source_for(None)[0]


def labels_of(config: Config, dataset: Dataset) -> Labels:
    """The parts of the samples, by the split that is configured; of a model's own data by its run's."""
    if config.root.run is None or config.split is not None:
        return make_split(config.split or Split(), dataset, config.root.seed)
    labels = FinishedRun(config.root.run).labels(config, dataset, True, False)
    assert labels is not None  # a run's own data always have a split
    return labels


def with_predictions(run: str, dataset: Dataset, device: str) -> tuple[Dataset, Truth | None]:
    """The samples at the model's loci, with its predictions (N, E) as phenotypes; and the true terms, if known."""
    predictor = FinishedRun(run).load(device, None)
    say_covariates(predictor, dataset)
    genotypes = predictor.genotypes_of(dataset)
    ids = dataset.locus_ids.tolist() if predictor.locus_ids is None else list(predictor.locus_ids)
    place = {locus: column for column, locus in enumerate(dataset.locus_ids.tolist())}
    theirs, ours = dataset.environment_names, predictor.environment_names
    truth = true_terms(dataset, ids, [theirs.index(name) if name in theirs else None for name in ours])
    predicted = predictor.predict(genotypes, dataset.sample_covariates)
    log.info("the predictions of %s in place of the phenotypes: %s", predictor.model.name, run)
    at_loci = dataset.with_loci(np.array([place[locus] for locus in ids]), genotypes)
    # Covariates act on predictions too, but a prediction has no measurement error.
    return replace(
        at_loci, phenotypes=predicted.astype(np.float32), environment_names=ours, phenotype_std=None, truth={}
    ), truth
