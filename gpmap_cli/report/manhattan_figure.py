"""Terms of one epistasis order along the genome by their p-values, like a Manhattan plot, drawn for print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.report.drawn_terms import DrawnTerms, OrderTerms
from gpmap_cli.report.genome_axis import SHADES, draw_genome_axis
from gpmap_cli.report.panels import panels
from gpmap_cli.report.style import COLOURS, GREY, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CAP = 300.0  # -log10 p: smaller p-values are no numbers of a computer's
_MOST_TERMS, _MOST_SMALL = 1000, 300  # in the only panel, and in one of several
_MOST_JOINED = 30
_FROM_SQUARE_ROOT = 40.0  # -log10 p; its square root is about |z|
_DASHES = {"Bonferroni": "--", "permutation": "-.", "FDR": ":"}
_TRUE_SHADES = np.array([COLOURS[1], COLOURS[4]], dtype=object)  # as SHADES, of true terms
_STRIP = 0.2  # above the cap, of the height below it
_WORDS = {1: "loci", 2: "pairs", 3: "triples", 4: "sets of 4"}


@style()
def draw_manhattan(found: DrawnTerms, order: int) -> Figure:
    """-log10 p of the strongest terms of an order at each of their loci; a panel per environment.

    The loci of the strongest that pass are joined. p-values beyond `CAP` are triangles above it, in their order.
    """
    grid = panels(found.environment_names, (6.2, 3.0), (3.1, 1.9))
    entries: dict[str, Any] = {}
    notes = []
    for environment in range(grid.number):
        axes = grid.axes(environment)
        for terms in found.of(environment, order):
            notes.append(_draw(axes, terms, found, grid.number == 1, entries))
        draw_genome_axis(axes, found.genome, grid.width - 0.7, grid.is_lowest(environment))
    in_order = sorted(entries, key=lambda text: text.split()[0] in _DASHES)  # marks, then thresholds
    note = f"order {order}: {notes[0]}" if len(set(notes)) == 1 else f"order {order}: the strongest {_WORDS[order]}"
    grid.finish(note, {text: entries[text] for text in in_order}, "−log10 p")
    return grid.figure


def _draw(axes: Axes, terms: OrderTerms, found: DrawnTerms, alone: bool, entries: dict[str, Any]) -> str:
    """One panel; returns in words which terms it shows."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    most = _MOST_TERMS if alone else _MOST_SMALL
    shown = terms.take(most)
    x = found.genome.x[terms.loci[shown]]
    y = _heights(terms.strength[shown])
    colours = found.genome.shades[terms.loci[shown]]
    true_colours = _TRUE_SHADES[found.genome.chromosome[terms.loci[shown]] % 2]
    beyond = terms.strength[shown] > CAP
    true = np.zeros(len(shown), dtype=bool) if terms.true is None else terms.true[shown]
    size = 11.0 if alone else 6.0
    joined = np.flatnonzero(terms.passes[shown])[:_MOST_JOINED] if terms.order > 1 else np.empty(0, np.intp)
    axes.hlines(y[joined], x[joined].min(axis=1), x[joined].max(axis=1), color="#999999", linewidth=0.6, zorder=1.5)
    for kind, marker in ((~true & ~beyond, "o"), (~true & beyond, "^"), (true & ~beyond, "D"), (true & beyond, "^")):
        if not kind.any():
            continue
        is_true = bool(true[kind][0])
        axes.scatter(
            x[kind].ravel(),
            np.repeat(y[kind], terms.order),
            s=size * (1.5 if is_true or marker == "^" else 1.0),
            c=(true_colours if is_true else colours)[kind].ravel().tolist(),
            marker=marker,
            edgecolors="black" if is_true else "none",
            linewidths=0.5,
            zorder=3 if is_true else 2,
            clip_on=False,
        )
    if terms.true is not None:
        mark: dict[str, Any] = {"linestyle": "none", "markersize": 4.5}
        if true.any():
            entries["true term"] = Line2D([], [], marker="D", color=_TRUE_SHADES[0], markeredgecolor="black", **mark)
        if not true.all():
            entries["not a true term"] = Line2D([], [], marker="o", color=SHADES[0], **mark)
    if len(joined):
        label = "loci of one term" + (f", the {_MOST_JOINED} strongest" if terms.passes.sum() > _MOST_JOINED else "")
        if not any(text.startswith("loci of one term,") for text in entries):
            entries.pop("loci of one term", None)
            entries[label] = Line2D([], [], color="#999999", linewidth=0.9)
    if beyond.any():
        axes.axhline(CAP, color=GREY, linewidth=0.5)
        entries[f"p < 1e−{CAP:.0f} (not to scale)"] = Line2D(
            [], [], marker="^", color=GREY, linestyle="none", markersize=4.5
        )
    for name, height in terms.thresholds.items():
        look: dict[str, Any] = {"color": "black", "linestyle": _DASHES.get(name.split()[0], "--"), "linewidth": 0.9}
        axes.axhline(height, label=name, zorder=2.5, **look)
        entries[name] = Line2D([], [], **look)
    _scale(axes, y, max(terms.thresholds.values(), default=0.0))
    if len(shown) and not (terms.num_candidates is None or len(shown) >= terms.num_candidates):
        axes.axhspan(0, float(y[:most].min()), color="#EEEEEE", zorder=0.5)
        entries["weaker: only true ones" if len(shown) > most else "weaker: not drawn"] = Patch(color="#EEEEEE")
    return _which(terms, min(len(shown), most))


def _heights(strength: NDArray[np.float64]) -> NDArray[np.float64]:
    """Heights (T,) of descending -log10 p: themselves, and beyond the cap evenly in a strip above it."""
    number = int((strength > CAP).sum())
    root = np.sqrt(CAP)
    strip = root * (1 + _STRIP * np.arange(number, 0, -1) / number) if number else np.empty(0)
    return np.concatenate([strip**2, strength[number:]])


def _scale(axes: Axes, y: NDArray[np.float64], threshold: float) -> None:
    """From zero; where the strongest dwarf the threshold, on a scale of square roots, which is nearly one of |z|."""
    top = max(float(y.max(initial=0.0)), threshold, 1.0)
    if top > _FROM_SQUARE_ROOT:
        axes.set_yscale("function", functions=(_root, np.square))
        fitting = [(0, 10, 40, 100), (0, 10, 50, 100, 200, 300)][top > 120]
        axes.set_yticks([tick for tick in fitting if tick <= top])
    axes.set_ylim(0, 1.06 * top)
    axes.tick_params(axis="y", labelsize=7)


def _root(value: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(np.maximum(value, 0))


def _which(terms: OrderTerms, number: int) -> str:
    words = _WORDS.get(terms.order, f"sets of {terms.order}")
    if terms.num_candidates is None:
        return f"{number:,} {words} that were chosen"
    if terms.num_candidates == 1:
        return "the only set of loci"
    if number == terms.num_candidates:
        return f"all {number:,} {words}"
    return f"the {number:,} strongest of {terms.num_candidates:,} {words}"
