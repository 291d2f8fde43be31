"""The transfer study: what fits may see, what they begin from, what a run leaves, and how it goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from conftest import make_samples, split_samples

from gpmap_cli import models
from gpmap_cli.commands.transfer_fits import METHODS, UNSEEN, TargetData, TransferFits, chosen_methods
from gpmap_cli.config.schema import Config, TransferRoot
from gpmap_cli.dataset.coding import PhenotypeScale, Samples
from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.reaction_norms import KnownEnvironments
from gpmap_cli.errors import FitFailed, InputError
from gpmap_cli.models import attention_multi_env, transformer
from gpmap_cli.models.base import environment_rows
from gpmap_cli.report.transfer_figure import draw
from gpmap_cli.report.transfer_table import TransferRow, mean_score, means, read_rows, rows_csv, summary_csv
from gpmap_cli.simulate.settings import SimulatedData
from gpmap_cli.training.context import FitContext
from gpmap_cli.training.settings import TrainingSettings

QUICK = TrainingSettings("test", epochs=2, batch_size=32, learning_rate=0.01, initial_scale=0.3)
WORDS = (
    "transfer", "target=23C", "data.environments=[23C,27C,30C]", "data.num_samples=200", "data.num_loci=6",
    "data.order=2", "training=debug", "repeats=2",
)  # fmt: skip


def small_dataset(num_samples=120, num_environments=3):
    samples = make_samples(num_samples, 6, num_environments, missing=0.1)
    names = tuple(f"e{number}" for number in range(num_environments))
    phenotypes = samples.phenotypes.astype(np.float32)
    ids = np.array([str(number) for number in range(num_samples)])
    covariates = {"temperature": np.arange(num_environments, dtype=float), "pH": np.full(num_environments, np.nan)}
    return Dataset(samples.genotypes.stored, phenotypes, ids, ids[:6], names, covariates=covariates)


def fits_of(dataset, labels, model="attention_multi_env", **settings):
    data = TargetData.of(dataset, labels, "e1", seed=5)
    groups = {"model": models.settings_class(model)(**settings), "training": QUICK, "data": SimulatedData()}
    config = Config("transfer", TransferRoot("e1"), groups)
    return data, TransferFits(data, config, lambda names: FitContext(0, names, QUICK))


LABELS = np.repeat(np.array([0, 1, 2], np.int8), [80, 20, 20])


def test_smaller_subsets_are_part_of_larger_ones_and_repeats_differ():
    dataset = small_dataset()
    data, _ = fits_of(dataset, LABELS)
    for repeat in range(3):
        chosen = [data.chosen(number, repeat) for number in (3, 10, 30, len(data.measured))]
        for small, large in pairwise(chosen):
            assert set(small) < set(large)
            assert len(set(large)) == len(large)
        assert (LABELS[chosen[-1]] == 0).all()
        assert not np.isnan(dataset.phenotypes[chosen[-1], 1]).any()
    assert set(data.chosen(10, 0)) != set(data.chosen(10, 1))


@pytest.mark.parametrize("method", METHODS)
def test_hidden_phenotypes_change_no_prediction(method):
    """Those of the target that were not chosen, in training and validation rows, and all of the test rows."""
    dataset = small_dataset()
    data, fits = fits_of(dataset, LABELS)
    visible = np.zeros(dataset.phenotypes.shape, bool)
    visible[LABELS < 2] = True
    visible[:, 1] = False
    visible[data.chosen(12, 0), 1] = True
    other = np.where(visible, dataset.phenotypes, -50 * dataset.phenotypes + 3).astype(np.float32)
    predicted = []
    for phenotypes in (dataset.phenotypes, other):
        _, fits = fits_of(replace(dataset, phenotypes=phenotypes), LABELS)
        start = fits.pretrained() if method == "fine_tune" else None
        predictor, column = fits.fit(method, 12, 0, start)
        assert predictor.environment_names[column] == "e1"
        predicted.append(predictor.predict(dataset.genotypes)[:, column])
    np.testing.assert_array_equal(predicted[0], predicted[1])
    seen = np.where(visible, dataset.phenotypes, np.nan).astype(np.float32)
    seen[data.chosen(12, 0)[0], 1] += 5
    order = np.where(np.isnan(seen), dataset.phenotypes, seen)
    _, fits = fits_of(replace(dataset, phenotypes=order), LABELS)
    predictor, column = fits.fit(method, 12, 0, fits.pretrained() if method == "fine_tune" else None)
    assert not np.array_equal(predictor.predict(dataset.genotypes)[:, column], predicted[0])


def test_joint_fits_keep_every_phenotype_of_the_others():
    dataset = small_dataset()
    data, _ = fits_of(dataset, LABELS)
    given = data.with_target(10, 0).phenotypes
    for environment in (0, 2):
        np.testing.assert_array_equal(given[LABELS < 2, environment], dataset.phenotypes[LABELS < 2, environment])
    assert (~np.isnan(given[:, 1])).sum() == 10
    assert np.isnan(given[LABELS == 2]).all()
    assert np.isnan(data.hidden.phenotypes[:, 1]).all()
    assert data.without_target().environment_names == ("e0", "e2")


# -- beginning from another fit ---------------------------------------------------------------------------


def begun(model="attention_multi_env", num_before=3, num_after=1, epochs=1, rate=1e-12, **settings):
    """A model fitted to `num_before` environments, and one begun from it that learns next to nothing."""
    found = []
    samples = make_samples(num_environments=num_before)
    start = None
    for number, schedule in ((num_before, QUICK), (num_after, replace(QUICK, learning_rate=rate, epochs=epochs))):
        used = make_samples(num_environments=number, seed=len(found))
        train, validation = split_samples(used)
        names = tuple(f"{len(found)}/{environment}" for environment in range(number))
        one = models.model_class(model)(models.settings_class(model)(**settings))
        one.fit(train, validation, FitContext(3, names, schedule, start=start))
        start = one.state()
        found.append(one)
    return (*found, samples.genotypes)


def network_outputs(model, genotypes, environment):
    import torch

    network = model._network(6, model._num_slots)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in model._weights.items()})
    x = torch.from_numpy(genotypes.rows(slice(None), np.float32))
    with torch.no_grad():
        return network(x, torch.full((len(x),), environment)).numpy()


@pytest.mark.parametrize("slots", ["own", "embedding"])
def test_a_fit_begins_with_what_the_other_had_learned(slots):
    before, after, genotypes = begun(environment_slots=slots, num_after=2)
    assert after.predict(genotypes).shape == (200, 2)
    for environment in range(3):  # the old environments are behind the two new ones and predict what they did
        np.testing.assert_allclose(
            network_outputs(after, genotypes, 2 + environment), before.predict(genotypes)[:, environment], atol=1e-5
        )
    again = models.model_class("attention_multi_env").from_state(after.settings, after.state())
    np.testing.assert_array_equal(again.predict(genotypes), after.predict(genotypes))


def test_a_new_environment_begins_as_the_mean_of_the_others():
    import torch

    before, after, genotypes = begun()
    network = before._network(6, 3)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in before._weights.items()})
    tokens = network.tokens
    network.tokens = lambda x, _: sum(tokens(x, torch.full((len(x),), number)) for number in range(3)) / 3
    x = torch.from_numpy(genotypes.rows(slice(None), np.float32))
    with torch.no_grad():
        expected = network(x, torch.zeros(len(x), dtype=torch.long)).numpy()
    np.testing.assert_allclose(after.predict(genotypes)[:, 0], expected, atol=1e-5)


def test_the_same_environments_keep_their_slots():
    before, after, genotypes = begun(num_after=3)
    np.testing.assert_allclose(after.predict(genotypes), before.predict(genotypes), atol=1e-5)
    assert after.num_parameters == before.num_parameters


def test_new_slots_learn():
    _, still, _ = begun()
    _, after, _ = begun(epochs=3, rate=0.01)
    changed = [name for name in still.state() if not np.allclose(still.state()[name], after.state()[name])]
    assert {"query_matrix_1", "value_matrix_1", "coeffs_attended"} <= set(changed)
    own = slice(12, 13)
    assert np.abs(after.state()["value_matrix_1"][:, own]).max() > 1e-6
    assert np.abs(after.state()["query_matrix_1"][:, own]).max() > 1e-6


def test_rows_of_environments():
    rows = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(environment_rows(rows, 3), rows)
    np.testing.assert_array_equal(environment_rows(rows, 2), [[2, 3], [2, 3]])


def test_what_cannot_be_begun_from_is_refused():
    with pytest.raises(RuntimeError, match="cannot begin"):
        begun("ridge")
    before, _, _ = begun()
    model = models.model_class("attention_multi_env")(before.settings)
    train, validation = split_samples(make_samples(num_loci=7))
    with pytest.raises(InputError, match=r"has 6 loci.*have 7"):
        model.fit(train, validation, FitContext(0, ("a", "b"), QUICK, start=before.state()))
    with pytest.raises(InputError, match="slots of the embedding"):
        begun(environment_slots="embedding", embedding_dim=3)


# -- methods ----------------------------------------------------------------------------------------------


def test_methods_are_those_that_the_model_can_do():
    assert set(chosen_methods("attention_multi_env", None)[0]) == set(METHODS)
    assert chosen_methods("multi_ridge", None)[0] == ["joint", "alone", "ridge"]
    found, left_out = chosen_methods("attention", None)
    assert found == ["multi_ridge", "alone", "ridge"]
    assert [line.split(":")[0] for line in left_out] == ["joint", "fine_tune"]
    assert chosen_methods("ridge", ("ridge", "alone"))[0] == ["alone", "ridge"]
    with pytest.raises(InputError, match="joint: `attention` fits each environment by itself") as caught:
        chosen_methods("attention", ("joint",))
    assert "`attention_multi_env`" in caught.value.problems[0].hint


def test_the_target_unseen_is_predicted_where_environments_are_known_by_covariates():
    assert chosen_methods("transformer", None, by_covariates=True)[0][0] == UNSEEN
    assert UNSEEN not in chosen_methods("transformer", None)[0]
    assert chosen_methods("ridge", ("ridge", UNSEEN))[0] == [UNSEEN, "ridge"]


@pytest.mark.parametrize("model", ["ridge", "transformer"])
def test_no_phenotype_of_an_unseen_target_counts(model):
    dataset = small_dataset(num_environments=4)
    other = dataset.phenotypes.copy()
    other[:, 1] = 7 - 3 * other[:, 1]
    predicted = []
    for phenotypes in (dataset.phenotypes, other):
        settings = {"environment_covariates": ("temperature",)} if model == "transformer" else {}
        _, fits = fits_of(replace(dataset, phenotypes=phenotypes), LABELS, model, **settings)
        predictor, covariates = fits.fit(UNSEEN, 0, 0, None)
        assert predictor.environment_names == ("e0", "e2", "e3")
        assert covariates == {"temperature": 1.0}
        predicted.append(predictor.predict_new(dataset.genotypes, None, [covariates]))
    np.testing.assert_array_equal(*predicted)
    _, fits = fits_of(replace(dataset, covariates={}), LABELS)
    with pytest.raises(InputError, match="`e1` has no covariates"):
        fits.fit(UNSEEN, 0, 0, None)


def covariate_context(temperatures, std, training, start=None):
    """Environments of these temperatures, whose phenotypes have these standard deviations, equally correlated."""
    names = tuple(f"{one:g}C" for one in temperatures)
    scale = PhenotypeScale(np.zeros(len(names)), np.array(std))
    correlation = 0.5 + 0.5 * np.eye(len(names))
    known = KnownEnvironments(names, {"temperature": np.array(temperatures)}, scale, correlation)
    return FitContext(0, names, training, environments=known, start=start), known


def test_fine_tuning_begins_as_what_covariates_make_of_the_target():
    """Its reaction norm through the environments of the start, in its own units; not their mean."""
    samples = make_samples(num_environments=4)
    train, validation = split_samples(samples)

    def fitted(model, columns, context):
        parts = [Samples(part.genotypes, part.phenotypes[:, columns]) for part in (train, validation)]
        model.fit(*parts, context)
        return model

    none = replace(QUICK, learning_rate=1e-12, epochs=1)
    settings = transformer.Settings(num_units=8, linear="none", environment_covariates=("temperature",))
    context, known = covariate_context([23.0, 27.0, 37.0], [1.0, 2.0, 3.0], QUICK)
    start = fitted(transformer.Transformer(settings), [0, 2, 3], context)
    alone, _ = covariate_context([25.0], [4.0], none, start.state())
    tuned = fitted(transformer.Transformer(settings), [1], alone)
    weights = known.norms(("temperature",))[0].weights(np.array([[25.0]]))
    expected = (start.predict(samples.genotypes) * [1.0, 2.0, 3.0]) @ weights.T / 4
    np.testing.assert_allclose(tuned.predict(samples.genotypes), expected, rtol=1e-4, atol=1e-5)

    told = attention_multi_env.Settings(environment_covariates=("temperature",))
    start = fitted(attention_multi_env.AttentionMultiEnv(told), [0, 2, 3], context)
    alone, _ = covariate_context([27.0], [4.0], none, start.state())
    tuned = fitted(attention_multi_env.AttentionMultiEnv(told), [2], alone)
    expected = start.predict(samples.genotypes)[:, [1]]
    np.testing.assert_allclose(tuned.predict(samples.genotypes), expected, rtol=1e-4, atol=1e-5)
    assert start.predict(samples.genotypes).std(axis=1).min() > 1e-4


def test_intervals_are_those_of_students_t():
    found = mean_score([0.1, 0.2, 0.6])
    assert found.mean == pytest.approx(0.3)
    assert found.high - found.mean == pytest.approx(4.3027 * 0.264575 / np.sqrt(3), rel=1e-4)
    two = mean_score([0.1, None, 0.3])
    assert two.high - two.mean == pytest.approx(12.7062 * 0.1, rel=1e-4)
    assert mean_score([0.5]).low is None
    assert mean_score([None]).mean is None


def test_the_table_survives_the_disk():
    rows = [TransferRow("joint", 10, 0, 0.123456789, None, 1.5), TransferRow("joint", 10, 1, None, 0.2, 2.0)]
    assert read_rows(rows_csv(rows)) == rows
    assert summary_csv(means(rows)).splitlines()[1] == "joint,10,2,0.123456789,,,0.2,,,1.75"
    with pytest.raises(ValueError, match="transfer"):
        read_rows("method,num_target\njoint,10\n")


# -- the command ------------------------------------------------------------------------------------------


def test_a_study_leaves_tables_and_a_figure(gpmap, tmp_path):
    result = gpmap(*WORDS, "num_target=[10,40]", "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "run"
    assert "test R^2 in 23C" in result.stdout
    directory = tmp_path / "run"
    assert {path.name for path in directory.iterdir()} == {
        "config.yaml", "metrics.json", "provenance.json", "run.log", "checkpoints",
        "transfer.csv", "transfer_summary.csv", "transfer.png", "transfer.svg",
    }  # fmt: skip
    rows = pd.read_csv(directory / "transfer.csv")
    assert list(rows) == ["method", "num_target", "repeat", "r2", "pearson_r", "seconds"]
    assert len(rows) == len(METHODS) * 2 * 2
    assert set(rows.method) == set(METHODS)
    summary = pd.read_csv(directory / "transfer_summary.csv")
    one = summary[(summary.method == "ridge") & (summary.num_target == 40)].iloc[0]
    same = rows[(rows.method == "ridge") & (rows.num_target == 40)].r2
    assert one.r2 == pytest.approx(same.mean())
    assert one.r2_ci95_high - one.r2 == pytest.approx(12.7062 * same.std() / np.sqrt(2), rel=1e-4)
    metrics = json.loads((directory / "metrics.json").read_text())
    assert metrics["status"] == "completed"
    assert metrics["transfer"]["ridge"]["40"]["r2"] == pytest.approx(same.mean())
    assert "ridge, target alone" in (directory / "transfer.svg").read_text()
    assert json.loads((directory / "provenance.json").read_text())["ended"]
    refused = gpmap(*WORDS, "hydra.run.dir=run")
    assert refused.returncode == 2
    assert "gpmap transfer resume=run" in refused.stderr
    reported = gpmap("report", "run")
    assert reported.returncode == 2
    assert "no run" in reported.stderr


def test_a_study_of_an_unseen_target(gpmap, tmp_path):
    words = ("model=ridge", "methods=[unseen,ridge]", "num_target=[10,40]", "hydra.run.dir=run")
    result = gpmap(*WORDS, *words)
    assert result.returncode == 0, result.stderr
    rows = pd.read_csv(tmp_path / "run" / "transfer.csv")
    assert rows[rows.method == "unseen"].num_target.tolist() == [0, 0]
    assert sorted(rows[rows.method == "ridge"].num_target.unique()) == [10, 40]
    assert "target by its covariates alone" in (tmp_path / "run" / "transfer.svg").read_text()


def test_what_is_done_is_not_done_again(gpmap, tmp_path, monkeypatch):
    words = (*WORDS, "num_target=[10,20]", "methods=[joint,ridge,fine_tune]")
    whole = gpmap(*words, "hydra.run.dir=whole")
    assert whole.returncode == 0, whole.stderr
    fit, calls = TransferFits.fit, []

    def stopping(self, method, num_target, repeat, start):
        if len(calls) == 7:
            raise KeyboardInterrupt
        calls.append((method, num_target, repeat))
        return fit(self, method, num_target, repeat, start)

    monkeypatch.setattr(TransferFits, "fit", stopping)
    stopped = gpmap(*words, "hydra.run.dir=run")
    assert stopped.returncode == 1
    assert "gpmap transfer resume=run" in stopped.stderr
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["status"] == "interrupted"
    assert len(pd.read_csv(tmp_path / "run" / "transfer.csv")) == 7
    done, later = list(calls), []
    monkeypatch.setattr(TransferFits, "fit", lambda self, *cell: (later.append(cell[:3]), fit(self, *cell))[1])
    monkeypatch.setattr(TransferFits, "pretrained", lambda self: pytest.fail("the start is on disk"))
    resumed = gpmap("transfer", "resume=run")
    assert resumed.returncode == 0, resumed.stderr
    assert len(done) + len(later) == 12
    assert not set(done) & set(later)
    first, second = (pd.read_csv(tmp_path / name / "transfer.csv").drop(columns="seconds") for name in ("whole", "run"))
    pd.testing.assert_frame_equal(first, second)
    assert not (tmp_path / "run" / "current").exists()
    later.clear()
    assert gpmap("transfer", "resume=run").returncode == 0
    assert later == []


def test_a_fit_that_diverges_is_one_empty_row(gpmap, tmp_path, monkeypatch):
    fit = TransferFits.fit

    def diverging(self, method, *rest):
        if method == "alone":
            raise FitFailed("the loss became nan")
        return fit(self, method, *rest)

    monkeypatch.setattr(TransferFits, "fit", diverging)
    result = gpmap(*WORDS, "num_target=10", "methods=[alone,ridge]", "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr
    rows = pd.read_csv(tmp_path / "run" / "transfer.csv")
    assert rows[rows.method == "alone"].r2.isna().all()
    assert rows[rows.method == "ridge"].r2.notna().all()


def test_numbers_are_spread_evenly_on_a_log_scale(gpmap, tmp_path):
    result = gpmap(*WORDS, "methods=ridge", "repeats=1", "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr
    numbers = pd.read_csv(tmp_path / "run" / "transfer.csv").num_target
    assert numbers.tolist() == [10, 17, 29, 49, 83, 140]


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        (["target=23c"], "target `23c` is not an environment", "target=23C"),
        (["data.environments=[23C]"], "the only environment", "data.environments"),
        (["num_target=[10,1000]"], "num_target is `1000` and `23C` has 140", "up to 140"),
        (["num_target=[1]"], "num_target must be at least 3", "num_target"),
        (["num_target=[]"], "num_target is empty", "leave num_target out"),
        (["methods=[ridge,ridge]"], "names one twice", "once"),
        (["methods=[jiont]"], "methods must be", "joint"),
        (["model=ridge", "methods=[fine_tune]"], "does not begin from", "attention_multi_env"),
        (["resume=nowhere"], "cannot be changed", "gpmap transfer resume=nowhere"),
    ],
)
def test_what_cannot_be_studied_is_refused(gpmap, tmp_path, words, said, hint):
    result = gpmap(*WORDS, *words, "hydra.run.dir=run")
    assert result.returncode == 2, result.stderr
    assert said in result.stderr
    assert hint in result.stderr.split("hint:")[1]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run" / "transfer.csv").exists()


def test_a_run_of_another_command_is_not_resumed(gpmap):
    gpmap("train", "model=mean", "data.num_samples=100", "hydra.run.dir=run")
    result = gpmap("transfer", "resume=run")
    assert result.returncode == 2
    assert "no run of gpmap transfer" in result.stderr


def test_a_sweep_goes_on_where_it_was(gpmap, monkeypatch):
    words = (*WORDS[:1], "-m", *WORDS[1:], "seed=0,1", "num_target=10", "methods=ridge", "hydra.sweep.dir=sweep")
    assert gpmap(*words).returncode == 0
    monkeypatch.setattr(TransferFits, "fit", lambda *_: pytest.fail("done already"))
    assert gpmap(*words).returncode == 0


@pytest.mark.parametrize("scores", [(-9.0, -0.1), (0.2, 0.6)])
def test_the_figure_shows_what_can_be_compared(scores):
    rows = [
        TransferRow(method, number, repeat, score + 0.01 * repeat, None, 1.0)
        for method in METHODS
        for number, score in zip((10, 1000), scores, strict=True)
        for repeat in range(3)
    ]
    figure = draw(means(rows), "23C", "attention_multi_env", 0.96)
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert {"ridge, target alone", "attention_multi_env, target alone", "noise ceiling"} <= set(lines)
    assert len({lines[name].get_color() for name in lines if "," in name}) == len(METHODS)
    assert axes.get_xscale() == "log"
    low, high = axes.get_ylim()
    assert (low, high) == pytest.approx((-0.33, 1.0) if scores[0] < 0 else (0.0, 1.0))
    bars = sum(len(container.lines[2][0].get_segments()) for container in axes.containers)
    assert bars == len(METHODS) * (1 if scores[0] < 0 else 2)
    assert ("not shown" in axes.get_ylabel()) == (scores[0] < 0)
