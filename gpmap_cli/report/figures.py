"""Test R^2 of each model against what a sweep varied, drawn for print: as PNG and as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpmap_cli.errors import one_line
from gpmap_cli.report.collect import is_number
from gpmap_cli.report.layout import Layout, Panel, arrange
from gpmap_cli.report.read import Run
from gpmap_cli.report.style import CHARACTER, COLOURS, GREY, plain, save, style, wrapped
from gpmap_cli.report.tables import setting_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_COLUMNS = 4
# The markers come round in a cycle of another length than the colours, so that no two of 72 models look alike.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_CEILING: dict[str, Any] = {"color": GREY, "linestyle": "--", "linewidth": 1.1}
_CEILING_LABEL = "noise ceiling"
_LONGEST_CATEGORY = 24


def r2_figure(runs: Iterable[Run], directory: Path, split: str = "test") -> list[Path]:
    """Draw R^2 of all completed runs on one split to `r2.png` and `r2.svg`; no files when no run has a score."""
    layout = arrange(runs, split)
    if layout is None:
        return []
    directory.mkdir(parents=True, exist_ok=True)
    return save(draw(layout), directory, "r2")


@style()
def draw(layout: Layout) -> Figure:
    """The figure: a pair of axes per panel on one scale of R^2, and a legend below that covers no data."""
    from matplotlib.figure import Figure

    num_panels = len(layout.panels)
    num_rows = math.ceil(num_panels / _MOST_COLUMNS)
    num_columns = math.ceil(num_panels / num_rows)
    width = _width(layout, num_columns)
    room = width / num_columns - 0.5
    height = 4.2 if num_panels == 1 else 1.0 + 2.2 * num_rows
    slanted = _slanted(layout, room)
    if slanted:
        height += min(num_rows, 2) * 0.7 * CHARACTER * max(map(len, _categories(layout)))
    figure = Figure(figsize=(width, height), layout="constrained")
    bottom = _lowest(layout.panels)
    for index, panel in enumerate(layout.panels):
        axes = figure.add_subplot(num_rows, num_columns, index + 1)
        lowest_of_column = index + num_columns >= num_panels
        _draw_panel(figure, axes, panel, layout, room)
        axes.set_ylim(bottom, 1.0)
        axes.tick_params(labelleft=index % num_columns == 0)
        if index % num_columns == 0:
            axes.set_ylabel(wrapped(layout.y_label, 3.0 if num_panels == 1 else 1.6))
        if layout.numeric:
            _place_numbers(axes, layout, room, lowest_of_column)
        else:
            _place_categories(axes, layout, slanted, lowest_of_column)
        axes.set_xlabel(wrapped(one_line(layout.x_label, 90), room) if lowest_of_column else "")
        axes.set_title(wrapped(one_line(panel.title, 90), room))
    if layout.note:
        figure.suptitle(layout.note, fontsize=8, color=_CEILING["color"])
    _draw_legend(figure, layout, width)
    return figure


def _width(layout: Layout, num_columns: int) -> float:
    """Inches: a text column's width and what many panels, or many places along one axis, need beyond it."""
    if num_columns > 1:
        return {2: 6.6, 3: 7.8}.get(num_columns, 9.4)
    if layout.numeric:
        return 6.0
    crowd = len(layout.xs) * (1.0 if layout.by_model else 0.8 + 0.17 * len(layout.models))
    return min(10.0, max(3.6, 1.2 + 0.75 * crowd))


def _draw_panel(figure: Figure, axes: Axes, panel: Panel, layout: Layout, room: float) -> None:
    """Points, intervals and (for a numeric x) lines; models stand side by side where they would cover each other."""
    from matplotlib.transforms import ScaledTranslation

    _draw_ceiling(axes, panel, layout)
    among = {x: at for at, x in enumerate(layout.xs)}
    for index, model in enumerate(layout.models):
        look = _look(index)
        from_middle = 0.0 if layout.by_model else index - (len(layout.models) - 1) / 2
        points = panel.series.get(model, [])
        for point in points:
            if layout.numeric and point.x is None:
                axes.axhline(point.r2, color=look["color"], linewidth=1.2, linestyle=":")
        if layout.numeric:
            placed = sorted((float(point.x), point.r2, point) for point in points if is_number(point.x))
        else:
            placed = sorted((float(among[point.x]), point.r2, point) for point in points)
        if not placed:
            continue
        # Lines keep their numbers and are shifted by points of print; categories have no numbers to keep.
        apart = min(3.0 / 72, 0.35 * room / len(layout.xs) / len(layout.models))
        shift = ScaledTranslation(apart * from_middle, 0, figure.dpi_scale_trans)
        transform = axes.transData + shift if layout.numeric else axes.transData
        step = 0.0 if layout.numeric else min(0.22, 0.7 / len(layout.models)) * from_middle
        bars = [(x + step, p.low, p.high) for x, _, p in placed if p.low is not None and p.high is not None]
        axes.errorbar(
            [x for x, _, _ in bars],
            [(low + high) / 2 for _, low, high in bars],
            yerr=[abs(high - low) / 2 for _, low, high in bars],
            fmt="none",
            ecolor=look["color"],
            elinewidth=1.0,
            capsize=2.0,
            transform=transform,
        )
        axes.plot(
            [x + step for x, _, _ in placed],
            [r2 for _, r2, _ in placed],
            linestyle="-" if layout.numeric else "none",
            linewidth=1.3,
            markersize=5,
            markeredgecolor="white",
            markeredgewidth=0.3,
            clip_on=False,  # a score of nearly 1 keeps its whole marker
            zorder=3,
            label=plain(model),
            transform=transform,
            **look,
        )


