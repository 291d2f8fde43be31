"""The terms that a forward search ends with: their least squares fit, with standard errors, and its predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.solvers.fold_sums import at_loci

_BLOCK_VALUES = 2**21
# Directions with less than this part of the largest variance count as none.
_SINGULAR = 1e-12


@dataclass(frozen=True)
class ForwardTerms:
    """What was found in one environment: T terms in order of entry, the additive ones first.

    loci (T, 2): the second one -1 for an additive term; means (T, 2): the training means that are subtracted from them
    (0 for none); effect, std_error (T,): by least squares of all terms together; cv_r2 (T,): cross-validated R^2 of the
    search up to and including the term. additive_cv_r2, final_cv_r2: of the additive terms, and of all.
    """

    loci: NDArray[np.intp]
    means: NDArray[np.float64]
    effect: NDArray[np.float64]
    std_error: NDArray[np.float64]
    cv_r2: NDArray[np.float64]
    intercept: float
    additive_cv_r2: float
    final_cv_r2: float


def fit_terms(
    genotypes: CodedGenotypes,
    y: NDArray[np.float64],
    weights: NDArray[np.float64],
    loci: NDArray[np.intp],
    cv_r2: Sequence[float],
) -> ForwardTerms:
    """Weighted least squares of terms `loci` (T, 2) in samples (n,) without missing phenotypes.

    cv_r2 (T + 1,): without any term, with the first, with the first two, ... Standard errors: the roots of the diagonal
    of s^2 (F'WF)^-1, F the terms' centred features and s^2 = sum_i w_i e_i^2 / (n - T - 1), weights of mean 1.
    """
    num_terms, total = len(loci), weights.sum()
    used = np.unique(loci[loci >= 0])
    here = at_loci(genotypes, used)
    of_used = np.zeros(len(used))
    for rows, block in _blocks(here):
        of_used += weights[rows] @ block
    places, paired = np.searchsorted(used, loci), loci[:, 1] >= 0
    # A place for the second locus of additive terms, which have none: its mean is 0 and nothing reads it.
    means = np.append(of_used / total, 0.0)[np.where(loci >= 0, places, len(used))]
    y_mean = (weights @ y) / total
    sums, product, gram = np.zeros(num_terms), np.zeros(num_terms), np.zeros((num_terms, num_terms))
    for rows, block in _blocks(here, num_terms):
        features = _features(block, places, paired, means)
        weighted = features * weights[rows, None]
        sums += weighted.sum(axis=0)
        product += (y[rows] - y_mean) @ weighted
        gram += weighted.T @ features
    gram -= np.outer(sums, sums) / total
    scale = np.sqrt(np.diag(gram))
    inverse = np.linalg.pinv(gram / np.outer(scale, scale), rcond=_SINGULAR, hermitian=True) / np.outer(scale, scale)
    effect = inverse @ product
    residual = max(0.0, float(weights @ (y - y_mean) ** 2 - product @ effect))
    freedom = len(y) - num_terms - 1
    variance = residual / freedom if freedom > 0 else float("nan")
    additive = int((~paired).sum())
    return ForwardTerms(
        loci=loci,
        means=means,
        effect=effect,
        std_error=np.sqrt(variance * np.diag(inverse)),
        cv_r2=np.array(cv_r2[1:], dtype=np.float64),
        intercept=float(y_mean - sums @ effect / total),
        additive_cv_r2=cv_r2[additive],
        final_cv_r2=cv_r2[-1],
    )


def forward_prediction(genotypes: CodedGenotypes, environments: Sequence[ForwardTerms]) -> NDArray[np.float64]:
    """Phenotypes (N, E) by the terms of each environment, in row blocks and from the loci of the terms only."""
    used = np.unique(np.concatenate([terms.loci[terms.loci >= 0] for terms in environments]))
    predicted = np.empty((len(genotypes), len(environments)))
    places = [np.searchsorted(used, terms.loci) for terms in environments]
    for rows, block in _blocks(at_loci(genotypes, used), max(len(terms.loci) for terms in environments)):
        for column, terms in enumerate(environments):
            features = _features(block, places[column], terms.loci[:, 1] >= 0, terms.means)
            predicted[rows, column] = features @ terms.effect + terms.intercept
    return predicted


def _features(
    block: NDArray[np.float64], places: NDArray[np.intp], paired: NDArray[np.bool_], means: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Centred loci and products of centred loci, (rows, T), of genotypes (rows, used loci)."""
    features = block[:, places[:, 0]] - means[:, 0]
    features[:, paired] *= block[:, places[paired, 1]] - means[paired, 1]
    return features


def _blocks(genotypes: CodedGenotypes, num_terms: int = 0) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    step = max(1, _BLOCK_VALUES // (1 + genotypes.num_loci + num_terms))
    for start in range(0, len(genotypes), step):
        rows = slice(start, min(start + step, len(genotypes)))
        yield rows, genotypes.rows(rows)
