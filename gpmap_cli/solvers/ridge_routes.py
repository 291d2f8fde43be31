"""Which way a ridge problem is solved: by loci, by samples, or by iteration, after what each would cost.

n samples, L loci, E environments in G groups that share their weights, k = min(n, L). In single-precision
multiply-adds, double precision counting twice and what LAPACK does by its measured speed:

    primal     n L^2 / 2 (once for all groups without measurement errors) + G (30 L^3 + n L^2)
    dual       n^2 L / 2 + G (30 n^3 + n^2 L)
    iterative  40 readings of the genotypes, each 2 n L (E + 8)

with 2 in place of 30, and no leave-one-out, for a given penalty. Memory in bytes: 40 L^2 (primal), 40 n^2 (dual); by
iteration what is in `ridge_subspace`. A factorisation is worth minutes, as its leave-one-out errors are exact; beyond
that, and beyond its memory, iteration finds the same effects.
"""

from __future__ import annotations

from typing import Literal

from gpmap_cli.errors import InputError

Route = Literal["primal", "dual", "iterative"]

_READINGS, _PROBES = 40, 8
_EIGENVALUES, _CHOLESKY = 30, 2
_WORTH_IT = 1e13  # multiply-adds: about five minutes on two cores
_MOST_BYTES = 6e9


def multiply_adds(
    num_samples: int, num_loci: int, num_environments: int, num_groups: int, is_weighted: bool, chooses: bool
) -> dict[Route, float]:
    """What each route costs."""
    n, loci = float(num_samples), float(num_loci)
    factorise = _EIGENVALUES if chooses else _CHOLESKY
    gram = n * loci**2 * (num_groups if is_weighted else 0.5)
    return {
        "primal": gram + num_groups * (factorise * loci**3 + (n * loci**2 if chooses else 0)),
        "dual": n**2 * loci / 2 + num_groups * (factorise * n**3 + n**2 * loci),
        "iterative": _READINGS * 2 * n * loci * (num_environments + (_PROBES if chooses else 0)),
    }


def choose_route(
    wanted: str,
    num_samples: int,
    num_loci: int,
    num_environments: int,
    num_groups: int,
    is_weighted: bool = False,
    chooses: bool = True,
) -> Route:
    """The route of a problem, as wanted or by its cost. A factorisation that cannot fit is refused."""
    costs = multiply_adds(num_samples, num_loci, num_environments, num_groups, is_weighted, chooses)
    needs = {"primal": 40.0 * num_loci**2, "dual": 40.0 * num_samples**2}
    for route, size in (("primal", num_loci), ("dual", num_samples)):
        if wanted == route and 40.0 * size**2 > 10 * _MOST_BYTES:
            raise InputError(
                f"model.route={route} would factorise a matrix of {size} x {size}",
                "use model.route=auto, which solves such problems by iteration",
            )
    if wanted in ("primal", "dual", "iterative"):
        return wanted  # type: ignore[return-value]
    fitting = [route for route in ("primal", "dual") if needs[route] <= _MOST_BYTES]
    if fitting:
        exact = min(fitting, key=lambda route: costs[route])  # type: ignore[index]
        if costs[exact] <= max(_WORTH_IT, costs["iterative"]):  # type: ignore[index]
            return exact  # type: ignore[return-value]
    return "iterative"
