"""Settings that the sources of called genotypes share. No array library is imported here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from gpmap_cli.errors import Problem
from gpmap_cli.prepare.source_settings import SourceSettings
from gpmap_cli.settings import Rule


@dataclass(frozen=True)
class GenotypeFileSettings(SourceSettings):
    """Genotypes in a file or a set of files, and phenotypes in a table keyed by sample id."""

    example: ClassVar[str]  # of a path
    holds_phenotypes: ClassVar[bool]  # whether the format has phenotypes of its own

    name: str
    path: str | None = None
    phenotypes: str | None = None
    sample_column: str | None = None
    environments: tuple[str, ...] | None = None
    missing: tuple[str, ...] | None = None
    ploidy: Literal[1, 2] | None = None

    def rules(self) -> tuple[Rule, ...]:
        return self._path_problems, self._table_problems

    def _path_problems(self, prefix: str) -> Iterator[Problem]:
        if self.path is None:
            yield Problem(f"{prefix}path is not set", f"add {prefix}path={self.example}")

    def _table_problems(self, prefix: str) -> Iterator[Problem]:
        if self.phenotypes is not None:
            return
        for name in ["sample_column"] + ([] if self.holds_phenotypes else ["environments", "missing"]):
            if getattr(self, name) is not None:
                yield Problem(
                    f"{prefix}{name} is about a table of phenotypes, and there is none",
                    f"add {prefix}phenotypes=FILE, or leave {prefix}{name} out",
                )
