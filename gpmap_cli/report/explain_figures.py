"""What a model has learned, drawn for print: effects along the genome, and a heat map of pairs."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.errors import one_line
from gpmap_cli.explain.learned import Learned
from gpmap_cli.explain.scores import ROUNDING
from gpmap_cli.report.explain_tables import lowest_order
from gpmap_cli.report.style import COLOURS, GREY, plain, save, style, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS = 18  # environments; more of them, and nobody reads the figure
_MOST_NAMED = 30  # loci whose names fit beside a heat map
_MOST_WITH_ERRORS = 200
_LONGEST_NAME = 16


def draw_learned(found: Learned, directory: Path) -> list[Path]:
    """Draw to `effects.png`, `pairs.png` and their SVG; the first `MOST_PANELS` environments."""
    written = save(draw_effects(found), directory, "effects")
    return written + (save(draw_pairs(found), directory, "pairs") if len(found.pairs.mean) else [])


@style()
def draw_effects(found: Learned) -> Figure:
    """Mean effect of every locus, with two standard errors where there is room; a panel per environment."""
    from matplotlib.figure import Figure

    number = min(len(found.environment_names), MOST_PANELS)
    across = 1 if number < 4 else 2 if number < 9 else 3
    down = math.ceil(number / across)
    figure = Figure(figsize=(6.0 if across == 1 else 3.8 * across, 0.8 + (2.4 if down == 1 else 1.7) * down))
    figure.set_layout_engine("constrained")
    order, colours, edges = _along_the_genome(found)
    x = np.arange(found.num_loci)
    for environment in range(number):
        axes = figure.add_subplot(down, across, environment + 1)
        effect = found.main.mean[order, environment]
        axes.axhline(0, color=GREY, linewidth=0.6)
        if found.num_loci <= _MOST_WITH_ERRORS:
            error = 2 * found.main.std_error[order, environment]
            axes.errorbar(x, effect, yerr=error, fmt="none", ecolor=colours.tolist(), elinewidth=0.9)
        else:
            axes.vlines(x, 0, effect, colors=colours.tolist(), linewidth=0.7)
        axes.scatter(x, effect, c=colours.tolist(), s=9 if found.num_loci <= _MOST_WITH_ERRORS else 3, zorder=3)
        truth = found.truth_of(environment)
        if truth is not None:
            true = truth.main_effects(environment, found.num_loci)[order]
            marked = np.argsort(-np.abs(true), kind="stable")[:_MOST_NAMED]
            marked = marked[true[marked] != 0]
            axes.scatter(
                x[marked],
                true[marked],
                marker="_",
                s=40 if found.num_loci <= _MOST_NAMED else 20,
                color="black",
                linewidths=0.9,
                zorder=4,
                label="true effect" if len(marked) < _MOST_NAMED else f"true effect, the {_MOST_NAMED} largest",
            )
            if environment == 0 and len(marked):
                figure.legend(loc="outside lower center")
        axes.set_title(plain(one_line(found.environment_names[environment], 40)))
        axes.set_xlim(-0.02 * found.num_loci - 0.5, 1.02 * found.num_loci - 0.5)
        _name_places(axes, found, order, edges, wide=across == 1, labelled=environment + across >= number)
    figure.supylabel("effect of the alternative allele")
    return figure


@style()
def draw_pairs(found: Learned) -> Figure:
    """Heat maps of pairs: RMS below the diagonal, the size of the mean above it, true pairs ringed.

    Terms of order three or more colour the lower triangle alone.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    number = min(len(found.environment_names), MOST_PANELS)
    across = min(number, 3 if number < 10 else 4)
    down = math.ceil(number / across)
    side = 4.6 if number == 1 else 2.7
    figure = Figure(figsize=(side * across + 1.0, side * down + 0.5), layout="constrained")
    order, _, edges = _along_the_genome(found, found.loci)
    num = len(found.loci)
    rank = np.empty(num, dtype=np.intp)
    rank[order] = np.arange(num)
    first, second = np.triu_indices(num, k=1)
    low, high = np.maximum(rank[first], rank[second]), np.minimum(rank[first], rank[second])
    orders: set[int] = set()
    for environment in range(number):
        axes = figure.add_subplot(down, across, environment + 1)
        heat = np.full((num, num), np.nan)
        heat[low, high] = found.pairs.rms[:, environment]
        heat[high, low] = np.abs(found.pairs.mean[:, environment])
        top = float(np.nanmax(heat))
        if top < ROUNDING * found.std[environment]:  # an additive model: noise of rounding is no map
            heat, top = np.where(np.isnan(heat), np.nan, 0.0), 0.0
        picture = axes.imshow(
            np.ma.masked_invalid(heat), cmap="Greys", vmin=0, vmax=top if top > 0 else 1, interpolation="nearest"
        )
        figure.colorbar(picture, ax=axes, shrink=0.75, label="second difference" if environment == 0 else None)
        lowest = lowest_order(found, environment)[np.ix_(found.loci[order], found.loci[order])]
        for k in np.unique(lowest[~np.isnan(lowest)]).astype(int):
            orders.add(int(k))
            row, column = np.nonzero(lowest == k)
            axes.scatter(
                column,
                row,
                s=(0.62 * 60 * side / num) ** 2 if num <= 60 else 4,
                facecolors="none",
                edgecolors=_colour(int(k)),
                linewidths=1.0 if num <= 60 else 0.5,
            )
        axes.grid(False)
        axes.spines[:].set_visible(False)
        for edge in edges:
            axes.axhline(edge - 0.5, color="#AAAAAA", linewidth=0.4)
            axes.axvline(edge - 0.5, color="#AAAAAA", linewidth=0.4)
        if number > 1:
            axes.set_title(plain(one_line(found.environment_names[environment], 30)))
        if num <= _MOST_NAMED and number == 1:
            names = [plain(one_line(str(name), _LONGEST_NAME)) for name in found.locus_ids[found.loci[order]]]
            axes.set_xticks(range(num), names, rotation=90, fontsize=7)
            axes.set_yticks(range(num), names, fontsize=7)
            axes.tick_params(length=0)
        else:
            axes.tick_params(labelsize=7)
            axes.set_xlabel("locus, in genome order" if environment + across >= number else "", fontsize=8)
    note = "below the diagonal: root mean square over genotypes; above: size of the mean"
    figure.suptitle(wrapped(note, side * across + 0.6), fontsize=8)
    if orders:
        rings = [
            Line2D([], [], linestyle="none", marker="o", markerfacecolor="none", markeredgecolor=_colour(k))
            for k in sorted(orders)
        ]
        labels = [f"together in a true term of order {k}" for k in sorted(orders)]
        figure.legend(rings, labels, loc="outside lower center", ncols=2 if number > 1 else 1)
    return figure


