"""Forward search against explicit least squares, its sums by fold against explicit ones, and what it must find."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_samples, split_samples

from gpmap_cli.dataset.coding import CodedGenotypes, GenotypeCoding, Samples
from gpmap_cli.dataset.disk_genotypes import DiskGenotypes
from gpmap_cli.errors import InputError
from gpmap_cli.models.forward_qtl import ForwardQtl, Settings
from gpmap_cli.solvers import fold_sums, forward_search
from gpmap_cli.solvers.fold_sums import FoldSums, Moments, PairSums
from gpmap_cli.solvers.forward_search import SearchOptions
from gpmap_cli.solvers.growing_fit import GrowingFit
from gpmap_cli.training.context import FitContext, Silent
from gpmap_cli.training.settings import TrainingSettings

ANY = TrainingSettings("test", epochs=1, batch_size=32, learning_rate=0.01, initial_scale=0.3)
KINDS = ["balanced", "linked", "missing", "diploid", "probabilities"]


def genotypes_of(kind, num_samples=150, num_loci=9, seed=0):
    rng = np.random.default_rng(seed)
    frequency = rng.uniform(0.25, 0.6, num_loci)
    stored = rng.binomial(2 if kind == "diploid" else 1, frequency, (num_samples, num_loci)).astype(np.int8)
    if kind == "linked":
        for locus in range(1, num_loci):
            stored[:, locus] = np.where(rng.random(num_samples) < 0.2, stored[:, locus], stored[:, locus - 1])
    if kind == "missing":
        stored[rng.random(stored.shape) < 0.1] = -1
    if kind == "probabilities":
        stored = np.clip(stored + rng.normal(size=stored.shape) * 0.1, 0, 1).astype(np.float32)
    return CodedGenotypes(stored, GenotypeCoding.learn(stored, 2 if kind == "diploid" else 1))


def phenotypes_of(genotypes, seed=1, noise=0.6):
    """Two environments: additive effects, two pairs, noise; standard errors that differ."""
    rng = np.random.default_rng(seed)
    x = genotypes.rows(slice(None))
    effects = rng.normal(size=(x.shape[1], 2)) * (rng.random((x.shape[1], 2)) < 0.6)
    y = x @ effects + 1.2 * (x[:, 1] * x[:, 4])[:, None] - 0.9 * (x[:, 2] * x[:, 6])[:, None]
    y = (y - y.mean(axis=0)) / y.std(axis=0) + noise * rng.normal(size=y.shape)
    return (y - y.mean(axis=0)) / y.std(axis=0), rng.uniform(0.5, 2, y.shape)


def least_squares(features, y, w):
    """Intercept and effects by numpy, and the weighted residual sum of squares."""
    root = np.sqrt(w)
    design = np.column_stack([np.ones(len(y)), features])
    solution = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0]
    return solution, float(w @ (y - design @ solution) ** 2)


def greedy(features, y, w, chosen, candidates, number):
    """The candidates in the order in which each lowers the residual sum of squares of the joint fit most."""
    entered = []
    for _ in range(number):
        left = [candidate for candidate in candidates if candidate not in entered]
        if not left:
            break
        scores = [least_squares(features[:, [*chosen, *entered, candidate]], y, w)[1] for candidate in left]
        # Of equally good candidates the first; rounding must not decide.
        entered.append(left[int(np.argmax(np.array(scores) <= min(scores) * (1 + 1e-9)))])
    return entered


def held_error(features, y, w, fold):
    solution = least_squares(features[~fold], y[~fold], w[~fold])[0]
    return float(w[fold] @ (y[fold] - solution[0] - features[fold] @ solution[1:]) ** 2)


def by_brute_force(genotypes, y, w, folds, num_additive, num_pairs):
    """Loci, pairs and both curves of cross-validated R^2 by explicit features and a fit for each candidate."""
    known = np.flatnonzero(~np.isnan(y))
    x, y, w, folds = genotypes.rows(known), y[known], w[known], folds[known]
    total = least_squares(np.empty((len(y), 0)), y, w)[1]

    def curve_of(features, sets, number):
        return [
            1
            - sum(
                held_error(features[:, [*start, *entered[:terms]]], y, w, folds == fold)
                for fold, (start, entered) in enumerate(sets)
            )
            / total
            for terms in range(number + 1)
        ]

    num_folds = folds.max() + 1
    loci = range(x.shape[1])
    parts = [folds != fold for fold in range(num_folds)]
    sets = [([], greedy(x[part], y[part], w[part], [], loci, num_additive)) for part in parts]
    whole = greedy(x, y, w, [], loci, num_additive)
    curve = curve_of(x, sets, num_additive)
    best = int(np.argmax(curve))
    first, second = np.triu_indices(x.shape[1], 1)
    every = np.column_stack([x, (x - x.mean(axis=0))[:, first] * (x - x.mean(axis=0))[:, second]])

    def pairs_among(chosen):
        return [x.shape[1] + k for k in range(len(first)) if first[k] in chosen and second[k] in chosen]

    pair_sets = []
    for part, (_, entered) in zip(parts, sets, strict=True):
        chosen = entered[:best]
        pair_sets.append((chosen, greedy(every[part], y[part], w[part], chosen, pairs_among(chosen), num_pairs)))
    pairs = greedy(every, y, w, whole[:best], pairs_among(whole[:best]), num_pairs)
    pair_curve = curve_of(every, pair_sets, num_pairs)
    number = int(np.argmax(pair_curve))
    found = [(locus, -1) for locus in whole[:best]]
    found += [(int(first[k - x.shape[1]]), int(second[k - x.shape[1]])) for k in pairs[:number]]
    return found, curve[1 : best + 1] + pair_curve[1 : number + 1]


def search(genotypes, phenotypes, weights, folds, options):
    names = [f"e{column}" for column in range(phenotypes.shape[1])]
    return forward_search.forward_search(genotypes, phenotypes, weights, folds, options, names, "cpu", print)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_search_is_that_of_explicit_least_squares(kind, weighted):
    """Loci, pairs, their order, and the cross-validated R^2, with missing phenotypes in the second environment."""
    genotypes = genotypes_of(kind)
    phenotypes, std = phenotypes_of(genotypes)
    phenotypes[::7, 1] = np.nan
    folds = np.random.default_rng(5).permutation(np.arange(len(genotypes)) % 4)
    weights = std if weighted else None
    found = search(genotypes, phenotypes, weights, folds, SearchOptions(7, 4))
    for column, terms in enumerate(found):
        w = std[:, column] if weighted else np.ones(len(genotypes))
        expected, curve = by_brute_force(genotypes, phenotypes[:, column], w, folds, 7, 4)
        assert [tuple(pair) for pair in terms.loci.tolist()] == expected
        np.testing.assert_allclose(terms.cv_r2, curve, atol=1e-9)
    assert any((terms.loci[:, 1] >= 0).any() for terms in found)


@pytest.mark.parametrize("weighted", [False, True])
def test_effects_errors_and_predictions_are_those_of_weighted_least_squares(weighted):
    genotypes = genotypes_of("diploid", 300)
    phenotypes, std = phenotypes_of(genotypes)
    phenotypes[:20, 1] = np.nan
    train = Samples(genotypes, phenotypes, std)
    model = ForwardQtl(Settings(num_folds=5, weighted=weighted))
    model.fit(train, train, FitContext(0, ("a", "b"), ANY))
    table = model.tables()["effects"]
    x = genotypes.rows(slice(None))
    predicted = model.predict(genotypes)
    for environment in (0, 1):
        rows = np.flatnonzero(~np.isnan(phenotypes[:, environment]))
        w = 1 / std[rows, environment] ** 2 if weighted else np.ones(len(rows))
        z = x - w @ x[rows] / w.sum()
        here = table["environment"] == environment
        loci, others = table["locus"][here], table["locus_2"][here]
        assert (others >= 0).any()
        features = np.where(others >= 0, z[:, loci] * z[:, others], z[:, loci])
        y = phenotypes[rows, environment]
        solution, residual = least_squares(features[rows], y, w)
        np.testing.assert_allclose(table["effect"][here], solution[1:], atol=1e-10)
        design = np.column_stack([np.ones(len(rows)), features[rows]])
        covariance = np.linalg.inv(design.T @ (design * w[:, None])) * residual / (len(rows) - design.shape[1])
        np.testing.assert_allclose(table["std_error"][here], np.sqrt(np.diag(covariance))[1:], rtol=1e-9)
        np.testing.assert_allclose(predicted[:, environment], solution[0] + features @ solution[1:], atol=1e-10)
        assert (np.diff(np.abs(table["effect"][here])) <= 0).all()
        assert sorted(table["step"][here]) == list(range(1, here.sum() + 1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_sums_by_fold_are_explicit_ones(kind, weighted):
    genotypes = genotypes_of(kind)
    phenotypes, weights = phenotypes_of(genotypes)
    if not weighted:
        weights = np.ones_like(weights)
    weights[::5, 1] = 0
    folds = np.random.default_rng(2).integers(0, 3, len(genotypes))
    sums = FoldSums(genotypes, phenotypes, weights, folds, "cpu")
    assert fold_sums.sums_are_exact(genotypes, weights) == (kind in ("balanced", "linked") and not weighted)
    x = genotypes.rows(slice(None))
    for environment in (0, 1):
        for fold in (0, 2, None):
            rows = np.arange(len(x)) if fold is None else np.flatnonzero(folds == fold)
            w, y, part = weights[rows, environment], phenotypes[rows, environment], x[rows]
            found = sums.moments(environment, fold)
            expected = (w.sum(), w @ y, w @ y**2, w @ part, w @ part**2, (w * y) @ part)
            for name, value in zip(("weight", "y", "y_square", "x", "x_square", "xy"), expected, strict=True):
                np.testing.assert_allclose(getattr(found, name), value, atol=1e-9)
            np.testing.assert_allclose(sums.column(environment, 4, fold), (w * part[:, 4]) @ part, atol=1e-9)
        rest = sums.moments(environment) - sums.moments(environment, 1)
        np.testing.assert_allclose(rest.xy, (weights * phenotypes)[folds != 1, environment] @ x[folds != 1], atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_sums_of_pairs_are_explicit_ones(kind):
    genotypes = genotypes_of(kind, num_loci=5)
    phenotypes, weights = phenotypes_of(genotypes_of(kind))
    y, w = phenotypes[:, 0], weights[:, 0]
    sums = PairSums(genotypes, y, w, 100, "cpu")
    x = np.column_stack([np.ones(len(y)), genotypes.rows(slice(None))])
    features = x[:, sums.candidates[0]] * x[:, sums.candidates[1]]
    np.testing.assert_array_equal(features[:, :5], x[:, 1:])
    np.testing.assert_allclose(sums.cross(), (features[:100, :5] * w[:100, None]).T @ features[:100], atol=1e-9)
    np.testing.assert_allclose(sums.held_cross, (x[100:, 1:] * w[100:, None]).T @ x[100:, 1:], atol=1e-9)
    for part, rows in enumerate((slice(0, 100), slice(100, None))):
        found = sums.moments(part)
        np.testing.assert_allclose(found.x, w[rows] @ features[rows], atol=1e-9)
        np.testing.assert_allclose(found.x_square, w[rows] @ features[rows] ** 2, atol=1e-9)
        np.testing.assert_allclose(found.xy, (w * y)[rows] @ features[rows], atol=1e-9)
        np.testing.assert_allclose(found.y_square, w[rows] @ y[rows] ** 2)
        for candidate in (2, 11):
            expected = (w[rows] * features[rows, candidate]) @ features[rows]
            np.testing.assert_allclose(sums.column(candidate, part), expected, atol=1e-9)


def test_folds_and_environments_share_what_is_read():
    """A column that one of them asked for is not read again; it is when there was no room to keep it."""
    genotypes = genotypes_of("balanced")
    weights = np.ones((150, 3))
    weights[0, 2] = 0
    sums = FoldSums(genotypes, np.zeros((150, 3)), weights, np.arange(150) % 3, "cpu")
    assert sums.num_passes == 1
    sums.fetch([(0, 4), (1, 4), (1, 7)], [(0, 2)])
    assert sums.num_passes == 2
    sums.fetch([(1, 2), (0, 7), (1, 4)])
    assert sums.num_passes == 2
    sums.fetch([(2, 4)])
    assert sums.num_passes == 3


def test_columns_that_find_no_room_are_read_again(monkeypatch):
    monkeypatch.setattr(fold_sums, "_CACHE_BYTES", 1)
    genotypes = genotypes_of("balanced")
    sums = FoldSums(genotypes, np.zeros((150, 1)), np.ones((150, 1)), np.arange(150) % 3, "cpu")
    x = genotypes.rows(slice(None))
    for locus in (4, 7, 4):
        np.testing.assert_array_equal(sums.column(0, locus), x[:, locus] @ x)
    assert sums.num_passes == 4


def fit_of(x, y, held, chosen):
    """A fit to the rows that are not held out, with these candidates entered."""
    sums = FoldSums(x, y[:, None], np.ones((len(y), 1)), held.astype(int), "cpu")
    fit = GrowingFit(sums.moments(0, 0), sums.moments(0, 1))
    for candidate in chosen:
        fit.enter(candidate, sums.column(0, candidate, 0), sums.column(0, candidate, 1))
    return fit, lambda candidate: (sums.column(0, candidate, 0), sums.column(0, candidate, 1))


@pytest.mark.parametrize("position", [0, 2, 3])
def test_a_locus_that_moved_is_as_if_it_had_entered_there(position):
    genotypes = genotypes_of("linked", num_loci=12)
    y, held = phenotypes_of(genotypes)[0][:, 0], np.arange(150) >= 110
    chosen = [3, 8, 1, 10]
    fit, columns = fit_of(genotypes, y, held, chosen)
    fit.move(position, 5, *columns(5))
    chosen[position] = 5
    direct, _ = fit_of(genotypes, y, held, chosen)
    assert fit.in_order_of_entry == direct.in_order_of_entry == chosen
    np.testing.assert_allclose(fit.gains(), direct.gains(), atol=1e-8)
    np.testing.assert_allclose(fit.residual, direct.residual)
    np.testing.assert_allclose(fit.held_out_error(), direct.held_out_error())
    x = genotypes.rows(slice(None))
    solution, residual = least_squares(x[~held][:, chosen], y[~held], np.ones((~held).sum()))
    np.testing.assert_allclose(direct.residual, residual)
    np.testing.assert_allclose(direct.coefficients()[1], solution[1:])
    np.testing.assert_allclose(direct.held_out_error(), held_error(x[:, chosen], y, np.ones(150), held))


@pytest.mark.parametrize("window", [1, 3])
def test_the_best_move_is_the_best_of_all_moves(window):
    genotypes = genotypes_of("linked", num_loci=14)
    y, held = phenotypes_of(genotypes)[0][:, 0], np.arange(150) >= 110
    x, ones = genotypes.rows(slice(None))[~held], np.ones(110)
    chosen = [0, 5, 9, 13]
    residuals = {}
    for position, locus in enumerate(chosen):
        for other in range(max(0, locus - window), min(13, locus + window) + 1):
            if other not in chosen:
                moved = [*chosen[:position], other, *chosen[position + 1 :]]
                residuals[position, other] = least_squares(x[:, moved], y[~held], ones)[1]
    best = min(residuals, key=residuals.get)
    fit, columns = fit_of(genotypes, y, held, chosen)
    assert residuals[best] < fit.residual
    assert fit.best_move(window) == best
    while (move := fit.best_move(window)) is not None:
        before = fit.residual
        fit.move(*move, *columns(move[1]))
        assert fit.residual < before


def moments_of(x, y):
    return Moments(len(y), y.sum(), y @ y, x.sum(axis=0), (x**2).sum(axis=0), y @ x)


def test_what_the_chosen_explain_never_enters():
    """A thousandth of its variance suffices, a millionth does not."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(500, 1)), 3, axis=1)
    y = x[:, 0] + rng.normal(size=500)
    x += rng.normal(size=x.shape) * np.array([0, 0.03, 0.001])
    fit = GrowingFit(moments_of(x, y))
    fit.enter(0, x[:, 0] @ x)
    assert np.flatnonzero(fit.gains()).tolist() == [1]


