"""A dataset in memory: what a dataset file holds, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.disk_genotypes import StoredGenotypes, select_rows

FORMAT = "gpmap-dataset"
FORMAT_VERSION = 1
MISSING = -1  # in integer genotypes; floating-point ones use NaN
SPLIT_NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class Dataset:
    """Genotypes and phenotypes of N samples at L loci in E environments.

    genotypes: (N, L) int8 copies of the alternative allele, 0..ploidy, -1 missing; or float16/float32
    dosages, NaN missing; an array, or rows on disk. phenotypes: (N, E) float32 in the phenotype's own units, NaN
    missing. covariates: of environments, (E,) each; sample_covariates: of samples, (N,) each, NaN missing, which are
    to be projected out; sample_groups: the same, which say what samples belong together.
    """

    genotypes: StoredGenotypes
    phenotypes: NDArray[np.float32]
    sample_ids: NDArray[np.str_]
    locus_ids: NDArray[np.str_]
    environment_names: tuple[str, ...]
    ploidy: int = 1
    phenotype_std: NDArray[np.float32] | None = None
    chromosomes: NDArray[np.str_] | None = None
    positions: NDArray[np.int64] | None = None
    covariates: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    sample_covariates: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    sample_groups: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    splits: dict[str, NDArray[np.int8]] = field(default_factory=dict)
    folds: dict[str, NDArray[np.int16]] = field(default_factory=dict)
    truth: dict[str, NDArray] = field(default_factory=dict)
    provenance: dict[str, str | int | float] = field(default_factory=dict)

    @property
    def num_samples(self) -> int:
        return self.genotypes.shape[0]

    @property
    def num_loci(self) -> int:
        return self.genotypes.shape[1]

    @property
    def noise_ceiling_r2(self) -> dict[str, float]:
        """The best R^2 any model can reach, by environment; empty unless the data were simulated."""
        ceiling = self.truth.get("noise_ceiling_r2")
        return {} if ceiling is None else dict(zip(self.environment_names, map(float, ceiling), strict=True))

    def take_rows(self, rows: NDArray[np.intp]) -> Dataset:
        """The samples in `rows`, in that order. The truth keeps only what does not belong to samples."""
        return replace(
            self,
            genotypes=select_rows(self.genotypes, rows),
            phenotypes=self.phenotypes[rows],
            sample_ids=self.sample_ids[rows],
            phenotype_std=None if self.phenotype_std is None else self.phenotype_std[rows],
            sample_covariates={name: values[rows] for name, values in self.sample_covariates.items()},
            sample_groups={name: values[rows] for name, values in self.sample_groups.items()},
            splits={name: labels[rows] for name, labels in self.splits.items()},
            folds={name: labels[rows] for name, labels in self.folds.items()},
            truth={name: array for name, array in self.truth.items() if name != "noise_free"},
        )

    def with_loci(self, columns: NDArray[np.intp], genotypes: StoredGenotypes) -> Dataset:
        """The dataset at these loci, whose genotypes are `genotypes`.

        Of the truth only what is true of any set of loci stays: the noise-free phenotypes, the noise ceiling, and
        terms that name their loci by id.
        """
        return replace(
            self,
            genotypes=genotypes,
            locus_ids=self.locus_ids[columns],
            chromosomes=None if self.chromosomes is None else self.chromosomes[columns],
            positions=None if self.positions is None else self.positions[columns],
            splits=dict(self.splits),
            provenance=dict(self.provenance),
            truth={name: array for name, array in self.truth.items() if stays_true_of_other_loci(name)},
        )


def stays_true_of_other_loci(name: str) -> bool:
    """Whether this array of the truth speaks of no locus by its column number."""
    return name in ("noise_free", "noise_ceiling_r2") or name.startswith("by_id/")
