"""What a scan found as a table of terms, as facts for `metrics.json`, and as the terminal's text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.explain.true_terms import Truth
from gpmap_cli.report.read import clean
from gpmap_cli.report.tables import aligned
from gpmap_cli.scan.against_truth import is_true, score
from gpmap_cli.scan.estimate import Estimate
from gpmap_cli.scan.lead_terms import Lead
from gpmap_cli.scan.results import Terms

_MOST_SHOWN = 8
_CRITERIA = ("bonferroni", "permutation", "fdr")


@dataclass(frozen=True)
class Scanned:
    """The names of what was scanned: L loci and E environments, where loci lie if that is known, and the truth."""

    locus_ids: NDArray
    environment_names: tuple[str, ...]
    chromosomes: NDArray | None
    positions: NDArray | None
    truth: Truth | None
    alpha: float


def terms_columns(scanned: Scanned, orders: Sequence[Sequence[Terms]]) -> dict[str, NDArray]:
    """One row for each term that was kept, by order, environment and p-value; `orders` are terms by environment.

    `effect`, of the product of the coded genotypes of all its loci in the phenotype's units, `std_error`, their ratio
    `z` and the two-sided p-value `p` are of the joint fit (`scan.exact_tests`); `log10_p` is never too small to be
    told. Columns of loci are empty beyond the term's order.
    """
    all_terms = [terms for by_environment in orders for terms in by_environment]
    width = max((terms.order for terms in all_terms), default=1)
    parts = [_rows(scanned, terms, width) for terms in all_terms]
    if not parts:
        return {}
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _rows(scanned: Scanned, terms: Terms, width: int) -> dict[str, NDArray]:
    num_terms = len(terms.loci)
    columns: dict[str, NDArray] = {
        "environment": np.full(num_terms, scanned.environment_names[terms.environment], dtype=object),
        "order": np.full(num_terms, terms.order),
    }
    for name, values in (
        ("locus", scanned.locus_ids),
        ("chromosome", scanned.chromosomes),
        ("position", scanned.positions),
    ):
        if values is None:
            continue
        for at in range(width):
            empty = np.full(num_terms, "", dtype=object)
            shown = values[terms.loci[:, at]].astype(object) if at < terms.order else empty
            columns[f"{name}_{at + 1}" if at else name] = shown
    columns |= {
        "effect": terms.tests.effect,
        "std_error": terms.tests.std_error,
        "z": terms.tests.t,
        "p": 10.0**terms.tests.log10_p,
        "log10_p": terms.tests.log10_p,
        "p_bonferroni": terms.bonferroni,
        "q": terms.q,
        "z_screen": terms.z_screen,
    }
    if terms.permutation is not None:
        columns["p_permutation"] = terms.permutation
    if scanned.truth is not None:
        true = is_true(scanned.truth, terms.environment, terms.loci)
        unknown = np.full(num_terms, "", dtype=object)
        columns["is_true"] = unknown if true is None else np.where(true, "true", "false").astype(object)
    return columns


def leads_columns(scanned: Scanned, found: Sequence[tuple[Terms, Sequence[Lead]]]) -> dict[str, NDArray]:
    """One row for each lead term: the term, its joint fit with the other leads, and the interval of each locus.

    `low` and `high` are the loci where the interval of the first locus begins and ends, `low_2` and so on those of the
    others; `num_merged` terms that passed alone belong to it.
    """
    width = max((terms.order for terms, _ in found), default=1)
    ids = scanned.locus_ids
    rows: list[dict[str, Any]] = []
    for terms, leads in found:
        for lead in leads:
            loci = terms.loci[lead.term]
            row: dict[str, Any] = {
                "environment": scanned.environment_names[terms.environment],
                "order": terms.order,
                "effect": lead.effect,
                "std_error": lead.std_error,
                "z": lead.effect / lead.std_error,
                "log10_p": lead.log10_p,
                "log10_p_alone": terms.tests.log10_p[lead.term],
                "num_merged": len(lead.members) - 1,
            }
            for at in range(width):
                suffix = f"_{at + 1}" if at else ""
                here = at < terms.order
                row["locus" + suffix] = ids[loci[at]] if here else ""
                row["low" + suffix] = ids[lead.low[at]] if here else ""
                row["high" + suffix] = ids[lead.high[at]] if here else ""
                if scanned.chromosomes is not None:
                    row["chromosome" + suffix] = scanned.chromosomes[loci[at]] if here else ""
                if scanned.positions is not None:
                    for name, column in (("position", loci[at : at + 1]), ("low_position", lead.low[at : at + 1])):
                        row[name + suffix] = scanned.positions[column[0]] if here else ""
                    row["high_position" + suffix] = scanned.positions[lead.high[at]] if here else ""
            rows.append(row)
    return {name: np.array([row[name] for row in rows], dtype=object) for name in rows[0]} if rows else {}


def environment_facts(scanned: Scanned, terms: Terms) -> dict[str, Any]:
    """What `metrics.json` says of one order in one environment; what is undefined is None."""
    passing = terms.passing(scanned.alpha)
    limits = terms.limits
    found: dict[str, Any] = {
        "num_samples": terms.num_samples,
        "num_kept": len(terms.loci),
        "inflation": terms.inflation if np.isfinite(terms.inflation) else None,
        "largest_abs_z": float(np.abs(terms.z_screen).max()) if len(terms.loci) else None,
        "thresholds": {
            "bonferroni": limits.bonferroni,
            "permutation": limits.permutation,
            "fdr": limits.discovery,
        },
        "num_passing": {name: int(passes.sum()) for name, passes in passing.items()},
        "num_beyond_fdr_threshold": limits.num_discovered,
    }
    if scanned.truth is not None:
        found["truth"] = score(scanned.truth, terms.environment, terms.loci, passing)
    return found


def shown(scanned: Scanned, orders: Sequence[Sequence[Terms]]) -> str:
    """By order and environment how many terms pass, and the strongest terms."""
    criteria = [name for name in _CRITERIA if any(name in terms.passing(0.5) for by in orders for terms in by)]
    header = ["order", "environment", "candidates", *(f"{name} {scanned.alpha:g}" for name in criteria)]
    has_truth = scanned.truth is not None
    header += ["true terms", "true found", "false found"] if has_truth else []
    rows, strongest = [], []
    for by_environment in orders:
        for terms in by_environment:
            name = clean(scanned.environment_names[terms.environment])
            passing = terms.passing(scanned.alpha)
            row = [str(terms.order), name, f"{terms.num_candidates:,}"]
            row += [f"{int(passing[criterion].sum()):,}" for criterion in criteria]
            if has_truth:
                facts = score(scanned.truth, terms.environment, terms.loci, passing)  # type: ignore[arg-type]
                of = [] if facts is None else [facts["num_true"], *facts["bonferroni"].values()]
                row += [f"{number:,}" for number in of] or ["", "", ""]
            rows.append(row)
            strongest += _strongest(scanned, terms, name)
    strongest.sort(key=lambda pair: pair[0])
    lines = aligned(header, rows, 2)
    if has_truth:
        lines.append("found: passing Bonferroni's threshold, and of the terms of that order that act there true or not")
    if strongest:
        lines += ["", "strongest terms"]
        columns = ["order", "environment", "loci", "effect", "SE", "z", "log10 p", "q"]
        lines += aligned(columns, [row for _, row in strongest[:_MOST_SHOWN]], 3)
    return "\n".join(lines)


def _strongest(scanned: Scanned, terms: Terms, name: str) -> list[tuple[float, list[str]]]:
    found = []
    for at in range(min(_MOST_SHOWN, len(terms.loci))):
        loci = " x ".join(clean(str(locus)) for locus in scanned.locus_ids[terms.loci[at]])
        tests = terms.tests
        numbers = [tests.effect[at], tests.std_error[at]]
        row = [str(terms.order), name, loci, *(f"{number:.3g}" for number in numbers)]
        row += [f"{tests.t[at]:.2f}", f"{tests.log10_p[at]:.2f}", f"{terms.q[at]:.2g}"]
        found.append((float(tests.log10_p[at]), row))
    return found


def estimates_shown(estimates: dict[int, Estimate]) -> str:
    """What each order would take."""
    header = ["order", "candidates", "operations", "expected time", "memory"]
    rows = [
        [
            str(order),
            f"{one.candidates:,}",
            f"{one.operations:.2g}" if one.operations else "",
            duration(one.seconds),
            f"{one.num_bytes / 1e9:.2f} GB",
        ]
        for order, one in estimates.items()
    ]
    return "\n".join(aligned(header, rows, 1))


def duration(seconds: float) -> str:
    """12.3 s, 4.5 min or 1.2 h."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
