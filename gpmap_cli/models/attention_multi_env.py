"""`attention_multi_env`: the published multi-environment attention model, one network for all environments.

One more token says which environment; otherwise as `attention`, with a read-out over all L + 1 tokens (paper,
"multi-environment"; Rijal et al. 2026). Every measured (sample, environment) cell is a training example, labelled
with its own environment. Width D = d + E + 1 (`environment_slots` own), or d + 1 with the one-hot environment in
the embedding's slots (embedding, the published transfer study; E <= d). Costs per example as `attention`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gpmap_cli.errors import InputError
from gpmap_cli.models.base import Model
from gpmap_cli.settings import setting

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpmap_cli.dataset.coding import CodedGenotypes, Samples
    from gpmap_cli.layers.published_attention import PublishedAttention
    from gpmap_cli.training.context import FitContext


@dataclass(frozen=True)
class Settings:
    name: str = "attention_multi_env"
    embedding_dim: int = setting(12, minimum=1)
    environment_slots: Literal["own", "embedding"] = "own"


class AttentionMultiEnv(Model):
    """Attention over loci and an environment token, fitted to all environments jointly."""

    name = "attention_multi_env"
    joint_environments = True
    settings: Settings

    def _network(self, num_loci: int, num_environments: int) -> PublishedAttention:
        from gpmap_cli.layers.published_attention import PublishedAttention

        settings = self.settings
        if settings.environment_slots == "embedding" and num_environments > settings.embedding_dim:
            raise InputError(
                f"{num_environments} environments do not fit into the {settings.embedding_dim} slots of the embedding",
                "raise model.embedding_dim, or set model.environment_slots=own",
            )
        return PublishedAttention(num_loci, settings.embedding_dim, num_environments, settings.environment_slots)

    def _fit(self, train: Samples, validation: Samples, context: FitContext) -> None:
        import numpy as np

        from gpmap_cli.random_streams import stream
        from gpmap_cli.training.batches import DTYPES, DeviceGenotypes
        from gpmap_cli.training.gradient import fit_each
        from gpmap_cli.training.memory import refuse_step_beyond_memory
        from gpmap_cli.training.problems import EveryCell

        self._num_environments = train.phenotypes.shape[1]
        num_loci, dtype = train.genotypes.num_loci, DTYPES[context.precision]
        batch, _ = context.training.batch_and_rate(int((~np.isnan(train.phenotypes)).sum()))
        refuse_step_beyond_memory(
            f"{self.name}: a step of {batch} cells at {num_loci} loci",
            self._network(num_loci, self._num_environments).to(dtype).step_bytes(batch),
            context.device,
        )
        parts = [DeviceGenotypes(part.genotypes, context.device, context.precision) for part in (train, validation)]

        def make(_: int) -> EveryCell:
            network = self._network(num_loci, self._num_environments)
            network.draw(stream(context.seed, "weights"), context.training.initial_scale)
            network.to(context.device, dtype)
            return EveryCell(network, parts[0], train.phenotypes, parts[1], validation.phenotypes)

        (self._weights,) = fit_each([""], make, context)

    def _predict(self, genotypes: CodedGenotypes) -> NDArray:
        import numpy as np
        import torch

        from gpmap_cli.training.batches import DTYPES, DeviceGenotypes
        from gpmap_cli.training.problems import predict_in_batches

        network = self._network(genotypes.num_loci, self._num_environments).double()
        network.load_state_dict({name: torch.from_numpy(array) for name, array in self._weights.items()})
        network.to(self.device, DTYPES[self.precision]).eval()
        coded = DeviceGenotypes(genotypes, self.device, self.precision)
        columns = [
            predict_in_batches(network, coded, environment).double().cpu().numpy()
            for environment in range(self._num_environments)
        ]
        return np.stack(columns, axis=1)

    def _state(self) -> dict[str, NDArray]:
        import numpy as np

        return {"num_environments": np.array(self._num_environments), **self._weights}

    def _restore(self, state: dict[str, NDArray]) -> None:
        self._num_environments = int(state["num_environments"])
        self._weights = {name: array for name, array in state.items() if name not in ("num_environments", "num_loci")}

    def describe(self) -> dict[str, Any]:
        return {"embedding_dim": self.settings.embedding_dim}

    @property
    def num_parameters(self) -> int:
        return sum(array.size for array in self._weights.values())
