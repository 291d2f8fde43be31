"""What a predictor has learned: differences of known functions; the command `gpmap explain`."""

from __future__ import annotations

import gzip
import io
import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import yaml
from explain_examples import coded, draw, predictor_of, substitutions

from gpmap_cli.explain.differences import Substitutions, most_influential, plan
from gpmap_cli.explain.higher_orders import candidate_sets


@pytest.mark.parametrize("ploidy", [1, 2])
def test_of_ridge_effects_are_its_weights_and_pairs_nothing(ploidy):
    predictor, genotypes = predictor_of("ridge", ploidy=ploidy)
    found = substitutions(predictor.predict, genotypes, ploidy)
    main, pairs = found.main_effects(), found.pair_effects(np.arange(6))
    # From -1 to +1, or from no copy to two: either way two units.
    np.testing.assert_allclose(main.mean, 2 * predictor.model.state()["weights"] * [3.0, 0.5], atol=1e-12)
    np.testing.assert_allclose(main.rms, np.abs(main.mean), atol=1e-12)
    assert np.abs(main.std_error).max() < 1e-12
    assert pairs.mean.shape == (15, 2)
    assert pairs.rms.max() < 1e-12


@pytest.mark.parametrize("ploidy", [1, 2])
def test_of_pairwise_second_differences_are_four_times_its_coefficients(ploidy):
    predictor, genotypes = predictor_of("pairwise", ploidy=ploidy)
    pairs = substitutions(predictor.predict, genotypes, ploidy).pair_effects(np.arange(6))
    table = predictor.model.tables()["effects"]
    at = {pair: number for number, pair in enumerate(combinations(range(6), 2))}
    seen = 0
    for one, other, environment, effect in zip(
        table["locus"], table["locus_2"], table["environment"], table["effect"], strict=True
    ):
        if other >= 0:
            expected = 4 * effect * predictor.scale.std[environment]
            assert pairs.mean[at[one, other], environment] == pytest.approx(expected, abs=1e-6)
            assert pairs.rms[at[one, other], environment] == pytest.approx(abs(expected), abs=1e-6)
            seen += 1
    assert seen == 30


def third_order(genotypes):
    x = coded(genotypes)
    return (x[:, 1] * x[:, 2] * x[:, 4] + 0.1 * x[:, 0])[:, None]


def test_a_third_order_term_shows_in_the_rms_of_its_pairs_and_not_in_their_means():
    every = np.array(list(np.ndindex(*[2] * 6)), dtype=np.int8)
    found = substitutions(third_order, every)
    pairs, at = found.pair_effects(np.arange(6)), list(combinations(range(6), 2))
    strongest = {at[number] for number in np.argsort(-pairs.rms[:, 0])[:3]}
    assert strongest == {(1, 2), (1, 4), (2, 4)}
    np.testing.assert_allclose(np.sort(pairs.rms[:, 0])[-3:], 4)
    assert np.abs(pairs.mean).max() < 1e-12
    assert np.sort(pairs.rms[:, 0])[:-3].max() < 1e-12
    # Such a locus has no mean effect, and is influential all the same.
    main = found.main_effects()
    assert abs(main.mean[1, 0]) < 1e-12
    np.testing.assert_array_equal(most_influential(main, np.ones(1), 3), [1, 2, 4])


