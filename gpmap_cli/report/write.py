"""The report on a set of runs, written to a directory: `results.csv`, `report.txt` and the figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gpmap_cli.report import write_whole
from gpmap_cli.report.collect import collect_runs
from gpmap_cli.report.figures import r2_figure
from gpmap_cli.report.tables import render, results_table


def write_report(paths: Sequence[Path | str], directory: Path) -> list[str]:
    """Compare the test scores of all runs at or below these paths; returns what to show in the terminal.

    `results.csv` is the whole tidy table, `report.txt` the shown one, `figures/r2.png` and `.svg` its picture
    (left out when no run has a score). Runs that failed or are damaged are listed with their reason.
    """
    runs = collect_runs(paths)
    table = results_table(runs)
    shown = render(table)
    directory.mkdir(parents=True, exist_ok=True)
    written = [
        write_whole(directory / "results.csv", table.to_csv(index=False, lineterminator="\n").encode()),
        write_whole(directory / "report.txt", f"{shown}\n".encode()),
        *r2_figure(runs, directory / "figures"),
    ]
    names = ", ".join(path.relative_to(directory).as_posix() for path in written)
    return [*shown.splitlines(), "", f"wrote {names}"]
