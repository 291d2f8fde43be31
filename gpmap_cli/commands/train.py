"""`gpmap train`: split, fit, score, and keep everything in a run directory that can be resumed at any moment."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli import models
from gpmap_cli.commands.devices import choose_device
from gpmap_cli.commands.fitting import FitSamples, fit_samples
from gpmap_cli.commands.model_figures import draw_model
from gpmap_cli.commands.processes import Helper, Team, team
from gpmap_cli.commands.run_status import mark, run_to_the_end
from gpmap_cli.commands.terminal import TerminalReporter, progress_bar, show_result
from gpmap_cli.config.schema import Config, load_config
from gpmap_cli.data_source import Source, open_source
from gpmap_cli.dataset.contents import SPLIT_NAMES, Dataset
from gpmap_cli.dataset.disk_genotypes import select_rows
from gpmap_cli.dataset.mutations import mutation_counts
from gpmap_cli.dataset.sample_groups import check_groups_file
from gpmap_cli.dataset.splits import Labels, about_split, make_split, split_hash
from gpmap_cli.errors import InputError
from gpmap_cli.ld_pruning.dataset_pruning import prune
from gpmap_cli.ld_pruning.deciding import ALL_SAMPLES, by_split, deciding_samples
from gpmap_cli.ld_pruning.record import what_pruning_has_seen
from gpmap_cli.ld_pruning.settings import Pruning
from gpmap_cli.report.tables import run_table
from gpmap_cli.run_dir.checkpoints import LastCheckpoint
from gpmap_cli.run_dir.layout import COMPLETED, RUNNING, RunDirectory
from gpmap_cli.run_dir.model_tables import write_tables
from gpmap_cli.run_dir.mutation_table import mutations_line, scores_by_mutations, write_mutation_table
from gpmap_cli.run_dir.predictor import FittedPredictor
from gpmap_cli.run_dir.provenance import peak_memory_mb, provenance
from gpmap_cli.run_dir.results import score_parts, write_metric_files, write_prediction_std, write_predictions
from gpmap_cli.training.context import FitContext, Stop, World

log = logging.getLogger("gpmap")

# Genotypes in memory are held whole, once more as train and validation rows, and in linear models, where phenotypes are
# missing, once more as the training rows that are measured. With 70 % training and 15 % validation samples:
_TIMES_HELD = 1 + 0.85 + 0.7


def run(config: Config, path: Path, in_sweep: bool = False) -> None:
    """Train from a checked configuration in the run directory `path`."""
    directory = RunDirectory(path)
    source = open_source(config.data, config.root.seed)
    source.check()
    check_groups_file(config.split)
    if in_sweep and directory.holds_a_run:
        _run_again(config, directory, source)
        return
    directory.claim(config.mapping())
    _Run(config, directory, source).go()


def resume(path: Path) -> None:
    """Continue the run in `path` with its own configuration, to the result it would have had uninterrupted."""
    directory = RunDirectory(path)
    config = load_config("train", directory.read_config())
    if _is_completed(directory):
        log.info("%s is completed already", path)
        _show(directory)
        return
    source = open_source(config.data, config.root.seed)
    source.check()
    log.info("resuming %s", path)
    _Run(config, directory, source).go()


def _run_again(config: Config, directory: RunDirectory, source: Source) -> None:
    """A job of a sweep that is run again in the same directory: done jobs stay, others go on."""
    if not _is_same(directory.read_config(), config):
        raise InputError(
            f"{directory.path}: this directory holds a run of another configuration",
            "choose another hydra.sweep.dir",
        )
    if _is_completed(directory):
        log.info("%s is completed already", directory.path)
        _show(directory)
        return
    log.info("continuing %s", directory.path)
    _Run(config, directory, source).go()


def _is_same(stored: dict[str, Any], config: Config) -> bool:
    """Whether a run's stored configuration is this one; settings that came later have their defaults in it."""
    try:
        return load_config("train", stored).mapping() == config.mapping()
    except InputError:  # it has settings of another version, or was never one of `train`
        return False


def _is_completed(directory: RunDirectory) -> bool:
    return (directory.read_metrics() or {}).get("status") == COMPLETED


def _show(directory: RunDirectory) -> None:
    show_result(run_table(directory.read_metrics() or {}), directory.path)


