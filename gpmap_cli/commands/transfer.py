"""`gpmap transfer`: how well an environment of few phenotypes is predicted with the help of all the others.

Every fit is one row of `transfer.csv` as soon as it is done, so that a run that is killed goes on after the last one.
"""

from __future__ import annotations

import logging
import shutil
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli import models
from gpmap_cli.commands.devices import choose_device
from gpmap_cli.commands.run_status import run_to_the_end
from gpmap_cli.commands.terminal import TerminalReporter, progress_bar, show_result
from gpmap_cli.commands.transfer_fits import UNSEEN, Column, TargetData, TransferFits, chosen_methods
from gpmap_cli.config.schema import Config, load_config
from gpmap_cli.data_source import FileSource, Source, open_source
from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.disk_genotypes import select_rows
from gpmap_cli.dataset.splits import TEST, Labels, make_split, split_hash
from gpmap_cli.errors import FitFailed, InputError, did_you_mean
from gpmap_cli.ld_pruning.dataset_pruning import prune
from gpmap_cli.ld_pruning.deciding import ALL_SAMPLES, by_split, deciding_samples
from gpmap_cli.metrics import pearson_r, r2_score
from gpmap_cli.report.transfer_figure import transfer_figure
from gpmap_cli.report.transfer_table import TransferRow, means, read_rows, rows_csv, shown, summary_csv
from gpmap_cli.run_dir.checkpoints import LastCheckpoint, load_arrays, save_arrays
from gpmap_cli.run_dir.layout import COMPLETED, RUNNING, RunDirectory
from gpmap_cli.run_dir.predictor import FittedPredictor
from gpmap_cli.run_dir.provenance import peak_memory_mb, provenance
from gpmap_cli.training.context import Epoch, FitContext, Stop

log = logging.getLogger("gpmap")

_FEWEST, _NUM_SIZES = 10, 6  # of the numbers of phenotypes that are tried unless some are given
_TABLE = "transfer.csv"


def run(config: Config, path: Path, in_sweep: bool = False) -> None:
    """Study the transfer from a checked configuration in the run directory `path`."""
    directory = RunDirectory(path)
    source = open_source(config.data, config.root.seed)
    source.check()
    study = _Study(config, directory, source)
    if in_sweep and directory.holds_a_run:
        if not _is_same(directory.read_config(), config):
            raise InputError(
                f"{path}: this directory holds a run of another configuration", "choose another hydra.sweep.dir"
            )
    else:
        directory.claim({"command": "transfer", **config.mapping()})
    study.go()


def resume(path: Path) -> None:
    """Continue the study in `path` with its own configuration; fits that are done are not done again."""
    directory = RunDirectory(path)
    stored = directory.read_config()
    if stored.pop("command", None) != "transfer":
        raise InputError(f"{path}: this is no run of gpmap transfer", "name a directory that `gpmap transfer` wrote")
    config = load_config("transfer", stored)
    source = open_source(config.data, config.root.seed)
    source.check()
    log.info("resuming %s", path)
    _Study(config, directory, source).go()


def _is_same(stored: dict[str, Any], config: Config) -> bool:
    try:
        command = stored.pop("command", None)
        return command == "transfer" and load_config("transfer", stored).mapping() == config.mapping()
    except InputError:
        return False


class _Bar(TerminalReporter):
    """The bar of a fit, without a line for its epochs: there are many fits."""

    def epoch(self, row: Epoch) -> None:
        self._r2 = row.validation_r2


