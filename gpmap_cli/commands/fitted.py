"""A finished run as others use it: its fitted model, and the data to apply it to."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from gpmap_cli.commands.devices import choose_device
from gpmap_cli.config.schema import Config, load_config
from gpmap_cli.data_source import Source, open_source
from gpmap_cli.dataset.settings import FileData
from gpmap_cli.errors import InputError
from gpmap_cli.run_dir.layout import RunDirectory
from gpmap_cli.run_dir.predictor import FittedPredictor

log = logging.getLogger("gpmap")

# Genotypes in memory are held as the data have them, and once more as the samples and loci that are looked at.
TIMES_HELD = 2


class FinishedRun:
    """The run directory of a fitted model."""

    def __init__(self, path: str) -> None:
        self.directory = RunDirectory(Path(path))
        self.config = self.directory.read_config()
        if not self.directory.best_checkpoint.exists():
            raise InputError(
                f"{path}: the run has no fitted model (its fit has not finished)",
                f"finish it with: gpmap train resume={path}",
            )

    @property
    def seed(self) -> int:
        seed = self.config.get("seed", 0)
        return seed if isinstance(seed, int) else 0

    def training_config(self) -> Config:
        """The configuration it was trained with; refused when it was not trained here."""
        if self.config.get("data") is None:
            raise InputError(
                f"{self.directory.path}: this model came without data", "add data=file data.path=DATASET.h5"
            )
        return load_config("train", self.config)

    def load(self, device: str, precision: str | None) -> FittedPredictor:
        """The fitted model on the wanted device, by default in the precision it was trained in."""
        stored = self.config.get("precision", "float32")
        wanted = precision or (stored if stored in ("float32", "float64") else "float32")
        path = self.directory.best_checkpoint
        chosen = choose_device(device, wanted, needs_float64=False)
        return FittedPredictor.load(path, chosen, wanted)

    def source_for(self, data: Any) -> tuple[Source, bool]:
        """The data to apply the model to, and whether they are the very data of the run (and so its split holds)."""
        if data is None:
            config = self.training_config()
            return open_source(config.data, config.root.seed), True
        source = open_source(data, self.seed)
        source.check()
        return source, self._is_own(data, source)

    def _is_own(self, data: Any, source: Source) -> bool:
        if self.config.get("data") is None:
            return False
        own = self.training_config().data
        if not (isinstance(own, FileData) and isinstance(data, FileData)):
            return own == data
        # The same file under another name is the same data, as long as the same samples are taken from it.
        same_samples = (own.num_samples, own.seed) == (data.num_samples, data.seed)
        return same_samples and self._stored_sha256() == source.identity()["sha256"]

    def _stored_sha256(self) -> str | None:
        try:
            facts = json.loads((self.directory.path / "provenance.json").read_text(encoding="utf-8"))
            return facts["data"]["sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
