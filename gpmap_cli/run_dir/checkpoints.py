"""Checkpoints: NumPy archives of plain arrays with a JSON text of facts. Reading one executes nothing."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.errors import InputError
from gpmap_cli.run_dir.writing import write_text, write_whole
from gpmap_cli.training.context import Epoch

FORMAT = "gpmap-checkpoint"
FORMAT_VERSION = 1
HISTORY_COLUMNS = "environment,epoch,train_loss,validation_loss,validation_r2,learning_rate,seconds"


def save_arrays(path: Path, arrays: dict[str, NDArray], facts: dict[str, Any]) -> None:
    """Write arrays and facts as one file, whole or not at all."""
    header = {"format": FORMAT, "format_version": FORMAT_VERSION, **facts}

    def write(stream: IO[bytes]) -> None:
        np.savez(stream, **{"facts.json": np.array(json.dumps(header)), **arrays})  # type: ignore[arg-type]

    write_whole(path, write)


def load_arrays(path: Path) -> tuple[dict[str, NDArray], dict[str, Any]]:
    """Read what `save_arrays` wrote; a damaged or foreign file is refused."""
    hint = "use another run, or train again"
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        facts = json.loads(str(arrays.pop("facts.json")))
        if facts["format"] != FORMAT:
            raise ValueError("another format")
        version = facts["format_version"]
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such checkpoint", hint) from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, MemoryError) as trouble:
        raise InputError(f"{path}: not a readable checkpoint ({trouble})", hint) from trouble
    if version != FORMAT_VERSION:
        raise InputError(f"{path}: checkpoint version {version}; this program reads {FORMAT_VERSION}", hint)
    return arrays, facts


class LastCheckpoint:
    """What resuming needs, in `checkpoints/last.npz`, and the history that belongs to it, in `history.csv`."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "checkpoints" / "last.npz"
        self._history = directory / "history.csv"

    def save(self, arrays: dict[str, NDArray], facts: dict[str, Any], history: list[Epoch]) -> None:
        self._path.parent.mkdir(exist_ok=True)
        save_arrays(self._path, arrays, facts)
        write_text(self._history, history_csv(history))

    def load(self) -> tuple[dict[str, NDArray], dict[str, Any]] | None:
        return load_arrays(self._path) if self._path.exists() else None


def history_csv(history: list[Epoch]) -> str:
    """The training history, one row per epoch; what is undefined is empty."""
    lines = [HISTORY_COLUMNS]
    for row in history:
        values = (row.train_loss, row.validation_loss, row.validation_r2, row.learning_rate, row.seconds)
        numbers = ",".join("" if value is None else f"{value:.9g}" for value in values)
        name = f'"{row.environment}"' if "," in row.environment else row.environment
        lines.append(f"{name},{row.epoch},{numbers}")
    return "\n".join(lines) + "\n"
