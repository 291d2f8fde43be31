"""A scan of a fitted model's predictions: the interactions that it has learned, and no others."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

DATA = ("data.num_samples=1500", "data.num_loci=10", "data.order=2", "data.epsilon=0.5", "data.environments=[27C,30C]")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run directories of a model that knows pairs and one that does not."""
    import subprocess
    import sys

    where = tmp_path_factory.mktemp("runs")
    for model in ("pairwise", "ridge"):
        command = [
            sys.executable,
            "-m",
            "gpmap_cli",
            "train",
            f"model={model}",
            *DATA,
            f"hydra.run.dir={where / model}",
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=240)
    return where


def terms_of(directory):
    with open(f"{directory}/terms.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def metrics_of(directory):
    with open(f"{directory}/metrics.json", encoding="utf-8") as file:
        return json.load(file)


def test_a_model_of_pairs_has_learned_true_pairs(gpmap, runs):
    result = gpmap("scan", f"run={runs / 'pairwise'}", "hydra.run.dir=scan")
    assert result.returncode == 0, result.stderr
    assert "the predictions of pairwise in place of the phenotypes" in result.stderr
    metrics = metrics_of("scan")
    assert metrics["run"] == str(runs / "pairwise")
    for name in ("27C", "30C"):
        told = metrics["orders"]["2"]["environments"][name]
        assert told["truth"]["bonferroni"]["true"] >= 5
        assert told["truth"]["bonferroni"]["false"] <= 2
    assert {row["environment"] for row in terms_of("scan")} == {"27C", "30C"}


def test_effects_are_those_of_the_model(gpmap, runs):
    """Predictions of a model of pairs are sums of them; a term's test leaves the others in the residuals, as noise."""
    import gzip

    assert gpmap("scan", f"run={runs / 'pairwise'}", "hydra.run.dir=scan").returncode == 0
    with gzip.open(runs / "pairwise" / "effects.csv.gz", "rt", encoding="utf-8") as file:
        known = {
            (row["environment"], row["locus"], row["locus_2"]): float(row["effect"]) for row in csv.DictReader(file)
        }
    found = terms_of("scan")
    ours = np.array([float(row["effect"]) for row in found])
    theirs = np.array([known[row["environment"], row["locus"], row["locus_2"]] for row in found])
    assert np.corrcoef(ours, theirs)[0, 1] > 0.97


def test_an_additive_model_has_learned_none(gpmap, runs):
    result = gpmap("scan", f"run={runs / 'ridge'}", "hydra.run.dir=scan")
    assert result.returncode == 0, result.stderr
    for told in metrics_of("scan")["orders"]["2"]["environments"].values():
        assert told["truth"]["bonferroni"] == {"true": 0, "false": 0}


def test_rows_are_those_of_the_run_s_split(gpmap, runs):
    result = gpmap("scan", f"run={runs / 'pairwise'}", "rows=test", "hydra.run.dir=scan")
    assert "225 samples, 10 loci, 2 environments" in result.stderr
    whole = json.loads((runs / "pairwise" / "provenance.json").read_text())
    with open("scan/provenance.json", encoding="utf-8") as file:
        assert json.load(file)["split_sha256"] == whole["split_sha256"]


def test_what_makes_no_sense_is_refused(gpmap, runs):
    result = gpmap("scan", f"run={runs / 'pairwise'}", "prune.max_abs_r=0.9")
    assert result.returncode == 2
    assert "prune.max_abs_r has no meaning for a fitted model" in result.stderr
    result = gpmap("scan", "run=nowhere")
    assert result.returncode == 2
    assert "hint:" in result.stderr
