"""Fitting by gradient descent: shuffled batches, the best epoch by validation R^2, resumable at any step.

The course of a fit is a function of the seed alone: the order of an epoch comes from a stream of its own, the
learning rate from the step number. What is saved between two steps (weights, their average, the optimisers' moments,
the best weights, the sums of the epoch so far) therefore continues to bitwise the same result on the same machine.
Several processes share every batch (`context.world`) and take the same steps as one, up to the order of summation.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import torch
from numpy.typing import NDArray

from gpmap_cli.errors import FitFailed, Interrupted
from gpmap_cli.random_streams import stream
from gpmap_cli.training.average import Average
from gpmap_cli.training.context import Epoch, FitContext
from gpmap_cli.training.memory import refusing_what_memory_refuses
from gpmap_cli.training.optimizers import Optimizers
from gpmap_cli.training.settings import TrainingSettings

Arrays = dict[str, NDArray]

# Mean squared error of an epoch, of phenotypes of variance one, from which no fit comes back.
_HOPELESS_LOSS = 100.0


class Problem(Protocol):
    """What is fitted: a network, its training examples and its validation score."""

    network: torch.nn.Module
    num_examples: int

    def loss(self, examples: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Sum of squared errors of these training examples (numbers 0..num_examples-1), and of how many phenotypes."""

    def validate(self) -> tuple[float | None, float | None]:
        """Loss and R^2 of the validation samples; None where undefined."""


def scheduled_rate(settings: TrainingSettings, top: float, step: int, num_steps: int) -> float:
    """Learning rate of a step: constant, or one cycle (linear warm-up to `top`, then a cosine down to nothing)."""
    if settings.schedule == "constant":
        return top
    warmup = max(1, round(settings.warmup_fraction * num_steps))
    if step < warmup:
        return top * (step + 1) / warmup
    progress = (step - warmup) / max(1, num_steps - warmup)
    return top * 0.5 * (1 + math.cos(math.pi * progress))


def fit_each(environments: Sequence[str], make: Callable[[int], Problem], context: FitContext) -> list[Arrays]:
    """Fit one network after the other and return the best weights of each.

    `environments` names them (one empty name for a joint fit); `make(i)` builds the i-th problem. A fit that was
    interrupted goes on where `context.checkpoints` left it.
    """
    journal = _Journal(context)
    finished: list[Arrays] = []
    for number, environment in enumerate(environments):
        if number < journal.num_finished:
            finished.append(journal.finished(number))
            continue
        with refusing_what_memory_refuses():
            descent = _Descent(make(number), number, environment, context, journal)
            finished.append(descent.run())
    return finished


@dataclass
class _Progress:
    """Where a fit stands, besides its arrays."""

    epoch: int = 1
    batch: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    best_r2: float | None = None
    best_epoch: int = 0
    path: str | None = None  # how the network is computed, where it knows several ways


class _Journal:
    """All that resuming needs: finished fits, the current one, and the history of both."""

    def __init__(self, context: FitContext) -> None:
        self._store = context.checkpoints
        self._arrays: Arrays = {}
        self.history: list[Epoch] = []
        self.num_finished = 0
        self.current: tuple[Arrays, _Progress] | None = None
        saved = self._store.load() if self._store else None
        if saved is not None:
            arrays, facts = saved
            self.num_finished = facts["num_finished"]
            self.history = [Epoch(**row) for row in facts["history"]]
            self._arrays = {name: array for name, array in arrays.items() if name.startswith("finished/")}
            if facts["progress"] is not None:
                self.current = _under("current/", arrays), _Progress(**facts["progress"])

    def finished(self, number: int) -> Arrays:
        return _under(f"finished/{number}/", self._arrays)

    def close(self, number: int, best: Arrays) -> None:
        """A fit is done: keep its best weights and forget the rest."""
        self._arrays.update({f"finished/{number}/{name}": array for name, array in best.items()})
        self.num_finished = number + 1
        self.save(None, None)

    def save(self, current: Arrays | None, progress: _Progress | None) -> None:
        self.current = None
        if self._store is None:
            return
        arrays = dict(self._arrays)
        arrays.update({f"current/{name}": array for name, array in (current or {}).items()})
        facts: dict[str, Any] = {
            "num_finished": self.num_finished,
            "progress": None if progress is None else asdict(progress),
            "history": [asdict(row) for row in self.history],
        }
        self._store.save(arrays, facts, self.history)


