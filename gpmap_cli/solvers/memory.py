"""How much memory this process may still take, on the processor or on an accelerator."""

from __future__ import annotations

import os
from pathlib import Path

import torch

_UNKNOWN = 4 * 2**30
_CONTROL_GROUP = Path("/sys/fs/cgroup")


def available_bytes(device: str) -> int:
    """Free memory of the device; of the processor what the system and the job's control group leave."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info()[0])
    return min(_system_bytes(), _control_group_bytes())


def _system_bytes() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (OSError, ValueError):
        return _UNKNOWN


def _control_group_bytes() -> int:
    """What the job's limit leaves; without a limit more than there can be."""
    try:
        limit = (_CONTROL_GROUP / "memory.max").read_text().strip()
        used = (_CONTROL_GROUP / "memory.current").read_text().strip()
        return max(int(limit) - int(used), 0)
    except (OSError, ValueError):
        return 2**62
