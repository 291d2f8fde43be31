"""Several processes that a launcher such as torchrun started for one command, and how they come to fit together.

The first process does all that one process alone would do. The others touch no file of a run and print nothing: they
wait (`following.py`) until it announces a fit, load the same data, help to fit and to predict, and wait again. They
find each other by notes in the launcher's store, and only once all have their data do they exchange sums. So what is
refused is said once, a sweep is many such fits, and a command that needs no help leaves the others waiting.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpmap_cli.errors import FitFailed, InputError, Interrupted, Problem, ProcessLost
from gpmap_cli.training.context import CheckpointStore, Stop, World

if TYPE_CHECKING:
    from torch.distributed import Store

    from gpmap_cli.config.schema import Config

log = logging.getLogger("gpmap")

END = "end"  # the note after which nothing more is announced
_LOOK_SECONDS = 0.05
_numbers = itertools.count(1)  # of the fits that this process has announced


@dataclass(frozen=True)
class Place:
    """Which of how many processes this is, and which of those on this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0


def place() -> Place:
    """What the environment variables of torchrun say; without all of them this process is alone."""
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    said = [os.environ.get(name, "") for name in names]
    if not all(said) or not (said[0].isdecimal() and said[1].isdecimal()):
        return Place()
    rank, local = said[0], os.environ.get("LOCAL_RANK", "")
    return Place(int(rank), int(said[1]), int(local if local.isdecimal() else rank))


class Board:
    """Notes that processes leave for each other: looked for rather than waited for, so that signals are heard."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def post(self, name: str, text: str = "") -> None:
        self.store.set(name, text)

    def read(self, name: str) -> str | None:
        """A note, or None where there is none."""
        return self.store.get(name).decode() if self.store.check([name]) else None

    def first_of(self, *names: str, seconds: float | None = None) -> str | None:
        """The first of these notes that is there; None when none has come after so many seconds."""
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            for name in names:
                if self.store.check([name]):
                    return name
            if until is not None and time.monotonic() > until:
                return None
            time.sleep(_LOOK_SECONDS)


@cache
def board() -> Board:
    """The notes of the processes that were started together."""
    from torch.distributed import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(iter(rendezvous("env://")))
    return Board(PrefixStore("gpmap", store))


def announce_end() -> None:
    """The first process is done: the others may go."""
    with suppress(RuntimeError):  # the launcher is ending everything already
        board().post(END)


class Team:
    """The processes that fit together: this one alone."""

    size = 1

    def device(self, chosen: str) -> str:
        """Which device this process computes on, where `chosen` is that of the run."""
        return chosen

    def begin(self, device: str) -> World:
        """All have their data and fit from here on."""
        return World()

    def checkpoints(self, store: CheckpointStore | None) -> CheckpointStore | None:
        return store


class _Processes(Team):
    """Several: `begin` joins them in a process group, which lasts as long as `group`."""

    def __init__(self, notes: Board, job: str) -> None:
        self.notes, self._job, self._place = notes, job, place()
        self.size = self._place.size
        self.group = ExitStack()
        self.begun = False

    def device(self, chosen: str) -> str:
        import torch

        if chosen == "mps":
            raise InputError("device=mps is one device, and several processes need one each", "use device=cpu")
        if chosen != "cuda":
            return chosen
        local, count = self._place.local_rank, torch.cuda.device_count()
        if local >= count:
            raise InputError(
                f"process {local + 1} of this machine has no CUDA device of its own: there are {count}",
                f"start at most {count} processes (torchrun --nproc-per-node={count}), or use device=cpu",
            )
        return f"cuda:{local}"

    def checkpoints(self, store: CheckpointStore | None) -> CheckpointStore | None:
        from gpmap_cli.training.parallel import SharedCheckpoints

        return SharedCheckpoints(self._world, store)

    def _join(self, device: str) -> World:
        from torch.distributed import PrefixStore

        from gpmap_cli.training.parallel import process_group

        self.begun = True
        store = PrefixStore(self._job, self.notes.store)
        self._world = self.group.enter_context(process_group(store, self._place.rank, self.size, device))
        return self._world


class _First(_Processes):
    """As the first process sees them."""

    def begin(self, device: str) -> World:
        for rank in range(1, self.size):
            name = f"{self._job} ready {rank}"
            self.notes.first_of(name)
            _raise(rank, self.notes.read(name))
        self.notes.post(f"{self._job} fit")
        return self._join(device)

    def raise_reported(self) -> None:
        """What another process failed of in the middle of the fit; this one only saw it go."""
        for rank in range(1, self.size):
            _raise(rank, self.notes.read(f"{self._job} failed {rank}"))


class Helper(_Processes):
    """As one of the others sees them."""

    def begin(self, device: str) -> World:
        self.notes.post(f"{self._job} ready {self._place.rank}")
        if self.notes.first_of(f"{self._job} fit", f"{self._job} over") == f"{self._job} over":
            raise Interrupted
        world = self._join(device)
        self.group.push(lambda _, trouble, __: self._report(trouble))  # before the first process sees us go
        return world

    def report_early(self, trouble: Exception) -> None:
        """There is no fit with this process, and why."""
        self.notes.post(f"{self._job} ready {self._place.rank}", _as_text(trouble))

    def _report(self, trouble: BaseException | None) -> bool:
        if isinstance(trouble, Exception) and not isinstance(trouble, (FitFailed, Interrupted, ProcessLost)):
            self.notes.post(f"{self._job} failed {self._place.rank}", _as_text(trouble))
        return False


@contextmanager
def team(config: Config, scratch: Path, stop: Stop, shares_fit: bool, done: bool) -> Iterator[Team]:
    """Those who fit this run together: all processes where the model can share its fit and it is not `done` yet."""
    here = place()
    if here.size == 1:
        yield Team()
        return
    if not shares_fit or done:
        if not done:
            log.info("%s is fitted by one process; the others wait", config.model.name)
        _say_threads(1)
        yield Team()
        return
    log.info("%d processes fit together", here.size)
    _say_threads(int(os.environ.get("LOCAL_WORLD_SIZE") or here.size))
    job = f"job {next(_numbers)}"
    first = _First(board(), job)
    stop.said_twice = True
    first.notes.post(job, json.dumps({"config": config.mapping(), "scratch": str(scratch.absolute())}))
    try:
        with first.group:
            yield first
    except ProcessLost as trouble:
        if stop.requested:  # another process was ended before it could stop in the same step
            raise Interrupted from trouble
        first.raise_reported()
        raise FitFailed(str(trouble)) from trouble
    finally:
        with suppress(RuntimeError):  # the launcher has gone
            first.notes.post(f"{job} over")


def _say_threads(num_processes: int) -> None:
    """torchrun gives every process one thread unless told otherwise: too few on a machine with more cores."""
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    num_threads = num_cores // num_processes
    if os.environ.get("OMP_NUM_THREADS") == "1" and num_threads > 1:
        log.info("a process computes with 1 thread here; OMP_NUM_THREADS=%d would use all cores", num_threads)


def _as_text(trouble: Exception) -> str:
    if isinstance(trouble, InputError):
        return json.dumps({"problems": [[one.message, one.hint] for one in trouble.problems]})
    return json.dumps({"traceback": "".join(traceback.format_exception(trouble))})


def _raise(rank: int, text: str | None) -> None:
    """What `_as_text` said of a process, raised again in this one."""
    if not text:
        return
    said: dict[str, Any] = json.loads(text)
    if "problems" in said:
        raise InputError(Problem(f"process {rank}: {message}", hint) for message, hint in said["problems"])
    raise RuntimeError(f"process {rank} failed:\n{said['traceback']}")
