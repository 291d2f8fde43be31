"""What is kept of all candidates of a scan: the strongest terms, and how many statistics were how large."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

BINS_PER_UNIT = 256  # of |z|
LARGEST = 64  # |z| from here on is in the last bin
NUM_BINS = BINS_PER_UNIT * LARGEST + 1

LociOf = Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[np.int32]]


class TopTerms:
    """The `most` terms with the largest |z| so far; of equal ones those whose loci come first.

    What is offered below the least that is kept is passed over without looking at its loci.
    """

    def __init__(self, order: int, most: int) -> None:
        self._most = most
        self.z = np.empty(0, np.float64)
        self.loci = np.empty((0, order), np.int32)
        self._least = 0.0  # of |z|, once there are enough

    def offer(self, z: torch.Tensor, size: torch.Tensor, loci_of: LociOf) -> None:
        """Entries (a, b) of a block: z, and |z|, below zero where an entry is no candidate."""
        least = self._least
        flat = size.flatten()
        if len(self.z) < self._most and flat.numel() > self._most:
            least = max(least, float(torch.topk(flat, self._most).values[-1]))
        rows, columns = torch.nonzero(size >= max(least, 0.0), as_tuple=True)
        if len(rows) == 0:
            return
        values = z[rows, columns].cpu().numpy().astype(np.float64)
        self.take(values, loci_of(rows.cpu().numpy(), columns.cpu().numpy()))

    def take(self, z: NDArray[np.float64], loci: NDArray[np.int32]) -> None:
        """These terms, of which only the strongest stay."""
        z, loci = np.concatenate([self.z, z]), np.concatenate([self.loci, loci])
        order = np.lexsort((*loci.T[::-1], -np.abs(z)))[: self._most]
        self.z, self.loci = z[order], loci[order]
        if len(z) >= self._most:
            self._least = float(np.abs(self.z[-1]))

    def __len__(self) -> int:
        return len(self.z)


def count(size: torch.Tensor, everywhere: bool) -> NDArray[np.int64]:
    """How many |z| are in each bin of width 1/256; values below zero are no candidates (none where `everywhere`)."""
    flat = size.flatten() if everywhere else size[size >= 0]
    if flat.device.type == "cpu":  # several times faster there than torch's
        bins = np.minimum(flat.numpy() * np.float32(BINS_PER_UNIT), NUM_BINS - 1).astype(np.int32)
        return np.bincount(bins, minlength=NUM_BINS)
    bins_there = (flat * BINS_PER_UNIT).clamp_max_(NUM_BINS - 1).to(torch.int64)
    return torch.bincount(bins_there, minlength=NUM_BINS).cpu().numpy()


def median(counts: NDArray[np.int64]) -> float:
    """The median |z| by the counts, linear within a bin; NaN of nothing."""
    total = int(counts.sum())
    if total == 0:
        return float("nan")
    upto = np.cumsum(counts)
    at = int(np.searchsorted(upto, total / 2))
    before = upto[at] - counts[at]
    return float((at + (total / 2 - before) / counts[at]) / BINS_PER_UNIT)


def inflation(counts: NDArray[np.int64]) -> float:
    """Genomic inflation: the median of z^2 over what it is without any effect, 0.4549 (Devlin and Roeder 1999)."""
    return median(counts) ** 2 / 0.454936
