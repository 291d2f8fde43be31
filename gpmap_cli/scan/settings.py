"""Settings of a scan. No array library is imported here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gpmap_cli.errors import Problem
from gpmap_cli.settings import Rule, Ruled, setting

Background = Literal["additive", "none"]
Arithmetic = Literal["auto", "int8", "float32", "float64"]


@dataclass(frozen=True)
class ScanSettings(Ruled):
    """Which sets of loci are tested, over what, and how many of the strongest are kept."""

    name: str = "exhaustive"
    order: tuple[int, ...] = setting((2,), minimum=1, maximum=4)
    background: Background = "additive"
    num_terms: int = setting(1000, minimum=1, maximum=1_000_000)
    alpha: float = setting(0.05, above=0, below=1)
    permutations: int = setting(0, minimum=0, maximum=100_000)
    intervals: bool | None = None
    arithmetic: Arithmetic = "auto"

    def rules(self) -> tuple[Rule, ...]:
        return (self._order_problems,)

    def _order_problems(self, prefix: str) -> Iterator[Problem]:
        if not self.order:
            yield Problem(f"{prefix}order is empty", f"leave {prefix}order out for pairs")
        elif len(set(self.order)) < len(self.order):
            yield Problem(f"{prefix}order names one twice", "name each only once")
