"""The run directory: who may use it, what its files are called, and the status it is in."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import yaml

from gpmap_cli.errors import InputError
from gpmap_cli.run_dir.writing import write_json, write_text

CONFIG, METRICS, LOG = "config.yaml", "metrics.json", "run.log"
COMPLETED, FAILED, RUNNING, INTERRUPTED = "completed", "failed", "running", "interrupted"


class RunDirectory:
    """The directory of one run of one command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def best_checkpoint(self) -> Path:
        return self.path / "checkpoints" / "best.npz"

    @property
    def holds_a_run(self) -> bool:
        return (self.path / CONFIG).exists() or (self.path / METRICS).exists()

    def refuse_if_taken(self) -> None:
        """A directory that already holds a run is never written over."""
        if self.holds_a_run:
            command = self._command if self._command in ("transfer", "scan") else "train"
            raise InputError(
                f"{self.path}: this directory already holds a run",
                f"choose another hydra.run.dir, or continue that run with: gpmap {command} resume={self.path}",
            )
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path}: this is a file, not a directory", "choose another hydra.run.dir")

    @property
    def _command(self) -> object:
        """Whose run it is; commands older than this entry do not say."""
        try:
            return self.read_config().get("command")
        except InputError:
            return None

    def make(self) -> None:
        """Make the directory; a place where none can be made is refused."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as trouble:
            raise InputError(
                f"{self.path}: cannot be made ({trouble.strerror})", "choose another hydra.run.dir"
            ) from trouble
        if not os.access(self.path, os.W_OK):
            raise InputError(f"{self.path}: cannot be written to", "choose another hydra.run.dir")

    def claim(self, config: dict[str, Any]) -> None:
        """Make the directory this run's by writing `config.yaml`; of two that try at once, one is refused."""
        self.make()
        self.refuse_if_taken()
        text = _yaml(config)
        target = self.path / CONFIG
        temporary = self.path / f".{CONFIG}.{os.getpid()}.part"
        try:
            with temporary.open("w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            try:
                os.link(temporary, target)  # atomic, and unlike a rename it fails when another was first
            except FileExistsError:
                raise InputError(
                    f"{self.path}: another run has just taken this directory", "choose another hydra.run.dir"
                ) from None
            except OSError:  # a file system without hard links
                temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def claim_prepared(self, config: dict[str, Any]) -> None:
        """Write `config.yaml` of a directory that is put together elsewhere and moved into place whole."""
        write_text(self.path / CONFIG, _yaml(config))

    def remove_leftovers(self) -> None:
        """Temporary files of a process that was killed while it wrote."""
        for directory in (self.path, self.path / "checkpoints"):
            for path in directory.glob(".*.part"):
                path.unlink(missing_ok=True)

    def read_config(self) -> dict[str, Any]:
        """The resolved configuration of the run; plain YAML, nothing in it is executed or resolved."""
        hint = "name a directory that `gpmap train` wrote"
        path = self.path / CONFIG
        if not self.path.is_dir():
            raise InputError(f"{self.path}: there is no such run directory", hint)
        if not path.exists():
            raise InputError(f"{self.path}: not a run directory (it has no {CONFIG})", hint)
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeError, yaml.YAMLError, RecursionError) as trouble:
            raise InputError(f"{path}: cannot be read ({trouble})", hint) from trouble
        if not isinstance(config, dict):
            raise InputError(f"{path}: not a configuration", hint)
        return config

    def read_metrics(self) -> dict[str, Any] | None:
        """`metrics.json`, or None when there is none that can be read."""
        import json

        try:
            metrics = json.loads((self.path / METRICS).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return metrics if isinstance(metrics, dict) else None

    def split_sha256(self) -> str | None:
        """The digest of the split by `provenance.json`, or None when that does not tell."""
        import json

        try:
            found = json.loads((self.path / "provenance.json").read_text(encoding="utf-8"))["split_sha256"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return found if isinstance(found, str) else None

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        write_json(self.path / METRICS, metrics)

    def write_text(self, name: str, text: str) -> None:
        write_text(self.path / name, text)

    def write_json(self, name: str, value: Any) -> None:
        write_json(self.path / name, value)


def _yaml(config: dict[str, Any]) -> str:
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100)


class RunLog(logging.FileHandler):
    """`run.log`: what the terminal showed, without the bars. Use it in a `with` block."""

    def __init__(self, directory: RunDirectory) -> None:
        super().__init__(directory.path / LOG, encoding="utf-8")
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        self._logger = logging.getLogger("gpmap")

    def __enter__(self) -> RunLog:
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self.close()
