"""What networks are fitted to: the measured phenotypes of the training samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.metrics import mean_r2, r2_score
from gpmap_cli.training.batches import DeviceGenotypes
from gpmap_cli.training.context import World

# At most this many numbers in one (batch, tokens, tokens) tensor when predicting.
_LARGEST_PREDICTION = 2**24


class _Validated(ABC):
    """A network, and the validation samples (phenotypes (N, E), NaN missing) that its epochs are scored on."""

    def __init__(
        self, network: torch.nn.Module, genotypes: DeviceGenotypes, phenotypes: NDArray[np.float64], world: World
    ) -> None:
        self.network, self._world = network, world
        self._validation_genotypes, self._validation_phenotypes = genotypes, phenotypes

    @abstractmethod
    def _predict(self, rows: slice) -> torch.Tensor:
        """Predictions (rows, E) of these validation samples."""

    def validate(self) -> tuple[float | None, float | None]:
        predicted = predict_together(self._world, len(self._validation_genotypes), self._predict)
        return loss_and_r2(self._validation_phenotypes, predicted.double().cpu().numpy())


class OnePhenotype(_Validated):
    """One environment: every training sample measured there is an example."""

    def __init__(
        self,
        network: torch.nn.Module,
        genotypes: DeviceGenotypes,
        phenotype: NDArray[np.float64],
        validation_genotypes: DeviceGenotypes,
        validation_phenotype: NDArray[np.float64],
        world: World,
    ) -> None:
        super().__init__(network, validation_genotypes, validation_phenotype[:, None], world)
        like = next(network.parameters())
        self._rows = torch.from_numpy(np.flatnonzero(~np.isnan(phenotype))).to(like.device)
        self._phenotype = torch.from_numpy(phenotype).to(like.device, like.dtype)
        self._genotypes = genotypes
        self.num_examples = len(self._rows)

    def loss(self, examples: torch.Tensor) -> tuple[torch.Tensor, int]:
        rows = self._rows[examples]
        return ((self.network(self._genotypes[rows]) - self._phenotype[rows]) ** 2).sum(), len(rows)

    def _predict(self, rows: slice) -> torch.Tensor:
        return predict_in_batches(self.network, self._validation_genotypes, rows=rows)[:, None]


class EveryCell(_Validated):
    """All environments jointly: every measured (sample, environment) cell is an example, labelled with its own.

    marks: what the network is told of each environment, their numbers (E,) or covariates (E, P).
    """

    def __init__(
        self,
        network: torch.nn.Module,
        genotypes: DeviceGenotypes,
        phenotypes: NDArray[np.float64],
        validation_genotypes: DeviceGenotypes,
        validation_phenotypes: NDArray[np.float64],
        world: World,
        marks: torch.Tensor,
    ) -> None:
        super().__init__(network, validation_genotypes, validation_phenotypes, world)
        like = next(network.parameters())
        rows, environments = np.nonzero(~np.isnan(phenotypes))
        self._rows = torch.from_numpy(rows).to(like.device)
        self._marks = marks
        self._environments = torch.from_numpy(environments).to(like.device)
        self._phenotypes = torch.from_numpy(phenotypes[rows, environments]).to(like.device, like.dtype)
        self._genotypes = genotypes
        self.num_examples = len(rows)

    def loss(self, examples: torch.Tensor) -> tuple[torch.Tensor, int]:
        predicted = self.network(self._genotypes[self._rows[examples]], self._marks[self._environments[examples]])
        return ((predicted - self._phenotypes[examples]) ** 2).sum(), len(examples)

    def _predict(self, rows: slice) -> torch.Tensor:
        return predict_every_environment(self.network, self._validation_genotypes, self._marks, rows)


class EveryEnvironment(_Validated):
    """All environments jointly, by a network with one output for each: a sample measured anywhere is an example.

    What was not measured is masked in the loss. The network may be several, predicting (members, B, E): each is
    fitted on its own, and their mean is what predicts.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        genotypes: DeviceGenotypes,
        phenotypes: NDArray[np.float64],
        validation_genotypes: DeviceGenotypes,
        validation_phenotypes: NDArray[np.float64],
        rows_at_once: int,
        world: World,
    ) -> None:
        super().__init__(network, validation_genotypes, validation_phenotypes, world)
        self._rows_at_once = rows_at_once
        like = next(network.parameters())
        known = ~np.isnan(phenotypes)
        self._rows = torch.from_numpy(np.flatnonzero(known.any(axis=1))).to(like.device)
        self._known = torch.from_numpy(known).to(like.device, like.dtype)
        self._num_known = torch.from_numpy(known.sum(axis=1)).to(like.device)
        self._phenotypes = torch.from_numpy(np.where(known, phenotypes, 0.0)).to(like.device, like.dtype)
        self._genotypes = genotypes
        self.num_examples = len(self._rows)

    def loss(self, examples: torch.Tensor) -> tuple[torch.Tensor, int]:
        rows = self._rows[examples]
        predicted = self.network(self._genotypes[rows])
        errors = ((predicted - self._phenotypes[rows]) * self._known[rows]) ** 2
        return errors.sum() / len(predicted), int(self._num_known[rows].sum())

    def _predict(self, rows: slice) -> torch.Tensor:
        return predict_jointly(self.network, self._validation_genotypes, self._rows_at_once, rows)


