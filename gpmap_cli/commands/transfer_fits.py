"""Fits of a transfer study, each given no more of the target's phenotypes than it may use.

What a fit must not see is not in the data that it gets: the target's phenotypes but for the chosen ones, in training
and validation rows, and every phenotype of the test rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli import models
from gpmap_cli.commands.fitting import FitSamples, fit_samples
from gpmap_cli.config.schema import Config
from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.splits import TEST, TRAIN, VALIDATION, Labels
from gpmap_cli.errors import InputError, listing
from gpmap_cli.models.base import Model
from gpmap_cli.random_streams import stream
from gpmap_cli.run_dir.predictor import FittedPredictor
from gpmap_cli.training.context import FitContext

UNSEEN = "unseen"  # the target by its covariates, from the others alone
METHODS = ("joint", "fine_tune", "multi_ridge", "alone", "ridge")
# Of every five phenotypes of the target, where a method fitted to it alone chooses by validation, one validates.
_EVERY, _WHICH = 5, 2

MakeContext = Callable[[tuple[str, ...]], FitContext]


def possible_methods(model_name: str) -> tuple[list[str], list[str]]:
    """The methods that make sense for a model, and why others do not."""
    kind = models.model_class(model_name)
    left_out = []
    found = [method for method in METHODS if method not in ("ridge", "multi_ridge") or method in models.names()]
    if not kind.joint_environments:
        left_out.append(f"joint: `{model_name}` fits each environment by itself")
        found.remove("joint")
    if not (kind.joint_environments and kind.can_start):
        left_out.append(f"fine_tune: `{model_name}` does not begin from the weights of another fit")
        found.remove("fine_tune")
    for method, same_as in (("multi_ridge", "joint"), ("ridge", "alone")):
        if model_name == method:
            left_out.append(f"{method}: that is what `{same_as}` is")
            found.remove(method)
    return found, left_out


def chosen_methods(
    model_name: str, wanted: tuple[str, ...] | None, by_covariates: bool = False
) -> tuple[list[str], list[str]]:
    """The methods of a study, and what is to be said of those left out. One asked for that cannot be is refused.

    by_covariates: the model is told of environments by them, so that a target that it has not seen makes sense.
    """
    possible, left_out = possible_methods(model_name)
    if wanted is None:
        return [UNSEEN, *possible] if by_covariates else possible, left_out
    for method in wanted:
        # Asked for by name, the same fit twice over is no error.
        if method not in possible and method in ("joint", "fine_tune"):
            why = next(line for line in left_out if line.startswith(method))
            able = [name for name in models.names() if method in possible_methods(name)[0]]
            raise InputError(f"methods: {why}", f"leave it out, or use another model: {listing(able)}")
    return [method for method in (UNSEEN, *METHODS) if method in wanted], []


@dataclass(frozen=True)
class TargetData:
    """A dataset of whose target (a column) only the phenotypes of chosen training rows are given out."""

    hidden: Dataset
    target: int
    train: NDArray[np.intp]
    validation: NDArray[np.intp]
    measured: NDArray[np.intp]
    known: NDArray[np.float32]
    seed: int

    @classmethod
    def of(cls, dataset: Dataset, labels: Labels, target: str, seed: int) -> TargetData:
        column = dataset.environment_names.index(target)
        train, validation, test = (np.flatnonzero(labels == part) for part in (TRAIN, VALIDATION, TEST))
        measured = train[~np.isnan(dataset.phenotypes[train, column])]
        phenotypes = dataset.phenotypes.copy()
        phenotypes[:, column] = np.nan
        phenotypes[test] = np.nan
        known = dataset.phenotypes[measured, column]
        hidden = replace(dataset, phenotypes=phenotypes, truth={}, splits={}, folds={})
        return cls(hidden, column, train, validation, measured, known, seed)

    @property
    def target_name(self) -> str:
        return self.hidden.environment_names[self.target]

    def chosen(self, num_target: int, repeat: int) -> NDArray[np.intp]:
        """The training rows whose target phenotype may be used; a smaller number's are the first of a larger's."""
        return self.measured[self._order(repeat)[:num_target]]

    def _order(self, repeat: int) -> NDArray[np.intp]:
        return stream(self.seed, "transfer", "subset", repeat).permutation(len(self.measured))

    def with_target(self, num_target: int, repeat: int) -> Dataset:
        """All environments, the target's chosen phenotypes among them."""
        order = self._order(repeat)[:num_target]
        phenotypes = self.hidden.phenotypes.copy()
        phenotypes[self.measured[order], self.target] = self.known[order]
        return replace(self.hidden, phenotypes=phenotypes)

    def without_target(self) -> Dataset:
        return _environments(self.hidden, [at for at in range(len(self.hidden.environment_names)) if at != self.target])

    def only_target(self, num_target: int, repeat: int) -> Dataset:
        return _environments(self.with_target(num_target, repeat), [self.target])


