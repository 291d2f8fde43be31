"""The convex combination of predictors that errs least on samples that none of them was fitted to.

Stacking (Wolpert 1992; van der Laan et al. 2007): min over w >= 0, sum_k w_k = 1, of |y - sum_k w_k f_k|^2 over the
measured phenotypes of an environment. Found exactly: for K predictors, the best of the 2^K - 1 sets of them that is
feasible, N K^2 multiply-adds and as many systems of at most K equations.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

_NO_BETTER = 1 - 1e-12


def convex_shares(phenotypes: NDArray, predictions: list[NDArray]) -> NDArray[np.float64]:
    """The share (K, E) of each predictor (N, E), for phenotypes (N, E), NaN missing.

    Of equally good combinations it is the one of fewer, and earlier, predictors: the first alone where nothing tells.
    """
    known = ~np.isnan(phenotypes)
    shares = np.zeros((len(predictions), phenotypes.shape[1]))
    for column in range(phenotypes.shape[1]):
        rows = known[:, column]
        wrong = np.stack([phenotypes[rows, column] - part[rows, column] for part in predictions])
        shares[:, column] = _least_error(wrong @ wrong.T)
    return shares


def _least_error(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """argmin w' R w, R (K, K) the products of the predictors' errors, over shares w (K,)."""
    found, least = np.zeros(len(products)), np.inf
    for size in range(1, len(products) + 1):
        for chosen in map(list, combinations(range(len(products)), size)):
            among = products[np.ix_(chosen, chosen)]
            # In terms of the differences to the first of them: w_0 = 1 - sum of the others.
            differences = among[1:, 1:] - among[1:, :1] - among[:1, 1:] + among[0, 0]
            others = np.linalg.lstsq(differences, among[0, 0] - among[1:, 0], rcond=None)[0]
            shares = np.concatenate([[1 - others.sum()], others])
            error = shares @ among @ shares
            if (shares >= 0).all() and error < least * _NO_BETTER:
                found, least = np.zeros(len(products)), error
                found[chosen] = shares
    return found
