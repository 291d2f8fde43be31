"""`attention`: the published attention model, one network per environment, under the published parameter names.

Tokens [x_l r_l, 1]; three layers Z <- softmax(Z Wq (Z Wk)') Z Wv; y = sum_l c_l . Z_l + b (paper, "single
environment"; Rijal et al. 2026). No scaling, residual, normalisation, feed-forward or positional encoding. Costs
about 18 L^2 D + 54 L D^2 multiply-adds per sample and step (forward and backward, D = d + 1), for each environment;
L d + 9 D^2 + L D + 1 parameters. A step that needs more memory than the machine has is refused
(layers/published_attention.py, step_bytes). How the same mathematics is computed goes by the shape
(layers/attention_paths.py); a fit that is resumed goes on the way it began.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpmap_cli.models.base import Model
from gpmap_cli.settings import setting

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpmap_cli.dataset.coding import CodedGenotypes, Samples
    from gpmap_cli.layers.published_attention import PublishedAttention
    from gpmap_cli.training.context import FitContext


@dataclass(frozen=True)
class Settings:
    name: str = "attention"
    embedding_dim: int = setting(12, minimum=1)


class Attention(Model):
    """Attention over loci, fitted to one environment after the other."""

    name = "attention"
    shares_fit = True
    settings: Settings

    def _fit(self, train: Samples, validation: Samples, context: FitContext) -> None:
        import numpy as np

        from gpmap_cli.layers.published_attention import PublishedAttention
        from gpmap_cli.random_streams import stream
        from gpmap_cli.training.batches import DTYPES, DeviceGenotypes
        from gpmap_cli.training.gradient import fit_each
        from gpmap_cli.training.memory import refuse_step_beyond_memory
        from gpmap_cli.training.problems import OnePhenotype

        num_loci, dtype = train.genotypes.num_loci, DTYPES[context.precision]
        num_examples = int((~np.isnan(train.phenotypes)).sum(axis=0).max())
        batch, _ = context.training.batch_and_rate(num_examples)
        refuse_step_beyond_memory(
            f"{self.name}: a step of {batch} samples at {num_loci} loci",
            PublishedAttention(num_loci, self.settings.embedding_dim).to(dtype).step_bytes(context.batch_here(batch)),
            context.device,
        )
        parts = [DeviceGenotypes(part.genotypes, context.device, context.precision) for part in (train, validation)]

        def make(environment: int) -> OnePhenotype:
            network = PublishedAttention(num_loci, self.settings.embedding_dim)
            network.draw(stream(context.seed, "weights", environment), context.training.initial_scale)
            network.to(context.device, dtype)
            known, choosing = train.phenotypes[:, environment], validation.phenotypes[:, environment]
            return OnePhenotype(network, parts[0], known, parts[1], choosing, context.world)

        self._weights = fit_each(context.environment_names, make, context)

    def _networks(self, num_loci: int) -> list[PublishedAttention]:
        import torch

        from gpmap_cli.layers.published_attention import PublishedAttention
        from gpmap_cli.training.batches import DTYPES

        networks = []
        for weights in self._weights:
            network = PublishedAttention(num_loci, self.settings.embedding_dim).double()
            network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
            networks.append(network.to(self.device, DTYPES[self.precision]).eval())
        return networks

    def _predict(self, genotypes: CodedGenotypes) -> NDArray:
        import numpy as np

        from gpmap_cli.training.batches import DeviceGenotypes
        from gpmap_cli.training.problems import predict_in_batches

        coded = DeviceGenotypes(genotypes, self.device, self.precision)
        columns = [predict_in_batches(network, coded) for network in self._networks(genotypes.num_loci)]
        return np.stack([column.double().cpu().numpy() for column in columns], axis=1)

    def _attention_maps(self, genotypes: CodedGenotypes) -> dict[str, NDArray]:
        import numpy as np
        import torch

        from gpmap_cli.layers.attention_maps import published_maps
        from gpmap_cli.training.batches import DTYPES, DeviceGenotypes

        coded = DeviceGenotypes(genotypes, self.device, self.precision)
        of_each = []
        for weights in self._weights:
            tensors = {
                name: torch.from_numpy(array).to(self.device, DTYPES[self.precision]) for name, array in weights.items()
            }
            of_each.append(published_maps(tensors, coded).cpu().numpy())
        return {f"layer_{at}": maps[:, None] for at, maps in enumerate(np.stack(of_each, axis=1), 1)}

    def _state(self) -> dict[str, NDArray]:
        return {f"{number}/{name}": array for number, part in enumerate(self._weights) for name, array in part.items()}

    def _restore(self, state: dict[str, NDArray]) -> None:
        numbers = sorted({int(name.split("/")[0]) for name in state if "/" in name})
        self._weights = [
            {name.split("/", 1)[1]: array for name, array in state.items() if name.startswith(f"{number}/")}
            for number in numbers
        ]

    def describe(self) -> dict[str, Any]:
        return {"embedding_dim": self.settings.embedding_dim}

    @property
    def num_parameters(self) -> int:
        return sum(array.size for part in self._weights for array in part.values())
