"""Complete landscapes: the Walsh-Hadamard transform against sums written out, and `gpmap variance` on them."""

from __future__ import annotations

import csv
import gzip
import json
import math

import numpy as np
import pytest
import scipy.stats
import torch
from landscape_examples import all_genotypes, landscape_dataset, products, up_to_pairs

from gpmap_cli.data_source import open_source
from gpmap_cli.dataset.coding import CodedGenotypes, GenotypeCoding
from gpmap_cli.dataset.complete_landscape import complete_landscape, find_landscape
from gpmap_cli.dataset.settings import FileData
from gpmap_cli.dataset.writer import write_dataset
from gpmap_cli.simulate.settings import SimulatedData
from gpmap_cli.simulate.simulation import simulate
from gpmap_cli.simulate.true_terms import true_terms
from gpmap_cli.solvers.pairwise import pairwise_prediction, solve_pairwise
from gpmap_cli.variance import landscape_variance as module
from gpmap_cli.variance.landscape_correlation import landscape_correlation
from gpmap_cli.variance.landscape_variance import landscape_variance
from gpmap_cli.variance.student_t import two_sided_p
from gpmap_cli.variance.walsh_hadamard import coefficients, orders, phenotypes_of, walsh_hadamard

S309 = FileData(name="rbd", path="package:rbd_moulana2022.h5", environments=("S309",))


def read(path):
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    return list(csv.DictReader(text.decode().splitlines()))


def alone(genotypes):
    """The landscape that these genotypes are, without phenotypes."""
    found = complete_landscape(landscape_dataset(genotypes, np.zeros((len(genotypes), 1))))
    assert found is not None
    return found


@pytest.mark.parametrize("shape", [(1,), (2,), (32,), (64, 3)])
def test_the_transform_is_that_of_the_matrix(shape):
    values = np.random.default_rng(0).normal(size=shape)
    matrix = np.ones((1, 1))
    while len(matrix) < len(values):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    expected = matrix @ values
    in_torch = torch.from_numpy(values.copy())
    assert walsh_hadamard(in_torch) is in_torch
    np.testing.assert_allclose(in_torch.numpy(), expected, atol=1e-12)
    changed = values.copy()
    assert walsh_hadamard(changed) is changed
    np.testing.assert_allclose(changed, expected, atol=1e-12)
    np.testing.assert_allclose(walsh_hadamard(changed), len(values) * values, atol=1e-11)


def test_only_a_power_of_two_can_be_transformed():
    with pytest.raises(ValueError, match="12 values"):
        walsh_hadamard(np.zeros(12))


def test_coefficients_are_averages_of_products():
    y = np.random.default_rng(1).normal(size=64) + 1e6
    found = coefficients(y)
    np.testing.assert_allclose(found, products(6).T @ y / 64, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found[1:], (products(6).T @ (y - y.mean()) / 64)[1:], atol=1e-13)
    np.testing.assert_allclose(phenotypes_of(found), y, rtol=1e-14)
    np.testing.assert_array_equal(orders(6), [number.bit_count() for number in range(64)])


def test_orders_one_and_two_explain_what_least_squares_on_all_pairs_does():
    genotypes, rng = all_genotypes(6), np.random.default_rng(2)
    y = rng.normal(size=64) + genotypes @ rng.normal(size=6)
    design = products(6)[:, up_to_pairs(6)]
    left = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    found = landscape_variance(alone(genotypes), y)
    np.testing.assert_allclose(found.variance[:2].sum() / found.total, 1 - left @ left / (64 * y.var()), rtol=1e-12)
    np.testing.assert_allclose(found.variance.sum(), y.var(), rtol=1e-13)
    assert found.total == found.variance.sum()


def test_a_landscape_is_found_in_any_order_and_coding():
    rng = np.random.default_rng(3)
    genotypes = np.insert(all_genotypes(4), [1, 3], 1, axis=1)[rng.permutation(16)]
    found = alone(genotypes)
    np.testing.assert_array_equal(found.loci, [0, 2, 3, 5])
    np.testing.assert_array_equal(found.genotype, genotypes[:, found.loci] @ [1, 2, 4, 8])
    inbred = landscape_dataset(2.0 * genotypes.astype(np.float32), np.zeros((16, 1)), ploidy=2)
    np.testing.assert_array_equal(complete_landscape(inbred).genotype, found.genotype)
    missing_where_nothing_varies = genotypes.copy()
    missing_where_nothing_varies[3, 1] = -1
    np.testing.assert_array_equal(alone(missing_where_nothing_varies).genotype, found.genotype)


