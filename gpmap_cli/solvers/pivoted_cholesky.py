"""Which few samples stand for all: a low-rank factor of a kernel from its columns at random pivots.

Randomly pivoted Cholesky (Chen, Epperly, Tropp and Webber 2024): a pivot is drawn in proportion to what the earlier
ones leave of the diagonal, d = diag(K - F F'), so that samples unlike those already chosen come first. With rates that
differ between loci, or with related samples, a given number of pivots leaves a hundredth of what as many samples
drawn at random leave. In blocks: n r^2 multiply-adds and n r numbers for r pivots of n samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.errors import FitFailed
from gpmap_cli.random_streams import stream
from gpmap_cli.solvers.genotype_covariance import Covariance, coded, covariance_matrix, row_slices

_LARGEST_BLOCK, _ROUNDS = 128, 10
_MOST_CANDIDATES = 20_000
_NOTHING = 1e-9  # of the diagonal: what rounding leaves
_JITTER = 1e-10


@dataclass(frozen=True)
class LowRankKernel:
    """factor F (n, r) in float64, F F' = K_nS K_SS^-1 K_Sn; pivots S (r,), rows of the samples."""

    factor: torch.Tensor
    pivots: NDArray[np.intp]


def low_rank_kernel(
    covariance: Covariance,
    genotypes: CodedGenotypes,
    most: int,
    enough: float,
    rng: np.random.Generator,
    device: str | torch.device,
) -> LowRankKernel:
    """At most `most` pivots; fewer when what they leave of the diagonal is `enough` in the mean."""
    size = len(genotypes)
    like = torch.empty(0, dtype=torch.float64, device=device)
    left = torch.cat([covariance.diagonal(coded(genotypes, rows, like)) for rows in row_slices(size)])
    enough = max(enough, _NOTHING * float(left.mean()))
    factor = torch.zeros(size, min(most, size), dtype=torch.float64, device=device)
    pivots: list[int] = []
    block = min(_LARGEST_BLOCK, -(-factor.shape[1] // _ROUNDS))
    while len(pivots) < factor.shape[1] and float(left.mean()) > enough:
        weights = left.clamp_min(0).cpu().numpy()
        drawn = rng.choice(size, min(block, factor.shape[1] - len(pivots)), p=weights / weights.sum())
        new = np.setdiff1d(drawn, pivots)
        if not len(new):
            break
        done, end = len(pivots), len(pivots) + len(new)
        columns = torch.empty(size, len(new), dtype=torch.float64, device=device)
        covariance_matrix(covariance, genotypes, genotypes.take(new), columns)
        columns.addmm_(factor[:, :done], factor[torch.from_numpy(new), :done].T, alpha=-1)
        added = torch.linalg.solve_triangular(
            _root(columns[torch.from_numpy(new)], left[torch.from_numpy(new)]).T, columns, upper=True, left=False
        )
        factor[:, done:end] = added
        left = left - (added**2).sum(dim=1)
        left[torch.from_numpy(new)] = 0
        pivots.extend(new.tolist())
    return LowRankKernel(factor[:, : len(pivots)], np.array(pivots, dtype=np.intp))


def inducing_rows(
    covariance: Covariance, genotypes: CodedGenotypes, most: int, seed: int, device: str
) -> NDArray[np.intp]:
    """At most `most` of these samples that stand for all, chosen from at most 20,000."""
    rng = stream(seed, "inducing_samples")
    among = rng.permutation(len(genotypes))[:_MOST_CANDIDATES]
    return among[low_rank_kernel(covariance, genotypes.take(among), most, 0.0, rng, device).pivots]


def _root(inner: torch.Tensor, left: torch.Tensor) -> torch.Tensor:
    """Cholesky factor of a block of what is left, which may be singular: pivots of one block may be alike."""
    inner = (inner + inner.T) / 2
    scale = float(left.max())
    for more in (_JITTER, 1e-7, 1e-4, 1e-2):
        matrix = inner.clone()
        matrix.diagonal().add_(more * scale)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if not int(failed):
            return factor
    raise FitFailed("the kernel between these samples is not positive definite; set a larger model.penalty")
