"""Where loci lie on an axis along the genome: chromosomes one after the other, by position where that is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.errors import one_line
from gpmap_cli.report.style import COLOURS, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NAMED = 30  # loci whose names fit along an axis
SHADES = (COLOURS[0], COLOURS[5])  # of chromosomes in turn: dark and light, in grey print too
LONGEST_NAME = 16
_GAP = 0.012  # between chromosomes, of the whole
_TICK = 0.125  # inches that a label across the axis needs


@dataclass(frozen=True)
class GenomeAxis:
    """L loci along a line from 0 to 1.

    x: (L,) places; chromosome: (L,) its number as it comes; spans: of each chromosome its name and ends; names: of the
    loci, short; ticks: places and labels; label: of the axis.
    """

    x: NDArray[np.float64]
    chromosome: NDArray[np.intp]
    spans: tuple[tuple[str, float, float], ...]
    names: tuple[str, ...]
    ticks: tuple[tuple[float, str], ...]
    label: str

    @property
    def shades(self) -> NDArray:
        """A colour (L,) for each locus."""
        return np.array(SHADES, dtype=object)[self.chromosome % 2]

    @property
    def edges(self) -> list[float]:
        """Where one chromosome ends and the next begins."""
        return [(one[2] + next_one[1]) / 2 for one, next_one in zip(self.spans, self.spans[1:], strict=False)]


def genome_axis(locus_ids: NDArray, chromosomes: NDArray | None, positions: NDArray | None) -> GenomeAxis:
    """Chromosomes in the order in which they come; loci without a position lie evenly, in the order of the columns.

    So do few loci of one chromosome, or of none, whose names then stand along the axis.
    """
    number = len(locus_ids)
    names = tuple(short_name(name) for name in locus_ids)
    labels = np.full(number, "", dtype=object) if chromosomes is None else chromosomes.astype(str).astype(object)
    numbers = {label: at for at, label in enumerate(dict.fromkeys(labels.tolist()))}
    known = list(numbers)
    chromosome = np.array([numbers[label] for label in labels], dtype=np.intp)
    place = np.arange(number, dtype=np.float64) if positions is None else positions.astype(np.float64)
    if len(known) > 1:
        x, ends = _one_after_another(chromosome, place, len(known), by_order=positions is None)
        spans = tuple((short_name(name), *end) for name, end in zip(known, ends, strict=True))
        ticks = tuple(((low + high) / 2, name) for name, low, high in spans)
        return GenomeAxis(x, chromosome, spans, names, ticks, "chromosome" if number else "")
    name = short_name(known[0]) if known else ""
    if number <= MOST_NAMED or positions is None or place.min() == place.max():
        rank = np.empty(number)
        rank[np.argsort(place, kind="stable")] = np.arange(number)
        x = (rank + 0.5) / max(number, 1)
        if number <= MOST_NAMED:
            ticks = tuple((float(at), name) for at, name in sorted(zip(x, names, strict=True)))
            return GenomeAxis(x, chromosome, ((name, 0.0, 1.0),), names, ticks, "")
        step = _nice(number / 5)
        ticks = tuple(((at - 0.5) / number, f"{at:g}") for at in np.arange(step, number + 1, step))
        return GenomeAxis(x, chromosome, ((name, 0.0, 1.0),), names, ticks, "locus, in the order of the data")
    low, high = float(place.min()), float(place.max())
    step = _nice((high - low) / 5)
    values = np.arange(math.ceil(low / step) * step, high + step / 2, step)
    ticks = tuple(((value - low) / (high - low), _distance(value)) for value in values if value <= high)
    label = f"position on {name} (bp)" if name else "position (bp)"
    return GenomeAxis((place - low) / (high - low), chromosome, ((name, 0.0, 1.0),), names, ticks, label)


def short_name(name: object) -> str:
    """A name that fits beside an axis: of a long one the beginning and, where names differ, the end."""
    flat = one_line(str(name))
    return plain(flat if len(flat) <= LONGEST_NAME else f"{flat[:6]}…{flat[7 - LONGEST_NAME :]}")


def draw_genome_axis(
    axes: Axes, genome: GenomeAxis, inches: float, labelled: bool, which: Literal["x", "y"] = "x"
) -> None:
    """Ticks along an axis; chromosomes that would write over each other give way. inches: how long the axis is."""
    ticks: list[tuple[float, str]] = []
    for at, text in genome.ticks:
        if not ticks or at - ticks[-1][0] >= _TICK / inches:
            ticks.append((at, text))
    crowded = 0.07 * sum(len(text) + 1 for _, text in ticks) > inches
    axis, limits = (axes.xaxis, axes.set_xlim) if which == "x" else (axes.yaxis, axes.set_ylim)
    limits(-0.015, 1.015)
    axis.set_ticks([at for at, _ in ticks], [text for _, text in ticks] if labelled else [])
    axes.tick_params(axis=which, length=2 if labelled and len(genome.spans) < 2 else 0, labelsize=7)
    if which == "x" and crowded:
        axes.tick_params(axis="x", rotation=90)
    axis.set_label_text(genome.label if labelled else "", fontsize=9)


def _one_after_another(
    chromosome: NDArray[np.intp], place: NDArray[np.float64], number: int, by_order: bool
) -> tuple[NDArray[np.float64], list[tuple[float, float]]]:
    """Places (L,) on one line, and the ends of each chromosome on it."""
    offset, low = np.zeros(len(place)), np.zeros(number)
    length = np.zeros(number)
    for at in range(number):
        here = chromosome == at
        offset[here] = np.arange(here.sum()) if by_order else place[here] - place[here].min()
        length[at] = offset[here].max()
    whole = length.sum() or 1.0
    length = np.maximum(length, 0.5 * _GAP * whole)  # a chromosome of one locus has room too
    low[1:] = np.cumsum(length + _GAP * whole)[:-1]
    end = low[-1] + length[-1]
    ends = [(float(a / end), float((a + b) / end)) for a, b in zip(low, length, strict=True)]
    return (low[chromosome] + offset) / end, ends


def _nice(step: float) -> float:
    """The next of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step)


def _distance(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
