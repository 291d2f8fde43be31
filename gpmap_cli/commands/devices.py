"""Which device computes."""

from __future__ import annotations

from gpmap_cli.errors import InputError


def choose_device(wanted: str, precision: str, needs_float64: bool) -> str:
    """The device of a run: `auto` takes a CUDA device when there is one. Refused when the wanted one is absent."""
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("device=cuda: there is no CUDA device here", "use device=cpu or device=auto")
    if wanted == "mps":
        if not torch.backends.mps.is_available():
            raise InputError("device=mps: there is no Apple GPU here", "use device=cpu or device=auto")
        if precision == "float64" or needs_float64:
            raise InputError("device=mps computes no float64, which this run needs", "use device=cpu")
    return wanted
