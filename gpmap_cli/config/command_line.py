"""The words after `gpmap COMMAND`: flags, Hydra overrides and bare paths, checked before Hydra sees them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gpmap_cli.config.files import ROOT_GROUPS, choices
from gpmap_cli.config.schema import Command
from gpmap_cli.errors import InputError, Problem, did_you_mean

# Flag -> (its long name, whether it takes a value). What Hydra knows besides these is not offered.
_FLAGS = {
    "-h": ("--help", False),
    "-m": ("--multirun", False),
    "-c": ("--cfg", True),
    "-p": ("--package", True),
    "-cd": ("--config-dir", True),
    "-sc": ("--shell-completion", False),
    "-i": ("--info", True),
}
_LONG = dict(_FLAGS.values()) | {"--resolve": False, "--hydra-help": False}
_CFG_KINDS = ("job", "hydra", "all")


@dataclass
class CommandLine:
    """What was typed after the command."""

    flags: dict[str, str] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)

    @property
    def is_sweep(self) -> bool:
        return "--multirun" in self.flags

    @property
    def config_dir(self) -> Path | None:
        return Path(self.flags["--config-dir"]).absolute() if "--config-dir" in self.flags else None

    def hydra_flags(self) -> list[str]:
        """The flags in Hydra's own spelling."""
        words = []
        for name, value in self.flags.items():
            words += [name, value] if _LONG[name] else [name]
        return words


def split_words(words: Sequence[str], command: Command) -> CommandLine:
    """Sort the words into flags, overrides and bare paths; an unknown flag is refused."""
    line = CommandLine()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if re.fullmatch(r"-{1,2}[A-Za-z][A-Za-z-]*(=.*)?", word, re.DOTALL):
            name, _, value = word.partition("=")
            name = _FLAGS.get(name, (name, False))[0]
            if name not in _LONG:
                raise InputError(f"{word} is not a flag of gpmap {command.name}", did_you_mean(name, sorted(_LONG)))
            if _LONG[name] and not value:
                if not rest:
                    raise InputError(f"{name} needs a value", f"see gpmap {command.name} --help")
                value = rest.pop(0)
            line.flags[name] = value
        elif command.bare_paths is not None and not re.match(r"[+~]{0,2}[\w./@-]+=", word):
            line.bare.append(word)
        elif "=" not in word and not word.startswith("~"):
            raise InputError(
                f"`{word}` is neither a flag nor an override KEY=VALUE", f"see gpmap {command.name} --help"
            )
        else:
            line.overrides.append(word)
    _check_flags(line, command)
    if line.bare:
        line.overrides.append(f"{command.bare_paths}=[{','.join(map(quoted, line.bare))}]")
    return line


def quoted(text: str) -> str:
    """A text as one quoted value of Hydra's override grammar."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    return f"'{escaped}'"


def _check_flags(line: CommandLine, command: Command) -> None:
    kind = line.flags.get("--cfg")
    if kind is not None and kind not in _CFG_KINDS:
        raise InputError(f"--cfg takes {', '.join(_CFG_KINDS)}, got `{kind}`", did_you_mean(kind, _CFG_KINDS))
    if line.config_dir is not None and not line.config_dir.is_dir():
        raise InputError(
            f"{line.config_dir}: --config-dir is not a directory",
            "it should hold groups of YAML files, for instance DIR/data/mine.yaml",
        )
    if line.is_sweep and not command.writes_run_dir:
        raise InputError(f"gpmap {command.name} has nothing to sweep over", "leave -m out")


def check_overrides(line: CommandLine, command: Command) -> tuple[list[str], list[Problem]]:
    """Parse every override and find what Hydra would stop at, one at a time, all at once.

    Returns the overrides with values forced in (`++key=value`), so that an unknown key reaches the typed
    check of the composed configuration, and the problems of the others: syntax, unknown choices, lists of
    values without -m.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    kept, problems = [], []
    groups = (*command.groups, *command.optional_groups, "experiment")
    for word in line.overrides:
        try:
            try:
                override = parser.parse_override(word)
            except HydraException:
                word = _with_quoted_value(word)
                override = parser.parse_override(word)
        except HydraException as trouble:
            reason = str(trouble).splitlines()[0]
            problems.append(
                Problem(
                    f"`{word}` cannot be parsed ({reason})",
                    "write KEY=VALUE; quote values with special characters: KEY=\"'a,b'\"",
                )
            )
            continue
        key = override.key_or_group
        is_sweep = override.is_sweep_override()
        if is_sweep and not line.is_sweep:
            name, _, value = word.partition("=")
            problems.append(
                Problem(
                    f"{name} has several values ({value}), and this is a single run",
                    f"add -m to run each of them (gpmap {command.name} -m ...), or write [{value}] for one list",
                )
            )
            continue
        is_group = key in groups or key.startswith("hydra/")
        if key in command.groups and override.value() is None and not is_sweep:
            problems.append(Problem(f"{key} is not set", f"choose one with {key}=..."))
            continue
        if is_group and not override.is_delete() and not is_sweep:
            problem = _unknown_choice(key, override.value(), line.config_dir)
            if problem is not None:
                problems.append(problem)
                continue
        if key in ROOT_GROUPS and key not in groups:
            problems.append(
                Problem(
                    f"{key} is not a group of gpmap {command.name}",
                    did_you_mean(key, [*command.groups, *command.optional_groups]),
                )
            )
            continue
        plain = not (is_group or key.startswith("hydra.") or override.is_delete())
        kept.append("++" + word.lstrip("+") if plain else word)
    return kept, problems


def _with_quoted_value(word: str) -> str:
    """The override with its value quoted: paths may hold letters that Hydra's grammar only takes in quotes."""
    key, separator, value = word.partition("=")
    return word if re.search(r"['\"\[\]{},]", value) else f"{key}{separator}{quoted(value)}"


def _unknown_choice(group: str, value: object, extra: Path | None) -> Problem | None:
    known = choices(group, extra)
    if not known or value is None:
        return None
    wanted = value if isinstance(value, list) else [value]
    for one in wanted:
        if str(one).removesuffix(".yaml") not in known:
            return Problem(
                f"`{one}` is not a choice of {group}", did_you_mean(str(one), known, f"{group}=", len(known))
            )
    return None
