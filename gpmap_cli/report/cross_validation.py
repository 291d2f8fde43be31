"""Cross-validated runs put together: scores by fold and over all held-out predictions, and models compared by fold.

A configuration is all runs that differ in nothing but `split.fold`. Its pooled R^2 is that of the predictions of every
sample by the fold that tested it, about the mean of all of them; it differs from the mean over folds, in which every
fold has its own mean, the more the fewer samples a fold has.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gpmap_cli.errors import one_line
from gpmap_cli.metrics import mean_r2, pearson_r, r2_score
from gpmap_cli.report.collect import Runs, replicate_keys, setting_of, swept_keys
from gpmap_cli.report.held_out import Unreadable, held_out_predictions
from gpmap_cli.report.paired_tests import Difference, corrected_difference, holm
from gpmap_cli.report.read import Run, Scalar, clean
from gpmap_cli.report.tables import MEAN, mean_scores

if TYPE_CHECKING:
    import pandas as pd

FOLD, POOLED = "split.fold", "pooled"
_METHODS = ("kfold", "grouped")
_OF_THE_PREDICTOR = ("model", "training")  # groups of settings that make another model, not other data


@dataclass(frozen=True)
class FoldScore:
    """How well one fold, or all of them (`pooled`), is predicted in one environment or in the mean over them."""

    fold: str
    environment: str
    r2: float | None
    pearson_r: float | None
    mse: float | None
    num_samples: int | None


@dataclass
class Configuration:
    """The folds of one configuration: model with its varied settings, the data they share with others, and repeats."""

    model: str
    of_data: tuple[tuple[str, Scalar], ...]  # what was varied beside the model
    repeat: tuple[tuple[str, Scalar], ...]  # the seeds
    runs: dict[int, Run] = field(default_factory=dict)
    tested: dict[int, str] = field(default_factory=dict)  # digest of which samples a fold tests
    scores: list[FoldScore] = field(default_factory=list)

    @property
    def num_folds(self) -> int | None:
        """How many there are to be; None where the dataset alone knows that."""
        asked = next(iter(self.runs.values())).config
        number = asked.get("split.num_folds")
        stored = asked.get("split.method") == "kfold" and asked.get("split.name") is not None
        return number if isinstance(number, int) and not stored else None


@dataclass(frozen=True)
class Comparison:
    """R^2 of model `one` less that of `other` on the same folds."""

    of_data: tuple[tuple[str, Scalar], ...]
    environment: str
    one: str
    other: str
    difference: Difference
    p_holm: float | None


@dataclass(frozen=True)
class CrossValidation:
    """All of it, and lines about what had to be left out."""

    configurations: list[Configuration]
    comparisons: list[Comparison]
    said: list[str]


def cross_validation(runs: Runs) -> CrossValidation | None:
    """None where no configuration has two folds or more."""
    said: list[str] = []
    found = [one for one in _configurations(runs, said) if len(one.runs) > 1]
    if not found:
        return None
    for one in found:
        one.scores = [*_by_fold(one), *_pooled(one, said)]
    comparisons = list(_comparisons(found, said))
    return CrossValidation(found, comparisons, said)


def _configurations(runs: Runs, said: list[str]) -> list[Configuration]:
    folded = [run for run in runs if run.completed and run.config.get("split.method") in _METHODS]
    swept, repeats = swept_keys(folded), [key for key in replicate_keys(folded) if key != FOLD]
    by_key: dict[Any, Configuration] = {}
    for run in folded:
        fold = run.config.get(FOLD)
        if not isinstance(fold, int) or "test" not in run.splits:
            continue
        own = [key for key in swept if key.partition(".")[0] in _OF_THE_PREDICTOR and key in run.config]
        label = ", ".join([run.model, *(f"{key}={setting_of(run, key)}" for key in own)])
        beside = [key for key in swept if key.partition(".")[0] not in _OF_THE_PREDICTOR]
        of_data, repeat = (tuple((key, setting_of(run, key)) for key in keys) for keys in (beside, repeats))
        one = by_key.setdefault((label, of_data, repeat), Configuration(label, of_data, repeat))
        if fold in one.runs:
            said.append(f"{run.name}: fold {fold} once more, left out of the cross-validation")
        one.runs.setdefault(fold, run)
    for one in by_key.values():
        one.runs = dict(sorted(one.runs.items()))
    return list(by_key.values())


def _by_fold(one: Configuration) -> Iterator[FoldScore]:
    for fold, run in one.runs.items():
        environments = run.splits["test"].environments
        cells = [(MEAN, mean_scores(run, "test"))]
        if len(environments) > 1:
            cells += [(_shown(name), scores) for name, scores in environments.items()]
        for name, scores in cells:
            yield FoldScore(str(fold), name, scores.r2, scores.pearson_r, scores.mse, scores.num_samples)


def _shown(environment: str) -> str:
    """An environment that is itself called `mean` must not pass for the mean."""
    return f"environment {MEAN}" if environment == MEAN else clean(environment)


def _pooled(one: Configuration, said: list[str]) -> list[FoldScore]:
    """Scores over the predictions of all folds; what each fold tests is noted on the way."""
    import pandas as pd

    parts = []
    for fold, run in one.runs.items():
        try:
            parts.append(held_out_predictions(run.directory))
        except Unreadable as trouble:
            said.append(f"{run.name}: {clean(one_line(str(trouble), 200))}; no pooled scores and no comparisons of it")
            continue
        ids = sorted(parts[-1]["sample_id"].unique())
        one.tested[fold] = hashlib.sha256("\0".join(ids).encode()).hexdigest()
    if len(parts) < len(one.runs):
        return []
    table = pd.concat(parts, ignore_index=True)
    if table.duplicated(["sample_id", "environment"]).any():
        said.append(f"{one.model}: some samples are tested by several folds; no pooled scores")
        return []
    found = []
    for name, cells in table.groupby("environment", sort=False):
        known = cells[cells["observed"].notna()]
        y, f = known["observed"].to_numpy(np.float64), known["predicted"].to_numpy(np.float64)
        mse = float(((y - f) ** 2).mean()) if len(y) else None
        found.append(FoldScore(POOLED, _shown(str(name)), r2_score(y, f), pearson_r(y, f), mse, len(y)))
    if len(found) == 1:
        only = found[0]
        return [FoldScore(POOLED, MEAN, only.r2, only.pearson_r, only.mse, only.num_samples)]
    r = [each.pearson_r for each in found]
    return [FoldScore(POOLED, MEAN, mean_r2([each.r2 for each in found]), mean_r2(r), None, None), *found]


def _comparisons(configurations: Iterable[Configuration], said: list[str]) -> Iterator[Comparison]:
    """Every two models on the same data, by environment; Holm's correction is over the pairs of models in one."""
    by_data: dict[Any, dict[str, dict[Any, Configuration]]] = {}
    for one in configurations:
        by_data.setdefault(one.of_data, {}).setdefault(one.model, {})[one.repeat] = one
    for of_data, models in by_data.items():
        environments = dict.fromkeys(
            score.environment for repeats in models.values() for one in repeats.values() for score in one.scores
        )
        pairs = list(itertools.combinations(models, 2))
        apart = {pair for pair in pairs if _test_other_samples(models[pair[0]], models[pair[1]])}
        said += [f"{a} and {b}: their folds test other samples; not compared" for a, b in sorted(apart)]
        for environment in environments:
            found = [
                (pair, difference)
                for pair in pairs
                if pair not in apart
                for difference in [_difference(models[pair[0]], models[pair[1]], environment)]
                if difference is not None
            ]
            corrected = holm([difference.p_value for _, difference in found])
            for ((a, b), difference), p_holm in zip(found, corrected, strict=True):
                yield Comparison(of_data, environment, a, b, difference, p_holm)


