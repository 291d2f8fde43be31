"""`gpmap info`: what is in a dataset file or a run directory."""

from __future__ import annotations

from pathlib import Path

import yaml

from gpmap_cli.config.schema import Config
from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.package_data import resolve
from gpmap_cli.dataset.summary import summarise
from gpmap_cli.errors import InputError
from gpmap_cli.report.tables import run_table
from gpmap_cli.run_dir.layout import RunDirectory


def run(config: Config) -> None:
    """Describe every path that was given."""
    for number, name in enumerate(config.root.path):
        if number:
            print()
        print(describe(name), flush=True)


def describe(name: str) -> str:
    """A dataset file's summary, or a run's configuration and scores."""
    path = resolve(name)
    if not path.exists():
        raise InputError(f"{name}: there is no such file or directory", "name a dataset file or a run directory")
    if not path.is_dir():
        with DatasetFile(path) as file:
            return "\n".join(summarise(file))
    directory = RunDirectory(Path(name))
    config = directory.read_config()
    metrics = directory.read_metrics()
    lines = [f"run {name}"]
    if metrics is None:
        lines.append("no metrics yet")
    else:
        facts = ("status", "model", "data", "seed", "num_parameters", "peak_memory_mb", "error")
        lines += [f"{fact}: {metrics[fact]}" for fact in facts if metrics.get(fact) is not None]
        if metrics.get("splits"):
            lines += ["", run_table(metrics)]
    lines += ["", "config.yaml:", yaml.safe_dump(config, sort_keys=False, allow_unicode=True).rstrip()]
    return "\n".join(lines)
