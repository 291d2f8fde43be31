"""Which of many columns belong into a regression: forward steps and backward ones, each by the t statistic.

Forward: of the columns that are not in, the one with the largest |t| beside all that are in, as long as it passes its
threshold. Backward: of those that are in, the weakest one that no longer passes. Both work on sums over samples alone
(`columns.Moments`), from which a polygenic background of all loci can be swept first: with H = X (X'X + penalty)^-1 X'
all sums are of (I - H), the inverse covariance of phenotypes that have X's random effects and a residual, so that t is
that of generalised least squares, as in mixed-model association (penalty 0: ordinary, with the loci as covariates).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

_NOTHING_LEFT = 1e-6  # of a column's sum of squares: less, and what is in determines it


@dataclass(frozen=True)
class Sums:
    """Sums of products of candidate columns (C, C), with a phenotype (C,), of its square, and degrees of freedom.

    whole: (C,) sums of squares of the columns before anything was swept.
    """

    gram: torch.Tensor
    cross: torch.Tensor
    square: float
    df: float
    whole: torch.Tensor


def without_background(
    gram: torch.Tensor, cross: torch.Tensor, square: float, df: float, num: int, penalty: float
) -> Sums:
    """Sums of the columns from number `num` on, less what a ridge regression on those before explains."""
    loci = gram[:num, :num].clone()
    # Loci that others determine get what keeps the factorisation: it changes nothing else by more than rounding.
    loci.diagonal().add_(penalty + 1e-9 * float(loci.diagonal().mean()) if num else 0.0)
    factor = torch.linalg.cholesky(loci)
    inside = torch.linalg.solve_triangular(factor, gram[:num, num:], upper=False)
    of_y = torch.linalg.solve_triangular(factor, cross[:num, None], upper=False)[:, 0]
    return Sums(
        gram[num:, num:] - inside.T @ inside,
        cross[num:] - inside.T @ of_y,
        square - float(of_y @ of_y),
        df,
        gram.diagonal()[num:].clone(),
    )


def select(sums: Sums, least_t: torch.Tensor, begin: list[int]) -> list[int]:
    """Columns of a regression, by forward steps from those in `begin` and then backward ones; least_t: (C,)."""
    chosen = _backward(sums, least_t, _forward(sums, least_t, begin))
    # What went made room: once more, as a column that comes back would only go again.
    again = _backward(sums, least_t, _forward(sums, least_t, chosen))
    return sorted(again)


def _forward(sums: Sums, least_t: torch.Tensor, begin: list[int]) -> list[int]:
    left, cross = sums.gram.diagonal().clone(), sums.cross.clone()
    square, df = sums.square, sums.df
    directions = sums.gram.new_zeros(64, len(left))
    chosen: list[int] = []
    waiting = list(begin)
    floor = _NOTHING_LEFT * sums.whole
    while df > len(chosen) + 1:
        if waiting:
            one = waiting.pop(0)
            if left[one] <= floor[one]:
                continue
        else:
            is_free = left > floor
            explained = torch.where(is_free, cross**2 / left.clamp_min(1e-300), torch.zeros_like(left))
            rest = (square - explained).clamp_min(1e-12 * max(square, 1e-300))
            t = (explained * (df - len(chosen) - 1) / rest).sqrt()
            t[chosen] = 0.0
            t = torch.where(t >= least_t, t, torch.zeros_like(t))
            one = int(t.argmax())
            if not float(t[one]) > 0:
                return chosen
        if len(chosen) == len(directions):
            directions = torch.cat([directions, torch.zeros_like(directions)])
        size = len(chosen)
        column = sums.gram[one] - directions[:size, one] @ directions[:size]
        direction = column / left[one].sqrt()
        directions[size] = direction
        along = cross[one] / left[one].sqrt()
        square -= float(along**2)
        cross = cross - direction * along
        left = left - direction**2
        chosen.append(one)
    return chosen


def _backward(sums: Sums, least_t: torch.Tensor, chosen: list[int]) -> list[int]:
    chosen = list(chosen)
    while chosen:
        t = joint_tests(sums, chosen)[2].abs()
        below = t / least_t[chosen]
        weakest = int(below.argmin())
        if float(below[weakest]) >= 1:
            break
        del chosen[weakest]
    return chosen


def joint_tests(sums: Sums, chosen: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
    """Effects, standard errors and t (S,) of chosen columns beside each other, and degrees of freedom."""
    gram = sums.gram[chosen][:, chosen]
    scale = gram.diagonal().clamp_min(1e-300).rsqrt()
    inverse = torch.linalg.inv(gram * scale[:, None] * scale) * scale[:, None] * scale
    effects = inverse @ sums.cross[chosen]
    df = max(sums.df - len(chosen), 1.0)
    rest = max(sums.square - float(effects @ sums.cross[chosen]), 0.0)
    errors = (inverse.diagonal().clamp_min(0.0) * rest / df).sqrt()
    return effects, errors, effects / errors.clamp_min(1e-300), df
