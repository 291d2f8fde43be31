"""Covariances that a kernel regression chooses from, by restricted likelihood, on some samples of an environment.

Each trial costs the number of samples cubed, so the choice goes from coarse to fine: a grid on a few samples, from its
best point a climb there, another on all of them. A bandwidth for each locus (automatic relevance determination, MacKay
1994) starts from the one for all.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.solvers.epistasis_kernels import EpistasisKernels
from gpmap_cli.solvers.genotype_covariance import (
    Covariance,
    GaussianCovariance,
    LocusScale,
    OrdersCovariance,
    coded,
    covariance_matrix,
)
from gpmap_cli.solvers.kernel_regression import DenseSystem, Measured
from gpmap_cli.solvers.restricted_likelihood import GaussianComponents, RestrictedLikelihood, SummedComponents

_COARSE_SIZE = 600
_RARITIES = (0.0, 0.5, 1.0)
_RATES = (-2.5, -1.0, 0.0, 1.0)  # log bandwidth
_RATIOS = (-1.5, 0.5, 2.5, 4.5)  # log (genetic variance / residual variance)
_COARSE_STEPS, _COARSE_STEPS_BY_LOCUS, _FINE_STEPS = 25, 60, 12
_NEGLIGIBLE = 1e-12  # of a phenotype's variance, standardised


@dataclass(frozen=True)
class KernelChoice:
    """Var(g) = s covariance, Var(e) = s penalty."""

    covariance: Covariance
    penalty: float


@dataclass(frozen=True)
class ChoiceSamples:
    """An environment's subset: genotypes (n, L), phenotype (n,), relative noise variance (n,); and, where there are
    any, validation samples."""

    genotypes: CodedGenotypes
    y: torch.Tensor
    noise: torch.Tensor
    validation_genotypes: CodedGenotypes
    validation_y: torch.Tensor

    @property
    def is_constant(self) -> bool:
        return len(self.y) < 3 or float(self.y.var(correction=0)) < _NEGLIGIBLE

    @property
    def has_validation(self) -> bool:
        return len(self.validation_y) > 1

    def coarse(self) -> ChoiceSamples:
        few = np.arange(min(len(self.y), _COARSE_SIZE))
        return ChoiceSamples(
            self.genotypes.take(few),
            self.y[: len(few)],
            self.noise[: len(few)],
            self.validation_genotypes,
            self.validation_y,
        )

    def validation_error(self, choice: KernelChoice) -> float:
        """Mean squared error in the validation samples of a fit to the subset."""
        measured = Measured(self.genotypes, self.y[:, None], self.noise[:, None])
        solution = DenseSystem(choice.covariance, measured).solve(np.array([choice.penalty]))
        cross = torch.empty(len(self.validation_y), len(self.y), dtype=torch.float64, device=self.y.device)
        covariance_matrix(choice.covariance, self.validation_genotypes, self.genotypes, cross)
        return float(((self.validation_y[:, None] - solution.predict(cross)) ** 2).mean())


@dataclass(frozen=True)
class GaussianFamily:
    """Bandwidth for all loci (fixed where given) or each; with or without an additive component.

    rarity: how much more loci with rare alleles weigh (`LocusScale.unit`); None: what has the largest likelihood.
    """

    scale: LocusScale
    additive: bool
    rarity: float | None = None
    by_locus: bool = False
    bandwidth: float | None = None

    def choose(self, samples: ChoiceSamples, penalty: float | None) -> KernelChoice:
        """Largest restricted likelihood; a penalty that is given replaces the one found."""
        if samples.is_constant:
            rates = (1.0 if self.bandwidth is None else self.bandwidth) * self.scale.unit(self.rarity or 0.0)
            return KernelChoice(self._covariance(rates, (1.0, 0.0)), penalty or 1.0)
        coarse = samples.coarse()
        options = (self.rarity or 0.0,) if self.rarity is not None or self.scale.are_alike else _RARITIES
        climbed = []
        for rarity in options:
            unit = self.scale.unit(rarity)
            likelihood = self._likelihood(coarse, unit, False)
            climbed.append((likelihood.maximum(self._best_of_grid(likelihood), _COARSE_STEPS), unit))
        best, unit = min(climbed, key=lambda pair: pair[0].criterion)
        if self.by_locus:
            start = torch.cat([best.phi[:1].expand(len(unit)), best.phi[1:]])
            best = self._likelihood(coarse, unit, True).maximum(start, _COARSE_STEPS_BY_LOCUS)
        if len(samples.y) > len(coarse.y):
            best = self._likelihood(samples, unit, self.by_locus).maximum(best.phi, _FINE_STEPS)
        num_rates = len(unit) if self.by_locus else 1
        variances = best.phi[num_rates:].exp().tolist()
        total = sum(variances)
        shares = (variances[0] / total, variances[1] / total if self.additive else 0.0)
        covariance = self._covariance(best.phi[:num_rates].exp() * unit, shares)
        return KernelChoice(covariance, penalty or 1 / total)

    def moved(self, choice: KernelChoice, rate: float, penalty: float) -> KernelChoice:
        """All rates and the penalty times these factors."""
        covariance = choice.covariance
        assert isinstance(covariance, GaussianCovariance)
        moved = self._covariance(covariance.rates * rate, covariance.shares)
        return KernelChoice(moved, choice.penalty * penalty)

    def _covariance(self, rates: torch.Tensor, shares: tuple[float, float]) -> GaussianCovariance:
        return GaussianCovariance(rates, self.scale.mean, self.scale.relationship, shares)

    def _likelihood(self, samples: ChoiceSamples, unit: torch.Tensor, by_locus: bool) -> RestrictedLikelihood:
        x = coded(samples.genotypes, slice(None), samples.y) - self.scale.mean
        additive = x @ x.T / self.scale.relationship if self.additive else None
        components = GaussianComponents(x, unit, by_locus, additive, self.bandwidth is not None)
        return RestrictedLikelihood(components, samples.y, samples.noise)

    def _best_of_grid(self, likelihood: RestrictedLikelihood) -> torch.Tensor:
        rates = _RATES if self.bandwidth is None else (math.log(self.bandwidth),)
        tried = [
            self.scale.mean.new_tensor([rate, ratio] + [ratio] * self.additive)
            for rate, ratio in itertools.product(rates, _RATIOS)
        ]
        return min(tried, key=likelihood.criterion)


@dataclass(frozen=True)
class OrdersFamily:
    """A variance component for each epistasis order."""

    kernels: EpistasisKernels

    def choose(self, samples: ChoiceSamples, penalty: float | None) -> KernelChoice:
        """Largest restricted likelihood; a penalty that is given replaces the one found."""
        if samples.is_constant:
            shares = (1.0,) + (0.0,) * (self.kernels.max_order - 1)
            return KernelChoice(OrdersCovariance(self.kernels, shares), penalty or 1.0)
        components = SummedComponents(self.kernels.dense(samples.genotypes))
        likelihood = RestrictedLikelihood(components, samples.y, samples.noise)
        size = self.kernels.max_order
        tried = [
            torch.full((size,), ratio - math.log(size), dtype=torch.float64, device=samples.y.device)
            for ratio in _RATIOS
        ]
        best = likelihood.maximum(min(tried, key=likelihood.criterion), _COARSE_STEPS + _FINE_STEPS)
        variances = best.phi.exp()
        total = float(variances.sum())
        covariance = OrdersCovariance(self.kernels, tuple((variances / total).tolist()))
        return KernelChoice(covariance, penalty or 1 / total)

    def moved(self, choice: KernelChoice, rate: float, penalty: float) -> KernelChoice:
        """The variance of order k times rate^k, as a bandwidth would; the penalty times its factor."""
        covariance = choice.covariance
        assert isinstance(covariance, OrdersCovariance)
        shares = np.array(covariance.shares) * rate ** np.arange(len(covariance.shares))
        moved = OrdersCovariance(self.kernels, tuple((shares / shares.sum()).tolist()))
        return KernelChoice(moved, choice.penalty * penalty)


Family = GaussianFamily | OrdersFamily
