"""`gpmap prepare`: files of other formats become a dataset file, or a saved model a run directory."""

from __future__ import annotations

import logging

from gpmap_cli.commands.terminal import progress_bar
from gpmap_cli.config.schema import Config
from gpmap_cli.prepare import sources
from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.out import refuse_out

log = logging.getLogger("gpmap")


def run(config: Config) -> None:
    """Prepare from a checked configuration; prints what was written."""
    root = config.root
    job = Job(root.out, root.overwrite, config.prune, config.mapping(), progress_bar)
    refuse_out(config.source, job)
    for line in sources.module(config.source.name).prepare(config.source, job):
        log.info("%s", line)
    print(root.out, flush=True)
