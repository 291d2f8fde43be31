"""Scores of many runs as one tidy table, and as the aligned text that a terminal shows."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gpmap_cli.errors import one_line
from gpmap_cli.report.collect import Runs, in_step, is_number, replicate_keys, setting_of, swept_keys
from gpmap_cli.report.read import UNKNOWN, Run, Scalar, Scores, clean

if TYPE_CHECKING:
    import pandas as pd

MEAN = "mean"  # the row over all environments of a run
_WIDTH = 100
_NOTHING = "-"
_SPLITS = ("train", "validation", "test")


def results_table(runs: Runs, split: str = "test") -> pd.DataFrame:
    """How well each run predicts the phenotypes of one split, tidy: a `mean` row per run, then its environments.

    Columns: the settings that were varied; `model`; the seeds or folds that were repeated; then `split` and the
    scores. A run of a single environment has only the `mean` row, which is that environment's; with several,
    R^2, r and the ceiling are unweighted means over environments, which have no bootstrap interval. A run that
    did not complete has a row without scores.
    """
    import pandas as pd

    swept, replicates = swept_keys(runs), replicate_keys(runs)
    by_run = [(run, _rows(run, split)) for run in runs]
    of_row = [run for run, rows in by_run for _ in rows]
    table = pd.DataFrame([row for _, rows in by_run for row in rows])
    table["num_samples"] = table["num_samples"].astype("Int64")
    for key in ("r2", "ci_low", "ci_high", "pearson_r", "noise_ceiling_r2", "seconds_fit", "peak_memory_mb"):
        table[key] = table[key].astype(float)
    for at, key in [*enumerate(swept), *enumerate(replicates, len(swept) + 1)]:
        name = f"setting {key}" if key in table.columns else key  # an evaluation's `run` is such a setting
        table.insert(at, name, pd.Series([setting_of(run, key) for run in of_row], dtype=object))
    return table


def _rows(run: Run, split: str) -> list[dict[str, Any]]:
    scored = run.splits.get(split)
    environments = scored.environments if scored is not None else {}
    mean = mean_scores(run, split)
    rows = [(MEAN, mean, mean_ceiling(run, split))]
    for name, cell in environments.items() if len(environments) > 1 else ():
        # An environment that is itself called `mean` must not pass for the mean.
        shown = f"environment {MEAN}" if name == MEAN else name
        rows.append((shown, cell, run.noise_ceiling_r2.get(name)))
    return [
        {
            "model": run.model,
            "split": split,
            "environment": name,
            "r2": scores.r2,
            "ci_low": scores.r2_ci95[0] if scores.r2_ci95 else None,
            "ci_high": scores.r2_ci95[1] if scores.r2_ci95 else None,
            "pearson_r": scores.pearson_r,
            "num_samples": scores.num_samples,
            "noise_ceiling_r2": ceiling,
            "seconds_fit": run.seconds.get("fit"),
            "peak_memory_mb": run.peak_memory_mb,
            "status": run.status,
            "run": run.name,
            "problem": run.trouble,
        }
        for name, scores, ceiling in rows
    ]


def main_split(runs: Iterable[Run]) -> str:
    """The split to compare runs by: the test samples, or what was scored where no run has any (`all`)."""
    splits = dict.fromkeys(name for run in runs for name in run.splits)
    return "test" if "test" in splits or not splits else list(splits)[-1]


def mean_scores(run: Run, split: str) -> Scores:
    """Scores over all environments of the split; those of the only environment when there is one."""
    scored = run.splits.get(split)
    if scored is None or not scored.environments:
        return Scores(None)
    each = list(scored.environments.values())
    if len(each) == 1:
        return each[0]
    numbers = {scores.num_samples for scores in each}
    return Scores(
        scored.mean_r2,
        None,
        _mean(scores.pearson_r for scores in each),
        None,
        numbers.pop() if len(numbers) == 1 else None,
    )


def mean_ceiling(run: Run, split: str) -> float | None:
    """The best mean R^2 any model can reach here: the mean noise ceiling, None unless every environment has one."""
    scored = run.splits.get(split)
    names = list(scored.environments) if scored is not None and scored.environments else list(run.noise_ceiling_r2)
    if not names or any(name not in run.noise_ceiling_r2 for name in names):
        return None
    return _mean(run.noise_ceiling_r2[name] for name in names)


def over_environments(numbers: Iterable[int]) -> str:
    """What a mean R^2 is the mean over, when these runs have so many environments each; empty for one."""
    distinct = set(numbers)
    if not distinct or distinct == {1}:
        return ""
    return f", mean over {distinct.pop()} environments" if len(distinct) == 1 else ", mean over environments"


def run_table(metrics: Mapping[str, Any]) -> str:
    """How well one run predicts each environment: R^2 of every split, the test interval, r, n and the ceiling.

    `metrics` is the content of the run's metrics.json; interval, r and n are of the last split that it has.
    """
    splits: dict[str, Any] = metrics.get("splits") or {}
    order = [name for name in _SPLITS if name in splits] + [name for name in splits if name not in _SPLITS]
    if not order:
        return "no scores"
    last = "test" if "test" in splits else order[-1]
    by_split = {name: splits[name].get("environments") or {} for name in order}
    names = list(dict.fromkeys(name for environments in by_split.values() for name in environments))
    ceilings = metrics.get("noise_ceiling_r2") or {}
    header = ["environment", *(f"{name} R^2" for name in order), f"{last} 95% interval", "r", "n", "ceiling"]
    rows = []
    for name in names:
        scores = by_split[last].get(name) or {}
        r2 = [_number((by_split[split].get(name) or {}).get("r2")) for split in order]
        facts = [_interval(scores.get("r2_ci95")), _number(scores.get("pearson_r")), _whole(scores.get("num_samples"))]
        rows.append([setting_text(clean(name)), *r2, *facts, _number(ceilings.get(name))])
    if len(names) > 1:
        r = _mean((by_split[last].get(name) or {}).get("pearson_r") for name in names)
        known = [ceilings[name] for name in names if ceilings.get(name) is not None]
        ceiling = _mean(known) if len(known) == len(names) else None
        r2 = [_number(splits[split].get("mean_r2")) for split in order]
        rows.append([MEAN, *r2, _NOTHING, _number(r), _NOTHING, _number(ceiling)])
    return "\n".join(aligned(*_without_empty(header, rows, ("ceiling",)), num_left=1))


def render(table: pd.DataFrame, width: int = _WIDTH) -> str:
    """The results as text of at most `width` columns: models side by side where one thing was varied, else a list.

    One varied setting: its values as rows. None, but several environments: the environments as rows. Otherwise
    one line per run. Runs that did not complete say so in their place and are explained below.
    """
    import pandas as pd

    columns = list(table.columns)
    at_model, at_split = columns.index("model"), columns.index("split")
    swept, replicates = columns[:at_model], columns[at_model + 1 : at_split]
    records = [
        {str(key): None if pd.isna(value) else value for key, value in row.items()} for row in table.to_dict("records")
    ]
    means = [row for row in records if row["environment"] == MEAN]
    environments = list(dict.fromkeys(row["environment"] for row in records if row["environment"] != MEAN))
    variables = in_step({key: [row[key] for row in means] for key in swept})
    lines: list[str] = []
    if len(variables) == 1 and _scored(means):
        numbers = Counter(row["run"] for row in records if row["environment"] != MEAN)
        over = over_environments(numbers.get(row["run"], 1) for row in _scored(means))
        lines = _pivot(means, variables[0], replicates, over)
    elif not variables and environments and len(means) > 1:
        lines = _pivot([row for row in records if row["environment"] != MEAN] + means, ["environment"], replicates, "")
    if not lines or max(map(len, lines)) > width:
        several = len(means) == 1 and bool(environments)
        lines = _listed(records if several else means, swept, replicates, several, width)
    return "\n".join(lines + _troubles(means))


def _pivot(rows: list[dict[str, Any]], keys: list[str], replicates: list[str], over: str) -> list[str]:
    """Values of the varied setting down, models across, mean R^2 in the cells and the noise ceiling at the end."""
    rows = [row for row in rows if row["model"] != UNKNOWN or _scored([row])]
    models = list(dict.fromkeys(row["model"] for row in rows))
    levels = {tuple(row[key] for key in keys): None for row in rows}
    seen = {level: index for index, level in enumerate(levels)}
    ordered = sorted(levels, key=lambda level: (*(rank(value) for value in level), seen[level]))
    cells: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        cells.setdefault((*(row[key] for key in keys), row["model"]), []).append(row)
    repeats = max(len(_scored(cell)) for cell in cells.values())
    body, starred = [], False
    for level in ordered:
        line = [setting_text(value) for value in level]
        ceilings = []
        for model in models:
            cell = cells.get((*level, model), [])
            scored = _scored(cell)
            star = "*" if scored and len(scored) < max(repeats, len(cell)) else " "
            starred = starred or star == "*"
            line.append(_cell(cell, scored) + star)
            ceilings += [row["noise_ceiling_r2"] for row in cell]
        body.append([*line, _number(_mean(ceilings))])
    if not starred:
        body = [[text.rstrip() for text in line] for line in body]
    header = [*keys, *(model + " " * starred for model in models), "ceiling"]
    lines = [f"{rows[0]['split']} R^2{over}", *aligned(*_without_empty(header, body, ("ceiling",)), len(keys))]
    if repeats > 1:
        differ = f"that differ in {', '.join(replicates)}" if replicates else "with the same settings"
        lines.append(f"each value is the mean over {repeats} runs {differ}")
    if starred:
        lines.append(f"* over fewer than {repeats} runs" if repeats > 1 else "* not all of its runs have a score")
    return lines


def _listed(
    rows: list[dict[str, Any]], swept: list[str], replicates: list[str], by_environment: bool, width: int
) -> list[str]:
    """One line per run, or per environment of the only run; what is too wide leaves out what is least asked for."""
    settings = [*swept, "model", *replicates, *(["environment"] if by_environment else [])]
    header = [*settings, f"{rows[0]['split']} R^2", "95% interval", "r", "n", "ceiling", "fit s", "MB", "run"]
    body = [
        [
            *(setting_text(row[key]) for key in settings),
            _cell([row], _scored([row])),
            _interval((row["ci_low"], row["ci_high"])),
            _number(row["pearson_r"]),
            _whole(row["num_samples"]),
            _number(row["noise_ceiling_r2"]),
            _NOTHING if row["seconds_fit"] is None else f"{row['seconds_fit']:.1f}",
            _NOTHING if row["peak_memory_mb"] is None else f"{row['peak_memory_mb']:.0f}",
            row["run"],
        ]
        for row in rows
    ]
    optional = ["95% interval", "ceiling", "fit s", "MB"]
    header, body = _without_empty(header, body, optional)
    for unwanted in ("MB", "fit s", "n", "run", "r", "95% interval"):
        if max(map(len, aligned(header, body, len(settings)))) <= width:
            break
        header, body = _without(header, body, unwanted)
    lines = aligned(header, body, len(settings))
    return lines + _over_replicates(rows, swept, replicates) if replicates else lines


def _over_replicates(rows: list[dict[str, Any]], swept: list[str], replicates: list[str]) -> list[str]:
    """Mean and standard deviation of R^2 over the seeds or folds of each configuration."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in [*swept, "model"]), []).append(row)
    body = []
    for group, members in groups.items():
        values = [row["r2"] for row in _scored(members)]
        spread = statistics.stdev(values) if len(values) > 1 else None
        body.append([*map(setting_text, group), _cell(members, _scored(members)), _number(spread), str(len(values))])
    header = [*swept, "model", f"mean {rows[0]['split']} R^2", "sd", "runs"]
    return ["", f"over {', '.join(replicates)}:", *aligned(header, body, len(swept) + 1)]


