"""`source=download`: the files of a public deposit, fetched into a directory and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gpmap_cli.errors import InputError, Problem
from gpmap_cli.ld_pruning.settings import Pruning
from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.source_settings import SourceSettings


@dataclass(frozen=True)
class Settings(SourceSettings):
    """Which deposit, and where it is described."""

    takes_deposit_name: ClassVar[bool] = True
    makes_dataset: ClassVar[bool] = False

    name: str = "download"
    deposit: str | None = None
    registry: str | None = None

    def job_problems(self, name: str | None, pruning: Pruning) -> list[Problem]:
        from gpmap_cli.prepare.download.deposits import find_deposit

        found = super().job_problems(name, pruning)
        if None not in (name, self.deposit) and name != self.deposit:
            what = f"name={name} and source.deposit={self.deposit} mean the same key"
            return [*found, Problem(what, "leave one out")]
        try:
            find_deposit(name or self.deposit, self.registry)
        except InputError as refused:
            found += refused.problems
        return found


def prepare(settings: Settings, job: Job) -> list[str]:
    """Put the deposit's files into the directory `job.out`."""
    from gpmap_cli.prepare.download.deposits import find_deposit
    from gpmap_cli.prepare.download.fetch import download

    return download(find_deposit(job.config.get("name") or settings.deposit, settings.registry), job)
