"""Settings that the sources of called genotypes share. No array library is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from gpmap_cli.errors import Problem
from gpmap_cli.settings import Group


@dataclass(frozen=True)
class GenotypeFileSettings:
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

    def problems(self, group: Group) -> list[Problem]:
        found = []
        if self.path is None:
            found.append(Problem(f"{group.prefix}path is not set", f"add {group.prefix}path={self.example}"))
        if self.phenotypes is None:
            of_the_table = ["sample_column"] + ([] if self.holds_phenotypes else ["environments", "missing"])
            found += [
                Problem(
                    f"{group.prefix}{name} is about a table of phenotypes, and there is none",
                    f"add {group.prefix}phenotypes=FILE, or leave {group.prefix}{name} out",
                )
                for name in of_the_table
                if getattr(self, name) is not None
            ]
        return found
