"""How well predictions match phenotypes: R^2 with a bootstrap interval, Pearson's r, mean squared error; and how well
a score tells true effects from others: AUROC.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.random_streams import stream

NUM_BOOTSTRAP = 1000
_MIN_FOR_INTERVAL = 3


def r2_score(observed: NDArray, predicted: NDArray) -> float | None:
    """Variance explained, R^2 = 1 - SS_res / SS_tot about the mean of the scored rows.

    None when it is undefined: fewer than two rows or a constant phenotype. Missing phenotypes are left out.
    """
    known = ~np.isnan(observed)
    y, f = observed[known].astype(np.float64), predicted[known].astype(np.float64)
    total = ((y - y.mean()) ** 2).sum() if len(y) > 1 else 0.0
    return float(1 - ((y - f) ** 2).sum() / total) if total > 0 else None


def mean_r2(scores: Sequence[float | None]) -> float | None:
    """The unweighted mean over environments; None when none is defined."""
    defined = [score for score in scores if score is not None]
    return float(np.mean(defined)) if defined else None


def score_split(observed: NDArray, predicted: NDArray, environment_names: Sequence[str], seed: int) -> dict[str, Any]:
    """Scores of one split: observed and predicted (N, E) in the phenotype's own units, NaN missing.

    The 95 % interval of R^2 is the percentile bootstrap over samples, the same resamples for every environment.
    """
    intervals = _bootstrap_r2(observed, predicted, seed)
    environments: dict[str, dict[str, Any]] = {}
    for column, name in enumerate(environment_names):
        y, f = observed[:, column], predicted[:, column]
        known = ~np.isnan(y)
        environments[name] = {
            "r2": r2_score(y, f),
            "r2_ci95": intervals[column],
            "pearson_r": pearson_r(y[known], f[known]),
            "mse": float(((y[known] - f[known]) ** 2).mean()) if known.any() else None,
            "num_samples": int(known.sum()),
        }
    return {"mean_r2": mean_r2([scores["r2"] for scores in environments.values()]), "environments": environments}


def pearson_r(observed: NDArray, predicted: NDArray) -> float | None:
    """Pearson's correlation; None when it is undefined: fewer than two rows, or one of the two constant."""
    if len(observed) < 2:
        return None
    y = observed.astype(np.float64) - observed.mean(dtype=np.float64)
    f = predicted.astype(np.float64) - predicted.mean(dtype=np.float64)
    # Predictions that differ only by rounding are constant: their correlation would be that of the rounding.
    if not np.abs(f).max() > 1e-12 * max(1.0, np.abs(predicted).max()) or not (y != 0).any():
        return None
    return float((y @ f) / np.sqrt((y @ y) * (f @ f)))


def auroc(is_true: NDArray[np.bool_], scores: NDArray) -> float | None:
    """Area under the ROC curve: how often a true one scores above one that is not true, a tie counting half.

    The rank statistic of Mann and Whitney over the number of (true, not true) pairs; None without both kinds.
    """
    num_true = int(is_true.sum())
    num_false = len(is_true) - num_true
    if num_true == 0 or num_false == 0:
        return None
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    rank = (last - (count - 1) / 2)[place]  # of equal scores the mean of their ranks, from 1
    return float((rank[is_true].sum() - num_true * (num_true + 1) / 2) / (num_true * num_false))


def _bootstrap_r2(observed: NDArray, predicted: NDArray, seed: int) -> list[list[float] | None]:
    """Percentile intervals by environment, through sums that are linear in how often each row is drawn."""
    num_samples, num_environments = observed.shape
    if num_samples < _MIN_FOR_INTERVAL:
        return [None] * num_environments
    known = ~np.isnan(observed)
    count = np.maximum(known.sum(axis=0), 1)
    y = np.where(known, observed, 0).astype(np.float64)
    y = np.where(known, y - y.sum(axis=0) / count, 0)  # centred: no cancellation in the sums of squares
    residual = np.where(known, observed.astype(np.float64) - predicted, 0)
    columns = np.concatenate([known, y, y**2, residual**2], axis=1)
    rng = stream(seed, "bootstrap")
    sums = np.empty((NUM_BOOTSTRAP, columns.shape[1]))
    step = max(1, min(64, 2**21 // num_samples))
    for start in range(0, NUM_BOOTSTRAP, step):
        drawn = [
            np.bincount(rng.integers(0, num_samples, num_samples), minlength=num_samples)
            for _ in range(min(step, NUM_BOOTSTRAP - start))
        ]
        sums[start : start + len(drawn)] = np.array(drawn, dtype=np.float64) @ columns
    number, total, squares, residuals = np.split(sums, 4, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        about_mean = squares - total**2 / number
        r2 = np.where(about_mean > 1e-12 * np.maximum(squares, 1e-300), 1 - residuals / about_mean, np.nan)
    intervals: list[list[float] | None] = []
    for column in range(num_environments):
        defined = r2[~np.isnan(r2[:, column]), column]
        enough = known[:, column].sum() >= _MIN_FOR_INTERVAL and len(defined) >= NUM_BOOTSTRAP // 2
        intervals.append([float(q) for q in np.quantile(defined, [0.025, 0.975])] if enough else None)
    return intervals
