"""Where the samples of a run come from: drawn by the simulator or read from a dataset file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.package_data import resolve
from gpmap_cli.dataset.settings import FileData
from gpmap_cli.errors import InputError
from gpmap_cli.random_streams import stream
from gpmap_cli.simulate.settings import SimulatedData
from gpmap_cli.simulate.simulation import check_simulation, simulation_stream
from gpmap_cli.simulate.yeast_settings import YeastSyntheticData


class Source(Protocol):
    """Samples that can be checked cheaply before they are read."""

    @property
    def name(self) -> str:
        """What the data are called."""

    def check(self) -> None:
        """Refuse what can be refused without reading genotypes."""

    def load(self, memory_limit: int | None = None, scratch: Path = Path()) -> Dataset:
        """The samples, with what the settings select; genotypes of over `memory_limit` bytes are put into `scratch`."""

    def identity(self) -> dict[str, str | int | None]:
        """What pins the data down, for the provenance: file and SHA-256, or the seed of a simulation."""


def open_source(settings: SimulatedData | YeastSyntheticData | FileData, seed: int) -> Source:
    """The source that the settings of the `data` group describe; `seed` is the run's."""
    own = seed if settings.seed is None else settings.seed
    return FileSource(settings, own) if isinstance(settings, FileData) else SimulatedSource(settings, own)


@dataclass
class SimulatedSource:
    """Data drawn anew from the settings and the seed."""

    settings: SimulatedData | YeastSyntheticData
    seed: int

    @property
    def name(self) -> str:
        return self.settings.name

    def check(self) -> None:
        check_simulation(self.settings)

    def load(self, memory_limit: int | None = None, scratch: Path = Path()) -> Dataset:
        return simulation_stream(self.settings, self.seed).within(memory_limit, scratch)

    def identity(self) -> dict[str, str | int | None]:
        return {"path": None, "sha256": None, "simulation_seed": self.seed}


class FileSource:
    """A dataset file and the part of it that is asked for."""

    def __init__(self, settings: FileData, seed: int) -> None:
        self._settings, self._seed = settings, seed
        self.name = settings.name
        self._path = resolve(settings.path or "")

    def _open(self) -> DatasetFile:
        return DatasetFile(self._path, self._settings.where_to_get_it)

    def check(self) -> None:
        with self._open() as file:
            file.find_loci(self._settings.loci)
            file.find_environments(self._settings.environments)
            file.find_environments(self._settings.fixed, "data.covariates")
            file.find_environments(self._settings.groups or (), "data.groups")
            file.find_environments(tuple(self._settings.environment_covariates or ()), "data.environment_covariates")
            wanted = self._settings.num_samples
            if wanted is not None and wanted > file.num_samples:
                raise InputError(
                    f"data.num_samples is {wanted} but {self._path} has {file.num_samples} samples",
                    f"set data.num_samples to at most {file.num_samples}, or leave it out",
                )

    def load(self, memory_limit: int | None = None, scratch: Path = Path()) -> Dataset:
        settings = self._settings
        with self._open() as file:
            rows = None
            if settings.num_samples is not None and settings.num_samples < file.num_samples:
                order = stream(self._seed, "subset").permutation(file.num_samples)
                rows = np.sort(order[: settings.num_samples])
            loci = None if settings.loci is None else file.find_loci(settings.loci)
            environments = self._environments(file)
            if memory_limit is None:
                dataset = file.load(rows, loci, environments)
            else:
                dataset = file.stream(rows, loci, environments).within(memory_limit, scratch)
            if settings.not_predicted:
                columns = file.phenotypes()[:, file.find_environments(settings.not_predicted)]
                values = columns.astype(np.float64) if rows is None else columns[rows].astype(np.float64)
                beside = dict(zip(settings.not_predicted, values.T, strict=True))
                dataset = replace(
                    dataset,
                    sample_covariates={name: beside[name] for name in settings.fixed},
                    sample_groups={name: beside[name] for name in settings.groups or ()},
                )
            if settings.environment_covariates:
                dataset = replace(dataset, covariates=_with_covariates(dataset, settings.environment_covariates))
            return dataset

    def environment_names(self) -> tuple[str, ...]:
        """All columns of the phenotype table."""
        with self._open() as file:
            return file.environment_names

    def _environments(self, file: DatasetFile) -> NDArray[np.intp] | None:
        """Those that are asked for, or all that are phenotypes."""
        settings = self._settings
        if settings.environments is not None:
            return file.find_environments(settings.environments)
        if not settings.not_predicted:
            return None
        return np.flatnonzero([name not in settings.not_predicted for name in file.environment_names])

    def identity(self) -> dict[str, str | int | None]:
        with self._open() as file:
            return {"path": str(self._settings.path), "sha256": file.sha256(), "simulation_seed": None}


def _with_covariates(dataset: Dataset, given: dict[str, dict[str, float]]) -> dict[str, NDArray[np.float64]]:
    """The covariates of environments (E,) that the file has, with these, by environment and name, over them."""
    names = list(dataset.environment_names)
    covariates = {name: values.copy() for name, values in dataset.covariates.items()}
    for environment, values in given.items():
        for name, value in values.items():
            column = covariates.setdefault(name, np.full(len(names), np.nan))
            if environment in names:  # others were left out with data.environments
                column[names.index(environment)] = value
    return covariates
