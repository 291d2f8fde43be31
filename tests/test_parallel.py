"""Several processes that fit one model come to what one process comes to, and leave what one leaves.

What they exchange and how they agree is tested with threads that stand for processes; the whole with torchrun.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, make_samples, split_samples

from gpmap_cli import models
from gpmap_cli.commands.processes import Helper, place
from gpmap_cli.errors import FitFailed, InputError, Interrupted
from gpmap_cli.training.context import FitContext, Silent, Stop, World
from gpmap_cli.training.problems import predict_together
from gpmap_cli.training.settings import TrainingSettings

ENVIRONMENTS = ("a", "b")
# 23 samples in the last batch of an epoch's 32; every model ends with batches that its processes cannot share evenly.
SCHEDULE = TrainingSettings("test", 3, 32, 0.01, drop_last=False, initial_scale=0.3, max_gradient_norm=1.0, average=5)
SMALL = {
    "attention": {"embedding_dim": 4},
    "attention_multi_env": {"embedding_dim": 4},
    "transformer": {"width": 4, "num_heads": 2, "num_units": 8, "read_out_width": 4, "num_members": 2},
}


class Threads(World):
    """A world of threads: every sum waits for all of them."""

    def __init__(self, rank, size, meeting, desk):
        self.rank, self.size, self._meeting, self._desk = rank, size, meeting, desk

    def sum(self, tensors):
        self._desk[self.rank] = [tensor.detach().clone() for tensor in tensors]
        self._meeting.wait()
        shapes = [[tuple(one.shape) for one in self._desk[rank]] for rank in range(self.size)]
        assert shapes == [shapes[0]] * self.size
        with torch.no_grad():
            for number, tensor in enumerate(tensors):
                tensor.copy_(sum(self._desk[rank][number] for rank in range(self.size)))
        self._meeting.wait()


def together(size, work):
    """What `work(world)` gave, or raised, in each of `size` threads."""
    meeting, desk, found = threading.Barrier(size, timeout=60), {}, [None] * size

    def run(rank):
        try:
            found[rank] = work(Threads(rank, size, meeting, desk))
        except Exception as trouble:
            found[rank] = trouble

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


class Rows(Silent):
    def __init__(self):
        self.rows = []

    def epoch(self, row):
        self.rows.append((row.environment, row.epoch, row.train_loss, row.validation_loss, row.validation_r2))


class Memory:
    """A checkpoint store in memory."""

    def __init__(self):
        self.saved = None

    def save(self, arrays, facts, history):
        self.saved = {name: array.copy() for name, array in arrays.items()}, json.loads(json.dumps(facts))

    def load(self):
        return self.saved


def masked_samples():
    """Phenotypes of one environment are mostly in the first samples, so that no two processes have equally many."""
    samples = make_samples(num_samples=155, num_environments=2, missing=0.1, seed=3)
    samples.phenotypes[20:90, 0] = np.nan
    return split_samples(samples)


def fit(name, world, schedule=SCHEDULE, stop=None, store=None):
    reporter = Rows()
    train, validation = masked_samples()
    stop = stop or Stop()
    settings = models.settings_class(name)(**SMALL[name])
    context = FitContext(0, ENVIRONMENTS, schedule, "cpu", "float64", reporter, store, stop, world)
    model = models.model_class(name)(settings)
    model.fit(train, validation, context)
    return model.predict(validation.genotypes), reporter.rows


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", SMALL)
def test_a_shared_fit_is_that_of_one_process(name, size):
    alone, rows = fit(name, World())
    found = together(size, lambda world: fit(name, world))
    for predicted, found_rows in found:
        np.testing.assert_allclose(predicted, alone, rtol=0, atol=1e-10)
        assert [row[:2] for row in found_rows] == [row[:2] for row in rows]
        numbers = [[row[2:] for row in some] for some in (found_rows, rows)]
        np.testing.assert_allclose(*numbers, rtol=1e-9)
        assert np.array_equal(predicted, found[0][0])  # not a bit apart from each other


def test_a_batch_may_have_fewer_examples_than_there_are_processes():
    schedule = TrainingSettings("test", 2, 1, 0.01, initial_scale=0.3)
    alone, _ = fit("attention", World(), schedule)
    for predicted, _ in together(2, lambda world: fit("attention", world, schedule)):
        np.testing.assert_allclose(predicted, alone, rtol=0, atol=1e-10)


def test_models_that_share_no_fit_say_so():
    sharing = {name for name in models.names() if models.model_class(name).shares_fit}
    assert sharing == set(SMALL)


def test_whoever_is_asked_to_stop_all_stop_in_the_same_step():
    """Only the second process hears the signal; both leave at once, and the first has kept where they were."""
    alone, _ = fit("attention", World())
    stores = Memory(), Memory()

    def work(world):
        stop = Stop()

        class Stopping(Rows):
            steps = 0

            def step(self, loss):
                self.steps += 1
                stop.requested = world.rank == 1 and self.steps >= 7

        reporter = Stopping()
        train, validation = masked_samples()
        context = FitContext(0, ENVIRONMENTS, SCHEDULE, "cpu", "float64", reporter, stores[world.rank], stop, world)
        model = models.model_class("attention")(models.settings_class("attention")(**SMALL["attention"]))
        with pytest.raises(Interrupted):
            model.fit(train, validation, context)
        return reporter.steps

    steps = together(2, work)
    assert steps == [8, 8]
    assert stores[0].saved is not None
    predicted, _ = fit("attention", World(), store=stores[0])  # and one process may go on
    np.testing.assert_allclose(predicted, alone, rtol=0, atol=1e-10)


def test_only_the_first_process_keeps_checkpoints_in_between():
    schedule = TrainingSettings("test", 2, 32, 0.01, initial_scale=0.3, checkpoint_seconds=0)
    saves = [0, 0]

    def work(world):
        class Counting(Memory):
            def save(self, *what):
                saves[world.rank] += 1

        fit("attention", world, schedule, store=Counting())

    assert together(2, work) == [None, None]
    assert saves[1] == len(ENVIRONMENTS)  # of the finished fits
    assert saves[0] > saves[1]


def test_a_diverging_fit_ends_in_all_processes():
    wild = TrainingSettings("test", 50, 32, 1e6, schedule="constant", initial_scale=5.0)
    first, second = together(2, lambda world: fit("attention", world, wild))
    assert isinstance(first, FitFailed)
    assert str(first) == str(second)


@pytest.mark.parametrize("num_rows", [1, 2, 3, 10, 11])
def test_every_row_is_predicted_by_one_process(num_rows):
    asked = []

    def work(world):
        def predict(rows):
            asked.append((rows.start, rows.stop))
            return torch.arange(rows.start, rows.stop, dtype=torch.float64)[:, None]

        return predict_together(world, num_rows, predict)

    for found in together(3, work):
        assert torch.equal(found[:, 0], torch.arange(num_rows, dtype=torch.float64))
    if num_rows >= 3:
        assert sorted(row for start, stop in asked for row in range(start, stop)) == list(range(num_rows))


def test_who_is_not_started_by_a_launcher_is_alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert place().size == 1
    monkeypatch.setenv("RANK", "1")  # other programs use such names too
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert place().size == 1


WORDS = (
    "train", "-m", "model=attention,ridge,transformer", "data.num_samples=300", "data.num_loci=8",
    "data.environments=[23C,30C]", "training=debug", "precision=float64", "prune.max_abs_r=0.9",
    "hydra.sweep.dir=sweep",
)  # fmt: skip


def start(tmp_path, *words, module=("-m", "gpmap_cli")):
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *module, *words],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def result_of(directory):
    metrics = json.loads((directory / "metrics.json").read_text())
    scores = {part: values["mean_r2"] for part, values in metrics["splits"].items()}
    history = directory / "history.csv"
    rows = pd.read_csv(history).drop(columns="seconds") if history.exists() else pd.DataFrame()
    predictions = pd.read_csv(directory / "predictions.csv.gz")
    files = sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))
    return metrics["status"], files, rows, scores, predictions


def assert_same(first, second, tolerance):
    assert first[:2] == second[:2]
    pd.testing.assert_frame_equal(first[2], second[2], rtol=1e-4)
    assert first[3] == pytest.approx(second[3], abs=1e-3)
    np.testing.assert_allclose(first[4].predicted, second[4].predicted, rtol=0, atol=tolerance)
    pd.testing.assert_frame_equal(first[4].drop(columns="predicted"), second[4].drop(columns="predicted"))


@pytest.mark.slow
def test_a_sweep_in_two_processes_is_that_of_one(tmp_path, gpmap):
    """Networks share their fits, exact models do not; one set of files, one table, one directory in either case."""
    process = start(tmp_path, *WORDS)
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    (tmp_path / "sweep").rename(tmp_path / "two")
    alone = gpmap(*WORDS)
    assert alone.returncode == 0, alone.stderr
    for name in ("attention", "ridge", "transformer"):
        # Phenotypes spread by 0.03 and are written with nine digits.
        assert_same(
            result_of(tmp_path / "two" / f"model-{name}"), result_of(tmp_path / "sweep" / f"model-{name}"), 2e-9
        )
    provenance = json.loads((tmp_path / "two" / "model-attention" / "provenance.json").read_text())
    assert provenance["hardware"]["num_processes"] == 2
    assert output == alone.stdout
    assert errors.count("2 processes fit together") == 2
    assert errors.count("ridge is fitted by one process; the others wait") == 1
    assert errors.count("epoch 2 of 2") == alone.stderr.count("epoch 2 of 2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sweep", "two"]


def test_a_refused_configuration_is_refused_once(tmp_path):
    process = start(tmp_path, "train", "data.ordr=3", "training.epochs=0")
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 1  # torchrun's own, whatever ours was: 2
    assert "exitcode  : 2" in errors
    assert errors.count("error: data.ordr is not a setting") == 1
    assert errors.count("error: training.epochs must be") == 1
    assert errors.count("hint: ") == 2
    assert output == ""
    assert list(tmp_path.iterdir()) == []


FAILING = """
import os, runpy
if os.environ["RANK"] == "1":
    from gpmap_cli.commands import train
    from gpmap_cli.errors import InputError
    read, predict, seeds = train._data, train._predicted, []

    def failing_data(config, *rest):
        seeds.append(config.root.seed)
        if seeds[-1] == 1:
            raise InputError("cross.h5: there is no such file", "copy it to this machine")
        return read(config, *rest)

    def failing_predictions(*what):
        if seeds[-1] == 2:
            raise KeyError("a bug")
        return predict(*what)

    train._data, train._predicted = failing_data, failing_predictions