def _test_other_samples(one: dict[Any, Configuration], other: dict[Any, Configuration]) -> bool:
    return any(
        one[repeat].tested[fold] != other[repeat].tested[fold]
        for repeat in one.keys() & other.keys()
        for fold in one[repeat].tested.keys() & other[repeat].tested.keys()
    )


def _difference(one: dict[Any, Configuration], other: dict[Any, Configuration], environment: str) -> Difference | None:
    """Over the folds, of all repeats, that both have."""
    differences, ratios = [], []
    for repeat in (key for key in one if key in other):
        for fold in (key for key in one[repeat].tested if key in other[repeat].tested):
            mine, theirs = (_r2(each[repeat], fold, environment) for each in (one, other))
            if mine is not None and theirs is not None:
                differences.append(mine - theirs)
                ratios.append(_test_to_train(one[repeat].runs[fold]))
    return corrected_difference(differences, float(np.mean(ratios))) if len(differences) > 1 else None


def _r2(one: Configuration, fold: int, environment: str) -> float | None:
    return next((each.r2 for each in one.scores if (each.fold, each.environment) == (str(fold), environment)), None)


def _test_to_train(run: Run) -> float:
    """Samples tested to samples given to the fit, those it chooses by among them, over all environments."""
    numbers = {
        name: sum(scores.num_samples or 0 for scores in split.environments.values())
        for name, split in run.splits.items()
    }
    return numbers.get("test", 0) / max(1, numbers.get("train", 0) + numbers.get("validation", 0))


def scores_table(found: CrossValidation) -> pd.DataFrame:
    """`cross_validation.csv`: tidy, one row per configuration, environment and fold, `pooled` for all of them."""
    import pandas as pd

    rows = [
        {
            **dict(one.of_data), "model": one.model, **dict(one.repeat), "fold": score.fold,
            "environment": score.environment, "r2": score.r2, "pearson_r": score.pearson_r, "mse": score.mse,
            "num_samples": score.num_samples,
        }
        for one in found.configurations
        for score in one.scores
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table["num_samples"] = table["num_samples"].astype("Int64")
    return table


def comparisons_table(found: CrossValidation) -> pd.DataFrame:
    """`model_comparisons.csv`: one row per data, environment and pair of models."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                **dict(each.of_data), "environment": each.environment, "model": each.one, "other_model": each.other,
                "num_folds": each.difference.num_folds, "r2_difference": each.difference.mean,
                "ci_low": each.difference.low, "ci_high": each.difference.high,
                "p_value": each.difference.p_value, "p_holm": each.p_holm,
            }
            for each in found.comparisons
        ]
    )  # fmt: skip
