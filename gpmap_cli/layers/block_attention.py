"""Stacked attention layers and their read-out, block by block: no tensor of all pairs of tokens is ever kept.

Layers H = softmax(Z A Z') Z, Z <- H V, and a read-out y = sum_t c_t . H_t of the last one's H, where A = Wq Wk' and
the last Wv has gone into c. All (tokens, tokens) products belong to blocks of rows that stay in the processor's
cache. As y is one number a sample, its gradient is the gradient of the loss times a number a sample: it is made
together with y, while the last layer's weights are still there, and only multiplied when the loss is known.

Tokens are padded to the width that vector registers like. Column D of the padding is all ones: Z' then also sums the
weights (the softmax's denominator), and what is put into that column of a query is added to all scores of its row.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gpmap_cli.layers.worker_threads import for_each

# Bytes of the blocks of scores that a thread works on. Half of it stays in a core's second-level cache and makes twice
# as many calls: at L = 100 that took longer, at L = 1,164 as long.
_BLOCK_BYTES = 3 * 2**20
# Bytes of a vector register, and the lines of memory that it loads.
_VECTOR_BYTES = 64
# Sums of exp(scores) in here have neither overflowed nor vanished; the scores of others are shifted first.
_SMALLEST_SUM, _LARGEST_SUM = 1e-15, 1e30


class _Scratch(threading.local):
    """Memory of each thread for blocks; fresh memory would cost as much as the products that are put there."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, torch.dtype, torch.device], torch.Tensor] = {}

    def numbers(self, which: int, size: int, like: torch.Tensor) -> torch.Tensor:
        key = (which, like.dtype, like.device)
        if key not in self._kept or len(self._kept[key]) < size:
            self._kept[key] = like.new_empty(size)
        return self._kept[key][:size]


_SCRATCH = _Scratch()


