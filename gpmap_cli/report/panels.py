"""Small multiples: a panel for each environment, in the house's proportions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpmap_cli.errors import one_line
from gpmap_cli.report.explain_figures import MOST_PANELS
from gpmap_cli.report.style import CHARACTER, GREY, plain, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Panels:
    """A figure of E environments, at most `MOST_PANELS`; width: inches of a panel; number: of panels that there are."""

    figure: Figure
    names: tuple[str, ...]
    across: int
    down: int
    width: float

    @property
    def number(self) -> int:
        return min(len(self.names), MOST_PANELS)

    def axes(self, at: int, **options: Any) -> Axes:
        """The axes of one environment, with its name above them where there are several."""
        axes = self.figure.add_subplot(self.down, self.across, at + 1, **options)
        if self.number > 1:
            axes.set_title(wrapped(one_line(self.names[at], 40), self.width - 0.5), fontsize=8)
        return axes

    def is_lowest(self, at: int) -> bool:
        """Whether nothing is drawn below this panel."""
        return at + self.across >= self.number

    def finish(self, note: str, entries: dict[str, Any], label: str = "") -> None:
        """A line above the panels, the legend below them, and the label of all their y axes."""
        if len(self.names) > self.number:
            note += f"{'; ' if note else ''}the first {self.number} of {len(self.names)} environments"
        whole = self.width * self.across
        if note:
            self.figure.suptitle(wrapped(note, whole - 0.3), fontsize=8, color=GREY)
        if self.number == 1:
            self.figure.axes[0].set_ylabel(label)
        elif label:
            self.figure.supylabel(label)
        if entries:
            needed = [CHARACTER * len(text) + 0.6 for text in entries]
            columns = len(entries) if sum(needed) <= whole else max(1, int(whole / max(needed)))
            texts = [plain(text) for text in entries]
            self.figure.legend(list(entries.values()), texts, loc="outside lower center", ncols=columns, fontsize=8)


def panels(
    names: tuple[str, ...], single: tuple[float, float], small: tuple[float, float], most_across: int = 3
) -> Panels:
    """An empty figure. single, small: inches across and down of a panel that is alone, and of one among several."""
    from matplotlib.figure import Figure

    number = min(len(names), MOST_PANELS)
    across = min(number, most_across)
    if most_across == 3 and number == 4:
        across = 2
    down = math.ceil(number / across)
    width, height = single if number == 1 else small
    figure = Figure(figsize=(width * across, height * down + 0.7), layout="constrained")
    return Panels(figure, names, across, down, width)
