"""What a model has learned as tables: effects, pair effects and attention, strongest first, and the terminal's text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.explain.learned import Learned
from gpmap_cli.explain.scores import ANY, ROUNDING
from gpmap_cli.report.read import clean
from gpmap_cli.report.tables import aligned, setting_text

Columns = dict[str, NDArray]
_MOST_SHOWN = 8


def effects_columns(found: Learned) -> Columns:
    """Of every locus in every environment: what its alternative allele adds, strongest first within environments.

    `coefficient` is half the effect: that of the locus coded -1/+1.
    """

    def of(environment: int) -> Columns:
        main = found.main
        order = np.argsort(-np.abs(main.mean[:, environment]), kind="stable")
        columns: Columns = {"locus": found.locus_ids[order]}
        if found.chromosomes is not None:
            columns["chromosome"] = found.chromosomes[order]
        if found.positions is not None:
            columns["position"] = found.positions[order]
        for name, values in (("effect", main.mean), ("std_error", main.std_error), ("rms", main.rms)):
            columns[name] = values[order, environment]
        columns["coefficient"] = columns["effect"] / 2
        truth = found.truth_of(environment)
        if found.truth is not None:
            unknown = np.full(len(order), np.nan)
            columns["true_effect"] = unknown if truth is None else truth.main_effects(environment, len(order))[order]
        return columns

    return _stacked(found, of)


def pairs_columns(found: Learned, most: int) -> Columns:
    """Of pairs of loci in every environment, by RMS, the strongest `most` of each.

    `coefficient` is a quarter of the effect: that of the product of the two loci coded -1/+1. `true_order` is the
    lowest epistasis order of a true term that has both, and empty where there is none.
    """
    one, other = found.loci_of_pairs

    def of(environment: int) -> Columns:
        pairs = found.pairs
        order = _strongest(pairs.rms[:, environment], most)
        columns: Columns = {"locus": found.locus_ids[one[order]], "locus_2": found.locus_ids[other[order]]}
        for name, values in (("effect", pairs.mean), ("std_error", pairs.std_error), ("rms", pairs.rms)):
            columns[name] = values[order, environment]
        columns["coefficient"] = columns["effect"] / 4
        if found.truth is not None:
            true_order, true_effect = np.full(len(order), np.nan), np.full(len(order), np.nan)
            truth = found.truth_of(environment)
            if truth is not None:
                true_order = lowest_order(found, environment)[one[order], other[order]]
                true_effect = truth.pair_effects(environment, found.num_loci)[one[order], other[order]]
            columns["true_order"], columns["true_effect"] = true_order, true_effect
        return columns

    return _stacked(found, of)


def sets_columns(found: Learned, order: int) -> Columns:
    """Of sets of `order` loci in every environment, by RMS: their differences of that order.

    `coefficient` is the effect over 2^order: that of the product of the loci coded -1/+1.
    """
    sets, effects = found.sets[order]

    def of(environment: int) -> Columns:
        by_rms = _strongest(effects.rms[:, environment], len(sets))
        columns: Columns = {
            f"locus_{at + 1}" if at else "locus": found.locus_ids[sets[by_rms, at]] for at in range(order)
        }
        for name, values in (("effect", effects.mean), ("std_error", effects.std_error), ("rms", effects.rms)):
            columns[name] = values[by_rms, environment]
        columns["coefficient"] = columns["effect"] / 2**order
        if found.truth is not None:
            truth = found.truth_of(environment)
            unknown = np.full(len(sets), np.nan)
            columns["true_order"] = unknown if truth is None else truth.lowest_order(environment, sets)[by_rms]
        return columns

    return _stacked(found, of)


def attention_columns(found: Learned, most: int) -> Columns | None:
    """Which locus takes how much from which other one, the mean over layers and heads, the strongest `most`.

    `environment` is empty where all share one map.
    """
    if found.attention is None:
        return None
    layers = list(found.attention.values())
    names = found.environment_names if len(layers[0]) > 1 or len(found.environment_names) == 1 else ("",)
    parts: list[Columns] = []
    for at, name in enumerate(names):
        mean = np.mean([layer[at].mean(axis=0) for layer in layers], axis=0)[: found.num_loci, : found.num_loci]
        takes, taken = np.nonzero(~np.eye(found.num_loci, dtype=bool))
        order = _strongest(mean[takes, taken], most)
        columns = {"locus": found.locus_ids[takes[order]], "locus_2": found.locus_ids[taken[order]]}
        parts.append(_in(name, {**columns, "attention": mean[takes[order], taken[order]]}))
    return _joined(parts)


def lowest_order(found: Learned, environment: int) -> NDArray[np.float64]:
    """The lowest order of a true term in which two loci are together, (L, L); NaN where they are in none."""
    lowest = np.full((found.num_loci, found.num_loci), np.nan)
    truth = found.truth_of(environment)
    if truth is not None:
        for order, together in sorted(truth.pairs(environment, found.num_loci).items(), reverse=True):
            lowest[together] = order
    return lowest


def shown(found: Learned, scores: Mapping[str, Any]) -> str:
    """The strongest pairs and sets, and how well they tell the truth where it is known. scores: by environment."""
    over = f"{len(found.pairs.mean)} pairs, over {found.num_genotypes} genotypes"
    lines = _strongest_lines(found, pairs_columns(found, _MOST_SHOWN), over)
    for order, (sets, _) in found.sets.items():
        lines += ["", *_strongest_lines(found, sets_columns(found, order), f"{len(sets)} sets of {order} loci")]
    if scores:
        lines += ["", "AUROC for pairs that are together in a true term", *_pair_lines(scores)]
        lines += _set_lines(scores)
        lines += [
            "",
            "AUROC for loci: additive by mean, in any true term by RMS",
            *_locus_lines(scores, found.num_loci),
        ]
    return "\n".join(lines)


def _strongest_lines(found: Learned, columns: Columns, what: str) -> list[str]:
    """The strongest over all environments, which are compared in standard deviations of the phenotype."""
    scale = dict(zip(found.environment_names, found.std, strict=True))
    in_std = columns["rms"] / np.array([scale[name] for name in columns["environment"]])
    keys = [*(name for name in columns if name.startswith("locus")), "environment"]
    order = ["true_order"] if "true_order" in columns else []
    rows = [
        [
            *(setting_text(clean(str(columns[key][at]))) for key in keys),
            *(f"{columns[key][at]:.4g}" for key in ("effect", "std_error", "rms")),
            *(_order(columns[key][at]) for key in order),
        ]
        for at in np.argsort(-in_std, kind="stable")[:_MOST_SHOWN]
        if in_std[at] >= ROUNDING
    ]
    if not rows:
        return [f"no effect beyond rounding in {what}"]
    header = [*keys, "effect", "std error", "RMS", *(["true order"] if order else [])]
    return [f"strongest of {what}", *aligned(header, rows, num_left=len(keys))]


def _pair_lines(scores: Mapping[str, Any]) -> list[str]:
    names = ("auroc_rms", "auroc_mean", "auroc_attention", "effect_r")
    rows = [
        [setting_text(clean(name)), order, f"{one['num_true']} of {one['num_true'] + one['num_other']}"]
        + [_number(one.get(key)) for key in names]
        for name, found in scores.items()
        for order, one in found["pairs"].items()
        if order != ANY or len(found["pairs"]) != 2
    ]
    header = ["environment", "order", "true pairs", "by RMS", "by mean", "by attention", "r of effects"]
    return _without_empty(header, rows, 3)


def _set_lines(scores: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            *(setting_text(clean(name)), order, f"{one['num_true']} of {one['num_true'] + one['num_other']}"),
            *(str(one["num_true_looked_at"]), _number(one["auroc_rms"]), _number(one["auroc_mean"])),
        ]
        for name, found in scores.items()
        for order, one in found["sets"].items()
        if one["num_true"]
    ]
    header = ["environment", "order", "true sets", "looked at", "by RMS", "by mean"]
    return ["", "AUROC for sets of loci of a true term", *_without_empty(header, rows, 3)] if rows else []


def _locus_lines(scores: Mapping[str, Any], num_loci: int) -> list[str]:
    rows = [
        [setting_text(clean(name)), f"{one['num_additive']} of {num_loci}", f"{one['num_in_a_term']} of {num_loci}"]
        + [_number(one[key]) for key in ("auroc_mean", "auroc_rms", "effect_r")]
        for name, found in scores.items()
        for one in [found["effects"]]
    ]
    header = ["environment", "additive", "in a term", "by mean", "by RMS", "r of effects"]
    return _without_empty(header, rows, 3)


def _without_empty(header: list[str], rows: list[list[str]], first: int) -> list[str]:
    """The aligned table without those columns from `first` on that hold nothing."""
    kept = [at for at in range(len(header)) if at < first or any(row[at] != "-" for row in rows)]
    return aligned([header[at] for at in kept], [[row[at] for at in kept] for row in rows], num_left=1)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _order(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.0f}"


def _strongest(values: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    """The places of the `most` largest values, descending; sorts no more than it keeps."""
    if len(values) > most:
        kept = np.sort(np.argpartition(-values, most - 1)[:most])
        return kept[np.argsort(-values[kept], kind="stable")]
    return np.argsort(-values, kind="stable")


def _stacked(found: Learned, of: Callable[[int], Columns]) -> Columns:
    return _joined([_in(name, of(at)) for at, name in enumerate(found.environment_names)])


def _in(environment: str, columns: Columns) -> Columns:
    number = len(next(iter(columns.values())))
    return {"environment": np.full(number, environment, dtype=object), **columns}


def _joined(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
