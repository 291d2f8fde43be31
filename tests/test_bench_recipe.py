"""The ablation of the training recipe at its smallest: every row runs. No time and no score is tested."""

from __future__ import annotations

import subprocess
import sys

from conftest import ROOT


def test_the_smallest_size_runs():
    rows = [word for row in ("default", "adam", "twice_as_long", "ridge") for word in ("--only", row)]
    command = [sys.executable, str(ROOT / "scripts" / "bench_recipe"), "--size", "tiny", *rows]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("| `model=ridge` |") == 2  # as it comes, and in the table
