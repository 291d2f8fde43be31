"""Observed against predicted phenotypes, drawn for print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.metrics import r2_score
from gpmap_cli.report.panels import panels
from gpmap_cli.report.style import COLOURS, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_POINTS = 500  # samples; more of them are counted in hexagons


@style()
def draw_observed_predicted(observed: NDArray, predicted: NDArray, names: Sequence[str], split: str) -> Figure:
    """Phenotypes (N, E) of the samples of one split against predictions, with the line on which both are the same."""
    grid = panels(tuple(names), (4.4, 4.0), (2.7, 2.5))
    counted = False
    for environment in range(grid.number):
        axes = grid.axes(environment)
        known = ~np.isnan(observed[:, environment])
        y, f = observed[known, environment].astype(np.float64), predicted[known, environment].astype(np.float64)
        low, high = (min(y.min(), f.min()), max(y.max(), f.max())) if len(y) else (0.0, 1.0)
        margin = 0.03 * (high - low) or 0.5
        limits = (low - margin, high + margin)
        if len(y) > _MOST_POINTS:
            counted = True
            axes.hexbin(f, y, gridsize=45 if grid.number == 1 else 30, bins="log", mincnt=1, cmap="Blues", vmin=0.3)
        else:
            axes.scatter(f, y, s=9 if grid.number == 1 else 4, color=COLOURS[0], alpha=0.6, linewidths=0)
        axes.plot(limits, limits, color=COLOURS[1], linewidth=1.0, linestyle="--")
        axes.set(xlim=limits, ylim=limits, aspect="equal", box_aspect=1)
        axes.grid(True, axis="both")
        axes.tick_params(labelsize=7)
        axes.locator_params(nbins=5)
        r2 = r2_score(observed[:, environment], predicted[:, environment])
        text = f"n = {len(y):,}" + ("" if r2 is None else f"\nR² = {r2:.3f}".replace("-", "−"))
        axes.text(0.04, 0.97, text, transform=axes.transAxes, va="top", fontsize=7 if grid.number > 1 else 9)
    note = f"{split} samples; dashed: predicted as observed"
    grid.figure.supxlabel("predicted phenotype")
    grid.finish(note + ("; darker: more samples, on a log scale" if counted else ""), {}, "observed phenotype")
    return grid.figure
