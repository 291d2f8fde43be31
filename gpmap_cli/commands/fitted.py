"""A finished run as others use it: its fitted model, and the data to apply it to."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpmap_cli.commands.devices import choose_device
from gpmap_cli.config.schema import Config, load_config
from gpmap_cli.data_source import FileSource, Source, open_source
from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.settings import FileData, Split
from gpmap_cli.dataset.splits import Labels, make_split, split_hash
from gpmap_cli.errors import InputError
from gpmap_cli.run_dir.layout import RunDirectory
from gpmap_cli.run_dir.predictor import FittedPredictor

log = logging.getLogger("gpmap")

# Genotypes in memory are held as the data have them, and once more as the samples and loci that are looked at.
TIMES_HELD = 2


def say_covariates(predictor: FittedPredictor, dataset: Dataset) -> None:
    """Which covariates of the model the data lack."""
    known = predictor.fixed.covariates if predictor.fixed is not None else ()
    absent = [one.name for one in known if one.name not in dataset.sample_covariates]
    if absent:
        log.info("not in the data, and so taken at their training mean: %s", ", ".join(absent))


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
        source = open_source(self._with_covariates(data), self.seed)
        source.check()
        return source, self._is_own(data, source)

    def split(self, config: Config, is_own: bool) -> Split | None:
        """The split to go by: the run's own on its own data; on others one that is asked for, or none."""
        if config.split is not None or not (is_own or config.root.rows != "all"):
            return config.split
        split: Split = self.training_config().split
        return split

    def labels(self, config: Config, dataset: Dataset, is_own: bool, needs_validation: bool) -> Labels | None:
        """Which part of that split each sample is in. The run's own must still be the one that it was fitted with."""
        split = self.split(config, is_own)
        if split is None:
            return None
        labels = make_split(split, dataset, self.seed, needs_validation)
        fitted_with = self.directory.split_sha256()
        if config.split is None and is_own and fitted_with is not None and fitted_with != split_hash(labels):
            raise InputError(
                f"{self.directory.path}: its split is not the one that it was fitted with",
                "has split.groups_file changed since? put the old one back",
            )
        return labels

    def _with_covariates(self, data: Any) -> Any:
        """The covariates and groups of the run are those of other data too, as far as these have them."""
        own = self.training_config().data if self.config.get("data") is not None else None
        if (
            not (isinstance(own, FileData) and isinstance(data, FileData))
            or data.not_predicted
            or not own.not_predicted
        ):
            return data
        present = FileSource(data, self.seed).environment_names()
        covariates, factors, groups = (
            tuple(name for name in names or () if name in present) or None
            for names in (own.covariates, own.factors, own.groups)
        )
        return replace(data, covariates=covariates, factors=factors, groups=groups)

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
