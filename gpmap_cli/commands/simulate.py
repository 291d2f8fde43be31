"""`gpmap simulate`: a dataset file with known truth, in a run directory of its own."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path

from gpmap_cli.commands.terminal import progress_bar, show_result
from gpmap_cli.config.schema import Config
from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.settings import FileData
from gpmap_cli.dataset.summary import summarise
from gpmap_cli.errors import InputError
from gpmap_cli.ld_pruning.writing import write_pruned
from gpmap_cli.run_dir.layout import RunDirectory, RunLog
from gpmap_cli.run_dir.provenance import provenance
from gpmap_cli.simulate.simulation import check_simulation, simulation_stream, write_simulation

log = logging.getLogger("gpmap")


def run(config: Config, path: Path) -> None:
    """Simulate from a checked configuration into `dataset.h5` of the run directory `path`."""
    started = datetime.now().astimezone()
    if isinstance(config.data, FileData):
        what = f"data={config.data.name} is read, not simulated"
        raise InputError(what, "use data=simulated or data=yeast_synthetic")
    check_simulation(config.data)
    directory = RunDirectory(path)
    directory.claim({"command": "simulate", **config.mapping()})
    with RunLog(directory):
        target = directory.path / "dataset.h5"
        if config.prune.is_on:
            stream = simulation_stream(config.data, config.root.seed)
            for line in write_pruned(target, stream, config.prune, overwrite=False, progress=progress_bar):
                log.info("%s", line)
        else:
            write_simulation(target, config.data, config.root.seed)
        seed = config.root.seed if config.data.seed is None else config.data.seed
        with DatasetFile(target) as file:
            data = {"path": "dataset.h5", "sha256": file.sha256(), "simulation_seed": seed}
            text = "\n".join(summarise(file))
        directory.write_json("provenance.json", provenance(started, data, None, "cpu"))
        show_result(text, directory.path)