def _colour(order: int) -> str:
    return {2: COLOURS[0], 3: COLOURS[1], 4: COLOURS[2]}.get(order, COLOURS[3])


def _along_the_genome(
    found: Learned, loci: NDArray[np.intp] | None = None
) -> tuple[NDArray[np.intp], NDArray, list[int]]:
    """Loci by chromosome (as they come) and position; a colour for each; where a new chromosome begins."""
    which = np.arange(found.num_loci) if loci is None else loci
    if found.chromosomes is None:
        return np.arange(len(which)), np.full(len(which), COLOURS[0], dtype=object), []
    names = [str(name) for name in found.chromosomes]
    place = {name: at for at, name in enumerate(dict.fromkeys(names))}
    chromosome = np.array([place[names[at]] for at in which])
    position = which if found.positions is None else found.positions[which]
    order = np.lexsort((position, chromosome))
    sorted_chromosomes = chromosome[order]
    edges = (np.flatnonzero(np.diff(sorted_chromosomes)) + 1).tolist()
    return order, np.array([COLOURS[0], COLOURS[1]], dtype=object)[sorted_chromosomes % 2], edges


def _name_places(
    axes: Axes, found: Learned, order: NDArray[np.intp], edges: list[int], wide: bool, labelled: bool
) -> None:
    """Chromosomes where they are known, else loci by name where there is room, else by number."""
    if found.chromosomes is not None:
        bounds = [0, *edges, found.num_loci]
        middles = [(a + b - 1) / 2 for a, b in itertools.pairwise(bounds)]
        names = [plain(one_line(str(found.chromosomes[order[a]]), 12)) for a in bounds[:-1]]
        axes.set_xticks(middles, names if labelled else [], rotation=90 if len(names) > 6 or not wide else 0)
        axes.tick_params(axis="x", length=0, labelsize=8)
    elif found.num_loci <= _MOST_NAMED and wide:
        names = [plain(one_line(str(name), _LONGEST_NAME)) for name in found.locus_ids[order]]
        axes.set_xticks(range(len(names)), names if labelled else [], rotation=90, fontsize=7)
    elif labelled:
        axes.set_xlabel("locus")
