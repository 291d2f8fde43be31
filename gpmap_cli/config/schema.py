"""The typed configuration of every command, and filling it from a composed mapping with all problems at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import NoneType
from typing import Any, Literal

from gpmap_cli import models
from gpmap_cli.dataset.settings import FileData, Split
from gpmap_cli.errors import InputError, Problem, did_you_mean
from gpmap_cli.ld_pruning.settings import Pruning
from gpmap_cli.prepare import sources
from gpmap_cli.prepare.source_settings import SourceSettings
from gpmap_cli.scan.settings import ScanSettings
from gpmap_cli.settings import Group, Rule, Ruled, fill, num_bytes, setting
from gpmap_cli.simulate.settings import SimulatedData
from gpmap_cli.simulate.yeast_settings import YeastSyntheticData
from gpmap_cli.training.settings import TrainingSettings

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["float32", "float64"]
TransferMethod = Literal["joint", "alone", "ridge", "multi_ridge", "fine_tune", "unseen"]
# By `data.name`; data of any other name are read from a file.
SIMULATED_DATA: dict[str, type] = {"simulated": SimulatedData, "yeast_synthetic": YeastSyntheticData}


class MemoryLimited(Ruled):
    """Commands that hold genotypes, and where those that are too large stay on disk."""

    memory_limit: str | None

    def rules(self) -> tuple[Rule, ...]:
        return (self._limit_problems,)

    def _limit_problems(self, _: str) -> Iterator[Problem]:
        if self.memory_limit is not None and not num_bytes(self.memory_limit):
            what = f"memory_limit must be a size, got `{self.memory_limit}`"
            yield Problem(what, "write for instance 2GB or 500MB")

    def genotype_bytes(self, times_held: float) -> int | None:
        """How large genotypes may be that are in memory so many times at once; None: however large."""
        limit = None if self.memory_limit is None else num_bytes(self.memory_limit)
        return None if limit is None else int(limit / times_held)


@dataclass(frozen=True)
class TrainRoot(MemoryLimited):
    seed: int = setting(0, minimum=0, maximum=2**63 - 1)  # it goes into files as int64
    device: Device = "auto"
    precision: Precision = "float32"
    memory_limit: str | None = None


@dataclass(frozen=True)
class SimulateRoot:
    seed: int = setting(0, minimum=0, maximum=2**63 - 1)  # it goes into files as int64


@dataclass(frozen=True)
class EvaluateRoot(MemoryLimited):
    run: str = setting()
    environments: dict[str, dict[str, float]] | tuple[str, ...] | None = None
    rows: Literal["all", "train", "validation", "test"] = "all"
    device: Device = "auto"
    precision: Precision | None = None
    memory_limit: str | None = None


@dataclass(frozen=True)
class PredictRoot(MemoryLimited):
    run: str = setting()
    environments: dict[str, dict[str, float]] | tuple[str, ...] | None = None
    device: Device = "auto"
    precision: Precision | None = None
    memory_limit: str | None = None


@dataclass(frozen=True)
class ExplainRoot(MemoryLimited):
    run: str = setting()
    rows: Literal["all", "train", "validation", "test"] = "all"
    num_genotypes: int | None = setting(None, minimum=2)
    num_loci: int | None = setting(None, minimum=2)
    num_predictions: int = setting(1_000_000, minimum=1)
    num_pairs: int = setting(100_000, minimum=1)
    order: int = setting(2, minimum=2, maximum=4)
    seed: int = setting(0, minimum=0, maximum=2**63 - 1)
    device: Device = "auto"
    precision: Precision | None = None
    memory_limit: str | None = None


@dataclass(frozen=True)
class VarianceRoot(MemoryLimited):
    seed: int = setting(0, minimum=0, maximum=2**63 - 1)  # it goes into files as int64
    device: Device = "auto"
    order: int = setting(2, minimum=1, maximum=6)
    method: Literal["auto", "walsh_hadamard", "reml", "haseman_elston"] = "auto"
    weighted: bool = False
    num_probes: int = setting(12, minimum=0, maximum=1000)
    memory_limit: str | None = None


@dataclass(frozen=True)
class ScanRoot(MemoryLimited):
    run: str | None = None
    seed: int = setting(0, minimum=0, maximum=2**63 - 1)  # it goes into files as int64
    rows: Literal["all", "train", "validation", "test"] = "all"
    dry_run: bool = False
    max_hours: float = setting(24.0, above=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    memory_limit: str | None = None


@dataclass(frozen=True)
class TransferRoot(Ruled):
    target: str = setting()
    num_target: tuple[int, ...] | None = setting(None, minimum=3)
    repeats: int = setting(3, minimum=1, maximum=1000)
    methods: tuple[TransferMethod, ...] | None = None
    fine_tune_rate: float = setting(0.3, above=0)
    seed: int = setting(0, minimum=0, maximum=2**63 - 1)  # it goes into files as int64
    device: Device = "auto"
    precision: Precision = "float32"

    def rules(self) -> tuple[Rule, ...]:
        return tuple(partial(self._list_problems, key) for key in ("num_target", "methods"))

    def _list_problems(self, key: str, prefix: str) -> Iterator[Problem]:
        chosen = getattr(self, key)
        if chosen is not None and len(chosen) == 0:
            yield Problem(f"{prefix}{key} is empty", f"leave {prefix}{key} out for the default")
        elif chosen is not None and len(set(chosen)) < len(chosen):
            yield Problem(f"{prefix}{key} names one twice", "name each only once")


@dataclass(frozen=True)
class PrepareRoot:
    out: str = setting()
    overwrite: bool = False
    name: str | None = None  # of a public deposit; sources that know none say so (SourceSettings.job_problems)


@dataclass(frozen=True)
class InfoRoot:
    path: tuple[str, ...] = field()
    figures: str | None = None


@dataclass(frozen=True)
class ReportRoot:
    runs: tuple[str, ...] = field()


@dataclass(frozen=True)
class Command:
    """A command: one line of help, an example, the settings at its root, the groups it takes."""

    name: str
    summary: str
    example: str
    root: type
    groups: tuple[str, ...] = ()
    optional_groups: tuple[str, ...] = ()
    bare_paths: str | None = None  # the key that paths without a key go to
    writes_run_dir: bool = True
    resumable: bool = False  # `resume=DIR` goes on in DIR with the configuration found there


COMMANDS = {
    command.name: command
    for command in (
        Command(
            "simulate",
            "draw a dataset with known truth into a dataset file",
            "gpmap simulate data.order=4 data.epsilon=0.3",
            SimulateRoot,
            ("data", "prune"),
        ),
        Command(
            "prepare",
            "turn files of other formats into a dataset file (or a run directory)",
            "gpmap prepare source=arrays source.path=raw.h5 out=cross.h5",
            PrepareRoot,
            ("source", "prune"),
            writes_run_dir=False,
        ),
        Command(
            "info",
            "say what is in a dataset file or a run directory",
            "gpmap info cross.h5",
            InfoRoot,
            bare_paths="path",
            writes_run_dir=False,
        ),
        Command(
            "train",
            "fit a model, score it, and keep all of it in a run directory; -m sweeps",
            "gpmap train -m model=ridge,pairwise,attention data=rbd",
            TrainRoot,
            ("data", "model", "training", "split", "prune"),
            resumable=True,
        ),
        Command(
            "evaluate",
            "score a fitted model, on its own data or on others",
            "gpmap evaluate run=outputs/train/DATE/TIME rows=test",
            EvaluateRoot,
            optional_groups=("data", "split"),
        ),
        Command(
            "predict",
            "predict phenotypes of genotypes",
            "gpmap predict run=outputs/train/DATE/TIME data=file data.path=new.h5",
            PredictRoot,
            optional_groups=("data",),
        ),
        Command(
            "explain",
            "what a fitted model has learned: effects, pair effects and attention, scored where the truth is known",
            "gpmap explain run=outputs/train/DATE/TIME",
            ExplainRoot,
            optional_groups=("data", "split"),
        ),
        Command(
            "variance",
            "how much of the phenotypic variance is additive, pairwise, higher, and residual",
            "gpmap variance data=rbd order=3",
            VarianceRoot,
            ("data", "prune"),
        ),
        Command(
            "scan",
            "which loci interact: every pair (triple, quadruple) of loci tested, the strongest and how sure they are",
            "gpmap scan data=rbd scan.order=2",
            ScanRoot,
            ("data", "prune", "scan"),
            optional_groups=("split",),
            resumable=True,
        ),
        Command(
            "transfer",
            "how well an environment with few phenotypes is predicted with the help of the others",
            "gpmap transfer data=yeast target=23C num_target=[10,100,1000]",
            TransferRoot,
            ("data", "model", "training", "split", "prune"),
            resumable=True,
        ),
        Command(
            "report",
            "tables and figures over many runs",
            "gpmap report outputs/multirun/DATE/TIME",
            ReportRoot,
            bare_paths="runs",
        ),
    )
}


@dataclass(frozen=True)
class Config:
    """A whole, checked configuration: the root's own settings and one settings object per group."""

    command: str
    root: Any
    groups: dict[str, Any]

    def mapping(self) -> dict[str, Any]:
        """The configuration as plain values, in the order of the YAML files: what `config.yaml` holds."""
        plain: dict[str, Any] = {name: _plain(value) for name, value in self.groups.items()}
        plain.update(_plain(self.root))
        return plain

    def __getattr__(self, name: str) -> Any:
        groups = self.__dict__["groups"]
        if name in groups:
            return groups[name]
        raise AttributeError(name)


