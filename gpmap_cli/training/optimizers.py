"""What moves the parameters of a network: Adam, or Muon for the matrices that it names and Adam for the rest."""

from __future__ import annotations

from collections.abc import Callable

import torch
from numpy.typing import NDArray

from gpmap_cli.training.muon import Muon
from gpmap_cli.training.settings import TrainingSettings


class Optimizers:
    """The optimisers of one network as one, with their state as arrays named after the parameters.

    A network says with `matrices()` which of its parameters are linear maps from features to features; those are
    what Muon is for, and what weight decay is for. `rate` is Adam's; matrices move at `matrix_rate` times it.
    """

    def __init__(self, network: torch.nn.Module, settings: TrainingSettings, device: str) -> None:
        named = dict(network.named_parameters())
        matrices: Callable[[], list[torch.nn.Parameter]] = getattr(network, "matrices", list)
        chosen = {id(parameter) for parameter in matrices()}
        self._matrices = {name: one for name, one in named.items() if id(one) in chosen}
        self._others = {name: one for name, one in named.items() if id(one) not in chosen}
        self._settings = settings
        # One kernel for all parameters where there is one.
        fused = torch.device(device).type in ("cpu", "cuda")
        uses_muon = settings.optimizer == "muon" and bool(self._matrices)
        self._parts: list[tuple[torch.optim.Optimizer, dict[str, torch.nn.Parameter], float]] = []
        if self._others:
            self._parts.append((torch.optim.Adam(self._others.values(), lr=0.0, fused=fused), self._others, 1.0))
        if self._matrices:
            decay = settings.weight_decay
            if uses_muon:
                muon = Muon(self._matrices.values(), lr=0.0, weight_decay=decay)
                self._parts.append((muon, self._matrices, settings.matrix_rate))
            else:
                adam = torch.optim.AdamW(self._matrices.values(), lr=0.0, weight_decay=decay, fused=fused)
                self._parts.append((adam, self._matrices, 1.0))

    def step(self, rate: float) -> None:
        """Move all parameters by their gradients."""
        for optimizer, _, times in self._parts:
            for group in optimizer.param_groups:
                group["lr"] = rate * times
            optimizer.step()

    def zero_grad(self) -> None:
        for optimizer, _, _ in self._parts:
            optimizer.zero_grad(set_to_none=True)

    def arrays(self) -> dict[str, NDArray]:
        """All moments, as `<parameter>/<moment>`; empty before the first step."""
        return {
            f"{name}/{key}": value.cpu().numpy().copy()
            for optimizer, parameters, _ in self._parts
            for name, parameter in parameters.items()
            for key, value in optimizer.state.get(parameter, {}).items()
        }

    def restore(self, arrays: dict[str, NDArray]) -> None:
        """Take up what `arrays()` gave."""
        for optimizer, parameters, _ in self._parts:
            states: dict[int, dict[str, torch.Tensor]] = {}
            for number, name in enumerate(parameters):
                keys = [key for key in arrays if key.rpartition("/")[0] == name]
                if keys:
                    states[number] = {key.rpartition("/")[2]: torch.from_numpy(arrays[key].copy()) for key in keys}
            whole = optimizer.state_dict()
            whole["state"] = states
            optimizer.load_state_dict(whole)
