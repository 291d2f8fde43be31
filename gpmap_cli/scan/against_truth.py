"""The terms that a scan found held against those that a simulated phenotype is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.explain.true_terms import Truth


def is_true(truth: Truth, environment: int, loci: NDArray[np.int32]) -> NDArray[np.bool_] | None:
    """Which terms (T, k) are true ones of their own order that act here; None where the truth does not say."""
    if not truth.knows(environment):
        return None
    true = _true_sets(truth, environment, loci.shape[1])
    return np.array([tuple(term) in true for term in np.sort(loci, axis=1).tolist()], dtype=bool)


def score(
    truth: Truth, environment: int, loci: NDArray[np.int32], passing: Mapping[str, NDArray[np.bool_]]
) -> dict[str, Any] | None:
    """How many true terms there are, and how many that pass each criterion are true and false."""
    true = is_true(truth, environment, loci)
    if true is None:
        return None
    found: dict[str, Any] = {
        "num_true": len(_true_sets(truth, environment, loci.shape[1])),
        "num_true_kept": int(true.sum()),
    }
    for name, passes in passing.items():
        found[name] = {"true": int((true & passes).sum()), "false": int((~true & passes).sum())}
    return found


def _true_sets(truth: Truth, environment: int, order: int) -> set[tuple[int, ...]]:
    if order not in truth.terms:
        return set()
    return {tuple(term) for term in np.sort(truth.terms[order].acting(environment), axis=1).tolist()}
