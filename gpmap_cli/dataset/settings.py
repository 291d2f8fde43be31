"""Settings of where the samples come from and how they are split. No array library is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gpmap_cli.errors import Problem
from gpmap_cli.settings import Group, setting


@dataclass(frozen=True)
class FileData:
    """A dataset file and what to take from it."""

    name: str = "file"
    path: str | None = None
    where_to_get_it: str | None = None  # said when the file is not there
    environments: tuple[str, ...] | None = None
    loci: tuple[str, ...] | None = None
    num_samples: int | None = setting(None, minimum=1)
    seed: int | None = setting(None, minimum=0)

    def problems(self, group: Group) -> list[Problem]:
        found = []
        if self.path is None:
            found.append(Problem(f"{group.prefix}path is not set", f"add {group.prefix}path=FILE.h5, a dataset file"))
        for key in ("environments", "loci"):
            chosen = getattr(self, key)
            if chosen is not None and len(chosen) == 0:
                found.append(Problem(f"{group.prefix}{key} is empty", f"leave {group.prefix}{key} out to take all"))
            elif chosen is not None and len(set(chosen)) < len(chosen):
                found.append(Problem(f"{group.prefix}{key} names one twice", "name each only once"))
        return found


@dataclass(frozen=True)
class Split:
    """Which samples train, which choose (validation) and which are only ever scored (test)."""

    method: Literal["random", "paper", "file", "kfold"] = "random"
    test_fraction: float = setting(0.15, above=0, below=1)
    validation_fraction: float = setting(0.15, above=0, below=1)
    name: str | None = None
    num_folds: int = setting(5, minimum=2)
    fold: int = setting(0, minimum=0)
    seed: int | None = setting(None, minimum=0)

    def problems(self, group: Group) -> list[Problem]:
        found = []
        if self.method == "random" and self.test_fraction + self.validation_fraction >= 1:
            found.append(
                Problem(
                    f"{group.prefix}test_fraction and {group.prefix}validation_fraction leave no training samples",
                    "their sum must be below 1",
                )
            )
        if self.method == "kfold" and self.name is None and self.fold >= self.num_folds:
            found.append(
                Problem(
                    f"{group.prefix}fold must be below {group.prefix}num_folds ({self.num_folds}), got `{self.fold}`",
                    f"folds count from 0: set {group.prefix}fold to 0..{self.num_folds - 1}",
                )
            )
        return found
