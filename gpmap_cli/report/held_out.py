"""The predictions of a run's test samples, from its `predictions.csv.gz`: text from a stranger, read as data alone."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

NAME = "predictions.csv.gz"
_COLUMNS = {"split": str, "sample_id": str, "environment": str, "observed": float, "predicted": float}
_ROWS = 200_000  # read at a time: most are of other splits


class Unreadable(Exception):
    """The predictions are not there or damaged."""


def held_out_predictions(directory: Path) -> pd.DataFrame:
    """sample_id, environment, observed and predicted of the test samples."""
    import pandas as pd

    try:
        blocks = pd.read_csv(
            directory / NAME, usecols=list(_COLUMNS), dtype=_COLUMNS, chunksize=_ROWS, keep_default_na=False,
            na_values={"observed": [""], "predicted": [""]},
        )  # fmt: skip
        with blocks:
            kept = [block[block["split"] == "test"].drop(columns="split") for block in blocks]
    except (OSError, EOFError, ValueError, zlib.error) as trouble:
        raise Unreadable(f"{NAME} cannot be read ({trouble})") from trouble
    return pd.concat(kept, ignore_index=True)