class _Descent:
    """One network's way down."""

    def __init__(self, problem: Problem, number: int, environment: str, context: FitContext, journal: _Journal) -> None:
        self._problem, self._network = problem, problem.network
        self._number, self._environment = number, environment
        self._context, self._settings, self._journal = context, context.training, journal
        self._batch_size, self._top_rate = context.training.batch_and_rate(problem.num_examples)
        full, rest = divmod(problem.num_examples, self._batch_size)
        self._steps_per_epoch = full + (rest > 0 and not self._settings.drop_last)
        self._num_steps = self._steps_per_epoch * self._settings.epochs
        self._optimizers = Optimizers(self._network, self._settings, context.device)
        self._average = Average(self._network, self._settings.average) if self._settings.average else None
        self._progress = _Progress()
        self._best = self._weights()
        if journal.current is not None:
            self._restore(*journal.current)
            journal.current = None
        settle: Callable[[str | None], str] | None = getattr(self._network, "settle_path", None)
        if settle is not None:  # a resumed fit goes on along the path that it began on
            self._progress.path = settle(self._progress.path)
        self._last_saved = time.monotonic()
        self._good = self._snapshot()
        self._stop_shared = False

    def run(self) -> Arrays:
        """Go through the remaining epochs and return the weights of the best one."""
        progress, settings = self._progress, self._settings
        self._context.reporter.begin(self._environment, self._num_steps, self._steps_taken(progress))
        self._context.stop.deferred = True
        try:
            while progress.epoch <= settings.epochs and not self._out_of_patience():
                self._epoch()
        finally:
            self._context.stop.deferred = False
        self._journal.close(self._number, self._best)
        return self._best

    def _out_of_patience(self) -> bool:
        patience = self._settings.patience
        return patience is not None and self._progress.epoch - 1 - self._progress.best_epoch >= patience

    def _epoch(self) -> None:
        progress = self._progress
        order = stream(self._context.seed, "batches", self._number, progress.epoch)
        examples = torch.from_numpy(order.permutation(self._problem.num_examples)).to(self._context.device)
        began = time.perf_counter()
        self._network.train()
        while progress.batch < self._steps_per_epoch:
            batch = examples[progress.batch * self._batch_size :][: self._batch_size]
            loss = self._step(batch, self._rate(progress.batch))
            progress.loss_sum += loss
            progress.batch += 1
            self._context.reporter.step(progress.loss_sum / progress.batch)
            if self._must_stop() or self._time_to_save():
                progress.seconds += time.perf_counter() - began
                self._save()
                if self._must_stop():
                    raise Interrupted
                began = time.perf_counter()
        progress.seconds += time.perf_counter() - began
        self._network.eval()
        with torch.no_grad(), self._average.in_place() if self._average else nullcontext():
            validation_loss, validation_r2 = self._problem.validate()
            weights = self._weights()
        self._refuse_divergence(validation_loss)
        self._refuse_divergence(progress.loss_sum / self._steps_per_epoch, _HOPELESS_LOSS)
        row = Epoch(
            self._environment,
            progress.epoch,
            progress.loss_sum / self._steps_per_epoch,
            validation_loss,
            validation_r2,
            self._rate(self._steps_per_epoch - 1),
            progress.seconds,
        )
        self._journal.history.append(row)
        # Without a defined validation R^2 there is nothing to choose by: the last epoch stands.
        if validation_r2 is None or progress.best_r2 is None or validation_r2 > progress.best_r2:
            progress.best_r2, progress.best_epoch = validation_r2, progress.epoch
            self._best = weights
        progress.epoch, progress.batch, progress.loss_sum, progress.seconds = progress.epoch + 1, 0, 0.0, 0.0
        self._context.reporter.epoch(row)
        self._good = self._snapshot()
        if self._time_to_save():
            self._save()

    def _rate(self, batch: int) -> float:
        """Learning rate of a step of this epoch."""
        step = (self._progress.epoch - 1) * self._steps_per_epoch + batch
        return scheduled_rate(self._settings, self._top_rate, step, self._num_steps)

    def _step(self, examples: torch.Tensor, rate: float) -> float:
        self._optimizers.zero_grad()
        if self._context.world.size > 1:
            value = self._shared_gradients(examples)
        else:
            errors, count = self._problem.loss(examples)
            loss = errors / max(count, 1)
            loss.backward()
            value = float(loss.detach())
        if self._settings.max_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(list(self._network.parameters()), self._settings.max_gradient_norm)
        self._refuse_divergence(value)
        self._optimizers.step(rate)
        if self._average:
            self._average.update()
        return value

    def _shared_gradients(self, examples: torch.Tensor) -> float:
        """Gradients and loss of a batch of which every process takes a part: one exchange for all of it.

        How many phenotypes the others have is not known before, so all divide by the size of the batch first and
        correct for it afterwards. With the sums travels who was asked to stop: all stop after the same step.
        """
        world, size = self._context.world, len(examples)
        parameters = list(self._network.parameters())
        facts = torch.zeros(3, dtype=parameters[0].dtype, device=parameters[0].device)
        facts[2] = float(self._context.stop.requested)
        mine = examples[world.rank :: world.size]
        if len(mine):  # the last batch of an epoch may have fewer examples than there are processes
            errors, count = self._problem.loss(mine)
            loss = errors / size
            loss.backward()
            facts[0], facts[1] = loss.detach(), count
        for one in parameters:
            if one.grad is None:  # all processes must exchange the same tensors
                one.grad = torch.zeros_like(one)
        gradients = [one.grad for one in parameters if one.grad is not None]
        world.sum([facts, *gradients])
        loss_sum, count, stops = facts.tolist()
        correction = size / max(count, 1)
        torch._foreach_mul_(gradients, correction)
        self._stop_shared = stops > 0
        return loss_sum * correction

    def _must_stop(self) -> bool:
        return self._stop_shared if self._context.world.size > 1 else self._context.stop.requested

    def _refuse_divergence(self, loss: float | None, most: float = math.inf) -> None:
        """A loss that is no number, or beyond `most`, ends the fit; how it stood after the last epoch is kept."""
        if loss is None or (math.isfinite(loss) and loss <= most):
            return
        where = f" in environment {self._environment}" if self._environment else ""
        epoch = self._progress.epoch
        arrays, self._progress = self._good
        self._journal.save(arrays, self._progress)
        raise FitFailed(
            f"the loss became {loss:.4g} in epoch {epoch}{where}: the fit diverges;"
            f" lower training.learning_rate (now {self._settings.learning_rate:g})"
        )

    def _time_to_save(self) -> bool:
        return (
            self._context.checkpoints is not None
            and self._context.world.rank == 0  # what only one of several processes does at a time of its own
            and time.monotonic() - self._last_saved >= self._settings.checkpoint_seconds
        )

    def _save(self) -> None:
        self._journal.save(self._arrays(), self._progress)
        self._last_saved = time.monotonic()

    def _snapshot(self) -> tuple[Arrays, _Progress]:
        return self._arrays(), replace(self._progress)

    def _arrays(self) -> Arrays:
        arrays = {f"weights/{name}": array for name, array in self._weights().items()}
        arrays.update({f"best/{name}": array for name, array in self._best.items()})
        arrays.update({f"optimizer/{name}": array for name, array in self._optimizers.arrays().items()})
        if self._average:
            arrays.update({f"average/{name}": array for name, array in self._average.arrays().items()})
        return arrays

    def _restore(self, arrays: Arrays, progress: _Progress) -> None:
        self._progress, self._best = progress, _under("best/", arrays)
        self._network.load_state_dict(
            {name: torch.from_numpy(array) for name, array in _under("weights/", arrays).items()}
        )
        self._optimizers.restore(_under("optimizer/", arrays))
        if self._average:
            self._average.restore(_under("average/", arrays), self._steps_taken(progress))

    def _steps_taken(self, progress: _Progress) -> int:
        return (progress.epoch - 1) * self._steps_per_epoch + progress.batch

    def _weights(self) -> Arrays:
        return {name: value.detach().cpu().numpy().copy() for name, value in self._network.state_dict().items()}


def _under(prefix: str, arrays: Arrays) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
