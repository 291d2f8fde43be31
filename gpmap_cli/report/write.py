"""The report on a set of runs, written to a directory: `results.csv`, `report.txt` and the figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gpmap_cli.report.collect import collect_runs
from gpmap_cli.report.cross_validation import comparisons_table, cross_validation, scores_table
from gpmap_cli.report.cross_validation_text import cross_validation_lines
from gpmap_cli.report.figures import r2_figure
from gpmap_cli.report.tables import main_split, render, results_table
from gpmap_cli.run_dir.writing import write_text


def write_report(paths: Sequence[Path | str], directory: Path) -> list[str]:
    """Compare how well all runs at or below these paths predict; returns what to show in the terminal.

    Scores are those of the test samples, where there are any. `results.csv` is the whole tidy table, `report.txt`
    the shown one, `cross_validation.csv` and `model_comparisons.csv` those of folds put together, where there are any,
    `figures/r2.png` and `.svg` its picture (left out when no run has a score). Runs that failed or
    are damaged are listed with their reason.
    """
    runs = collect_runs(paths)
    split = main_split(runs)
    table = results_table(runs, split)
    found = cross_validation(runs)
    shown = "\n".join([render(table), *(cross_validation_lines(found) if found is not None else [])])
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / "results.csv", table.to_csv(index=False, lineterminator="\n"))
    write_text(directory / "report.txt", f"{shown}\n")
    tables = []
    if found is not None:
        tables.append(("cross_validation.csv", scores_table(found)))
        if found.comparisons:
            tables.append(("model_comparisons.csv", comparisons_table(found)))
    for name, each in tables:
        write_text(directory / name, each.to_csv(index=False, lineterminator="\n"))
    written = [directory / name for name in ("results.csv", "report.txt", *(name for name, _ in tables))]
    written += [*r2_figure(runs, directory / "figures", split)]
    names = ", ".join(path.relative_to(directory).as_posix() for path in written)
    return [*shown.splitlines(), "", f"wrote {names}"]
