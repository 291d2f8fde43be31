"""The ways in which the published network can be computed, all of them the same mathematics, and which is taken.

A path is written `first+rest`. First layer: "sign" (layers/sign_attention.py, where all genotypes of a batch are -1
or +1 and the scores small, otherwise as the rest) or "general" (as the rest). Rest: "plain" (softmax of a product),
"fused" (PyTorch's own kernel, which keeps no weights), "blocks" (layers/block_attention.py), "native" (the same by
compiled code, layers/native_attention.py; by blocks where there is no compiler).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

# At most this many numbers in the largest tensors when predicting.
_LARGEST_PREDICTION = 2**24

FIRST = ("sign", "general")
REST = ("plain", "fused", "blocks", "native")


@dataclass(frozen=True)
class Path:
    """How the network is computed."""

    first: str
    rest: str

    @classmethod
    def named(cls, name: str) -> Path:
        first, _, rest = name.partition("+")
        if first not in FIRST or rest not in REST:
            raise ValueError(f"there is no path {name}")
        return cls(first, rest)

    @property
    def name(self) -> str:
        return f"{self.first}+{self.rest}"


# On a CPU, by measurement (scripts/bench_attention, part `paths`; widths of 13 to 81). Compiled code is the fastest at
# every size, but below so many tokens not by enough to have a fit wait for the compiler. Without it the plain product
# is the fastest below so many tokens on a CPU with no other work; from there on blocks, and from so many tokens on sums
# over pairs for the first layer. On a busy CPU blocks pay earlier, as they touch less memory.
_NATIVE_FROM = 16
_BLOCKS_FROM, _SIGN_FROM = 64, 96
# The sums over pairs need a handful of (L, L) matrices: beyond this the general way, which needs none.
_SIGN_TO = 16_384
# On other devices, where neither of these was measured: PyTorch's kernel saves the weights from here on.
_FUSED_FROM = 128


def choose(num_tokens: int, device: str, has_native: Callable[[], bool]) -> Path:
    """The path for so many tokens; a function of these alone, so that equal runs on a machine stay equal."""
    if device != "cpu":
        return Path("general", "fused" if num_tokens >= _FUSED_FROM else "plain")
    if num_tokens >= _NATIVE_FROM and has_native():
        return Path("general", "native")
    if num_tokens < _BLOCKS_FROM:
        return Path("general", "plain")
    return Path("sign" if _SIGN_FROM <= num_tokens <= _SIGN_TO else "general", "blocks")


def step_numbers(path: Path, batch: int, num_tokens: int, width: int) -> int:
    """How many numbers a training step of the path holds at its largest, forward and backward; an upper estimate."""
    tokens = batch * num_tokens * (width + 8)
    shared = 8 * num_tokens**2 if path.first == "sign" else 0
    if path.rest in ("blocks", "native"):
        return 10 * tokens + shared
    # A dosage among the genotypes of a batch takes it off the sums over pairs.
    return 24 * tokens + shared + (5 * batch * num_tokens**2 if path.rest == "plain" else 0)


def prediction_batch(path: Path, num_tokens: int, width: int) -> int:
    """How many samples to predict at a time: as many as make the shared work small and do not need much memory."""
    numbers = num_tokens**2 if path.rest == "plain" else 4 * num_tokens * (width + 8)
    return max(1, min(4096, _LARGEST_PREDICTION // numbers))


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rest: str) -> torch.Tensor:
    """softmax(query key') value, (B, T, D) each."""
    if rest == "plain":
        return torch.softmax(query @ key.transpose(1, 2), dim=2) @ value
    # Only with four dimensions is it the kernel that keeps no weights, on a CPU.
    return functional.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], scale=1.0)[:, 0]
