"""`source=variant_strings`: a deep mutational scan, variants written as mutations or sequences, with scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gpmap_cli.errors import Problem
from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.source_settings import SourceSettings
from gpmap_cli.settings import Rule, setting


@dataclass(frozen=True)
class Settings(SourceSettings):
    """Which columns hold the variants and their scores, and what they are variants of."""

    name: str = "variant_strings"
    path: str | None = None
    mutant_column: str | None = None
    sequence_column: str | None = None
    score_columns: tuple[str, ...] | None = None
    reference: str | None = None
    offset: int = setting(0, minimum=-(10**9), maximum=10**9)
    duplicates: Literal["refuse", "mean"] = "refuse"

    def rules(self) -> tuple[Rule, ...]:
        return self._path_problems, self._column_problems, self._reference_problems

    def _path_problems(self, prefix: str) -> Iterator[Problem]:
        if self.path is None:
            yield Problem(f"{prefix}path is not set", f"add {prefix}path=scores.csv")

    def _column_problems(self, prefix: str) -> Iterator[Problem]:
        if self.mutant_column is not None and self.sequence_column is not None:
            yield Problem(
                f"{prefix}mutant_column and {prefix}sequence_column are both set",
                "name the one that variants are to be read from",
            )

    def _reference_problems(self, prefix: str) -> Iterator[Problem]:
        if self.reference is not None and not (self.reference.isascii() and self.reference.isalpha()):
            yield Problem(f"{prefix}reference is not a sequence of letters", "leave out gaps and blanks")


def prepare(settings: Settings, job: Job) -> list[str]:
    """Write the dataset file `job.out`."""
    from gpmap_cli.prepare.incoming import in_memory, write_incoming
    from gpmap_cli.prepare.tables.variant_strings import read_variant_strings

    return write_incoming(in_memory(*read_variant_strings(settings)), job)
