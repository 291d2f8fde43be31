"""The first attention layer of hard-called genotypes: sums over all pairs of loci from products that a batch shares.

The score of loci l and m is x_l x_m a_lm + x_m c_m, but for what is constant along a row and cancels in the softmax.
As x is -1 or +1, exp(x_l x_m a) = cosh a + x_l x_m sinh a, so that the softmax's sums

    N_l = sum_m exp(x_l x_m a_lm) e_m v_m = sum_m cosh(a_lm) e_m v_m + x_l sum_m sinh(a_lm) x_m e_m v_m,

e_m = exp(x_m c_m), are two products of an (L, L) matrix, the same for all samples, with (L, (d + 1) B): v_m is
[x_m r_m, 1], the token. Where |a| is large the two sums cancel, and dosages are not -1 or +1: see `applies`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

# Up to these |a| the rounding of exp(-|a|) as cosh a - sinh a, which is that of exp(|a|), is harmless.
_LARGEST_PAIR_SCORE = {torch.float32: 2.0, torch.float64: 5.0}
_LARGEST_LOCUS_SCORE = 30.0


def are_signs(genotypes: torch.Tensor) -> bool:
    """Whether all of these genotypes are -1 or +1."""
    return bool((genotypes.abs() == 1.0).all())


def applies(pair_scores: torch.Tensor, locus_scores: torch.Tensor) -> bool:
    """Whether a (L, L) and c (L,) are small enough for these sums to be exact to rounding."""
    largest = _LARGEST_PAIR_SCORE[pair_scores.dtype]
    return _are_at_most(largest, pair_scores) and _are_at_most(_LARGEST_LOCUS_SCORE, locus_scores)


class _Sums(torch.autograd.Function):
    """x (L, B), a (L, L), c (L,), r (L, d) -> N (L, d + 1, B): sums of weights times x_m r_m, and of weights.

    Samples come last, where they fill vector registers.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, a: torch.Tensor, c: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        sinh = torch.sinh(a)
        cosh = torch.addcmul(a.new_ones(()), sinh, sinh).sqrt_()
        e = torch.exp(x * c[:, None])
        weighted = _weighted(x, e, r)
        sums = (cosh @ weighted.flatten(1)).view(weighted.shape)
        weighted *= x[:, None]
        odd = (sinh @ weighted.flatten(1)).view(weighted.shape)
        sums.addcmul_(odd, x[:, None])
        ctx.save_for_backward(x, sinh, cosh, e, r)
        return sums

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, sinh, cosh, e, r = ctx.saved_tensors
        signs, dimension = x[:, None], r.shape[1]
        gradient = gradient.contiguous()
        flat, odd = gradient.flatten(1), (gradient * signs).flatten(1)
        weighted = _weighted(x, e, r)
        pair_gradients = (flat @ weighted.flatten(1).t()).mul_(sinh)
        weighted *= signs
        pair_gradients.addcmul_(odd @ weighted.flatten(1).t(), cosh)
        down = (sinh.t() @ odd).view(gradient.shape).mul_(signs)
        down.flatten(1).addmm_(cosh.t(), flat)
        # Both sums over samples in one product: those weighted with x e, and with e.
        both = down @ torch.stack([x * e, e], dim=2)
        locus_gradients = (both[:, :dimension, 1] * r).sum(dim=1) + both[:, dimension, 0]
        return None, pair_gradients, locus_gradients, both[:, :dimension, 0]


def _weighted(x: torch.Tensor, e: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
    """e_m v_m, (L, d + 1, B)."""
    made = x.new_empty(len(x), r.shape[1] + 1, x.shape[1])
    torch.mul((x * e)[:, None], r[:, :, None], out=made[:, :-1])
    made[:, -1] = e
    return made


def sums(
    genotypes: torch.Tensor, pair_scores: torch.Tensor, locus_scores: torch.Tensor, embedding: torch.Tensor
) -> torch.Tensor:
    """Genotypes (B, L), all -1 or +1, a (L, L), c (L,) and r (L, d) -> N (L, d + 1, B)."""
    return _Sums.apply(genotypes.t().contiguous(), pair_scores, locus_scores, embedding)


def attended_sums(
    genotypes: torch.Tensor, marks: torch.Tensor | None, scores: torch.Tensor, embedding: torch.Tensor
) -> torch.Tensor | None:
    """N (B, T, D) of tokens Z = [x_l r_l, 1] and, with marks (B, D - 1), one more, [mark, 1].

    N over its last column is softmax(Z A Z') Z, A (D, D) = Wq Wk'. None where the scores are too large for this form.
    Marks may be several for each genotype (G, L), side by side, B = G E: what loci take from loci depends on no mark
    and is summed once for each genotype.
    """
    dimension = embedding.shape[1]
    pair_scores = embedding @ scores[:dimension, :dimension] @ embedding.t()
    locus_scores = embedding @ scores[-1, :dimension]
    if not applies(pair_scores, locus_scores):
        return None
    if marks is None:
        return sums(genotypes, pair_scores, locus_scores, embedding).permute(2, 0, 1)
    each = len(marks) // len(genotypes)
    # What the mark adds to a score of a locus: x_l r_l A mark' + (last row of A) mark'.
    marked = marks @ scores[:, :-1].t()
    of_pairs, of_marks = marked[:, :dimension] @ embedding.t(), marked[:, -1:]
    if not _are_at_most(_LARGEST_LOCUS_SCORE, of_pairs, of_marks):
        return None
    found = sums(genotypes, pair_scores, locus_scores, embedding).permute(2, 0, 1)
    signs = genotypes if each == 1 else genotypes.repeat_interleave(each, dim=0)
    of_mark = torch.exp(signs * of_pairs + of_marks)
    # The row of the marked token itself, over all loci and over itself.
    queries = marks @ scores[:-1] + scores[-1]
    over_loci = signs * (queries[:, :dimension] @ embedding.t())
    over_itself = (queries[:, :-1] * marks).sum(dim=1, keepdim=True)
    weights = torch.softmax(torch.cat([over_loci, over_itself], dim=1), dim=1)
    tokens = functional.pad(marks, (0, 1), value=1.0)[:, None]
    whole = torch.cat([of_mark, weights[:, -1:]], dim=1)[:, :, None] * tokens
    by_genotype = whole.view(len(genotypes), each, *whole.shape[1:])
    by_genotype[:, :, :-1, :dimension] += found[:, None, :, :-1]
    by_genotype[:, :, :-1, -1] += found[:, None, :, -1]
    whole[:, -1, :dimension] += (weights[:, :-1] * signs) @ embedding
    whole[:, -1, -1] += weights[:, :-1].sum(dim=1)
    return whole


def _are_at_most(largest: float, *tensors: torch.Tensor) -> bool:
    with torch.no_grad():
        return all(float(torch.stack(each.aminmax()).abs().max()) <= largest for each in tensors)
