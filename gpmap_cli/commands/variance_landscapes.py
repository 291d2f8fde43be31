"""Environments that are complete landscapes: which are, why others are not, and what the transform says of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.complete_landscape import CompleteLandscape, find_landscape
from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.errors import InputError, one_line
from gpmap_cli.variance.components import VarianceComponents, component_names
from gpmap_cli.variance.landscape_correlation import LandscapeCorrelation, landscape_correlation
from gpmap_cli.variance.landscape_variance import METHOD, LandscapeVariance, landscape_variance

log = logging.getLogger("gpmap")

_MOST_UNEVEN = 0.01  # what it does to a share is no more than about that


@dataclass(frozen=True)
class Landscapes:
    """What is exact: of environments that are complete landscapes, by number, and of pairs (e, f), e > f, of them.

    why_not: of every environment why the transform was not used; None where it was, or another method was asked for.
    landscape: the genotypes and loci of all where it was.
    """

    why_not: tuple[str | None, ...]
    landscape: CompleteLandscape | None = None
    found: dict[int, LandscapeVariance] = field(default_factory=dict)
    correlations: dict[tuple[int, int], LandscapeCorrelation] = field(default_factory=dict)

    def put_into(self, components: VarianceComponents, max_order: int) -> VarianceComponents:
        """The components of all environments, with what is exact in place of what was estimated."""
        if not self.found:
            return components
        which = np.array(list(self.found), dtype=np.intp)
        both = [one.components(max_order) for one in self.found.values()]
        exact = replace(
            components.of(which),
            variance=np.stack([variance for variance, _ in both]),
            std_error=np.stack([error for _, error in both]),
            total=np.array([one.total for one in self.found.values()]),
            parameter=np.full((len(which), max_order + 1), np.nan),
        )
        correlation, error = components.correlation.copy(), components.correlation_std_error.copy()
        for (e, f), one in self.correlations.items():
            correlation[e, f] = correlation[f, e] = one.correlation[0]
            error[e, f] = error[f, e] = one.std_error[0]
        found = components.with_variances_of(which, exact)
        return replace(found, correlation=correlation, correlation_std_error=error)


def find_landscapes(dataset: Dataset, root: Any) -> Landscapes:
    """Of every environment that is a complete landscape the variance by order, unless another method is asked for.

    method=auto leaves out those with some genotypes in many more samples than others: the variance in the samples,
    which the other methods estimate, is another one than that of all genotypes.
    Raises InputError where method=walsh_hadamard and an environment is no complete landscape.
    """
    names = [one_line(name, 40) for name in dataset.environment_names]
    if root.method not in ("auto", "walsh_hadamard"):
        return Landscapes((None,) * len(names))
    landscape = _landscape(dataset, root)
    if isinstance(landscape, str):
        if root.method == "walsh_hadamard":
            raise _refused(f"this is no complete landscape: {landscape}")
        log.info("no Walsh-Hadamard transform: %s", landscape)
        return Landscapes((landscape,) * len(names))
    why_not = tuple(landscape.why_not_measured(column) for column in dataset.phenotypes.T)
    refused = [f"{name} is no complete landscape: {why}" for name, why in zip(names, why_not, strict=True) if why]
    if refused and root.method == "walsh_hadamard":
        raise _refused("; ".join(refused))
    if root.method == "auto":
        why_not = tuple(
            why or _why_other_variance(landscape, column)
            for why, column in zip(why_not, dataset.phenotypes.T, strict=True)
        )
        refused = [
            f"{name}: no Walsh-Hadamard transform, {why}" for name, why in zip(names, why_not, strict=True) if why
        ]
    found = {}
    for e, name in enumerate(names):
        if why_not[e] is None:
            errors = None if dataset.phenotype_std is None else dataset.phenotype_std[:, e]
            found[e] = landscape_variance(landscape, dataset.phenotypes[:, e], errors, root.order)
            noise = found[e].noise
            log.info(
                "%s is a complete landscape, all %s genotypes of %d loci: Walsh-Hadamard transform; noise: %s",
                *(name, f"{landscape.num_genotypes:,}", landscape.num_loci),
                "not known" if noise is None else noise.source,
            )
    for line in refused:
        log.info("%s", line)
    pairs = {(e, f): landscape_correlation(found[e], found[f]) for e in found for f in found if f < e}
    return Landscapes(why_not, landscape, found, pairs)


def _why_other_variance(landscape: CompleteLandscape, phenotypes: NDArray) -> str | None:
    """Why the variance in these samples is not that of all genotypes, each counted once; None where it nearly is."""
    if landscape.unevenness(phenotypes) <= _MOST_UNEVEN:
        return None
    count = landscape.num_measured(phenotypes)
    return (
        f"its genotypes have {count.min():,} to {count.max():,} samples"
        " (method=walsh_hadamard counts each genotype once)"
    )


def nothing_estimated(num_environments: int, max_order: int) -> VarianceComponents:
    """Components that are all to be put in."""
    unknown = np.full((num_environments, max_order + 1), np.nan)
    between = np.full((num_environments, num_environments), np.nan)
    names = component_names(max_order)
    return VarianceComponents(names, unknown, unknown, unknown[:, 0], unknown, between, between, METHOD)


def _landscape(dataset: Dataset, root: Any) -> CompleteLandscape | str:
    if root.weighted:
        return "weighted=true, and the transform weighs all genotypes alike"
    if dataset.sample_covariates:
        return "covariates are projected out"
    return find_landscape(dataset)


def _refused(what: str) -> InputError:
    return InputError(
        f"method=walsh_hadamard needs phenotypes of all 2^L genotypes; {what}",
        "leave method out: then each environment takes the best method that it allows",
    )
