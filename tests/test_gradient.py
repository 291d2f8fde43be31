"""Fitting by gradient descent: schedules, choosing the epoch, and continuing to bitwise the same result."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from conftest import make_samples, split_samples

from gpmap_cli.errors import FitFailed, InputError, Interrupted
from gpmap_cli.models.attention import Attention, Settings
from gpmap_cli.training.context import FitContext, Silent
from gpmap_cli.training.gradient import fit_each, scheduled_rate
from gpmap_cli.training.settings import TrainingSettings

SCHEDULE = TrainingSettings("test", 4, 32, 0.01, initial_scale=0.3, checkpoint_seconds=0)


class Memory:
    """A checkpoint store that keeps everything it was ever given, as bytes would."""

    def __init__(self):
        self.saved = []

    def save(self, arrays, facts, history):
        arrays = {name: array.copy() for name, array in arrays.items()}
        self.saved.append((arrays, json.loads(json.dumps(facts))))

    def load(self):
        return copy.deepcopy(self.saved[-1]) if self.saved else None


def ask_to_stop(context, store, stop_after):
    """Once the store has been given so many checkpoints."""
    save = store.save

    def stopping(*what):
        save(*what)
        context.stop.requested = len(store.saved) >= stop_after

    store.save = stopping


class Rows(Silent):
    def __init__(self):
        self.rows = []
        self.begun = []

    def begin(self, environment, num_steps, done):
        self.begun.append((environment, num_steps, done))

    def epoch(self, row):
        self.rows.append(row)


def fit(store=None, stop_after=None, schedule=SCHEDULE, reporter=None, environments=("a", "b"), seed=0):
    samples = make_samples(num_samples=210, num_environments=len(environments), missing=0.05, seed=1)
    context = FitContext(seed, environments, schedule, checkpoints=store, reporter=reporter or Rows())
    if stop_after is not None:
        ask_to_stop(context, store, stop_after)
    model = Attention(Settings(embedding_dim=4))
    model.fit(*split_samples(samples), context)
    return model


def same(first, second):
    return all(np.array_equal(first[name], second[name]) for name in first) and first.keys() == second.keys()


def test_a_fit_that_is_stopped_anywhere_continues_to_bitwise_the_same_weights():
    reference_store = Memory()
    reference = fit(reference_store).state()
    num_saved = len(reference_store.saved)
    assert num_saved > 20
    for stop_after in (1, 3, 7, num_saved // 2, num_saved // 2 + 1, num_saved - 2):
        store = Memory()
        with pytest.raises(Interrupted):
            fit(store, stop_after)
        store.save = Memory.save.__get__(store)
        assert same(fit(store).state(), reference), f"stopped after {stop_after} of {num_saved}"


def test_a_fit_continues_from_any_checkpoint_it_ever_wrote():
    """Killed: whatever the last checkpoint was, the result and the history are those of the whole run."""
    store, reporter = Memory(), Rows()
    reference = fit(store, reporter=reporter).state()
    for place in range(len(store.saved)):
        again = Memory()
        again.saved = store.saved[: place + 1]
        assert same(fit(again).state(), reference)
        history = again.saved[-1][1]["history"]
        assert [{**row, "seconds": 0} for row in history] == [{**asdict(row), "seconds": 0} for row in reporter.rows]


def test_stopping_is_deferred_only_while_fitting():
    seen = []

    class Watching(Rows):
        def step(self, loss):
            seen.append(context.stop.deferred)

    samples = make_samples(num_samples=100)
    context = FitContext(0, ("a", "b"), SCHEDULE, reporter=Watching())
    Attention(Settings(4)).fit(*split_samples(samples), context)
    assert seen
    assert all(seen)
    assert not context.stop.deferred


def test_the_best_epoch_by_validation_is_kept():
    class Scripted:
        """Weights count the epochs; the validation R^2 is scripted."""

        def __init__(self, scores):
            self.network = torch.nn.Linear(1, 1)
            self.num_examples = 4
            self.scores = iter(scores)

        def loss(self, examples):
            return (self.network.weight**2).sum(), 1

        def validate(self):
            self.seen = getattr(self, "seen", [])
            self.seen.append(self.network.weight.item())
            return 0.1, next(self.scores)

    schedule = TrainingSettings("test", 4, 4, 0.1, schedule="constant")
    for scores, best in (([0.1, 0.5, 0.5, 0.2], 1), ([0.9, 0.5, 0.5, 0.2], 0), ([None] * 4, 3)):
        problem = Scripted(scores)
        (weights,) = fit_each([""], lambda _, problem=problem: problem, FitContext(0, ("a",), schedule))
        assert weights["weight"].item() == problem.seen[best]
    patient = TrainingSettings("test", 100, 4, 0.1, schedule="constant", patience=3)
    problem = Scripted([0.1, 0.5, 0.4, 0.3, 0.2, 0.9])
    fit_each([""], lambda _: problem, FitContext(0, ("a",), patient))
    assert len(problem.seen) == 5  # three epochs without a better one


def test_a_diverging_fit_says_so():
    wild = TrainingSettings("test", 50, 32, 1e6, schedule="constant", initial_scale=5.0)
    with pytest.raises(FitFailed, match=r"loss became (nan|inf|\d).*environment a.*lower training.learning_rate"):
        fit(schedule=wild)


def test_what_a_diverging_fit_was_after_its_last_good_epoch_is_kept(monkeypatch):
    """The first epoch is fine, the second blows up: what was saved last is whole, finite, and of epoch 1."""
    store = Memory()
    calm = replace(SCHEDULE, schedule="constant", learning_rate=0.001, checkpoint_seconds=1e9)
    monkeypatch.setattr(
        "gpmap_cli.training.gradient._Descent._rate", lambda self, _: 0.001 if self._progress.epoch == 1 else 1e30
    )
    with pytest.raises(FitFailed, match="in epoch 2"):
        fit(store, schedule=calm)
    arrays, facts = store.saved[-1]
    assert (facts["progress"]["epoch"], facts["progress"]["batch"]) == (2, 0)
    assert [row["epoch"] for row in facts["history"]] == [1]
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_the_average_of_weights_is_what_is_scored_and_resumed():
    averaged = replace(SCHEDULE, average=10, optimizer="muon")
    store = Memory()
    whole = fit(store, schedule=averaged)
    assert not np.array_equal(whole.state()["0/offset"], fit().state()["0/offset"])
    stopped = Memory()
    with pytest.raises(Interrupted):
        fit(stopped, stop_after=7, schedule=averaged)
    again = fit(stopped, schedule=averaged)
    for name, array in whole.state().items():
        np.testing.assert_array_equal(again.state()[name], array)


@pytest.mark.parametrize(
    "trouble",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        MemoryError(),
        RuntimeError("shapes do not match"),
    ],
    ids=["cpu", "cuda", "python", "a bug"],
)
def test_memory_that_runs_out_is_no_bug(monkeypatch, trouble):
    def fail(*_):
        raise trouble

    monkeypatch.setattr(torch.Tensor, "backward", fail)
    if "shapes" in str(trouble):
        with pytest.raises(RuntimeError, match="shapes"):
            fit()
        return
    with pytest.raises(InputError, match="does not fit into memory") as refused:
        fit()
    assert "training.batch_size" in refused.value.problems[0].hint


def test_history_rows():
    reporter = Rows()
    fit(reporter=reporter)
    assert [(row.environment, row.epoch) for row in reporter.rows] == [(e, n) for e in "ab" for n in (1, 2, 3, 4)]
    assert all(row.seconds > 0 and math.isfinite(row.train_loss) for row in reporter.rows)
    assert [begun[0] for begun in reporter.begun] == ["a", "b"]


def test_seeds_differ():
    assert not same(fit(seed=0).state(), fit(seed=1).state())


def test_one_cycle():
    schedule = TrainingSettings("test", 1, 1, 0.5, warmup_fraction=0.25)
    rates = [scheduled_rate(schedule, 0.5, step, 100) for step in range(100)]
    assert max(rates) == pytest.approx(0.5)
    assert rates.index(max(rates)) in (24, 25)
    assert rates[0] == pytest.approx(0.5 / 25)
    assert rates[-1] < 0.001
    constant = TrainingSettings("test", 1, 1, 0.5, schedule="constant")
    assert {scheduled_rate(constant, 0.5, step, 100) for step in range(100)} == {0.5}


@pytest.mark.parametrize(
    ("num_examples", "batch", "rate"),
    [(100_000, 256, 0.01), (2560, 64, 0.005), (40, 8, 0.01 * math.sqrt(1 / 32)), (5, 5, None)],
)
def test_few_examples_get_smaller_batches(num_examples, batch, rate):
    schedule = TrainingSettings("test", 1, 256, 0.01, min_steps_per_epoch=40)
    found = schedule.batch_and_rate(num_examples)
    assert found[0] == batch
    if rate is not None:
        assert found[1] == pytest.approx(rate)
    plain = TrainingSettings("test", 1, 256, 0.01)
    assert plain.batch_and_rate(num_examples) == (min(256, num_examples), 0.01)
