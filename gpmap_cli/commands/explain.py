"""`gpmap explain`: what a fitted model has learned, read off its predictions, and held against the truth if known."""

from __future__ import annotations

import logging
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.commands.fitted import TIMES_HELD, FinishedRun, say_covariates
from gpmap_cli.commands.terminal import progress_bar, show_result
from gpmap_cli.config.schema import Config
from gpmap_cli.dataset.contents import SPLIT_NAMES, Dataset
from gpmap_cli.dataset.disk_genotypes import StoredGenotypes, select_rows
from gpmap_cli.errors import InputError
from gpmap_cli.explain.differences import Effects, Plan, Predict, Substitutions, most_influential, pair_strength, plan
from gpmap_cli.explain.higher_orders import MOST_GENOTYPES, candidate_sets, sets_that_fit
from gpmap_cli.explain.learned import Learned
from gpmap_cli.explain.scores import score_environment, score_sets, symmetric_attention
from gpmap_cli.explain.true_terms import Truth
from gpmap_cli.random_streams import stream
from gpmap_cli.report.explain_figures import MOST_PANELS, draw_learned
from gpmap_cli.report.explain_tables import attention_columns, effects_columns, pairs_columns, sets_columns, shown
from gpmap_cli.run_dir.layout import COMPLETED, RunDirectory, RunLog
from gpmap_cli.run_dir.model_tables import write_table
from gpmap_cli.run_dir.predictor import FittedPredictor
from gpmap_cli.run_dir.provenance import peak_memory_mb, provenance, reset_peak_memory
from gpmap_cli.run_dir.writing import write_whole
from gpmap_cli.simulate.true_terms import true_terms

log = logging.getLogger("gpmap")

_MOST_PAIR_EFFECTS = 2 * 10**7  # pairs times environments: three numbers are kept of each


def run(config: Config, path: Path) -> None:
    """Explain from a checked configuration into the run directory `path`."""
    started, root = datetime.now().astimezone(), config.root
    reset_peak_memory()
    finished = FinishedRun(root.run)
    source, is_own = finished.source_for(config.data)
    source.check()
    predictor = finished.load(root.device, root.precision)
    began = time.perf_counter()
    dataset = source.load(root.genotype_bytes(TIMES_HELD), path)
    genotypes = predictor.genotypes_of(dataset)
    rows = _rows(config, finished, dataset, is_own, predictor)
    truth = _truth(predictor, dataset)
    todo = _plan(root, predictor, genotypes, rows)
    chosen = np.sort(stream(root.seed, "explained genotypes").permutation(rows)[: todo.num_genotypes])
    directory = RunDirectory(path)
    directory.claim({"command": "explain", **config.mapping()})
    with RunLog(directory):
        log.info(
            "model of %s on %s: substitutions in %d of %d genotypes", *(root.run, source.name, len(chosen), len(rows))
        )
        if predictor.matches_by_order:
            log.info("the model came without names: loci match by order")
        say_covariates(predictor, dataset)
        loaded = time.perf_counter()
        found, num_predictions = _learn(root, predictor, dataset, genotypes, chosen, todo, truth)
        scores = _scores(found)
        write_table(directory, "effects", effects_columns(found))
        write_table(directory, "pairs", pairs_columns(found, root.num_pairs))
        for order in found.sets:
            write_table(directory, f"order_{order}", sets_columns(found, order))
        attention = attention_columns(found, root.num_pairs)
        if found.attention is not None and attention is not None:
            write_table(directory, "attention", attention)
            _write_maps(directory, found)
        draw_learned(found, directory.path)
        if len(found.environment_names) > MOST_PANELS:
            log.info("figures show the first %d environments", MOST_PANELS)
        directory.write_json("provenance.json", provenance(started, source.identity(), None, predictor.model.device))
        metrics: dict[str, Any] = {
            "status": COMPLETED,
            "run": root.run,
            "model": predictor.model.name,
            "data": source.name,
            "seed": root.seed,
            "num_genotypes": len(chosen),
            "num_loci": found.num_loci,
            "num_loci_in_pairs": len(found.loci),
            "num_pairs": len(found.pairs.mean),
            "num_predictions": num_predictions,
            "truth": {"environments": scores} if scores else None,
            "seconds": {"load": loaded - began, "fit": None, "explain": time.perf_counter() - loaded},
            "peak_memory_mb": peak_memory_mb(),
        }
        directory.write_metrics(metrics)
        show_result(shown(found, scores), directory.path)


