"""The terms of one order in one environment with all that is said of them, strongest first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.scan.background import Residuals
from gpmap_cli.scan.exact_tests import TermTests, test_terms
from gpmap_cli.scan.search import Found
from gpmap_cli.scan.significance import (
    Thresholds,
    bonferroni,
    false_discovery,
    permutation_p,
    thresholds,
)
from gpmap_cli.scan.tallies import inflation


@dataclass(frozen=True)
class Terms:
    """T terms of order k in one environment, ascending by p-value.

    loci: (T, k); tests: of each; z_screen: the score statistic by which it was kept; bonferroni, q, permutation: (T,)
    p-values, the last None without permutations; limits: thresholds of z_screen; inflation: median z^2 over 0.4549;
    num_samples: measured; num_candidates: of which these are the strongest.
    """

    environment: int
    loci: NDArray[np.int32]
    tests: TermTests
    z_screen: NDArray[np.float64]
    bonferroni: NDArray[np.float64]
    q: NDArray[np.float64]
    permutation: NDArray[np.float64] | None
    limits: Thresholds
    inflation: float
    num_samples: int
    num_candidates: int

    @property
    def order(self) -> int:
        return self.loci.shape[1]

    def passing(self, alpha: float) -> dict[str, NDArray[np.bool_]]:
        """Which terms pass, by criterion."""
        found = {"bonferroni": self.bonferroni <= alpha, "fdr": self.q <= alpha}
        if self.permutation is not None:
            found["permutation"] = self.permutation <= alpha
        return found


def judged(found: Found, genotypes: torch.Tensor, residuals: Residuals, environment: int, alpha: float) -> Terms:
    """The terms that a scan kept in one environment, tested exactly."""
    top = found.top[environment]
    tests = test_terms(genotypes, residuals, environment, top.loci)
    order = np.lexsort((*top.loci.T[::-1], tests.log10_p))
    tests = TermTests(tests.effect[order], tests.std_error[order], tests.t[order], tests.log10_p[order])
    num_samples = int(residuals.phenotypes.num_measured[environment])
    df = max(float(residuals.df[environment]) - 1, 1.0)
    counts, permuted = found.counts[environment], found.largest_permuted[:, environment]
    return Terms(
        environment,
        top.loci[order],
        tests,
        top.z[order],
        bonferroni(tests.log10_p, found.num_candidates),
        false_discovery(tests.log10_p, counts, num_samples, df),
        permutation_p(top.z[order], permuted) if len(permuted) else None,
        thresholds(counts, permuted, alpha, num_samples, df),
        inflation(counts),
        num_samples,
        found.num_candidates,
    )
