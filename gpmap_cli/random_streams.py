"""Named random streams: one seed, and every purpose draws from a stream of its own.

So adding a draw in one place (say, another environment's noise) never changes the numbers of another.
"""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, *purpose: str | int) -> np.random.Generator:
    """A generator for this purpose, the same for the same seed on every machine."""
    key = [word if isinstance(word, int) else zlib.crc32(word.encode()) for word in purpose]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