@dataclass
class _Blocks:
    """How a batch is cut: so many samples at a time, so many rows of their scores at a time."""

    samples: int
    rows: int

    @classmethod
    def of(cls, batch: int, num_tokens: int, num_layers: int, element_size: int) -> _Blocks:
        """All rows and many samples, with a block of every layer and one more, or one sample with two blocks."""
        numbers = _BLOCK_BYTES // element_size // (num_layers + 1)
        if num_tokens**2 <= numbers:
            count = math.ceil(batch / (numbers // num_tokens**2))
            count += count % 2  # an even number, for two threads
            return cls(math.ceil(batch / count), num_tokens)
        numbers = _BLOCK_BYTES // element_size // 3
        count = math.ceil(num_tokens / max(1, numbers // num_tokens))
        return cls(1, math.ceil(num_tokens / count))


@dataclass
class _Layer:
    """What going back through a layer needs of one piece; `weights` where they were kept."""

    tokens: torch.Tensor
    queries: torch.Tensor
    attended: torch.Tensor
    sums: torch.Tensor
    weights: torch.Tensor | None


class _Stack:
    """The layers, for one piece of a batch after the other."""

    def __init__(
        self,
        tokens: torch.Tensor,
        readout: torch.Tensor,
        scores: Sequence[torch.Tensor],
        values: Sequence[torch.Tensor],
    ) -> None:
        self.tokens = tokens
        batch, self.num_tokens, self.width = tokens.shape
        lanes = _VECTOR_BYTES // tokens.element_size()
        self.padded = math.ceil((self.width + 1) / lanes) * lanes
        self.blocks = _Blocks.of(batch, self.num_tokens, len(scores), tokens.element_size())
        self.scores = [self._pad(a) for a in scores]
        self.values = [self._pad(v) for v in values]
        self.scores_back, self.values_back = ([m.t().contiguous() for m in ms] for ms in (self.scores, self.values))
        # Whether the tokens are still sums of weights times tokens, whose last column is the sum of the weights.
        self.begins_with_sums = len(values) == len(scores)
        for number, v in enumerate(self.values):
            # Ones stay ones; sums over sums of weights become such.
            v[self.width - (number == 0 and self.begins_with_sums), self.width] = 1.0
        self.readout = tokens.new_zeros(self.num_tokens, self.padded)
        self.readout[:, : self.width] = readout
        self.minus_ones = -tokens.new_ones(self.padded)
        self.predicted = tokens.new_empty(batch)

    def _pad(self, matrix: torch.Tensor) -> torch.Tensor:
        padded = matrix.new_zeros(self.padded, self.padded)
        padded[: self.width, : self.width] = matrix
        return padded

    def run(self, with_gradients: bool) -> None:
        batch, like = len(self.tokens), self.tokens
        if with_gradients:
            self.token_gradients = like.new_empty(batch, self.num_tokens, self.padded)
            self.last_attended = like.new_empty(batch, self.num_tokens, self.padded)
            self.score_gradients = [like.new_empty(batch, self.padded, self.padded) for _ in self.scores]
            self.value_gradients = [like.new_empty(batch, self.padded, self.padded) for _ in self.values]
        starts = range(0, batch, self.blocks.samples)
        pieces = [slice(start, min(start + self.blocks.samples, batch)) for start in starts]
        for_each(self._down_and_up if with_gradients else self._down, pieces)

    def _down(self, piece: slice) -> None:
        tokens, values = self._padded(piece), self.values
        if self.begins_with_sums:
            tokens, values = self._first(tokens).attended @ values[0], values[1:]
        for number, a in enumerate(self.scores):
            attended = self._attend(tokens, a, 0).attended
            if number < len(values):
                tokens = attended @ values[number]
        self.predicted[piece] = (attended * self.readout).sum(dim=(1, 2))

    def _down_and_up(self, piece: slice) -> None:
        tokens = self._padded(piece)
        layers: list[_Layer] = []
        if self.begins_with_sums:
            layers.append(self._first(tokens))
            tokens = layers[0].attended @ self.values[0]
        ahead = len(layers)
        for a in self.scores[:-1]:
            layers.append(self._attend(tokens, a, len(layers) - ahead + 2))
            tokens = layers[-1].attended @ self.values[len(layers) - 1]
        query_gradients, gradients = self._read_out(piece, tokens)
        self._gather(piece, len(self.scores) - 1, tokens, query_gradients, gradients)
        for number in reversed(range(len(layers))):
            layer = layers[number]
            torch.bmm(layer.attended.transpose(1, 2), gradients, out=self.value_gradients[number][piece])
            gradients = gradients @ self.values_back[number]
            if number < ahead:
                self._first_back(layer, gradients)
                break
            query_gradients, gradients = self._attend_back(layer, gradients)
            self._gather(piece, number - ahead, layer.tokens, query_gradients, gradients)
        self.token_gradients[piece] = gradients

    def _gather(
        self, piece: slice, number: int, tokens: torch.Tensor, query_gradients: torch.Tensor, gradients: torch.Tensor
    ) -> None:
        """From the gradients of queries = tokens A, those of A, and of the tokens in addition to what is there."""
        torch.bmm(tokens.transpose(1, 2), query_gradients, out=self.score_gradients[number][piece])
        _flat(gradients).addmm_(_flat(query_gradients), self.scores_back[number])

    def _padded(self, piece: slice) -> torch.Tensor:
        part = self.tokens[piece]
        padded = part.new_zeros(len(part), self.num_tokens, self.padded)
        padded[:, :, : self.width] = part
        if not self.begins_with_sums:
            padded[:, :, self.width] = 1.0
        return padded

    def _first(self, sums: torch.Tensor) -> _Layer:
        """The first layer, of which others have made the sums; overwrites them."""
        all_weights = sums[:, :, self.width - 1 : self.width].clone()
        return _Layer(sums, sums, sums.div_(all_weights), all_weights, None)

    def _first_back(self, layer: _Layer, gradients: torch.Tensor) -> None:
        """From the gradients of the sums over the sums of weights, in place, to those of both."""
        gradients[:, :, self.width - 1] += (gradients * layer.attended) @ self.minus_ones
        gradients /= layer.sums

    def _rows(self) -> list[slice]:
        starts = range(0, self.num_tokens, self.blocks.rows)
        return [slice(start, min(start + self.blocks.rows, self.num_tokens)) for start in starts]

    def _block(self, number: int, queries: torch.Tensor) -> torch.Tensor:
        samples, rows, _ = queries.shape
        size = samples * rows * self.num_tokens
        return _SCRATCH.numbers(number, size, queries).view(samples, rows, self.num_tokens)

    def _weighted_sums(
        self, queries: torch.Tensor, tokens: torch.Tensor, block: torch.Tensor, out: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """weights = exp(queries tokens' - shift) into `block`; weights tokens into `out`; weights' sums and shift."""
        torch.bmm(queries, tokens.transpose(1, 2), out=block).exp_()
        sums = torch.bmm(block, tokens, out=out)[:, :, self.width : self.width + 1]
        low, high = sums.aminmax()
        if float(low) > _SMALLEST_SUM and float(high) < _LARGEST_SUM:
            return sums.clone(), self.minus_ones.new_zeros(())
        shift = torch.bmm(queries, tokens.transpose(1, 2), out=block).amax(dim=2, keepdim=True)
        torch.bmm(block.sub_(shift).exp_(), tokens, out=out)
        return sums.clone(), shift

    def _attend(self, tokens: torch.Tensor, a: torch.Tensor, number: int) -> _Layer:
        """softmax(tokens a tokens') tokens. Weights that are not kept can be made again from the queries."""
        queries, attended = tokens @ a, torch.empty_like(tokens)
        if self.blocks.rows == self.num_tokens:
            weights = self._block(number, queries)
            sums, _ = self._weighted_sums(queries, tokens, weights, attended)
            return _Layer(tokens, queries, attended.div_(sums), sums, weights)
        block_sums = []
        for rows in self._rows():
            block = self._block(0, queries[:, rows])
            sums, shift = self._weighted_sums(queries[:, rows], tokens, block, attended[:, rows])
            queries[:, rows, self.width] = -(sums.log() + shift)[:, :, 0]
            block_sums.append(sums)
        sums = torch.cat(block_sums, dim=1)
        return _Layer(tokens, queries, attended.div_(sums), sums, None)

    def _read_out(self, piece: slice, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The last layer: y, and its gradients with respect to the queries and to the tokens as keys and values."""
        queries = tokens @ self.scores[-1]
        query_gradients, token_gradients = torch.empty_like(tokens), torch.empty_like(tokens)
        reads = []
        for rows in self._rows():
            part, weights, attended = (
                queries[:, rows],
                self._block(0, queries[:, rows]),
                self.last_attended[piece, rows],
            )
            sums, _ = self._weighted_sums(part, tokens, weights, attended)
            attended /= sums
            read = (attended * self.readout[rows]) @ self.minus_ones
            gradients = self.readout[rows].expand_as(attended).clone()
            gradients[:, :, self.width] = read
            gradients /= sums
            self._back(part, tokens, gradients, weights, rows, query_gradients, token_gradients)
            reads.append(read.sum(dim=1))
        self.predicted[piece] = -sum(reads)
        return query_gradients, token_gradients

    def _attend_back(self, layer: _Layer, gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients of `_attend` with respect to queries, and to tokens as keys and values; overwrites `gradients`."""
        gradients[:, :, self.width] = (gradients * layer.attended) @ self.minus_ones
        query_gradients, token_gradients = torch.empty_like(gradients), torch.empty_like(gradients)
        if layer.weights is not None:
            gradients /= layer.sums
        for rows in self._rows():
            part, weights = layer.queries[:, rows], layer.weights
            if weights is None:
                weights = torch.bmm(part, layer.tokens.transpose(1, 2), out=self._block(0, part)).exp_()
            self._back(part, layer.tokens, gradients[:, rows], weights, rows, query_gradients, token_gradients)
        return query_gradients, token_gradients

    def _back(
        self,
        queries: torch.Tensor,
        tokens: torch.Tensor,
        gradients: torch.Tensor,
        weights: torch.Tensor,
        rows: slice,
        query_gradients: torch.Tensor,
        token_gradients: torch.Tensor,
    ) -> None:
        """Some rows of the gradients of weights tokens; column D of `gradients` is minus the mean of its row."""
        score_gradients = torch.bmm(gradients, tokens.transpose(1, 2), out=self._block(1, queries))
        score_gradients *= weights
        torch.bmm(score_gradients, tokens, out=query_gradients[:, rows])
        token_gradients.baddbmm_(score_gradients.transpose(1, 2), queries, beta=0 if rows.start == 0 else 1)
        token_gradients.baddbmm_(weights.transpose(1, 2), gradients)


def _flat(tokens: torch.Tensor) -> torch.Tensor:
    return tokens.view(-1, tokens.shape[2])


class _Predict(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        with_gradients: bool,
        num_values: int,
        tokens: torch.Tensor,
        readout: torch.Tensor,
        *matrices: torch.Tensor,
    ) -> torch.Tensor:
        values, scores = list(matrices[:num_values]), list(matrices[num_values:])
        stack = _Stack(tokens, readout, scores, values)
        stack.run(with_gradients)
        if with_gradients:
            ctx.width = stack.width
            ctx.save_for_backward(
                stack.token_gradients, stack.last_attended, *stack.value_gradients, *stack.score_gradients
            )
        return stack.predicted

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        token_gradients, *weighted = ctx.saved_tensors
        width = ctx.width
        summed = [(gradient @ each.flatten(1)).view(each.shape[1:])[..., :width] for each in weighted]
        # Samples last in memory, as layers/sign_attention.py has them.
        scaled = gradient.new_empty(token_gradients.shape[1], width, len(gradient))
        torch.mul(token_gradients[:, :, :width].permute(1, 2, 0), gradient, out=scaled)
        return None, None, scaled.permute(2, 0, 1), summed[0], *(matrix[:width] for matrix in summed[1:])


def predict(
    tokens: torch.Tensor, readout: torch.Tensor, scores: Sequence[torch.Tensor], values: Sequence[torch.Tensor]
) -> torch.Tensor:
    """y (B,) of tokens Z (B, T, D), with c (T, D), an A (D, D) for each layer and a V (D, D) for each but the last.

    With as many V as A, the tokens are N, sums of weights times tokens, whose last column is the sum of the weights:
    the first layer's H = N / (last column of N), its V is the first one, and the A are those of the other layers.
    """
    matrices = [*values, *scores]
    with_gradients = torch.is_grad_enabled() and any(part.requires_grad for part in (tokens, readout, *matrices))
    return _Predict.apply(with_gradients, len(values), tokens, readout, *matrices)
