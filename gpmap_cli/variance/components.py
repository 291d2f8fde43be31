"""Variance components of environments, and genetic correlations between them, with their standard errors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

_NORMAL_QUANTILE = 1.959963984540054


@dataclass(frozen=True)
class VarianceComponents:
    """The variance that each component explains in each environment, in the units of the phenotypes squared.

    variance, std_error: (E, C), components in the order of `names`, the residual last. total: (E,) the variance of
    the phenotypes, to which the components add up but for their covariance in these samples. parameter: (E, C) the
    coefficient of each kernel in the covariance of the phenotypes, from which penalties follow. correlation,
    correlation_std_error: (E, E), the correlation of additive effects between environments; NaN where a variance is
    not positive.
    """

    names: tuple[str, ...]
    variance: NDArray[np.float64]
    std_error: NDArray[np.float64]
    total: NDArray[np.float64]
    parameter: NDArray[np.float64]
    correlation: NDArray[np.float64]
    correlation_std_error: NDArray[np.float64]
    method: str

    @property
    def share(self) -> NDArray[np.float64]:
        """The share of the variance of the phenotypes, (E, C): of the additive component, narrow heritability.

        NaN where phenotypes do not vary.
        """
        return self.variance / np.where(self.total > 0, self.total, np.nan)[:, None]

    @property
    def share_std_error(self) -> NDArray[np.float64]:
        return self.std_error / np.where(self.total > 0, self.total, np.nan)[:, None]

    @property
    def share_interval(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The 95 % confidence interval of the shares."""
        half = _NORMAL_QUANTILE * self.share_std_error
        return self.share - half, self.share + half

    def in_units(self, scale: NDArray[np.float64]) -> VarianceComponents:
        """The same of phenotypes that were `scale` (E,) times as large."""
        squared = scale[:, None] ** 2
        return replace(
            self,
            variance=self.variance * squared,
            std_error=self.std_error * squared,
            total=self.total * squared[:, 0],
            parameter=self.parameter * squared,
        )

    def of(self, environments: NDArray[np.intp]) -> VarianceComponents:
        """Those of some environments."""
        cells = np.ix_(environments, environments)
        return replace(
            self,
            variance=self.variance[environments],
            std_error=self.std_error[environments],
            total=self.total[environments],
            parameter=self.parameter[environments],
            correlation=self.correlation[cells],
            correlation_std_error=self.correlation_std_error[cells],
        )

    def with_variances_of(self, environments: NDArray[np.intp], others: VarianceComponents) -> VarianceComponents:
        """The same with what `others` says of variances in these environments; correlations stay."""

        def put(mine: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
            found = mine.copy()
            found[environments] = theirs
            return found

        return replace(
            self,
            variance=put(self.variance, others.variance),
            std_error=put(self.std_error, others.std_error),
            total=put(self.total, others.total),
            parameter=put(self.parameter, others.parameter),
        )


def component_names(max_order: int) -> tuple[str, ...]:
    """additive, pairwise, order_3, ..., residual."""
    named = ("additive", "pairwise")
    return (*named[:max_order], *(f"order_{order}" for order in range(3, max_order + 1)), "residual")
