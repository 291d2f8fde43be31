"""The environments that predictions are asked for: the model's own by name, and new ones by their covariates."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.disk_genotypes import StoredGenotypes
from gpmap_cli.errors import InputError, did_you_mean, listing
from gpmap_cli.run_dir.predictor import FittedPredictor, PredictedStd

log = logging.getLogger("gpmap")

Asked = Mapping[str, Mapping[str, float]] | Sequence[str]


@dataclass(frozen=True)
class AskedEnvironments:
    """Environments by name, each a column of the model's own predictions or the covariates of a new one."""

    names: tuple[str, ...]
    what: tuple[int | dict[str, float], ...]

    def predict(
        self,
        predictor: FittedPredictor,
        genotypes: StoredGenotypes,
        sample_covariates: Mapping[str, NDArray[np.float64]],
    ) -> NDArray[np.float64]:
        """Phenotypes (N, n) in their own units."""
        predicted = np.empty((len(genotypes), len(self.what)))
        own = {at: column for at, column in enumerate(self.what) if isinstance(column, int)}
        if own:
            predicted[:, list(own)] = predictor.predict(genotypes, sample_covariates)[:, list(own.values())]
        new = {at: covariates for at, covariates in enumerate(self.what) if not isinstance(covariates, int)}
        if new:
            predicted[:, list(new)] = predictor.predict_new(genotypes, sample_covariates, list(new.values()))
        return predicted

    def predict_std(
        self,
        predictor: FittedPredictor,
        genotypes: StoredGenotypes,
        sample_covariates: Mapping[str, NDArray[np.float64]],
    ) -> PredictedStd | None:
        """As the predictor's own; None where an environment is new, of which no model knows it."""
        own = [column for column in self.what if isinstance(column, int)]
        if len(own) < len(self.what):
            return None
        std = predictor.predict_std(genotypes, sample_covariates)
        return None if std is None else std.columns(own)


def own_environments(predictor: FittedPredictor) -> AskedEnvironments:
    """All that the model was fitted to."""
    names = predictor.environment_names
    return AskedEnvironments(names, tuple(range(len(names))))


def asked_environments(asked: Asked, predictor: FittedPredictor, dataset: Dataset) -> AskedEnvironments:
    """Those of the setting `environments`: names, or {name: {covariate: value}}.

    One without values is the model's own of that name, or else takes its covariates from the data. What cannot be
    predicted is refused; what lies outside of the model's covariates is said.
    """
    if not asked:
        raise InputError("environments is empty", "leave it out for those of the model")
    given = asked if isinstance(asked, Mapping) else {name: {} for name in asked}
    what: list[int | dict[str, float]] = []
    for name, values in given.items():
        if not values and name in predictor.environment_names:
            what.append(predictor.environment_names.index(name))
        else:
            what.append(_new(name, dict(values), predictor, dataset))
    return AskedEnvironments(tuple(given), tuple(what))


def _new(name: str, given: dict[str, float], predictor: FittedPredictor, dataset: Dataset) -> dict[str, float]:
    """The covariates of a new environment, from the setting or from the data, checked against the model's."""
    known = predictor.environments
    able = [] if known is None else [one for one, values in known.covariates.items() if np.isfinite(values).any()]
    if known is None or not able:
        raise InputError(
            f"`{name}` is not an environment of the model, and the model knows no covariates of its own environments",
            f"{did_you_mean(name, predictor.environment_names)}; or train it on data with environment covariates",
        )
    needed = predictor.environment_covariates
    values = given or _of_data(name, needed or tuple(able), dataset)
    example = f"environments={{{name}: {{{(needed or tuple(able))[0]}: 29}}}}"
    if not values:
        raise InputError(
            f"`{name}` is not an environment of the model, which knows {listing(predictor.environment_names, 6)}",
            f"give its covariates: {example}",
        )
    for one in values:
        if one not in able:
            raise InputError(f"`{one}` is not a covariate of the model's environments", did_you_mean(one, able))
    if needed and set(values) != set(needed):
        raise InputError(
            f"environments: `{name}` needs {listing(needed)}, which the model is told of environments,"
            f" and has {listing(values)}",
            f"write for instance {example}" if len(needed) == 1 else f"give {listing(needed)} and nothing else",
        )
    for one, value in values.items():
        low, high = np.nanmin(known.covariates[one]), np.nanmax(known.covariates[one])
        if not low <= value <= high:
            log.warning("%s: %s %g is outside of the model's %g to %g: extrapolated", name, one, value, low, high)
    return values


def _of_data(name: str, wanted: Sequence[str], dataset: Dataset) -> dict[str, float]:
    """The covariates that the data know of this environment, of those wanted."""
    if name not in dataset.environment_names:
        return {}
    at = dataset.environment_names.index(name)
    found = {one: float(dataset.covariates[one][at]) for one in wanted if one in dataset.covariates}
    return {one: value for one, value in found.items() if np.isfinite(value)}
