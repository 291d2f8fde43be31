"""Genotype coding and phenotype scale: -1/+1 or centred dosages, learned on the training rows alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_samples
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gpmap_cli.dataset.coding import CodedGenotypes, GenotypeCoding, PhenotypeScale, Projection, is_known
from gpmap_cli.training.batches import DeviceGenotypes

HAPLOID = np.array([[0, 1, -1, 1], [1, 1, -1, 0], [1, 0, -1, -1]], dtype=np.int8)
DIPLOID = np.array([[0, 1, -1, 2], [1, 2, -1, 0], [2, 0, -1, -1]], dtype=np.int8)


def test_haploid_alleles_become_minus_and_plus_one():
    coding = GenotypeCoding.learn(HAPLOID, ploidy=1)
    expected = [[-1, 1, 0, 1], [1, 1, 0, -1], [1, -1, 0, 0]]  # missing: the training mean; nothing known: the middle
    np.testing.assert_array_equal(coding.apply(HAPLOID), expected)


def test_diploid_genotypes_become_centred_dosages():
    coding = GenotypeCoding.learn(DIPLOID, ploidy=2)
    np.testing.assert_array_equal(coding.apply(DIPLOID), [[-1, 0, 0, 1], [0, 1, 0, -1], [1, -1, 0, 0]])


@pytest.mark.parametrize("genotype_type", [np.float16, np.float32])
def test_probabilities_are_not_rounded(genotype_type):
    stored = np.array([[0.25, np.nan, 1], [0.75, 0.5, 0]], dtype=genotype_type)
    coding = GenotypeCoding.learn(stored, ploidy=1)
    np.testing.assert_array_equal(coding.apply(stored), [[-0.5, 0, 1], [0.5, 0, -1]])
    np.testing.assert_array_equal(is_known(stored), [[True, False, True], [True, True, True]])


@settings(max_examples=60, deadline=None)
@given(
    stored=arrays(np.int8, st.tuples(st.integers(2, 30), st.integers(1, 6)), elements=st.integers(-1, 2)),
    ploidy=st.sampled_from([2, 4]),
)
def test_dosages_are_centred_on_what_is_known(stored, ploidy):
    coded = GenotypeCoding.learn(stored, ploidy).apply(stored)
    known = stored != -1
    np.testing.assert_allclose(np.where(known, coded, 0).sum(axis=0), 0, atol=1e-12)
    assert (coded[~known] == 0).all()


@settings(max_examples=60, deadline=None)
@given(stored=arrays(np.int8, st.tuples(st.integers(1, 30), st.integers(1, 6)), elements=st.integers(-1, 1)))
def test_a_missing_haploid_genotype_takes_the_mean_of_its_locus(stored):
    coding = GenotypeCoding.learn(stored, ploidy=1)
    coded = coding.apply(stored)
    for locus in range(stored.shape[1]):
        known = stored[:, locus] != -1
        mean = coded[known, locus].mean() if known.any() else 0
        np.testing.assert_allclose(coded[~known, locus], mean, atol=1e-12)
    flipped = np.where(stored == -1, -1, 1 - stored).astype(np.int8)
    np.testing.assert_allclose(GenotypeCoding.learn(flipped, 1).apply(flipped), -coded, atol=1e-12)


def test_other_rows_are_coded_with_what_was_learned():
    """Also when they alone would have another mean, and in blocks of more rows than are summed at once."""
    rng = np.random.default_rng(0)
    train = rng.integers(-1, 3, (9000, 3)).astype(np.int8)
    known = np.ma.masked_equal(train, -1)
    coding = GenotypeCoding.learn(train, ploidy=2)
    np.testing.assert_allclose(coding.shift, -known.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(
        coding.apply(np.array([[2, -1, 0]], np.int8))[0], [2 + coding.shift[0], 0, coding.shift[2]]
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_coded_genotypes_by_rows_loci_and_type(dtype):
    coding = GenotypeCoding.learn(DIPLOID, ploidy=2)
    coded = CodedGenotypes(DIPLOID, coding)
    whole = coded.rows(slice(None), dtype)
    assert whole.dtype == dtype
    np.testing.assert_array_equal(whole, coding.apply(DIPLOID))
    np.testing.assert_array_equal(coded.rows(np.array([2, 0]), dtype), whole[[2, 0]])
    np.testing.assert_array_equal(coded.loci(slice(1, 3), dtype), whole[:, 1:3])
    np.testing.assert_array_equal(coded.take(np.array([1])).rows(slice(None), dtype), whole[[1]])
    assert (len(coded), coded.num_loci) == (3, 4)


@pytest.mark.parametrize(
    ("stored", "ploidy", "expected"),
    [
        (HAPLOID, 1, False),
        (np.abs(HAPLOID), 1, True),
        (np.abs(HAPLOID), 2, False),
        (np.abs(HAPLOID).astype(np.float32), 1, False),
    ],
)
def test_when_every_coded_value_is_minus_or_plus_one(stored, ploidy, expected):
    coded = CodedGenotypes(stored, GenotypeCoding.learn(stored, ploidy))
    assert coded.is_plus_minus_one is expected
    if expected:
        assert set(np.unique(coded.rows(slice(None)))) == {-1.0, 1.0}


def test_the_coding_survives_saving():
    for stored, ploidy in ((HAPLOID, 1), (DIPLOID, 2)):
        coding = GenotypeCoding.learn(stored, ploidy)
        again = GenotypeCoding.from_state(coding.state())
        np.testing.assert_array_equal(again.apply(stored), coding.apply(stored))
        assert again.scale == coding.scale


def test_phenotypes_are_standardised_over_what_is_known():
    phenotypes = np.array([[1, 5, np.nan], [3, 5, np.nan], [np.nan, 5, np.nan]], dtype=np.float32)
    scale = PhenotypeScale.learn(phenotypes)
    np.testing.assert_array_equal(scale.mean, [2, 5, 0])
    np.testing.assert_array_equal(scale.std, [1, 1, 1])  # constant or all missing: the scale stays 1
    standardised = scale.standardise(phenotypes)
    np.testing.assert_array_equal(standardised, [[-1, 0, np.nan], [1, 0, np.nan], [np.nan, 0, np.nan]])
    np.testing.assert_array_equal(scale.restore(standardised), phenotypes)
    again = PhenotypeScale.from_state(scale.state())
    np.testing.assert_array_equal(again.standardise(phenotypes), standardised)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), shift=st.floats(-1e3, 1e3), spread=st.floats(1e-3, 1e3))
def test_standardised_phenotypes_have_mean_0_and_variance_1(seed, shift, spread):
    phenotypes = (shift + spread * np.random.default_rng(seed).normal(size=(40, 2))).astype(np.float32)
    phenotypes[::7, 0] = np.nan
    standardised = PhenotypeScale.learn(phenotypes).standardise(phenotypes)
    np.testing.assert_allclose(np.nanmean(standardised, axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.nanstd(standardised, axis=0), 1, rtol=1e-9)


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_networks_see_the_coded_genotypes_that_solvers_see(missing):
    """With covariates projected out of them too."""
    samples = make_samples(num_samples=30, missing=missing)
    rng = np.random.default_rng(2)
    projection = Projection(rng.normal(size=(30, 2)), rng.normal(size=(2, samples.genotypes.num_loci)))
    for projected in (None, projection):
        genotypes = CodedGenotypes(samples.genotypes.stored, samples.genotypes.coding, projected)
        on_device = DeviceGenotypes(genotypes, "cpu", "float64")
        for rows in (slice(4, 20), np.array([7, 3, 3])):
            asked = rows if isinstance(rows, slice) else torch.from_numpy(rows)
            np.testing.assert_allclose(on_device[asked].numpy(), genotypes.rows(rows), rtol=1e-12, atol=1e-14)
