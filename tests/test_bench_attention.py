"""The benchmark of the published network at its smallest: it runs, and the gradients agree. No time is tested."""

from __future__ import annotations

import subprocess
import sys

from conftest import ROOT


def test_the_smallest_size_runs_and_the_gradients_agree():
    command = [sys.executable, str(ROOT / "scripts" / "bench_attention"), "--size", "tiny"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    for row in (
        "gradients within",
        "samples evaluated",
        "memory of a step",
        "arithmetic of a step",
        "every path",
        "each alone -> one pass",
    ):
        assert result.stdout.count(row) == 1
