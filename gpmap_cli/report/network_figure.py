"""The strongest interactions as a network around the genome, drawn for print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.report.drawn_terms import DrawnTerms
from gpmap_cli.report.genome_axis import GenomeAxis
from gpmap_cli.report.panels import panels
from gpmap_cli.report.style import COLOURS, GREY, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_TERMS = 40
_MOST_NAMED, _MOST_NAMED_SMALL = 16, 8  # in the only panel, and in one of several
_APART, _APART_SMALL = 0.11, 0.2  # radians between names
_COLOURS = {1: COLOURS[0], -1: COLOURS[1]}  # blue and vermilion, positive and negative
_DASHES: dict[int, Any] = {1: "-", -1: (0, (3.0, 1.4))}  # told apart in grey print too
_WORDS = {1: "positive", -1: "negative"}
_START = 0.5 * np.pi  # the genome runs clockwise from the top
_HUB = 0.9  # how far out hubs lie, of the way to the middle of their loci
_ARCS = ("#444444", "#AAAAAA")  # of chromosomes in turn
_PER_LETTER = 0.042  # radians along the circle, of the names of chromosomes


@style()
def draw_network(found: DrawnTerms) -> Figure:
    """Loci on a circle in genome order; chords are pairs, stars terms of higher order; a panel per environment.

    Of the terms that pass, the `MOST_TERMS` of the smallest p-values; widths are sizes of effects.
    """
    from matplotlib.lines import Line2D

    grid = panels(found.environment_names, (5.6, 5.2), (2.9, 2.8))
    signs: set[int] = set()
    numbers = []
    for environment in range(grid.number):
        axes = grid.axes(environment)
        axes.set_title(axes.get_title(), loc="left", fontsize=8)  # out of the way of names of loci
        axes.set_title("")
        terms = strongest(found, environment)
        numbers.append(len(terms))
        _circle(axes, found.genome, grid.number == 1)
        _draw(axes, terms, found.genome, grid.number == 1)
        signs |= {int(np.sign(effect)) for _, effect, _ in terms}
        if not terms:
            text = f"no interaction passes\n{found.criterion}" if found.criterion else "no interaction was chosen"
            axes.text(0, 0, text, ha="center", va="center", color=GREY, fontsize=9 if grid.number == 1 else 6)
    entries: dict[str, Any] = {
        f"{_WORDS[sign]} effect": Line2D([], [], color=_COLOURS[sign], linestyle=_DASHES[sign], linewidth=1.6)
        for sign in sorted(signs - {0}, reverse=True)
    }
    if any(order > 2 for order in found.orders) and max(numbers):
        entries["term of order 3 or more"] = Line2D(
            [], [], linestyle="none", marker="o", markerfacecolor="white", markeredgecolor="black", markersize=4
        )
    most = f", at most the {MOST_TERMS} strongest" if max(numbers) == MOST_TERMS else ""
    which = f"interactions that pass {found.criterion}" if found.criterion else "interactions that were chosen"
    grid.finish(f"{which}{most}; width: size of the effect", entries)
    return grid.figure


def strongest(found: DrawnTerms, environment: int) -> list[tuple[NDArray[np.int32], float, float]]:
    """Loci, effect and -log10 p of the interactions to draw, strongest first."""
    terms = []
    for one in found.of(environment):
        if one.order > 1:
            rows = np.flatnonzero(one.passes & np.isfinite(one.effect))[:MOST_TERMS]
            terms += [(one.loci[at], float(one.effect[at]), float(one.strength[at])) for at in rows]
    return sorted(terms, key=lambda term: -term[2])[:MOST_TERMS]


def _angle(x: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Of places along the genome; its ends do not touch."""
    return _START - 2 * np.pi * (np.asarray(x) * 0.97 + 0.015)


