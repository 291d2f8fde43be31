"""`gpmap predict`: phenotypes of genotypes, in their own units, for every environment the model knows."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path

from gpmap_cli.commands.asked_environments import asked_environments, own_environments
from gpmap_cli.commands.fitted import TIMES_HELD, FinishedRun, say_covariates
from gpmap_cli.commands.terminal import show_result
from gpmap_cli.config.schema import Config
from gpmap_cli.run_dir.layout import RunDirectory, RunLog
from gpmap_cli.run_dir.provenance import provenance
from gpmap_cli.run_dir.results import write_prediction_std, write_predictions

log = logging.getLogger("gpmap")


def run(config: Config, path: Path) -> None:
    """Predict from a checked configuration into the run directory `path`."""
    started, root = datetime.now().astimezone(), config.root
    finished = FinishedRun(root.run)
    source, _ = finished.source_for(config.data)
    source.check()
    predictor = finished.load(root.device, root.precision)
    dataset = source.load(root.genotype_bytes(TIMES_HELD), path)
    genotypes = predictor.genotypes_of(dataset)
    if root.environments is None:
        asked = own_environments(predictor)
    else:
        asked = asked_environments(root.environments, predictor, dataset)
    directory = RunDirectory(path)
    directory.claim({"command": "predict", **config.mapping()})
    with RunLog(directory):
        log.info("model of %s on %s, %d samples", root.run, source.name, dataset.num_samples)
        if predictor.matches_by_order:
            log.info("the model came without names: loci and environments match by order")
        say_covariates(predictor, dataset)
        predicted = asked.predict(predictor, genotypes, dataset.sample_covariates)
        names = asked.names
        write_predictions(directory, dataset, names, predicted, observed=None, split=None)
        std = asked.predict_std(predictor, genotypes, dataset.sample_covariates)
        if std is not None:
            write_prediction_std(directory, dataset, names, std, split=None)
        directory.write_json("provenance.json", provenance(started, source.identity(), None, predictor.model.device))
        show_result(f"{dataset.num_samples} samples x {len(names)} environments in predictions.csv.gz", directory.path)
