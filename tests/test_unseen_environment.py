"""The study of unseen temperatures at its smallest: it runs to its table. No score is tested."""

from __future__ import annotations

import subprocess
import sys

from conftest import ROOT


def test_the_smallest_size_runs():
    words = ["--size", "tiny", "--only", "ridge", "--only", "transformer_covariates"]
    command = [sys.executable, str(ROOT / "scripts" / "unseen_environment"), *words]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("| 29C |") == 2
