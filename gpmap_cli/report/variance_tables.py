"""Variance components, genetic correlations, and variance by order of complete landscapes, as tables."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.complete_landscape import CompleteLandscape
from gpmap_cli.report.read import clean
from gpmap_cli.report.tables import aligned, setting_text
from gpmap_cli.variance.components import VarianceComponents
from gpmap_cli.variance.landscape_correlation import LandscapeCorrelation
from gpmap_cli.variance.landscape_variance import METHOD, LandscapeVariance

Row = dict[str, Any]
MOST_COEFFICIENTS = 2**20  # rows of the table of coefficients
WITHIN = "within genotypes"
_BY_MOMENTS = "Haseman-Elston regression"


def component_rows(found: VarianceComponents, names: Sequence[str], methods: Sequence[str]) -> list[Row]:
    """One row for each environment and component."""
    low, high = found.share_interval
    return [
        {
            "environment": name,
            "component": component,
            "variance": found.variance[e, k],
            "std_error": found.std_error[e, k],
            "share": found.share[e, k],
            "share_std_error": found.share_std_error[e, k],
            "share_ci95_low": low[e, k],
            "share_ci95_high": high[e, k],
            "method": methods[e],
        }
        for e, name in enumerate(names)
        for k, component in enumerate(found.names)
    ]


def correlation_rows(
    found: VarianceComponents, names: Sequence[str], exact: Mapping[tuple[int, int], LandscapeCorrelation]
) -> list[Row]:
    """One row for each pair of environments."""
    return [
        {
            "environment": names[e],
            "environment_2": names[f],
            "additive_genetic_correlation": found.correlation[e, f],
            "std_error": found.correlation_std_error[e, f],
            "method": METHOD if (e, f) in exact else _BY_MOMENTS,
        }
        for e in range(len(names))
        for f in range(e)
    ]


def order_rows(found: Mapping[int, LandscapeVariance], names: Sequence[str]) -> list[Row]:
    """Of every complete landscape one row for each order 1 to L, and one for what varies within genotypes if any does.

    `variance` adds up to the total over all rows of an environment; cumulative_share is of the orders so far.
    """
    rows: list[Row] = []
    for e, one in found.items():
        share = one.variance / one.total
        cumulative = np.cumsum(share)
        for k in range(1, one.num_loci + 1):
            at = k - 1
            rows.append(
                {
                    "environment": names[e],
                    "order": str(k),
                    "num_terms": int(one.num_terms[at]),
                    "variance": one.variance[at],
                    "share": share[at],
                    "cumulative_share": cumulative[at],
                    "noise_variance": one.noise_variance[at],
                    "noise_share": one.noise_variance[at] / one.total,
                    "variance_beyond_noise": one.beyond_noise[at],
                    "std_error": one.std_error[at],
                }
            )
        if one.within > 0:
            row: Row = dict.fromkeys(rows[-1], math.nan)
            rest = {"variance": one.within, "share": one.within / one.total}
            rows.append({**row, "environment": names[e], "order": WITHIN, **rest})
    return rows


def correlation_by_order_rows(exact: Mapping[tuple[int, int], LandscapeCorrelation], names: Sequence[str]) -> list[Row]:
    """Of every pair of complete landscapes one row for each order."""
    return [
        {
            "environment": names[e],
            "environment_2": names[f],
            "order": str(at + 1),
            "genetic_covariance": one.covariance[at],
            "genetic_correlation": one.correlation[at],
            "std_error": one.std_error[at],
        }
        for (e, f), one in exact.items()
        for at in range(len(one.covariance))
    ]


def coefficient_columns(
    landscape: CompleteLandscape,
    found: Mapping[int, LandscapeVariance],
    names: Sequence[str],
    locus_ids: NDArray,
) -> tuple[dict[str, NDArray], int]:
    """Every coefficient, by environment, order and size, and the highest order that is there.

    That order is L, or where these would be over `MOST_COEFFICIENTS` rows the highest that leaves fewer.
    """
    first = next(iter(found.values()))
    counts = np.cumsum(first.num_terms) * len(found)
    highest = max(1, int((counts <= MOST_COEFFICIENTS).sum()))
    sets = np.flatnonzero((first.order > 0) & (first.order <= highest))
    labels = _set_labels(sets, locus_ids[landscape.loci])
    parts: list[dict[str, NDArray]] = []
    for e, one in found.items():
        effects, z = one.coefficients[sets], one.z()[sets]
        ranked = np.lexsort((-np.abs(effects), one.order[sets]))
        parts.append(
            {
                "environment": np.full(len(sets), names[e], dtype=object),
                "order": one.order[sets][ranked],
                "loci": labels[ranked],
                "coefficient": effects[ranked],
                "std_error": np.full(len(sets), one.coefficient_std_error),
                "z": z[ranked],
                "p": one.p_of(z[ranked]),
            }
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, highest


def _set_labels(sets: NDArray[np.intp], locus_ids: NDArray) -> NDArray[np.object_]:
    """The loci of each set, their ids with a space between them."""
    ids = [str(locus) for locus in locus_ids]
    labels = np.empty(len(sets), dtype=object)
    for at, number in enumerate(sets.tolist()):
        labels[at] = " ".join(locus for bit, locus in enumerate(ids) if number >> bit & 1)
    return labels


def csv_text(rows: list[Row], digits: int = 9) -> str:
    """Tidy; what is undefined is empty."""
    out = io.StringIO()
    if rows:
        table = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows({key: _number(value, digits) for key, value in row.items()} for row in rows)
    return out.getvalue()


def _number(value: Any, digits: int) -> Any:
    if isinstance(value, str):
        return value
    return f"{value:.{digits}g}" if np.isfinite(value) else ""


def shown_components(found: VarianceComponents, names: Sequence[str], methods: Sequence[str]) -> str:
    """The shares of all environments; the method in the title, or in a column where it is not one for all."""
    one_method = len(set(methods)) == 1
    rows = []
    for e, name in enumerate(names):
        shares = map(_with_error, found.share[e], found.share_std_error[e])
        rows.append([_name(name), *([] if one_method else [methods[e]]), *shares])
    header = ["environment", *([] if one_method else ["method"]), *(f"{name} +- SE" for name in found.names)]
    title = "share of the phenotypic variance" + (f", by {methods[0]}" if one_method else "")
    return f"{title}\n" + "\n".join(aligned(header, rows, 1 if one_method else 2))


def shown_orders(found: Mapping[int, LandscapeVariance], names: Sequence[str], max_order: int) -> str:
    """The orders to `max_order` of every complete landscape, the higher ones together, and the total of it all."""
    header = ["environment", "order", "terms", "share", "cumulative", "of it noise", "beyond noise +- SE"]
    rows = []
    for e, one in found.items():
        top = min(max_order, one.num_loci)
        share, noise = one.variance / one.total, one.noise_variance / one.total
        cumulative = np.cumsum(share)
        for at in range(top):
            beyond = _with_error(one.beyond_noise[at] / one.total, one.std_error[at] / one.total, 4)
            facts = [f"{one.num_terms[at]:,}", f"{share[at]:.4f}", f"{cumulative[at]:.4f}", _plain(noise[at]), beyond]
            rows.append([_name(names[e]), str(at + 1), *facts])
        if top < one.num_loci:
            count, higher = int(one.num_terms[top:].sum()), share[top:].sum()
            facts = [f"{count:,}", f"{higher:.4f}", f"{cumulative[-1]:.4f}", _plain(noise[top:].sum()), "-"]
            rows.append([_name(names[e]), "higher", *facts])
        if one.within > 0:
            rows.append([_name(names[e]), "within", "-", f"{one.within / one.total:.4f}", "1.0000", "-", "-"])
    return "complete landscapes: share of the variance by epistasis order, exactly\n" + "\n".join(
        aligned(header, rows, 2)
    )


def _name(name: str) -> str:
    return setting_text(clean(name))


def _with_error(value: float, error: float, digits: int = 3) -> str:
    if not np.isfinite(value):
        return "-"
    return f"{value:.{digits}f} +- " + (f"{error:.{digits}f}" if np.isfinite(error) else "?")


def _plain(value: float) -> str:
    return f"{value:.4f}" if np.isfinite(value) else "-"
