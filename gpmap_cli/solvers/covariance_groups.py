"""The covariances of a model's environments: those that are the same share their work; all are kept as arrays."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.solvers.epistasis_kernels import EpistasisKernels
from gpmap_cli.solvers.genotype_covariance import Covariance, GaussianCovariance, OrdersCovariance


def same_covariances(covariances: list[Covariance]) -> list[NDArray[np.intp]]:
    """The environments (column numbers) of every different covariance."""
    groups: dict[bytes, list[int]] = {}
    for column, covariance in enumerate(covariances):
        key = b"".join(np.ascontiguousarray(array).tobytes() for _, array in sorted(_arrays(covariance).items()))
        groups.setdefault(key, []).append(column)
    return [np.array(columns) for columns in groups.values()]


def covariance_state(covariances: list[Covariance]) -> dict[str, NDArray]:
    """All environments' covariances as arrays whose first axis is the environment."""
    parts = [_arrays(covariance) for covariance in covariances]
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}


def covariances_of_state(state: dict[str, NDArray]) -> list[Covariance]:
    """What `covariance_state` was made of."""
    shares = state["shares"]
    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(state[name]))
        for name in ("locus_mean", "rates", "order_scales")
        if name in state
    }
    found: list[Covariance] = []
    for e in range(len(shares)):
        mean, own = tensors["locus_mean"][e], tuple(map(float, shares[e]))
        if "rates" in state:
            relationship = float(state["relationship"][e])
            found.append(GaussianCovariance(tensors["rates"][e], mean, relationship, (own[0], own[1])))
        else:
            found.append(OrdersCovariance(EpistasisKernels(mean, tensors["order_scales"][e]), own))
    return found


def _arrays(covariance: Covariance) -> dict[str, NDArray]:
    if isinstance(covariance, GaussianCovariance):
        return {
            "rates": covariance.rates.cpu().numpy(),
            "shares": np.array(covariance.shares),
            "locus_mean": covariance.mean.cpu().numpy(),
            "relationship": np.array(covariance.relationship),
        }
    assert isinstance(covariance, OrdersCovariance)
    return {
        "shares": np.array(covariance.shares),
        "locus_mean": covariance.kernels.mean.cpu().numpy(),
        "order_scales": covariance.kernels.scales.cpu().numpy(),
    }


def part_names(state: dict[str, NDArray]) -> list[str]:
    """What the shares of a covariance belong to."""
    if "rates" in state:
        return ["gaussian", "additive"]
    return [f"order {order}" for order in range(1, state["shares"].shape[1] + 1)]
