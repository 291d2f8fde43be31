"""What is in a dataset file, drawn for print: allele frequencies, LD decay, phenotypes, correlations."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.phenotype_statistics import OUTLIER_SD
from gpmap_cli.dataset.survey import Survey
from gpmap_cli.dataset.text import cut
from gpmap_cli.dataset.text import plain as printable
from gpmap_cli.report.style import CHARACTER, COLOURS, GREY, plain, save, style, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_COLUMNS = 4
_MOST_PANELS = 60
_MOST_WITH_VALUES = 20  # environments in the heat map: more of them, and the numbers do not fit into the cells
_MOST_NAMED = 60
_MOST_TICKS = 7
_LONGEST_NAME = 30
_BLUE, _ORANGE = COLOURS[0], COLOURS[1]


def draw_dataset(found: Survey, directory: Path) -> tuple[list[Path], list[str]]:
    """Draw what was found in a dataset file into a directory that is there.

    Returns the files written, `NAME.png` and `NAME.svg` of each figure, and a line about each one left out.
    """
    drawings: dict[str, Callable[[Survey], Figure | str]] = {
        "allele_frequency": draw_allele_frequency,
        "ld_decay": draw_ld_decay,
        "phenotypes": draw_phenotypes,
        "environment_correlation": draw_correlation,
    }
    written: list[Path] = []
    left_out: list[str] = []
    for name, draw in drawings.items():
        drawn = draw(found)
        if isinstance(drawn, str):
            left_out.append(f"{name} left out: {drawn}")
        else:
            written += save(drawn, directory, name)
    return written, left_out


@style()
def draw_allele_frequency(found: Survey) -> Figure | str:
    """How many loci have the alternative allele at which frequency; or why there is nothing to draw."""
    frequency = found.genotypes.allele_frequency
    if len(frequency) == 0:
        return "no genotype is known"
    figure, axes = _single(5.0, 3.4)
    low, high = float(frequency.min()), float(frequency.max())
    step = 0.02 if high - low > 0.3 else 0.005
    # Classes are centred on multiples of the step, so that frequencies of 0, 1/2 and 1 lie inside one.
    first, last = round(low / step) - 1, round(high / step) + 1
    edges = [step * (number - 0.5) for number in range(first, last + 2)]
    axes.hist(frequency, edges, color=_BLUE, edgecolor="white", linewidth=0.4)
    axes.set_xlim(*((-0.03, 1.03) if step == 0.02 else (step * (first - 4), step * (last + 4))))
    axes.set_xlabel("frequency of the alternative allele")
    axes.set_ylabel("loci")
    _whole_numbers(axes)
    return figure


@style()
def draw_ld_decay(found: Survey) -> Figure | str:
    """Mean r2 against distance on a log axis, with that between chromosomes; or why there is nothing to draw."""
    ld = found.ld
    if isinstance(ld, str):
        return ld
    apart = ld.lower > 0  # loci at the same position have no place on a log axis
    if not apart.any():
        return "no two loci of one chromosome lie apart"
    figure, axes = _single(5.4, 3.6)
    axes.plot(
        ld.mean_distance[apart],
        ld.mean_r2[apart],
        color=_BLUE,
        marker="o",
        markersize=5,
        linewidth=1.4,
        clip_on=False,
        zorder=3,
        label="same chromosome" if ld.has_chromosomes else "pairs of loci",
    )
    if ld.unlinked_r2 is not None:
        axes.axhline(ld.unlinked_r2, color=_ORANGE, linestyle="--", linewidth=1.3, label="other chromosomes")
    axes.axhline(ld.chance_r2, color=GREY, linestyle=":", linewidth=1.3, label="by chance")
    top = max(float(ld.mean_r2[apart].max()), ld.unlinked_r2 or 0.0, ld.chance_r2)
    top = 1.0 if top > 0.5 else max(0.1, 1.15 * top)
    axes.set_ylim(-0.02 * top, top)
    axes.set_xscale("log")
    axes.set_xlim(float(ld.lower[apart][0]), float(ld.upper[-1]))
    edges = np.unique([*ld.lower[apart], *ld.upper[apart]])
    ticks = edges if len(edges) <= _MOST_TICKS else [edge for edge in edges if np.isclose(np.log10(edge) % 1, 0)]
    axes.set_xticks(ticks, [_distance(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel({"bp": "distance (bp)", "position": "distance (position)", "loci": "distance (loci)"}[ld.unit])
    axes.set_ylabel("mean r²")
    axes.set_title(
        f"{ld.num_loci} of {len(found.genotypes.known)} loci, {ld.num_samples} of {len(found.phenotypes)} samples",
        fontsize=8,
        color=GREY,
    )
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _distance(value: float) -> str:
    """A distance as it is written on maps: 1, 20, 500, 1k, 2M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


