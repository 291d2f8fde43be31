"""To which group (family, batch, plate) each sample belongs: by a table of text, a column of the data, or `folds/`."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.settings import Split
from gpmap_cli.errors import InputError, did_you_mean, listing

_GROUP, _SAMPLE = "group", "sample_id"  # columns of a table
_FEW = 3  # samples that a message names


@dataclass(frozen=True)
class SampleGroups:
    """The group of each sample, `of_sample` (N,), numbered by the sorted names of the groups, and where it is from.

    num_unknown: samples of the table that are not in the data.
    """

    of_sample: NDArray[np.intp]
    num_groups: int
    source: str
    num_unknown: int = 0


def check_groups_file(settings: Split) -> None:
    """Refuse a table of groups that is not there, before any data are read."""
    if settings.method == "grouped" and settings.groups_file is not None and not Path(settings.groups_file).is_file():
        raise InputError(f"split.groups_file: {settings.groups_file} is not there", "name a CSV file of samples")


def sample_groups(settings: Split, dataset: Dataset) -> SampleGroups:
    """The groups that the settings name; a sample that has none is refused."""
    if settings.groups_file is not None:
        return _of_table(Path(settings.groups_file), settings.groups, dataset)
    columns: dict[str, NDArray] = {**dataset.sample_covariates, **dataset.sample_groups}
    name = settings.groups
    if name is None and len(dataset.sample_groups) == 1:
        name = next(iter(dataset.sample_groups))
    if name is None:
        raise InputError(
            "split=grouped does not say what the groups are",
            "set split.groups_file=FILE.csv, or data.groups=[COLUMN], or split.groups to one of folds/",
        )
    if name in columns:
        values, source = columns[name], f"the column `{name}`"
        _refuse_without_group(np.isnan(values), dataset, source)
    elif name in dataset.folds:
        values, source = dataset.folds[name], f"folds/{name}"
    elif name in dataset.environment_names:
        raise InputError(
            f"split.groups: `{name}` is one of the phenotypes to predict", f"name it in data.groups=[{name}] too"
        )
    else:
        hint = did_you_mean(name, sorted({*columns, *dataset.folds}), "split.groups=")
        if not columns and not dataset.folds:
            hint = f"name a column of the phenotype table in data.groups=[{name}], or use split.groups_file=FILE.csv"
        raise InputError(f"split.groups: the data have no column and no `folds/` called `{name}`", hint)
    names, of_sample = np.unique(values, return_inverse=True)
    return SampleGroups(of_sample, len(names), source)


def _of_table(path: Path, column: str | None, dataset: Dataset) -> SampleGroups:
    group_of = _read_table(path, column)
    ids = list(map(str, dataset.sample_ids.tolist()))
    unknown = group_of.keys() - set(ids)
    groups = [group_of.get(sample, "") for sample in ids]
    without = np.array([group == "" for group in groups], bool)
    if without.all():
        raise InputError(
            f"split.groups_file: none of the {len(group_of)} samples of {path} is in the data",
            f"its samples are {listing(sorted(group_of), _FEW)}; those of the data {listing(ids, _FEW)}",
        )
    _refuse_without_group(without, dataset, str(path), sorted(unknown))
    names, of_sample = np.unique(np.array(groups), return_inverse=True)
    return SampleGroups(of_sample, len(names), str(path), len(unknown))


def _refuse_without_group(
    without: NDArray[np.bool_], dataset: Dataset, source: str, unknown: list[str] | None = None
) -> None:
    if not without.any():
        return
    some = listing(map(str, dataset.sample_ids[without][:_FEW].tolist()), _FEW)
    more = f" and {without.sum() - _FEW} more" if without.sum() > _FEW else ""
    hint = "give each sample a group, if need be one of its own"
    if unknown:
        hint += f"; {len(unknown)} samples there are not in the data: {listing(unknown, _FEW)}"
    raise InputError(f"{int(without.sum())} samples have no group in {source}: {some}{more}", hint)


def _read_table(path: Path, column: str | None) -> dict[str, str]:
    """Sample id -> group; the id stands in `sample_id` or else the first column."""
    hint = "its first line names the columns: sample_id,group"
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [row for row in csv.reader(stream, delimiter="\t" if path.suffix == ".tsv" else ",") if row]
    except (OSError, UnicodeError, csv.Error) as trouble:
        raise InputError(f"split.groups_file: {path} cannot be read ({trouble})", hint) from trouble
    if not rows or len(rows[0]) < 2:
        raise InputError(f"split.groups_file: {path} has no column of groups", hint)
    header = [name.strip() for name in rows[0]]
    at_sample = header.index(_SAMPLE) if _SAMPLE in header else 0
    others = [name for at, name in enumerate(header) if at != at_sample]
    if column is None:
        column = _GROUP if _GROUP in others else others[0] if len(others) == 1 else None
    if column is None or column not in others:
        what = "split.groups is not set" if column is None else f"split.groups: {path} has no column `{column}`"
        raise InputError(what, did_you_mean(column or "", others, "split.groups="))
    at_group = next(at for at, name in enumerate(header) if name == column and at != at_sample)
    found: dict[str, str] = {}
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(header):
            raise InputError(f"split.groups_file: {path}, line {number} has {len(row)} of {len(header)} columns", hint)
        sample = row[at_sample].strip()
        if sample in found:
            raise InputError(f"split.groups_file: {path} names `{sample}` twice", "a sample belongs to one group")
        found[sample] = row[at_group].strip()
    return found
