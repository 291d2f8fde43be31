"""`source=csv`: tables of text, genotypes and phenotypes apart (joined by sample id) or in one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gpmap_cli.errors import Problem
from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.source_settings import SourceSettings
from gpmap_cli.prepare.tables.genotype_codes import parse_codes
from gpmap_cli.settings import Rule, setting


@dataclass(frozen=True)
class Settings(SourceSettings):
    """Which tables, which columns, and what their cells mean."""

    name: str = "csv"
    path: str | None = None
    phenotypes: str | None = None
    map: str | None = None
    orientation: Literal["samples_in_rows", "loci_in_rows"] = "samples_in_rows"
    sample_column: str | None = None
    genotype_columns: tuple[str, ...] | None = None
    phenotype_columns: tuple[str, ...] | None = None
    coding: Literal["dosage", "plus_minus_one"] = "dosage"
    codes: tuple[str, ...] | None = None
    missing: tuple[str, ...] | None = None
    ploidy: int | None = setting(None, minimum=1, maximum=16)

    def rules(self) -> tuple[Rule, ...]:
        return self._path_problems, self._code_problems, self._phenotype_column_problems, self._genotype_column_problems

    def _path_problems(self, prefix: str) -> Iterator[Problem]:
        if self.path is None:
            yield Problem(f"{prefix}path is not set", f"add {prefix}path=genotypes.csv")

    def _code_problems(self, prefix: str) -> Iterator[Problem]:
        if self.codes is None:
            return
        try:
            codes = parse_codes(self.codes)
        except ValueError as trouble:
            yield Problem(f"{prefix}codes {trouble}", f"for instance {prefix}codes=[A:0,H:1,B:2]")
        else:
            if self.ploidy is not None and max(codes.values()) > self.ploidy:
                more = f"{prefix}codes counts more copies than {prefix}ploidy={self.ploidy}"
                yield Problem(more, "correct one of the two")
        if self.coding != "dosage":
            yield Problem(f"{prefix}codes and {prefix}coding={self.coding} exclude each other", "unset one")

    def _phenotype_column_problems(self, prefix: str) -> Iterator[Problem]:
        if self.orientation == "loci_in_rows" and self.phenotypes is None and self.phenotype_columns is not None:
            yield Problem(
                f"{prefix}phenotype_columns names columns of a table whose columns are samples",
                f"put the phenotypes into a table of their own: {prefix}phenotypes=FILE",
            )

    def _genotype_column_problems(self, prefix: str) -> Iterator[Problem]:
        if self.orientation == "loci_in_rows" and self.genotype_columns is not None:
            yield Problem(f"{prefix}genotype_columns goes with samples_in_rows", "leave it out")


def prepare(settings: Settings, job: Job) -> list[str]:
    """Write the dataset file `job.out`."""
    from gpmap_cli.prepare.incoming import in_memory, write_incoming
    from gpmap_cli.prepare.tables.csv_tables import read_csv_tables

    return write_incoming(in_memory(*read_csv_tables(settings)), job)