@style()
def draw_phenotypes(found: Survey) -> Figure | str:
    """A histogram of the phenotypes of each environment, in their own units; or why there is nothing to draw."""
    measured = [at for at, one in enumerate(found.distributions) if one.count]
    if not measured:
        return "no phenotype is known"
    from matplotlib.figure import Figure

    shown = measured[:_MOST_PANELS]
    num_rows = math.ceil(len(shown) / _MOST_COLUMNS)
    num_columns = math.ceil(len(shown) / num_rows)
    width = {1: 4.6, 2: 6.4, 3: 8.0}.get(num_columns, 9.4)
    room = width / num_columns - 0.5
    figure = Figure(figsize=(width, 3.4 if num_rows == 1 else 0.5 + 2.0 * num_rows), layout="constrained")
    for panel, at in enumerate(shown):
        axes = figure.add_subplot(num_rows, num_columns, panel + 1)
        values = found.phenotypes[:, at]
        known = values[~np.isnan(values)].astype(np.float64)
        axes.hist(known, int(np.clip(math.sqrt(len(known)), 8, 50)), color=_BLUE, edgecolor="white", linewidth=0.3)
        one = found.distributions[at]
        axes.axvline(one.mean, color=_ORANGE, linewidth=1.3)
        if one.num_outliers:
            outliers = known[np.abs(known - one.mean) > OUTLIER_SD * one.sd]
            axes.plot(outliers, np.zeros(len(outliers)), color=_ORANGE, marker="v", linestyle="none", clip_on=False)
        name = _name(found.environment_names[at])
        axes.set_title(wrapped(name, room) + f"\nn = {len(known)}")
        axes.locator_params(axis="x", nbins=4)
        _whole_numbers(axes)
    any_outliers = any(found.distributions[at].num_outliers for at in shown)
    marks = f"; triangles: beyond {OUTLIER_SD:g} sd" if any_outliers else ""
    figure.supxlabel(f"phenotype (line: mean{marks})")
    figure.supylabel("samples")
    if len(shown) < len(measured):
        figure.suptitle(f"the first {len(shown)} of {len(measured)} environments", fontsize=8, color=GREY)
    return figure


@style()
def draw_correlation(found: Survey) -> Figure | str:
    """Heat map of the correlations of the environments, in the file's order; or why there is nothing to draw."""
    if len(found.environment_names) < 2:
        return "fewer than two environments"
    if found.correlation is None:
        return "too many environments"
    if len(found.correlation.pairs()[2]) == 0:
        return "no two environments vary over samples measured in both"
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    names = [plain(_name(name)) for name in found.environment_names]
    number = len(names)
    side = min(10.0, 1.2 + 0.42 * number)
    longest = CHARACTER * max(map(len, names))
    slanted = longest > 0.9 * side / number
    left, below = (longest, 0.7 * longest if slanted else 0.2) if number <= _MOST_NAMED else (0.5, 0.4)
    # Cells are square by these measures: a layout of axes that keep their own shape would cut long names.
    figure = Figure(figsize=(side + left + 1.1, side + below), layout="constrained")
    axes = figure.add_subplot()
    # Blue to red through white: told apart by all common kinds of colour vision. Undefined ones stay grey.
    colours = colormaps["RdBu_r"].with_extremes(bad="#BBBBBB")
    r = found.correlation.r
    corners = (0.5, number + 0.5, number + 0.5, 0.5)  # environments are numbered from 1
    picture = axes.imshow(
        np.ma.masked_invalid(r),
        cmap=colours,
        vmin=-1,
        vmax=1,
        aspect="auto",
        interpolation="nearest",
        extent=corners,
    )
    figure.colorbar(picture, label="Pearson's r", shrink=0.8)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    if number <= _MOST_NAMED:
        axes.set_xticks(range(1, number + 1), names)
        axes.set_yticks(range(1, number + 1), names)
        axes.tick_params(length=0)
        if slanted:
            axes.tick_params(axis="x", labelrotation=45)
            for label in axes.get_xticklabels():
                label.set(horizontalalignment="right", rotation_mode="anchor")
    else:
        axes.set_xlabel("environment, in the order of the file")
        axes.set_ylabel("environment")
    if number <= _MOST_WITH_VALUES:
        _write_values(axes, r)
    return figure


def _name(name: str) -> str:
    return cut(printable(name), _LONGEST_NAME)


def _write_values(axes: Axes, r: NDArray[np.float64]) -> None:
    for row, column in np.ndindex(r.shape):
        value = r[row, column]
        text = "-" if np.isnan(value) else f"{value:.2f}".replace("-", "−")
        colour = "white" if abs(value) > 0.6 else "black"
        axes.text(column + 1, row + 1, text, ha="center", va="center", fontsize=7, color=colour)


def _single(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _whole_numbers(axes: Axes) -> None:
    """Counts have no decimals."""
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