def test_a_pair_that_one_sample_tells_from_its_loci_never_enters():
    """Of the four haplotypes of two linked loci one is seen once: the product's effect would be that sample's."""
    stored = np.repeat([[0, 0], [0, 1], [1, 1]], 70_000, axis=0).astype(np.int8)
    for number, allowed in ((1, False), (1000, True)):
        stored[:number] = 1, 0
        genotypes = CodedGenotypes(stored, GenotypeCoding.learn(stored, 1))
        y = (stored @ [2, -1] == 2) * 10.0
        fit = forward_search._with_loci(PairSums(genotypes, y, np.ones(len(y)), len(y), "cpu"))
        assert fit.chosen == [0, 1]
        assert fit.best() == (2 if allowed else None)


def planted(num_samples=3000, num_loci=60, seed=0, noise=0.5):
    """Five additive loci and two pairs of them, with fifty-five loci that have no effect."""
    rng = np.random.default_rng(seed)
    stored = rng.integers(0, 2, (num_samples, num_loci)).astype(np.int8)
    x = 2.0 * stored - 1
    loci, effects = [3, 11, 20, 33, 50], [0.9, -0.7, 0.5, 0.4, -0.3]
    y = x[:, loci] @ effects + 0.4 * x[:, 3] * x[:, 20] - 0.3 * x[:, 11] * x[:, 50] + noise * rng.normal(size=len(x))
    return Samples(CodedGenotypes(stored, GenotypeCoding.learn(stored, 1)), y[:, None])


