"""What the settings of every source share, whatever it reads. No array library is imported here."""

from __future__ import annotations

from typing import ClassVar

from gpmap_cli.errors import Problem
from gpmap_cli.ld_pruning.settings import Pruning
from gpmap_cli.settings import Ruled


class SourceSettings(Ruled):
    """Settings of a source, and what it says of the rest of a `gpmap prepare` command before anything is read."""

    takes_deposit_name: ClassVar[bool] = False  # whether `name=` says something to it
    makes_dataset: ClassVar[bool] = True  # whether there is something to prune

    name: str

    def job_problems(self, name: str | None, pruning: Pruning) -> list[Problem]:
        """Why this source goes neither with the `name=` (of a public deposit) nor with the pruning asked for."""
        found = []
        if name is not None and not self.takes_deposit_name:
            found.append(Problem(f"name is not a setting of source={self.name}", "leave name=... out"))
        if pruning.is_on and not self.makes_dataset:
            found.append(Problem(f"source={self.name} makes no dataset to prune", "leave prune.max_abs_r out"))
        return found
