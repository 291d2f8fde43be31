"""What restricted maximum likelihood asks of a mixed model, whichever way it is computed.

    y = X b + sum_k g_k + e,    g_k = F_k (1 m_k + u_k),    u_k ~ N(0, theta_k I),    e ~ N(0, theta_e R),

F_k the features of epistasis order k (centred products of centred loci), X the mean and the covariates, R diagonal,
1 unless measurement errors are given. m_k is the mean of the effects of order k: where the effects of linked loci
agree in sign, far more varies along F_k 1, their sum, than independent effects of mean zero would make vary, and
theta_k would have to account for it. It is given a prior so wide that it does not matter: c_k with
c_k |M F_k 1|^2 = 1000 y'My, M the projection that takes X away. V = sum_k A_k + theta_e R,
A_k = theta_k F_k F_k' + c_k F_k 1 1' F_k', P = V^-1 - V^-1 X (X' V^-1 X)^-1 X' V^-1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_WIDE = 1e3


@dataclass(frozen=True)
class Realised:
    """E[g_k' M g_k | y] / (n - rank X) of each component, (C,), residual last, and its posterior variance."""

    values: NDArray[np.float64]
    spread: NDArray[np.float64]


class Point(Protocol):
    """The model at one theta."""

    @property
    def likelihood(self) -> float: ...

    def derivatives(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Score (C,) and average information (C, C)."""

    def realised(self, with_spread: bool) -> Realised: ...


class System(Protocol):
    """The data of one environment."""

    total: float  # the variance of y
    wide: list[float]  # c_k
    largest: list[float]  # at least the largest eigenvalue of R^-1 K_k, and little more

    def at(self, theta: NDArray[np.float64]) -> Point | None:
        """None where V is not positive definite."""


def wide_prior(squares: float, direction: float) -> float:
    """c_k for y'My and |M F_k 1|^2; 0 where the sum of the features does not vary."""
    return _WIDE * squares / direction if direction > 1e-10 else 0.0
