"""What a scan works on: genotypes as operands of its products, and residual phenotypes over each background."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.commands.scan_model import labels_of, with_predictions
from gpmap_cli.commands.terminal import progress_bar
from gpmap_cli.config.schema import Config
from gpmap_cli.data_source import Source
from gpmap_cli.dataset.coding import CodedGenotypes, GenotypeCoding
from gpmap_cli.dataset.contents import SPLIT_NAMES, Dataset
from gpmap_cli.dataset.fixed_effects import FixedEffects, learn_covariates
from gpmap_cli.dataset.splits import split_hash
from gpmap_cli.errors import InputError
from gpmap_cli.explain.true_terms import Truth
from gpmap_cli.ld_pruning.dataset_pruning import prune
from gpmap_cli.ld_pruning.deciding import ALL_SAMPLES, by_split, deciding_samples
from gpmap_cli.report.scan_tables import Scanned
from gpmap_cli.scan.background import Residuals, residual_phenotypes
from gpmap_cli.scan.products import Arithmetic, choose_arithmetic, int8_is_right, locus_major
from gpmap_cli.simulate.true_terms import true_terms

log = logging.getLogger("gpmap")

_TIMES_HELD = 3  # genotypes as they were read, as the samples that are scanned, and by locus
_FEWEST = 10  # samples measured in an environment


@dataclass
class ScanData:
    """Genotypes (L, N') by locus, phenotypes (N, E) and covariates (N, q) of the samples that are scanned."""

    dataset: Dataset
    genotypes: torch.Tensor
    arithmetic: Arithmetic
    split_sha256: str | None
    said: list[str]
    _coded: CodedGenotypes
    _phenotypes: NDArray[np.float64]
    _design: NDArray[np.float64]
    _config: Config
    _truth: Truth | None  # of what a model has learned from
    _residuals: dict[bool, Residuals] = field(default_factory=dict)

    @property
    def num_samples(self) -> int:
        return self.dataset.num_samples

    def residuals(self, order: int) -> Residuals:
        """Over the background of this order: single loci are never tested over themselves."""
        additive = order > 1 and self._config.scan.background == "additive"
        if additive not in self._residuals:
            self._residuals[additive] = residual_phenotypes(
                self.genotypes,
                self._coded,
                self._phenotypes,
                self._design,
                "additive" if additive else "none",
                self._config.root.seed,
            )
        return self._residuals[additive]

    def scanned(self, alpha: float) -> Scanned:
        """Names, places and truth."""
        dataset = self.dataset
        truth = self._truth
        if truth is None:
            truth = true_terms(dataset, dataset.locus_ids.tolist(), list(range(len(dataset.environment_names))))
        if truth is not None and truth.num_elsewhere:
            log.info("%d true terms have a locus that is not scanned: they are left out", truth.num_elsewhere)
        return Scanned(
            dataset.locus_ids, dataset.environment_names, dataset.chromosomes, dataset.positions, truth, alpha
        )


def load_scan_data(config: Config, source: Source, path: Path, device: str, arithmetic: Arithmetic | None) -> ScanData:
    """Read, prune, choose the samples, and bring genotypes into the form of the products.

    arithmetic: of the scan that goes on; None: as the settings say.
    """
    dataset = source.load(config.root.genotype_bytes(_TIMES_HELD), path)
    said = []
    labels = None if config.root.rows == "all" else labels_of(config, dataset)
    learned_from: Truth | None = None
    if config.root.run is not None:
        dataset, learned_from = with_predictions(config.root.run, dataset, device)
    if config.prune.is_on:
        deciding = deciding_samples(config.prune, dataset)
        if config.prune.split is None:
            by_rows = labels is not None and config.prune.rows != "all"
            deciding = by_split(labels, "the scan's", "its split") if by_rows else ALL_SAMPLES  # type: ignore[arg-type]
        dataset, line = prune(dataset, deciding, config.prune, progress_bar, path)
        said.append(line)
    if labels is not None:
        dataset = dataset.take_rows(np.flatnonzero(labels == SPLIT_NAMES.index(config.root.rows)))
    phenotypes = dataset.phenotypes.astype(np.float64)
    _check(dataset, phenotypes, max(config.scan.order))
    coding = GenotypeCoding.learn(dataset.genotypes, dataset.ploidy)
    coded = CodedGenotypes(dataset.genotypes, coding)
    taken = arithmetic or _arithmetic(config, coded, device)
    design = _design(config, dataset)
    missing = int(np.isnan(phenotypes).sum())
    said.append(
        f"{dataset.num_samples} samples, {dataset.num_loci} loci, {len(dataset.environment_names)} environments,"
        f" {missing} missing phenotypes; products in {taken}"
    )
    if design.shape[1]:
        said.append(f"covariates projected out: {', '.join(dataset.sample_covariates)}")
    genotypes = locus_major(coded, taken, device)
    sha256 = None if labels is None else split_hash(labels)
    return ScanData(dataset, genotypes, taken, sha256, said, coded, phenotypes, design, config, learned_from)


def _arithmetic(config: Config, coded: CodedGenotypes, device: str) -> Arithmetic:
    wanted: str = config.scan.arithmetic
    if wanted == "auto":
        return choose_arithmetic(coded, device)
    if wanted == "int8":
        hint = "use scan.arithmetic=float32, or leave it to auto"
        if not coded.is_plus_minus_one:
            raise InputError("scan.arithmetic=int8 needs genotypes of two classes, none of them missing", hint)
        if not int8_is_right(device):
            raise InputError("scan.arithmetic=int8: products of 8-bit integers are not exact on this device", hint)
    return wanted  # type: ignore[return-value]


def _design(config: Config, dataset: Dataset) -> NDArray[np.float64]:
    """Covariates (N, q), numbers and indicators of levels."""
    values = dataset.sample_covariates
    if not values:
        return np.zeros((dataset.num_samples, 0))
    factors = getattr(config.data, "factors", None) or ()
    covariates = learn_covariates(values, factors, np.arange(dataset.num_samples))
    return FixedEffects(covariates, np.zeros((0, 0)), np.zeros((0, 0))).design(values, dataset.num_samples)


def _check(dataset: Dataset, phenotypes: NDArray[np.float64], order: int) -> None:
    if not dataset.environment_names:
        raise InputError("the data have no phenotypes", "scan data with phenotypes")
    if dataset.num_loci < order:
        raise InputError(
            f"there are no sets of {order} among {dataset.num_loci} loci",
            f"set scan.order to at most {dataset.num_loci}",
        )
    for name, column in zip(dataset.environment_names, phenotypes.T, strict=True):
        known = column[~np.isnan(column)]
        if len(known) < _FEWEST or known.min() == known.max():
            what = "is constant" if len(known) >= _FEWEST else f"has {len(known)} phenotypes"
            raise InputError(
                f"environment `{name}` {what}: nothing can be tested there",
                "leave it out with data.environments=[...]",
            )
