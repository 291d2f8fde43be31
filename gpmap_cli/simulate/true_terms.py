"""The true terms of simulated data, read back from the dataset's `truth/`, in one form whatever simulated them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.errors import InputError
from gpmap_cli.explain.true_terms import TrueTerms, Truth
from gpmap_cli.simulate.phenotypes import Architecture, Interactions
from gpmap_cli.simulate.settings import temperature
from gpmap_cli.simulate.yeast_architecture import ORDERS

_BY_COLUMN, _BY_ID = "interactions/order_", "by_id/"


def true_terms(dataset: Dataset, locus_ids: Sequence[str], columns: Sequence[int | None]) -> Truth | None:
    """The truth of `dataset` at the model's loci; None where it has none.

    locus_ids: of the model's L loci. columns: for each of the model's E environments that of the dataset, or None.
    Raises InputError where the truth contradicts itself: a file may come from anyone.
    """
    try:
        by_order = _by_id(dataset) or _by_column(dataset)
        if not by_order:
            return None
        place = {locus: at for at, locus in enumerate(locus_ids)}
        known = np.array([-1 if column is None else column for column in columns])
        terms, num_elsewhere = {}, 0
        for order, (loci, effects) in by_order.items():
            if loci.shape != (len(effects), order) or effects.shape[1] != len(dataset.environment_names):
                raise ValueError(f"order {order}: {loci.shape} loci and {effects.shape} effects")
            at = np.array([place.get(str(locus), -1) for locus in loci.ravel()], dtype=np.intp).reshape(loci.shape)
            here = (at >= 0).all(axis=1)
            num_elsewhere += int((~here).sum())
            if here.any():
                terms[order] = TrueTerms(at[here], np.where(known >= 0, effects[here][:, known], np.nan))
        return Truth(terms, num_elsewhere)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as trouble:
        raise InputError(
            f"`truth` of the data is not as `gpmap simulate` writes it ({trouble})",
            "use data as they were simulated",
        ) from trouble


Terms = dict[int, tuple[NDArray[Any], NDArray[np.float64]]]  # ids of loci (K, k), effects (K, E)


def _by_id(dataset: Dataset) -> Terms:
    """Of the synthetic yeast data: coefficients of products coded -1/+1, by environment."""
    found: Terms = {}
    for order, name in ORDERS.items():
        effects = dataset.truth.get(f"{_BY_ID}{name}/effects")
        if effects is not None:
            loci = dataset.truth[f"{_BY_ID}{name}/{'locus' if order == 1 else 'loci'}"]
            found[order] = (loci.reshape(-1, order), 2.0**order * effects)
    return found


def _by_column(dataset: Dataset) -> Terms:
    """Of the paper's simulations: the architecture stands there, and effects follow from the temperature."""
    truth = dataset.truth
    orders = [int(name.split("/")[1].removeprefix("order_")) for name in truth if name.startswith(_BY_COLUMN)]
    if not orders or "additive/coefficients" not in truth:
        return {}
    num_loci = dataset.num_loci
    interactions = {}
    for order in sorted(set(orders)):
        loci = truth[f"{_BY_COLUMN}{order}/loci"]
        if loci.min(initial=0) < 0:
            raise ValueError("a locus number below zero")
        interactions[order] = Interactions(loci, truth[f"{_BY_COLUMN}{order}/coefficients"])
    everywhere = np.arange(num_loci, dtype=np.int32)[:, None]
    additive = Interactions(everywhere, truth["additive/coefficients"])
    architecture = Architecture(float(truth["epsilon"]), float(truth["offset"]), additive, interactions)
    settings = json.loads(str(dataset.provenance.get("settings", "{}")))
    # What the number that stands for a locus in the formula gains from reference to alternative.
    gain = dataset.ploidy if settings.get("coding") == "dosage" else 2
    degrees = [temperature(name) for name in dataset.environment_names]
    found: Terms = {}
    for order, (loci, effects) in architecture.effects(degrees).items():
        found[order] = (dataset.locus_ids[loci], float(gain) ** order * effects)
    return found
