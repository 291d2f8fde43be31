"""`gpmap prepare`: files of other formats become a dataset file, or a saved model a run directory."""

from __future__ import annotations

import logging

from gpmap_cli.config.schema import Config
from gpmap_cli.prepare.settings import ArraysSource

log = logging.getLogger("gpmap")


def run(config: Config) -> None:
    """Prepare from a checked configuration; prints what was written."""
    root = config.root
    if isinstance(config.source, ArraysSource):
        from gpmap_cli.prepare.arrays import prepare_arrays

        lines = prepare_arrays(config.source, root.out, root.overwrite)
    else:
        from gpmap_cli.prepare.notebook_checkpoint import prepare_notebook_checkpoint

        lines = prepare_notebook_checkpoint(config.source, root.out, root.overwrite, config.mapping())
    for line in lines:
        log.info("%s", line)
    print(root.out, flush=True)
