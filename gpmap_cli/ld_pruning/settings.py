"""Settings of LD pruning. No array library is imported here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gpmap_cli.errors import Problem
from gpmap_cli.settings import Rule, Ruled, setting


@dataclass(frozen=True)
class Pruning(Ruled):
    """Which loci are too strongly correlated with one that is kept; off without a threshold."""

    max_abs_r: float | None = setting(None, minimum=0, maximum=1)
    rows: Literal["train_validation", "all"] = "train_validation"
    split: str | None = None

    def rules(self) -> tuple[Rule, ...]:
        return self._threshold_problems, self._split_problems

    def _threshold_problems(self, prefix: str) -> Iterator[Problem]:
        """Who decides says nothing where nothing is decided: whoever says it thinks that loci are pruned."""
        if self.is_on:
            return
        given = ([f"{prefix}rows"] if self.rows != "train_validation" else []) + (
            [f"{prefix}split"] if self.split is not None else []
        )
        for key in given:
            yield Problem(
                f"{key} is about LD pruning, which is off without {prefix}max_abs_r",
                f"add {prefix}max_abs_r=0.94, or leave {key} out",
            )

    def _split_problems(self, prefix: str) -> Iterator[Problem]:
        if self.rows == "all" and self.split is not None:
            yield Problem(
                f"{prefix}rows=all lets all samples decide, and {prefix}split names those that do",
                f"leave one of {prefix}rows and {prefix}split out",
            )

    @property
    def is_on(self) -> bool:
        return self.max_abs_r is not None

    @property
    def threshold(self) -> float:
        """The largest |r| of two kept loci; to be asked only where pruning is on."""
        assert self.max_abs_r is not None
        return self.max_abs_r
