"""The `gpmap` command: finds the command, checks what was typed, and hands over to it.

Nothing heavy is imported before it is known to be needed: `gpmap --help` imports no Hydra, a refused
configuration no array library.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpmap_cli.errors import FitFailed, InputError, Interrupted, Problem, did_you_mean

if TYPE_CHECKING:
    from gpmap_cli.config.command_line import CommandLine
    from gpmap_cli.config.schema import Command, Config


def main(words: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0 done, 2 the user's input is at fault, 1 anything else."""
    words = list(sys.argv[1:] if words is None else words)
    try:
        return _dispatch(words)
    except InputError as trouble:
        for line in trouble.lines():
            print(line, file=sys.stderr)
        return 2
    except FitFailed as trouble:
        for line in Problem(str(trouble), "the run directory keeps the log and the last checkpoint").lines():
            print(line, file=sys.stderr)
        return 1
    except (Interrupted, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our standard output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception:
        traceback.print_exc()
        return 1


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        from gpmap_cli.config.help import overview

        print(overview())
        return 0
    if words[0] == "--version":
        from gpmap_cli import __version__

        print(f"gpmap {__version__}")
        return 0
    if words[0] in ("-sc", "--shell-completion"):
        from gpmap_cli.config.completion import complete

        return complete(words[1:])
    from gpmap_cli.config.schema import COMMANDS

    if words[0] not in COMMANDS:
        raise InputError(f"`{words[0]}` is not a command of gpmap", did_you_mean(words[0], COMMANDS))
    command = COMMANDS[words[0]]
    from gpmap_cli.config.command_line import split_words

    line = split_words(words[1:], command)
    if "--help" in line.flags:
        from gpmap_cli.config.help import command_help

        print(command_help(command, line))
        return 0
    return _run(command, line)


def _run(command: Command, line: CommandLine) -> int:
    from gpmap_cli.commands.terminal import start_logging
    from gpmap_cli.config.compose import RunNames, check

    start_logging()
    RunNames.begin()
    resumed = _resumed(command, line)
    if resumed is not None:
        from gpmap_cli.commands import train

        train.resume(resumed)
        return 0
    if line.is_sweep:
        return _sweep(command, line)
    config, run_dir = check(line, command)
    if "--cfg" in line.flags or "--info" in line.flags or "--hydra-help" in line.flags:
        _through_hydra(command, line, line.overrides, lambda _: None)
        return 0
    if not command.writes_run_dir:
        _body(command)(config)
        return 0
    from gpmap_cli.run_dir.layout import RunDirectory

    RunDirectory(run_dir).refuse_if_taken()
    made = _first_missing(run_dir)
    try:
        _through_hydra(command, line, line.overrides, lambda composed: _task(command, composed))
    except InputError:
        _remove_if_empty(run_dir, made)
        raise
    return 0


def _sweep(command: Command, line: CommandLine) -> int:
    """Run a sweep through Hydra's multirun and say at the end what came of its jobs."""
    from gpmap_cli.config.command_line import check_overrides
    from gpmap_cli.launchers.outcome import SweepResult

    overrides, problems = check_overrides(line, command)
    if problems:
        raise InputError(problems)
    _through_hydra(command, line, overrides, lambda composed: _task(command, composed, in_sweep=True))
    assert SweepResult.directory is not None
    failed = [job for job in SweepResult.jobs if job.error is not None]
    if len(failed) == len(SweepResult.jobs) and all(isinstance(job.error, InputError) for job in failed):
        for job in failed:
            _remove_if_empty(job.directory, SweepResult.directory)
        distinct = {problem: None for job in failed for problem in getattr(job.error, "problems", ())}
        raise InputError(distinct)
    from gpmap_cli.commands.sweep import finish_sweep

    finish_sweep(command.name, SweepResult.directory, SweepResult.jobs)
    return 1 if failed else 0


def _task(command: Command, composed: Any, in_sweep: bool = False) -> None:
    """What Hydra calls for a run or for one job of a sweep."""
    from hydra.core.hydra_config import HydraConfig

    from gpmap_cli.config.compose import plain_mapping
    from gpmap_cli.config.schema import load_config

    directory = Path(HydraConfig.get().runtime.output_dir)
    shown = Path(os.path.relpath(directory))
    if len(str(shown)) > len(str(directory)):
        shown = directory
    config: Config = load_config(command.name, plain_mapping(composed))
    if command.name == "train":
        from gpmap_cli.commands import train

        train.run(config, shown, in_sweep)
    else:
        _body(command)(config, shown)


def _body(command: Command) -> Any:
    from importlib import import_module

    return import_module(f"gpmap_cli.commands.{command.name}").run


def _through_hydra(command: Command, line: CommandLine, overrides: list[str], task: Any) -> None:
    """Let Hydra compose the configuration again, make the run directory and call the task."""
    import hydra
    from hydra.core.plugins import Plugins

    from gpmap_cli.config.compose import explain, prepare_hydra
    from gpmap_cli.config.files import config_directory

    prepare_hydra()
    if line.is_sweep:
        from gpmap_cli.launchers.basic import BasicLauncher
        from gpmap_cli.launchers.sweeper import Sweeper

        for plugin in (BasicLauncher, Sweeper):
            Plugins.instance().register(plugin)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise instead of printing and exiting
    # Hydra names the job after the caller's module; the directories are named after the command.
    words = [*line.hydra_flags(), *overrides, f"hydra.job.name={command.name}"]
    typed, sys.argv = sys.argv, [sys.argv[0], *words]
    trouble_of_run: list[Exception] = []

    def run_task(composed: Any) -> None:
        sys.argv = typed  # provenance keeps the command line that was typed
        try:
            task(composed)
        except Exception as trouble:
            if line.is_sweep:
                raise  # the launcher notes it and goes on
            trouble_of_run.append(trouble)  # Hydra would print a line of its own

    body = hydra.main(config_path=str(config_directory()), config_name=command.name, version_base="1.3")(run_task)
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        body()
    except (HydraException, OmegaConfBaseException) as trouble:
        raise explain(trouble, command) from trouble
    finally:
        sys.argv = typed
    if trouble_of_run:
        raise trouble_of_run[0]


def _resumed(command: Command, line: CommandLine) -> Path | None:
    """The directory of `gpmap train resume=DIR`, which takes everything from there."""
    words = [word for word in line.overrides if word.startswith("resume=")]
    if command.name != "train" or not words:
        return None
    path = Path(words[0].partition("=")[2])
    others = [
        word
        for word in line.overrides
        if word not in words and not (word.startswith("hydra.run.dir=") and Path(word.partition("=")[2]) == path)
    ]
    if others or line.flags or len(words) > 1:
        extra = [*others, *line.flags, *words[1:]]
        raise InputError(
            f"resume={path} takes its configuration from that directory; {' '.join(extra)} cannot be changed",
            f"leave the rest out: gpmap train resume={path}",
        )
    return path


def _first_missing(path: Path) -> Path:
    """The topmost directory that making `path` would make."""
    missing = path
    for parent in path.absolute().parents:
        if parent.exists():
            break
        missing = parent
    return missing


def _remove_if_empty(path: Path, top: Path) -> None:
    """Remove empty directories from `path` up to `top`: a refused run leaves nothing."""
    path, top = path.absolute(), top.absolute()
    while path == top or top in path.parents:
        try:
            path.rmdir()
        except OSError:
            return
        path = path.parent


if __name__ == "__main__":
    sys.exit(main())
