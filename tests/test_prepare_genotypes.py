"""Genotypes in plain arrays: calls, dosages and -1/+1, whole or fractional, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from array_examples import imported, refused
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmap_cli.dataset.values import genotype_trouble


def stored(tmp_path, genotypes, **options):
    np.savez(tmp_path / "raw.npz", genotypes=genotypes)
    dataset, _ = imported(tmp_path / "raw.npz", **options)
    assert genotype_trouble(dataset.genotypes, dataset.ploidy) is None
    return dataset.genotypes, dataset.ploidy


NAN = np.nan


@pytest.mark.parametrize(
    ("genotypes", "options", "expected", "stored_type", "ploidy"),
    [
        (np.array([[0, 1], [-1, 1]]), {}, [[0, 1], [-1, 1]], "int8", 1),
        (np.array([[0, 2], [-1, 1]], np.int64), {}, [[0, 2], [-1, 1]], "int8", 2),
        (np.array([[0, 1]], np.uint16), {}, [[0, 1]], "int8", 1),
        (np.array([[False, True]]), {}, [[0, 1]], "int8", 1),
        (np.array([[0, 0], [-1, 0]]), {}, [[0, 0], [-1, 0]], "int8", 1),
        (np.array([[-1, -1]]), {}, [[-1, -1]], "int8", 1),
        (np.array([[0, 4, 3]]), {"ploidy": 4}, [[0, 4, 3]], "int8", 4),
        (np.array([[0, 1]]), {"ploidy": 2}, [[0, 1]], "int8", 2),
        (np.array([[0.0, 1.0], [NAN, 1.0]]), {}, [[0, 1], [-1, 1]], "int8", 1),
        (np.array([[0.0, 2.0, NAN]], np.float16), {}, [[0, 2, -1]], "int8", 2),
        (np.array([[0.25, 1.0, NAN]]), {}, [[0.25, 1, NAN]], "float32", 1),
        (np.array([[0.25, 1.5, NAN]], np.float32), {}, [[0.25, 1.5, NAN]], "float32", 2),
        (np.array([[0.25, 1.0, NAN]], np.float16), {}, [[0.25, 1, NAN]], "float16", 1),
        (np.array([[0.25, 1.0]]), {"ploidy": 2}, [[0.25, 1]], "float32", 2),
        (np.array([[-1, 1]]), {"coding": "plus_minus_one"}, [[0, 1]], "int8", 1),
        (np.array([[-1.0, 1.0, NAN]]), {"coding": "plus_minus_one"}, [[0, 1, -1]], "int8", 1),
        (np.array([[-1.0, 1.0, 0.5, 0.0]]), {"coding": "plus_minus_one"}, [[0, 1, 0.75, 0.5]], "float32", 1),
        (np.array([[-1, 1, 0.5, NAN]], np.float16), {"coding": "plus_minus_one"}, [[0, 1, 0.75, NAN]], "float16", 1),
        (np.array([[-1, 0, 1]]), {"coding": "plus_minus_one", "ploidy": 2}, [[0, 1, 2]], "int8", 2),
        (np.array([[-1.0, 0, NAN]]), {"coding": "plus_minus_one", "ploidy": 2}, [[0, 1, -1]], "int8", 2),
        (np.array([[-1, 0, 1]]), {"coding": "plus_minus_one", "ploidy": 1}, [[0, 0.5, 1]], "float32", 1),
    ],
)
def test_how_genotypes_are_stored(tmp_path, genotypes, options, expected, stored_type, ploidy):
    found, found_ploidy = stored(tmp_path, genotypes, **options)
    np.testing.assert_array_equal(found, expected)
    assert (found.dtype, found_ploidy) == (stored_type, ploidy)


@pytest.mark.parametrize(
    ("genotypes", "options", "message", "hint"),
    [
        (np.array([[-1, 1], [1, -1]]), {}, "holds -1 and +1 but not a single 0", "source.coding=plus_minus_one"),
        (np.array([[-1.0, 1.0]]), {}, "holds -1.0 at row 0, locus 0", "source.coding=plus_minus_one"),
        (np.array([[0, 3]]), {}, "holds 3 at row 0, locus 1; only 0..2 or missing", "source.ploidy"),
        (np.array([[0, 2]]), {"ploidy": 1}, "holds 2 at row 0, locus 1; only 0..1 or missing", "source.ploidy"),
        (np.array([[0, 5]]), {"ploidy": 4}, "holds 5 at row 0, locus 1; only 0..4", "source.ploidy"),
        (np.array([[0], [-2]]), {}, "holds -2 at row 1, locus 0", "-1 marks a missing one"),
        (np.array([[0], [-9]], np.int16), {}, "holds -9 at row 1, locus 0", "-1 marks a missing one"),
        (np.array([[0, 2.5]]), {}, "holds 2.5 at row 0, locus 1; only 0..2", "source.ploidy"),
        (np.array([[0.5, -0.5]]), {}, "holds -0.5 at row 0, locus 1", "genotypes count"),
        (np.array([[0.5, np.inf]]), {}, "holds inf at row 0, locus 1", "source.ploidy"),
        (np.array([[0.5, 1e300]]), {}, "holds inf at row 0, locus 1", "source.ploidy"),
        (np.array([[0.5, -np.inf]]), {}, "holds -inf at row 0, locus 1", "genotypes count"),
        (np.array([[-1, 2]]), {"coding": "plus_minus_one"}, "holds 2 at row 0, locus 1", "leave source.coding out"),
        (np.array([[-1.0, 1.5]]), {"coding": "plus_minus_one"}, "holds 1.5 at row 0, locus 1", "leave source.coding"),
        (np.array([[-2, 1]]), {"coding": "plus_minus_one"}, "holds -2 at row 0, locus 0", "leave source.coding out"),
        (np.array([[0, 1]]), {"coding": "plus_minus_one"}, "holds 0 but not a single -1", "leave source.coding out"),
        (np.array([[-1, 0, 1]]), {"coding": "plus_minus_one"}, "holds 0 besides -1 and +1", "source.ploidy=2"),
        (np.array([[-1.0, 0, 1]]), {"coding": "plus_minus_one"}, "holds 0 besides -1 and +1", "source.ploidy=2"),
        (np.array([["a"]]), {}, "has type <U1, not a type of numbers", "README"),
        (np.array([[1j]]), {}, "has type complex128", "README"),
        (np.array([0, 1]), {}, "has shape (2,), not 2 dimensions", "README"),
        (np.zeros((2, 2, 2), np.int8), {}, "has shape (2, 2, 2), not 2 dimensions", "README"),
        (np.zeros((0, 4), np.int8), {}, "is empty (0 samples x 4 loci)", "README"),
        (np.zeros((4, 0), np.int8), {}, "is empty (4 samples x 0 loci)", "README"),
    ],
)
def test_genotypes_that_are_refused(tmp_path, genotypes, options, message, hint):
    np.savez(tmp_path / "raw.npz", genotypes=genotypes)
    problem = refused(tmp_path / "raw.npz", **options)
    assert f"`genotypes` {message}" in problem.message
    assert hint in problem.hint


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), num_rows=st.integers(1, 9), block_values=st.integers(1, 40), coding=st.booleans())
def test_blocks_make_no_difference(tmp_path_factory, seed, num_rows, block_values, coding):
    """-1/+1 probabilities and dosages survive to float32, however many rows are converted at once."""
    path = tmp_path_factory.mktemp("blocks") / "raw.npz"
    rng = np.random.default_rng(seed)
    dosages = rng.random((num_rows, 5))
    dosages[rng.random(dosages.shape) < 0.2] = np.nan
    dosages[0, 0] = 0.3
    np.savez(path, genotypes=2 * dosages - 1 if coding else dosages)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpmap_cli.prepare.arrays.genotype_values._BLOCK_VALUES", block_values)
        dataset, _ = imported(path, coding="plus_minus_one" if coding else "dosage")
    np.testing.assert_allclose(dataset.genotypes, dosages, atol=1e-7)
