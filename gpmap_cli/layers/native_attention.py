"""The attention layers of block_attention.py by compiled code (attention_kernel.c), and its gradients."""

from __future__ import annotations

import ctypes
import functools
import itertools
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from gpmap_cli import native_code
from gpmap_cli.layers.worker_threads import for_each

log = logging.getLogger("gpmap")

_SOURCE = Path(__file__).with_name("attention_kernel.c")
_TYPES = {torch.float32: ("float", 0), torch.float64: ("double", 1)}
# Pieces of a batch for each thread: threads that other jobs hold up have others take over their pieces.
_PIECES = 4

_Kernel = Callable[..., int]


@functools.cache
def _kernel(width: int, dtype: torch.dtype) -> _Kernel | None:
    """The compiled function for tokens of this width; None where there is none, or where what it says is wrong."""
    if dtype not in _TYPES:
        return None
    name, is_double = _TYPES[dtype]
    library = native_code.compiled(_SOURCE, (f"REAL={name}", f"DOUBLE={is_double}", f"WIDTH={width}"))
    if library is None:
        return None
    kernel = library.attention_stack
    kernel.restype = ctypes.c_int
    kernel.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_int, ctypes.c_int, *([ctypes.c_void_p] * 9)]
    if not _is_right(kernel, width, dtype):
        log.warning("compiled attention gives wrong numbers on this machine: the slower way is taken")
        return None
    return kernel


def is_available(width: int, dtype: torch.dtype) -> bool:
    """Whether tokens of this width can be attended to by compiled code."""
    return _kernel(width, dtype) is not None


def _is_right(kernel: _Kernel, width: int, dtype: torch.dtype) -> bool:
    """Whether the kernel has the gradients of two layers written out, in an example."""
    rng = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=rng)

    with torch.enable_grad():
        tokens, readout = draw(2, 19, width), draw(19, width)
        scores = [draw(width, width) / width for _ in range(2)]
        values = [draw(width, width) / math.sqrt(width)]
        inputs = [each.requires_grad_() for each in (tokens, readout, *scores, *values)]
        first = torch.softmax(tokens @ scores[0] @ tokens.transpose(1, 2), dim=2) @ tokens @ values[0]
        last = torch.softmax(first @ scores[1] @ first.transpose(1, 2), dim=2) @ first
        expected = torch.autograd.grad((last * readout).sum(), inputs)
    tokens, readout, *matrices = (each.detach().to(dtype) for each in inputs)
    stack = _Stack(kernel, tokens, readout, matrices[:2], matrices[2:])
    stack.run(True)
    found = [stack.tokens_back, stack.readout_back.sum(dim=0), *stack.scores_back.sum(dim=0), *stack.values_back.sum(0)]
    close = 1e-3 if dtype == torch.float32 else 1e-10
    return all(
        bool((ours - theirs).norm() <= close * theirs.norm()) for ours, theirs in zip(found, expected, strict=True)
    )


class _Stack:
    """Arrays of one call: y (B,), and of every sample the gradients of its y."""

    def __init__(
        self,
        kernel: _Kernel,
        tokens: torch.Tensor,
        readout: torch.Tensor,
        scores: Sequence[torch.Tensor],
        values: Sequence[torch.Tensor],
    ) -> None:
        self.kernel = kernel
        self.tokens, self.readout = tokens.detach().contiguous(), readout.detach().contiguous()
        self.scores = torch.stack(list(scores)).detach()
        self.values = torch.stack([*values, scores[0].new_zeros(scores[0].shape)]).detach()[: len(values)].contiguous()
        self.predicted = tokens.new_empty(len(tokens))

    def run(self, with_gradients: bool) -> None:
        batch, like = len(self.tokens), self.tokens
        self.with_gradients = with_gradients
        if with_gradients:
            self.tokens_back, self.readout_back = torch.empty_like(like), torch.empty_like(like)
            self.scores_back = like.new_empty(batch, *self.scores.shape)
            self.values_back = like.new_empty(batch, *self.values.shape)
        count = min(batch, _PIECES * torch.get_num_threads())
        bounds = [batch * number // max(1, count) for number in range(count + 1)]
        for_each(self._piece, [slice(*pair) for pair in itertools.pairwise(bounds)])

    def _piece(self, piece: slice) -> None:
        tokens = self.tokens[piece]
        outputs = [self.predicted[piece]]
        if self.with_gradients:
            outputs += [of[piece] for of in (self.tokens_back, self.readout_back, self.scores_back, self.values_back)]
        addresses: list[int | None] = [
            each.data_ptr() for each in (tokens, self.readout, self.scores, self.values, *outputs)
        ]
        addresses += [None] * (9 - len(addresses))
        if self.kernel(len(tokens), tokens.shape[1], len(self.scores), len(self.values), *addresses):
            raise MemoryError


class _Predict(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kernel: _Kernel,
        with_gradients: bool,
        num_values: int,
        tokens: torch.Tensor,
        readout: torch.Tensor,
        *matrices: torch.Tensor,
    ) -> torch.Tensor:
        stack = _Stack(kernel, tokens, readout, matrices[num_values:], matrices[:num_values])
        stack.run(with_gradients)
        if with_gradients:
            ctx.samples_last = tokens.stride(0) == 1  # as layers/sign_attention.py has them in memory
            ctx.save_for_backward(stack.tokens_back, stack.readout_back, stack.values_back, stack.scores_back)
        return stack.predicted

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        tokens_back, *others = ctx.saved_tensors
        readout, values, scores = ((gradient @ each.flatten(1)).view(each.shape[1:]) for each in others)
        if ctx.samples_last:
            scaled = gradient.new_empty(*tokens_back.shape[1:], len(gradient))
            scaled = torch.mul(tokens_back.permute(1, 2, 0), gradient, out=scaled).permute(2, 0, 1)
        else:
            scaled = tokens_back * gradient[:, None, None]
        return None, None, None, scaled, readout, *values, *scores


def predict(
    tokens: torch.Tensor, readout: torch.Tensor, scores: Sequence[torch.Tensor], values: Sequence[torch.Tensor]
) -> torch.Tensor | None:
    """What block_attention.predict gives; None where there is no compiled code for it."""
    kernel = _kernel(tokens.shape[2], tokens.dtype) if tokens.device.type == "cpu" else None
    if kernel is None:
        return None
    matrices = [*values, *scores]
    with_gradients = torch.is_grad_enabled() and any(part.requires_grad for part in (tokens, readout, *matrices))
    return _Predict.apply(kernel, with_gradients, len(values), tokens, readout, *matrices)
