"""A transformer over loci whose read-out multiplies: attention blocks, then gated layers over the whole genotype.

Epistasis of order k is a product of k genotypes. Attention and feed-forward blocks find such products late, if at
all: a fourth-order term has no shadow of lower order that a gradient could follow. Gated layers *are* products,
(U h) * (V h), so two of them hold every term up to order four from the first step on, and training picks out those
that are there. `scripts/bench_recipe` has the ablation.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

# From this many loci on, attention is computed without keeping its (B, heads, L, L) weights.
_FUSED_FROM = 128
_EMBEDDING_STD = 0.5
_SMALL_STD = 0.02


class AttentionBlock(torch.nn.Module):
    """z <- z + Wo heads(norm z), z <- z + Wd (swish(Wg norm z) * (Wu norm z)); tokens z (B, L, W), pre-norm.

    Each head: softmax(Q K' / sqrt(W / heads)) V over the loci. norm: z over its root mean square, scaled by locus
    feature. The feed-forward part is gated and 2 W wide.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norms = torch.nn.Parameter(torch.ones(2, width))
        self.query_key_value = torch.nn.Parameter(torch.empty(3 * width, width))
        self.attended = torch.nn.Parameter(torch.empty(width, width))
        self.gate_up = torch.nn.Parameter(torch.empty(4 * width, width))
        self.down = torch.nn.Parameter(torch.empty(width, 2 * width))

    def draw(self, rng: np.random.Generator) -> None:
        width = self.attended.shape[0]
        for matrix, std in (
            (self.query_key_value, width**-0.5),
            (self.attended, _SMALL_STD),
            (self.gate_up, width**-0.5),
            (self.down, _SMALL_STD),
        ):
            _draw(matrix, rng, std)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        batch, num_loci, width = z.shape
        head = width // self.num_heads
        normed = functional.rms_norm(z, (width,), self.norms[0])
        packed = functional.linear(normed, self.query_key_value).view(batch, num_loci, 3, self.num_heads, head)
        query, key, value = packed.permute(2, 0, 3, 1, 4)
        if num_loci >= _FUSED_FROM:
            mixed = functional.scaled_dot_product_attention(query, key, value)
        else:
            mixed = torch.softmax(query @ key.transpose(2, 3) * head**-0.5, dim=3) @ value
        z = z + functional.linear(mixed.transpose(1, 2).reshape(batch, num_loci, width), self.attended)
        gate, up = functional.linear(functional.rms_norm(z, (width,), self.norms[1]), self.gate_up).chunk(2, dim=2)
        return z + functional.linear(functional.silu(gate) * up, self.down)


class GatedLayer(torch.nn.Module):
    """h -> [h, 2 a sigmoid(beta a) * b] with a = U norm h + u, b = V norm h + v; h (B, D) -> (B, D + M).

    beta, one for each of the M units, starts at zero, where the unit is the product a * b, and learns how far it
    bends towards a switch (swish with a learned slope; Ramachandran et al. 2017).
    """

    def __init__(self, num_inputs: int, num_units: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(2 * num_units, num_inputs))
        self.bias = torch.nn.Parameter(torch.zeros(2 * num_units))
        self.slope = torch.nn.Parameter(torch.zeros(num_units))

    def draw(self, rng: np.random.Generator) -> None:
        _draw(self.weight, rng, self.weight.shape[1] ** -0.5)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        normed = functional.rms_norm(h, (h.shape[1],))
        a, b = functional.linear(normed, self.weight, self.bias).chunk(2, dim=1)
        return torch.cat([h, 2 * a * torch.sigmoid(self.slope * a) * b], dim=1)


class GenotypeTransformer(torch.nn.Module):
    """Genotypes (B, L) coded -1/+1 -> standardised phenotypes (B, E), one output per environment.

    Locus tokens z_l = x_l a_l + b_l (an embedding of width W for each allele), `num_blocks` attention blocks over
    them, and per-locus read-out r = sum_l R_l norm z_l of `read_out_width` numbers. Gated layers over the genotype:
    h = x, then [h, gated], then r joins, then gated again, ...; y = C h + c. R and C start at zero, so a fit begins
    as the additive model does, and the blocks come in as far as they help.

    basis (E, K): the read-out as a function of the environment, y = (C h + c) basis', C and c of K rather than E
    columns: environment e is read with the combination basis_e of K read-outs.
    """

    def __init__(
        self,
        num_loci: int,
        num_environments: int,
        width: int,
        num_heads: int,
        num_blocks: int,
        num_layers: int,
        num_units: int,
        read_out_width: int,
        basis: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        self.basis: torch.Tensor | None
        self.register_buffer("basis", basis, persistent=False)
        num_outputs = num_environments if basis is None else basis.shape[1]
        self.num_loci, self.width, self.num_heads = num_loci, width, num_heads
        self._blocks = [AttentionBlock(width, num_heads) for _ in range(num_blocks)]
        if num_blocks:
            self.allele = torch.nn.Parameter(torch.empty(num_loci, width))
            self.locus = torch.nn.Parameter(torch.empty(num_loci, width))
            self.blocks = torch.nn.ModuleList(self._blocks)
            self.norm = torch.nn.Parameter(torch.ones(width))
            self.read_out = torch.nn.Parameter(torch.zeros(num_loci * width, read_out_width))
        self._layers: list[GatedLayer] = []
        features = num_loci
        for number in range(num_layers):
            if number == num_layers - 1 and num_blocks:
                features += read_out_width
            self._layers.append(GatedLayer(features, num_units))
            features += num_units
        self.gated = torch.nn.ModuleList(self._layers)
        self.coefficients = torch.nn.Parameter(torch.zeros(features, num_outputs))
        self.offset = torch.nn.Parameter(torch.zeros(num_outputs))

    @property
    def attention_blocks(self) -> list[AttentionBlock]:
        return self._blocks

    def draw(self, rng: np.random.Generator) -> None:
        """Initial weights, the same on every device and in every precision."""
        if self._blocks:
            _draw(self.allele, rng, _EMBEDDING_STD)
            _draw(self.locus, rng, _EMBEDDING_STD)
            for block in self._blocks:
                block.draw(rng)
        for layer in self._layers:
            layer.draw(rng)

    def matrices(self) -> list[torch.nn.Parameter]:
        """Linear maps from features to features."""
        maps = [layer.weight for layer in self._layers]
        if self._blocks:
            for block in self._blocks:
                maps += [block.query_key_value, block.attended, block.gate_up, block.down]
        return maps

    def step_numbers(self) -> int:
        """How many numbers a training step holds for one sample, forward and backward."""
        num_features = len(self.coefficients)
        in_blocks = self.num_loci * self.width * 40 * len(self._blocks)
        if self.num_loci < _FUSED_FROM:
            in_blocks += 3 * self.num_loci**2 * self.num_heads * len(self._blocks)
        return in_blocks + 8 * len(self._layers) * num_features

    def forward(self, genotypes: torch.Tensor) -> torch.Tensor:
        h = genotypes
        for number, layer in enumerate(self._layers):
            if number == len(self._layers) - 1 and self._blocks:
                h = torch.cat([h, self._read(genotypes)], dim=1)
            h = layer(h)
        outputs = h @ self.coefficients + self.offset
        return outputs if self.basis is None else outputs @ self.basis.t()

    def _read(self, genotypes: torch.Tensor) -> torch.Tensor:
        z = torch.addcmul(self.locus, genotypes[:, :, None], self.allele)
        for block in self._blocks:
            z = block(z)
        return functional.rms_norm(z, (self.width,), self.norm).flatten(1) @ self.read_out


class Members(torch.nn.Module):
    """Several networks of one kind from different initial weights; (B, L) -> (members, B, E)."""

    def __init__(self, members: list[GenotypeTransformer]) -> None:
        super().__init__()
        self.networks = members
        self.members = torch.nn.ModuleList(members)

    def matrices(self) -> list[torch.nn.Parameter]:
        return [matrix for member in self.networks for matrix in member.matrices()]

    def step_bytes(self, batch: int) -> int:
        """Memory that a training step of so many samples needs at its largest, weights and moments included."""
        parameters = list(self.parameters())
        numbers = len(self.members) * batch * self.networks[0].step_numbers() + 5 * sum(
            one.numel() for one in parameters
        )
        return numbers * parameters[0].element_size()

    def prediction_batch(self) -> int:
        """How many samples are predicted at once."""
        return max(16, min(4096, 2**26 // self.networks[0].step_numbers()))

    def forward(self, genotypes: torch.Tensor) -> torch.Tensor:
        return torch.stack([member(genotypes) for member in self.networks])


def _draw(parameter: torch.nn.Parameter, rng: np.random.Generator, std: float) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(rng.normal(0, std, tuple(parameter.shape))))
