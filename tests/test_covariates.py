"""Covariates that are projected out of phenotypes and genotypes: the same as fitting them beside the loci."""

from __future__ import annotations

import csv
import gzip
import json

import h5py
import numpy as np
import pytest

from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.settings import Split
from gpmap_cli.dataset.splits import make_split

COVARIATES = ("data.covariates=[age]", "data.factors=[plate]")


@pytest.fixture
def cross(gpmap, tmp_path):
    """A cross whose plates differ in growth, and in the allele frequencies of two loci."""
    rng = np.random.default_rng(3)
    n = 400
    plate = rng.integers(0, 4, n)
    age = rng.normal(50, 10, n)
    genotypes = (rng.random((n, 12)) < 0.5).astype(int)
    genotypes[:, 0] = rng.random(n) < np.array([0.2, 0.8, 0.5, 0.6])[plate]
    y = genotypes @ rng.normal(size=12) + np.array([0, 3, -2, 5])[plate] + 0.2 * age + 0.5 * rng.normal(size=n)
    other = y + rng.normal(size=n)
    with open(tmp_path / "genotypes.csv", "w") as file:
        file.write("id," + ",".join(f"m{l}" for l in range(12)) + "\n")
        for i, row in enumerate(genotypes):
            file.write(f"s{i}," + ",".join(map(str, row)) + "\n")
    with open(tmp_path / "phenotypes.csv", "w") as file:
        file.write("id,growth,other,age,plate\n")
        for i in range(n):
            shown = "NA" if i in (3, 50) else f"{other[i]:.6f}"
            file.write(f"s{i},{y[i]:.6f},{shown},{'NA' if i == 7 else f'{age[i]:.5f}'},P{plate[i]}\n")
    result = gpmap(
        *("prepare", "source=csv", "source.path=genotypes.csv", "source.phenotypes=phenotypes.csv", "out=cross.h5"),
        "source.phenotype_columns=[growth,other,age,plate]",
    )
    assert result.returncode == 0, result.stderr
    assert "labels of `plate` are numbered: `P0=0`, `P1=1`, `P2=2`, `P3=3`" in result.stderr + result.stdout
    return tmp_path / "cross.h5"


def train(gpmap, run, *words):
    result = gpmap("train", "model=ridge", "data=file", "data.path=cross.h5", f"hydra.run.dir={run}", *words)
    assert result.returncode == 0, result.stderr
    return result


def predictions(run, environment="growth"):
    with gzip.open(f"{run}/predictions.csv.gz", "rt") as file:
        rows = [row for row in csv.DictReader(file) if row["environment"] == environment]
    return np.array([float(row["predicted"]) for row in rows]), np.array([row["split"] for row in rows])


def test_projecting_out_is_fitting_beside(gpmap, cross):
    """Ridge on loci with unpenalised covariates, written out, in the samples that train and in those that do not."""
    result = train(gpmap, "run", *COVARIATES, "model.penalty=7")
    assert "covariates projected out of phenotypes and genotypes: age (1 missing), plate" in result.stderr
    with DatasetFile(cross) as file:
        dataset = file.load()
    labels = make_split(Split(), dataset, 0)
    rows = labels == 0
    y, age, plate = (dataset.phenotypes[:, place].astype(float) for place in (0, 2, 3))
    age = np.where(np.isnan(age), np.nanmean(age[rows]), age)
    fixed = np.column_stack([np.ones(len(y)), age, *(plate == level for level in range(1, 4))])
    x = 2.0 * dataset.genotypes - 1
    scale = y[rows] - fixed[rows] @ np.linalg.lstsq(fixed[rows], y[rows], rcond=None)[0]
    design = np.column_stack([fixed, x])
    penalty = np.diag([0.0] * fixed.shape[1] + [7.0] * 12)
    # The penalty is on effects on phenotypes of variance 1: a common factor of phenotypes changes nothing.
    assert scale.std() > 0
    solution = np.linalg.solve(design[rows].T @ design[rows] + penalty, design[rows].T @ y[rows])
    found, _ = predictions("run")
    np.testing.assert_allclose(found, design @ solution, atol=2e-5)


def test_covariates_are_no_environments_and_explain_what_they_do(gpmap, cross):
    without = train(gpmap, "without", "data.environments=[growth]")
    with_them = train(gpmap, "with", *COVARIATES)
    assert {row for row in ("age", "plate") if row in with_them.stdout} == set()
    assert "growth" in with_them.stdout
    assert "other" in with_them.stdout
    observed = {}
    for run in ("without", "with"):
        with gzip.open(f"{run}/predictions.csv.gz", "rt") as file:
            rows = [row for row in csv.DictReader(file) if row["environment"] == "growth" and row["split"] == "test"]
        y, f = (np.array([float(row[key]) for row in rows]) for key in ("observed", "predicted"))
        observed[run] = y
        r2 = 1 - ((y - f) ** 2).sum() / ((y - y.mean()) ** 2).sum()
        assert r2 > 0.9 if run == "with" else r2 < 0.6
    np.testing.assert_array_equal(observed["without"], observed["with"])  # in the phenotype's own units
    assert without.stdout


