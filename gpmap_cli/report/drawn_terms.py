"""The terms of a scan or of a sparse model as their figures need them: by order and environment, strongest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.explain.true_terms import Truth
from gpmap_cli.report.genome_axis import GenomeAxis
from gpmap_cli.scan.against_truth import is_true


@dataclass(frozen=True)
class OrderTerms:
    """T terms of order k in one environment, ascending by p-value.

    loci: (T, k) columns; effect and std_error (T,) in the phenotype's units, NaN where lower orders determine the term;
    strength: (T,) -log10 p; passes: (T,); true: (T,), None where no truth is known; thresholds: -log10 p by name;
    num_candidates: of which these are the strongest, None where that is not known.
    """

    environment: int
    loci: NDArray[np.int32]
    effect: NDArray[np.float64]
    std_error: NDArray[np.float64]
    strength: NDArray[np.float64]
    passes: NDArray[np.bool_]
    true: NDArray[np.bool_] | None
    thresholds: Mapping[str, float]
    num_candidates: int | None

    @property
    def order(self) -> int:
        return self.loci.shape[1]

    def take(self, most: int) -> NDArray[np.intp]:
        """The so many strongest, and the true ones among the others."""
        near = np.arange(len(self.loci)) < most
        return np.flatnonzero(near if self.true is None else near | self.true)


@dataclass(frozen=True)
class DrawnTerms:
    """All terms of a run; criterion: by what they pass, empty where all do. An environment may lack an order."""

    genome: GenomeAxis
    environment_names: tuple[str, ...]
    terms: tuple[OrderTerms, ...]
    criterion: str

    @property
    def orders(self) -> list[int]:
        return sorted({one.order for one in self.terms if len(one.loci)})

    def of(self, environment: int, order: int | None = None) -> list[OrderTerms]:
        """Those of one environment, and of one order if one is given."""
        return [one for one in self.terms if one.environment == environment and order in (None, one.order)]


def chosen_terms(
    table: Mapping[str, NDArray], genome: GenomeAxis, environment_names: Sequence[str], truth: Truth | None
) -> DrawnTerms:
    """What a model chose, from its table of `environment`, `order`, `locus` ..., `effect`, `std_error`, `log10_p`.

    Loci and environments are column numbers; a locus of -1 is none. All that was chosen passes.
    """
    columns = [name for name in ("locus", "locus_2", "locus_3", "locus_4") if name in table]
    sets = np.stack([table[name] for name in columns], axis=1)
    found = []
    for order in sorted(set(table["order"].tolist())):
        for environment in range(len(environment_names)):
            rows = np.flatnonzero((table["order"] == order) & (table["environment"] == environment))
            rows = rows[np.argsort(table["log10_p"][rows], kind="stable")]
            loci = sets[rows, :order].astype(np.int32)
            found.append(
                OrderTerms(
                    environment,
                    loci,
                    table["effect"][rows],
                    table["std_error"][rows],
                    -table["log10_p"][rows],
                    np.ones(len(rows), dtype=bool),
                    None if truth is None else is_true(truth, environment, loci),
                    {},
                    None,
                )
            )
    return DrawnTerms(genome, tuple(environment_names), tuple(found), "")
