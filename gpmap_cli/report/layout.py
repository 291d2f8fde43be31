"""How the test scores of a sweep are arranged for comparison: x axis, panels, points and intervals, as plain data."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from gpmap_cli.report.collect import in_step, is_number, replicate_keys, setting_of, swept_keys
from gpmap_cli.report.read import Run, Scalar, Scores
from gpmap_cli.report.tables import mean_ceiling, mean_scores, over_environments, rank, setting_text

MOST_PANELS = 24
_ENOUGH_REPLICATES = 3  # for an interval from their spread
_WORDS = {
    "data.name": "data",
    "data.order": "epistasis order",
    "data.epsilon": "epsilon (additive share)",
    "data.effects": "effect size distribution",
    "data.noise": "noise (in genetic SDs)",
    "data.num_interactions": "number of interaction terms",
    "data.path": "dataset file",
    "model.embedding_dim": "embedding dimension d",
    "training.name": "training schedule",
    "split.method": "split",
    "prune.max_abs_r": "LD pruning threshold |r|",
    "run": "evaluated run",
}


@dataclass(frozen=True)
class Point:
    """R^2 of one model at one place of the x axis, and the bounds of its 95 % interval if known.

    x is None for a model that does not have the setting on the x axis: its R^2 is a level.
    """

    x: Scalar
    r2: float
    low: float | None
    high: float | None
    over_runs: bool  # the interval is of the spread between repeated runs, else of a bootstrap over samples


@dataclass
class Panel:
    """One pair of axes: the points of each model, and the noise ceiling by x."""

    title: str
    series: dict[str, list[Point]] = field(default_factory=dict)
    ceiling: dict[Scalar, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """A whole figure: its panels, the places of the x axis in order, the models in order, and what the axes say."""

    panels: list[Panel]
    xs: list[Scalar]
    numeric: bool
    by_model: bool  # x is the models themselves
    models: list[str]
    x_label: str
    y_label: str
    note: str


def label_of(key: str) -> str:
    """What a setting is called in words."""
    last = key.rpartition(".")[2]
    plain = f"number of {last.removeprefix('num_')}" if last.startswith("num_") else last
    return _WORDS.get(key, plain.replace("_", " "))


def arrange(runs: Iterable[Run], split: str = "test") -> Layout | None:
    """R^2 of one split of the completed runs, arranged; None when no run has a score.

    x is the numeric variable of the sweep with the most values, or else the variable with the most values. Other
    variables make the panels, one for each combination (the first 24), and R^2 is the mean over environments.
    With one variable the panels are the environments (or one panel of their mean: beyond 24, or where not all runs
    have the same ones). With none, the environments are the x axis; where that is one, or more than 24, the models.
    """
    scored = [run for run in runs if run.completed and mean_scores(run, split).r2 is not None]
    if not scored:
        return None
    models = list(dict.fromkeys(run.model for run in scored))
    environments = list(dict.fromkeys(name for run in scored for name in run.splits[split].environments))
    variables = in_step({key: [setting_of(run, key) for run in scored] for key in swept_keys(scored)})
    # Where the runs of a sweep were scored in different environments, only their means can be set side by side.
    alike = all(len(run.splits[split].environments) == len(environments) for run in scored)
    apart = 1 < len(environments) <= MOST_PANELS and (alike or not variables)
    make = _PanelMaker(split, models, replicate_keys(scored))
    note = ""
    if not variables:
        xs: list[Scalar] = [*environments] if apart else [*models]
        panels = [make.by_environment(scored, environments) if apart else make.panel("", scored, _model_of)]
        numeric, x_label = False, "environment" if apart else "model"
    else:
        key = max((_axis(scored, keys) for keys in variables), key=lambda key: _fitness(scored, key))
        xs, numeric, x_label = _levels(scored, key), _fitness(scored, key)[0], label_of(key)
        others = [keys[0] for keys in variables if key not in keys]
        if others:
            apart = False
            combinations = _combinations(scored, others)
            shown = combinations[:MOST_PANELS]
            panels = [make.panel(title, members, lambda run: setting_of(run, key)) for title, members in shown]
            if len(shown) < len(combinations):
                note = f"the first {len(shown)} of {len(combinations)} combinations"
        else:
            panels = [
                make.panel(name or "", scored, lambda run: setting_of(run, key), name)
                for name in (environments if apart else [None])
            ]
    y_label = "R² of all samples" if split == "all" else f"{split} R²"
    if not apart:
        y_label += over_environments(len(run.splits[split].environments) for run in scored)
    note = "; ".join(text for text in (note, _what_bars_are(panels)) if text)
    return Layout(panels, xs, numeric, not variables and not apart, models, x_label, y_label, note)


@dataclass(frozen=True)
class _PanelMaker:
    split: str
    models: list[str]
    replicates: list[str]

    def panel(
        self, title: str, runs: list[Run], x_of: Callable[[Run], Scalar], environment: str | None = None
    ) -> Panel:
        """The scores of one environment (None: the mean over all) by model and x."""
        panel = Panel(title)
        ceilings: dict[Scalar, list[float]] = {}
        places: dict[tuple[str, Scalar], list[Run]] = {}
        for run in runs:
            places.setdefault((run.model, x_of(run)), []).append(run)
            ceiling = mean_ceiling(run, self.split) if environment is None else run.noise_ceiling_r2.get(environment)
            if ceiling is not None:
                ceilings.setdefault(x_of(run), []).append(ceiling)
        for model in self.models:
            points = [self._point(x, members, environment) for (name, x), members in places.items() if name == model]
            panel.series[model] = [point for point in points if point is not None]
        panel.ceiling = {x: statistics.fmean(values) for x, values in ceilings.items()}
        return panel

    def by_environment(self, runs: list[Run], environments: list[str]) -> Panel:
        """One panel whose x axis is the environments."""
        whole = Panel("")
        for name in environments:
            part = self.panel("", runs, lambda _, name=name: name, name)  # type: ignore[misc]
            whole.ceiling.update(part.ceiling)
            for model, points in part.series.items():
                whole.series.setdefault(model, []).extend(points)
        return whole

    def _point(self, x: Scalar, runs: list[Run], environment: str | None) -> Point | None:
        """The mean over seeds or folds, with the t interval of their spread from three on, else the bootstrap's."""
        scores = [(run, _scores(run, self.split, environment)) for run in runs]
        scores = [(run, each) for run, each in scores if each.r2 is not None]
        values = [each.r2 for _, each in scores if each.r2 is not None]
        if not values:
            return None
        mean = statistics.fmean(values)
        repeats = {tuple(setting_of(run, key) for key in self.replicates) for run, _ in scores}
        if len(repeats) >= _ENOUGH_REPLICATES:
            half = t_quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
            return Point(x, mean, mean - half, min(mean + half, 1.0), True)
        intervals = [each.r2_ci95 for _, each in scores if each.r2_ci95 is not None]
        if len(intervals) < len(values):
            return Point(x, mean, None, None, False)
        low, high = (statistics.fmean(bounds) for bounds in zip(*intervals, strict=True))
        return Point(x, mean, low, high, False)


