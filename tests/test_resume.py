"""A run that was killed or interrupted at any moment ends, resumed, in the result of one that never was."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

WORDS = (
    "train", "model=attention", "data.num_samples=1500", "data.num_loci=8", "data.environments=[23C,30C]",
    "training.epochs=8", "training.batch_size=32", "training.checkpoint_seconds=0.2",
)  # fmt: skip
VOLATILE = ("seconds", "peak_memory_mb")


def start(tmp_path, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "gpmap_cli", *map(str, words)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def result_of(directory):
    """All that a run found, without what no two runs share."""
    metrics = json.loads((directory / "metrics.json").read_text())
    history = pd.read_csv(directory / "history.csv").drop(columns="seconds")
    return (
        {key: value for key, value in metrics.items() if key not in VOLATILE},
        (directory / "predictions.csv.gz").read_bytes(),
        history.to_csv(),
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("undisturbed")
    process = start(tmp_path, *WORDS, "hydra.run.dir=run")
    began = time.monotonic()
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    return result_of(tmp_path / "run"), time.monotonic() - began


MOMENTS = {
    "no configuration yet": lambda directory: True,
    "configuration": lambda directory: (directory / "config.yaml").exists(),
    "first checkpoint": lambda directory: (directory / "checkpoints" / "last.npz").exists(),
    "in the middle": lambda directory: "23C,5," in read(directory / "history.csv"),
    "second environment": lambda directory: "30C," in read(directory / "history.csv"),
    "fit finished": lambda directory: (directory / "checkpoints" / "best.npz").exists(),
    "predictions written": lambda directory: (directory / "predictions.csv.gz").exists(),
}


def read(path):
    return path.read_text() if path.exists() else ""


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_9_at_any_moment_and_resume(undisturbed, tmp_path, moment):
    """Killed at that moment, and twice more while resuming, after delays that a seed chose."""
    reference, seconds = undisturbed
    directory = tmp_path / "run"
    process = start(tmp_path, *WORDS, "hydra.run.dir=run")
    until = time.monotonic() + 60
    while process.poll() is None and not MOMENTS[moment](directory) and time.monotonic() < until:
        time.sleep(0.01)
    kill(process)
    rng = random.Random(moment)
    for _ in range(2):
        process = start(tmp_path, *again(directory))
        try:
            process.communicate(timeout=rng.uniform(0.2, 0.9) * seconds)
        except subprocess.TimeoutExpired:
            kill(process)
    process = start(tmp_path, *again(directory))
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert result_of(directory) == reference
    assert [path for path in directory.rglob("*") if path.name.endswith(".part")] == []


def again(directory):
    """What a user types next: resume where there is something to resume."""
    begun = (directory / "config.yaml").exists()
    return ("train", f"resume={directory.name}") if begun else (*WORDS, f"hydra.run.dir={directory.name}")


def kill(process):
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def wait_for(condition, process, limit=60):
    until = time.monotonic() + limit
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_interrupted_it_says_how_to_go_on(undisturbed, tmp_path, number):
    process = start(tmp_path, *WORDS, "hydra.run.dir=run")
    wait_for((tmp_path / "run" / "checkpoints" / "last.npz").exists, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "continue with: gpmap train resume=run" in errors
    assert "Traceback" not in errors
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["status"] == "interrupted"
    process = start(tmp_path, "train", "resume=run")
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert output.splitlines()[-1] == "run"
    assert result_of(tmp_path / "run") == undisturbed[0]


def test_resuming_what_is_completed_changes_nothing(tmp_path, gpmap):
    gpmap("train", "model=mean", "data.num_samples=100", "hydra.run.dir=run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    result = gpmap("train", "resume=run")
    assert result.returncode == 0
    assert "completed already" in result.stderr
    assert result.stdout.splitlines()[-1] == "run"
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}


def test_a_run_without_a_checkpoint_starts_afresh(tmp_path, gpmap):
    gpmap("train", "model=ridge", "data.num_samples=100", "hydra.run.dir=run")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_bytes((tmp_path / "run" / "config.yaml").read_bytes())
    assert gpmap("train", "resume=begun").returncode == 0
    first, second = (Path(tmp_path / name / "predictions.csv.gz").read_bytes() for name in ("run", "begun"))
    assert first == second


def test_a_damaged_checkpoint_is_refused(tmp_path):
    process = start(tmp_path, *WORDS, "hydra.run.dir=run")
    last = tmp_path / "run" / "checkpoints" / "last.npz"
    wait_for(last.exists, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    last.write_bytes(last.read_bytes()[:1000])
    process = start(tmp_path, "train", "resume=run")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "not a readable checkpoint" in errors
    assert "hint: " in errors
