"""The command `gpmap scan`: what it writes and prints, what it refuses, and that it goes on where it was stopped."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from dataset_examples import example as dataset_example
from scan_examples import joint_fit

from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.writer import write_dataset
from gpmap_cli.scan import candidates, search

SIMULATED = ("data.num_samples=1500", "data.num_loci=16", "data.order=[2,3]", "data.environments=[23C,30C]")


def read(path):
    return json.loads((path / "metrics.json").read_text()), pd.read_csv(path / "terms.csv")


def test_a_scan_finds_the_terms_of_a_simulation(gpmap, tmp_path):
    result = gpmap("scan", *SIMULATED, "scan.order=[1,2,3]", "scan.permutations=19", "hydra.run.dir=out")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "out"
    assert result.stdout.splitlines()[0].split()[:3] == ["order", "environment", "candidates"]
    assert "strongest terms" in result.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.yaml",
        "figures",
        "metrics.json",
        "provenance.json",
        "run.log",
        "terms.csv",
    ]
    metrics, terms = read(tmp_path / "out")
    assert metrics["status"] == "completed"
    assert yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["command"] == "scan"
    assert terms.groupby(["order", "environment"]).size().to_dict() == {
        (order, name): count for order, count in ((1, 16), (2, 120), (3, 560)) for name in ("23C", "30C")
    }
    backgrounds = [metrics["orders"][order]["background"] for order in "123"]
    assert backgrounds == ["intercept and covariates", *(2 * ["least squares on all loci"])]
    assert (terms[terms.order == 1].p_bonferroni < 0.05).sum() > 10
    for order in (2, 3):
        for name in ("23C", "30C"):
            facts = metrics["orders"][str(order)]["environments"][name]
            here = terms[(terms.order == order) & (terms.environment == name)]
            passing = here.p_bonferroni <= 0.05
            true = here.is_true.astype(bool)
            assert facts["num_passing"]["bonferroni"] == passing.sum()
            assert facts["truth"]["num_true"] == true.sum() == 16
            assert facts["truth"]["bonferroni"] == {"true": (passing & true).sum(), "false": (passing & ~true).sum()}
            assert facts["truth"]["fdr"]["true"] == ((here.q <= 0.05) & true).sum()
            assert facts["truth"]["bonferroni"]["true"] >= 8
            assert facts["truth"]["bonferroni"]["false"] <= 1  # each of the four tables has one with probability 5 %
            assert (np.diff(here.log10_p) >= 0).all()
            assert here.p_bonferroni.to_numpy() == pytest.approx(np.minimum(len(here) * here.p, 1))
            assert facts["thresholds"]["permutation"] > 2
            assert facts["num_samples"] == 1500
    assert metrics["orders"]["2"]["throughput"] is None  # over before a peak is measured


@pytest.mark.parametrize("kind", ["hard calls", "missing genotypes", "diploid"])
def test_terms_are_those_of_the_regression_written_out(gpmap, tmp_path, kind):
    ploidy = 2 if kind == "diploid" else 1
    rng = np.random.default_rng(3)
    data = dataset_example(num_samples=260, num_loci=9, ploidy=ploidy, seed=1)
    if kind != "missing genotypes":
        data.genotypes[:] = rng.binomial(ploidy, 0.5, data.genotypes.shape)
    data.truth.clear()
    with_effect = np.where(data.genotypes < 0, 0.5, data.genotypes)
    data.phenotypes[:] += 5 + (with_effect[:, [2]] - 0.5) * (with_effect[:, [6]] - 0.5)
    write_dataset(tmp_path / "data.h5", data)
    words = ("data=file", "data.path=data.h5", "scan.num_terms=7", "hydra.run.dir=out")
    result = gpmap("scan", *words)
    assert result.returncode == 0, result.stderr
    metrics, terms = read(tmp_path / "out")
    assert metrics["arithmetic"] == ("int8" if kind == "hard calls" else "float32")
    assert len(terms) == 3 * 7
    assert list(terms.columns[:8]) == [
        *("environment", "order", "locus", "locus_2", "chromosome", "chromosome_2", "position", "position_2")
    ]
    stored = data.genotypes.astype(float)
    stored[stored < 0] = np.nan
    x = 2 * stored - 1 if ploidy == 1 else stored - np.nanmean(stored, axis=0)
    x = np.where(np.isnan(x), np.nanmean(x, axis=0), x)
    ids = data.locus_ids.tolist()
    for row in terms.itertuples():
        y = data.phenotypes[:, data.environment_names.index(row.environment)].astype(float)
        known = ~np.isnan(y)
        loci = [ids.index(row.locus), ids.index(row.locus_2)]
        background = np.column_stack([np.ones(known.sum()), x[known]])
        effect, error, t, _ = joint_fit(background, x[known], loci, y[known])
        assert (row.effect, row.std_error, row.z) == pytest.approx((effect, error, t), rel=1e-5)
        assert row.chromosome == data.chromosomes[loci[0]]
        assert row.position_2 == data.positions[loci[1]]


def test_only_the_rows_that_are_asked_for_and_no_background(gpmap, tmp_path):
    assert gpmap("simulate", *SIMULATED, "hydra.run.dir=made").returncode == 0
    words = ("scan", "data=file", "data.path=made/dataset.h5", "scan.background=none", "scan.num_terms=3")
    assert gpmap(*words, "rows=train", "hydra.run.dir=some").returncode == 0
    assert gpmap(*words, "hydra.run.dir=every").returncode == 0
    some, terms = read(tmp_path / "some")
    assert some["num_samples"] == 1500 - 2 * 225
    assert read(tmp_path / "every")[0]["num_samples"] == 1500
    with DatasetFile(tmp_path / "made" / "dataset.h5") as file:
        assert file.num_samples == 1500
    assert some["orders"]["2"]["background"] == "intercept and covariates"
    assert len(terms) == 6


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(gpmap, tmp_path):
    result = gpmap("scan", *SIMULATED, "scan.order=[2,4]", "dry_run=true", "hydra.run.dir=out", "max_hours=1e-9")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["order", "candidates", "operations", "expected", "time", "memory"]
    assert [line.split()[:2] for line in lines[1:]] == [["2", "120"], ["4", "1,820"]]
    assert all(" s" in line and "GB" in line for line in lines[1:])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("scan.order=5",), "scan.order must be at most 4"),
        (("scan.order=[]",), "scan.order is empty"),
        (("scan.order=[2,2]",), "scan.order names one twice"),
        (("scan.ordr=2",), "did you mean scan.order?"),
        (("scan.alpha=0",), "scan.alpha must be above 0"),
        (("scan.order=3", "max_hours=1e-9"), "longer than max_hours"),
        (("memory_limit=1MB",), "more than memory_limit"),
        (("data.num_loci=3", "data.order=2", "scan.order=4"), "there are no sets of 4 among 3 loci"),
        (("scan.arithmetic=int8", "data.ploidy=2"), "needs genotypes of two classes"),
        (("rows=train", "split=file", "split.name=mine"), "has no `splits/`"),
    ],
)
def test_what_cannot_be_scanned_is_refused(gpmap, tmp_path, words, said):
    result = gpmap("scan", "data.num_samples=200", "hydra.run.dir=out", *words)
    assert result.returncode == 2, result.stderr
    assert said in result.stderr
    assert "hint:" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


def test_an_environment_without_variation_is_refused(gpmap, tmp_path):
    data = dataset_example(num_samples=60)
    data.phenotypes[:, 1] = 3.0
    data.truth.clear()
    write_dataset(tmp_path / "data.h5", data)
    result = gpmap("scan", "data=file", "data.path=data.h5")
    assert result.returncode == 2
    assert "environment `30C` is constant" in result.stderr


def test_a_scan_that_is_interrupted_goes_on_to_the_same_terms(gpmap, tmp_path, monkeypatch):
    for name, value in (("_MOST_ROWS", 9), ("_MOST_COLUMNS", 30)):
        monkeypatch.setattr(candidates, name, value)
    words = ("scan", *SIMULATED, "scan.order=[2,3]", "scan.permutations=3", "scan.num_terms=50")
    assert gpmap(*words, "hydra.run.dir=whole").returncode == 0
    visit, visits = search.Search.visit, []

    def interrupted(self, block, found, only_some=False):
        visits.append(only_some)
        if not only_some and visits.count(False) == 8:
            import signal

            signal.raise_signal(signal.SIGINT)
        return visit(self, block, found, only_some)

    with monkeypatch.context() as patch:
        patch.setattr(search.Search, "visit", interrupted)
        result = gpmap(*words, "hydra.run.dir=cut")
    assert result.returncode == 1
    assert "continue with: gpmap scan resume=cut" in result.stderr
    assert read_status(tmp_path / "cut") == "interrupted"
    assert (tmp_path / "cut" / "progress.npz").exists()
    assert not (tmp_path / "cut" / "terms.csv").exists()
    refused = gpmap(*words, "hydra.run.dir=cut")
    assert refused.returncode == 2
    assert "gpmap scan resume=cut" in refused.stderr
    num_visited = visits.count(False)
    visits.clear()

    def counted(self, block, found, only_some=False):
        visits.append(only_some)
        return visit(self, block, found, only_some)

    with monkeypatch.context() as patch:
        patch.setattr(search.Search, "visit", counted)
        result = gpmap("scan", "resume=cut")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "cut"
    assert not (tmp_path / "cut" / "progress.npz").exists()
    # Every block once, of both orders, before or after.
    assert num_visited + visits.count(False) == sum(len(candidates.Candidates(16, order).blocks) for order in (2, 3))
    one, other = (tmp_path / name / "terms.csv" for name in ("whole", "cut"))
    assert one.read_bytes() == other.read_bytes()
    before, after = read(tmp_path / "whole")[0], read(tmp_path / "cut")[0]
    for order in ("2", "3"):
        assert before["orders"][order]["environments"] == after["orders"][order]["environments"]
    again = gpmap("scan", "resume=cut")
    assert again.returncode == 0
    assert "completed already" in again.stderr
    wrong = gpmap("train", "resume=cut")
    assert wrong.returncode == 2


def read_status(path):
    return json.loads((path / "metrics.json").read_text())["status"]


def test_a_sweep_over_orders(gpmap, tmp_path):
    words = ("scan", "-m", "data.num_samples=300", "scan.order=2,3", "hydra.sweep.dir=sweep")
    assert gpmap(*words).returncode == 0
    assert {path.parent.name for path in (tmp_path / "sweep").glob("*/terms.csv")} == {"scan.order-2", "scan.order-3"}
    again = gpmap(*words)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("is completed already") == 2


def test_covariates_are_taken_out_of_phenotypes(gpmap, tmp_path):
    data = dataset_example(num_samples=260, num_loci=9, seed=1)
    rng = np.random.default_rng(3)
    data.genotypes[:] = rng.integers(0, 2, data.genotypes.shape)
    data.truth.clear()
    data.phenotypes[:, 1] = rng.integers(0, 3, 260)
    data.phenotypes[:, 0] += 3 * (data.phenotypes[:, 1] == 2)
    write_dataset(tmp_path / "data.h5", data)
    words = ("data=file", "data.path=data.h5", "data.factors=[30C]", "data.environments=[23C]", "hydra.run.dir=out")
    result = gpmap("scan", *words)
    assert result.returncode == 0, result.stderr
    assert "covariates projected out: 30C" in result.stderr
    terms = read(tmp_path / "out")[1]
    x, y = 2.0 * data.genotypes - 1, data.phenotypes[:, 0].astype(float)
    known = ~np.isnan(y)
    levels = np.stack([data.phenotypes[:, 1] == level for level in range(3)], axis=1)
    background = np.column_stack([levels, x])[known]
    ids = data.locus_ids.tolist()
    for row in list(terms.itertuples())[:8]:
        loci = [ids.index(row.locus), ids.index(row.locus_2)]
        assert row.z == pytest.approx(joint_fit(background, x[known], loci, y[known])[2], rel=1e-6)


@pytest.mark.parametrize("prune", ["", "prune.max_abs_r=0.9"])
def test_genotypes_on_disk_give_the_same_terms(gpmap, tmp_path, prune, monkeypatch):
    """A limit below what these genotypes take in memory; a real one has room for what libraries allocate."""
    monkeypatch.setattr("gpmap_cli.scan.estimate.bytes_needed", lambda *_: 0)
    simulate = ("simulate", "data.num_samples=3000", "data.num_loci=40", "data.linkage=cross", "data.order=2")
    assert gpmap(*simulate, "hydra.run.dir=made").returncode == 0
    words = ("scan", "data=file", "data.path=made/dataset.h5", *([prune] if prune else []))
    assert gpmap(*words, "hydra.run.dir=free").returncode == 0
    limited = gpmap(*words, "memory_limit=100KB", "hydra.run.dir=limited")
    assert limited.returncode == 0, limited.stderr
    one, other = (tmp_path / name / "terms.csv" for name in ("free", "limited"))
    assert one.read_bytes() == other.read_bytes()