def _rows(
    config: Config, finished: FinishedRun, dataset: Dataset, is_own: bool, predictor: FittedPredictor
) -> NDArray[np.intp]:
    """The samples whose genotypes may be drawn."""
    wanted = config.root.rows
    if wanted == "all":
        rows = np.arange(dataset.num_samples)
    else:
        needs_validation = predictor.model.needs_validation(predictor.model.settings)
        labels = finished.labels(config, dataset, is_own, needs_validation)
        assert labels is not None  # rows other than all always have a split
        rows = np.flatnonzero(labels == SPLIT_NAMES.index(wanted))
    if len(rows) < 2:
        raise InputError(f"{len(rows)} genotypes are too few to average over", "use rows=all, or data of more samples")
    return rows


def _plan(root: Any, predictor: FittedPredictor, genotypes: StoredGenotypes, rows: NDArray[np.intp]) -> Plan:
    num_loci = genotypes.shape[1]
    if root.num_genotypes is not None and root.num_genotypes > len(rows):
        raise InputError(
            f"num_genotypes is {root.num_genotypes} but rows={root.rows} has {len(rows)} samples",
            f"set num_genotypes to at most {len(rows)}, or leave it out",
        )
    if root.num_loci is not None and root.num_loci > num_loci:
        raise InputError(
            f"num_loci is {root.num_loci} but the model has {num_loci} loci",
            f"set num_loci to at most {num_loci}, or leave it out",
        )
    # Calls of diploids are mostly, and dosages hardly ever, what a substitution would make of them.
    hard_calls = predictor.coding.ploidy == 1 and genotypes.dtype.kind in "iu"
    todo = plan(num_loci, len(rows), hard_calls, (root.num_genotypes, root.num_loci), root.num_predictions)
    num_effects = todo.num_loci * (todo.num_loci - 1) // 2 * len(predictor.environment_names)
    if num_effects > _MOST_PAIR_EFFECTS:
        raise InputError(
            f"all pairs of {todo.num_loci} loci are {num_effects:,} effects, more than {_MOST_PAIR_EFFECTS:,}",
            "set num_loci to fewer",
        )
    return todo


def _truth(predictor: FittedPredictor, dataset: Dataset) -> Truth | None:
    """The true terms at the model's loci; environments match by name, or by order where the model has no names."""
    theirs = dataset.environment_names
    by_order = predictor.matches_by_order and len(theirs) == len(predictor.environment_names)
    columns = [
        theirs.index(name) if name in theirs else at if by_order else None
        for at, name in enumerate(predictor.environment_names)
    ]
    return true_terms(dataset, _locus_ids(predictor, dataset).tolist(), columns)


def _locus_ids(predictor: FittedPredictor, dataset: Dataset) -> NDArray:
    ids = predictor.locus_ids
    return np.array(dataset.locus_ids if ids is None else ids, dtype=object)