def test_blocks_make_up_the_whole(monkeypatch):
    genotypes = all_genotypes(5)[np.random.default_rng(4).permutation(32)]
    whole = alone(genotypes)
    monkeypatch.setattr("gpmap_cli.dataset.complete_landscape._BLOCK_VALUES", 35)
    np.testing.assert_array_equal(alone(genotypes).genotype, whole.genotype)


def one_missing(genotypes):
    genotypes[5, 2] = -1
    return genotypes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda g: g[1:], "more than 4 loci vary, of which 31 samples cannot hold all"),
        (lambda g: np.concatenate([g[1:], g[1:]]), "1 of the 32 genotypes of 5 loci are in no sample"),
        (one_missing, "1 genotypes are missing at loci that vary"),
        (lambda g: g * 0, "no locus varies"),
        (lambda g: np.concatenate([g, 2 * g[-1:]]), "locus locus0 has more than two classes"),
    ],
)
def test_what_is_no_landscape_is_told_why(change, said):
    genotypes = change(all_genotypes(5))
    dataset = landscape_dataset(genotypes, np.zeros((len(genotypes), 1)), ploidy=2)
    assert said in find_landscape(dataset)
    assert complete_landscape(dataset) is None


def test_the_largest_landscape_has_24_loci(monkeypatch):
    monkeypatch.setattr("gpmap_cli.dataset.complete_landscape.MOST_LOCI", 4)
    dataset = landscape_dataset(all_genotypes(5), np.zeros((32, 1)))
    assert "more than 4 loci vary, of which this program cannot hold" in find_landscape(dataset)


@pytest.mark.parametrize("order", [(2, 3), (6,)])
def test_simulated_terms_come_back_and_no_others(order):
    """A simulation of so many samples that every genotype is there; without noise, its replicates agree."""
    settings = SimulatedData(
        num_samples=2000, num_loci=6, order=order, num_interactions=1, noise=0.0, environments=("23C", "38C")
    )
    dataset = simulate(settings, 0)
    landscape = complete_landscape(dataset)
    truth = true_terms(dataset, dataset.locus_ids.tolist(), [0, 1])
    for e in range(2):
        expected = np.zeros(64)
        for k, terms in truth.terms.items():
            for loci, effect in zip(terms.loci, terms.effects[:, e], strict=True):
                expected[(1 << landscape.loci.searchsorted(loci)).sum()] += effect / 2**k
        noise_free = dataset.truth["noise_free"][:, e]
        found = landscape_variance(landscape, noise_free)
        assert (expected != 0).sum() == 6 + len(order)
        np.testing.assert_allclose(found.coefficients[1:], expected[1:], rtol=0, atol=1e-15)
        # As stored, in float32, what is not there is not taken for an effect.
        stored = landscape_variance(landscape, dataset.phenotypes[:, e])
        np.testing.assert_allclose(stored.coefficients[1:], expected[1:], rtol=0, atol=3e-8)
        p = stored.p_of(stored.z())[1:]
        assert p[expected[1:] != 0].max() < 1e-10
        assert p[expected[1:] == 0].min() > 1e-4


NOISES = ["phenotype_std", "replicates", "high orders"]


def noisy(kind, rng, effects, sigma=0.8):
    """A landscape of 7 loci with these effects and noise of that kind, and what `landscape_variance` is given."""
    genotypes = all_genotypes(7)
    spread = np.full(128, sigma)
    if kind == "phenotype_std":
        spread = np.where(genotypes[:, 0] == 1, 2 * sigma, 0.3 * sigma)  # noise with structure of its own
    copies = np.where(np.arange(128) < 40, 5, 2) if kind == "replicates" else np.ones(128, int)
    rows = np.repeat(np.arange(128), copies)
    y = phenotypes_of(effects)[rows] + spread[rows] * rng.normal(size=len(rows))
    return alone(genotypes[rows]), y, spread[rows] if kind == "phenotype_std" else None


