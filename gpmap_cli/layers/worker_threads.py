"""Independent pieces of one computation, each on a thread of its own.

Where a tensor operation shares its work among threads, all of them wait for the slowest at its end, so that a chain
of short operations on a machine shared with other jobs waits most of the time. Here a thread takes a whole chain.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import torch

Piece = TypeVar("Piece")

_POOLS: dict[int, ThreadPoolExecutor] = {}


def _pool(num_threads: int) -> ThreadPoolExecutor:
    """So many threads, whose own tensor operations are not shared out any further."""
    if num_threads not in _POOLS:
        pool = ThreadPoolExecutor(num_threads, thread_name_prefix="gpmap")
        all_here = Barrier(num_threads)

        def begin(_: int) -> None:
            all_here.wait()
            torch.get_num_threads()  # the first use in a thread sets the number, so it comes before setting another
            torch.set_num_threads(1)

        list(pool.map(begin, range(num_threads)))
        # The number is each thread's own, but threads that begin later take over what was set last.
        torch.set_num_threads(num_threads)
        _POOLS[num_threads] = pool
    return _POOLS[num_threads]


def _forget_threads() -> None:
    _POOLS.clear()


# Threads do not survive a fork.
os.register_at_fork(after_in_child=_forget_threads)


def for_each(work: Callable[[Piece], None], pieces: Sequence[Piece]) -> None:
    """Call `work` with every piece, without recording gradients, on as many threads as tensor operations have."""

    def unrecorded(piece: Piece) -> None:
        with torch.no_grad():
            work(piece)

    num_threads = torch.get_num_threads()
    if num_threads == 1 or len(pieces) == 1:
        for piece in pieces:
            unrecorded(piece)
    else:
        list(_pool(num_threads).map(unrecorded, pieces))
