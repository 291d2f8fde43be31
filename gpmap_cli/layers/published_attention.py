"""The attention network of Rijal et al. 2026, to the letter, under the published parameter names."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch.nn import functional

from gpmap_cli.layers import attention_paths, block_attention, native_attention, sign_attention
from gpmap_cli.layers.attention_paths import Path

NUM_LAYERS = 3


class PublishedAttention(torch.nn.Module):
    """Three residual-free, unscaled, single-head attention layers over loci, and a linear read-out.

    Token of locus l: [x_l r_l, 1], r in R^(L x d) (`random_matrix`), so Z is (B, T, D) with T = L, D = d + 1.
    Layers: Z <- softmax(Z Wq (Z Wk)') Z Wv, Wq, Wk, Wv in R^(D x D) (`query_matrix_1`, ...).
    Read-out: y = sum_l c_l . Z_l + b, c in R^(T x D) (`coeffs_attended`), b scalar (`offset`).

    With environments one more token says which one: [0_d, onehot(e), 1] beside locus tokens [x_l r_l, 0_E, 1]
    (D = d + E + 1), or, as in the transfer study, [onehot(e) padded to d, 1] (D = d + 1): `slots` is "own" or
    "embedding". T = L + 1 then. Where environments are given by covariates, P numbers each, these stand in place of the
    one-hot, and E is P.

    How it is computed (layers/attention_paths.py) changes results by rounding only.
    """

    def __init__(self, num_loci: int, embedding_dim: int, num_environments: int = 0, slots: str = "own") -> None:
        super().__init__()
        self.num_environments, self.slots = num_environments, slots
        self.embedding_dim = embedding_dim
        self.path: Path | None = None
        width = embedding_dim + 1 + (num_environments if slots == "own" else 0)
        num_tokens = num_loci + (num_environments > 0)
        self.num_tokens = num_tokens
        shapes: dict[str, tuple[int, ...]] = {"random_matrix": (num_loci, embedding_dim)}
        for layer in range(1, NUM_LAYERS + 1):
            for kind in ("query", "key", "value"):
                shapes[f"{kind}_matrix_{layer}"] = (width, width)
        shapes["coeffs_attended"] = (num_tokens, width)
        shapes["offset"] = (1,)
        for name, shape in shapes.items():
            self.register_parameter(name, torch.nn.Parameter(torch.zeros(shape)))

    def settle_path(self, name: str | None = None) -> str:
        """Compute along the path of this name, or the one chosen for this network now, from here on; its name."""
        self.path = self._path() if name is None else Path.named(name)
        return self.path.name

    def _path(self) -> Path:
        readout = self.get_parameter("coeffs_attended")
        if self.path is not None:
            return self.path
        num_tokens, width = readout.shape
        has_native = functools.partial(native_attention.is_available, width, readout.dtype)
        return attention_paths.choose(num_tokens, readout.device.type, has_native)

    def step_bytes(self, batch: int) -> int:
        """Memory that a training step of so many samples needs at its largest, forward and backward, in bytes."""
        num_tokens, width = self.get_parameter("coeffs_attended").shape
        numbers = attention_paths.step_numbers(self._path(), batch, num_tokens, width)
        return numbers * self.get_parameter("offset").element_size()

    def prediction_batch(self) -> int:
        """How many samples to predict at a time."""
        return attention_paths.prediction_batch(self._path(), *self.get_parameter("coeffs_attended").shape)

    def draw(self, rng: np.random.Generator, scale: float) -> None:
        """All parameters from N(0, scale^2), the same on every device and in every precision."""
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.from_numpy(rng.normal(0, scale, tuple(parameter.shape))))

    def tokens(self, genotypes: torch.Tensor, environments: torch.Tensor | None) -> torch.Tensor:
        """Genotypes (B, L) coded -1/+1 and environment numbers (B,) -> tokens (B, T, D)."""
        embedded = genotypes[:, :, None] * self.get_parameter("random_matrix")
        pad = functional.pad
        if environments is None:
            return pad(embedded, (0, 1), value=1.0)
        mark = self._marks(environments)
        own = mark.shape[1] - self.embedding_dim
        return pad(torch.cat([pad(embedded, (0, own)), mark[:, None]], dim=1), (0, 1), value=1.0)

    def _marks(self, environments: torch.Tensor) -> torch.Tensor:
        """Tokens of environments, numbers (B,) or covariates (B, E), but for the 1 at their end, (B, D - 1)."""
        own = self.num_environments if self.slots == "own" else 0
        first = self.embedding_dim if own else 0
        mark = self.get_parameter("offset").new_zeros(len(environments), self.embedding_dim + own)
        if environments.is_floating_point():
            mark[:, first : first + environments.shape[1]] = environments
            return mark
        return mark.scatter_(1, (first + environments)[:, None], 1.0)

    def forward(self, genotypes: torch.Tensor, environments: torch.Tensor | None = None) -> torch.Tensor:
        """Predicted standardised phenotype (B,) of genotypes (B, L), in the given environments (B,).

        Environments may be several for each of fewer genotypes (G, L), side by side, B = G E.
        """
        path = self._path()
        sums = self._first_sums(path, genotypes, environments)
        if sums is None:
            each = 1 if environments is None else len(environments) // len(genotypes)
            z = self.tokens(genotypes if each == 1 else genotypes.repeat_interleave(each, dim=0), environments)
        else:
            z = sums
        ahead = range(1 if sums is None else 2, NUM_LAYERS + 1)  # layers whose softmax is still to be made
        if path.rest in ("blocks", "native"):
            readout = self.get_parameter("coeffs_attended") @ self._matrix("value", NUM_LAYERS).t()
            scores = [self._scores(layer) for layer in ahead]
            values = [self._matrix("value", layer) for layer in range(1, NUM_LAYERS)]
            found = native_attention.predict(z, readout, scores, values) if path.rest == "native" else None
            if found is None:
                found = block_attention.predict(z, readout, scores, values)
            return found + self.get_parameter("offset")
        if sums is not None:
            z = (sums / sums[:, :, -1:]) @ self._matrix("value", 1)
        for layer in ahead:
            query, key, value = (z @ self._matrix(kind, layer) for kind in ("query", "key", "value"))
            z = attention_paths.attend(query, key, value, path.rest)
        return (z * self.get_parameter("coeffs_attended")).sum(dim=(1, 2)) + self.get_parameter("offset")

    def every_environment(self, genotypes: torch.Tensor, environments: torch.Tensor) -> torch.Tensor:
        """Predicted standardised phenotypes (B, E) of genotypes (B, L) in each of environments (E,), in one pass."""
        marks = environments.repeat(len(genotypes), *[1] * (environments.ndim - 1))
        return self(genotypes, marks).view(len(genotypes), len(environments))

    def _first_sums(
        self, path: Path, genotypes: torch.Tensor, environments: torch.Tensor | None
    ) -> torch.Tensor | None:
        """The first layer's sums (B, T, D) where the path, the genotypes and the scores allow for them."""
        # What is made once for all environments of a genotype pays where compiled code is the faster otherwise.
        shared = path.rest == "native" and environments is not None and len(environments) > len(genotypes)
        if not (path.first == "sign" or shared) or not sign_attention.are_signs(genotypes):
            return None
        marks = None if environments is None else self._marks(environments)
        return sign_attention.attended_sums(genotypes, marks, self._scores(1), self.get_parameter("random_matrix"))

    def _matrix(self, kind: str, layer: int) -> torch.nn.Parameter:
        return self.get_parameter(f"{kind}_matrix_{layer}")

    def _scores(self, layer: int) -> torch.Tensor:
        """A = Wq Wk', (D, D): the scores of a layer are Z A Z'."""
        return self._matrix("query", layer) @ self._matrix("key", layer).t()