def _learn(
    root: Any,
    predictor: FittedPredictor,
    dataset: Dataset,
    genotypes: StoredGenotypes,
    chosen: NDArray[np.intp],
    todo: Plan,
    truth: Truth | None,
) -> tuple[Learned, int]:
    backgrounds = select_rows(genotypes, chosen)[:]
    covariates = {name: values[chosen] for name, values in dataset.sample_covariates.items()}
    predict = _predict_with(predictor, covariates)
    num_loci = backgrounds.shape[1]
    most = todo.num_predictions + (root.order - 2) * root.num_predictions
    with progress_bar("substitutions", most, "genotype") as advance:
        substitutions = Substitutions(predict, backgrounds, predictor.coding.ploidy, advance)
        main = substitutions.main_effects()
        loci = most_influential(main, predictor.scale.std, todo.num_loci)
        if len(loci) < num_loci:
            log.info("pairs: of the %d loci of %d that change the phenotype most (num_loci)", len(loci), num_loci)
        pairs = substitutions.pair_effects(loci)
        sets = _higher_orders(substitutions, pairs, loci, predictor.scale.std, root)
    log.info("%d predictions", substitutions.num_predictions)
    ids = _locus_ids(predictor, dataset)
    place = {locus: column for column, locus in enumerate(dataset.locus_ids.tolist())}
    columns = np.array([place[locus] for locus in ids.tolist()])
    if truth is not None and truth.num_elsewhere:
        log.info("%d true terms have a locus that the model does not have: they are left out", truth.num_elsewhere)
    found = Learned(
        ids,
        predictor.environment_names,
        None if dataset.chromosomes is None else dataset.chromosomes[columns],
        None if dataset.positions is None else dataset.positions[columns],
        predictor.scale.std,
        len(backgrounds),
        main,
        loci,
        pairs,
        predictor.attention_maps(backgrounds, covariates),
        truth,
        sets,
    )
    return found, substitutions.num_predictions


def _higher_orders(
    substitutions: Substitutions, pairs: Effects, loci: NDArray[np.intp], std: NDArray[np.float64], root: Any
) -> dict[int, tuple[NDArray[np.intp], Effects]]:
    """Sets of three loci, and of four, whose pairs are strong, in some of the genotypes: as many as are paid for."""
    found = {}
    strength = pair_strength(pairs, std, len(loci))
    which = np.unique(np.linspace(0, substitutions.num_genotypes - 1, MOST_GENOTYPES).astype(np.intp))
    for order in range(3, min(root.order, len(loci)) + 1):
        sets = loci[candidate_sets(strength, order, sets_that_fit(order, len(which), root.num_predictions))]
        log.info("order %d: %d sets of loci in %d genotypes", order, len(sets), len(which))
        found[order] = (sets, substitutions.set_effects(sets, which))
    return found


def _predict_with(predictor: FittedPredictor, covariates: dict[str, NDArray[np.float64]]) -> Predict:
    """Predictions of substituted genotypes, each with the covariates of the sample it was made of."""

    def predict(genotypes: NDArray, which: NDArray[np.intp]) -> NDArray[np.float64]:
        return predictor.predict(genotypes, {name: values[which] for name, values in covariates.items()})

    return predict


def _scores(found: Learned) -> dict[str, Any]:
    """By environment, those of which the truth is known."""
    scores = {}
    for environment, name in enumerate(found.environment_names):
        truth = found.truth_of(environment)
        if truth is not None:
            attention = {}
            if found.attention is not None:
                attention = symmetric_attention(found.attention, environment, found.num_loci)
            std = float(found.std[environment])
            scores[name] = score_environment(truth, environment, found.main, found.pairs, found.loci, attention, std)
            scores[name]["sets"] = {
                str(order): score_sets(truth, environment, sets, effects, found.num_loci, std)
                for order, (sets, effects) in found.sets.items()
            }
    return scores


def _write_maps(directory: RunDirectory, found: Learned) -> None:
    """`attention_maps.npz`: plain arrays that `numpy.load` reads without pickle, and the names of their axes."""
    maps = found.attention or {}
    names = {
        "locus_ids": np.array([str(locus) for locus in found.locus_ids]),
        "environment_names": np.array(found.environment_names),
    }
    write_whole(
        directory.path / "attention_maps.npz",
        lambda stream: np.savez_compressed(stream, **maps, **names),  # type: ignore[arg-type]
    )
