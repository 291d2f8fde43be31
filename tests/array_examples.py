"""Plain arrays as people hand them over, saved as any of the three kinds of input, and their import."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from gpmap_cli.errors import InputError
from gpmap_cli.prepare.arrays.named_arrays import read_arrays
from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.sources.arrays import Settings as ArraysSource
from gpmap_cli.prepare.sources.arrays import prepare

KINDS = ["h5", "npy", "npz"]


def arrays(**changes):
    """Arrays that use every name; None takes one away."""
    rng = np.random.default_rng(0)
    found = {
        "genotypes": rng.integers(-1, 2, (6, 4)).astype(np.int8),
        "phenotypes": np.array([[1.5, np.nan]] * 6, dtype=np.float32),
        "phenotype_std": np.full((6, 2), 0.25, dtype=np.float32),
        "sample_ids": np.array([f"s{number}" for number in range(6)]),
        "locus_names": np.array([b"a", b"b", b"c", "δ".encode()]),
        "environment_names": np.array(["30C", "Kälte"]),
        "chromosome": np.array(["I", "I", "II", "II"]),
        "position": np.array([10.0, 20.0, 5.0, 3e9]),
        "cv_folds": np.array([0, 1, 2, 0, 1, 2]),
        "published_H2": np.array([0.5, 0.75], dtype=np.float32),
        "alternative": np.zeros(6),
        **changes,
    }
    return {name: array for name, array in found.items() if array is not None}


def save(directory, kind, named, **attributes):
    """The arrays as one of the kinds of input; gives its path."""
    if kind == "npy":
        for name, array in {**named, **attributes}.items():
            np.save(directory / f"{name}.npy", array)
        return directory
    path = directory / f"raw.{kind}"
    if kind == "npz":
        np.savez_compressed(path, **named, **attributes)
        return path
    with h5py.File(path, "w") as file:
        for name, array in named.items():
            array = np.asarray(array)
            if array.dtype.kind == "U":
                file.create_dataset(name, data=array.astype(object), dtype=h5py.string_dtype("utf-8"))
            else:
                file[name] = array
        file.attrs.update(attributes)
    return path


def prepare_arrays(source, out, overwrite=False):
    """Import into the dataset file `out`; gives the lines that are said about it."""
    return prepare(source, Job(out, overwrite))


def imported(path, **options):
    return read_arrays(ArraysSource(path=str(path), **options))


def refused(path, **options):
    """The problem that an import is refused with."""
    with pytest.raises(InputError) as trouble:
        imported(path, **options)
    [problem] = trouble.value.problems
    assert path.name in problem.message
    assert problem.hint
    return problem