def predict_together(world: World, num_rows: int, predict: Callable[[slice], torch.Tensor]) -> torch.Tensor:
    """Predictions (N, ...) of all rows, of which every process of the world computes a block and hears the rest."""
    if world.size == 1 or num_rows < world.size:
        return predict(slice(0, num_rows))
    rows = world.block(num_rows)
    part = predict(rows)
    whole = part.new_zeros((num_rows, *part.shape[1:]))
    whole[rows] = part
    world.sum([whole])
    return whole


def predict_jointly(
    network: torch.nn.Module, genotypes: DeviceGenotypes, rows_at_once: int, rows: slice | None = None
) -> torch.Tensor:
    """Predictions (N, E) of all samples, or of these neighbouring ones: the mean over the network's members."""
    with torch.no_grad():
        return torch.cat([network(genotypes[part]).mean(dim=0) for part in _parts(genotypes, rows, rows_at_once)])


def predict_in_batches(network: torch.nn.Module, genotypes: DeviceGenotypes, rows: slice | None = None) -> torch.Tensor:
    """Predictions (N,) of all samples, or of these neighbouring ones, in batches as large as memory allows."""
    with torch.no_grad():
        step = _largest_batch(network, genotypes)
        return torch.cat([network(genotypes[part]) for part in _parts(genotypes, rows, step)])


def predict_every_environment(
    network: torch.nn.Module, genotypes: DeviceGenotypes, marks: torch.Tensor, rows: slice | None = None
) -> torch.Tensor:
    """Predictions (N, E) of all samples, or of these neighbouring ones, all environments of a sample in one pass.

    marks: what the network is told of each environment, their numbers (E,) or covariates (E, P).
    """
    step = max(1, _largest_batch(network, genotypes) // len(marks))
    one_pass: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = getattr(network, "every_environment")  # noqa: B009
    with torch.no_grad():
        return torch.cat([one_pass(genotypes[part], marks) for part in _parts(genotypes, rows, step)])


def _largest_batch(network: torch.nn.Module, genotypes: DeviceGenotypes) -> int:
    """How many predictions to make at once. A network that knows better says so (`prediction_batch`)."""
    asked: Callable[[], int] | None = getattr(network, "prediction_batch", None)
    if asked is not None:
        return asked()
    return max(1, min(4096, _LARGEST_PREDICTION // (genotypes.num_loci + 1) ** 2))


def _parts(genotypes: DeviceGenotypes, rows: slice | None, step: int) -> list[slice]:
    """The rows, all unless given, in parts of at most `step`."""
    start, stop = (0, len(genotypes)) if rows is None else (rows.start, rows.stop)
    return [slice(first, min(first + step, stop)) for first in range(start, stop, step)]


def loss_and_r2(observed: NDArray, predicted: NDArray) -> tuple[float | None, float | None]:
    """Mean squared error over all measured cells, and the mean over environments of R^2; (N, E) both."""
    known = ~np.isnan(observed)
    if not known.any():
        return None, None
    loss = float(((observed - predicted)[known] ** 2).mean())
    columns = range(observed.shape[1])
    return loss, mean_r2([r2_score(observed[:, column], predicted[:, column]) for column in columns])
