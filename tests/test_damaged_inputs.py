"""Damaged inputs of every kind are refused by name or imported right: no traceback, no hang, nothing half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from damage_inputs import KINDS, make, missing_programs

from gpmap_cli.prepare import sources

# `scripts/damaged_inputs` tries 2,000 of each.
NUM_VARIANTS = int(os.environ.get("GPMAP_DAMAGED_VARIANTS", "120"))
WITHOUT_FILES = {"notebook_checkpoint", "download"}  # tested by themselves


def test_every_source_of_files_is_damaged():
    assert {source for source, _, _ in KINDS.values()} == set(sources.names()) - WITHOUT_FILES


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_inputs_are_refused_or_imported(tmp_path, kind):
    absent = missing_programs(kind)
    if absent:
        pytest.skip(f"{', '.join(absent)} is not there to make the input")
    make(kind, tmp_path / kind)
    words = [str(Path(__file__).with_name("damage.py")), kind, str(tmp_path / kind), "0", str(NUM_VARIANTS), "1"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["otherwise"] == []
    assert result["imported"] + result["refused"] == NUM_VARIANTS
    assert result["refused"] > NUM_VARIANTS / 10
