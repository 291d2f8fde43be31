"""The learning curve of a transfer study: test R^2 in the target against its phenotypes that were used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpmap_cli.errors import one_line
from gpmap_cli.report.style import COLOURS, GREY, plain, save, style, wrapped
from gpmap_cli.report.transfer_table import TransferMean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Solid where the other environments help, dashed where the target is alone.
_LOOKS: dict[str, dict[str, Any]] = {
    "unseen": {"color": COLOURS[3], "linestyle": "-."},
    "joint": {"color": COLOURS[0], "marker": "o", "linestyle": "-"},
    "fine_tune": {"color": COLOURS[1], "marker": "D", "linestyle": "-"},
    "multi_ridge": {"color": COLOURS[2], "marker": "s", "linestyle": "-"},
    "alone": {"color": COLOURS[5], "marker": "o", "linestyle": "--"},
    "ridge": {"color": COLOURS[6], "marker": "^", "linestyle": "--"},
}
_LOWEST = -0.3  # fits to a handful of phenotypes go as low as one likes, and would flatten all the rest


def transfer_figure(
    found: Sequence[TransferMean], target: str, model: str, ceiling: float | None, directory: Path
) -> list[Path]:
    """Draw to `transfer.png` and `transfer.svg`; no files when nothing has a score."""
    if not any(one.r2.mean is not None for one in found):
        return []
    return save(draw(found, target, model, ceiling), directory, "transfer")


@style()
def draw(found: Sequence[TransferMean], target: str, model: str, ceiling: float | None) -> Figure:
    """One line for each method, with the intervals over repeats; the noise ceiling where it is known."""
    from matplotlib.figure import Figure
    from matplotlib.transforms import ScaledTranslation

    figure = Figure(figsize=(6.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    methods = list(dict.fromkeys(one.method for one in found))
    for at, method in enumerate(methods):
        if method == "unseen":  # no phenotype of the target has no place on a logarithmic axis
            (one,) = [one for one in found if one.method == method]
            if one.r2.mean is not None:
                axes.axhline(one.r2.mean, linewidth=1.4, label=plain(_label(method, model)), **_LOOKS[method])
            continue
        points = [one for one in found if one.method == method and one.r2.mean is not None]
        look = _LOOKS[method]
        # Beside each other, so that no interval covers another.
        shift = ScaledTranslation((at - (len(methods) - 1) / 2) * 2.5 / 72, 0, figure.dpi_scale_trans)
        # An interval whose middle is out of sight would look like one of nothing.
        barred = [one for one in points if one.r2.low is not None and (one.r2.mean or 0.0) >= _LOWEST]
        axes.errorbar(
            [one.num_target for one in barred],
            [one.r2.mean or 0.0 for one in barred],
            yerr=[(one.r2.high or 0.0) - (one.r2.mean or 0.0) for one in barred],
            fmt="none",
            ecolor=look["color"],
            elinewidth=1.0,
            capsize=2.0,
            transform=axes.transData + shift,
        )
        axes.plot(
            [one.num_target for one in points],
            [one.r2.mean or 0.0 for one in points],
            linewidth=1.4,
            markersize=5,
            markeredgecolor="white",
            markeredgewidth=0.4,
            zorder=3,
            label=plain(_label(method, model)),
            transform=axes.transData + shift,
            **look,
        )
    if ceiling is not None:
        axes.axhline(ceiling, color=GREY, linestyle=":", linewidth=1.1, label="noise ceiling")
    means = [one.r2.mean for one in found if one.r2.mean is not None]
    lows = [one.r2.low for one in found if one.r2.low is not None]
    lowest = max(_LOWEST, min([*means, *lows]))
    axes.set_ylim(lowest - 0.03 if lowest < 0 else 0.0, 1.0)
    if lowest < 0:
        axes.axhline(0, color=GREY, linewidth=0.6, zorder=0)
    numbers = sorted({one.num_target for one in found if one.num_target}) or [1]
    axes.set_xscale("log")
    margin = 1.15 if len(numbers) == 1 else (numbers[-1] / numbers[0]) ** 0.05
    axes.set_xlim(numbers[0] / margin, numbers[-1] * margin)
    ticks = [number for at, number in enumerate(numbers) if at == 0 or number >= 1.4 * numbers[at - 1]]
    axes.set_xticks(ticks, [f"{number:,}" for number in ticks])
    axes.minorticks_off()
    axes.set_xlabel(wrapped(one_line(f"phenotypes of {target} that were used", 60), 5))
    note = "" if min(means) >= _LOWEST else f" (below {_LOWEST:g}: not shown)"
    axes.set_ylabel(wrapped(one_line(f"test R^2 in {target}{note}", 60), 3.4))
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _label(method: str, model: str) -> str:
    """What a method is, in the legend."""
    return {
        "unseen": f"{model}, target by its covariates alone",
        "joint": f"{model}, all environments",
        "fine_tune": f"{model}, fine-tuned to the target",
        "alone": f"{model}, target alone",
        "ridge": "ridge, target alone",
        "multi_ridge": "multi_ridge, all environments",
    }[method]
