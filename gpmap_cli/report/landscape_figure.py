"""Variance by epistasis order of complete landscapes, drawn for print."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpmap_cli.errors import one_line
from gpmap_cli.report.style import COLOURS, plain, save, style, wrapped
from gpmap_cli.variance.landscape_variance import LandscapeVariance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_PANELS = 18
_NOISE_COLOUR = "#AAAAAA"


def draw_landscapes(found: Mapping[int, LandscapeVariance], names: Sequence[str], directory: Path) -> list[Path]:
    """Draw to `variance_by_order.png` and `.svg`; the first `_MOST_PANELS` environments."""
    return save(draw(found, names), directory, "variance_by_order")


@style()
def draw(found: Mapping[int, LandscapeVariance], names: Sequence[str]) -> Figure:
    """Bars of the share of every order, what is noise in grey, and the cumulative share; a panel per environment."""
    from matplotlib.figure import Figure

    shown = list(found.items())[:_MOST_PANELS]
    across = min(len(shown), 3)
    down = math.ceil(len(shown) / across)
    width = 6.0 if across == 1 else 3.4 * across
    figure = Figure(figsize=(width, 0.9 + (2.9 if down == 1 else 2.2) * down), layout="constrained")
    handles: dict[str, Any] = {}
    for at, (environment, one) in enumerate(shown):
        axes = figure.add_subplot(down, across, at + 1)
        orders = np.arange(1, one.num_loci + 1)
        share = one.variance / one.total
        noise = np.clip(np.nan_to_num(one.noise_variance / one.total), 0, share)
        label = "of the order, beyond noise" if one.noise is not None else "of the order"
        handles.setdefault(label, axes.bar(orders, share - noise, bottom=noise, width=0.75, color=COLOURS[0]))
        if one.noise is not None:
            bars = axes.bar(orders, noise, width=0.75, color=_NOISE_COLOUR, edgecolor="black", linewidth=0.3)
            handles.setdefault("expected of noise", bars)
        (line,) = axes.plot(orders, np.cumsum(share), color=COLOURS[1], marker="o", markersize=3.5, linewidth=1.2)
        handles.setdefault("cumulative", line)
        axes.set_ylim(0, 1.04)
        step = 1 if one.num_loci <= (24 if across == 1 else 10) else 2
        axes.set_xticks(orders[::step])
        title = plain(one_line(names[environment], 40))
        if one.noise is not None:
            title += "\n" + wrapped(f"noise: {one.noise.source}", width / across - 0.6)
        axes.set_title(title, fontsize=8)
        if at + across >= len(shown):
            axes.set_xlabel("epistasis order (loci per term)", fontsize=9)
        axes.tick_params(labelleft=at % across == 0)
    figure.supylabel("share of the phenotypic variance")
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=len(handles))
    return figure