def _troubles(means: list[dict[str, Any]], limit: int = 20) -> list[str]:
    troubled = [row for row in means if row["status"] != "completed" or row["problem"]]
    if not troubled:
        return []
    lines = ["", f"{len(troubled)} of {len(means)} runs did not complete or have damaged files:"]
    for row in troubled[:limit]:
        lines.append(
            "  " + one_line(": ".join(text for text in (row["run"], row["status"], row["problem"]) if text), 300)
        )
    if len(troubled) > limit:
        lines.append(f"  and {len(troubled) - limit} more")
    return lines


def _scored(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["status"] == "completed" and row["r2"] is not None]


def _cell(rows: Sequence[dict[str, Any]], scored: Sequence[dict[str, Any]]) -> str:
    if scored:
        return _number(_mean(row["r2"] for row in scored))
    if not rows:
        return _NOTHING
    return next((str(row["status"]) for row in rows if row["status"] != "completed"), "undefined")


def rank(value: Scalar) -> tuple[int, float]:
    """Numbers in ascending order, then texts in the order they came, then what is not set."""
    if is_number(value):
        return 0, float(value)
    return (2, 0) if value is None else (1, 0)


def setting_text(value: Scalar, longest: int = 32) -> str:
    """A setting's value as a table or a figure shows it."""
    if value is None:
        return _NOTHING
    text = f"{value:.10g}" if isinstance(value, float) else str(value)
    if len(text) <= longest:
        return text
    if "/" in text:  # of a path the file says most
        text = f".../{text.rpartition('/')[2]}"
    return text if len(text) <= longest else "..." + text[3 - longest :]


