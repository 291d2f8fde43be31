"""`gpmap simulate`: a dataset file with known truth, in a run directory of its own."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path

from gpmap_cli.commands.terminal import show_result
from gpmap_cli.config.schema import Config
from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.settings import FileData
from gpmap_cli.dataset.summary import summarise
from gpmap_cli.errors import InputError
from gpmap_cli.run_dir.layout import RunDirectory, RunLog
from gpmap_cli.run_dir.provenance import provenance
from gpmap_cli.simulate.simulation import check_simulation, write_simulation

log = logging.getLogger("gpmap")


def run(config: Config, path: Path) -> None:
    """Simulate from a checked configuration into `dataset.h5` of the run directory `path`."""
    started = datetime.now().astimezone()
    if isinstance(config.data, FileData):
        raise InputError(f"data={config.data.name} is read, not simulated", "use data=simulated")
    check_simulation(config.data)
    directory = RunDirectory(path)
    directory.claim({"command": "simulate", **config.mapping()})
    with RunLog(directory):
        target = directory.path / "dataset.h5"
        write_simulation(target, config.data, config.root.seed)
        seed = config.root.seed if config.data.seed is None else config.data.seed
        with DatasetFile(target) as file:
            data = {"path": "dataset.h5", "sha256": file.sha256(), "simulation_seed": seed}
            text = "\n".join(summarise(file))
        directory.write_json("provenance.json", provenance(started, data, None, "cpu"))
        show_result(text, directory.path)
