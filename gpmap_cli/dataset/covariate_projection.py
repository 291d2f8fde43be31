"""A dataset's genotypes and phenotypes without what its covariates explain of them in the training samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes, GenotypeCoding, Projection
from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.fixed_effects import (
    FixedEffects,
    effects_on_genotypes,
    effects_on_phenotypes,
    learn_covariates,
)


def project_out(
    dataset: Dataset, coding: GenotypeCoding, factors: tuple[str, ...], train: NDArray[np.intp]
) -> tuple[CodedGenotypes, NDArray[np.float64], FixedEffects | None, list[str]]:
    """All coded genotypes and phenotypes (N, E) less the covariates, what these explain, and a line that says so.

    factors: the covariates that are categories. Without covariates, genotypes and phenotypes are as they were.
    """
    whole, phenotypes = CodedGenotypes(dataset.genotypes, coding), dataset.phenotypes.astype(np.float64)
    values = dataset.sample_covariates
    if not values:
        return whole, phenotypes, None, []
    covariates = learn_covariates(values, factors, train)
    design = FixedEffects(covariates, np.zeros((0, 0)), np.zeros((0, 0))).design(values, dataset.num_samples)
    fixed = FixedEffects(
        covariates,
        effects_on_phenotypes(design[train], phenotypes[train]),
        effects_on_genotypes(design[train], whole.take(train)),
    )
    missing = {name: int(np.isnan(column).sum()) for name, column in values.items()}
    shown = ", ".join(f"{name} ({missing[name]} missing)" if missing[name] else name for name in values)
    projected = CodedGenotypes(dataset.genotypes, coding, Projection(design, fixed.of_genotypes))
    line = f"covariates projected out of phenotypes and genotypes: {shown}"
    return projected, phenotypes - design @ fixed.of_phenotypes, fixed, [line]