def test_evaluate_and_predict_take_the_covariates_of_the_data(gpmap, cross):
    train(gpmap, "run", *COVARIATES)
    assert gpmap("evaluate", "run=run", "hydra.run.dir=again").returncode == 0
    np.testing.assert_allclose(predictions("again")[0], predictions("run")[0], rtol=1e-12)
    named = gpmap("evaluate", "run=run", "data=file", "data.path=cross.h5", "hydra.run.dir=named")
    assert named.returncode == 0, named.stderr
    np.testing.assert_allclose(predictions("named")[0], predictions("run")[0], rtol=1e-12)
    assert gpmap("predict", "run=run", "data=file", "data.path=cross.h5", "hydra.run.dir=p").returncode == 0
    np.testing.assert_allclose(predictions("p")[0], predictions("run")[0], rtol=1e-12)


def test_covariates_that_data_lack_are_at_their_mean(gpmap, cross):
    train(gpmap, "run", *COVARIATES)
    with h5py.File(cross, "r+") as file:
        names = [name.decode() if isinstance(name, bytes) else name for name in file["environments/name"][:]]
        del file["environments/name"]
        file["environments/name"] = [name.replace("age", "years") for name in names]
    result = gpmap("predict", "run=run", "data=file", "data.path=cross.h5", "hydra.run.dir=p")
    assert result.returncode == 0, result.stderr
    assert "not in the data, and so taken at their training mean: age" in result.stderr
    with DatasetFile(cross) as file:
        age = file.phenotypes()[:, 2].astype(float)
    moved = predictions("p")[0] - predictions("run")[0]
    known = ~np.isnan(age)
    slope = np.polyfit(age[known], -moved[known], 1)[0]
    np.testing.assert_allclose(slope, 0.2, atol=0.02)


def test_test_samples_teach_nothing(gpmap, cross):
    train(gpmap, "run", *COVARIATES)
    with DatasetFile(cross) as file:
        labels = make_split(Split(), file.load(), 0)
    test = np.flatnonzero(labels == 2)
    with h5py.File(cross, "r+") as file:
        table = file["phenotypes"][:]
        table[test, :2] = table[test[::-1], :2]
        file["phenotypes"][:] = table
    train(gpmap, "other", *COVARIATES)
    np.testing.assert_array_equal(predictions("run")[0], predictions("other")[0])


@pytest.mark.parametrize("model", ["mean", "pairwise", "kernel", "forward_qtl", "global_epistasis", "attention"])
def test_every_model_takes_them(gpmap, cross, model):
    result = gpmap(
        *("train", f"model={model}", "data=file", "data.path=cross.h5", "training=debug", "hydra.run.dir=run"),
        *COVARIATES,
    )
    assert result.returncode == 0, result.stderr
    assert np.isfinite(predictions("run")[0]).all()
    assert gpmap("evaluate", "run=run", "hydra.run.dir=again").returncode == 0
    np.testing.assert_allclose(predictions("again")[0], predictions("run")[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.covariates=[weight]"], "`weight` is not in `environments/name`"),
        (["data.covariates=[age]", "data.factors=[age]"], "both name age"),
        (["data.covariates=[age]", "data.environments=[age,growth]"], "a covariate and among data.environments"),
        (["data.covariates=[]"], "data.covariates is empty"),
        (["data.covariates=[age,growth,other,plate]"], "have no phenotypes"),
    ],
)
def test_what_cannot_be_projected_out_is_refused(gpmap, cross, words, said):
    result = gpmap("train", "model=ridge", "data=file", "data.path=cross.h5", *words)
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_constant_covariate_is_refused(gpmap, cross):
    with h5py.File(cross, "r+") as file:
        table = file["phenotypes"][:]
        table[:, 2] = 1.0
        file["phenotypes"][:] = table
    result = gpmap("train", "model=ridge", "data=file", "data.path=cross.h5", *COVARIATES)
    assert result.returncode == 2
    assert "covariate `age` does not vary" in result.stderr


def test_variance_is_shared_out_of_what_covariates_leave(gpmap, cross):
    words = ("variance", "data=file", "data.path=cross.h5", "data.environments=[growth]", "order=1")
    found = {}
    for run, more in (("without", ()), ("with", COVARIATES)):
        result = gpmap(*words, *more, f"hydra.run.dir={run}")
        assert result.returncode == 0, result.stderr
        with open(f"{run}/variance.csv") as file:
            found[run] = {row["component"]: float(row["share"]) for row in csv.DictReader(file)}
    assert "shares are of what is left" in result.stderr
    with h5py.File(cross) as file:
        growth, _, age, plate = file["phenotypes"][:].astype(float).T
    design = np.concatenate([np.nan_to_num(age - np.nanmean(age))[:, None], np.eye(4)[plate.astype(int)]], axis=1)
    left = growth - design @ np.linalg.lstsq(design, growth, rcond=None)[0]
    with open("with/variance.json") as file:
        total = json.load(file)["total_variance"]["growth"]
    np.testing.assert_allclose(total, left @ left / (400 - 5), rtol=1e-6)  # the plates' levels include the mean
    assert found["with"]["additive"] > 0.85
    assert found["without"]["additive"] < 0.6