@pytest.mark.parametrize("ploidy", [1, 2])
def test_differences_are_those_of_corners_predicted_one_by_one(monkeypatch, ploidy):
    """Of a function with all orders, with missing genotypes, in blocks of any size; at some of the loci."""
    rng = np.random.default_rng(5)
    weights = rng.normal(size=(3, 6))

    def function(genotypes):
        x = np.where(genotypes < 0, 0.3, coded(genotypes, ploidy))
        return np.tanh(x @ weights.T)[:, :2] + np.exp(x @ weights[2] / 3)[:, None]

    genotypes = draw(9, ploidy=ploidy)
    genotypes[rng.random(genotypes.shape) < 0.2] = -1
    before, loci = genotypes.copy(), np.array([0, 2, 3, 5])
    monkeypatch.setattr("gpmap_cli.explain.differences._MOST_CORNERS", 40)
    monkeypatch.setattr("gpmap_cli.explain.differences._MOST_ROWS", 5)
    found = substitutions(function, genotypes, ploidy)
    main, pairs = found.main_effects(), found.pair_effects(loci)

    def at(changes):
        changed = genotypes.copy()
        for locus, allele in changes:
            changed[:, locus] = allele * ploidy
        return function(changed)

    first = np.stack([at([(locus, 1)]) - at([(locus, 0)]) for locus in range(6)], axis=1)
    second = np.stack(
        [
            sum((1 if a == b else -1) * at([(one, a), (other, b)]) for a in (0, 1) for b in (0, 1))
            for one, other in combinations(loci, 2)
        ],
        axis=1,
    )
    for effects, differences in ((main, first), (pairs, second)):
        np.testing.assert_allclose(effects.mean, differences.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(effects.std_error, differences.std(axis=0, ddof=1) / 3, atol=1e-12)
        np.testing.assert_allclose(effects.rms, np.sqrt((differences**2).mean(axis=0)), atol=1e-12)
    np.testing.assert_array_equal(genotypes, before)


@pytest.mark.parametrize("ploidy", [1, 2])
def test_third_differences_are_those_of_corners_predicted_one_by_one(monkeypatch, ploidy):
    monkeypatch.setattr("gpmap_cli.explain.differences._MOST_CORNERS", 20)
    genotypes, weights = draw(8, ploidy=ploidy), np.random.default_rng(3).normal(size=(6, 2))

    def function(some):
        return np.exp(coded(some, ploidy) @ weights / 2)

    sets, which = np.array([[0, 2, 5], [1, 2, 3], [3, 4, 5]]), np.array([0, 2, 3, 7])
    found = substitutions(function, genotypes, ploidy).set_effects(sets, which)
    for at, loci in enumerate(sets):
        total = 0
        for sides in np.ndindex(2, 2, 2):
            changed = genotypes[which].copy()
            changed[:, loci] = np.array(sides) * ploidy
            total = total + (-1) ** (3 - sum(sides)) * function(changed)
        np.testing.assert_allclose(found.mean[at], total.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(found.rms[at], np.sqrt((total**2).mean(axis=0)), atol=1e-12)
    every = np.array(list(combinations(range(6), 3)))
    of_product = substitutions(third_order, draw()).set_effects(every, np.arange(60))
    expected = [8.0 if tuple(loci) == (1, 2, 4) else 0.0 for loci in every]
    np.testing.assert_allclose(of_product.mean[:, 0], expected, atol=1e-12)


def test_sets_are_grown_from_strong_pairs():
    rng = np.random.default_rng(1)
    strength = np.triu(rng.random((9, 9)), 1)
    strength += strength.T
    weakest = {loci: min(strength[pair] for pair in combinations(loci, 2)) for loci in combinations(range(9), 4)}
    expected = sorted(weakest, key=lambda loci: -weakest[loci])[:7]
    assert candidate_sets(strength, 4, 7).tolist() == [list(loci) for loci in expected]
    assert len(candidate_sets(strength, 3, 1000)) == 84


def test_haploid_calls_cost_one_prediction_for_a_pair():
    found = substitutions(third_order, draw(10, 6))
    found.main_effects()
    found.pair_effects(np.arange(6))
    assert found.num_predictions == 10 * (1 + 6 + 6 + 15)
    assert plan(6, 10, True, (None, None), 10**6).num_predictions == found.num_predictions


def test_each_prediction_is_told_its_background(monkeypatch):
    """As covariates are: what belongs to the sample cancels."""
    monkeypatch.setattr("gpmap_cli.explain.differences._MOST_ROWS", 7)
    genotypes, own = draw(), np.random.default_rng(2).normal(size=60)
    found = Substitutions(lambda some, which: third_order(some) + own[which][:, None], genotypes, 1)
    expected = substitutions(third_order, genotypes)
    np.testing.assert_allclose(found.main_effects().mean, expected.main_effects().mean, atol=1e-12)
    every = np.arange(6)
    np.testing.assert_allclose(found.pair_effects(every).rms, expected.pair_effects(every).rms, atol=1e-12)


@pytest.mark.parametrize(
    ("num_loci", "available", "wanted", "genotypes", "loci"),
    [
        (24, 5000, (None, None), 200, 24),
        (24, 50, (None, None), 50, 24),
        (1164, 5000, (None, None), 21, 300),
        (41594, 5000, (None, None), 20, 129),
        (1164, 5000, (100, None), 100, 132),
        (1164, 5000, (None, 100), 160, 100),
        (1164, 5000, (500, 1000), 500, 1000),
    ],
)
def test_what_fits_into_a_million_predictions(num_loci, available, wanted, genotypes, loci):
    found = plan(num_loci, available, True, wanted, 10**6)
    assert (found.num_genotypes, found.num_loci) == (genotypes, loci)
    assert found.num_predictions <= 10**6 or None not in wanted


def read(path):
    return pd.read_csv(io.BytesIO(gzip.decompress(path.read_bytes())))


def test_the_command_leaves_tables_maps_figures_and_scores(gpmap, tmp_path):
    words = ("data.num_loci=8", "data.num_samples=600", "data.order=2", "data.environments=[23C,30C]")
    assert gpmap("train", "model=pairwise", *words, "hydra.run.dir=fit").returncode == 0
    result = gpmap("explain", "run=fit", "rows=test", "num_genotypes=40", "order=3", "hydra.run.dir=out")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "out"
    assert "by RMS" in result.stdout
    out = tmp_path / "out"
    pairs, effects = read(out / "pairs.csv.gz"), read(out / "effects.csv.gz")
    assert list(pairs.columns) == [
        *("environment", "locus", "locus_2", "effect", "std_error", "rms", "coefficient", "true_order", "true_effect")
    ]
    assert len(pairs) == 2 * 28
    assert len(effects) == 2 * 8
    assert len(read(out / "order_3.csv.gz")) == 2 * 56
    assert (pairs.groupby("environment")["rms"].diff().dropna() <= 0).all()
    np.testing.assert_allclose(pairs["effect"], 4 * pairs["coefficient"], rtol=1e-6)
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["num_genotypes"] == 40
    for scores in metrics["truth"]["environments"].values():
        assert scores["pairs"]["2"]["num_true"] == 8
        assert scores["pairs"]["2"]["auroc_rms"] > 0.9
        assert scores["pairs"]["2"]["effect_r"] > 0.98
    names = {path.name for path in out.iterdir()}
    assert {
        "config.yaml",
        "run.log",
        "provenance.json",
        "effects.png",
        "effects.svg",
        "pairs.png",
        "pairs.svg",
    } <= names
    assert "attention_maps.npz" not in names
    assert yaml.safe_load((out / "config.yaml").read_text())["command"] == "explain"
    # A report on everything below a directory passes over it: it scores no phenotype.
    report = gpmap("report", ".", "hydra.run.dir=report")
    assert report.returncode == 0, report.stderr
    assert "unreadable" not in report.stdout


def test_the_command_on_other_data_of_which_no_truth_is_known(gpmap, tmp_path):
    words = ("data.num_loci=6", "data.num_samples=200", "training.epochs=1", "model.embedding_dim=3")
    assert gpmap("train", "model=attention", *words, "hydra.run.dir=fit").returncode == 0
    assert gpmap("simulate", "data.num_loci=6", "data.num_samples=90", "seed=5", "hydra.run.dir=sim").returncode == 0
    # At some of its environments or loci a file's truth is not known; here at loci in another order.
    arguments = ("data=file", "data.path=sim/dataset.h5", "data.loci=[locus_5,locus_0,locus_1,locus_2,locus_3,locus_4]")
    result = gpmap("explain", "run=fit", *arguments, "num_loci=4", "num_pairs=3", "hydra.run.dir=out")
    assert result.returncode == 0, result.stderr
    assert "of the 4 loci of 6" in result.stderr
    out = tmp_path / "out"
    assert json.loads((out / "metrics.json").read_text())["truth"] is None
    assert len(read(out / "pairs.csv.gz")) == 3
    assert len(read(out / "attention.csv.gz")) == 3
    with np.load(out / "attention_maps.npz", allow_pickle=False) as maps:
        assert maps["layer_3"].shape == (1, 1, 6, 6)
        np.testing.assert_allclose(maps["layer_3"].sum(axis=-1), 1, atol=1e-5)
        assert maps["locus_ids"].tolist() == [f"locus_{number}" for number in range(6)]
    again = gpmap("explain", "run=fit", *arguments, "num_loci=4", "num_pairs=3", "hydra.run.dir=again")
    assert again.returncode == 0
    for name in ("pairs.csv.gz", "effects.csv.gz", "attention_maps.npz", "pairs.svg"):
        assert (out / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run=nowhere",), "there is no such run directory"),
        (("run=fit", "num_genotypes=1"), "num_genotypes must be at least 2"),
        (("run=fit", "num_genotypes=500", "rows=test"), "rows=test has 15 samples"),
        (("run=fit", "num_loci=9"), "the model has 5 loci"),
        (("run=fit", "num_locus=4"), "did you mean num_loci?"),
        (("run=fit", "rows=some"), "rows"),
    ],
)
def test_what_cannot_be_explained_is_refused(gpmap, tmp_path, words, said):
    assert gpmap("train", "model=ridge", "data.num_loci=5", "data.num_samples=100", "hydra.run.dir=fit").returncode == 0
    result = gpmap("explain", *words, "hydra.run.dir=out")
    assert result.returncode == 2
    assert said in result.stderr
    assert "hint:" in result.stderr
    assert not (tmp_path / "out").exists()