def t_quantile(degrees: int) -> float:
    """The 97.5 % point of Student's t, to 0.001, for two degrees of freedom and more.

    From a table, and beyond it the expansion about the normal quantile (Abramowitz and Stegun 26.7.5).
    """
    table = (4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622)
    if degrees - 2 < len(table):
        return table[degrees - 2]
    z = 1.959964
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + third / degrees**3


def _model_of(run: Run) -> Scalar:
    return run.model


def _scores(run: Run, split: str, environment: str | None) -> Scores:
    if environment is None:
        return mean_scores(run, split)
    return run.splits[split].environments.get(environment, Scores(None))


def _axis(runs: list[Run], keys: list[str]) -> str:
    """Of settings that change together, the one to put on an axis: a numeric one if there is one."""
    return max(keys, key=lambda key: _fitness(runs, key)[0])


def _fitness(runs: list[Run], key: str) -> tuple[bool, int]:
    """How well a setting does as an x axis: numbers before names, then many values before few."""
    levels = _levels(runs, key)
    return all(is_number(level) for level in levels), len(levels)


def _levels(runs: list[Run], key: str) -> list[Scalar]:
    """The values in order. Beside numbers, not having the setting is no place on the axis; beside names it is one."""
    levels = sorted(dict.fromkeys(setting_of(run, key) for run in runs), key=rank)
    present: list[Scalar] = [level for level in levels if level is not None]
    return present if len(present) > 1 and all(is_number(level) for level in present) else levels


def _combinations(runs: list[Run], keys: list[str]) -> list[tuple[str, list[Run]]]:
    """The runs grouped by these settings, each group with its title."""
    groups: dict[tuple[Scalar, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(setting_of(run, key) for key in keys), []).append(run)
    places = [
        {value: at for at, value in enumerate(sorted(dict.fromkeys(each), key=rank))}
        for each in zip(*groups, strict=True)
    ]
    ordered = sorted(groups, key=lambda values: [place[value] for place, value in zip(places, values, strict=True)])
    return [
        (
            ", ".join(f"{label_of(key)} = {setting_text(value)}" for key, value in zip(keys, values, strict=True)),
            members,
        )
        for values in ordered
        for members in [groups[values]]
    ]


def _what_bars_are(panels: list[Panel]) -> str:
    points = [point for panel in panels for points in panel.series.values() for point in points]
    sources = {point.over_runs for point in points if point.low is not None}
    if not sources:
        return ""
    words = {True: "over repeated runs", False: "by bootstrap over samples"}
    return "bars: 95% intervals" + (f" {words[sources.pop()]}" if len(sources) == 1 else "")
