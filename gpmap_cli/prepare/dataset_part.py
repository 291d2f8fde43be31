"""A dataset file copied, in part or pruned, block by block: its N samples at some of its L loci in some of its E
environments, with splits, folds and as much of the simulated truth as is still true.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.errors import InputError
from gpmap_cli.prepare.incoming import Incoming, write_incoming
from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.sources.dataset import Settings


def write_dataset_part(source: Settings, job: Job) -> list[str]:
    """Write the dataset file `job.out` and say what of the other one is in it."""
    if source.path is None:
        raise InputError("source.path is not set", "add source.path=cross.h5")
    with DatasetFile(source.path, "check source.path; `gpmap simulate` and `gpmap prepare` make dataset files") as file:
        return write_incoming(_part(file, source), job)


def _part(file: DatasetFile, source: Settings) -> Incoming:
    loci = None if source.loci is None else file.find_loci(source.loci, "source.loci")
    environments = None
    if source.environments is not None:
        environments = file.find_environments(source.environments, "source.environments")
    stream = file.stream(None, loci, environments)
    num_environments = len(file.environment_names) if environments is None else len(environments)
    lines = [
        f"{file.path.resolve().name}: {file.num_samples} samples x {file.num_loci} loci x"
        f" {len(file.environment_names)} environments",
        f"kept: all samples, {stream.shape[1]} of {file.num_loci} loci, {num_environments} of"
        f" {len(file.environment_names)} environments",
    ]
    return Incoming(
        stream.shape, stream.genotype_type, stream.ploidy, stream.blocks, _noting(stream.finish, file, lines), lines
    )


def _noting(finish: Callable[[int], Dataset], file: DatasetFile, lines: list[str]) -> Callable[[int], Dataset]:
    """Tables whose provenance tells of this step too, beside all that the file tells of its own making."""

    def finished(num_rows: int) -> Dataset:
        dataset = finish(num_rows)
        gone = set(file.truth_names) - set(dataset.truth)
        if gone:
            lines.append(f"of the simulated truth, {len(gone)} arrays are not true of a part, and are left out")
        this = f"{file.path.resolve().name} (SHA-256 {file.sha256()})"
        before = dataset.provenance.get("derived_from")
        derived_from = this if before is None else f"{before}; {this}"
        return replace(dataset, provenance={**dataset.provenance, "derived_from": derived_from})

    return finished
