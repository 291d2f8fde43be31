"""How figures look: one style for print, colours that the colour-blind tell apart, files written whole.

matplotlib is imported when something is drawn, and only through its object interface: no display is needed, and
no state outlives a call.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gpmap_cli.run_dir.writing import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by the colour-blind; the pale yellow comes last.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
GREY = "#555555"
CHARACTER = 0.068  # inches, of the font below
_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 10,
    "figure.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.parse_math": False,  # a `$` in a name begins no formula
    "svg.fonttype": "none",  # labels stay text, for whoever edits the figure
    "svg.hashsalt": "gpmap",  # the same identifiers, so the same bytes, every time
}


@contextmanager
def style() -> Iterator[None]:
    """Our style over matplotlib's own defaults: a user's matplotlibrc does not change a report."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        cast(Any, matplotlib.rcParams).update(_STYLE)
        yield


@style()
def save(figure: Figure, directory: Path, name: str) -> list[Path]:
    """Write the figure to `NAME.png` and `NAME.svg` in a directory that is there, each whole or not at all."""
    png, svg = directory / f"{name}.png", directory / f"{name}.svg"
    write_whole(png, lambda stream: figure.savefig(stream, format="png", dpi=200))
    write_whole(svg, lambda stream: figure.savefig(stream, format="svg", metadata={"Date": None}))
    return [png, svg]


def wrapped(text: str, room: float) -> str:
    """A label broken into lines that fit into so many inches."""
    return "\n".join(textwrap.wrap(plain(text), max(12, int(room / CHARACTER))))


def plain(text: str) -> str:
    """A name as a label: matplotlib would hide one that begins with `_`."""
    return f" {text}" if text.startswith("_") else text
