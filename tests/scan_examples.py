"""Small data to scan, and every set of loci tested one by one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from gpmap_cli.dataset.coding import CodedGenotypes, GenotypeCoding
from gpmap_cli.scan.products import locus_major
from gpmap_cli.scan.search import Phenotypes


@dataclass
class Example:
    """Coded genotypes by sample, x (N, L), and by locus; phenotypes y (N, E) with NaN; residuals about their mean."""

    x: np.ndarray
    coded: CodedGenotypes
    genotypes: torch.Tensor
    y: np.ndarray
    phenotypes: Phenotypes

    def score_statistics(self, order, environment, exact=True):
        """z of every set, by its loci, from explicit products; SS as it is, or N_e."""
        known = self.phenotypes.measured[:, environment]
        r = self.phenotypes.residuals[known, environment]
        variance = (r**2).sum() / (len(r) - 1)
        found = {}
        for loci in combinations(range(self.x.shape[1]), order):
            product = self.x[known][:, loci].prod(axis=1)
            spread = ((product - product.mean()) ** 2).sum() if exact else len(r)
            found[loci] = product @ r / np.sqrt(variance * spread) if spread > 1e-9 else 0.0
        return found


def example(arithmetic="int8", ploidy=1, num_samples=403, num_loci=11, seed=0, missing=(0.0, 0.1, 0.3)):
    """Samples whose phenotypes are noise, about a tenth and a third of them missing in the later environments."""
    rng = np.random.default_rng(seed)
    stored = rng.binomial(ploidy, rng.uniform(0.3, 0.7, num_loci), (num_samples, num_loci)).astype(np.int8)
    coded = CodedGenotypes(stored, GenotypeCoding.learn(stored, ploidy))
    y = rng.normal(size=(num_samples, len(missing)))
    y[rng.random(y.shape) < np.array(missing)] = np.nan
    measured = ~np.isnan(y)
    residuals = np.where(measured, y - np.nanmean(y, axis=0), 0.0)
    return Example(
        coded.rows(slice(0, num_samples)),
        coded,
        locus_major(coded, arithmetic, "cpu"),
        y,
        Phenotypes(residuals, measured),
    )


def joint_fit(background, x, loci, y):
    """Coefficient, standard error and t of the product of the loci, over a background (n, b) and all its parts."""
    parts = [x[:, part].prod(axis=1) for size in range(1, len(loci)) for part in combinations(loci, size)]
    before = np.column_stack([background, *parts])
    product = x[:, loci].prod(axis=1)
    left = product - before @ np.linalg.lstsq(before, product, rcond=1e-10)[0]
    rest = y - before @ np.linalg.lstsq(before, y, rcond=1e-10)[0]
    effect = left @ rest / (left @ left)
    df = len(y) - np.linalg.matrix_rank(np.column_stack([before, product]))
    error = np.sqrt(((rest - effect * left) ** 2).sum() / df / (left @ left))
    return effect, error, effect / error, df