def _environments(dataset: Dataset, columns: list[int]) -> Dataset:
    return replace(
        dataset,
        phenotypes=dataset.phenotypes[:, columns],
        phenotype_std=None if dataset.phenotype_std is None else dataset.phenotype_std[:, columns],
        environment_names=tuple(dataset.environment_names[at] for at in columns),
        covariates={name: values[columns] for name, values in dataset.covariates.items()},
    )


Column = int | dict[str, float]  # of a predictor's own predictions, or a new environment's covariates


class TransferFits:
    """Every fit of a study. `make_context` gives the circumstances of a fit to environments of these names."""

    def __init__(self, data: TargetData, config: Config, make_context: MakeContext) -> None:
        self._data, self._config, self._make_context = data, config, make_context
        self._factors: tuple[str, ...] = getattr(config.data, "factors", None) or ()

    def pretrained(self) -> dict[str, NDArray]:
        """The state of the chosen model, fitted to the other environments with all that they have."""
        return self._fit(self._config.model, self._without_target(), self._config.root.seed).state()

    def fit(
        self, method: str, num_target: int, repeat: int, start: dict[str, NDArray] | None
    ) -> tuple[FittedPredictor, Column]:
        """The fitted model and what the target is to it. `start` is what fine_tune begins from."""
        settings = self._config.model
        column: Column
        if method in ("ridge", "multi_ridge"):
            settings = models.settings_class(method)()
        if method == UNSEEN:
            samples, column = self._without_target(), self._covariates_of_target()
        elif method in ("joint", "multi_ridge"):
            samples, column = self._jointly(num_target, repeat), self._data.target
        else:
            samples, column = self._alone(settings, num_target, repeat), 0
        # Weights and batches of a repeat are drawn anew too: the intervals are over all that is random.
        seed = int(stream(self._data.seed, "transfer", "fit", repeat).integers(2**31))
        return samples.predictor(self._fit(settings, samples, seed, start)), column

    def _without_target(self) -> FitSamples:
        data = self._data
        return fit_samples(data.without_target(), data.train, data.validation, self._factors)

    def _covariates_of_target(self) -> dict[str, float]:
        """All that the data know of it, or those that the model is told."""
        data = self._data
        chosen = getattr(self._config.model, "environment_covariates", None)
        values = {name: float(column[data.target]) for name, column in data.hidden.covariates.items()}
        known = {name: value for name, value in values.items() if np.isfinite(value)}
        absent = [name for name in chosen or () if name not in known]
        if absent or not known:
            raise InputError(
                f"`{data.target_name}` has no {listing(absent) if absent else 'covariates'}, by which it could be"
                " predicted unseen",
                f"give it with data.environment_covariates={{{data.target_name}: {{temperature: 29}}}}, or leave the"
                " method unseen out",
            )
        return known if chosen is None else {name: known[name] for name in chosen}

    def _jointly(self, num_target: int, repeat: int) -> FitSamples:
        data = self._data
        return fit_samples(data.with_target(num_target, repeat), data.train, data.validation, self._factors)

    def _alone(self, settings: Any, num_target: int, repeat: int) -> FitSamples:
        """Training rows, and of them a fifth that validates where something is chosen by validation.

        Genotypes are coded as by all training rows, like those of the fit that fine_tune begins from.
        """
        data = self._data
        rows = data.chosen(num_target, repeat)
        validates = np.arange(num_target) % _EVERY == _WHICH
        if not models.model_class(settings.name).needs_validation(settings):
            validates[:] = False
        dataset = data.only_target(num_target, repeat)
        return fit_samples(dataset, rows[~validates], rows[validates], self._factors, coding_rows=data.train)

    def _fit(self, settings: Any, samples: FitSamples, seed: int, start: dict[str, NDArray] | None = None) -> Model:
        context = self._make_context(samples.environment_names)
        context.seed, context.start, context.environments = seed, start, samples.environments
        if start is not None:
            rate = context.training.learning_rate * self._config.root.fine_tune_rate
            context.training = replace(context.training, learning_rate=rate)
        model = models.model_class(settings.name)(settings)
        model.fit(samples.train, samples.validation, context)
        return model