def _draw_ceiling(axes: Axes, panel: Panel, layout: Layout) -> None:
    known = [(at, x, panel.ceiling[x]) for at, x in enumerate(layout.xs) if x in panel.ceiling]
    heights = [height for _, _, height in known] or list(panel.ceiling.values())
    if not heights:
        return
    if max(heights) - min(heights) < 1e-4:
        axes.axhline(heights[0], label=_CEILING_LABEL, **_CEILING)
    elif layout.numeric:
        axes.plot([x for _, x, _ in known if is_number(x)], heights, label=_CEILING_LABEL, **_CEILING)
    else:
        places = [at for at, _, _ in known]
        axes.hlines(heights, [at - 0.5 for at in places], [at + 0.5 for at in places], label=_CEILING_LABEL, **_CEILING)


def _place_numbers(axes: Axes, layout: Layout, room: float, labelled: bool) -> None:
    """Ticks at the values that were run: on a log axis where they span decades, fewer where labels would touch."""
    values = [float(x) for x in layout.xs if is_number(x)]
    low, high = min(values), max(values)
    if low > 0 and high / low >= 30 and len(values) > 2:
        axes.set_xscale("log")
        axes.set_xlim(low * (low / high) ** 0.05, high * (high / low) ** 0.05)
        positions = [math.log(value / low) / math.log(high / low) for value in values]
    else:
        margin = 0.05 * (high - low)
        axes.set_xlim(low - margin, high + margin)
        positions = [(value - low) / (high - low) for value in values]
    texts = [setting_text(x) for x in layout.xs]
    kept = _apart([0.9 * room * position for position in positions], texts)
    axes.set_xticks([values[at] for at in kept], [texts[at] for at in kept] if labelled else [])
    axes.minorticks_off()


def _place_categories(axes: Axes, layout: Layout, slanted: bool, labelled: bool) -> None:
    texts = _categories(layout)
    axes.set_xlim(-0.6, len(texts) - 0.4)
    axes.set_xticks(range(len(texts)), texts if labelled else [])
    if slanted:
        axes.tick_params(axis="x", labelrotation=45)
        for label in axes.get_xticklabels():
            label.set(horizontalalignment="right", rotation_mode="anchor")


def _categories(layout: Layout) -> list[str]:
    return [plain(setting_text(x, _LONGEST_CATEGORY)) for x in layout.xs]


def _slanted(layout: Layout, room: float) -> bool:
    """Whether the names below the axis are too long to be written side by side."""
    if layout.numeric:
        return False
    texts = _categories(layout)
    return CHARACTER * (max(map(len, texts)) + 1) > room / len(texts)


def _apart(positions: Sequence[float], texts: Sequence[str]) -> list[int]:
    """Which of these labels, centred at these inches, can be written without touching the one before."""
    kept: list[int] = []
    for at, (position, text) in enumerate(zip(positions, texts, strict=True)):
        need = CHARACTER * (len(text) + len(texts[kept[-1]])) / 2 + 0.08 if kept else 0.0
        if not kept or position - positions[kept[-1]] >= need:
            kept.append(at)
    return kept


def _draw_legend(figure: Figure, layout: Layout, width: float) -> None:
    from matplotlib.lines import Line2D

    entries: list[tuple[Any, str]] = []
    for at, model in enumerate([] if layout.by_model else layout.models):
        levels = [p for panel in layout.panels for p in panel.series.get(model, []) if layout.numeric and p.x is None]
        look = _look(at)
        if levels:
            look = {"color": look["color"], "linestyle": ":", "marker": ""}
        elif not layout.numeric:
            look["linestyle"] = "none"
        entries.append((Line2D([], [], markersize=5.5, linewidth=1.4, **look), plain(setting_text(model))))
    if any(panel.ceiling for panel in layout.panels):
        entries.append((Line2D([], [], **_CEILING), _CEILING_LABEL))
    if not entries:
        return
    needed = [CHARACTER * len(text) + 0.6 for _, text in entries]
    columns = len(entries) if sum(needed) <= width else max(1, int(width / max(needed)))
    handles, texts = zip(*entries, strict=True)
    figure.legend(handles, texts, loc="outside lower center", ncols=columns)


def _look(index: int) -> dict[str, Any]:
    return {"color": COLOURS[index % len(COLOURS)], "marker": _MARKERS[index % len(_MARKERS)]}


def _lowest(panels: Iterable[Panel]) -> float:
    """Zero, or a little below the lowest score or interval."""
    drawn = [
        bound
        for panel in panels
        for points in panel.series.values()
        for point in points
        for bound in (point.r2, point.low)
        if bound is not None
    ]
    lowest = min(drawn, default=0.0)
    return 0.0 if lowest >= 0 else lowest - 0.03 * (1 - lowest)