class _Run:
    """One training run."""

    def __init__(self, config: Config, directory: RunDirectory, source: Source) -> None:
        self._config, self._directory, self._source = config, directory, source
        self._started = datetime.now().astimezone()
        self._stop = Stop()
        earlier = (directory.read_metrics() or {}).get("seconds") or {}
        self._seconds: dict[str, float | None] = {"load": None, "fit": earlier.get("fit"), "evaluate": None}
        self._metrics: dict[str, Any] = {
            "status": RUNNING,
            "model": config.model.name,
            "data": source.name,
            "seed": config.root.seed,
            "num_parameters": None,
            "splits": {},
            "seconds": self._seconds,
            "peak_memory_mb": None,
        }

    def go(self) -> None:
        """Run to the end, or leave word of why not."""
        show = partial(_show, self._directory)
        run_to_the_end(self._train_and_score, show, self._directory, self._metrics, self._stop, "train")

    def _train_and_score(self) -> None:
        shares_fit = models.model_class(self._config.model.name).shares_fit
        done = self._directory.best_checkpoint.exists()
        with team(self._config, self._directory.path, self._stop, shares_fit, done) as processes:
            self._work(processes)

    def _work(self, processes: Team) -> None:
        config, began = self._config, time.perf_counter()
        dataset, labels, mutations = _data(config, self._source, self._directory.path)
        self._refuse_another_split(labels)
        self._seconds["load"] = time.perf_counter() - began
        self._metrics["seconds"]["load"] = self._seconds["load"]
        if dataset.noise_ceiling_r2:
            self._metrics["noise_ceiling_r2"] = {
                name: value if np.isfinite(value) else None for name, value in dataset.noise_ceiling_r2.items()
            }
        self._say(dataset, labels)
        model_class = models.model_class(config.model.name)
        device = choose_device(config.root.device, config.root.precision, model_class.needs_float64)
        device = processes.device(device)
        facts = self._source.identity()
        self._directory.write_json(
            "provenance.json",
            provenance(self._started, facts, split_hash(labels), device, processes.size) | {"ended": None},
        )
        predictor, world = self._fitted(dataset, labels, device, processes)
        self._metrics["num_parameters"] = predictor.model.num_parameters
        began = time.perf_counter()
        predicted = _predicted(predictor, dataset, world)
        parts = {name: labels == number for number, name in enumerate(SPLIT_NAMES)}
        self._metrics["splits"] = score_parts(
            dataset.phenotypes, predicted, parts, dataset.environment_names, config.root.seed
        )
        split_names = np.array((*SPLIT_NAMES, ""), dtype=object)[labels]
        names = dataset.environment_names
        if mutations is not None:
            by_mutations = scores_by_mutations(dataset.phenotypes, predicted, parts, names, mutations)
            write_mutation_table(self._directory, by_mutations)
            log.info("%s", mutations_line(by_mutations))
        write_predictions(self._directory, dataset, names, predicted, dataset.phenotypes, split_names)
        if getattr(config.model, "standard_deviations", False):
            std = predictor.predict_std(dataset.genotypes, dataset.sample_covariates)
            if std is not None:
                write_prediction_std(self._directory, dataset, names, std, split_names)
        self._seconds["evaluate"] = time.perf_counter() - began
        draw_model(self._directory.path, predictor, dataset, predicted, labels)
        self._directory.write_json(
            "provenance.json", provenance(self._started, facts, split_hash(labels), device, processes.size)
        )
        self._metrics["status"] = COMPLETED
        self._metrics["peak_memory_mb"] = peak_memory_mb()
        write_metric_files(self._directory, self._metrics)

    def _refuse_another_split(self, labels: Labels) -> None:
        """A run that goes on must go on with the samples that it began with."""
        began_with = self._directory.split_sha256()
        if began_with is not None and began_with != split_hash(labels):
            raise InputError(
                f"{self._directory.path}: the split is not the one that this run began with",
                "has split.groups_file or the dataset changed? then start a new run",
            )

    def _fitted(self, dataset: Dataset, labels: Labels, device: str, processes: Team) -> tuple[FittedPredictor, World]:
        """Fit on the training rows, or read the fit that an interrupted run has already finished; and who has it."""
        config, path = self._config, self._directory.best_checkpoint
        if path.exists():
            log.info("the fit is finished already")
            return FittedPredictor.load(path, device, config.root.precision), World()
        samples = _fit_samples(config, dataset, labels)
        for line in samples.said:
            log.info("%s", line)
        model = models.model_class(config.model.name)(config.model)
        reporter = TerminalReporter(config.training.epochs)
        context = _context(config, samples, device, self._stop, processes, LastCheckpoint(self._directory.path))
        context.reporter = reporter
        began, before = time.perf_counter(), self._seconds["fit"] or 0.0
        try:
            model.fit(samples.train, samples.validation, context)
        finally:
            reporter.close()
            self._seconds["fit"] = before + time.perf_counter() - began
        for name, value in model.describe().items():
            log.info("%s: %s", name, _short(value))
        predictor = samples.predictor(model)
        mark(self._directory, self._metrics, RUNNING)
        write_tables(self._directory, model.tables(), samples.locus_ids, dataset.environment_names, samples.scale)
        predictor.save(path)
        return predictor, context.world

    def _say(self, dataset: Dataset, labels: Labels) -> None:
        """The options in effect and what was kept, at the top of the log."""
        config = self._config
        log.info("model %s", _options(config.model))
        log.info("data %s", _options(config.data))
        log.info("split %s, seed %d", _options(config.split), config.root.seed)
        found = [(int((labels == part).sum()), name) for part, name in enumerate((*SPLIT_NAMES, "in no part"))]
        counts = ", ".join(f"{count} {name}" for count, name in found if count or name in SPLIT_NAMES)
        missing = int(np.isnan(dataset.phenotypes).sum())
        log.info(
            "%d samples (%s), %d loci, %d environments, %d missing phenotypes",
            dataset.num_samples,
            counts,
            dataset.num_loci,
            len(dataset.environment_names),
            missing,
        )