@pytest.mark.parametrize("kind", NOISES)
def test_noise_is_taken_off_and_errors_are_as_large_as_they_say(kind):
    rng = np.random.default_rng(5)
    effects = np.where(orders(7) <= 3, rng.normal(size=128), 0.0)
    effects[0] = 3.0
    true = np.bincount(orders(7), effects**2)[1:]
    runs = [landscape_variance(*noisy(kind, rng, effects)) for _ in range(1500)]
    beyond = np.array([run.beyond_noise for run in runs])[:, :3]
    errors = np.array([run.std_error for run in runs])[:, :3]
    np.testing.assert_array_less(np.abs(beyond.mean(axis=0) - true[:3]), 3.5 * beyond.std(axis=0) / 1500**0.5)
    np.testing.assert_allclose(errors.mean(axis=0), beyond.std(axis=0), rtol=0.08)
    if kind != "high orders":  # where nothing is, the error is that of the noise alone
        nothing = np.array([(run.beyond_noise[4], run.std_error[4]) for run in runs])
        assert abs(nothing[:, 0].mean()) < 3.5 * nothing[:, 0].std() / 1500**0.5
        assert 0.95 < nothing[:, 1].mean() / nothing[:, 0].std() < 1.4
    z = np.array([run.coefficients - effects for run in runs])[:, 1:]
    np.testing.assert_allclose(z.std(axis=0).mean(), np.mean([run.coefficient_std_error for run in runs]), rtol=0.03)
    # Where nothing is, one in twenty has p below 0.05.
    p = np.concatenate([run.p_of(run.z()) for run in runs])
    null = np.tile(orders(7) > 3, 1500)
    if kind == "high orders":
        assert np.isnan(p[null]).all()
    else:
        assert abs((p[null] < 0.05).mean() - 0.05) < 0.005


def test_of_the_residual_only_the_noise_within_the_orders_is_not_seen():
    rng = np.random.default_rng(6)
    effects = np.where(orders(7) <= 2, rng.normal(size=128), 0.0)
    shown = (orders(7) > 0) & (orders(7) <= 2)
    missed, errors = [], []
    for _ in range(800):
        run = landscape_variance(*noisy("replicates", rng, effects))
        variance, error = run.components(2)
        np.testing.assert_allclose(variance.sum(), run.total, rtol=1e-12)
        noise_within = ((run.coefficients - effects)[shown] ** 2).sum()
        missed.append(variance[-1] - run.within - run.variance[2:].sum() - noise_within)
        errors.append(error[-1])
    assert abs(np.mean(missed)) < 3.5 * np.std(missed) / 800**0.5
    np.testing.assert_allclose(np.mean(errors), np.std(missed), rtol=0.1)


def test_traces_are_those_of_the_covariance_of_coefficients():
    by_genotype = np.random.default_rng(7).uniform(0.1, 2, 32)
    sigma = products(5).T @ np.diag(by_genotype) @ products(5) / 32**2
    spectrum = np.bincount(orders(5), coefficients(by_genotype) ** 2)
    for k in range(1, 6):
        part = sigma[np.ix_(orders(5) == k, orders(5) == k)]
        np.testing.assert_allclose(module.trace(spectrum, k) / 32**2, np.trace(part @ part), rtol=1e-12)


def test_some_measurement_errors_stand_for_those_that_are_missing():
    rng = np.random.default_rng(8)
    y, errors = rng.normal(size=16), np.full(16, 0.5)
    whole = landscape_variance(alone(all_genotypes(4)), y, errors)
    errors[3] = np.nan
    found = landscape_variance(alone(all_genotypes(4)), y, errors)
    np.testing.assert_allclose(found.noise.of_coefficient, whole.noise.of_coefficient)
    assert found.noise.source == "phenotype_std (1 missing, taken to be as elsewhere)"
    np.testing.assert_allclose(whole.noise.of_coefficient, 0.25 / 16)
    rows = np.repeat(np.arange(16), np.where(np.arange(16) < 8, 2, 1))
    some = landscape_variance(alone(all_genotypes(4)[rows]), y[rows], np.full(24, 0.5))
    np.testing.assert_allclose(some.noise.of_coefficient, 0.25 * 0.75 / 16)
    rows = np.repeat(np.arange(16), 2)
    twice = landscape_variance(alone(all_genotypes(4)[rows]), y[rows], np.full(32, 0.5))
    assert twice.noise.source == "16 replicates of genotypes"  # enough of them to tell more than errors do
    errors[:] = np.nan
    assert "taken to be noise" in landscape_variance(alone(all_genotypes(4)), y, errors).noise.source


