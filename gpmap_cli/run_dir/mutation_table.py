"""How well phenotypes are predicted by the number of mutations of a genotype: `metrics_by_mutations.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.metrics import mean_r2, pearson_r, r2_score
from gpmap_cli.run_dir.layout import RunDirectory

NAME = "metrics_by_mutations.csv"
_COLUMNS = ("split", "environment", "num_mutations", "num_samples", "r2", "pearson_r", "mse")


@dataclass(frozen=True)
class MutationScores:
    """Scores of the genotypes of one part, environment and number of mutations; R^2 about their own mean."""

    split: str
    environment: str
    num_mutations: int
    num_samples: int
    r2: float | None
    pearson_r: float | None
    mse: float


def scores_by_mutations(
    observed: NDArray,
    predicted: NDArray,
    parts: Mapping[str, NDArray[np.bool_]],
    environments: tuple[str, ...],
    counts: NDArray[np.intp],
) -> list[MutationScores]:
    """Of observed and predicted phenotypes (N, E), each part (name -> rows) and number of mutations, `counts` (N,)."""
    found = []
    for split, rows in parts.items():
        for column, environment in enumerate(environments):
            measured = rows & ~np.isnan(observed[:, column])
            for number in np.unique(counts[measured]).tolist():
                these = measured & (counts == number)
                y, f = (values[these, column].astype(np.float64) for values in (observed, predicted))
                mse = float(((y - f) ** 2).mean())
                scores = r2_score(y, f), pearson_r(y, f), mse
                found.append(MutationScores(split, environment, number, int(these.sum()), *scores))
    return found


def write_mutation_table(directory: RunDirectory, scores: list[MutationScores]) -> None:
    """One row for each; undefined scores are empty."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(_COLUMNS)
    for one in scores:
        values = ("" if value is None else f"{value:.9g}" for value in (one.r2, one.pearson_r, one.mse))
        table.writerow((one.split, one.environment, one.num_mutations, one.num_samples, *values))
    directory.write_text(NAME, out.getvalue())


def mutations_line(scores: list[MutationScores]) -> str:
    """Test R^2 by number of mutations, the mean over environments, for the log."""
    by_number: dict[int, list[float | None]] = {}
    for one in scores:
        if one.split == "test":
            by_number.setdefault(one.num_mutations, []).append(one.r2)
    means = ((number, mean_r2(values)) for number, values in sorted(by_number.items()))
    shown = ", ".join(f"{number}: {'-' if r2 is None else f'{r2:.3f}'}" for number, r2 in means)
    return f"test R^2 by number of mutations: {shown}"
