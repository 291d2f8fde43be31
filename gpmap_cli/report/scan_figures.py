"""What `gpmap scan` found, drawn for print: terms, their thresholds, and which of them are true."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.report.drawn_terms import DrawnTerms, OrderTerms
from gpmap_cli.report.genome_axis import genome_axis
from gpmap_cli.report.scan_tables import Scanned
from gpmap_cli.report.term_figures import draw_terms
from gpmap_cli.scan.against_truth import is_true
from gpmap_cli.scan.p_values import correlation_t, log10_p
from gpmap_cli.scan.results import Terms


def draw_scan(
    scanned: Scanned, orders: Sequence[Sequence[Terms]], df: Mapping[int, NDArray[np.float64]], run: Path
) -> list[Path]:
    """Draw what a scan found into `figures/` of its run directory; arguments as `scanned_terms` has them."""
    return draw_terms(scanned_terms(scanned, orders, df), run / "figures")


def scanned_terms(
    scanned: Scanned, orders: Sequence[Sequence[Terms]], df: Mapping[int, NDArray[np.float64]]
) -> DrawnTerms:
    """What `gpmap scan` found. orders: terms by environment; df: (E,) degrees of freedom of the residuals, by order."""
    found = []
    for by_environment in orders:
        for terms in by_environment:
            tests, environment = terms.tests, terms.environment
            found.append(
                OrderTerms(
                    environment,
                    terms.loci,
                    tests.effect,
                    tests.std_error,
                    -tests.log10_p,
                    terms.passing(scanned.alpha)["bonferroni"],
                    None if scanned.truth is None else is_true(scanned.truth, environment, terms.loci),
                    _thresholds(terms, scanned.alpha, max(float(df[terms.order][environment]) - 1, 1.0)),
                    terms.num_candidates,
                )
            )
    genome = genome_axis(scanned.locus_ids, scanned.chromosomes, scanned.positions)
    return DrawnTerms(genome, scanned.environment_names, tuple(found), f"Bonferroni {scanned.alpha:g}")


def _thresholds(terms: Terms, alpha: float, df: float) -> dict[str, float]:
    """-log10 of the p-value from which on a term passes; by false discovery rate alpha R / m, where R pass."""
    most = max(terms.num_candidates, 1)
    found = {f"Bonferroni {alpha:g}": -math.log10(alpha / most)}
    if terms.limits.permutation is not None:
        z = correlation_t(terms.limits.permutation, terms.num_samples, df)
        found[f"permutation {alpha:g}"] = float(-log10_p(z, df))
    discovered = int((terms.q <= alpha).sum())
    if discovered == len(terms.q):  # there may be more among those that were not kept
        discovered = max(discovered, terms.limits.num_discovered)
    if discovered:
        found[f"FDR {alpha:g}"] = -math.log10(alpha * discovered / most)
    return found
