"""The 18 environments of the yeast data and what makes their phenotypes vary. No array library is imported here.

The shares were chosen so that models trained on 72,213 segregants, at the loci that pruning at |r| 0.94 leaves, score
about what was published for the real data (Rijal et al. 2026, figure 3; Arcadia Science 2025): ridge the additive
column, all pairs the additive + pairwise column, with room left above the best of all. They lie above those columns by
what pruned loci do not tag (2 % of the additive, 4 % of the pairwise variance) and by what estimation loses, from the
learning curve of Gaussian-process regression. `scripts/yeast_synthetic_table` shows how near it comes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VarianceShares:
    """Shares of the variance of the measured phenotype of an environment, by epistasis order; the rest is noise."""

    additive: float
    pairwise: float
    third_order: float

    @property
    def heritability(self) -> float:
        """H2, broad-sense: the share of all genetic terms together."""
        return round(self.additive + self.pairwise + self.third_order, 12)  # 1 is 1: no noise at all

    def of_order(self, order: int) -> float:
        """The share of one epistasis order: 1 additive, 2 pairwise, 3 third order."""
        return (self.additive, self.pairwise, self.third_order)[order - 1]


@dataclass(frozen=True)
class Environment:
    """One environment; `temperature` (degrees Celsius) is None where it is a medium or a drug."""

    temperature: float | None
    shares: VarianceShares
    missing: float  # fraction of samples without a phenotype


# In the order of the published phenotype tables.
ENVIRONMENTS = {
    "23C": Environment(23.0, VarianceShares(0.585, 0.089, 0.020), 0.016),
    "25C": Environment(25.0, VarianceShares(0.597, 0.085, 0.020), 0.014),
    "27C": Environment(27.0, VarianceShares(0.598, 0.085, 0.020), 0.012),
    "30C": Environment(30.0, VarianceShares(0.592, 0.077, 0.020), 0.010),
    "33C": Environment(33.0, VarianceShares(0.590, 0.088, 0.020), 0.013),
    "35C": Environment(35.0, VarianceShares(0.520, 0.122, 0.020), 0.015),
    "37C": Environment(37.0, VarianceShares(0.505, 0.134, 0.020), 0.018),
    "cu": Environment(None, VarianceShares(0.577, 0.055, 0.023), 0.020),
    "suloc": Environment(None, VarianceShares(0.600, 0.074, 0.020), 0.017),
    "ynb": Environment(None, VarianceShares(0.443, 0.132, 0.020), 0.014),
    "eth": Environment(None, VarianceShares(0.583, 0.046, 0.020), 0.019),
    "gu": Environment(None, VarianceShares(0.523, 0.117, 0.020), 0.022),
    "li": Environment(None, VarianceShares(0.587, 0.080, 0.020), 0.016),
    "mann": Environment(None, VarianceShares(0.535, 0.122, 0.020), 0.018),
    "mol": Environment(None, VarianceShares(0.549, 0.126, 0.020), 0.015),
    "raff": Environment(None, VarianceShares(0.610, 0.097, 0.020), 0.013),
    "sds": Environment(None, VarianceShares(0.588, 0.109, 0.020), 0.021),
    "4NQO": Environment(None, VarianceShares(0.535, 0.159, 0.020), 0.024),
}
TEMPERATURES = {name: found.temperature for name, found in ENVIRONMENTS.items() if found.temperature is not None}
