"""Datasets that tests write and read back."""

from __future__ import annotations

import numpy as np

from gpmap_cli.dataset.contents import Dataset


def example(num_samples=30, num_loci=20, genotype_type="int8", ploidy=1, seed=0):
    """A dataset that uses every part of the format, with missing genotypes and phenotypes."""
    rng = np.random.default_rng(seed)
    names = ("23C", "30C", "Kälte")
    num_environments = len(names)
    if genotype_type == "int8":
        genotypes = rng.integers(-1, ploidy + 1, (num_samples, num_loci)).astype(np.int8)
    else:
        genotypes = (ploidy * rng.random((num_samples, num_loci))).astype(genotype_type)
        genotypes[rng.random(genotypes.shape) < 0.1] = np.nan
        genotypes[0, :3] = [0.0, -0.0, ploidy]
    phenotypes = rng.normal(size=(num_samples, num_environments)).astype(np.float32)
    phenotypes[rng.random(phenotypes.shape) < 0.2] = np.nan
    return Dataset(
        genotypes=genotypes,
        phenotypes=phenotypes,
        sample_ids=np.array([f"segregant {number}" for number in range(num_samples)]),
        locus_ids=np.array([f"locus_{number}" for number in range(num_loci - 1)] + ["λ"]),
        environment_names=names,
        ploidy=ploidy,
        phenotype_std=np.abs(phenotypes),
        chromosomes=np.array([f"chr{number // 7}" for number in range(num_loci)]),
        positions=(np.arange(num_loci) * 2**33).astype(np.int64),
        covariates={"temperature": np.array([23.0, 30.0, 4.0]), "pH": np.array([7.0, np.nan, 5.5])},
        splits={"paper": (np.arange(num_samples) % 3).astype(np.int8)},
        folds={
            "families": (np.arange(num_samples) % 5).astype(np.int16),
            "ten": np.arange(num_samples, dtype=np.int16),
        },
        truth={
            "noise_ceiling_r2": np.array([0.96, 0.9, 0.5]),
            "noise_free": rng.normal(size=(num_samples, num_environments)),
            "terms/loci": rng.integers(0, num_loci, (7, 2)),
            "terms/kind": np.array(["additive"] * 6 + ["pairwise"], dtype=object),
            "offset": np.array(1.5),
        },
        provenance={"made_by": "a test", "seed": 7, "threshold": 0.94, "citation": "Müller et al."},
    )


def assert_same(one: Dataset, other: Dataset) -> None:
    """Equal in every field, bit for bit."""
    for name in ("genotypes", "phenotypes", "phenotype_std", "positions"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert one.genotypes.dtype == other.genotypes.dtype
    for name in ("sample_ids", "locus_ids", "chromosomes"):
        left, right = (None if part is None else part.tolist() for part in (getattr(one, name), getattr(other, name)))
        assert left == right, name
    for name in ("covariates", "splits", "folds", "truth"):
        left, right = getattr(one, name), getattr(other, name)
        assert sorted(left) == sorted(right), name
        for key in left:
            np.testing.assert_array_equal(left[key], right[key], err_msg=f"{name}/{key}")
    assert one.environment_names == other.environment_names
    assert one.ploidy == other.ploidy
    assert one.provenance == other.provenance
