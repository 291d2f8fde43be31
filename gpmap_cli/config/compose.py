"""Composing a configuration with Hydra, and saying in one line what Hydra says in many."""

from __future__ import annotations

import re
import secrets
from datetime import datetime
from pathlib import Path
from typing import Any

from gpmap_cli.config.command_line import CommandLine, check_overrides, quoted
from gpmap_cli.config.files import config_directory
from gpmap_cli.config.schema import Command, Config, load_config
from gpmap_cli.errors import InputError, Problem, did_you_mean


class RunNames:
    """The parts of directory names that must be the same wherever a configuration is composed again."""

    time = ""
    job = "job"

    @classmethod
    def begin(cls) -> None:
        """A new command: its time, with a random part so that two of the same second never meet."""
        cls.time = f"{datetime.now():%H-%M-%S}-{secrets.token_hex(3)}"


def prepare_hydra() -> None:
    """Tell Hydra of `${gpmap.time:}` and `${gpmap.job_name:}`, and of our own default launcher and sweeper."""
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins
    from omegaconf import OmegaConf

    Plugins.instance()  # reads Hydra's own `basic` ones, which ours replace
    store = ConfigStore.instance()
    for kind, target in (("launcher", "basic.BasicLauncher"), ("sweeper", "sweeper.Sweeper")):
        node = {"_target_": f"gpmap_cli.launchers.{target}"}
        store.store(group=f"hydra/{kind}", name="basic", node=node, provider="gpmap")
    OmegaConf.register_new_resolver("gpmap.time", lambda: RunNames.time, replace=True)
    OmegaConf.register_new_resolver("gpmap.job_name", lambda: RunNames.job, replace=True)


def check(line: CommandLine, command: Command) -> tuple[Config, Path]:
    """Compose and check a single run's configuration before anything is made on the disk.

    Returns it with the run directory that it names. All problems are raised at once.
    """
    overrides, problems = check_overrides(line, command)
    mapping, run_dir = compose(command, overrides, line.config_dir)
    try:
        config = load_config(command.name, mapping)
    except InputError as found:
        raise InputError([*problems, *found.problems]) from None
    if problems:
        raise InputError(problems)
    return config, run_dir


def compose(command: Command, overrides: list[str], config_dir: Path | None) -> tuple[dict[str, Any], Path]:
    """The composed mapping of a command and its run directory."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    prepare_hydra()
    if config_dir is not None and not any(word.startswith("hydra.searchpath=") for word in overrides):
        overrides = [*overrides, f"hydra.searchpath=[{quoted(config_dir.as_uri())}]"]
    try:
        with initialize_config_dir(str(config_directory()), job_name=command.name, version_base="1.3"):
            composed = hydra_compose(command.name, overrides, return_hydra_config=True)
        run_dir = Path(str(composed.hydra.run.dir))
        return plain_mapping(composed), run_dir
    except (HydraException, OmegaConfBaseException) as trouble:
        raise explain(trouble, command) from trouble
    except OSError as trouble:
        raise InputError(f"a configuration file cannot be read ({trouble})", "check --config-dir") from trouble
    except ValueError as trouble:  # YAML of the user's own files
        raise InputError(f"a configuration file is not valid YAML ({trouble})", "check --config-dir") from trouble


def plain_mapping(composed: Any) -> dict[str, Any]:
    """A composed configuration without Hydra's own part, resolved, as plain values."""
    from omegaconf import OmegaConf

    with_interpolations = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
    if OmegaConf.missing_keys(with_interpolations):
        keys = sorted(OmegaConf.missing_keys(with_interpolations))
        raise InputError([Problem(f"{key} is not set", f"add {key}=...") for key in keys])
    mapping = OmegaConf.to_container(with_interpolations, resolve=True)
    assert isinstance(mapping, dict)
    return {str(key): value for key, value in mapping.items()}


def explain(trouble: Exception, command: Command) -> InputError:
    """An error of Hydra or OmegaConf as one message and one hint."""
    text = " ".join(str(trouble).split()) or type(trouble).__name__
    cause = trouble.__cause__
    if cause is not None and str(cause).strip():
        text = f"{text} ({' '.join(str(cause).split())})"
    key = re.search(r"Could not override '([^']+)'", text)
    if key is not None and key[1].startswith("hydra"):
        return InputError(
            f"{key[1]} is not a setting of Hydra",
            did_you_mean(key[1], ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.job.name")),
        )
    return InputError(f"the configuration cannot be composed: {text}", f"see gpmap {command.name} --help")
