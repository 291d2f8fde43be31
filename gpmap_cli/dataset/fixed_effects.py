"""Fixed effects of covariates (sex, batch, plate, principal components), projected out of phenotypes and genotypes.

With C (n x q) the covariates of the training samples, numbers as they are and factors as indicators of their levels,
all minus their training means, phenotypes become y - C b, b = (C'C)^-1 C'y over the samples measured, and coded
genotypes x - C G, G = (C'C)^-1 C'X. Regressing the one on the other gives the effects of loci that a joint fit of loci
and unpenalised covariates gives (Frisch and Waugh 1933; Lovell 1963). The mean is the covariate of everyone. In other
samples the same b and G apply; a covariate that they lack, or a level never trained on, is taken at the training mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.errors import InputError

if TYPE_CHECKING:
    from gpmap_cli.dataset.coding import CodedGenotypes

_MOST_LEVELS = 500
_BLOCK_VALUES = 2**22


@dataclass(frozen=True)
class Covariate:
    """One covariate: its name, its training mean, and the levels of a factor (empty for a number)."""

    name: str
    levels: tuple[float, ...]
    mean: tuple[float, ...]

    def columns(self, values: NDArray[np.float64] | None, num_samples: int) -> NDArray[np.float64]:
        """(N, q) of these values (N,), minus the training mean; 0 where there is no value."""
        width = len(self.mean)
        if values is None:
            return np.zeros((num_samples, width))
        if not self.levels:
            return np.where(np.isnan(values), 0.0, values - self.mean[0])[:, None]
        made = np.equal(values[:, None], np.array(self.levels)[None, :]).astype(np.float64)
        known = made.any(axis=1)
        made -= np.array(self.mean)
        made[~known] = 0.0
        return made


@dataclass(frozen=True)
class FixedEffects:
    """Covariates with their effects on phenotypes, (q, E), and on coded genotypes, (q, L)."""

    covariates: tuple[Covariate, ...]
    of_phenotypes: NDArray[np.float64]
    of_genotypes: NDArray[np.float64]

    def design(self, values: Mapping[str, NDArray[np.float64]], num_samples: int) -> NDArray[np.float64]:
        """C (N, q) of these samples."""
        parts = [one.columns(values.get(one.name), num_samples) for one in self.covariates]
        return np.concatenate([np.zeros((num_samples, 0)), *parts], axis=1)

    def state(self) -> tuple[dict[str, NDArray], list[dict[str, Any]]]:
        """Arrays, and JSON-like facts."""
        facts = [{"name": one.name, "levels": list(one.levels), "mean": list(one.mean)} for one in self.covariates]
        return {"of_phenotypes": self.of_phenotypes, "of_genotypes": self.of_genotypes}, facts

    @classmethod
    def from_state(cls, arrays: Mapping[str, NDArray], facts: list[dict[str, Any]]) -> FixedEffects:
        covariates = tuple(
            Covariate(str(one["name"]), tuple(map(float, one["levels"])), tuple(map(float, one["mean"])))
            for one in facts
        )
        return cls(covariates, arrays["of_phenotypes"], arrays["of_genotypes"])


def learn_covariates(
    values: Mapping[str, NDArray[np.float64]], factors: tuple[str, ...], train: NDArray[np.intp]
) -> tuple[Covariate, ...]:
    """From the training samples' values. A covariate that does not vary among them is refused."""
    found = []
    for name, column in values.items():
        known = column[train][~np.isnan(column[train])]
        levels = np.unique(known)
        if len(levels) < 2:
            raise InputError(
                f"covariate `{name}` does not vary among the training samples", "leave it out, or use another split"
            )
        if name not in factors:
            found.append(Covariate(name, (), (float(known.mean()),)))
            continue
        if len(levels) > _MOST_LEVELS:
            raise InputError(
                f"factor `{name}` has {len(levels)} levels", "is it a number? then name it in data.covariates"
            )
        shares = np.equal(known[:, None], levels[None, :]).mean(axis=0)
        found.append(Covariate(name, tuple(levels.tolist()), tuple(shares.tolist())))
    return tuple(found)


def effects_on_phenotypes(design: NDArray[np.float64], phenotypes: NDArray[np.float64]) -> NDArray[np.float64]:
    """b (q, E) by least squares with an intercept, of the training samples; each environment over those measured."""
    effects = np.zeros((design.shape[1], phenotypes.shape[1]))
    for e, y in enumerate(phenotypes.T):
        known = ~np.isnan(y)
        if known.sum() > 1:
            centred = design[known] - design[known].mean(axis=0)
            effects[:, e] = np.linalg.lstsq(centred, y[known] - y[known].mean(), rcond=1e-10)[0]
    return effects


def effects_on_genotypes(design: NDArray[np.float64], genotypes: CodedGenotypes) -> NDArray[np.float64]:
    """G (q, L) of the training samples, in row blocks."""
    centred = design - design.mean(axis=0)
    product = np.zeros((design.shape[1], genotypes.num_loci))
    step = max(1, _BLOCK_VALUES // max(1, genotypes.num_loci))
    for start in range(0, len(genotypes), step):
        rows = slice(start, min(start + step, len(genotypes)))
        product += centred[rows].T @ genotypes.rows(rows)
    return np.asarray(np.linalg.pinv(centred.T @ centred, rcond=1e-10, hermitian=True) @ product)