def fitted(samples, environments=("e",), **settings):
    train, validation = split_samples(samples, len(samples) // 4)
    model = ForwardQtl(Settings(**settings))
    model.fit(train, validation, FitContext(1, environments, ANY))
    return model


@pytest.mark.parametrize("one_standard_error", [False, True])
def test_planted_loci_and_pairs_are_found(one_standard_error):
    table = fitted(planted(), one_standard_error=one_standard_error).tables()["effects"]
    terms = list(zip(table["locus"].tolist(), table["locus_2"].tolist(), strict=True))
    true = [(3, -1), (11, -1), (20, -1), (3, 20), (33, -1), (11, 50), (50, -1)]
    assert set(true) <= set(terms)
    assert len(terms) == 7 if one_standard_error else len(terms) <= 12
    for term, effect in zip(true, [0.9, -0.7, 0.5, 0.4, 0.4, -0.3, -0.3], strict=True):
        place = terms.index(term)
        assert abs(table["effect"][place] - effect) < 4 * table["std_error"][place]
        assert 0.008 < table["std_error"][place] < 0.014


def test_one_standard_error_takes_no_more_terms():
    samples = planted(400, noise=2.0)
    fewer, more = (fitted(samples, one_standard_error=choice).describe() for choice in (True, False))
    assert fewer["num_additive"][0] < more["num_additive"][0]


def test_pure_noise_gives_the_mean():
    samples = planted(2000)
    noise = Samples(samples.genotypes, np.random.default_rng(8).normal(size=(2000, 3)) + 0.5)
    model = fitted(noise, ("a", "b", "c"), one_standard_error=True)
    assert model.describe()["num_additive"] == [0, 0, 0]
    assert model.describe()["num_pairs"] == [0, 0, 0]
    expected = np.tile(noise.phenotypes[:1500].mean(axis=0), (2000, 1))
    np.testing.assert_allclose(model.predict(noise.genotypes), expected, atol=1e-12)
    assert all(len(column) == 0 for column in model.tables()["effects"].values())
    assert sum(fitted(noise, ("a", "b", "c")).describe()["num_additive"]) <= 3


def test_caps_are_kept():
    capped = fitted(planted(), max_additive=4, max_pairs=1).describe()
    assert (capped["num_additive"], capped["num_pairs"]) == ([4], [1])
    additive = fitted(planted(), max_pairs=0).describe()
    assert additive["num_additive"][0] >= 5
    assert additive["num_pairs"] == [0]
    assert fitted(planted(), max_additive=0).describe()["num_additive"] == [0]
    samples = planted(80)
    x = samples.genotypes.rows(slice(None))
    many = Samples(samples.genotypes, x[:, :9] @ np.linspace(2, 1, 9)[:, None])
    assert fitted(many).describe()["num_additive"] == [6]  # 60 training samples
    assert fitted(many, max_additive=9).describe()["num_additive"] == [9]


def test_copies_and_constants_never_enter_twice():
    samples = planted(1200, 60)
    stored = samples.genotypes.stored
    stored[:, 4] = stored[:, 3]
    stored[:, 5] = 1 - stored[:, 3]
    stored[:, 6] = 1
    samples = Samples(CodedGenotypes(stored, GenotypeCoding.learn(stored, 1)), samples.phenotypes)
    table = fitted(samples, max_additive=40).tables()["effects"]
    additive = table["locus"][table["locus_2"] < 0]
    assert len(set(additive)) == len(additive)
    assert set(additive) & {3, 4, 5, 6} == {3}
    assert np.isfinite(table["std_error"]).all()


def test_a_locus_that_entered_for_three_others_moves_to_one_of_them():
    """One that tags three causal loci enters first; refined, it makes room for the last of them."""
    rng = np.random.default_rng(4)
    stored = rng.integers(0, 2, (2000, 6)).astype(np.int8)
    stored[:, 3] = stored[:, [1, 2, 4]].sum(axis=1) > 1
    y = (2.0 * stored - 1)[:, [1, 2, 4]].sum(axis=1) + rng.normal(size=2000)
    samples = Samples(CodedGenotypes(stored, GenotypeCoding.learn(stored, 1)), y[:, None])
    plain, refined = (
        fitted(samples, refine=window, max_additive=3, max_pairs=0).tables()["effects"] for window in (0, 2)
    )
    assert plain["locus"][plain["step"] == 1] == 3
    assert set(refined["locus"]) == {1, 2, 4}


def test_weights_must_be_known():
    samples = planted(200)
    with pytest.raises(InputError, match="no `phenotype_std`"):
        fitted(samples, weighted=True)
    std = np.ones((200, 1))
    std[3] = 0
    train = Samples(samples.genotypes, samples.phenotypes, std)
    context = FitContext(0, ("hot",), ANY)
    with pytest.raises(InputError, match=r"1 of the training samples .*`hot`"):
        ForwardQtl(Settings(weighted=True)).fit(train, train, context)
    samples.phenotypes[3] = np.nan
    ForwardQtl(Settings(weighted=True)).fit(train, train, context)


def test_environments_searched_one_by_one_give_the_same(monkeypatch):
    samples = make_samples(num_samples=300, num_loci=20, num_environments=3)
    together = fitted(samples, ("a", "b", "c")).predict(samples.genotypes)
    monkeypatch.setattr(forward_search, "_SEARCH_BYTES", 1)
    np.testing.assert_array_equal(fitted(samples, ("a", "b", "c")).predict(samples.genotypes), together)


def test_genotypes_on_disk_give_the_same(tmp_path):
    samples = make_samples(num_samples=300, num_loci=20, missing=0.05)
    stored, coding = samples.genotypes.stored, samples.genotypes.coding
    on_disk = CodedGenotypes(DiskGenotypes.write(tmp_path, [stored], 20, stored.dtype), coding)
    expected = fitted(samples, ("a", "b")).predict(samples.genotypes)
    found = fitted(replace(samples, genotypes=on_disk), ("a", "b")).predict(on_disk)
    np.testing.assert_array_equal(found, expected)


def test_an_environment_with_few_phenotypes_is_taken():
    """One phenotype, two, and six: fewer than folds, and folds without any."""
    samples = planted(200)
    phenotypes = np.tile(samples.phenotypes, (1, 4))
    for column, number in enumerate((1, 2, 6)):
        phenotypes[number:, column] = np.nan
    model = fitted(replace(samples, phenotypes=phenotypes), ("a", "b", "c", "d"), max_additive=5)
    assert np.isfinite(model.predict(samples.genotypes)).all()
    assert model.describe()["num_additive"][:2] == [0, 0]
    assert model.describe()["num_additive"][3] > 0


def test_progress_is_told():
    told = []
    reporter = Silent()
    reporter.note = told.append
    train, validation = split_samples(planted(1000))
    ForwardQtl(Settings()).fit(train, validation, FitContext(0, ("23C",), ANY, reporter=reporter))
    assert any("23C" in text and "additive loci" in text and "pairs" in text for text in told)
