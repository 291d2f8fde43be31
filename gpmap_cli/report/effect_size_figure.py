"""How large the effects of terms are, by epistasis order, drawn for print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpmap_cli.report.drawn_terms import DrawnTerms, OrderTerms
from gpmap_cli.report.panels import panels
from gpmap_cli.report.style import COLOURS, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_BARS, _MOST_BARS_SMALL = 30, 15  # terms of an order with error bars; more of them are a grey area
_MOST_RANKS = 300  # points of an order; beyond, ranks that are evenly apart on a logarithmic axis
_MARKERS = ("o", "s", "^", "D")
_WIDE = 10.0  # ratio of largest and smallest from which on an axis is logarithmic


@style()
def draw_effect_sizes(found: DrawnTerms) -> Figure:
    """Sizes of effects in the phenotype's units, ranked by order, with two standard errors; a panel per environment.

    Terms that pass are filled; those that do not are hollow and have no bars, and on a logarithmic axis those far below
    all that pass are left out.
    """
    from matplotlib.lines import Line2D

    grid = panels(found.environment_names, (5.6, 3.3), (3.0, 1.9))
    hollow = False
    for environment in range(grid.number):
        axes = grid.axes(environment)
        terms = [one for one in found.of(environment) if np.isfinite(one.effect).any()]
        for one in terms:
            hollow = _draw(axes, one, grid.number == 1) or hollow
        _scales(axes, terms)
        axes.tick_params(labelsize=7)
        axes.set_xlabel("rank of the term in its order" if grid.is_lowest(environment) else "", fontsize=9)
    entries: dict[str, Any] = {
        f"order {order}": Line2D([], [], linestyle="none", markersize=5, **_look(order)) for order in found.orders
    }
    if hollow:
        entries[f"does not pass {found.criterion}"] = Line2D(
            [], [], linestyle="none", marker="o", markerfacecolor="none", markeredgecolor="black", markersize=4
        )
    grid.finish("bars: two standard errors", entries, "size of the effect")
    return grid.figure


def _look(order: int) -> dict[str, Any]:
    return {"color": COLOURS[order - 1], "marker": _MARKERS[order - 1]}


def _draw(axes: Axes, terms: OrderTerms, alone: bool) -> bool:
    """One order; whether any of its terms does not pass."""
    known = np.flatnonzero(np.isfinite(terms.effect))
    ranked = known[np.argsort(-np.abs(terms.effect[known]), kind="stable")]
    rank = np.arange(1, len(ranked) + 1)
    if len(rank) > _MOST_RANKS:
        rank = np.unique(np.geomspace(1, len(ranked), _MOST_RANKS).round().astype(np.intp))
        ranked = ranked[rank - 1]
    size, passes = np.abs(terms.effect[ranked]), terms.passes[ranked]
    look = _look(terms.order)
    barred = np.flatnonzero(passes)[: _MOST_BARS if alone else _MOST_BARS_SMALL]
    axes.errorbar(
        rank[barred],
        size[barred],
        yerr=2 * terms.std_error[ranked][barred],
        fmt="none",
        ecolor=look["color"],
        elinewidth=0.8,
    )
    marks: dict[str, Any] = {"linestyle": "none", "zorder": 3, "markersize": 4.0 if alone else 2.6, **look}
    axes.plot(rank[passes], size[passes], markeredgecolor="white", markeredgewidth=0.3, **marks)
    axes.plot(rank[~passes], size[~passes], markerfacecolor="none", markeredgewidth=0.5, **marks)
    return bool((~passes).any())


def _scales(axes: Axes, terms: list[OrderTerms]) -> None:
    """Logarithmic where effects, or ranks, span a wide range; else from zero."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    sizes = np.concatenate([[], *(np.abs(one.effect[np.isfinite(one.effect)]) for one in terms)])
    sizes = sizes[sizes > 0]
    if max((len(one.loci) for one in terms), default=0) > 3 * _WIDE:
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.set_xlim(0.5, max((len(one.loci) for one in terms), default=1) + 0.5)
    if len(sizes) and sizes.max() > _WIDE * np.median(sizes):
        passing = np.concatenate([np.abs(one.effect[one.passes & np.isfinite(one.effect)]) for one in terms])
        lowest = 0.2 * passing.min() if len(passing) and passing.min() > 0 else 0.1 * np.median(sizes)
        axes.set_yscale("log", nonpositive="clip")
        bottom, top = max(lowest, 0.7 * sizes.min()), 1.6 * sizes.max()
        axes.set_ylim(bottom, top)
        if top < 100 * bottom:
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−"))
            axis.set_minor_formatter(NullFormatter())
    if axes.get_yscale() != "log":
        axes.set_ylim(bottom=0)