def take_part(config: Config, scratch: Path, helper: Helper, stop: Stop) -> None:
    """What another process than the first does of a run: the same data, its part of the fit and of the predictions."""
    dataset, labels, _ = _data(config, open_source(config.data, config.root.seed), scratch)
    model_class = models.model_class(config.model.name)
    device = helper.device(choose_device(config.root.device, config.root.precision, model_class.needs_float64))
    samples = _fit_samples(config, dataset, labels)
    context = _context(config, samples, device, stop, helper, None)
    model = model_class(config.model)
    model.fit(samples.train, samples.validation, context)
    _predicted(samples.predictor(model), dataset, context.world)


def _data(config: Config, source: Source, scratch: Path) -> tuple[Dataset, Labels, NDArray[np.intp] | None]:
    """The samples, pruned where that is asked for, which of them train, choose and test, and their numbers of
    mutations where the split goes by these.
    """
    dataset = source.load(config.root.genotype_bytes(_TIMES_HELD), scratch)
    if not dataset.environment_names:
        raise InputError(f"data `{source.name}` have no phenotypes", "train on data with phenotypes")
    needs_validation = models.model_class(config.model.name).needs_validation(config.model)
    labels = make_split(config.split, dataset, config.root.seed, needs_validation)
    for line in about_split(config.split, dataset, labels):
        log.info("%s", line)
    mutations = None
    if config.split.method == "mutation_order":
        mutations = mutation_counts(dataset, config.split.reference)
    return _pruned(config.prune, dataset, labels, scratch), labels, mutations


def _pruned(pruning: Pruning, dataset: Dataset, labels: Labels, scratch: Path) -> Dataset:
    """The loci that LD pruning keeps, where it is asked for; says so when it has seen test samples' genotypes."""
    if pruning.is_on:
        if pruning.split is not None:
            deciding = deciding_samples(pruning, dataset)
        else:
            deciding = ALL_SAMPLES if pruning.rows == "all" else by_split(labels, "the run's", "the run's split")
        dataset, said = prune(dataset, deciding, pruning, progress_bar, scratch)
        if pruning.split is not None and deciding.labels is not None:
            dataset.splits[deciding.split] = deciding.labels
        log.info("%s", said)
    for line in what_pruning_has_seen(dataset, labels):
        log.info("%s", line)
    return dataset


def _fit_samples(config: Config, dataset: Dataset, labels: Labels) -> FitSamples:
    train, validation = (np.flatnonzero(labels == part) for part in (0, 1))
    return fit_samples(dataset, train, validation, getattr(config.data, "factors", None) or ())


def _context(
    config: Config, samples: FitSamples, device: str, stop: Stop, processes: Team, store: LastCheckpoint | None
) -> FitContext:
    """The circumstances of the fit, once all processes are ready for it."""
    world = processes.begin(device)
    return FitContext(
        seed=config.root.seed,
        environment_names=samples.environment_names,
        environments=samples.environments,
        training=config.training,
        device=device,
        precision=config.root.precision,
        checkpoints=processes.checkpoints(store),
        stop=stop,
        world=world,
    )


def _predicted(predictor: FittedPredictor, dataset: Dataset, world: World) -> NDArray[np.float64]:
    """Predictions (N, E) of all samples, to which every process of the world gives its block."""
    import torch

    from gpmap_cli.training.problems import predict_together

    def predict(rows: slice) -> torch.Tensor:
        which = np.arange(rows.start, rows.stop)
        covariates = {name: values[which] for name, values in dataset.sample_covariates.items()}
        return torch.from_numpy(predictor.predict(select_rows(dataset.genotypes, which), covariates))

    if world.size == 1:
        return predictor.predict(dataset.genotypes, dataset.sample_covariates)
    return predict_together(world, dataset.num_samples, predict).numpy()


def _options(settings: Any) -> str:
    return " ".join(f"{key}={_short(value)}" for key, value in asdict(settings).items() if value is not None)


def _short(value: Any) -> str:
    items = value if isinstance(value, (list, tuple)) else [value]
    shown = [f"{item:.4g}" if isinstance(item, float) else str(item) for item in items[:6]]
    more = f" ... ({len(items)})" if len(items) > 6 else ""
    return ",".join(shown) + more
