"""Reaction norms: how phenotypes change with what is known of an environment in numbers (temperature, dose).

A genotype's phenotype, in its own units, is a polynomial of the environment's covariates whose coefficients are the
genotype's own (random regression; Kirkpatrick et al. 1990 Genetics 124:979, Jarquin et al. 2014 TAG 127:595). Then the
phenotype at new covariates is the same linear combination of the phenotypes in known environments for every genotype,
whatever its additive and epistatic effects are, as long as each of them is such a polynomial:

    y(e') = sum_e w_e(e') y(e),  w(e') = phi(e') (Phi' S^-2 Phi)^-1 Phi' S^-2,

phi the monomials of the standardised covariates, Phi (E, K) those of the known environments, S their phenotypic
standard deviations: least squares with equal weight for the standardised phenotypes of every environment. The weights
sum to one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import PhenotypeScale
from gpmap_cli.errors import InputError, did_you_mean, listing

MOST_DEGREES = 3
_ARRAYS = ("covariates", "std", "correlation")
_INDEPENDENT = 1e-6  # a monomial whose part of its own is smaller than this, relative to itself, says nothing new


@dataclass(frozen=True)
class ReactionNorms:
    """Polynomials up to `degree` through known environments: covariates (E', P), std (E',), correlation."""

    covariates: NDArray[np.float64]
    std: NDArray[np.float64]
    correlation: NDArray[np.float64]
    degree: int

    def state(self) -> dict[str, NDArray]:
        """As arrays."""
        numbers = (self.covariates, self.std, self.correlation)
        return dict(zip(_ARRAYS, numbers, strict=True)) | {"degree": np.array(self.degree)}

    @classmethod
    def from_state(cls, state: dict[str, NDArray]) -> ReactionNorms:
        covariates, std, correlation = (state[name] for name in _ARRAYS)
        return cls(covariates, std, correlation, int(state["degree"]))

    @cached_property
    def centre(self) -> NDArray[np.float64]:
        return self.covariates.mean(axis=0)

    @cached_property
    def spread(self) -> NDArray[np.float64]:
        spread = self.covariates.std(axis=0)
        return np.where(spread > 0, spread, 1.0)

    def standardised(self, covariates: NDArray) -> NDArray[np.float64]:
        """Covariates (n, P) less their mean over the known environments, over their standard deviation there."""
        return (covariates - self.centre) / self.spread

    @cached_property
    def _monomials(self) -> list[tuple[int, ...]]:
        """Those independent in the known environments, by ascending degree; each as the covariates it multiplies."""
        known, found = self.standardised(self.covariates), []
        basis = np.zeros((len(known), 0))
        for degree in range(self.degree + 1):
            for factors in combinations_with_replacement(range(known.shape[1]), degree):
                column = known[:, factors].prod(axis=1)
                rest = column - basis @ (basis.T @ column)
                size = np.linalg.norm(rest)
                if size > _INDEPENDENT * max(1.0, float(np.linalg.norm(column))):
                    found.append(factors)
                    basis = np.column_stack([basis, rest / size])
        return found

    def _design(self, covariates: NDArray) -> NDArray[np.float64]:
        """phi, (n, K)."""
        standardised = self.standardised(covariates)
        return np.stack([standardised[:, factors].prod(axis=1) for factors in self._monomials], axis=1)

    def basis(self) -> NDArray[np.float64]:
        """Orthogonal columns (E, K) of mean square one that span S^-1 Phi, reaction norms in standardised units."""
        columns, _ = np.linalg.qr(self._design(self.covariates) / self.std[:, None])
        return columns * np.sqrt(len(columns))

    def coordinates(self, covariates: NDArray) -> NDArray[np.float64]:
        """Environments of these covariates (n, P) as unit vectors (n, K) whose products are their correlations.

        A genotype's standardised phenotype is linear in them, with the same coefficients in all environments, if its
        reaction norm is a polynomial: rows of phi (G)^1/2, G (K, K) the covariance of the polynomials' coefficients.
        """
        inverse = np.linalg.pinv(self._design(self.covariates) / self.std[:, None])
        size, vectors = np.linalg.eigh(inverse @ self.correlation @ inverse.T)
        rows = self._design(covariates) @ (vectors * np.sqrt(np.maximum(size, 0.0)))
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(float).tiny)

    def weights(self, covariates: NDArray) -> NDArray[np.float64]:
        """w (n, E): what each known environment's phenotype, in its own units, counts at these covariates (n, P)."""
        known = self._design(self.covariates) / self.std[:, None]
        return (self._design(covariates) @ np.linalg.pinv(known)) / self.std

    def left_out_errors(self) -> NDArray[np.float64]:
        """Of each environment (E,): the squared error of predicting it from the others' phenotypes, over its variance.

        At most one, what its mean alone would leave.
        """
        found = []
        for at in range(len(self.std)):
            others = np.arange(len(self.std)) != at
            part = ReactionNorms(
                self.covariates[others],
                self.std[others],
                self.correlation[np.ix_(others, others)],
                self.degree,
            )
            weights = np.zeros(len(self.std))
            weights[others] = -(part.weights(self.covariates[at : at + 1])[0] * self.std[others] / self.std[at])
            weights[at] = 1.0
            found.append(min(1.0, float(weights @ self.correlation @ weights)))
        return np.array(found)


