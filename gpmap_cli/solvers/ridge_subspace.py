"""A space of locus effects in which the ridge problems of all environments are solved at once.

Basis W (L, m), orthonormal; U = Xc W (N, m), Xc centred over all samples. For environment e (notation of
`ridge_problem`) the problem in the space is small:

    G_e = W'A_e'A_e W = U' diag(d) U - (U'd)(U'd)' / n,     b_j = W'A_e't_j,     w = W (G_e + penalty I)^-1 b.

t_j are the phenotypes of the environments and random signs (probes). The eigenvalues of G_e give the whole path of
penalties. Memory: 4 (N + L) m + 8 E m^2 bytes.
"""

from __future__ import annotations

import torch

from gpmap_cli.solvers.allele_counts import AlleleCounts

# Directions that lie in the space up to this part of their length, or in each other's span, bring nothing new.
_INSIDE = 1e-4
_DEPENDENT = 1e-6
_CHUNK = 8192
_FIRST_ROOM = 128


class Subspace:
    """The space so far: `basis` (L, m), `images` U (N, m), `grams` G (E, m, m), `rights` b (E, m, T)."""

    def __init__(
        self, counts: AlleleCounts, others: AlleleCounts | None, d: torch.Tensor, targets: torch.Tensor
    ) -> None:
        """d: (N, E) weights. targets: (N, E, T) weighted phenotypes and probes s t, which sum to 0 over samples.

        others: the genotypes of samples at which the solutions are wanted as well (`other_images`).
        """
        self._counts, self._others, self._d = counts, others, d
        self._targets = targets.float()
        self._num_samples = d.sum(dim=0)
        self.mean_counts = counts.transposed_times(
            torch.full((counts.num_samples, 1), 1 / counts.num_samples, dtype=torch.float64, device=d.device)
        )[:, 0]
        self.size = 0
        num_environments = d.shape[1]
        self._basis = self._room((counts.num_loci, 0), torch.float32)
        self._images = self._room((counts.num_samples, 0), torch.float32)
        self._other_images = self._room((others.num_samples if others else 0, 0), torch.float32)
        self._grams = self._room((num_environments, 0, 0), torch.float64)
        self._rights = self._room((num_environments, 0, targets.shape[2]), torch.float64)
        self._sums = self._room((num_environments, 0), torch.float64)  # U'd

    def _room(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype, device=self._d.device)

    @property
    def basis(self) -> torch.Tensor:
        return self._basis[:, : self.size]

    @property
    def images(self) -> torch.Tensor:
        return self._images[:, : self.size]

    @property
    def other_images(self) -> torch.Tensor:
        """Xc of the other samples in the space, (N', m)."""
        return self._other_images[:, : self.size]

    @property
    def grams(self) -> torch.Tensor:
        return self._grams[:, : self.size, : self.size]

    @property
    def rights(self) -> torch.Tensor:
        return self._rights[:, : self.size]

    @property
    def means(self) -> torch.Tensor:
        """Weighted mean of U in every environment, (E, m)."""
        return self._sums[:, : self.size] / self._num_samples[:, None]

    def extend(self, directions: torch.Tensor) -> int:
        """Take these directions (L, C) in, as far as they are new; how many dimensions they brought."""
        new = self._orthonormal(directions)
        if new.shape[1] == 0:
            return 0
        images = self._centred(self._counts, new)
        start, end = self.size, self.size + new.shape[1]
        self._make_room(end)
        self._basis[:, start:end] = new
        self._images[:, start:end] = images
        if self._others is not None:
            self._other_images[:, start:end] = self._centred(self._others, new)
        self.size = end
        self._fill_in(start, end)
        return end - start

    def coordinates(self, vectors: torch.Tensor) -> torch.Tensor:
        """W'v, (m, C) float64."""
        return (self.basis.T @ vectors.float()).double()

    def effects(self, coordinates: torch.Tensor, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        """W c, (L, C), in double precision a block of loci at a time."""
        coordinates = coordinates.to(dtype)
        blocks = self.basis.split(_CHUNK)
        return torch.cat([block.to(dtype) @ coordinates for block in blocks])

    def _centred(self, counts: AlleleCounts, effects: torch.Tensor) -> torch.Tensor:
        """Xc times effects, for samples whose genotypes are centred by the mean of the fitted ones."""
        shift = (self.mean_counts @ effects.double()).to(effects.dtype)
        return counts.times(effects).sub_(shift).mul_(counts.scale)

    def _orthonormal(self, directions: torch.Tensor) -> torch.Tensor:
        """What of the directions is orthogonal to the space, as an orthonormal basis (L, C'), C' <= C.

        Twice is enough (Giraud and others 2005), in single precision too: what is left of W after the second time is
        its rounding, and nothing here relies on more.
        """
        length = torch.linalg.vector_norm(directions, dim=0)
        new = (directions[:, length > 0] / length[length > 0]).float()
        new = new - self.basis @ (self.basis.T @ new)
        left = torch.linalg.vector_norm(new, dim=0)
        new = new[:, left > _INSIDE] / left[left > _INSIDE]
        if new.shape[1] == 0:
            return new
        wide = new.double()
        values, vectors = torch.linalg.eigh(wide.T @ wide)
        kept = values > _DEPENDENT * values[-1]
        new = (wide @ (vectors[:, kept] / values[kept].sqrt())).float()
        new = new - self.basis @ (self.basis.T @ new)
        return torch.linalg.qr(new.double())[0].float()

    def _make_room(self, size: int) -> None:
        room = self._basis.shape[1]
        if size <= room:
            return
        room = max(_FIRST_ROOM, size, room + room // 2)
        for name, dimensions in (
            ("_basis", (1,)),
            ("_images", (1,)),
            ("_other_images", (1,)),
            ("_grams", (1, 2)),
            ("_rights", (1,)),
            ("_sums", (1,)),
        ):
            held = getattr(self, name)
            shape = [room if place in dimensions else length for place, length in enumerate(held.shape)]
            larger = self._room(tuple(shape), held.dtype)
            larger[tuple(slice(0, length) for length in held.shape)] = held
            setattr(self, name, larger)

    def _fill_in(self, start: int, end: int) -> None:
        """The new rows and columns of G, and of b. Costs N m E for each new dimension."""
        width, num_environments = end - start, self._d.shape[1]
        products = torch.zeros(end, num_environments * width, dtype=torch.float64, device=self._d.device)
        rights = torch.zeros(width, self._targets[0].numel(), dtype=torch.float64, device=self._d.device)
        sums = torch.zeros(width, num_environments, dtype=torch.float64, device=self._d.device)
        for first in range(0, len(self._d), _CHUNK):
            rows = slice(first, first + _CHUNK)
            images, new = self._images[rows, :end], self._images[rows, start:end]
            weights = self._d[rows].float()
            weighted = (weights[:, :, None] * new[:, None, :]).reshape(len(new), -1)
            products += images.T @ weighted
            rights += new.T @ self._targets[rows].reshape(len(new), -1)
            sums += new.T @ weights
        self._sums[:, start:end] = sums.T
        self._rights[:, start:end] = rights.reshape(width, num_environments, -1).transpose(0, 1)
        block = products.reshape(end, num_environments, width).transpose(0, 1)  # (E, end, width)
        all_sums = self._sums[:, :end]
        block = block - all_sums[:, :, None] * all_sums[:, None, start:] / self._num_samples[:, None, None]
        block[:, start:] = (block[:, start:] + block[:, start:].transpose(1, 2)) / 2
        self._grams[:, :end, start:end] = block
        self._grams[:, start:end, :end] = block.transpose(1, 2)
