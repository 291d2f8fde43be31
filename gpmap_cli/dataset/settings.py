"""Settings of where the samples come from and how they are split. No array library is imported here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from gpmap_cli.errors import Problem
from gpmap_cli.settings import Rule, Ruled, setting

DEFAULT_VALIDATION = 0.15  # of all samples


@dataclass(frozen=True)
class FileData(Ruled):
    """A dataset file and what to take from it."""

    name: str = "file"
    path: str | None = None
    where_to_get_it: str | None = None  # said when the file is not there
    environments: tuple[str, ...] | None = None
    loci: tuple[str, ...] | None = None
    num_samples: int | None = setting(None, minimum=1)
    seed: int | None = setting(None, minimum=0)
    covariates: tuple[str, ...] | None = None
    factors: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    environment_covariates: dict[str, dict[str, float]] | None = None

    def rules(self) -> tuple[Rule, ...]:
        chosen = (
            partial(self._choice_problems, key) for key in ("environments", "loci", "covariates", "factors", "groups")
        )
        return self._path_problems, *chosen, self._covariate_problems

    @property
    def fixed(self) -> tuple[str, ...]:
        """The columns of the phenotype table that are covariates, numbers and factors."""
        return (*(self.covariates or ()), *(self.factors or ()))

    @property
    def not_predicted(self) -> tuple[str, ...]:
        """The columns of the phenotype table that are no phenotypes: covariates, and what says who belongs together."""
        return tuple(dict.fromkeys((*self.fixed, *(self.groups or ()))))

    def _covariate_problems(self, prefix: str) -> Iterator[Problem]:
        both = sorted(set(self.covariates or ()) & set(self.factors or ()))
        if both:
            yield Problem(f"{prefix}covariates and {prefix}factors both name {both[0]}", "name it in one of them")
        predicted = sorted(set(self.environments or ()) & set(self.not_predicted))
        if predicted:
            what = "covariate" if predicted[0] in self.fixed else "column of groups"
            yield Problem(
                f"{predicted[0]} is a {what} and among {prefix}environments",
                f"a column is a phenotype or a {what}, not both",
            )

    def _path_problems(self, prefix: str) -> Iterator[Problem]:
        if self.path is None:
            yield Problem(f"{prefix}path is not set", f"add {prefix}path=FILE.h5, a dataset file")

    def _choice_problems(self, key: str, prefix: str) -> Iterator[Problem]:
        chosen = getattr(self, key)
        if chosen is not None and len(chosen) == 0:
            rest = "to take all" if key in ("environments", "loci") else "for none"
            yield Problem(f"{prefix}{key} is empty", f"leave {prefix}{key} out {rest}")
        elif chosen is not None and len(set(chosen)) < len(chosen):
            yield Problem(f"{prefix}{key} names one twice", "name each only once")


@dataclass(frozen=True)
class Split(Ruled):
    """Which samples train, which choose (validation) and which are only ever scored (test)."""

    method: Literal["random", "paper", "file", "kfold", "grouped", "mutation_order"] = "random"
    test_fraction: float = setting(0.15, above=0, below=1)
    validation_fraction: float | None = setting(DEFAULT_VALIDATION, above=0, below=1)
    name: str | None = None
    num_folds: int | None = setting(5, minimum=2)
    fold: int = setting(0, minimum=0)
    groups: str | None = None
    groups_file: str | None = None
    reference: str = "all_reference"
    max_train_mutations: int | None = setting(None, minimum=0)
    min_test_mutations: int | None = setting(None, minimum=1)
    seed: int | None = setting(None, minimum=0)

    def rules(self) -> tuple[Rule, ...]:
        return self._fraction_problems, self._fold_problems, self._mutation_problems

    @property
    def is_cross_validation(self) -> bool:
        """Whether one of several folds is tested."""
        return self.method == "kfold" or (self.method == "grouped" and self.num_folds is not None)

    def _fraction_problems(self, prefix: str) -> Iterator[Problem]:
        validation_fraction = self.validation_fraction or DEFAULT_VALIDATION
        by_fraction = self.method == "random" or (self.method == "grouped" and self.num_folds is None)
        if by_fraction and self.test_fraction + validation_fraction >= 1:
            yield Problem(
                f"{prefix}test_fraction and {prefix}validation_fraction leave no training samples",
                "their sum must be below 1",
            )

    def _fold_problems(self, prefix: str) -> Iterator[Problem]:
        drawn = self.is_cross_validation and (self.method == "grouped" or self.name is None)
        if drawn and self.num_folds is None:
            yield Problem(f"{prefix}num_folds is not set", f"set {prefix}num_folds, or {prefix}name to stored folds")
        elif drawn and self.num_folds is not None and self.fold >= self.num_folds:
            yield Problem(
                f"{prefix}fold must be below {prefix}num_folds ({self.num_folds}), got `{self.fold}`",
                f"folds count from 0: set {prefix}fold to 0..{self.num_folds - 1}",
            )

    def _mutation_problems(self, prefix: str) -> Iterator[Problem]:
        if self.method != "mutation_order":
            return
        if self.max_train_mutations is None:
            yield Problem(
                f"{prefix}max_train_mutations is not set",
                f"add {prefix}max_train_mutations=NUMBER: genotypes with so many mutations or fewer train",
            )
        elif self.min_test_mutations is not None and self.min_test_mutations <= self.max_train_mutations:
            yield Problem(
                f"{prefix}min_test_mutations ({self.min_test_mutations}) must be above {prefix}max_train_mutations"
                f" ({self.max_train_mutations})",
                f"leave {prefix}min_test_mutations out to test all that have more",
            )