class _Study:
    """One run of the command."""

    def __init__(self, config: Config, directory: RunDirectory, source: Source) -> None:
        self._config, self._directory, self._source = config, directory, source
        self._started = datetime.now().astimezone()
        self._stop = Stop()
        by_covariates = bool(getattr(config.model, "environment_covariates", None))
        self._methods, self._left_out = chosen_methods(config.model.name, config.root.methods, by_covariates)
        _check_target(config.root.target, _names_before_loading(config, source))
        self._rows: list[TransferRow] = []
        self._metrics: dict[str, Any] = {
            "status": RUNNING,
            "command": "transfer",
            "model": config.model.name,
            "data": source.name,
            "seed": config.root.seed,
            "target": config.root.target,
            "splits": {},
            "seconds": {"load": None, "pretrain": None, "fit": None},
            "peak_memory_mb": None,
        }
        self._text = ""

    def go(self) -> None:
        """Do the fits that are not done yet, and show all."""
        directory = self._directory
        earlier = directory.read_metrics() or {}
        self._metrics["seconds"]["pretrain"] = (earlier.get("seconds") or {}).get("pretrain")
        run_to_the_end(self._fit_all, self._show, directory, self._metrics, self._stop, "transfer")

    def _show(self) -> None:
        show_result(self._text, self._directory.path)

    def _fit_all(self) -> None:
        config, began = self._config, time.perf_counter()
        dataset = self._source.load()
        _check_target(config.root.target, dataset.environment_names)
        settings = config.model
        kinds = [models.model_class(name) for name in {settings.name, *self._methods} & set(models.names())]
        labels = make_split(config.split, dataset, config.root.seed)
        dataset = self._pruned(dataset, labels)
        self._metrics["seconds"]["load"] = time.perf_counter() - began
        device = choose_device(config.root.device, config.root.precision, any(kind.needs_float64 for kind in kinds))
        data = TargetData.of(dataset, labels, config.root.target, config.root.seed)
        numbers = self._numbers(data)
        test = np.flatnonzero((labels == TEST) & ~np.isnan(dataset.phenotypes[:, data.target]))
        observed = dataset.phenotypes[test, data.target]
        if len(np.unique(observed)) < 2:
            raise InputError(
                f"the test phenotypes of `{config.root.target}` do not vary: nothing can be scored on them",
                "use another target or another split",
            )
        facts = self._source.identity()
        self._directory.write_json(
            "provenance.json", provenance(self._started, facts, split_hash(labels), device) | {"ended": None}
        )
        self._say(dataset, data, numbers, len(test))
        self._do_cells(_Scorer(dataset, test, observed), data, numbers, device)
        self._finish(dataset, len(test))
        self._directory.write_json("provenance.json", provenance(self._started, facts, split_hash(labels), device))
        self._metrics["status"] = COMPLETED
        self._metrics["peak_memory_mb"] = peak_memory_mb()
        self._directory.write_metrics(self._metrics)

    def _do_cells(self, scorer: _Scorer, data: TargetData, numbers: list[int], device: str) -> None:
        """Repeat by repeat, so that a study that is cut short has whole curves."""
        self._rows = self._read_rows()
        cells = [
            (method, number, repeat)
            for repeat in range(self._config.root.repeats)
            for number in (0, *numbers)
            for method in self._methods
            if (method == UNSEEN) == (number == 0)
        ]
        done = {row.cell for row in self._rows}
        left = [cell for cell in cells if cell not in done]
        if len(left) < len(cells):
            log.info("%d of %d fits are done already", len(cells) - len(left), len(cells))
        workplace = self._directory.path / "current"
        reporter = _Bar(0)
        fits = TransferFits(data, self._config, lambda names: self._context(names, device, workplace, reporter))
        start: dict[str, NDArray] | None = None
        with progress_bar("fits", len(cells), "fit") as advance:
            advance(len(cells) - len(left))
            for cell in left:
                method, number, repeat = cell
                if method == "fine_tune" and start is None:
                    start = self._pretrained(fits, workplace)
                self._enter(workplace, f"{method} {number} {repeat}")
                began = time.perf_counter()
                scores: tuple[float | None, float | None] = None, None
                try:
                    predictor, column = fits.fit(*cell, start if method == "fine_tune" else None)
                except FitFailed as trouble:  # one of many fits; the others stand
                    log.warning("%s, %d phenotypes, repeat %d: %s", *cell, trouble)
                else:
                    scores = scorer.score(predictor, column)
                finally:
                    reporter.close()
                seconds = time.perf_counter() - began
                self._rows.append(TransferRow(*cell, *scores, seconds))
                self._directory.write_text(_TABLE, rows_csv(self._rows))
                shutil.rmtree(workplace, ignore_errors=True)
                shown_r2 = "undefined" if scores[0] is None else f"{scores[0]:.4f}"
                log.info("%s, %d phenotypes, repeat %d: R2 %s (%.1f s)", *cell, shown_r2, seconds)
                advance(1)
        order = {cell: at for at, cell in enumerate(cells)}
        self._rows = sorted((row for row in self._rows if row.cell in order), key=lambda row: order[row.cell])

    def _context(self, names: tuple[str, ...], device: str, workplace: Path, reporter: TerminalReporter) -> FitContext:
        root = self._config.root
        return FitContext(
            seed=root.seed,
            environment_names=names,
            training=self._config.training,
            device=device,
            precision=root.precision,
            reporter=reporter,
            checkpoints=LastCheckpoint(workplace),
            stop=self._stop,
        )

    def _enter(self, workplace: Path, name: str) -> None:
        """Where a fit keeps what resuming needs; of another fit nothing stays there."""
        mark = workplace / "fit"
        if not (mark.exists() and mark.read_text(encoding="utf-8") == name):
            shutil.rmtree(workplace, ignore_errors=True)
            workplace.mkdir()
            mark.write_text(name, encoding="utf-8")

    def _pretrained(self, fits: TransferFits, workplace: Path) -> dict[str, NDArray]:
        """The fit that every fine-tuning begins from, done once."""
        path = self._directory.path / "checkpoints" / "pretrained.npz"
        if not path.exists():
            self._enter(workplace, "pretrained")
            began = time.perf_counter()
            state = fits.pretrained()
            path.parent.mkdir(exist_ok=True)
            save_arrays(path, state, {"environments": "all but the target"})
            self._metrics["seconds"]["pretrain"] = time.perf_counter() - began
            log.info("fitted to the other environments, to be fine-tuned")
        return load_arrays(path)[0]

    def _read_rows(self) -> list[TransferRow]:
        path = self._directory.path / _TABLE
        if not path.exists():
            return []
        try:
            return read_rows(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as trouble:
            raise InputError(f"{path}: cannot be read ({trouble})", "remove it to do all fits again") from trouble

    def _numbers(self, data: TargetData) -> list[int]:
        """Numbers of phenotypes, ascending."""
        most, wanted = len(data.measured), self._config.root.num_target
        target = self._config.root.target
        if most < 3:
            raise InputError(
                f"`{target}` has {most} training phenotypes, and a study needs at least 3",
                "use another target or another split",
            )
        if wanted is None:
            if most <= _FEWEST:
                return [most]
            return sorted({round(number) for number in np.geomspace(_FEWEST, most, _NUM_SIZES)})
        if max(wanted) > most:
            raise InputError(
                f"num_target is `{max(wanted)}` and `{target}` has {most} training phenotypes",
                f"set num_target to numbers up to {most}",
            )
        return sorted(wanted)

    def _pruned(self, dataset: Dataset, labels: Labels) -> Dataset:
        pruning = self._config.prune
        if not pruning.is_on:
            return dataset
        if pruning.split is not None:
            deciding = deciding_samples(pruning, dataset)
        else:
            deciding = ALL_SAMPLES if pruning.rows == "all" else by_split(labels, "the run's", "the run's split")
        dataset, said = prune(dataset, deciding, pruning, progress_bar, self._directory.path)
        log.info("%s", said)
        return dataset

    def _say(self, dataset: Dataset, data: TargetData, numbers: list[int], num_test: int) -> None:
        for line in self._left_out:
            log.info("left out: %s", line)
        log.info(
            "%d samples, %d loci, %d environments; target %s with %s of %d training phenotypes, %d test samples",
            *(dataset.num_samples, dataset.num_loci, len(dataset.environment_names), data.target_name),
            *(", ".join(map(str, numbers)), len(data.measured), num_test),
        )

    def _finish(self, dataset: Dataset, num_test: int) -> None:
        found = means(self._rows)
        target = self._config.root.target
        ceiling = dataset.noise_ceiling_r2.get(target, float("nan"))
        known_ceiling = ceiling if np.isfinite(ceiling) else None
        self._directory.write_text(_TABLE, rows_csv(self._rows))
        self._directory.write_text("transfer_summary.csv", summary_csv(found))
        transfer_figure(found, target, self._config.model.name, known_ceiling, self._directory.path)
        by_method: dict[str, Any] = {method: {} for method in self._methods}
        for one in found:
            bounds = None if one.r2.low is None else [one.r2.low, one.r2.high]
            by_method[one.method][str(one.num_target)] = {
                "r2": one.r2.mean,
                "r2_ci95": bounds,
                "pearson_r": one.pearson_r.mean,
                "num_repeats": one.num_repeats,
            }
        self._metrics["transfer"] = by_method
        if known_ceiling is not None:
            self._metrics["noise_ceiling_r2"] = {target: known_ceiling}
        self._metrics["seconds"]["fit"] = sum(row.seconds for row in self._rows)
        self._text = shown(found, target, num_test)
        if known_ceiling is not None:
            self._text += f"\nnoise ceiling {known_ceiling:.3f}"


class _Scorer:
    """R^2 and Pearson's r on the target's test rows, which no fit was given."""

    def __init__(self, dataset: Dataset, test: NDArray[np.intp], observed: NDArray) -> None:
        self._genotypes = select_rows(dataset.genotypes, test)
        self._covariates = {name: values[test] for name, values in dataset.sample_covariates.items()}
        self._observed = observed

    def score(self, predictor: FittedPredictor, column: Column) -> tuple[float | None, float | None]:
        if isinstance(column, int):
            predicted = predictor.predict(self._genotypes, self._covariates)[:, column]
        else:
            predicted = predictor.predict_new(self._genotypes, self._covariates, [column])[:, 0]
        return r2_score(self._observed, predicted), pearson_r(self._observed, predicted)


def _names_before_loading(config: Config, source: Source) -> tuple[str, ...] | None:
    """The environments, where they are known before the data are read."""
    chosen = getattr(config.data, "environments", None)
    if chosen is not None:
        return tuple(chosen)
    return tuple(source.environment_names()) if isinstance(source, FileSource) else None


def _check_target(target: str, names: tuple[str, ...] | None) -> None:
    if names is None:
        return
    if target not in names:
        raise InputError(f"target `{target}` is not an environment of the data", did_you_mean(target, names, "target="))
    if len(names) < 2:
        raise InputError(
            f"`{target}` is the only environment, and there is none to transfer from",
            "name several: data.environments=[...]",
        )