def _number(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.3f}"


def _whole(value: int | None) -> str:
    return _NOTHING if value is None else str(value)


def _interval(bounds: Sequence[float | None] | None) -> str:
    if not bounds or any(bound is None for bound in bounds):
        return _NOTHING
    return f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None and not math.isnan(value)]
    return statistics.fmean(known) if known else None


def _without(header: list[str], rows: list[list[str]], unwanted: str) -> tuple[list[str], list[list[str]]]:
    if unwanted not in header:
        return header, rows
    at = header.index(unwanted)
    return header[:at] + header[at + 1 :], [row[:at] + row[at + 1 :] for row in rows]


def _without_empty(
    header: list[str], rows: list[list[str]], optional: Iterable[str]
) -> tuple[list[str], list[list[str]]]:
    """The table without those optional columns that hold nothing."""
    for name in optional:
        if all(row[header.index(name)] == _NOTHING for row in rows):
            header, rows = _without(header, rows, name)
    return header, rows


def aligned(header: list[str], rows: list[list[str]], num_left: int) -> list[str]:
    """Columns two spaces apart: the first `num_left` and a last `run` to the left, numbers to the right."""
    widths = [max(len(row[at]) for row in [header, *rows]) for at in range(len(header))]
    left = [at < num_left or name == "run" for at, name in enumerate(header)]
    return [
        "  ".join(
            text.ljust(width) if is_left else text.rjust(width)
            for text, width, is_left in zip(row, widths, left, strict=True)
        ).rstrip()
        for row in [header, *rows]
    ]
