"""Genotypes on the device as they are stored (one byte each where they are calls), coded batch by batch.

Those that are on disk stay there: the rows of a batch are read when the batch is made.
"""

from __future__ import annotations

import torch

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.dataset.disk_genotypes import DiskGenotypes

DTYPES = {"float32": torch.float32, "float64": torch.float64}


class DeviceGenotypes:
    """Genotypes (N, L) held on a device in their stored type, or on disk."""

    def __init__(self, genotypes: CodedGenotypes, device: str, precision: str) -> None:
        self._dtype = DTYPES[precision]
        stored = genotypes.stored
        self._device = device
        self._stored = stored if isinstance(stored, DiskGenotypes) else torch.from_numpy(stored).to(device)
        coding = genotypes.coding
        self._scale = coding.scale
        self._shift = torch.from_numpy(coding.shift).to(device, self._dtype)
        self._fill = torch.from_numpy(coding.fill).to(device, self._dtype)
        self._has_missing = genotypes.has_missing
        self._projection: tuple[torch.Tensor, torch.Tensor] | None = None
        if genotypes.projection is not None:
            design, slopes = (
                torch.from_numpy(genotypes.projection.design),
                torch.from_numpy(genotypes.projection.slopes),
            )
            self._projection = design.to(device, self._dtype), slopes.to(device, self._dtype)

    def __len__(self) -> int:
        return len(self._stored)

    @property
    def num_loci(self) -> int:
        return self._stored.shape[1]

    def __getitem__(self, rows: torch.Tensor | slice) -> torch.Tensor:
        """Coded genotypes (rows, L) of these samples, less what covariates explain of them."""
        if isinstance(self._stored, DiskGenotypes):
            which = rows if isinstance(rows, slice) else rows.cpu().numpy()
            stored = torch.from_numpy(self._stored[which]).to(self._device)
        else:
            stored = self._stored[rows]
        coded = stored.to(self._dtype) * self._scale + self._shift
        if self._has_missing:
            missing = stored.isnan() if stored.dtype.is_floating_point else stored < 0
            coded = torch.where(missing, self._fill, coded)
        if self._projection is not None:
            design, slopes = self._projection
            coded = torch.addmm(coded, design[rows], slopes, alpha=-1)
        return coded
