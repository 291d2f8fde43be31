"""Folds put together: pooled scores, and models compared on the same folds."""

from __future__ import annotations

import gzip
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import r2_score

from gpmap_cli.report.paired_tests import corrected_difference, holm, t_two_sided


@pytest.mark.parametrize("number", [2, 5, 12])
def test_the_corrected_resampled_t_test(number):
    d = np.random.default_rng(number).normal(0.1, 0.2, number)
    ratio = 0.25
    error = np.sqrt((1 / number + ratio) * d.var(ddof=1))
    found = corrected_difference(d.tolist(), ratio)
    assert found.mean == pytest.approx(d.mean())
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(d.mean() / error), number - 1))
    expected = d.mean() + np.array([-1, 1]) * stats.t.ppf(0.975, number - 1) * error
    assert [found.low, found.high] == pytest.approx(expected.tolist())
    plain = corrected_difference(d.tolist(), 0.0)
    assert plain.p_value == pytest.approx(stats.ttest_1samp(d, 0).pvalue)


def test_t_at_a_level():
    for freedom in (1, 2, 4, 60):
        assert t_two_sided(0.05, freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9)


def test_no_spread_is_no_evidence():
    for same in ([0.2], [0.2, 0.2, 0.2], [0.0, 0.0]):
        found = corrected_difference(same, 0.25)
        assert (found.mean, found.low, found.p_value) == (pytest.approx(same[0]), None, None)


