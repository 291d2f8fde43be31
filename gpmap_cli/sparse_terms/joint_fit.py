"""A joint fit of all columns, shrunk by groups: the polygenic background, the terms that were chosen, those of others.

    b = argmin |y - C b|^2 + sum_g penalty_g |b_g|^2,

y and the columns C centred, one penalty for each group of columns, chosen by the squared error on validation samples:
from a first guess by steps of sqrt(10), one group after the other, until no step helps. A penalty at the upper end
takes its group out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gpmap_cli.sparse_terms.columns import Moments

_STEP = 10**0.5
_SMALLEST, _LARGEST = 1e-7, 1e4  # of the number of samples: the sum of squares of a -1/+1 column
_SWEEPS = 4


@dataclass(frozen=True)
class JointFit:
    """Effects (P,) with standard errors given the penalties, intercept, penalties of the groups, validation R^2."""

    effects: torch.Tensor
    std_errors: torch.Tensor
    intercept: float
    penalties: tuple[float, ...]
    validation_r2: float


class Validation:
    """Squared errors on validation samples, from their sums."""

    def __init__(self, moments: Moments, column: int) -> None:
        self._moments, self._column = moments, column
        self._square = float(moments.squares[column])

    def r2(self, effects: torch.Tensor, intercept: float) -> float:
        """1 - squared errors over squares about the mean; NaN without a measured sample."""
        moments = self._moments
        if moments.num_samples < 2 or self._square <= 0:
            return float("nan")
        # Means of predictions and phenotypes count as well: both are centred in the sums.
        bias = intercept + float(moments.column_means @ effects) - float(moments.means[self._column])
        error = self._square - 2 * float(effects @ moments.cross[:, self._column])
        error += float(effects @ moments.gram @ effects) + moments.num_samples * bias**2
        return 1 - error / self._square


def fit(
    moments: Moments, column: int, groups: list[torch.Tensor], first: tuple[float, ...], validation: Validation
) -> JointFit:
    """Of the phenotype in this column. groups: numbers of columns; first: penalties to begin with."""
    scale = float(moments.num_samples)
    lowest, highest = _SMALLEST * scale, _LARGEST * scale
    penalties = [min(max(penalty, lowest), highest) for penalty in first]
    tried: dict[tuple[float, ...], float] = {}

    def score(candidate: list[float]) -> float:
        key = tuple(candidate)
        if key not in tried:
            tried[key] = validation.r2(*_solve(moments, column, groups, key, highest)[:2])
        return tried[key]

    best = score(penalties)
    for _ in range(_SWEEPS if best == best else 0):
        before = best
        for number, group in enumerate(groups):
            if not len(group):
                continue
            for step in (_STEP, 1 / _STEP):
                while True:
                    candidate = list(penalties)
                    candidate[number] = min(max(candidate[number] * step, lowest), highest)
                    if candidate == penalties or not score(candidate) > best:
                        break
                    penalties, best = candidate, score(candidate)
        if best - before < 1e-6:
            break
    effects, intercept, errors = _solve(moments, column, groups, tuple(penalties), highest, with_errors=True)
    return JointFit(effects, errors, intercept, tuple(penalties), best)


def _solve(
    moments: Moments,
    column: int,
    groups: list[torch.Tensor],
    penalties: tuple[float, ...],
    highest: float,
    with_errors: bool = False,
) -> tuple[torch.Tensor, float, torch.Tensor]:
    effects, errors = torch.zeros_like(moments.column_means), torch.zeros_like(moments.column_means)
    inside = [group for group, penalty in zip(groups, penalties, strict=True) if penalty < highest and len(group)]
    if inside:
        columns = torch.cat(inside)
        gram = moments.gram[columns][:, columns]
        each = [torch.full_like(g, p, dtype=gram.dtype) for g, p in zip(groups, penalties, strict=True) if p < highest]
        gram.diagonal().add_(torch.cat(each))
        factor = torch.linalg.cholesky(gram)
        cross = moments.cross[columns, column]
        effects[columns] = torch.cholesky_solve(cross[:, None], factor)[:, 0]
        if with_errors:
            rest = float(moments.squares[column]) - float(effects[columns] @ cross)
            variance = max(rest, 0.0) / max(moments.num_samples - 1, 1)
            errors[columns] = (torch.cholesky_inverse(factor).diagonal() * variance).sqrt()
    intercept = float(moments.means[column]) - float(moments.column_means @ effects)
    return effects, intercept, errors
