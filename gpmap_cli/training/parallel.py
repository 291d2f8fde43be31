"""Several processes that fit one model: what one found goes to the others through torch.distributed.

Every process holds all weights and takes its part of every batch (data-parallel); sums are exchanged by gloo between
CPUs and by NCCL between GPUs. All of them come out of a sum with the same bits, so all take the same decisions.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

# Its functions take the default group of the moment of their import for a default argument. Imported later, by torch's
# optimisers, they would keep a group alive after its end, and who waits for it would not hear that it has ended.
import torch.distributed.nn.functional
from numpy.typing import NDArray

from gpmap_cli.errors import ProcessLost
from gpmap_cli.training.context import CheckpointStore, Epoch, World


class Processes(World):
    """The processes of a process group, of which this is number `rank`."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    @torch.no_grad()
    def sum(self, tensors: list[torch.Tensor]) -> None:
        alike: dict[Any, list[torch.Tensor]] = defaultdict(list)
        for tensor in tensors:
            alike[tensor.dtype, tensor.device].append(tensor)
        for group in alike.values():  # one message for all tensors of a type: a network has many small ones
            flat = torch.cat([tensor.reshape(-1) for tensor in group])
            with _hearing_of_losses():
                dist.all_reduce(flat)
            parts = flat.split([tensor.numel() for tensor in group])
            torch._foreach_copy_(group, [part.view_as(one) for part, one in zip(parts, group, strict=True)])

    def from_first(self, content: bytes) -> bytes:
        """What the first process has, in all of them."""
        length = torch.tensor([len(content)])
        with _hearing_of_losses():
            dist.broadcast(length, 0)
        buffer = torch.zeros(int(length), dtype=torch.uint8)
        if self.rank == 0:
            buffer.numpy()[:] = np.frombuffer(content, dtype=np.uint8)
        with _hearing_of_losses():
            dist.broadcast(buffer, 0)
        return buffer.numpy().tobytes()


@contextmanager
def _hearing_of_losses() -> Iterator[None]:
    try:
        yield
    except RuntimeError as trouble:
        raise ProcessLost("one of the processes that fit together has gone") from trouble


@contextmanager
def process_group(store: dist.Store, rank: int, size: int, device: str) -> Iterator[Processes]:
    """The processes that meet at `store`, joined for as long as this lasts; then those that still wait hear it end."""
    backend = "gloo"
    if torch.device(device).type == "cuda":
        torch.cuda.set_device(torch.device(device))
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    try:
        yield Processes(rank, size)
    finally:
        dist.destroy_process_group()


class SharedCheckpoints:
    """Checkpoints that the first process keeps and all of them go on from; `store` is None in the others."""

    def __init__(self, world: Processes, store: CheckpointStore | None) -> None:
        self._world, self._store = world, store

    def save(self, arrays: dict[str, NDArray], facts: dict[str, Any], history: list[Epoch]) -> None:
        if self._store is not None:
            self._store.save(arrays, facts, history)

    def load(self) -> tuple[dict[str, NDArray], dict[str, Any]] | None:
        """The last checkpoint; the others need not see the directory that it is in."""
        saved = self._store.load() if self._store is not None else None
        content = b""
        if saved is not None:
            stream = io.BytesIO()
            arrays: dict[str, Any] = {"facts.json": np.array(json.dumps(saved[1])), **saved[0]}
            np.savez(stream, **arrays)
            content = stream.getvalue()
        content = self._world.from_first(content)
        if self._world.rank == 0 or not content:
            return saved
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
        return found, json.loads(str(found.pop("facts.json")))
