"""Shell completion: Hydra's own for everything after the command, the commands' names before it."""

from __future__ import annotations

import os
import sys

from gpmap_cli.config.schema import COMMANDS
from gpmap_cli.errors import InputError, did_you_mean

SHELLS = ("bash", "zsh", "fish")


def complete(words: list[str]) -> int:
    """`gpmap -sc install=SHELL` prints the script to evaluate; `query=SHELL` answers for the line in COMP_LINE."""
    action, _, shell = (words[0] if words else "").partition("=")
    if action not in ("install", "uninstall", "query") or shell not in SHELLS:
        raise InputError(
            f"-sc takes install=SHELL, uninstall=SHELL or query=SHELL, got `{' '.join(words)}`",
            did_you_mean(shell, SHELLS, f"{action or 'install'}="),
        )
    if action != "query":
        _ask_hydra(next(iter(COMMANDS)), words)
        return 0
    line = os.environ.get("COMP_LINE", "")
    typed = line.split()
    if len(typed) < 2 or (len(typed) == 2 and not line.endswith(" ")):
        print(" ".join(sorted(COMMANDS)))
        return 0
    if typed[1] not in COMMANDS or COMMANDS[typed[1]].bare_paths is not None:
        return 0  # the shell completes file names by itself
    # Hydra expects overrides right after the program's name.
    start = line.index(typed[1], len(typed[0])) + len(typed[1])
    os.environ["COMP_LINE"] = f"{typed[0]}{line[start:]}"
    _ask_hydra(typed[1], words)
    return 0


def _ask_hydra(command: str, words: list[str]) -> None:
    import hydra

    from gpmap_cli.config.compose import prepare_hydra
    from gpmap_cli.config.files import config_directory

    prepare_hydra()
    typed, sys.argv = sys.argv, [sys.argv[0], "-sc", *words]
    try:
        hydra.main(config_path=str(config_directory()), config_name=command, version_base="1.3")(lambda _: None)()
    finally:
        sys.argv = typed
