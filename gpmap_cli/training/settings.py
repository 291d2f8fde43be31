"""Settings of a training schedule. No array library is imported here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from gpmap_cli.settings import setting

_SMALLEST_BATCH = 8


@dataclass(frozen=True)
class TrainingSettings:
    """How models fitted by gradient descent are trained; models solved exactly take nothing from here.

    Where the examples are so few that an epoch would have fewer than `min_steps_per_epoch` steps, batches are
    made smaller, and the learning rate with their square root.

    `muon` moves the matrices that a network names (`Optimizers`), at `matrix_rate` times the learning rate, and Adam
    the rest; `weight_decay` shrinks those matrices alone, by rate * decay of themselves in a step. `average` is the
    memory of an exponential moving average of the weights, in steps: scores and predictions are of the average then.
    """

    name: str
    epochs: int = setting(minimum=1)
    batch_size: int = setting(minimum=1)
    learning_rate: float = setting(above=0)
    min_steps_per_epoch: int | None = setting(None, minimum=1)
    optimizer: Literal["adam", "muon"] = "adam"
    matrix_rate: float = setting(2.0, above=0)
    weight_decay: float = setting(0.0, minimum=0)
    average: int | None = setting(None, minimum=1)
    schedule: Literal["constant", "one_cycle"] = "one_cycle"
    warmup_fraction: float = setting(0.3, above=0, below=1)
    drop_last: bool = True
    initial_scale: float = setting(0.04, above=0)
    patience: int | None = setting(None, minimum=1)
    max_gradient_norm: float | None = setting(None, above=0)
    checkpoint_seconds: float = setting(10.0, minimum=0)

    def batch_and_rate(self, num_examples: int) -> tuple[int, float]:
        """Batch size and learning rate for this many training examples."""
        batch = min(self.batch_size, num_examples)
        if self.min_steps_per_epoch is None or batch * self.min_steps_per_epoch <= num_examples:
            return batch, self.learning_rate
        smaller = min(batch, max(_SMALLEST_BATCH, num_examples // self.min_steps_per_epoch))
        return smaller, self.learning_rate * math.sqrt(smaller / self.batch_size)