@dataclass(frozen=True)
class KnownEnvironments:
    """What is known of the environments of a fit: covariates by name (E,), NaN where not known, and their phenotypes.

    correlation (E, E): of the training phenotypes, over the samples measured in both; one where there are too few.
    """

    names: tuple[str, ...]
    covariates: dict[str, NDArray[np.float64]]
    scale: PhenotypeScale
    correlation: NDArray[np.float64]

    @classmethod
    def learn(
        cls,
        names: tuple[str, ...],
        covariates: Mapping[str, NDArray[np.float64]],
        scale: PhenotypeScale,
        standardised: NDArray[np.float64],
    ) -> KnownEnvironments:
        """From the standardised training phenotypes (N, E), NaN missing."""
        known = (~np.isnan(standardised)).astype(np.float64)
        values = np.where(known > 0, standardised, 0.0)
        count, cross = known.T @ known, values.T @ values
        # Over the samples measured in both: sums of each environment's values and squares in the other's samples.
        sums, squares = values.T @ known, (values**2).T @ known
        with np.errstate(all="ignore"):
            covariance = cross / count - (sums / count) * (sums.T / count)
            variance = squares / count - (sums / count) ** 2
            correlation = covariance / np.sqrt(variance * variance.T)
        correlation = np.where((count >= 3) & np.isfinite(correlation), np.clip(correlation, -1, 1), 1.0)
        np.fill_diagonal(correlation, 1.0)
        return cls(names, {name: np.asarray(one, float) for name, one in covariates.items()}, scale, correlation)

    def columns(self, covariates: tuple[str, ...], prefix: str) -> NDArray[np.float64]:
        """Values (E, P) of these covariates, NaN where not known. One that no environment has is refused."""
        able = [name for name, values in self.covariates.items() if np.isfinite(values).any()]
        for name in covariates:
            if name not in able:
                have = f"these have {listing(able)}" if able else "these have none"
                hint = did_you_mean(name, able, prefix) if able else ""
                raise InputError(
                    f"`{name}` is not a covariate of the environments; {have}",
                    hint or "give it: data.environment_covariates={ENVIRONMENT: {" + name + ": 23}, ...}",
                )
        return np.stack([self.covariates[name] for name in covariates], axis=1)

    def whole_norms(self, covariates: tuple[str, ...], degree: int | None = None) -> ReactionNorms:
        """Reaction norms through every environment; one whose covariates are not known is refused."""
        values = self.columns(covariates, "model.environment_covariates=")
        for at, name in enumerate(self.names):
            for column, covariate in enumerate(covariates):
                if not np.isfinite(values[at, column]):
                    raise InputError(
                        f"environment `{name}` has no `{covariate}`",
                        "leave it out with data.environments=[...], or give it with"
                        f" data.environment_covariates={{{name}: {{{covariate}: 23}}}}",
                    )
        return self._norms(values, np.arange(len(values)), degree)

    def norms(self, covariates: tuple[str, ...], degree: int | None = None) -> tuple[ReactionNorms, NDArray[np.intp]]:
        """Reaction norms through the environments whose covariates are known, and which these are."""
        values = self.columns(covariates, "")
        rows = np.flatnonzero(np.isfinite(values).all(axis=1))
        if len(rows) == 0:
            raise InputError(f"no environment of the model has all of {listing(covariates)}", "name fewer covariates")
        return self._norms(values, rows, degree), rows

    def _norms(self, values: NDArray[np.float64], rows: NDArray[np.intp], degree: int | None) -> ReactionNorms:
        """Of the degree asked for, or else the one that predicts environments best from the others' phenotypes.

        Leaving one out needs a further environment, so with three or fewer the degree is the highest that they have.
        """

        def made(chosen: int) -> ReactionNorms:
            correlation = self.correlation[np.ix_(rows, rows)]
            return ReactionNorms(values[rows], self.scale.std[rows], correlation, chosen)

        highest = min(len(rows) - 1, MOST_DEGREES)
        if degree is not None or len(rows) <= 3:
            return made(highest if degree is None else min(degree, highest))
        candidates = [made(one) for one in range(1, min(len(rows) - 2, MOST_DEGREES) + 1)]
        return min(candidates, key=lambda one: float(one.left_out_errors().mean()))

    def state(self) -> dict[str, NDArray]:
        """As arrays; names and scale are kept elsewhere."""
        covariates = {f"covariate/{name}": values for name, values in self.covariates.items()}
        return {"correlation": self.correlation, **covariates}

    @classmethod
    def from_state(cls, names: tuple[str, ...], scale: PhenotypeScale, state: dict[str, NDArray]) -> KnownEnvironments:
        prefix = "covariate/"
        covariates = {name.removeprefix(prefix): one for name, one in state.items() if name.startswith(prefix)}
        return cls(names, covariates, scale, state["correlation"])
