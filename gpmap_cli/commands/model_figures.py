"""The figures of a training run whose model chooses terms: the terms, and observed against predicted phenotypes."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import SPLIT_NAMES, Dataset
from gpmap_cli.dataset.splits import Labels
from gpmap_cli.errors import InputError
from gpmap_cli.explain.true_terms import Truth
from gpmap_cli.report.drawn_terms import chosen_terms
from gpmap_cli.report.genome_axis import genome_axis
from gpmap_cli.report.observed_predicted_figure import draw_observed_predicted
from gpmap_cli.report.style import save
from gpmap_cli.report.term_figures import draw_terms
from gpmap_cli.run_dir.predictor import FittedPredictor
from gpmap_cli.simulate.true_terms import true_terms

log = logging.getLogger("gpmap")

_TERMS = "terms.csv"


def draw_model(
    run: Path, predictor: FittedPredictor, dataset: Dataset, predicted: NDArray[np.float64], labels: Labels
) -> list[Path]:
    """Draw into `figures/` of a run directory; nothing for a model without a table of terms.

    predicted: phenotypes (N, E) of all samples of the data that the model was trained on.
    """
    table = predictor.model.tables().get(_TERMS)
    if table is None:
        return []
    std = predictor.scale.std[table["environment"]]
    table = {**table, "effect": table["effect"] * std, "std_error": table["std_error"] * std}
    genome = genome_axis(dataset.locus_ids, dataset.chromosomes, dataset.positions)
    names, figures = dataset.environment_names, run / "figures"
    written = draw_terms(chosen_terms(table, genome, names, _truth(dataset)), figures)
    if not written:
        log.info("no term was chosen: none is drawn")
    figures.mkdir(parents=True, exist_ok=True)
    split = next(name for name in reversed(SPLIT_NAMES) if (labels == SPLIT_NAMES.index(name)).any())
    rows = labels == SPLIT_NAMES.index(split)
    drawn = draw_observed_predicted(dataset.phenotypes[rows], predicted[rows], names, split)
    return written + save(drawn, figures, "observed_predicted")


def _truth(dataset: Dataset) -> Truth | None:
    """The true terms, to be marked; a truth that contradicts itself is no reason to lose a fit."""
    try:
        return true_terms(dataset, dataset.locus_ids.tolist(), range(len(dataset.environment_names)))
    except InputError as trouble:
        log.info("true terms are not marked: %s", trouble)
        return None
