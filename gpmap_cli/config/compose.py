"""Composing configurations with Hydra, and saying in one line what Hydra says in many."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from gpmap_cli.config.command_line import quoted
from gpmap_cli.config.files import choices, config_directory
from gpmap_cli.config.schema import COMMANDS
from gpmap_cli.errors import InputError, did_you_mean

_HYDRA_KEYS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.job.name", "hydra.sweeper.params")


@dataclass(frozen=True)
class Composed:
    """What Hydra made of a command line: the plain configuration, and what it says of directories and sweeps."""

    mapping: dict[str, Any]
    run_dir: Path
    sweep_dir: Path
    sweep_subdir: str
    sweep_params: dict[str, str]
    launcher: str


class Composer:
    """Composes configurations of one command; within `composer(...)` only."""

    def __init__(self, command: str, config_dir: Path | None) -> None:
        self._command, self._config_dir = command, config_dir
        self._searchpath = [] if config_dir is None else [f"hydra.searchpath=[{quoted(config_dir.as_uri())}]"]
        self._time = f"{datetime.now():%H-%M-%S}-{secrets.token_hex(3)}"
        self._job_name = "job"

    def register_names(self) -> None:
        """Directory names: the same time in all jobs of a sweep, a random part so that no two runs ever meet."""
        from omegaconf import OmegaConf

        OmegaConf.register_new_resolver("gpmap.time", lambda: self._time, replace=True)
        OmegaConf.register_new_resolver("gpmap.job_name", lambda: self._job_name, replace=True)

    def compose(self, overrides: Sequence[str], job_name: str = "job") -> Composed:
        """The configuration of these overrides. What cannot be composed is an InputError."""
        from hydra import compose
        from hydra.errors import HydraException
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        self._job_name = job_name
        try:
            made = compose(self._command, [*overrides, *self._searchpath], return_hydra_config=True)
            hydra = made.hydra
            params = OmegaConf.to_container(hydra.sweeper.params) if hydra.sweeper.get("params") else {}
            assert isinstance(params, dict)
            return Composed(
                _plain(made),
                Path(str(hydra.run.dir)),
                Path(str(hydra.sweep.dir)),
                str(hydra.sweep.subdir),
                {str(key): str(value) for key, value in params.items()},
                str(hydra.runtime.choices.get("hydra/launcher")),
            )
        except (HydraException, OmegaConfBaseException) as trouble:
            raise explain(trouble, self._command, self._config_dir) from trouble
        except (OSError, UnicodeError, yaml.YAMLError) as trouble:
            raise InputError(f"a configuration file cannot be read ({trouble})", "check --config-dir") from trouble


@contextmanager
def composer(command: str, config_dir: Path | None) -> Iterator[Composer]:
    """A composer over the packaged files and, after them, the user's own `config_dir`."""
    from hydra import initialize_config_dir

    made = Composer(command, config_dir)
    made.register_names()
    with initialize_config_dir(str(config_directory()), job_name=command, version_base="1.3"):
        yield made


def show_through_hydra(command: str, flags: list[str], overrides: list[str]) -> None:
    """`--cfg`, `--info` and `--hydra-help`: what Hydra itself prints."""
    import os
    import sys

    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    Composer(command, None).register_names()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise instead of printing and exiting
    typed, sys.argv = sys.argv, [sys.argv[0], *flags, *overrides, f"hydra.job.name={command}"]
    try:
        hydra.main(config_path=str(config_directory()), config_name=command, version_base="1.3")(lambda _: None)()
    except (HydraException, OmegaConfBaseException) as trouble:
        raise explain(trouble, command) from trouble
    finally:
        sys.argv = typed


def explain(trouble: Exception, command: str, config_dir: Path | None = None) -> InputError:
    """An error of Hydra or OmegaConf as one message and one hint."""
    text = " ".join(str(trouble).split()) or type(trouble).__name__
    cause = trouble.__cause__
    if cause is not None and str(cause).strip():
        text = f"{text} ({' '.join(str(cause).split())})"
    key = re.search(r"Could not override '([^']+)'", text)
    if key is not None and key[1].startswith("hydra"):
        return InputError(f"{key[1]} is not a setting of Hydra", did_you_mean(key[1], _HYDRA_KEYS))
    choice = re.search(r"Could not find '([\w/]+)/([^/']+)' Available options", text)
    if choice is not None:
        known = choices(choice[1], config_dir)
        return InputError(
            f"`{choice[2]}` is not a choice of {choice[1]}",
            did_you_mean(choice[2], known, f"{choice[1]}=", limit=len(known)),
        )
    group = re.search(r"Could not override '([^']+)'\. No match in the defaults list", text)
    if group is not None:
        spec = COMMANDS[command]
        groups = (*spec.groups, *spec.optional_groups)
        return InputError(f"{group[1]} is not a group of gpmap {command}", did_you_mean(group[1], groups))
    return InputError(f"the configuration cannot be composed: {text}", f"see gpmap {command} --help")


def _plain(composed: Any) -> dict[str, Any]:
    """A composed configuration without Hydra's own part, resolved, as plain values."""
    from omegaconf import OmegaConf

    ours = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
    mapping = OmegaConf.to_container(ours, resolve=True, throw_on_missing=False)
    assert isinstance(mapping, dict)
    return _without_missing(mapping)


def _without_missing(mapping: dict[Any, Any]) -> dict[str, Any]:
    """Keys whose value must be given and was not are left out, so that the typed check names them."""
    return {
        str(key): _without_missing(value) if isinstance(value, dict) else value
        for key, value in mapping.items()
        if value != "???"
    }