def test_without_any_measure_of_noise_there_are_no_errors():
    found = landscape_variance(alone(all_genotypes(4)), np.random.default_rng(9).normal(size=16), None, max_order=4)
    assert found.noise is None
    variance, error = found.components(4)
    np.testing.assert_allclose(variance[:4], found.variance)
    assert np.isnan(error).all()
    assert np.isnan(found.z()).all()
    more, _ = found.components(6)  # sets of more loci than there are
    np.testing.assert_allclose(more[:6], [*found.variance, 0, 0])


def test_correlations_by_order_are_free_of_noise():
    rng = np.random.default_rng(10)
    one = np.where(orders(7) <= 2, rng.normal(size=128), 0.0)
    other = 0.6 * one + np.where(orders(7) == 1, 0.5, 0.2) * np.where(orders(7) <= 2, rng.normal(size=128), 0.0)
    exact = landscape_correlation(*(landscape_variance(*noisy("phenotype_std", rng, e, 1e-9)) for e in (one, other)))
    truth = []
    for k in (1, 2):
        at = orders(7) == k
        truth.append(one[at] @ other[at] / math.sqrt((one[at] @ one[at]) * (other[at] @ other[at])))
    np.testing.assert_allclose(exact.correlation[:2], truth, rtol=1e-6)
    runs = [
        landscape_correlation(*(landscape_variance(*noisy("replicates", rng, e, 1.5)) for e in (one, other)))
        for _ in range(800)
    ]
    found = np.array([run.correlation for run in runs])[:, :2]
    errors = np.array([run.std_error for run in runs])[:, :2]
    np.testing.assert_allclose(found.mean(axis=0), truth, atol=0.006)
    np.testing.assert_allclose(errors.mean(axis=0), found.std(axis=0), rtol=0.12)
    assert np.isnan([run.correlation[4] for run in runs]).mean() > 0.8  # of noise there is no correlation


@pytest.mark.parametrize("freedom", [1, 2, 7, 30, 1000, 16384, math.inf])
def test_p_values_keep_their_digits(freedom):
    t = np.array([0.0, 1e-9, 0.3, -1.0, 2.0, 5.0, 14.0, 30.0, math.inf])
    law = scipy.stats.norm if math.isinf(freedom) else scipy.stats.t(freedom)
    np.testing.assert_allclose(two_sided_p(t, freedom), 2 * law.sf(np.abs(t)), rtol=1e-9)
    assert np.isnan(two_sided_p(np.array([math.nan]), freedom)).all()


@pytest.fixture(scope="module")
def s309():
    return open_source(S309, 0).load()


def test_rbd_adds_up_and_agrees_with_pairwise(s309):
    landscape = complete_landscape(s309)
    y = s309.phenotypes[:, 0].astype(np.float64)
    found = landscape_variance(landscape, y)
    np.testing.assert_allclose(found.variance.sum(), y.var(), rtol=1e-12)
    genotypes = CodedGenotypes(s309.genotypes, GenotypeCoding.learn(s309.genotypes, 1))
    fitted = solve_pairwise(genotypes, (y - y.mean())[:, None], (1e-9, 1e-9), None, "cpu", lambda text: None)
    left = y - y.mean() - pairwise_prediction(genotypes, fitted)[:, 0]
    explained = found.variance[:2].sum() / found.total
    np.testing.assert_allclose(explained, 1 - left @ left / (len(y) * y.var()), rtol=1e-10)
    first, second = np.triu_indices(15, k=1)
    np.testing.assert_allclose(fitted.pairs[:, 0], found.coefficients[2**first + 2**second], atol=1e-9)


