"""What `gpmap --help` and `gpmap COMMAND --help` print, from the commands' table and the YAML files themselves."""

from __future__ import annotations

from pathlib import Path

import yaml

from gpmap_cli import __version__
from gpmap_cli.config.command_line import CommandLine
from gpmap_cli.config.files import choice_file, choices, config_directory
from gpmap_cli.config.schema import COMMANDS, Command


def overview() -> str:
    """The commands."""
    width = max(map(len, COMMANDS))
    lines = [
        f"gpmap {__version__}: infer genotype-phenotype maps.",
        "",
        "usage: gpmap COMMAND [KEY=VALUE ...] [FLAG ...]",
        "",
        "commands:",
        *(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()),
        "",
        "gpmap COMMAND --help lists the settings of a command; gpmap --version prints the version.",
        'Shell completion: eval "$(gpmap -sc install=bash)" (or zsh, fish).',
    ]
    return "\n".join(lines)


def command_help(command: Command, line: CommandLine) -> str:
    """Groups with their choices, and every key with its default and meaning, for the choices typed so far."""
    extra = line.config_dir
    chosen = _chosen(command, line)
    lines = [f"gpmap {command.name}: {command.summary}", "", f"example: {command.example}", ""]
    groups = [*command.groups, *command.optional_groups]
    if choices("experiment", extra) and command.name == "train":
        groups.append("experiment")
    if groups:
        lines.append("config groups (GROUP=CHOICE):")
        lines += [f"  {group}: {', '.join(choices(group, extra))}" for group in groups]
        lines.append("")
    lines.append("settings (KEY=VALUE), with defaults (??? must be given):")
    primary = config_directory() / f"{command.name}.yaml"
    lines += _keys(primary, "", skip_defaults=True)
    for group in command.groups:
        path = choice_file(group, chosen.get(group, ""), extra)
        if path is not None:
            lines += ["", f"settings of {group}={chosen[group]}:", *_keys(path, f"{group}.", skip_defaults=False)]
    lines += ["", "flags:", *_FLAG_LINES]
    if command.resumable:
        lines.append("  resume=DIR           continue an interrupted run in its own directory")
    return "\n".join(lines)


_FLAG_LINES = (
    "  -m, --multirun       run every combination of comma-separated values",
    "  -c, --cfg job        print the composed configuration and stop",
    "  -cd, --config-dir D  add your own groups of YAML files",
    "  hydra.run.dir=DIR    the run directory; hydra.sweep.dir=DIR that of a sweep",
)


def _chosen(command: Command, line: CommandLine) -> dict[str, str]:
    """The choice of every group: the default, or what was typed."""
    primary = yaml.safe_load((config_directory() / f"{command.name}.yaml").read_text(encoding="utf-8"))
    found = {}
    for entry in primary["defaults"]:
        if isinstance(entry, dict):
            found.update({group: choice for group, choice in entry.items() if choice is not None})
    for word in line.overrides:
        group, _, choice = word.partition("=")
        if group in found:
            found[group] = choice
    return found


def _keys(path: Path, prefix: str, skip_defaults: bool) -> list[str]:
    """The keys of a YAML file as they stand there, with their comments, under their full names."""
    lines = []
    in_defaults = False
    for text in path.read_text(encoding="utf-8").splitlines():
        if text.startswith("defaults:"):
            in_defaults = skip_defaults
            continue
        if in_defaults and (text.startswith((" ", "-")) or not text.strip()):
            continue
        in_defaults = False
        if text.startswith("#") or not text.strip():
            continue
        lines.append(f"  {prefix}{text}" if not text.startswith(" ") else f"  {' ' * len(prefix)}{text}")
    return lines
