"""The coefficients of every set of loci of a complete landscape, by the fast Walsh-Hadamard transform.

A phenotype of all 2^L genotypes is, exactly, y(x) = sum_S beta_S prod_{l in S} x_l over all sets S of loci, x_l -1 in
the class of fewer and +1 in that of more copies, with

    beta_S = 2^-L sum_x y(x) prod_{l in S} x_l.

All of them take L 2^L additions, in place. Genotypes and sets are numbered alike: bit l stands for locus l. The
products are orthogonal, so the mean of y^2 is the sum of beta_S^2 (Parseval), and the variance of epistasis order k is
the sum over the sets of k loci (Weinberger 1991; Stadler 1996).
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

Values = TypeVar("Values", NDArray[np.float64], torch.Tensor)


def walsh_hadamard(values: Values) -> Values:
    """Replace values (2^L, ...) by sum_g (-1)^(number of bits that S and g share) values_g, and return them.

    A numpy array or a torch tensor, contiguous. Twice in a row it multiplies by 2^L. L 2^L additions; half as much
    memory again as the values take.
    """
    size = len(values)
    if size & (size - 1) or not size:
        raise ValueError(f"{size} values are no power of two")
    rest = values.shape[1:]
    half = 1
    while half < size:
        # A view: numpy and torch both take one of contiguous values.
        pairs = values.reshape(size // (2 * half), 2, half, *rest)
        without, having = pairs[:, 0], pairs[:, 1]
        difference = without - having
        without += having
        having[...] = difference
        del difference  # before there is another one
        half *= 2
    return values


def coefficients(phenotypes: NDArray[np.float64]) -> NDArray[np.float64]:
    """beta_S (2^L,) of the phenotypes (2^L,) of all genotypes, in their units; beta_0 is their mean.

    Memory: 2.5 times that of the phenotypes, 320 MiB at L = 24.
    """
    mean = phenotypes.mean()
    found = walsh_hadamard(phenotypes - mean)  # centred, so that a large mean takes no digits from the rest
    found /= len(found)
    _flip_odd(found)
    found[0] += mean
    return found


def phenotypes_of(effects: NDArray[np.float64]) -> NDArray[np.float64]:
    """y (2^L,) of all genotypes from the coefficients (2^L,) of all sets."""
    found = effects.copy()
    _flip_odd(found)
    return walsh_hadamard(found)


def orders(num_loci: int) -> NDArray[np.uint8]:
    """|S| of every set S, (2^L,)."""
    found = np.zeros(1 << num_loci, dtype=np.uint8)
    for locus in range(num_loci):
        half = 1 << locus
        found[half : 2 * half] = found[:half] + 1
    return found


def _flip_odd(effects: NDArray[np.float64]) -> None:
    """x_l is minus (-1)^bit: products of an odd number of loci change sign."""
    effects[(orders(len(effects).bit_length() - 1) & 1).astype(bool)] *= -1