def load_config(command: str, mapping: Mapping[str, Any]) -> Config:
    """Check a composed mapping. All problems are raised together as one InputError."""
    spec = COMMANDS[command]
    problems: list[Problem] = []
    all_groups = (*spec.groups, *spec.optional_groups)
    own = {key: value for key, value in mapping.items() if key not in all_groups}
    root_keys = [item.name for item in dataclasses.fields(spec.root)]
    for key in list(own):
        if key not in root_keys:
            del own[key]
            problems.append(
                Problem(f"{key} is not a setting of {command}", did_you_mean(key, [*root_keys, *all_groups]))
            )
    root = fill(spec.root, own, Group("", command), problems)
    groups: dict[str, Any] = {}
    for name in all_groups:
        part = mapping.get(name)
        if part is None:
            if name == "prune":  # runs of before there was pruning
                groups[name] = Pruning()
            elif name in spec.groups:
                problems.append(Problem(f"{name} is not set", f"choose one with {name}=..."))
            else:
                groups[name] = None
            continue
        if not isinstance(part, Mapping):
            problems.append(Problem(f"{name} must be one of its choices, got `{part}`", f"see gpmap {command} --help"))
            continue
        groups[name] = _fill_group(name, part, problems)
    source, deposit = groups.get("source"), own.get("name")
    if isinstance(source, SourceSettings) and isinstance(deposit, (str, int, float, NoneType)):
        deposit = None if deposit is None else str(deposit)
        problems += source.job_problems(deposit, groups.get("prune") or Pruning())
    if problems:
        raise InputError(problems)
    return Config(command, root, groups)


def _fill_group(name: str, part: Mapping[str, Any], problems: list[Problem]) -> Any:
    chosen = str(part.get("name") or name)
    prefix = f"{name}."
    if name == "split":
        return fill(Split, part, Group(prefix, f"split={part.get('method', 'random')}"), problems)
    if name == "training":
        return fill(TrainingSettings, part, Group(prefix, chosen), problems)
    if name == "data":
        return fill(SIMULATED_DATA.get(chosen, FileData), part, Group(prefix, chosen), problems)
    if name == "scan":
        return fill(ScanSettings, part, Group(prefix, "scan"), problems)
    if name == "prune":
        return fill(Pruning, part, Group(prefix, "prune"), problems)
    kinds = sources if name == "source" else models
    known = kinds.names()
    if chosen not in known:
        hint = did_you_mean(chosen, known, f"{name}=", limit=len(known))
        problems.append(Problem(f"`{chosen}` is not a {name} of this program", hint))
        return None
    return fill(kinds.settings_class(chosen), part, Group(prefix, chosen), problems)


def _plain(settings: Any) -> Any:
    if settings is None:
        return None
    return {
        item.name: list(value) if isinstance(value := getattr(settings, item.name), tuple) else value
        for item in dataclasses.fields(settings)
    }
