"""Attention maps: how much each locus takes from each other one, averaged over genotypes.

Networks compute attention in whatever form is fastest and keep no weights of it. Here it is written out plainly, layer
by layer, from the fitted weights under their names, so it does not depend on which form a network uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch.nn import functional

from gpmap_cli.layers.genotype_transformer import GenotypeTransformer
from gpmap_cli.training.batches import DeviceGenotypes

_MOST_WEIGHTS = 2**22  # in one (B, heads, T, T) tensor


def published_maps(
    weights: Mapping[str, torch.Tensor], genotypes: DeviceGenotypes, environment: int | torch.Tensor | None = None
) -> torch.Tensor:
    """Mean over samples of softmax(Z Wq (Z Wk)') in every layer of the published network: (layers, T, T) float64.

    weights: by their published names. environment: what its token says, a number or covariates (P,), with T = L + 1
    and that token last; None for the network of one environment, T = L. Rows, which sum to one, are the tokens that
    attend.
    """
    embedding = weights["random_matrix"]
    num_layers = sum(name.startswith("query_matrix_") for name in weights)
    total = torch.zeros((), dtype=torch.float64, device=embedding.device)
    for x in _batches(genotypes, (len(embedding) + 1) ** 2):
        z = _published_tokens(weights, x, environment)
        sums = []
        for layer in range(1, num_layers + 1):
            query, key, value = (z @ weights[f"{kind}_matrix_{layer}"] for kind in ("query", "key", "value"))
            attention = torch.softmax(query @ key.transpose(1, 2), dim=2)
            sums.append(attention.sum(dim=0, dtype=torch.float64))
            z = attention @ value
        total = total + torch.stack(sums)
    return total / len(genotypes)


def _published_tokens(
    weights: Mapping[str, torch.Tensor], x: torch.Tensor, environment: int | torch.Tensor | None
) -> torch.Tensor:
    """[x_l r_l, 0, 1] of every locus, and [0, onehot(e) or covariates, 1] of the environment: (B, T, D)."""
    embedding = weights["random_matrix"]
    num_loci, embedding_dim = embedding.shape
    width = len(weights["query_matrix_1"])
    z = x.new_zeros(len(x), num_loci + (environment is not None), width)
    z[:, :num_loci, :embedding_dim] = x[:, :, None] * embedding
    if environment is not None:
        # In slots of its own behind the embedding, or, where the width leaves none, in the embedding's.
        first = embedding_dim if width > embedding_dim + 1 else 0
        if isinstance(environment, torch.Tensor) and environment.is_floating_point():
            z[:, -1, first : first + len(environment)] = environment
        else:
            z[:, -1, first + int(environment)] = 1
    z[:, :, -1] = 1
    return z


def transformer_maps(network: GenotypeTransformer, genotypes: DeviceGenotypes) -> torch.Tensor:
    """Mean over samples of softmax(Q K' / sqrt(width of a head)): (blocks, heads, L, L) float64, rows attend."""
    total = torch.zeros((), dtype=torch.float64, device=network.locus.device)
    width, heads = network.width, network.num_heads
    for x in _batches(genotypes, heads * network.num_loci**2):
        z = torch.addcmul(network.locus, x[:, :, None], network.allele)
        sums = []
        for block in network.attention_blocks:
            normed = functional.rms_norm(z, (width,), block.norms[0])
            packed = functional.linear(normed, block.query_key_value).view(*z.shape[:2], 3, heads, width // heads)
            query, key = packed[:, :, 0].transpose(1, 2), packed[:, :, 1].transpose(1, 2)
            attention = torch.softmax(query @ key.transpose(2, 3) * (width // heads) ** -0.5, dim=3)
            sums.append(attention.sum(dim=0, dtype=torch.float64))
            z = block(z)
        total = total + torch.stack(sums)
    return total / len(genotypes)


def _batches(genotypes: DeviceGenotypes, weights_of_one: int) -> Iterator[torch.Tensor]:
    """Coded genotypes (B, L), the very numbers that a prediction starts from."""
    step = max(1, _MOST_WEIGHTS // weights_of_one)
    for start in range(0, len(genotypes), step):
        yield genotypes[slice(start, start + step)]
