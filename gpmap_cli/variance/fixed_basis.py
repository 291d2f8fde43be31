"""What the mean and the covariates span among the samples measured in an environment."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_RANK = 1e-8  # of the largest singular value


def fixed_basis(covariates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal columns (n, r) that span the mean and the covariates (n, q) of these n samples."""
    num_samples = len(covariates)
    mean = np.full((num_samples, 1), num_samples**-0.5)
    centred = covariates - covariates.mean(axis=0)
    scale = np.sqrt((centred**2).sum(axis=0))
    varies = scale > _RANK * np.sqrt(num_samples) * np.abs(covariates).max(axis=0, initial=0.0)
    left, values, _ = np.linalg.svd(centred[:, varies] / scale[varies], full_matrices=False)
    if not len(values):
        return mean
    return np.concatenate([mean, left[:, values > _RANK * values[0]]], axis=1)


def without(basis: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """values (n,) or (n, m) less what the basis explains of them."""
    return values - basis @ (basis.T @ values)
