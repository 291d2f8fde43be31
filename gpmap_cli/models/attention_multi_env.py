"""`attention_multi_env`: the published multi-environment attention model, one network for all environments.

One more token says which environment; otherwise as `attention`, with a read-out over all L + 1 tokens (paper,
"multi-environment"; Rijal et al. 2026). Every measured (sample, environment) cell is a training example, labelled
with its own environment. Width D = d + E + 1 (`environment_slots` own), or d + 1 with the one-hot environment in
the embedding's slots (embedding, the published transfer study; E <= d). Costs per example as `attention`. A fit that
begins from one of other environments keeps their slots, in which it learned, behind those of its own. With
`environment_covariates` the slots hold, in place of the one-hot, a unit vector that follows from them, so
that products of these are genetic correlations (`gpmap_cli/dataset/reaction_norms.py`), for any environment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gpmap_cli.errors import InputError, Problem
from gpmap_cli.models.base import Model, covariate_problems, norms_of, norms_state, reaction_norms
from gpmap_cli.settings import Rule, Ruled, setting

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from gpmap_cli.dataset.coding import CodedGenotypes, Samples
    from gpmap_cli.dataset.reaction_norms import ReactionNorms
    from gpmap_cli.layers.published_attention import PublishedAttention
    from gpmap_cli.training.context import FitContext


_FACTS = ("num_environments", "num_slots", "num_loci", "coordinates")  # of a state, beside its weights


@dataclass(frozen=True)
class Settings(Ruled):
    name: str = "attention_multi_env"
    embedding_dim: int = setting(12, minimum=1)
    environment_covariates: tuple[str, ...] | None = None
    covariate_degree: int | None = setting(None, minimum=1, maximum=3)
    environment_slots: Literal["own", "embedding"] = "own"

    def rules(self) -> tuple[Rule, ...]:
        return (self._covariate_problems,)

    def _covariate_problems(self, prefix: str) -> Iterator[Problem]:
        yield from covariate_problems(self.environment_covariates, self.covariate_degree, prefix)


class AttentionMultiEnv(Model):
    """Attention over loci and an environment token, fitted to all environments jointly."""

    name = "attention_multi_env"
    joint_environments = True
    can_start = True
    shares_fit = True
    settings: Settings
    # Where the token holds what covariates make of an environment: how they do, and that of these environments (E, K).
    _norms: ReactionNorms | None = None
    _coordinates: NDArray

    def _network(self, num_loci: int, num_slots: int) -> PublishedAttention:
        from gpmap_cli.layers.published_attention import PublishedAttention

        self._refuse_too_many(num_slots)
        settings = self.settings
        return PublishedAttention(num_loci, settings.embedding_dim, num_slots, settings.environment_slots)

    def _refuse_too_many(self, num_slots: int) -> None:
        settings = self.settings
        if settings.environment_slots == "embedding" and num_slots > settings.embedding_dim:
            raise InputError(
                f"{num_slots} environments do not fit into the {settings.embedding_dim} slots of the embedding",
                "raise model.embedding_dim, or set model.environment_slots=own",
            )

    def _fit(self, train: Samples, validation: Samples, context: FitContext) -> None:
        import numpy as np
        import torch

        from gpmap_cli.random_streams import stream
        from gpmap_cli.training.batches import DTYPES, DeviceGenotypes
        from gpmap_cli.training.gradient import fit_each
        from gpmap_cli.training.memory import refuse_step_beyond_memory
        from gpmap_cli.training.problems import EveryCell

        self._num_environments = self._num_slots = train.phenotypes.shape[1]
        if self.settings.environment_covariates is not None:
            own = reaction_norms(self.settings.environment_covariates, context, self.settings.covariate_degree)
            # A fit that begins from another goes on with what its token means.
            self._norms = own if context.start is None else norms_of(context.start)
            assert self._norms is not None  # the settings are the same
            self._coordinates = self._norms.coordinates(own.covariates)
            self._num_slots = self._coordinates.shape[1]
        begin_from = None if context.start is None else self._begin_from(context.start)
        num_loci, dtype = train.genotypes.num_loci, DTYPES[context.precision]
        batch, _ = context.training.batch_and_rate(int((~np.isnan(train.phenotypes)).sum()))
        refuse_step_beyond_memory(
            f"{self.name}: a step of {batch} cells at {num_loci} loci",
            self._network(num_loci, self._num_slots).to(dtype).step_bytes(context.batch_here(batch)),
            context.device,
        )
        parts = [DeviceGenotypes(part.genotypes, context.device, context.precision) for part in (train, validation)]

        def make(_: int) -> EveryCell:
            network = self._network(num_loci, self._num_slots)
            if begin_from is None:
                network.draw(stream(context.seed, "weights"), context.training.initial_scale)
            else:
                network.load_state_dict({name: torch.from_numpy(array) for name, array in begin_from.items()})
            network.to(context.device, dtype)
            shared = (parts[1], validation.phenotypes, context.world, self._marks(context.device, dtype))
            return EveryCell(network, parts[0], train.phenotypes, *shared)

        (self._weights,) = fit_each([""], make, context)

    def _marks(self, device: str, dtype: torch.dtype) -> torch.Tensor:
        """What the token says of each environment: its number, or its coordinates."""
        import torch

        if self._norms is None:
            return torch.arange(self._num_environments, device=device)
        return torch.from_numpy(self._coordinates).to(device, dtype)

    def _begin_from(self, start: dict[str, NDArray]) -> dict[str, NDArray]:
        """Weights of the network that `start` was, with slots for the environments of this fit before its own."""
        weights = _weights_of(start)
        if self._norms is not None:
            return weights
        before = int(start.get("num_slots", start["num_environments"]))
        if int(start["num_environments"]) == self._num_environments:
            self._num_slots = before
            return weights
        self._num_slots = before + self._num_environments
        self._refuse_too_many(self._num_slots)
        if self.settings.environment_slots == "own":
            return _with_own_slots(weights, self.settings.embedding_dim, before, self._num_environments)
        return _with_slots_of_embedding(weights, before, self._num_environments)

    def _predict(self, genotypes: CodedGenotypes) -> NDArray:
        import torch

        from gpmap_cli.training.batches import DTYPES, DeviceGenotypes
        from gpmap_cli.training.problems import predict_every_environment

        network = self._network(genotypes.num_loci, self._num_slots).double()
        network.load_state_dict({name: torch.from_numpy(array) for name, array in self._weights.items()})
        network.to(self.device, DTYPES[self.precision]).eval()
        coded = DeviceGenotypes(genotypes, self.device, self.precision)
        marks = self._marks(self.device, DTYPES[self.precision])
        return predict_every_environment(network, coded, marks).double().cpu().numpy()

    def _attention_maps(self, genotypes: CodedGenotypes) -> dict[str, NDArray]:
        import numpy as np
        import torch

        from gpmap_cli.layers.attention_maps import published_maps
        from gpmap_cli.training.batches import DTYPES, DeviceGenotypes

        dtype = DTYPES[self.precision]
        tensors = {name: torch.from_numpy(array).to(self.device, dtype) for name, array in self._weights.items()}
        coded = DeviceGenotypes(genotypes, self.device, self.precision)
        of_each = [
            published_maps(tensors, coded, environment).cpu().numpy() for environment in self._marks(self.device, dtype)
        ]
        return {f"layer_{at}": maps[:, None] for at, maps in enumerate(np.stack(of_each, axis=1), 1)}

    def _state(self) -> dict[str, NDArray]:
        import numpy as np

        told = norms_state(self._norms) | ({} if self._norms is None else {"coordinates": self._coordinates})
        numbers = {"num_environments": self._num_environments, "num_slots": self._num_slots}
        return {**{name: np.array(number) for name, number in numbers.items()}, **told, **self._weights}

    def _restore(self, state: dict[str, NDArray]) -> None:
        self._num_environments = int(state["num_environments"])
        self._num_slots = int(state.get("num_slots", state["num_environments"]))
        self._weights = _weights_of(state)
        self._norms = norms_of(state)
        if self._norms is not None:
            self._coordinates = state["coordinates"]

    def describe(self) -> dict[str, Any]:
        found = {"embedding_dim": self.settings.embedding_dim}
        return found if self._norms is None else found | {"degree in the covariates": self._norms.degree}

    @property
    def num_parameters(self) -> int:
        return sum(array.size for array in self._weights.values())


def _weights_of(state: dict[str, NDArray]) -> dict[str, NDArray]:
    return {name: array for name, array in state.items() if name not in _FACTS and not name.startswith("norms/")}


def _with_own_slots(
    weights: dict[str, NDArray], embedding_dim: int, num_before: int, num_new: int
) -> dict[str, NDArray]:
    """New slots in front: a token there is taken by the first layer for the mean of all environments.

    What they carry on into later layers begins as nothing, so the network predicts for the old environments what it
    did. Keys and read-out of the new slots begin as the mean all the same: gradients of the rest come through them.
    """
    import numpy as np

    slots = slice(embedding_dim, embedding_dim + num_before)

    def widened(matrix: NDArray, with_columns: bool) -> NDArray:
        columns = np.repeat(matrix[:, slots].mean(axis=1, keepdims=True), num_new, axis=1)
        return np.insert(matrix, [embedding_dim] * num_new, columns if with_columns else 0 * columns, axis=1)

    found = {}
    for name, array in weights.items():
        kind, _, rest = name.partition("_")
        if rest.startswith("matrix_"):
            rows = np.repeat(array[slots].mean(axis=0, keepdims=True), num_new, axis=0)
            found[name] = widened(np.insert(array, [embedding_dim] * num_new, rows, axis=0), kind == "key")
        else:
            found[name] = widened(array, True) if name == "coeffs_attended" else array
    return found


def _with_slots_of_embedding(weights: dict[str, NDArray], num_before: int, num_new: int) -> dict[str, NDArray]:
    """The dimensions of the embedding in another order: `num_new` that marked no environment yet come first.

    Loci live in them too, so a new environment cannot begin as the mean of the others here.
    """
    import numpy as np

    moved = np.arange(num_before, num_before + num_new)
    found = {}
    for name, array in weights.items():
        rest = np.setdiff1d(np.arange(array.shape[-1]), moved)
        order = np.concatenate([moved, rest])
        if name == "offset":
            found[name] = array
        else:
            found[name] = array[np.ix_(order, order)] if "_matrix_" in name else array[..., order]
    return found
