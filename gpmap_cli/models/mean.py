"""`mean`: the floor every model has to beat, the training mean of each environment. Costs N E."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpmap_cli.models.base import Model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpmap_cli.dataset.coding import CodedGenotypes, Samples
    from gpmap_cli.training.context import FitContext


@dataclass(frozen=True)
class Settings:
    name: str = "mean"


class Mean(Model):
    """Predicts the mean phenotype of the training samples, environment by environment."""

    name = "mean"

    @classmethod
    def needs_validation(cls, settings: Settings) -> bool:
        return False

    def _fit(self, train: Samples, validation: Samples, context: FitContext) -> None:
        import numpy as np

        self._mean = np.nanmean(train.phenotypes, axis=0)

    def _predict(self, genotypes: CodedGenotypes) -> NDArray:
        import numpy as np

        return np.tile(self._mean, (len(genotypes), 1))

    def _state(self) -> dict[str, NDArray]:
        return {"mean": self._mean}

    def _restore(self, state: dict[str, NDArray]) -> None:
        self._mean = state["mean"]

    @property
    def num_parameters(self) -> int:
        return len(self._mean)
