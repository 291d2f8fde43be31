"""Samples as a model is fitted to them, with the coding and the scale that turn its predictions into phenotypes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import GenotypeCoding, PhenotypeScale, Samples
from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.covariate_projection import project_out
from gpmap_cli.dataset.disk_genotypes import select_rows
from gpmap_cli.dataset.fixed_effects import FixedEffects
from gpmap_cli.dataset.reaction_norms import KnownEnvironments
from gpmap_cli.models.base import Model
from gpmap_cli.run_dir.predictor import FittedPredictor


@dataclass(frozen=True)
class FitSamples:
    """Training and validation samples, and all that was learned on the way to them; `said` is for the log."""

    train: Samples
    validation: Samples
    coding: GenotypeCoding
    scale: PhenotypeScale
    fixed: FixedEffects | None
    locus_ids: tuple[str, ...]
    environments: KnownEnvironments
    said: list[str]

    @property
    def environment_names(self) -> tuple[str, ...]:
        return self.environments.names

    def predictor(self, model: Model) -> FittedPredictor:
        """The model, once fitted, with what it needs to predict phenotypes in their own units."""
        return FittedPredictor(
            *(model, self.coding, self.scale, self.locus_ids, self.environment_names, self.fixed, self.environments)
        )


def fit_samples(
    dataset: Dataset,
    train: NDArray[np.intp],
    validation: NDArray[np.intp],
    factors: tuple[str, ...],
    coding_rows: NDArray[np.intp] | None = None,
) -> FitSamples:
    """Code the genotypes, project covariates out and standardise, all learned on the training rows.

    coding_rows: the rows whose genotypes decide on the coding, and whose covariates on the projection; those that
    train unless given. Only the training rows decide on the scale.
    """
    deciding = train if coding_rows is None else coding_rows
    coding = GenotypeCoding.learn(select_rows(dataset.genotypes, deciding), dataset.ploidy)
    whole, phenotypes, fixed, said = project_out(dataset, coding, factors, deciding)
    scale = PhenotypeScale.learn(phenotypes[train])
    train_samples, validation_samples = (
        Samples(
            whole.take(rows),
            scale.standardise(phenotypes[rows]),
            None if dataset.phenotype_std is None else dataset.phenotype_std[rows] / scale.std,
        )
        for rows in (train, validation)
    )
    locus_ids = tuple(map(str, dataset.locus_ids.tolist()))
    environments = KnownEnvironments.learn(
        dataset.environment_names, dataset.covariates, scale, train_samples.phenotypes
    )
    return FitSamples(train_samples, validation_samples, coding, scale, fixed, locus_ids, environments, said)
