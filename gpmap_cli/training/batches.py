"""Genotypes on the device as they are stored (one byte each where they are calls), coded batch by batch."""

from __future__ import annotations

import torch

from gpmap_cli.dataset.coding import CodedGenotypes

DTYPES = {"float32": torch.float32, "float64": torch.float64}


class DeviceGenotypes:
    """Genotypes (N, L) held on a device in their stored type."""

    def __init__(self, genotypes: CodedGenotypes, device: str, precision: str) -> None:
        self._dtype = DTYPES[precision]
        self._stored = torch.from_numpy(genotypes.stored).to(device)
        coding = genotypes.coding
        self._scale = coding.scale
        self._shift = torch.from_numpy(coding.shift).to(device, self._dtype)
        self._fill = torch.from_numpy(coding.fill).to(device, self._dtype)
        if self._stored.dtype.is_floating_point:
            self._has_missing = bool(self._stored.isnan().any())
        else:
            self._has_missing = bool((self._stored < 0).any())

    def __len__(self) -> int:
        return len(self._stored)

    @property
    def num_loci(self) -> int:
        return self._stored.shape[1]

    def __getitem__(self, rows: torch.Tensor | slice) -> torch.Tensor:
        """Coded genotypes (rows, L) of these samples."""
        stored = self._stored[rows]
        coded = stored.to(self._dtype) * self._scale + self._shift
        if not self._has_missing:
            return coded
        missing = stored.isnan() if stored.dtype.is_floating_point else stored < 0
        return torch.where(missing, self._fill, coded)
