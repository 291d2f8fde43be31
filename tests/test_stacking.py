"""The convex combination of predictors, against its conditions of optimality."""

from __future__ import annotations

import numpy as np

from gpmap_cli.solvers.stacking import convex_shares


def test_two_predictors():
    y = np.array([[1.0, 1.0, 1.0, np.nan], [2.0, 2.0, 2.0, np.nan], [np.nan, 3.0, 3.0, np.nan]])
    first = np.array([[1.0, 0.0, 1.0, 5.0], [2.0, 0.0, 2.0, 5.0], [9.0, 0.0, 3.0, 5.0]])
    second = np.array([[0.0, 1.0, 0.0, 1.0], [0.0, 2.0, 0.0, 1.0], [0.0, 3.0, 0.0, 1.0]])
    np.testing.assert_array_equal(convex_shares(y, [first, second])[0], [1.0, 0.0, 1.0, 1.0])
    half = convex_shares(y[:, 1:2], [2 * y[:, 1:2], 0 * y[:, 1:2]])
    np.testing.assert_allclose(half, 0.5)


def test_no_predictor_that_is_left_out_would_help():
    """With gradient g of the error by the shares: g is the same for those that take part, and no less for others."""
    rng = np.random.default_rng(0)
    left_out = 0
    for _ in range(50):
        y = rng.normal(size=(30, 1))
        parts = [y + rng.normal(size=(30, 1)) * rng.uniform(0.2, 2) + rng.normal() for _ in range(4)]
        shares = convex_shares(y, parts)[:, 0]
        assert (shares >= 0).all()
        np.testing.assert_allclose(shares.sum(), 1)
        wrong = np.concatenate([y - part for part in parts], axis=1)
        gradient = wrong.T @ wrong @ shares
        least = gradient[shares > 0].mean()
        np.testing.assert_allclose(gradient[shares > 0], least, rtol=1e-8)
        assert (gradient[shares == 0] >= least - 1e-9).all()
        left_out += (shares == 0).any()
    assert left_out > 10


def test_of_equal_predictors_the_first():
    y = np.arange(6.0).reshape(6, 1)
    same = y + np.array([[1.0], [-1], [1], [0], [2], [0]])
    np.testing.assert_array_equal(convex_shares(y, [same, same, same])[:, 0], [1, 0, 0])
