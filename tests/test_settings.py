"""Typed settings: every problem of a mapping is reported, all at once, each with the nearest valid key."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmap_cli.dataset.settings import FileData, Split
from gpmap_cli.errors import InputError, Problem, did_you_mean, listing, nearest, one_line
from gpmap_cli.prepare import sources
from gpmap_cli.prepare.sources.arrays import Settings as ArraysSource
from gpmap_cli.settings import Group, Ruled, fill, setting
from gpmap_cli.training.settings import TrainingSettings

GROUP = Group("model.", "attention")


@dataclass(frozen=True)
class Example:
    embedding_dim: int = setting(minimum=1, maximum=100)
    scale: float = setting(0.5, above=0, below=1)
    effects: Literal["gaussian", "exponential"] = "gaussian"
    names: tuple[str, ...] | None = None
    orders: tuple[int, ...] = setting((1,), minimum=1, maximum=9)
    penalty: float | Literal["auto"] = setting("auto", minimum=0)
    bias: bool = True
    label: str | None = None

    def problems(self, group):
        if self.label == "odd" and self.bias:
            return [Problem(f"{group.prefix}label is odd and {group.prefix}bias is set", "unset one")]
        return []


def filled(**values):
    problems: list[Problem] = []
    made = fill(Example, {"embedding_dim": 12, **values}, GROUP, problems)
    assert (made is None) == bool(problems)
    return made, problems


def test_what_is_right_is_taken_and_the_rest_has_its_default():
    made, _ = filled(scale=0.25, names=["23C", 30], orders=[1, 2.0], label=3)
    assert made == Example(12, 0.25, "gaussian", ("23C", "30"), (1, 2), "auto", True, "3")
    assert filled(names="23C")[0].names == ("23C",)
    assert filled(names=None)[0].names is None
    assert filled(orders=4)[0].orders == (4,)
    assert [filled(penalty=penalty)[0].penalty for penalty in ("auto", 2)] == ["auto", 2.0]
    whole = filled(scale=0.5, embedding_dim=7.0)[0]
    assert (whole.embedding_dim, type(whole.embedding_dim)) == (7, int)


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        ({"embeding_dim": 1}, "model.embeding_dim is not a setting of attention", "did you mean model.embedding_dim?"),
        ({"Scale": 0.5}, "model.Scale is not a setting of attention", "did you mean model.scale?"),
        ({"zzz": 1}, "model.zzz is not a setting of attention", "choose from `model.embedding_dim`"),
        ({7: 1}, "model.7 is not a setting of attention", "choose from"),
        ({"embedding_dim": "many"}, "model.embedding_dim must be a whole number, got `many`", "model.embedding_dim="),
        ({"embedding_dim": 1.5}, "must be a whole number, got `1.5`", "a whole number"),
        ({"embedding_dim": True}, "must be a whole number, got `True`", "a whole number"),
        ({"embedding_dim": None}, "must be a whole number, got null", "a whole number"),
        ({"embedding_dim": float("nan")}, "must be a whole number, got `nan`", "a whole number"),
        ({"embedding_dim": 0}, "model.embedding_dim must be at least 1, got `0`", "within its range"),
        ({"embedding_dim": 101}, "must be at most 100, got `101`", "within its range"),
        ({"scale": "wide"}, "model.scale must be a number, got `wide`", "model.scale="),
        ({"scale": float("inf")}, "must be a number, got `inf`", "a number"),
        ({"scale": 0}, "must be above 0, got `0`", "within its range"),
        ({"scale": 1}, "must be below 1, got `1`", "within its range"),
        ({"effects": "gausian"}, "must be one of `gaussian`, `exponential`", "did you mean model.effects=gaussian?"),
        ({"effects": None}, "must be one of `gaussian`, `exponential`, got null", "choose from"),
        ({"names": [["23C"]]}, "model.names must be a text", "model.names="),
        ({"names": [None]}, "model.names must be a text", "model.names="),
        ({"orders": [1, 10]}, "model.orders must be at most 9, got `[1, 10]`", "within its range"),
        ({"orders": [1, 0]}, "model.orders must be at least 1", "within its range"),
        ({"orders": "all"}, "model.orders must be a whole number, got `all`", "model.orders="),
        ({"penalty": "none"}, "model.penalty must be a number or one of `auto`, got `none`", "model.penalty="),
        ({"penalty": -1}, "model.penalty must be at least 0, got `-1`", "within its range"),
        ({"bias": 1}, "model.bias must be true or false, got `1`", "true or false"),
        ({"bias": "yes"}, "model.bias must be true or false, got `yes`", "true or false"),
        ({"label": {"a": 1}}, "model.label must be a text", "model.label="),
        ({"label": "odd"}, "model.label is odd and model.bias is set", "unset one"),
    ],
)
def test_each_kind_of_problem(values, message, hint):
    made, problems = filled(**{str(key): value for key, value in values.items()})
    assert made is None
    assert len(problems) == 1
    assert message in problems[0].message
    assert hint in problems[0].hint


def test_what_is_not_set_is_said():
    problems: list[Problem] = []
    assert fill(Example, {}, GROUP, problems) is None
    assert problems == [Problem("model.embedding_dim is not set", "add model.embedding_dim=...")]


def test_all_problems_come_at_once_and_rules_across_fields_wait():
    problems = [Problem("an earlier one", "")]
    values = {"embeding_dim": 3, "scale": 7, "effects": 3, "bias": None, "label": "odd"}
    assert fill(Example, values, GROUP, problems) is None
    assert [problem.message.split()[0] for problem in problems] == [
        "an",
        "model.embeding_dim",
        "model.scale",
        "model.effects",
        "model.bias",
        "model.embedding_dim",
    ]
    trouble = InputError(problems[1:3])
    assert trouble.lines() == [
        "error: model.embeding_dim is not a setting of attention",
        "hint: did you mean model.embedding_dim?",
        "error: model.scale must be below 1, got `7`",
        "hint: set model.scale within its range",
    ]
    assert str(trouble) == f"{problems[1].message}; {problems[2].message}"


@dataclass(frozen=True)
class Sizes(Ruled):
    unit: str = setting()
    low: int = setting(1, minimum=0)
    high: int = setting(2, minimum=0)
    names: tuple[str, ...] = ()

    def rules(self):
        return self._range_problems, self._name_problems

    def _range_problems(self, prefix):
        if not self.names:
            yield Problem(f"{prefix}names is empty", "name one")
        if self.low > self.high:
            yield Problem(f"{prefix}low is above {prefix}high", "lower it")

    def _name_problems(self, prefix):
        if len(set(self.names)) < len(self.names):
            yield Problem(f"{prefix}names names one twice", "name each once")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"low": 3, "names": ["a", "a"]}, ["unit is not set", "low is above high", "names names one twice"]),
        ({"low": -3, "unit": "m"}, ["low must be at least 0", "names is empty"]),
        ({"low": 3, "high": -1, "names": ["a", "a"], "unit": "m"}, ["high must be", "names names one twice"]),
        ({"low": 3, "hihg": 5, "unit": "m"}, ["hihg is not a setting", "names is empty"]),  # high, and not its default
        ({"low": 3, "names": [["a"]], "unit": "m"}, ["names must be a text"]),
        ({"low": 3, "unit": "m"}, ["names is empty", "low is above high"]),
    ],
)
def test_rules_run_as_far_as_the_fields_they_read_are_right(values, expected):
    problems: list[Problem] = []
    assert fill(Sizes, values, Group("", "sizes"), problems) is None
    assert len(problems) == len(expected)
    for problem, text in zip(problems, expected, strict=True):
        assert problem.message.startswith(text)
    assert fill(Sizes, {"names": "a", "unit": "m"}, Group("", ""), []) == Sizes("m", names=("a",))


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([Example, FileData, Split, ArraysSource, TrainingSettings]),
    st.dictionaries(
        st.sampled_from(
            ["embedding_dim", "scale", "names", "orders", "label", "path", "loci", "fold", "coding", "epochs"]
        )
        | st.text(max_size=4),
        anything,
        max_size=5,
    ),
)
def test_no_mapping_is_more_than_a_list_of_problems(cls, mapping):
    problems: list[Problem] = []
    made = fill(cls, mapping, GROUP, problems)
    assert (made is None) == bool(problems)
    assert all(problem.message and problem.hint for problem in problems)


@pytest.mark.parametrize(
    ("made", "messages"),
    [
        (FileData(), ["data.path is not set"]),
        (FileData(path="x", loci=()), ["data.loci is empty"]),
        (FileData(environments=("a", "a")), ["data.path is not set", "data.environments names one twice"]),
        (FileData(path="x", environments=("a", "b")), []),
        (Split(test_fraction=0.5, validation_fraction=0.5), ["leave no training samples"]),
        (Split("kfold", num_folds=3, fold=3), ["data.fold must be below data.num_folds (3), got `3`"]),
        (Split("kfold", num_folds=3, fold=3, name="stored"), []),
        (Split("paper", test_fraction=0.5, validation_fraction=0.5), []),
        (ArraysSource(), ["data.path is not set"]),
        (ArraysSource(path="x"), []),
    ],
)
def test_rules_across_fields(made, messages):
    found = made.problems(Group("data.", "file"))
    assert len(found) == len(messages)
    for problem, message in zip(found, messages, strict=True):
        assert message in problem.message
        assert problem.hint


def test_settings_import_no_array_library():
    listed = ["settings", *(f"{part}.settings" for part in ("dataset", "ld_pruning", "simulate", "training"))]
    listed += ["simulate.yeast_settings", *(f"prepare.sources.{name}" for name in sources.names())]
    modules = ", ".join(f"gpmap_cli.{name}" for name in listed)
    program = f"import sys, {modules}; print({{'numpy', 'h5py', 'torch'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()", done.stderr


def test_words_of_errors():
    assert nearest("EMBEDDING_DIM", ["embedding_dim"]) == "embedding_dim"
    assert nearest("quite else", ["embedding_dim"]) is None
    assert did_you_mean("x", []) == "there is nothing to choose from here"
    assert listing("abc") == "`a`, `b`, `c`"
    assert listing(map(str, range(20)), limit=2) == "`0`, `1` and 18 more"
    assert one_line("a\n b" + "c" * 1000).startswith("a bccc")
    assert len(one_line("a" * 1000)) == 600
    assert Problem("two\nlines", "a\thint").lines() == ["error: two lines", "hint: a hint"]
    assert InputError("what", "how").lines() == ["error: what", "hint: how"]