def test_the_correction_keeps_its_level_where_the_plain_test_does_not():
    """Scores of folds that share a part: the plain paired test finds too much."""
    rng = np.random.default_rng(0)
    found = np.zeros(2)
    for _ in range(300):
        shared = np.sqrt(0.2) * rng.normal()
        d = (shared + np.sqrt(0.8) * rng.normal(size=5)).tolist()
        found += [(corrected_difference(d, ratio).p_value or 1.0) < 0.05 for ratio in (0.25, 0.0)]
    assert found[0] / 300 < 0.08 < found[1] / 300


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([None, 0.02, 0.03]) == [None, pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([]) == []


def folds(gpmap, *words):
    data = ("data=rbd", "data.num_samples=300", "data.environments=[S309,CB6]", "split=kfold", "split.num_folds=3")
    result = gpmap("train", "-m", *data, "split.fold=0,1,2", "hydra.sweep.dir=sweep", *words)
    assert result.returncode == 0, result.stderr


def test_a_cross_validated_sweep(gpmap, tmp_path):
    folds(gpmap, "model=mean,ridge,pairwise", "split.validation_fraction=0.2")
    result = gpmap("report", "sweep", "hydra.run.dir=report")
    assert result.returncode == 0, result.stderr
    scores = pd.read_csv(tmp_path / "report" / "cross_validation.csv", dtype={"fold": str})
    assert set(scores["fold"]) == {"0", "1", "2", "pooled"}
    assert set(scores["environment"]) == {"mean", "S309", "CB6"}
    runs = {
        model: [tmp_path / "sweep" / f"split.fold-{fold}_model-{model}" for fold in range(3)]
        for model in ("mean", "ridge", "pairwise")
    }
    per_fold = {}
    for model, directories in runs.items():
        cells = pd.concat([pd.read_csv(one / "predictions.csv.gz") for one in directories])
        cells = cells[(cells["split"] == "test") & (cells["environment"] == "CB6")].dropna()
        assert not cells["sample_id"].duplicated().any()
        own = scores[(scores["model"] == model) & (scores["environment"] == "CB6")].set_index("fold")
        assert own.loc["pooled", "r2"] == pytest.approx(r2_score(cells["observed"], cells["predicted"]))
        assert own.loc["pooled", "mse"] == pytest.approx(((cells["observed"] - cells["predicted"]) ** 2).mean())
        assert own.loc["pooled", "num_samples"] == len(cells)
        per_fold[model] = [
            json.loads((one / "metrics.json").read_text())["splits"]["test"]["environments"]["CB6"]["r2"]
            for one in directories
        ]
        assert own.loc[["0", "1", "2"], "r2"].tolist() == pytest.approx(per_fold[model])
    pooled = scores[(scores["model"] == "ridge") & (scores["fold"] == "pooled")].set_index("environment")["r2"]
    assert pooled["mean"] == pytest.approx((pooled["S309"] + pooled["CB6"]) / 2)
    tests = pd.read_csv(tmp_path / "report" / "model_comparisons.csv")
    assert len(tests) == 3 * 3
    row = tests[(tests["environment"] == "CB6") & (tests["model"] == "pairwise") & (tests["other_model"] == "ridge")]
    expected = corrected_difference(np.subtract(per_fold["pairwise"], per_fold["ridge"]).tolist(), 0.5)
    assert row["r2_difference"].item() == pytest.approx(expected.mean)
    assert row["p_value"].item() == pytest.approx(expected.p_value, rel=0.1)  # parts are not of exactly one size
    own = tests[tests["environment"] == "CB6"]
    assert own["p_holm"].tolist() == pytest.approx(holm(own["p_value"].tolist()))
    text = (tmp_path / "report" / "report.txt").read_text()
    assert "Nadeau and Bengio" in text
    assert text in result.stdout


def test_what_is_left_out_is_said(gpmap, tmp_path):
    """A fold that is missing, predictions that are damaged, folds of another seed, and one fold twice."""
    folds(gpmap, "model=mean,ridge")
    shutil.rmtree(tmp_path / "sweep" / "split.fold-2_model-mean")
    assert "2 of 3" in gpmap("report", "sweep", "hydra.run.dir=a").stdout
    other = tmp_path / "sweep" / "split.fold-0_model-ridge"
    shutil.copytree(other, tmp_path / "sweep" / "copy")
    assert "split.fold-0_model-ridge: fold 0 once more" in gpmap("report", "sweep", "hydra.run.dir=b").stdout
    shutil.rmtree(tmp_path / "sweep" / "copy")
    path = other / "predictions.csv.gz"
    text = gzip.decompress(path.read_bytes()).decode()
    for damaged in (b"", path.read_bytes()[:500], b"split,x\n", gzip.compress(b"split,x\n1,2\n")):
        path.write_bytes(damaged)
        result = gpmap("report", "sweep", f"hydra.run.dir=c{len(damaged)}")
        assert result.returncode == 0, result.stderr
        assert "split.fold-0_model-ridge: predictions.csv.gz cannot be read" in result.stdout
    renamed = text.replace("test,", "was,").replace("train,", "test,", 3).replace("was,", "train,", 1)
    path.write_bytes(gzip.compress(renamed.encode()))
    assert (
        "mean and ridge: their folds test other samples; not compared"
        in gpmap("report", "sweep", "hydra.run.dir=d").stdout
    )
    assert not (tmp_path / "d" / "model_comparisons.csv").exists()


def test_no_folds_no_tables(gpmap, tmp_path):
    words = ("data=rbd", "data.num_samples=100", "data.environments=[ACE2]", "model=mean")
    assert gpmap("train", "-m", *words, "seed=0,1", "hydra.sweep.dir=sweep").returncode == 0
    assert gpmap("train", *words, "split=kfold", "hydra.run.dir=sweep/one_fold").returncode == 0
    result = gpmap("report", "sweep", "hydra.run.dir=report")
    assert "cross-validation" not in result.stdout
    assert not (tmp_path / "report" / "cross_validation.csv").exists()


def test_repeats_are_pooled_apart_and_compared_together(gpmap, tmp_path):
    folds(gpmap, "model=mean,ridge", "split.seed=1,2")
    result = gpmap("report", "sweep", "hydra.run.dir=report")
    assert result.returncode == 0, result.stderr
    scores = pd.read_csv(tmp_path / "report" / "cross_validation.csv")
    pooled = scores[(scores["fold"] == "pooled") & (scores["environment"] == "mean")]
    assert sorted(zip(pooled["model"], pooled["split.seed"], strict=True)) == [
        ("mean", 1),
        ("mean", 2),
        ("ridge", 1),
        ("ridge", 2),
    ]
    tests = pd.read_csv(tmp_path / "report" / "model_comparisons.csv")
    assert tests["num_folds"].tolist() == [6, 6, 6]