def test_the_command_takes_the_transform_where_it_can(gpmap, tmp_path):
    rng = np.random.default_rng(11)
    effects = np.where(orders(6) <= 3, rng.normal(size=64), 0.0)
    y = np.stack([phenotypes_of(effects) + 0.1 * rng.normal(size=64) for _ in range(3)], axis=1)
    y[7, 1] = np.nan
    write_dataset(tmp_path / "d.h5", landscape_dataset(all_genotypes(6), y, np.full_like(y, 0.1)))
    result = gpmap("variance", "data=file", "data.path=d.h5", "order=2", "hydra.run.dir=v")
    assert result.returncode == 0, result.stderr
    assert "env1: no Walsh-Hadamard transform, 1 of 64 genotypes have no phenotype" in result.stderr
    lines = {line.split()[0]: line for line in result.stdout.splitlines()[2:5]}
    assert ["Walsh-Hadamard" in lines[f"env{e}"] for e in range(3)] == [True, False, True]
    assert "REML" in lines["env1"]
    facts = json.loads((tmp_path / "v" / "variance.json").read_text())
    assert facts["methods"] == {"env0": "Walsh-Hadamard", "env1": "REML", "env2": "Walsh-Hadamard"}
    assert facts["why_not_walsh_hadamard"] == {"env1": "1 of 64 genotypes have no phenotype"}
    assert facts["complete_landscapes"]["env0"]["noise"] == "phenotype_std"

    stored = y.astype(np.float32).astype(np.float64)
    by_order = [row for row in read(tmp_path / "v" / "variance_by_order.csv") if row["environment"] == "env2"]
    assert [row["order"] for row in by_order] == ["1", "2", "3", "4", "5", "6"]
    np.testing.assert_allclose(sum(float(row["variance"]) for row in by_order), stored[:, 2].var(), rtol=1e-12)
    np.testing.assert_allclose(float(by_order[-1]["cumulative_share"]), 1, rtol=1e-12)
    np.testing.assert_allclose(facts["total_variance"]["env2"], stored[:, 2].var(), rtol=1e-12)
    for e in (0, 2):
        parts = facts["environments"][f"env{e}"]
        np.testing.assert_allclose(sum(part["share"] for part in parts.values()), 1, rtol=1e-12)

    rows = [row for row in read(tmp_path / "v" / "coefficients.csv.gz") if row["environment"] == "env0"]
    assert len(rows) == 63
    expected = coefficients(stored[:, 0])
    for row in rows:
        loci = [int(name.removeprefix("locus")) for name in row["loci"].split()]
        assert len(loci) == int(row["order"])
        value = expected[sum(2**locus for locus in loci)]
        np.testing.assert_allclose(float(row["coefficient"]), value, rtol=1e-7)
        np.testing.assert_allclose(float(row["z"]), value / (0.1 / 8), rtol=1e-6)
        np.testing.assert_allclose(float(row["p"]), 2 * scipy.stats.norm.sf(abs(value) * 80), rtol=1e-4)

    methods = {
        (row["environment"], row["environment_2"]): row for row in read(tmp_path / "v" / "genetic_correlation.csv")
    }
    assert methods["env2", "env0"]["method"] == "Walsh-Hadamard"
    assert methods["env1", "env0"]["method"] == methods["env2", "env1"]["method"] == "Haseman-Elston regression"
    np.testing.assert_allclose(float(methods["env2", "env0"]["additive_genetic_correlation"]), 1, atol=0.01)
    correlations = read(tmp_path / "v" / "genetic_correlation_by_order.csv")
    assert [(row["environment"], row["environment_2"]) for row in correlations] == [("env2", "env0")] * 6
    assert (tmp_path / "v" / "variance_by_order.png").stat().st_size > 10_000
    svg = (tmp_path / "v" / "variance_by_order.svg").read_text()
    assert "env0" in svg
    assert "env1" not in svg


def test_exact_and_reml_agree_within_their_errors(gpmap, tmp_path):
    """Where terms beyond the second order are noise; the transform has the noise of replicates, REML its own."""
    rng = np.random.default_rng(12)
    effects = np.where(orders(8) <= 2, rng.normal(size=256), 0.0)
    rows = np.repeat(np.arange(256), 2)
    y = phenotypes_of(effects)[rows] + 2.0 * rng.normal(size=512)
    write_dataset(tmp_path / "d.h5", landscape_dataset(all_genotypes(8)[rows], y[:, None]))
    shares = {}
    for method in ("walsh_hadamard", "reml"):
        result = gpmap("variance", "data=file", "data.path=d.h5", f"method={method}", f"hydra.run.dir={method}")
        assert result.returncode == 0, result.stderr
        shares[method] = json.loads((tmp_path / method / "variance.json").read_text())["environments"]["env0"]
        assert (tmp_path / method / "coefficients.csv.gz").exists() == (method == "walsh_hadamard")
    for component, one in shares["walsh_hadamard"].items():
        other = shares["reml"][component]
        assert abs(one["share"] - other["share"]) < one["share_std_error"]
        np.testing.assert_allclose(one["share_std_error"], other["share_std_error"], rtol=0.6)


