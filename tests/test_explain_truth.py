"""What is learned against what is true: AUROC, scores by hand, the terms of simulated data."""

from __future__ import annotations

import numpy as np
import pytest
from explain_examples import coded, substitutions
from sklearn.metrics import roc_auc_score

from gpmap_cli.data_source import SimulatedSource
from gpmap_cli.errors import InputError
from gpmap_cli.explain.differences import Effects
from gpmap_cli.explain.scores import score_environment, score_sets
from gpmap_cli.explain.true_terms import TrueTerms, Truth
from gpmap_cli.metrics import auroc
from gpmap_cli.simulate.settings import SimulatedData
from gpmap_cli.simulate.true_terms import true_terms
from gpmap_cli.simulate.yeast_settings import YeastSyntheticData


def truth_example():
    """Five loci, one environment: an additive locus, the pairs (0, 1) and (0, 2), the triple (1, 2, 3)."""
    return Truth(
        {
            1: TrueTerms(np.array([[4]]), np.array([[0.5]])),
            2: TrueTerms(np.array([[0, 1], [0, 2]]), np.array([[1.0], [-2.0]])),
            3: TrueTerms(np.array([[1, 2, 3]]), np.array([[1.0]])),
        }
    )


def effects_of(values):
    values = np.array(values, dtype=float)[:, None]
    return Effects(values, np.zeros_like(values), np.abs(values))


def test_scores_of_sets_by_hand():
    truth = truth_example()
    truth.terms[4] = TrueTerms(np.array([[0, 1, 2, 4]]), np.array([[1.0]]))
    # (1, 2, 3) is true; (0, 1, 2) is in a term of order 4 and counts for nothing; of 5 others one was looked at.
    sets = np.array([[0, 1, 2], [0, 1, 3], [1, 2, 3]])
    np.testing.assert_array_equal(truth.lowest_order(0, sets), [4, np.nan, 3])
    np.testing.assert_array_equal(truth.lowest_order(0, np.array([[1, 2], [0, 1], [1, 4], [3, 4]])), [3, 2, 4, np.nan])
    found = score_sets(truth, 0, sets, effects_of([3, 2, 1]), 5, 1.0)
    assert (found["num_true"], found["num_other"], found["num_true_looked_at"]) == (1, 10 - 1 - 4, 1)
    assert found["auroc_rms"] == pytest.approx(4 / 5)


def test_auroc_by_hand():
    # True ones score 3, 2, 2; others 2, 1: of six comparisons 4 won, 2 ties.
    true = np.array([True, False, True, True, False])
    assert auroc(true, np.array([3.0, 2, 2, 2, 1])) == pytest.approx((4 + 2 / 2) / 6)
    assert auroc(true, np.zeros(5)) == 0.5
    assert auroc(np.ones(3, bool), np.arange(3)) is None
    rng = np.random.default_rng(0)
    true, scores = rng.random(200) < 0.3, rng.integers(0, 20, 200)
    assert auroc(true, scores) == pytest.approx(roc_auc_score(true, scores))


def test_scores_by_hand():
    pairs = np.zeros((5, 5))
    # Of order 2: 9 and 1. Of order 3: 5, 4, 3. In no term: 2 for (0, 3) and 0 for four pairs.
    for (one, other), value in {(0, 1): 1, (0, 2): -9, (1, 2): 5, (1, 3): 4, (2, 3): 3, (0, 3): 2}.items():
        pairs[one, other] = value
    first, second = np.triu_indices(5, k=1)
    main = effects_of([0, 0, 0.1, 0, 0.4])
    found = score_environment(
        truth_example(), 0, main, effects_of(pairs[first, second]), np.arange(5), {"mean": -np.abs(pairs)}, 1.0
    )
    assert (found["pairs"]["2"]["num_true"], found["pairs"]["2"]["num_other"]) == (2, 5)
    assert found["pairs"]["2"]["auroc_rms"] == pytest.approx((5 + 4) / 10)
    assert found["pairs"]["2"]["auroc_attention"] == pytest.approx((0 + 1) / 10)
    assert found["pairs"]["3"]["auroc_rms"] == 1
    assert found["pairs"]["any"]["auroc_mean"] == pytest.approx((4 * 5 + 4) / 25)
    assert found["pairs"]["2"]["effect_r_true_pairs"] == pytest.approx(1)
    assert found["effects"]["auroc_mean"] == 1
    # Only pairs of the loci 0, 1 and 2 were looked at: the others tie below.
    loci = np.array([0, 1, 2])
    some = score_environment(truth_example(), 0, main, effects_of([1, 9, 5]), loci, {}, 1.0)
    assert some["pairs"]["2"]["auroc_rms"] == 1
    assert some["pairs"]["3"]["auroc_rms"] == pytest.approx((5 + 0.5 * 5 * 2) / 15)


def test_true_effects_are_the_differences_of_the_simulated_phenotype():
    """For both ways of simulating: the noise-free phenotype is the sum over terms of half effects times products."""
    settings = SimulatedData(num_samples=80, num_loci=7, order=(2, 3), environments=("23C", "30C"), epsilon=0.4)
    yeast = YeastSyntheticData(num_samples=80, num_loci=40, environments=("23C", "sds"), num_qtl=30)
    for one in (settings, yeast):
        dataset = SimulatedSource(one, 4).load()
        truth = true_terms(dataset, dataset.locus_ids.tolist(), [0, 1])
        x = coded(dataset.genotypes)
        values = np.zeros((80, 2))
        for order, terms in truth.terms.items():
            values += np.prod(x[:, terms.loci], axis=2) @ terms.effects / 2**order
        values += (dataset.truth["noise_free"] - values).mean(axis=0)
        np.testing.assert_allclose(values, dataset.truth["noise_free"], atol=1e-9)
    again = true_terms(dataset, dataset.locus_ids[:20].tolist(), [None, 1])
    assert again.num_elsewhere > 0
    assert not again.knows(0)
    assert again.knows(1)


@pytest.mark.parametrize("coding", ["plus_minus_one", "dosage"])
def test_a_simulated_pair_has_its_true_second_difference(coding):
    settings = SimulatedData(num_samples=40, num_loci=5, order=(2,), coding=coding, ploidy=2)
    dataset = SimulatedSource(settings, 1).load()
    truth = true_terms(dataset, dataset.locus_ids.tolist(), [0])
    from gpmap_cli.simulate.phenotypes import coded_genotypes, draw_architecture

    architecture = draw_architecture(settings, 1)

    def function(genotypes):
        return architecture.noise_free(coded_genotypes(genotypes, settings), [30.0])

    found = substitutions(function, dataset.genotypes, 2).pair_effects(np.arange(5))
    first, second = np.triu_indices(5, k=1)
    np.testing.assert_allclose(found.mean[:, 0], truth.pair_effects(0, 5)[first, second], atol=1e-12)


def test_a_truth_that_contradicts_itself_is_refused():
    dataset = SimulatedSource(SimulatedData(num_samples=20, num_loci=5, order=(2,)), 1).load()
    for name, value in (
        ("interactions/order_2/loci", np.full((5, 2), 99)),
        ("interactions/order_2/loci", np.full((5, 2), -1)),
        ("interactions/order_2/coefficients", np.zeros((3, 3))),
        ("additive/coefficients", np.zeros((4, 2))),
    ):
        dataset.truth[name], kept = value, dataset.truth[name]
        with pytest.raises(InputError, match="truth"):
            true_terms(dataset, dataset.locus_ids.tolist(), [0])
        dataset.truth[name] = kept
