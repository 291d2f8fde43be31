"""`source=download`: the files of a public deposit, fetched into a directory and checked."""

from __future__ import annotations

from dataclasses import dataclass

from gpmap_cli.prepare.job import Job


@dataclass(frozen=True)
class Settings:
    """Which deposit, and where it is described."""

    name: str = "download"
    deposit: str | None = None
    registry: str | None = None


def prepare(settings: Settings, job: Job) -> list[str]:
    """Put the deposit's files into the directory `job.out`."""
    from gpmap_cli.errors import InputError
    from gpmap_cli.prepare.download.deposits import find_deposit
    from gpmap_cli.prepare.download.fetch import download

    if job.pruning.is_on:
        raise InputError("source=download fetches files as they are and prunes nothing", "leave prune.max_abs_r out")
    name = job.config.get("name")
    if name is not None and settings.deposit is not None and name != settings.deposit:
        raise InputError(f"name={name} and source.deposit={settings.deposit} mean the same key", "leave one out")
    return download(find_deposit(name or settings.deposit, settings.registry), job)
