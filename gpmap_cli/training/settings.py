"""Settings of a training schedule. No array library is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gpmap_cli.settings import setting


@dataclass(frozen=True)
class TrainingSettings:
    """How models fitted by gradient descent are trained; models solved exactly take nothing from here."""

    name: str
    epochs: int = setting(minimum=1)
    batch_size: int = setting(minimum=1)
    learning_rate: float = setting(above=0)
    schedule: Literal["constant", "one_cycle"] = "one_cycle"
    warmup_fraction: float = setting(0.3, above=0, below=1)
    drop_last: bool = True
    initial_scale: float = setting(0.04, above=0)
    patience: int | None = setting(None, minimum=1)
    max_gradient_norm: float | None = setting(None, above=0)
    checkpoint_seconds: float = setting(10.0, minimum=0)
