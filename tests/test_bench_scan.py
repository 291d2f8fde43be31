"""The benchmark of scans at its smallest: it runs, and its answers agree with NumPy's and PLINK's."""

from __future__ import annotations

import subprocess
import sys

from conftest import ROOT


def test_the_smallest_size_runs_and_the_answers_agree():
    command = [sys.executable, str(ROOT / "scripts" / "bench_scan"), "--size", "tiny"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    for row, number in (("all pairs", 1), ("all triples", 2), ("all quadruples", 1), ("PLINK 1.9", 1), ("noise", 2)):
        assert result.stdout.count(row) == number
