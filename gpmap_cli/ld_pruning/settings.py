"""Settings of LD pruning. No array library is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gpmap_cli.settings import setting


@dataclass(frozen=True)
class Pruning:
    """Which loci are too strongly correlated with one that is kept; off without a threshold."""

    max_abs_r: float | None = setting(None, minimum=0, maximum=1)
    rows: Literal["train_validation", "all"] = "train_validation"
    split: str | None = None

    @property
    def is_on(self) -> bool:
        return self.max_abs_r is not None

    @property
    def threshold(self) -> float:
        """The largest |r| of two kept loci; to be asked only where pruning is on."""
        assert self.max_abs_r is not None
        return self.max_abs_r