runpy.run_module("gpmap_cli", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_what_fails_in_one_process_only_is_said_by_the_first(tmp_path):
    """Before the fit and in the middle of it; the other jobs of the sweep are shared all the same."""
    (tmp_path / "failing.py").write_text(FAILING)
    words = ("train", "-m", "seed=1,2,3", "data.num_samples=100", "training=debug", "hydra.sweep.dir=sweep")
    process = start(tmp_path, *words, module=("failing.py",))
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "error: process 1: cross.h5: there is no such file" in errors
    assert "hint: copy it to this machine" in errors
    assert "error: process 1 failed:" in errors
    assert "KeyError: 'a bug'" in errors
    assert "2 of 3 jobs failed: seed-1, seed-2" in errors
    assert "rank      : 1" not in errors  # that process was there to the end
    status = {path.parent.name: json.loads(path.read_text())["status"] for path in tmp_path.rglob("metrics.json")}
    assert status == {"seed-1": "failed", "seed-2": "failed", "seed-3": "completed"}


def test_every_process_needs_a_device_of_its_own(monkeypatch):
    said = {"RANK": "5", "WORLD_SIZE": "6", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    helper = Helper(None, "job 1")
    assert helper.device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert helper.device("cuda") == "cuda:1"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="process 2 of this machine has no CUDA device"):
        helper.device("cuda")
    with pytest.raises(InputError, match="mps"):
        helper.device("mps")


def test_one_process_loads_nothing_that_several_need():
    code = "import sys, gpmap_cli.__main__, gpmap_cli.commands.processes; assert 'torch' not in sys.modules\n"
    code += "import gpmap_cli.commands.train; assert 'gpmap_cli.training.parallel' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


LONG = (
    "train", "model=attention", "data.num_samples=1000", "data.num_loci=8", "data.environments=[23C,30C]",
    "training.epochs=6", "training.batch_size=32", "training.checkpoint_seconds=0.2", "precision=float64",
)  # fmt: skip


def wait_for(path, process):
    until = time.monotonic() + 100
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def process_of_rank(launcher, rank):
    """The id of the process of that rank among those that a launcher has started."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    for child in children:
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return int(child)
    raise AssertionError(f"no process of rank {rank} among {children}")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
def test_stopped_or_killed_it_resumes_to_the_same_result(tmp_path, gpmap):
    """SIGTERM to the launcher, then one process of the resumed run killed, then to the end in one process."""
    process = start(tmp_path, *LONG, "hydra.run.dir=run")
    last = tmp_path / "run" / "checkpoints" / "last.npz"
    wait_for(last, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert errors.count("continue with: gpmap train resume=run") == 1
    assert errors.count("interrupted\n") == 1
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["status"] == "interrupted"
    before = last.stat().st_mtime_ns

    process = start(tmp_path, "train", "resume=run")
    until = time.monotonic() + 60
    while last.stat().st_mtime_ns == before and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process_of_rank(process, 1), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    # The first process hears of it from the others or, as the launcher ends them all, from the launcher.
    assert errors.count("has gone") + errors.count("interrupted\n") >= 1
    assert "gpmap_cli/commands" not in errors  # no traceback of ours
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["status"] in ("failed", "interrupted")

    assert gpmap("train", "resume=run").returncode == 0  # one process goes on with what two began
    assert gpmap(*LONG, "hydra.run.dir=alone").returncode == 0
    assert_same(result_of(tmp_path / "run"), result_of(tmp_path / "alone"), 1e-8)
