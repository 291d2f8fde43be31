"""Whether a step of gradient descent fits into memory, and what to do where it does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gpmap_cli.dataset.physical_memory import physical_memory
from gpmap_cli.errors import InputError

_HINT = "take fewer loci (prune.max_abs_r=0.94, data.num_loci or data.loci), or a smaller training.batch_size"
# What the allocators of CPU and Apple GPU say; CUDA's has an error of its own.
_SAID_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


def device_memory(device: str) -> int | None:
    """Bytes of memory that the device has in all; None where that is not known."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return physical_memory()


def refuse_step_beyond_memory(what: str, num_bytes: int, device: str) -> None:
    """Refuse a training step that needs more than all memory of its device: it would end in the middle of the fit."""
    memory = device_memory(device)
    if memory is not None and num_bytes > memory:
        owner = "the machine" if torch.device(device).type != "cuda" else "the CUDA device"
        raise InputError(
            f"{what} needs about {num_bytes / 2**30:.1f} GB of memory and {owner} has {memory / 2**30:.1f} GB", _HINT
        )


@contextmanager
def refusing_what_memory_refuses() -> Iterator[None]:
    """Around steps of a fit: memory that ran out all the same is the size of the problem, not a bug."""
    try:
        yield
    except (RuntimeError, MemoryError) as trouble:
        said = str(trouble)
        if not isinstance(trouble, (MemoryError, torch.OutOfMemoryError)) and not any(
            words in said for words in _SAID_OUT_OF_MEMORY
        ):
            raise
        raise InputError(
            f"a training step does not fit into memory ({said.splitlines()[0] if said else 'no room'})", _HINT
        ) from trouble
