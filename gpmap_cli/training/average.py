"""The exponential moving average of a network's weights: less noisy than the weights of any one step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from numpy.typing import NDArray


class Average:
    """avg <- m avg + (1 - m) weights, m = 1 - 1 / memory, and less in the first steps, (1 + t) / (10 + t)."""

    def __init__(self, network: torch.nn.Module, memory: int) -> None:
        self._network, self._most = network, 1 - 1 / memory
        self._steps = 0
        self._values = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights after a step into the average."""
        self._steps += 1
        kept = min(self._most, (1 + self._steps) / (10 + self._steps))
        weights = self._network.state_dict()
        torch._foreach_lerp_(list(self._values.values()), [weights[name] for name in self._values], 1 - kept)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the network has the average for its weights."""
        own = {name: value.detach().clone() for name, value in self._network.state_dict().items()}
        self._network.load_state_dict(self._values)
        try:
            yield
        finally:
            self._network.load_state_dict(own)

    def arrays(self) -> dict[str, NDArray]:
        return {name: value.cpu().numpy().copy() for name, value in self._values.items()}

    def restore(self, arrays: dict[str, NDArray], steps: int) -> None:
        """Take up what `arrays()` gave after so many steps."""
        self._steps = steps
        for name, value in self._values.items():
            value.copy_(torch.from_numpy(arrays[name]))
