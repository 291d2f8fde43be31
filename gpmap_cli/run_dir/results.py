"""What a run found: metrics by split and environment, and predictions sample by sample."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.metrics import score_split
from gpmap_cli.run_dir.layout import RunDirectory
from gpmap_cli.run_dir.predictor import PredictedStd
from gpmap_cli.run_dir.writing import write_text, write_whole

METRIC_NAMES = ("r2", "r2_ci95_low", "r2_ci95_high", "pearson_r", "mse")
_CELL_COLUMNS = ("split", "sample_id", "environment")


def score_parts(
    observed: NDArray, predicted: NDArray, parts: Mapping[str, NDArray], environments: tuple[str, ...], seed: int
) -> dict[str, Any]:
    """Scores of each part (name -> boolean rows) of observed and predicted phenotypes (N, E)."""
    return {name: score_split(observed[rows], predicted[rows], environments, seed) for name, rows in parts.items()}


def metrics_csv(splits: Mapping[str, Any]) -> str:
    """The metrics as a tidy table: split, environment, metric, value, num_samples; undefined values are empty."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(("split", "environment", "metric", "value", "num_samples"))
    for split, scores in splits.items():
        for environment, values in scores["environments"].items():
            low, high = values["r2_ci95"] or (None, None)
            flat = {**values, "r2_ci95_low": low, "r2_ci95_high": high}
            for metric in METRIC_NAMES:
                value = flat[metric]
                shown = "" if value is None else f"{value:.9g}"
                table.writerow((split, environment, metric, shown, values["num_samples"]))
    return out.getvalue()


def write_metric_files(directory: RunDirectory, metrics: dict[str, Any]) -> None:
    """`metrics.csv` first: a `metrics.json` that says completed stands beside all the rest."""
    write_text(directory.path / "metrics.csv", metrics_csv(metrics["splits"]))
    directory.write_metrics(metrics)


def write_predictions(
    directory: RunDirectory,
    dataset: Dataset,
    environments: tuple[str, ...],
    predicted: NDArray[np.float64],
    observed: NDArray | None,
    split: NDArray[np.str_] | None,
) -> None:
    """`predictions.csv.gz`: one row per sample and environment, in the phenotype's own units.

    observed (N, E) and split (N,) may be None: their columns stay empty. No time goes into the archive.
    """
    values = {
        "observed": np.full(predicted.shape, np.nan) if observed is None else observed.astype(np.float64),
        "predicted": predicted,
    }
    _write_cells(directory.path / "predictions.csv.gz", dataset, environments, split, values)


def write_prediction_std(
    directory: RunDirectory,
    dataset: Dataset,
    environments: tuple[str, ...],
    std: PredictedStd,
    split: NDArray[np.str_] | None,
) -> None:
    """`prediction_std.csv.gz`, in the phenotype's own units, beside `predictions.csv.gz` and in its order.

    predicted_std: of the genetic value; predicted_std_with_noise: of one measurement of it, with the usual error.
    """
    unknown = np.full(std.genetic.shape, np.nan)
    values = {
        "predicted_std": std.genetic,
        "predicted_std_with_noise": unknown if std.with_noise is None else std.with_noise,
    }
    _write_cells(directory.path / "prediction_std.csv.gz", dataset, environments, split, values)


def _write_cells(
    path: Path,
    dataset: Dataset,
    environments: tuple[str, ...],
    split: NDArray[np.str_] | None,
    values: Mapping[str, NDArray[np.float64]],
) -> None:
    """One row per sample and environment: split, sample_id, environment and each of the values (N, E)."""
    import pandas as pd

    num_samples, num_environments = next(iter(values.values())).shape

    def write(stream: IO[bytes]) -> None:
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=stream, mtime=0) as archive:
            text = io.TextIOWrapper(archive, encoding="utf-8", newline="")
            text.write(",".join((*_CELL_COLUMNS, *values)) + "\n")
            for start in range(0, num_samples, 20_000):
                rows = slice(start, min(start + 20_000, num_samples))
                count = rows.stop - rows.start
                table = pd.DataFrame(
                    {
                        "split": np.repeat("" if split is None else split[rows], num_environments)
                        if split is not None
                        else [""] * (count * num_environments),
                        "sample_id": np.repeat(dataset.sample_ids[rows], num_environments),
                        "environment": np.tile(np.array(environments, dtype=object), count),
                        **{name: cells[rows].ravel() for name, cells in values.items()},
                    }
                )
                table.to_csv(text, index=False, header=False, float_format="%.9g", lineterminator="\n")
            text.flush()
            text.detach()

    write_whole(path, write)
