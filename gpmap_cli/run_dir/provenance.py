"""Where a run's numbers come from: versions, code, command line, hardware, data, split, start and end."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import gpmap_cli

_PACKAGES = ("torch", "numpy", "pandas", "h5py", "hydra-core", "omegaconf")


def provenance(
    started: datetime, data: dict[str, Any], split_sha256: str | None, device: str, num_processes: int = 1
) -> dict[str, Any]:
    """The content of `provenance.json`."""
    return {
        "gpmap_version": gpmap_cli.__version__,
        "git_commit": _git_commit(),
        "command_line": ["gpmap", *sys.argv[1:]],
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "hardware": {
            "machine": platform.machine(),
            "system": platform.platform(),
            "processor": _processor(),
            "num_cpus": os.cpu_count(),
            "device": device,
            "num_processes": num_processes,
        },
        "data": data,
        "split_sha256": split_sha256,
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def peak_memory_mb() -> float | None:
    """Largest resident memory of this process since `reset_peak_memory`, in MB (2^20 bytes)."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 1024), 1)


def reset_peak_memory() -> None:
    """Start counting anew, where the system allows it: several jobs of a sweep share one process."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _git_commit() -> str | None:
    """The commit of the checkout this code runs from; None for an installed package."""
    root = Path(gpmap_cli.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()
