"""What a transfer study found: one row for each fit, and means with intervals over the repeats."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from gpmap_cli.report.layout import t_quantile
from gpmap_cli.report.tables import aligned

COLUMNS = ("method", "num_target", "repeat", "r2", "pearson_r", "seconds")
SUMMARY_COLUMNS = (
    *("method", "num_target", "num_repeats", "r2", "r2_ci95_low", "r2_ci95_high"),
    *("pearson_r", "pearson_r_ci95_low", "pearson_r_ci95_high", "seconds"),
)
_ONE_DEGREE = 12.7062  # the 97.5 % point of Student's t


@dataclass(frozen=True)
class TransferRow:
    """One fit with `num_target` phenotypes of the target; scores on its test rows, None where undefined or diverged."""

    method: str
    num_target: int
    repeat: int
    r2: float | None
    pearson_r: float | None
    seconds: float

    @property
    def cell(self) -> tuple[str, int, int]:
        return self.method, self.num_target, self.repeat


@dataclass(frozen=True)
class MeanScore:
    """The mean over repeats and its 95 % interval from their spread; None where there are too few."""

    mean: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class TransferMean:
    """All repeats of one method at one number of phenotypes."""

    method: str
    num_target: int
    num_repeats: int
    r2: MeanScore
    pearson_r: MeanScore
    seconds: float


def mean_score(values: Sequence[float | None]) -> MeanScore:
    """The interval is that of Student's t, from two repeats on."""
    known = [value for value in values if value is not None]
    if not known:
        return MeanScore(None)
    mean = statistics.fmean(known)
    if len(known) < 2:
        return MeanScore(mean)
    quantile = _ONE_DEGREE if len(known) == 2 else t_quantile(len(known) - 1)
    half = quantile * statistics.stdev(known) / math.sqrt(len(known))
    return MeanScore(mean, mean - half, mean + half)


def means(rows: Sequence[TransferRow]) -> list[TransferMean]:
    """By method, in the order in which they come, and number of phenotypes, ascending."""
    found = []
    for method in dict.fromkeys(row.method for row in rows):
        for number in sorted({row.num_target for row in rows if row.method == method}):
            same = [row for row in rows if (row.method, row.num_target) == (method, number)]
            found.append(
                TransferMean(
                    *(method, number, len(same)),
                    mean_score([row.r2 for row in same]),
                    mean_score([row.pearson_r for row in same]),
                    statistics.fmean(row.seconds for row in same),
                )
            )
    return found


def rows_csv(rows: Sequence[TransferRow]) -> str:
    """Undefined values are empty."""
    return _csv(COLUMNS, [[_text(getattr(row, name)) for name in COLUMNS] for row in rows])


def read_rows(text: str) -> list[TransferRow]:
    """What `rows_csv` wrote. A line of anything else is a ValueError."""
    found = []
    for row in csv.DictReader(io.StringIO(text)):
        try:
            r2, pearson_r = (float(row[name]) if row[name] else None for name in ("r2", "pearson_r"))
            cell = row["method"], int(row["num_target"]), int(row["repeat"])
            found.append(TransferRow(*cell, r2, pearson_r, float(row["seconds"])))
        except (KeyError, TypeError) as trouble:
            raise ValueError(f"not a table of transfer fits ({trouble})") from trouble
    return found


def summary_csv(found: Sequence[TransferMean]) -> str:
    """The means with their intervals; undefined values are empty."""
    rows = []
    for one in found:
        scores = [value for score in (one.r2, one.pearson_r) for value in (score.mean, score.low, score.high)]
        rows.append([_text(value) for value in (one.method, one.num_target, one.num_repeats, *scores, one.seconds)])
    return _csv(SUMMARY_COLUMNS, rows)


def shown(found: Sequence[TransferMean], target: str, num_test: int) -> str:
    """For the terminal: phenotypes of the target down, methods across."""
    methods = list(dict.fromkeys(one.method for one in found))
    by_cell = {(one.method, one.num_target): one.r2 for one in found}
    rows = [
        [str(number), *(_cell(by_cell.get((method, number))) for method in methods)]
        for number in sorted({one.num_target for one in found})
    ]
    most = max(one.num_repeats for one in found)
    head = f"test R^2 in {target} ({num_test} samples), mean of {most}" + (" +- 95 % interval" if most > 1 else "")
    return "\n".join([head, *aligned(["num_target", *methods], rows, 0)])


def _cell(score: MeanScore | None) -> str:
    if score is None or score.mean is None:
        return "-"
    half = "" if score.high is None else f" +- {score.high - score.mean:.3f}"
    return f"{score.mean:.3f}{half}"


def _text(value: str | int | float | None) -> str:
    if value is None:
        return ""
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _csv(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(header)
    table.writerows(rows)
    return out.getvalue()
