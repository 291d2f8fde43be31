"""Running one command from a checked configuration, so that a refused one leaves nothing behind."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from gpmap_cli.config.schema import COMMANDS, Config
from gpmap_cli.errors import InputError
from gpmap_cli.run_dir.layout import RunDirectory


def run_command(config: Config, run_dir: Path, in_sweep: bool = False) -> None:
    """Run it in its run directory; when the input is refused, directories made for it are removed again."""
    body = import_module(f"gpmap_cli.commands.{config.command}").run
    if not COMMANDS[config.command].writes_run_dir:
        body(config)
        return
    rerun = in_sweep and COMMANDS[config.command].resumable
    if not rerun:
        RunDirectory(run_dir).refuse_if_taken()
    made = first_missing(run_dir)
    try:
        if rerun:
            body(config, run_dir, in_sweep=True)
        else:
            body(config, run_dir)
    except InputError:
        remove_if_empty(run_dir, made)
        raise


def first_missing(path: Path) -> Path:
    """The topmost directory that making `path` would make."""
    missing = path.absolute()
    for parent in missing.parents:
        if parent.exists():
            break
        missing = parent
    return missing


def remove_if_empty(path: Path, top: Path) -> None:
    """Remove empty directories from `path` up to `top`."""
    path, top = path.absolute(), top.absolute()
    while path == top or top in path.parents:
        try:
            path.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            return
        path = path.parent
