"""`gpmap prepare`: files of other formats become a dataset file, or a saved model a run directory."""

from __future__ import annotations

import logging
from pathlib import Path

from gpmap_cli.commands.terminal import progress_bar
from gpmap_cli.config.schema import Config
from gpmap_cli.dataset.writer import refuse_existing
from gpmap_cli.prepare import sources
from gpmap_cli.prepare.job import Job

log = logging.getLogger("gpmap")


def run(config: Config) -> None:
    """Prepare from a checked configuration; prints what was written."""
    root = config.root
    if Path(root.out).is_file():  # before anything is read, which may take long
        refuse_existing(root.out, root.overwrite)
    job = Job(root.out, root.overwrite, config.prune, config.mapping(), progress_bar)
    for line in sources.module(config.source.name).prepare(config.source, job):
        log.info("%s", line)
    print(root.out, flush=True)