def _at(x: NDArray[np.float64] | float, radius: float = 1.0) -> NDArray[np.float64]:
    """Points (..., 2)."""
    angle = _angle(x)
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _point(x: float, radius: float) -> tuple[float, float]:
    across, up = _at(x, radius).tolist()
    return across, up


def _circle(axes: Axes, genome: GenomeAxis, alone: bool) -> None:
    """Chromosomes as arcs, dark and light in turn, with their names."""
    several = len(genome.spans) > 1
    taken = -1.0  # of the circle, by names
    for at, (name, low, high) in enumerate(genome.spans):
        x = np.linspace(low, high, max(3, int(200 * (high - low)) + 2))
        axes.plot(*_at(x, 1.04).T, color=_ARCS[at % 2], linewidth=4 if alone else 2.2, solid_capstyle="butt")
        middle = (low + high) / 2
        half = _PER_LETTER * len(name) / (4 * np.pi)
        if several and alone and middle - half > taken:
            taken = middle + half
            turn = float(np.degrees(_angle(middle))) - 90
            upright = turn + (180 if np.sin(_angle(middle)) < 0 else 0)
            axes.text(*_point(middle, 1.12), name, ha="center", va="center", fontsize=7, color=GREY, rotation=upright)
    room = (1.19 if several and alone else 1.1) + 0.45
    axes.set(xlim=(-room, room), ylim=(-room, room), aspect="equal")
    axes.axis("off")


def _draw(axes: Axes, terms: list[tuple[NDArray[np.int32], float, float]], genome: GenomeAxis, alone: bool) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Curve

    widest = max((abs(effect) for _, effect, _ in terms), default=1.0) or 1.0
    for number, (loci, effect, _) in enumerate(terms):
        sign = 1 if effect > 0 else -1
        width = (0.5 + 2.3 * abs(effect) / widest) * (1.0 if alone else 0.6)
        look: dict[str, Any] = {
            "color": _COLOURS[sign],
            "linewidth": width,
            "zorder": 3 - number / MOST_TERMS,
            "alpha": 0.9,
        }
        ends = _at(genome.x[loci])
        if len(loci) == 2:
            inward = 0.5 * ends.mean(axis=0)
            curve = Curve([ends[0], inward, ends[1]], [Curve.MOVETO, Curve.CURVE3, Curve.CURVE3])
            axes.add_patch(PathPatch(curve, fill=False, linestyle=_DASHES[sign], **look))
            continue
        hub = _HUB * ends.mean(axis=0)
        for end in ends:
            axes.plot(*np.stack([hub, end]).T, linestyle=_DASHES[sign], **look)
        axes.plot(*hub, marker="o", color="white", markeredgecolor=_COLOURS[sign], markersize=4 if alone else 2.4)
    linked = np.array(list(dict.fromkeys(int(locus) for loci, _, _ in terms for locus in loci)), dtype=np.intp)
    places = _at(genome.x[linked])
    axes.scatter(places[:, 0], places[:, 1], s=14 if alone else 5, color="black", zorder=4)
    _name_loci(axes, linked, genome, alone)


def _name_loci(axes: Axes, linked: NDArray[np.intp], genome: GenomeAxis, alone: bool) -> None:
    """Names of the loci of the strongest terms, where they do not write over each other."""
    taken: list[float] = []
    radius = 1.19 if len(genome.spans) > 1 and alone else 1.1
    most, apart = (_MOST_NAMED, _APART) if alone else (_MOST_NAMED_SMALL, _APART_SMALL)
    for locus in linked:
        angle = float(_angle(genome.x[locus]))
        if len(taken) == most or any(abs(angle - other) < apart for other in taken):
            continue
        taken.append(angle)
        left = np.cos(angle) < 0
        axes.text(
            *_point(float(genome.x[locus]), radius),
            genome.names[locus],
            fontsize=7 if alone else 5,
            rotation=np.degrees(angle) - (180 if left else 0),
            rotation_mode="anchor",
            ha="right" if left else "left",
            va="center",
        )