def uneven(genotypes):
    rows = np.repeat(np.arange(16), np.where(np.arange(16) < 4, 6, 1))
    return genotypes[rows]


def test_uneven_replicates_go_by_the_variance_in_the_samples_unless_asked(gpmap, tmp_path):
    genotypes = uneven(all_genotypes(4))
    y = np.random.default_rng(13).normal(size=(len(genotypes), 1)) + genotypes[:, :1]
    write_dataset(tmp_path / "d.h5", landscape_dataset(genotypes, y))
    words = ("variance", "data=file", "data.path=d.h5", "order=1")
    result = gpmap(*words, "hydra.run.dir=auto")
    assert result.returncode == 0, result.stderr
    assert "its genotypes have 1 to 6 samples" in result.stderr
    assert "by REML" in result.stdout
    assert not (tmp_path / "auto" / "coefficients.csv.gz").exists()
    result = gpmap(*words, "method=walsh_hadamard", "hydra.run.dir=asked")
    assert result.returncode == 0, result.stderr
    rows = read(tmp_path / "asked" / "variance_by_order.csv")
    assert rows[-1]["order"] == "within genotypes"
    counts = np.unique(genotypes @ [1, 2, 4, 8], return_inverse=True)[1]
    weights = 1 / np.bincount(counts)[counts] / 16
    stored = y[:, 0].astype(np.float32).astype(np.float64)
    total = weights @ (stored - weights @ stored) ** 2
    np.testing.assert_allclose(sum(float(row["variance"]) for row in rows), total, rtol=1e-12)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "env1 is no complete landscape: 1 of 16 genotypes have no phenotype"),
        (["data.num_samples=15"], "more than 3 loci vary, of which 15 samples"),
        (["weighted=true"], "the transform weighs all genotypes alike"),
        (["data.covariates=[env1]"], "covariates are projected out"),
    ],
)
def test_what_is_no_landscape_is_refused_when_the_transform_is_asked_for(gpmap, tmp_path, words, said):
    rng = np.random.default_rng(14)
    y = rng.normal(size=(16, 2))
    y[0, 1] = np.nan
    dataset = landscape_dataset(all_genotypes(4), y, np.ones_like(y))
    write_dataset(tmp_path / "d.h5", dataset)
    result = gpmap("variance", "data=file", "data.path=d.h5", "method=walsh_hadamard", *words, "hydra.run.dir=v")
    assert result.returncode == 2, result.stderr
    assert said in result.stderr
    assert "hint: leave method out" in result.stderr
    assert not (tmp_path / "v" / "variance.csv").exists()


def test_a_landscape_on_disk_is_the_same(gpmap):
    found = []
    for words in ([], ["memory_limit=1KB"]):
        run = f"v{len(found)}"
        result = gpmap(
            *("variance", "data=rbd", "data.environments=[S309]", "data.loci=[G339D,S371L,S373P,S375F]"),
            *(*words, f"hydra.run.dir={run}"),
        )
        assert result.returncode == 0, result.stderr
        assert "all 16 genotypes of 4 loci" in result.stderr
        assert "32,752 replicates of genotypes" in result.stderr
        found.append(result.stdout.splitlines()[:-1])
    assert found[0] == found[1]


def test_coefficients_of_very_many_sets_stop_at_an_order(gpmap, tmp_path, monkeypatch):
    monkeypatch.setattr("gpmap_cli.report.variance_tables.MOST_COEFFICIENTS", 60)
    y = np.random.default_rng(15).normal(size=(64, 1))
    write_dataset(tmp_path / "d.h5", landscape_dataset(all_genotypes(6), y))
    result = gpmap("variance", "data=file", "data.path=d.h5", "hydra.run.dir=v")
    assert result.returncode == 0, result.stderr
    assert "coefficients of up to 4 loci" in result.stderr
    assert {row["order"] for row in read(tmp_path / "v" / "coefficients.csv.gz")} == {"1", "2", "3", "4"}
