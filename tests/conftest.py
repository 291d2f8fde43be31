"""Fixtures that several test files share."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
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


@dataclass
class Result:
    """What a command printed and how it ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def gpmap(tmp_path, monkeypatch):
    """Run the command in an empty directory, in this process: gpmap("train", "model=ridge") -> Result."""
    from gpmap_cli.__main__ import main

    monkeypatch.chdir(tmp_path)

    def run(*words, env=None):
        out, err = io.StringIO(), io.StringIO()
        with monkeypatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["gpmap", *map(str, words)])
            status = main()
        return Result(status, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def gpmap_process(tmp_path):
    """The same in a process of its own."""

    def run(*words, env=None):
        result = subprocess.run(
            [sys.executable, "-m", "gpmap_cli", *map(str, words)],
            cwd=tmp_path,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=240,
        )
        return Result(result.returncode, result.stdout, result.stderr)

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
