"""Fixtures that several test files share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# Tests run beside each other, and what they compute is small: threads of one would only wait for those of another.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest

from gpmap_cli.dataset.coding import CodedGenotypes, GenotypeCoding, Samples

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The project's shared reference files; tests that use them skip, visibly, where they are absent."""
    if not SHARED.is_dir():
        pytest.skip("the shared reference files are not beside the project")
    return SHARED


@pytest.fixture
def gpmap(tmp_path):
    """Run the command in an empty directory: gpmap("train", "model=ridge") -> CompletedProcess."""

    def run(*words, cwd=tmp_path, **options):
        environment = {**os.environ, "PYTHONWARNINGS": "default", **options.pop("env", {})}
        return subprocess.run(
            [sys.executable, "-m", "gpmap_cli", *map(str, words)],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=options.pop("timeout", 240),
            **options,
        )

    return run


def make_samples(num_samples=200, num_loci=6, num_environments=2, seed=0, ploidy=1, missing=0.0, order=2):
    """Training-like samples with additive and order-k effects, as models see them."""
    rng = np.random.default_rng(seed)
    genotypes = rng.integers(0, ploidy + 1, (num_samples, num_loci)).astype(np.int8)
    x = 2.0 * genotypes / ploidy - 1
    phenotypes = x @ rng.normal(size=(num_loci, num_environments))
    phenotypes += np.prod(x[:, :order], axis=1)[:, None] * 2 + 0.2 * rng.normal(size=phenotypes.shape)
    if missing:
        genotypes[rng.random(genotypes.shape) < missing] = -1
        phenotypes[rng.random(phenotypes.shape) < missing] = np.nan
    phenotypes = (phenotypes - np.nanmean(phenotypes, axis=0)) / np.nanstd(phenotypes, axis=0)
    return Samples(CodedGenotypes(genotypes, GenotypeCoding.learn(genotypes, ploidy)), phenotypes)


def split_samples(samples, num_validation=50):
    """The last `num_validation` samples apart."""
    first, last = np.arange(len(samples) - num_validation), np.arange(len(samples) - num_validation, len(samples))
    return tuple(Samples(samples.genotypes.take(rows), samples.phenotypes[rows]) for rows in (first, last))
