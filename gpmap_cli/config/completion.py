"""Shell completion: Hydra's own for everything after the command, the commands' names before it."""

from __future__ import annotations

import contextlib
import io
import os

from gpmap_cli.config.compose import show_through_hydra
from gpmap_cli.config.files import ROOT_GROUPS
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
        show_through_hydra(next(iter(COMMANDS)), ["-sc"], words)
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
    answer = io.StringIO()
    with contextlib.redirect_stdout(answer):
        show_through_hydra(typed[1], ["-sc"], words)
    # All commands share one directory of groups; only the groups of this one make sense here.
    command = COMMANDS[typed[1]]
    strange = set(ROOT_GROUPS) - {*command.groups, *command.optional_groups}
    if command.name == "train":
        strange.discard("experiment")
    print(" ".join(word for word in answer.getvalue().split() if word.split("=")[0].rstrip("/") not in strange))
    return 0
