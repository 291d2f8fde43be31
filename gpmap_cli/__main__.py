"""The `gpmap` command: finds the command, checks what was typed, and hands over to it.

Nothing heavy is imported before it is known to be needed: `gpmap --help` imports no Hydra, a refused
configuration no array library.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from gpmap_cli.errors import FitFailed, InputError, Interrupted, Problem, did_you_mean

if TYPE_CHECKING:
    from gpmap_cli.config.command_line import CommandLine
    from gpmap_cli.config.schema import Command


def main(words: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0 done, 2 the user's input is at fault, 1 anything else."""
    words = list(sys.argv[1:] if words is None else words)
    if "RANK" in os.environ:
        return _one_of_several(words)
    return _answer(words)


def _one_of_several(words: list[str]) -> int:
    """A process that a launcher such as torchrun started: the first answers, the others help it."""
    from gpmap_cli.commands.processes import announce_end, place

    if place().size == 1:
        return _answer(words)
    if place().rank > 0:
        from gpmap_cli.commands.following import follow

        _prepare_process()
        return follow()
    try:
        return _answer(words)
    finally:
        with suppress(KeyboardInterrupt):  # the others are being ended as well
            announce_end()


def _prepare_process() -> None:
    # Threads that wait for work must not spin: on a machine shared with other jobs, spinning made the steps of
    # small networks twenty times slower. Read once, when torch loads its OpenMP.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing half-written is left behind


def _answer(words: list[str]) -> int:
    _prepare_process()
    try:
        status = _dispatch(words)
        sys.stdout.flush()
        return status
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
    from gpmap_cli.config.command_line import check_overrides
    from gpmap_cli.config.compose import composer, show_through_hydra

    start_logging()
    resumed = _resumed(command, line)
    if resumed is not None:
        import_module(f"gpmap_cli.commands.{command.name}").resume(resumed)
        return 0
    overrides, problems = check_overrides(line, command)
    if line.is_sweep:
        if problems:
            raise InputError(problems)
        from gpmap_cli.commands.sweep import run_sweep

        return run_sweep(command.name, overrides, line.config_dir)
    from gpmap_cli.config.schema import load_config

    with composer(command.name, line.config_dir) as composing:
        composed = composing.compose(overrides)
    try:
        config = load_config(command.name, composed.mapping)
    except InputError as found:
        raise InputError([*problems, *found.problems]) from None
    if problems:
        raise InputError(problems)
    if not {"--cfg", "--info", "--hydra-help"}.isdisjoint(line.flags):
        show_through_hydra(command.name, line.hydra_flags(), overrides)
        return 0
    from gpmap_cli.commands.running import run_command

    run_command(config, composed.run_dir)
    return 0


def _resumed(command: Command, line: CommandLine) -> Path | None:
    """The directory of `resume=DIR`, for commands that can, which takes everything from there."""
    words = [word for word in line.overrides if word.startswith("resume=")]
    if not command.resumable or not words:
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
            f"leave the rest out: gpmap {command.name} resume={path}",
        )
    return path


if __name__ == "__main__":
    sys.exit(main())
