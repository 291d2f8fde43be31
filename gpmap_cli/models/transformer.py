"""`transformer`: attention blocks over loci and gated layers that multiply, one network for all environments.

Per-allele locus embeddings, pre-norm attention blocks, per-locus read-out, gated layers over the whole genotype, one
output per environment; what was not measured is masked in the loss, so no sample is thrown away. The formula is in
`gpmap_cli/layers/genotype_transformer.py`. With `environment_covariates` the read-out is a polynomial of them and has
as many outputs as that has terms (`gpmap_cli/dataset/reaction_norms.py`). `num_members` networks are fitted from
different initial weights and their predictions averaged. The exact additive or pairwise fit, and up to 16 loci of
haploid calls a Gaussian process on all 2^L genotypes, take the shares of the prediction that the validation samples
give them. Costs for each member, sample and step 6 (L W^2 12 + 2 L^2 W) blocks + 6 (sum of D_k 2 M) multiply-adds, D_k
the inputs of a gated layer, at most L + R + k M.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gpmap_cli.errors import Problem
from gpmap_cli.models.base import (
    Model,
    covariate_problems,
    environment_rows,
    norms_of,
    norms_state,
    reaction_norms,
)
from gpmap_cli.settings import Rule, Ruled, setting

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from gpmap_cli.dataset.coding import CodedGenotypes, Samples
    from gpmap_cli.dataset.reaction_norms import ReactionNorms
    from gpmap_cli.layers.genotype_transformer import Members
    from gpmap_cli.solvers.complete_landscape import CompleteLandscape
    from gpmap_cli.solvers.linear_baseline import LinearBaseline
    from gpmap_cli.training.context import FitContext

# Beyond this many loci attention blocks cost more than they have been seen to give.
_MOST_LOCI_FOR_BLOCKS = 128


@dataclass(frozen=True)
class Settings(Ruled):
    name: str = "transformer"
    width: int = setting(16, minimum=1)
    num_heads: int = setting(4, minimum=1)
    num_blocks: int | None = setting(None, minimum=0)
    num_layers: int = setting(2, minimum=1)
    num_units: int = setting(256, minimum=1)
    read_out_width: int = setting(64, minimum=1)
    num_members: int = setting(1, minimum=1)
    environment_covariates: tuple[str, ...] | None = None
    covariate_degree: int | None = setting(None, minimum=1, maximum=3)
    linear: Literal["auto", "none", "ridge", "multi_ridge", "pairwise"] = "auto"
    landscape: Literal["auto", "none"] = "auto"

    def rules(self) -> tuple[Rule, ...]:
        return self._head_problems, self._covariate_problems

    def _covariate_problems(self, prefix: str) -> Iterator[Problem]:
        yield from covariate_problems(self.environment_covariates, self.covariate_degree, prefix)

    def _head_problems(self, prefix: str) -> Iterator[Problem]:
        if self.width % self.num_heads:
            what = f"{prefix}width must be a multiple of {prefix}num_heads, got {self.width} and {self.num_heads}"
            yield Problem(what, f"set {prefix}num_heads={_divisor(self.width, self.num_heads)}")


def _divisor(width: int, most: int) -> int:
    return max(number for number in range(1, min(width, most) + 1) if width % number == 0)


class Transformer(Model):
    """A transformer over loci with a multiplying read-out, fitted to all environments jointly."""

    name = "transformer"
    joint_environments = True
    can_start = True
    shares_fit = True
    settings: Settings

    _norms: ReactionNorms | None = None  # of environments that the network is told of by their covariates

    def _network(self, num_loci: int, num_environments: int) -> Members:
        import torch

        from gpmap_cli.layers.genotype_transformer import GenotypeTransformer, Members

        settings = self.settings
        num_blocks = settings.num_blocks
        basis = None if self._norms is None else torch.from_numpy(self._norms.basis())
        if num_blocks is None:
            num_blocks = int(num_loci <= _MOST_LOCI_FOR_BLOCKS)
        return Members(
            [
                GenotypeTransformer(
                    num_loci,
                    num_environments,
                    settings.width,
                    settings.num_heads,
                    num_blocks,
                    settings.num_layers,
                    settings.num_units,
                    settings.read_out_width,
                    basis,
                )
                for _ in range(settings.num_members)
            ]
        )

    def _fit(self, train: Samples, validation: Samples, context: FitContext) -> None:
        import numpy as np

        from gpmap_cli.random_streams import stream
        from gpmap_cli.solvers.stacking import convex_shares
        from gpmap_cli.training.batches import DTYPES, DeviceGenotypes
        from gpmap_cli.training.gradient import fit_each
        from gpmap_cli.training.memory import refuse_step_beyond_memory
        from gpmap_cli.training.problems import EveryEnvironment

        num_loci, dtype = train.genotypes.num_loci, DTYPES[context.precision]
        self._num_environments = train.phenotypes.shape[1]
        chosen = self.settings.environment_covariates
        self._norms = None if chosen is None else reaction_norms(chosen, context, self.settings.covariate_degree)
        network = self._network(num_loci, self._num_environments).to(dtype)
        batch, _ = context.training.batch_and_rate(int((~np.isnan(train.phenotypes)).any(axis=1).sum()))
        refuse_step_beyond_memory(
            f"{self.name}: a step of {batch} samples at {num_loci} loci",
            network.step_bytes(context.batch_here(batch)),
            context.device,
        )
        self._baseline = None if self.settings.linear == "none" else self._linear(train, context)
        self._landscape = self._complete_landscape(train, validation, context)
        parts = [DeviceGenotypes(part.genotypes, context.device, context.precision) for part in (train, validation)]

        def make(_: int) -> EveryEnvironment:
            for number, member in enumerate(network.networks):
                member.draw(stream(context.seed, "weights", number))
            if context.start is not None:
                network.load_state_dict(self._begin_from(context.start))
            network.to(context.device)
            rows_at_once = network.prediction_batch()
            known, choosing = train.phenotypes, validation.phenotypes
            return EveryEnvironment(network, parts[0], known, parts[1], choosing, rows_at_once, context.world)

        (self._weights,) = fit_each([""], make, context)
        self._shares = np.zeros((1 + len(self._beside()), self._num_environments))
        self._shares[0] = 1
        if len(self._shares) > 1 and len(validation):
            self._shares = convex_shares(validation.phenotypes, self._parts(validation.genotypes))
            known = ~np.isnan(validation.phenotypes).all(axis=0)
            if known.any():  # where nothing chooses, what was chosen elsewhere
                self._shares[:, ~known] = self._shares[:, known].mean(axis=1, keepdims=True)

    def _beside(self) -> list[LinearBaseline | CompleteLandscape]:
        """What predicts beside the network."""
        return [part for part in (self._baseline, self._landscape) if part is not None]

    def _parts(self, genotypes: CodedGenotypes) -> list[NDArray]:
        """Predictions (N, E) of the network and of each fit beside it."""
        return [self._of_network(genotypes), *(part.predict(genotypes) for part in self._beside())]

    def _linear(self, train: Samples, context: FitContext) -> LinearBaseline:
        """The exact additive or pairwise fit that stands in for the network as far as the validation samples say."""
        from gpmap_cli.solvers.linear_baseline import can_fit_pairs, fit_linear_baseline

        kind = self.settings.linear
        if kind == "auto":
            kind = "ridge" if self._num_environments == 1 else "multi_ridge"
            if can_fit_pairs(len(train), train.genotypes.num_loci):
                kind = "pairwise"
        assert kind != "none"
        return fit_linear_baseline(train, kind, context)

    def _complete_landscape(self, train: Samples, validation: Samples, context: FitContext) -> CompleteLandscape | None:
        """The Gaussian process on all genotypes, where they are few enough and measured often enough."""
        from gpmap_cli.solvers.complete_landscape import can_fit_landscape, fit_landscape

        if self.settings.landscape == "none" or not can_fit_landscape(train, validation):
            return None
        found = fit_landscape(train, validation, context.device)
        context.reporter.note(
            f"{self.name}: Gaussian process on all {len(found.values)} genotypes beside it: penalty "
            + ", ".join(f"{penalty:.3g}" for penalty in found.penalty)
        )
        return found

    def _begin_from(self, start: dict[str, NDArray]) -> dict[str, torch.Tensor]:
        """The weights of another fit, with outputs for the environments of this one."""
        import torch

        weights = {}
        for name, array in start.items():
            if name.startswith("members."):
                if name.endswith((".coefficients", ".offset")):
                    array = self._outputs_of(array, start)
                weights[name] = torch.from_numpy(array.copy())
        return weights

    def _outputs_of(self, outputs: NDArray, start: dict[str, NDArray]) -> NDArray:
        """Read-outs (..., K) of `start` as those of this fit; by covariates, what they make of its environments."""
        if self._norms is None:
            return environment_rows(outputs.T, self._num_environments).T
        before, basis = norms_of(start), self._norms.basis()
        assert before is not None  # the settings are the same
        if int(start["num_environments"]) == self._num_environments:
            return outputs
        own = outputs @ before.basis().T * before.std  # in the phenotypes' own units
        return own @ before.weights(self._norms.covariates).T / self._norms.std @ basis / len(basis)

    def _predict(self, genotypes: CodedGenotypes) -> NDArray:
        parts = self._parts(genotypes)
        return sum(
            (share * part for share, part in zip(self._shares[1:], parts[1:], strict=True)), self._shares[0] * parts[0]
        )

    def _of_network(self, genotypes: CodedGenotypes) -> NDArray:
        from gpmap_cli.training.batches import DeviceGenotypes
        from gpmap_cli.training.problems import predict_jointly

        network = self._fitted(genotypes.num_loci)
        coded = DeviceGenotypes(genotypes, self.device, self.precision)
        return predict_jointly(network, coded, network.prediction_batch()).double().cpu().numpy()

    def _fitted(self, num_loci: int) -> Members:
        import torch

        from gpmap_cli.training.batches import DTYPES

        network = self._network(num_loci, self._num_environments).double()
        network.load_state_dict({name: torch.from_numpy(array) for name, array in self._weights.items()})
        return network.to(self.device, DTYPES[self.precision]).eval()

    def _attention_maps(self, genotypes: CodedGenotypes) -> dict[str, NDArray] | None:
        """Of all members, heads beside heads; None without attention blocks."""
        import torch

        from gpmap_cli.layers.attention_maps import transformer_maps
        from gpmap_cli.training.batches import DeviceGenotypes

        members = self._fitted(genotypes.num_loci).networks
        if not members[0].attention_blocks:
            return None
        coded = DeviceGenotypes(genotypes, self.device, self.precision)
        with torch.no_grad():
            maps = torch.cat([transformer_maps(member, coded) for member in members], dim=1).cpu().numpy()
        return {f"layer_{at}": heads[None] for at, heads in enumerate(maps, 1)}

    def _state(self) -> dict[str, NDArray]:
        import numpy as np

        state = {"num_environments": np.array(self._num_environments), **self._weights}
        state.update(norms_state(self._norms))
        if self._beside():
            state["shares"] = self._shares
        for name, part in (("linear", self._baseline), ("landscape", self._landscape)):
            if part is not None:
                state.update({f"{name}/{field}": array for field, array in vars(part).items()})
        return state

    def _restore(self, state: dict[str, NDArray]) -> None:
        import numpy as np

        from gpmap_cli.solvers.complete_landscape import CompleteLandscape
        from gpmap_cli.solvers.linear_baseline import LinearBaseline

        self._num_environments = int(state["num_environments"])
        self._weights = {name: array for name, array in state.items() if name.startswith("members.")}
        self._norms = norms_of(state)
        linear, landscape = (
            {name.removeprefix(prefix): part for name, part in state.items() if name.startswith(prefix)}
            for prefix in ("linear/", "landscape/")
        )
        self._baseline = LinearBaseline(**linear) if linear else None
        self._landscape = CompleteLandscape(**landscape) if landscape else None
        if "network_share" in state:  # written by a version that knew the linear fit alone
            share = state["network_share"]
            self._shares = np.stack([share, 1 - share])
        else:
            self._shares = state.get("shares", np.ones((1, self._num_environments)))

    def describe(self) -> dict[str, Any]:
        """Which share of the prediction is the network's, the exact linear fit's and the Gaussian process's."""
        kinds = (("linear fit", self._baseline), ("Gaussian process", self._landscape))
        names = ["network", *(name for name, part in kinds if part is not None)]
        found: dict[str, Any] = {} if self._norms is None else {"degree in the covariates": self._norms.degree}
        if len(names) == 1:
            return found
        return found | {f"share of the {name}": share.tolist() for name, share in zip(names, self._shares, strict=True)}

    @property
    def num_parameters(self) -> int:
        beside = sum(array.size for part in self._beside() for array in vars(part).values())
        return beside + sum(array.size for array in self._weights.values())
