"""The benchmark of the linear models at its smallest: it runs, and both sides give the same answers. No time is tested."""

from __future__ import annotations

import subprocess
import sys

from conftest import ROOT


def test_the_smallest_size_runs_and_the_answers_agree():
    parts = [word for part in ("ridge_one", "ridge_path", "pairs_explicit", "peak") for word in ("--only", part)]
    command = [sys.executable, str(ROOT / "scripts" / "bench_linear"), "--size", "tiny", *parts]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("answers within") == 3
    assert "GFlop/s" in result.stdout
