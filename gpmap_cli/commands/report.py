"""`gpmap report`: tables and figures over many runs, in a run directory of its own."""

from __future__ import annotations

from pathlib import Path

from gpmap_cli.commands.terminal import show_result
from gpmap_cli.config.schema import Config
from gpmap_cli.report.write import write_report
from gpmap_cli.run_dir.layout import RunDirectory


def run(config: Config, path: Path) -> None:
    """Report on the runs under the given paths into the run directory `path`."""
    directory = RunDirectory(path)
    runs = [Path(name) for name in config.root.runs]
    directory.refuse_if_taken()
    directory.make()
    lines = write_report(runs, path)
    directory.claim({"command": "report", **config.mapping()})
    show_result("\n".join(lines), directory.path)
