"""What a model's fit is given besides the samples: seed, device, schedule, and ways to report and to be stopped.

Models know nothing of files or the terminal: they report through `Reporter` and save through `CheckpointStore`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from gpmap_cli.dataset.reaction_norms import KnownEnvironments
    from gpmap_cli.training.settings import TrainingSettings


@dataclass(frozen=True)
class Epoch:
    """One row of the training history; `environment` is empty when environments are trained jointly."""

    environment: str
    epoch: int
    train_loss: float
    validation_loss: float | None
    validation_r2: float | None
    learning_rate: float
    seconds: float


class Reporter(Protocol):
    """Hears how a fit gets on."""

    def begin(self, environment: str, num_steps: int, done: int) -> None:
        """A fit of `num_steps` steps (0: nobody knows) begins, `done` of which an interrupted run has taken."""

    def step(self, loss: float, validation_r2: float | None = None) -> None:
        """One step was taken; `loss` is the running mean of the epoch, or how far an exact solver still is."""

    def epoch(self, row: Epoch) -> None:
        """An epoch is over."""

    def note(self, text: str) -> None:
        """Something worth a line in the log."""


class CheckpointStore(Protocol):
    """Keeps what resuming needs: named arrays and JSON-like facts, replaced as a whole."""

    def save(self, arrays: dict[str, NDArray], facts: dict[str, Any], history: list[Epoch]) -> None: ...

    def load(self) -> tuple[dict[str, NDArray], dict[str, Any]] | None: ...


class World:
    """The processes that fit together: this one alone. Others share a batch and sum what they found."""

    rank = 0
    size = 1

    def sum(self, tensors: list[torch.Tensor]) -> None:
        """Replace every tensor by its sum over the processes."""

    def block(self, num_rows: int) -> slice:
        """Which of so many rows are this process's: neighbours, about as many as every other process has."""
        return slice(num_rows * self.rank // self.size, num_rows * (self.rank + 1) // self.size)


class Silent:
    """A reporter that says nothing."""

    def begin(self, environment: str, num_steps: int, done: int) -> None:
        pass

    def step(self, loss: float, validation_r2: float | None = None) -> None:
        pass

    def epoch(self, row: Epoch) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class Stop:
    """Whether the run was asked to stop. While `deferred`, a fit looks here between steps and stops by itself."""

    def __init__(self) -> None:
        self.requested = False
        self.deferred = False
        self.said_twice = False  # a launcher repeats what the terminal said: a second signal says nothing new


@dataclass
class FitContext:
    """The circumstances of a fit."""

    seed: int
    environment_names: tuple[str, ...]
    training: TrainingSettings
    device: str = "cpu"
    precision: str = "float32"
    reporter: Reporter = field(default_factory=Silent)
    checkpoints: CheckpointStore | None = None
    stop: Stop = field(default_factory=Stop)
    world: World = field(default_factory=World)
    start: dict[str, NDArray] | None = None  # `Model.state()` of a fit with the same settings, to begin from
    environments: KnownEnvironments | None = None  # what is known of them besides their names

    def batch_here(self, batch: int) -> int:
        """How much of a batch is in the memory of one device: processes on CPUs share theirs."""
        return -(-batch // self.world.size) if self.device.startswith("cuda") else batch
