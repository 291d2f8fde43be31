"""The attention network of Rijal et al. 2026, to the letter, under the published parameter names."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

NUM_LAYERS = 3
# How many tensors of attention weights (B, T, T) and of tokens (B, T, D) a training step holds at its largest.
_WEIGHT_TENSORS, _TOKEN_TENSORS = 5, 24
# Below this many tokens the plain product is faster on a CPU than the fused one, above it the fused one
# saves the (B, T, T) tensor of weights.
_FUSED_FROM = 128


class PublishedAttention(torch.nn.Module):
    """Three residual-free, unscaled, single-head attention layers over loci, and a linear read-out.

    Token of locus l: [x_l r_l, 1], r in R^(L x d) (`random_matrix`), so Z is (B, T, D) with T = L, D = d + 1.
    Layers: Z <- softmax(Z Wq (Z Wk)') Z Wv, Wq, Wk, Wv in R^(D x D) (`query_matrix_1`, ...).
    Read-out: y = sum_l c_l . Z_l + b, c in R^(T x D) (`coeffs_attended`), b scalar (`offset`).

    With environments one more token says which one: [0_d, onehot(e), 1] beside locus tokens [x_l r_l, 0_E, 1]
    (D = d + E + 1), or, as in the transfer study, [onehot(e) padded to d, 1] (D = d + 1): `slots` is "own" or
    "embedding". T = L + 1 then.
    """

    def __init__(self, num_loci: int, embedding_dim: int, num_environments: int = 0, slots: str = "own") -> None:
        super().__init__()
        self.num_environments, self.slots = num_environments, slots
        self.embedding_dim = embedding_dim
        width = embedding_dim + 1 + (num_environments if slots == "own" else 0)
        num_tokens = num_loci + (num_environments > 0)
        shapes: dict[str, tuple[int, ...]] = {"random_matrix": (num_loci, embedding_dim)}
        for layer in range(1, NUM_LAYERS + 1):
            for kind in ("query", "key", "value"):
                shapes[f"{kind}_matrix_{layer}"] = (width, width)
        shapes["coeffs_attended"] = (num_tokens, width)
        shapes["offset"] = (1,)
        for name, shape in shapes.items():
            self.register_parameter(name, torch.nn.Parameter(torch.zeros(shape)))

    def step_bytes(self, batch: int) -> int:
        """Memory that a training step of so many samples needs at its largest, forward and backward, in bytes."""
        num_tokens, width = self.get_parameter("coeffs_attended").shape
        weights, tokens = batch * num_tokens**2, batch * num_tokens * width
        return (_WEIGHT_TENSORS * weights + _TOKEN_TENSORS * tokens) * self.get_parameter("offset").element_size()

    def draw(self, rng: np.random.Generator, scale: float) -> None:
        """All parameters from N(0, scale^2), the same on every device and in every precision."""
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.from_numpy(rng.normal(0, scale, tuple(parameter.shape))))

    def tokens(self, genotypes: torch.Tensor, environments: torch.Tensor | None) -> torch.Tensor:
        """Genotypes (B, L) coded -1/+1 and environment numbers (B,) -> tokens (B, T, D)."""
        batch = len(genotypes)
        embedded = genotypes[:, :, None] * self.get_parameter("random_matrix")
        pad = functional.pad
        if environments is None:
            return pad(embedded, (0, 1), value=1.0)
        own = self.num_environments if self.slots == "own" else 0
        width = self.embedding_dim + own
        mark = torch.zeros(batch, 1, width, dtype=genotypes.dtype, device=genotypes.device)
        first = self.embedding_dim if own else 0
        mark.scatter_(2, (first + environments)[:, None, None], 1.0)
        return pad(torch.cat([pad(embedded, (0, own)), mark], dim=1), (0, 1), value=1.0)

    def forward(self, genotypes: torch.Tensor, environments: torch.Tensor | None = None) -> torch.Tensor:
        """Predicted standardised phenotype (B,) of genotypes (B, L), in the given environments (B,)."""
        z = self.tokens(genotypes, environments)
        fused = z.shape[1] >= _FUSED_FROM
        for layer in range(1, NUM_LAYERS + 1):
            query = z @ self.get_parameter(f"query_matrix_{layer}")
            key = z @ self.get_parameter(f"key_matrix_{layer}")
            value = z @ self.get_parameter(f"value_matrix_{layer}")
            if fused:
                z = functional.scaled_dot_product_attention(query, key, value, scale=1.0)
            else:
                z = torch.softmax(query @ key.transpose(1, 2), dim=2) @ value
        return (z * self.get_parameter("coeffs_attended")).sum(dim=(1, 2)) + self.get_parameter("offset")
