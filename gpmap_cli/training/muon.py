"""Muon: steepest descent for matrices, measured by the largest singular value of the step.

A matrix W (a, b) moves by -rate * sqrt(max(1, a / b)) * O, where O is the nearest matrix with all singular values one
to the momentum M <- (1 - m) G + m M, looked ahead once (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon;
the five Newton-Schulz steps and their coefficients are theirs). All directions of a matrix learn at the same pace,
where Adam lets the few large ones of the gradient lead. Decoupled weight decay bounds the singular values by
sqrt(max(1, a / b)) / decay. Costs 5 (2 c^2 d + c^3) multiply-adds for each matrix, c = min(a, b), d = max(a, b).

torch.optim.Muon orthogonalises one matrix after the other in bfloat16, which most CPUs emulate; this one takes all
matrices of a shape at once, in the precision of the weights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_NUM_ITERATIONS = 5
_SMALLEST_NORM = 1e-7


def orthogonalised(matrices: torch.Tensor) -> torch.Tensor:
    """The matrices (K, a, b) with their singular values moved to about one (0.7 to 1.2)."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.transpose(1, 2)
    x = x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp_min(_SMALLEST_NORM)
    first, third, fifth = _COEFFICIENTS
    for _ in range(_NUM_ITERATIONS):
        square = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=third, alpha=fifth), x, beta=first)
    return x if wide else x.transpose(1, 2)


class Muon(torch.optim.Optimizer):
    """Muon for parameters of two dimensions."""

    def __init__(
        self, params: Iterable[torch.Tensor], lr: float, weight_decay: float = 0.0, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for parameters in by_shape.values():
                self._step(parameters, group)
        return None

    def _step(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        momentum, rate = group["momentum"], group["lr"]
        ahead = []
        for parameter in parameters:
            state, gradient = self.state[parameter], parameter.grad
            assert gradient is not None
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(parameter)
            state["momentum"].lerp_(gradient, 1 - momentum)
            ahead.append(gradient.lerp(state["momentum"], momentum))
        rows, columns = parameters[0].shape
        steps = orthogonalised(torch.stack(ahead)) * (-rate * max(1.0, rows / columns) ** 0.5)
        torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
        torch._foreach_add_(parameters, list(steps))
