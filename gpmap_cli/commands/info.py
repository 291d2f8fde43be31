"""`gpmap info`: what is in a dataset file or a run directory."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from gpmap_cli.commands.running import first_missing, remove_if_empty
from gpmap_cli.commands.terminal import progress_bar
from gpmap_cli.config.schema import Config
from gpmap_cli.dataset.description import describe
from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.package_data import resolve
from gpmap_cli.dataset.survey import Survey, survey
from gpmap_cli.dataset.text import fact
from gpmap_cli.errors import InputError
from gpmap_cli.report.tables import run_table
from gpmap_cli.run_dir.layout import RunDirectory


def run(config: Config) -> None:
    """Describe every path that was given; draw figures of a dataset file when a directory for them is named."""
    names, figures = config.root.path, config.root.figures
    if figures is not None:
        _check_figures(names, figures)
    for number, name in enumerate(names):
        if number:
            print()
        path = resolve(name)
        if not path.exists():
            raise InputError(f"{name}: there is no such file or directory", "name a dataset file or a run directory")
        lines = describe_run(name) if path.is_dir() else describe_file(path, figures)
        print("\n".join(lines), flush=True)


def describe_file(path: Path, figures: str | None) -> list[str]:
    """What is in a dataset file, and which figures of it were written."""
    with DatasetFile(path) as file:
        with progress_bar("reading genotypes", file.num_samples, "sample") as advance:
            found = survey(file, advance)
        lines = describe(file, found)
    if figures is None:
        return [*lines, "figures: add figures=DIR"]
    return [*lines, "", *_draw(found, Path(figures))]


def _check_figures(names: tuple[str, ...], figures: str) -> None:
    """Refuse, before anything is read, what no figures can be drawn of, and places where none can be written."""
    if len(names) > 1 or resolve(names[0]).is_dir():
        raise InputError(
            f"figures={figures}: figures are drawn of one dataset file", "name one dataset file, or leave figures= out"
        )
    hint = "name a directory, new or there already, that you may write to"
    directory = Path(figures)
    try:
        parent = directory if directory.exists() else first_missing(directory).parent
        is_directory, is_writable = parent.is_dir(), os.access(parent, os.W_OK | os.X_OK)
    except (OSError, ValueError) as trouble:
        raise InputError(f"figures={figures}: cannot be made ({trouble})", hint) from trouble
    if not figures or not is_directory:
        raise InputError(f"figures={figures}: {parent if figures else 'nothing'} is not a directory", hint)
    if not is_writable:
        raise InputError(f"figures={figures}: cannot be written to", hint)


def _draw(found: Survey, directory: Path) -> list[str]:
    """Draw into the directory, made if need be; gives the lines that name the files, and what was left out and why."""
    from gpmap_cli.report.data_figures import draw_dataset

    was_there, made = directory.exists(), first_missing(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        written, left_out = draw_dataset(found, directory)
    except OSError as trouble:
        reason = trouble.strerror or str(trouble)
        raise InputError(
            f"{directory}: cannot be written ({reason})", "choose another place, or make room"
        ) from trouble
    if not written and not was_there:
        remove_if_empty(directory, made)
    lines = [line for reason in left_out for line in fact("no figure", reason)]
    return [*lines, *(f"wrote {path}" for path in written)]


def describe_run(name: str) -> list[str]:
    """A run's configuration and scores."""
    directory = RunDirectory(Path(name))
    config = directory.read_config()
    metrics = directory.read_metrics()
    lines = [f"run {name}"]
    if metrics is None:
        lines.append("no metrics yet")
    else:
        keys = ("status", "model", "data", "seed", "num_parameters", "peak_memory_mb", "error")
        lines += [f"{key}: {metrics[key]}" for key in keys if metrics.get(key) is not None]
        if metrics.get("splits"):
            lines += ["", run_table(metrics)]
    return [*lines, "", "config.yaml:", yaml.safe_dump(config, sort_keys=False, allow_unicode=True).rstrip()]
