"""`gpmap evaluate`: score a fitted model on its own data, or on others genotyped at the same loci."""

from __future__ import annotations

import logging
import time
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.commands.asked_environments import AskedEnvironments, asked_environments
from gpmap_cli.commands.fitted import TIMES_HELD, FinishedRun, say_covariates
from gpmap_cli.commands.terminal import show_result
from gpmap_cli.config.schema import Config
from gpmap_cli.dataset.contents import SPLIT_NAMES, Dataset
from gpmap_cli.dataset.disk_genotypes import select_rows
from gpmap_cli.dataset.mutations import mutation_counts
from gpmap_cli.dataset.splits import Labels, split_hash
from gpmap_cli.errors import InputError, did_you_mean, listing
from gpmap_cli.report.tables import run_table
from gpmap_cli.run_dir.layout import COMPLETED, RunDirectory, RunLog
from gpmap_cli.run_dir.mutation_table import scores_by_mutations, write_mutation_table
from gpmap_cli.run_dir.predictor import FittedPredictor
from gpmap_cli.run_dir.provenance import peak_memory_mb, provenance, reset_peak_memory
from gpmap_cli.run_dir.results import score_parts, write_metric_files, write_prediction_std, write_predictions

log = logging.getLogger("gpmap")


def run(config: Config, path: Path) -> None:
    """Evaluate from a checked configuration into the run directory `path`."""
    started, root = datetime.now().astimezone(), config.root
    reset_peak_memory()
    finished = FinishedRun(root.run)
    source, is_own = finished.source_for(config.data)
    source.check()
    predictor = finished.load(root.device, root.precision)
    began = time.perf_counter()
    dataset = source.load(root.genotype_bytes(TIMES_HELD), path)
    asked = _asked(config, predictor, dataset)
    needs_validation = predictor.model.needs_validation(predictor.model.settings)
    labels = finished.labels(config, dataset, is_own, needs_validation)
    parts = _parts(root.rows, labels, dataset.num_samples)
    genotypes = predictor.genotypes_of(dataset)
    loaded = time.perf_counter()
    directory = RunDirectory(path)
    directory.claim({"command": "evaluate", **config.mapping()})
    with RunLog(directory):
        log.info("model of %s on %s, %d samples", root.run, source.name, dataset.num_samples)
        if predictor.matches_by_order:
            log.info("the model came without names: loci and environments match by order")
        say_covariates(predictor, dataset)
        names = asked.names
        observed = dataset.phenotypes[:, [dataset.environment_names.index(name) for name in names]]
        wanted = np.zeros(dataset.num_samples, bool)
        for rows in parts.values():
            wanted |= rows
        kept = np.flatnonzero(wanted)
        # All samples are no copy of them: memory_limit counts what is held twice.
        looked_at = genotypes if wanted.all() else select_rows(genotypes, kept)
        part = dataset if wanted.all() else dataset.take_rows(kept)
        predicted = np.full(observed.shape, np.nan)
        predicted[kept] = asked.predict(predictor, looked_at, part.sample_covariates)
        splits = score_parts(observed, predicted, parts, names, finished.seed)
        split = finished.split(config, is_own)
        if split is not None and split.method == "mutation_order":
            counts = mutation_counts(dataset, split.reference)
            write_mutation_table(directory, scores_by_mutations(observed, predicted, parts, names, counts))
        part_names = np.full(dataset.num_samples, "", dtype=object)
        for name, rows in parts.items():
            part_names[rows] = name
        write_predictions(directory, part, names, predicted[kept], observed[kept], part_names[kept])
        std = asked.predict_std(predictor, looked_at, part.sample_covariates)
        if std is not None:
            write_prediction_std(directory, part, names, std, part_names[kept])
        metrics = {
            "status": COMPLETED,
            "run": root.run,
            "model": predictor.model.name,
            "data": source.name,
            "seed": finished.seed,
            "num_parameters": predictor.model.num_parameters,
            "splits": splits,
            "seconds": {"load": loaded - began, "fit": None, "evaluate": time.perf_counter() - loaded},
            "peak_memory_mb": peak_memory_mb(),
        }
        ceilings = dataset.noise_ceiling_r2
        if ceilings:
            metrics["noise_ceiling_r2"] = {
                name: value if np.isfinite(value := ceilings[name]) else None for name in names
            }
        sha256 = None if labels is None else split_hash(labels)
        directory.write_json("provenance.json", provenance(started, source.identity(), sha256, predictor.model.device))
        write_metric_files(directory, metrics)
        show_result(run_table(metrics), directory.path)


def _asked(config: Config, predictor: FittedPredictor, dataset: Dataset) -> AskedEnvironments:
    """The environments to score: those that model and data share, or those asked for, new ones among them."""
    if config.root.environments is None:
        columns = matching_environments(predictor, dataset)
        names = tuple(dataset.environment_names[theirs] for theirs, _ in columns)
        return AskedEnvironments(names, tuple(ours for _, ours in columns))
    asked = asked_environments(config.root.environments, predictor, dataset)
    for name in asked.names:
        if name not in dataset.environment_names:
            hint = did_you_mean(name, dataset.environment_names) if dataset.environment_names else "use gpmap predict"
            raise InputError(f"environments: the data have no phenotypes in `{name}` to score against", hint)
    return asked


def matching_environments(predictor: FittedPredictor, dataset: Dataset) -> list[tuple[int, int]]:
    """(column in the data, column of the model) of every environment to score; refused when none matches."""
    theirs, ours = dataset.environment_names, predictor.environment_names
    if not theirs:
        raise InputError("these data have no phenotypes to score against", "use gpmap predict")
    pairs = [(theirs.index(name), number) for number, name in enumerate(ours) if name in theirs]
    if pairs:
        return pairs
    if predictor.matches_by_order and len(theirs) == len(ours):
        return [(number, number) for number in range(len(ours))]
    raise InputError(
        f"the model knows {listing(ours, 6)} and the data have {listing(theirs, 6)}: no environment in common",
        "use data with phenotypes in the model's environments",
    )


def _parts(rows: str, labels: Labels | None, num_samples: int) -> dict[str, NDArray[np.bool_]]:
    if labels is None:
        return {"all": np.ones(num_samples, bool)}
    return {name: labels == number for number, name in enumerate(SPLIT_NAMES) if rows in ("all", name)}
