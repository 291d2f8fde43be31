"""Heat map of which stretches of the genome interact, chromosome by chromosome, drawn for print."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.report.drawn_terms import DrawnTerms, OrderTerms
from gpmap_cli.report.genome_axis import GenomeAxis, draw_genome_axis
from gpmap_cli.report.manhattan_figure import CAP
from gpmap_cli.report.panels import panels
from gpmap_cli.report.style import COLOURS, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BINS = 200
_MOST_RINGED, _MOST_SMALL = 60, 20  # in the only panel, and in one of several
_FROM_SQUARE_ROOT = 40.0  # -log10 p


@style()
def draw_pair_map(found: DrawnTerms) -> Figure:
    """-log10 p of the strongest term with loci in each two bins of the genome; a panel per environment.

    Above the diagonal pairs, below it terms of higher order. Every locus is a bin, or 200 equal ones are where there
    are more loci. True pairs are ringed.
    """
    from matplotlib.lines import Line2D

    grid = panels(found.environment_names, (5.6, 4.8), (3.2, 2.7))
    bins = bin_edges(found.genome)
    ringed = False
    for environment in range(grid.number):
        axes = grid.axes(environment)
        terms = [one for one in found.of(environment) if one.order > 1 and len(one.loci)]
        _draw(axes, pair_heat(terms, found.genome, bins), bins, terms, grid.number == 1)
        ringed = _ring(axes, terms, found.genome, grid.number == 1) or ringed
        for edge in found.genome.edges:
            axes.axhline(edge, color="#AAAAAA", linewidth=0.4)
            axes.axvline(edge, color="#AAAAAA", linewidth=0.4)
        axes.plot([0, 1], [0, 1], color="#AAAAAA", linewidth=0.4)
        draw_genome_axis(axes, found.genome, grid.width - 1.4, grid.is_lowest(environment))
        draw_genome_axis(axes, found.genome, grid.width - 1.4, environment % grid.across == 0, "y")
        axes.set(xlim=(0, 1), ylim=(1, 0))
        axes.grid(False)
        axes.spines[:].set_visible(False)
    entries: dict[str, Any] = {}
    if ringed:
        most = _MOST_RINGED if grid.number == 1 else _MOST_SMALL
        entries[f"true pair, at most the {most} strongest"] = Line2D(
            [], [], linestyle="none", marker="o", markerfacecolor="none", markeredgecolor=COLOURS[1], markersize=6
        )
    grid.finish(_note(found), entries)
    return grid.figure


def bin_edges(genome: GenomeAxis) -> NDArray[np.float64]:
    """Bounds (B + 1,) of the bins from 0 to 1: halfway between neighbouring loci, or evenly."""
    places = np.unique(genome.x)
    if len(places) > MOST_BINS:
        return np.linspace(0.0, 1.0, MOST_BINS + 1)
    return np.concatenate([[0.0], (places[1:] + places[:-1]) / 2, [1.0]])


def pair_heat(terms: list[OrderTerms], genome: GenomeAxis, bins: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest -log10 p (B, B) of pairs (row <= column) and of terms of higher order (row >= column); else NaN."""
    heat = np.full((len(bins) - 1, len(bins) - 1), -np.inf)
    which = np.clip(np.searchsorted(bins, genome.x, side="right") - 1, 0, len(heat) - 1)
    for one in terms:
        for first, second in combinations(range(one.order), 2):
            ends = np.sort(which[one.loci[:, [first, second]]], axis=1)
            row, column = ends.T if one.order == 2 else ends[:, ::-1].T
            np.maximum.at(heat, (row, column), np.minimum(one.strength, CAP))
    return np.where(np.isneginf(heat), np.nan, heat)


def _draw(axes: Axes, heat: NDArray, bins: NDArray[np.float64], terms: list[OrderTerms], labelled: bool) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, Normalize, PowerNorm

    # From light to dark, as in grey print, and never as light as the paper.
    colours = ListedColormap(colormaps["Blues"](np.linspace(0.18, 1.0, 256)))
    thresholds = [height for one in terms if one.order == 2 for height in list(one.thresholds.values())[:1]]
    # Beyond the threshold, so that what is all noise looks like it.
    top = max([1.0, float(heat[~np.isnan(heat)].max(initial=0.0)), *(1.2 * height for height in thresholds)])
    norm = PowerNorm(0.5, 0, top) if top > _FROM_SQUARE_ROOT else Normalize(0, top)
    picture = axes.pcolormesh(bins, bins, np.ma.masked_invalid(heat), cmap=colours, norm=norm, rasterized=True)
    bar = axes.figure.colorbar(picture, ax=axes, shrink=0.8)
    if labelled:
        bar.set_label("−log10 p", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.ax.grid(False)
    for height in thresholds:
        mark: dict[str, Any] = {
            "color": "black",
            "markersize": 5,
            "clip_on": False,
            "transform": bar.ax.get_yaxis_transform(),
        }
        bar.ax.plot([-0.25], [height], marker=">", **mark)


def _ring(axes: Axes, terms: list[OrderTerms], genome: GenomeAxis, alone: bool) -> bool:
    """Mark the strongest true pairs; whether there is any."""
    for one in terms:
        if one.order == 2 and one.true is not None and one.true.any():
            most, size, width = (_MOST_RINGED, 36, 0.8) if alone else (_MOST_SMALL, 12, 0.5)
            ends = np.sort(genome.x[one.loci[one.true][:most]], axis=1)
            axes.scatter(ends[:, 1], ends[:, 0], s=size, facecolors="none", edgecolors=COLOURS[1], linewidths=width)
            return True
    return False


def _note(found: DrawnTerms) -> str:
    orders = [order for order in found.orders if order > 1]
    parts = ["above the diagonal: pairs"] if 2 in orders else []
    higher = " or ".join(str(order) for order in orders if order > 2)
    if higher:
        parts.append(f"below the diagonal: terms of order {higher} with loci in both")
    partly = [one for one in found.terms if one.order > 1 and len(one.loci) < (one.num_candidates or 0)]
    if partly:
        kept = max(len(one.loci) for one in partly)
        parts.append(f"white: none among the {kept:,} strongest that were kept")
    elif any(one.num_candidates is None for one in found.terms):
        parts.append("white: none was chosen")
    name = next((next(iter(one.thresholds)) for one in found.terms if one.order == 2 and one.thresholds), None)
    parts.append("colour: −log10 p" + (f" (arrow at its bar: {name}, of pairs)" if name else ""))
    return "; ".join(parts)
