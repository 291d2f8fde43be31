"""Cross-validation as the report's text shows it: means over environments; the tables have the rest."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from gpmap_cli.report.cross_validation import POOLED, Configuration, CrossValidation
from gpmap_cli.report.read import Scalar
from gpmap_cli.report.tables import MEAN, aligned, setting_text

_LONGEST_LABEL = 40


def cross_validation_lines(found: CrossValidation) -> list[str]:
    """Folds and pooled scores by configuration, then the differences between models."""
    settings = [key for key, _ in (*found.configurations[0].of_data, *found.configurations[0].repeat)]
    header = [*settings, "model", "folds", "mean R^2", "sd", "pooled R^2", "pooled r", "n"]
    rows = [_row(one) for one in found.configurations]
    lines = ["", "cross-validation, over folds and over all held-out predictions (pooled):"]
    lines += aligned(header, rows, len(settings) + 1)
    shown = [each for each in found.comparisons if each.environment == MEAN]
    if shown:
        settings = [key for key, _ in shown[0].of_data]
        header = [*settings, "model", "less", "R^2 difference", "95% interval", "p", "Holm p", "folds"]
        rows = [
            [
                *_texts(each.of_data),
                *(setting_text(name, _LONGEST_LABEL) for name in (each.one, each.other)),
                _signed(each.difference.mean),
                "-" if each.difference.low is None else f"{each.difference.low:+.3f} to {each.difference.high:+.3f}",
                _p(each.difference.p_value),
                _p(each.p_holm),
                str(each.difference.num_folds),
            ]
            for each in shown
        ]
        lines += ["", "models on the same folds (corrected resampled t-test, Nadeau and Bengio 2003):"]
        lines += aligned(header, rows, len(settings) + 2)
    return [*lines, *(["", *found.said] if found.said else [])]


def _row(one: Configuration) -> list[str]:
    means = [score for score in one.scores if score.environment == MEAN]
    folds = [score.r2 for score in means if score.fold != POOLED and score.r2 is not None]
    pooled = next((score for score in means if score.fold == POOLED), None)
    numbers: list[float | None] = [
        statistics.fmean(folds) if folds else None,
        statistics.stdev(folds) if len(folds) > 1 else None,
        None if pooled is None else pooled.r2,
        None if pooled is None else pooled.pearson_r,
    ]
    return [
        *_texts((*one.of_data, *one.repeat)),
        setting_text(one.model, _LONGEST_LABEL),
        str(len(one.runs)) if one.num_folds in (None, len(one.runs)) else f"{len(one.runs)} of {one.num_folds}",
        *("-" if number is None else f"{number:.3f}" for number in numbers),
        "-" if pooled is None or pooled.num_samples is None else str(pooled.num_samples),
    ]


def _texts(settings: Iterable[tuple[str, Scalar]]) -> list[str]:
    return [setting_text(value) for _, value in settings]


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"
