"""Lead terms of linked loci: against regressions written out, and on a cross whose pairs are known."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from variance_examples import linked

from gpmap_cli.dataset.coding import CodedGenotypes, GenotypeCoding
from gpmap_cli.scan.background import residual_phenotypes
from gpmap_cli.scan.lead_terms import lead_terms
from gpmap_cli.scan.p_values import log10_p
from gpmap_cli.scan.products import locus_major

TRUE = ((3, 21), (9, 27))


def cross(arithmetic="int8", seed=0, background="additive", num_samples=1500):
    """Two chromosomes of sixteen loci; two true pairs across them, additive loci beside one of them."""
    rng = np.random.default_rng(seed)
    stored = np.concatenate([linked(rng, num_samples, 16), linked(rng, num_samples, 16)], axis=1)
    coded = CodedGenotypes(stored, GenotypeCoding.learn(stored, 1))
    x = 2.0 * stored - 1
    y = sum(0.35 * x[:, i] * x[:, j] for i, j in TRUE) + 0.6 * (x[:, 5] + x[:, 30]) + rng.normal(size=num_samples)
    y[:40] = np.nan
    genotypes = locus_major(coded, arithmetic, "cpu")
    design = rng.normal(size=(num_samples, 1))
    residuals = residual_phenotypes(genotypes, coded, y[:, None], design, background)
    return genotypes, residuals, x[40:], y[40:], design[40:]


CHROMOSOMES = np.repeat(["I", "II"], 16)
PAIRS = np.array(list(combinations(range(32), 2)), np.int32)
LEVEL = np.log10(0.05 / len(PAIRS))


def rss(y, *columns):
    whole = np.column_stack(columns)
    return ((y - whole @ np.linalg.lstsq(whole, y, rcond=None)[0]) ** 2).sum()


@pytest.mark.parametrize("arithmetic", ["int8", "float64"])
@pytest.mark.parametrize("background", ["additive", "none"])
def test_leads_are_those_of_regressions_written_out(arithmetic, background):
    genotypes, residuals, x, y, design = cross(arithmetic, background=background)
    before = np.column_stack([np.ones(len(y)), design] + ([x] if background == "additive" else []))
    products = x[:, PAIRS[:, 0]] * x[:, PAIRS[:, 1]]
    chosen = []
    while True:
        base = [before, products[:, chosen]]
        whole = rss(y, *base)
        left = [rss(y, *base, products[:, at]) for at in range(len(PAIRS))]
        best = int(np.argmin(left))
        df = len(y) - before.shape[1] - len(chosen) - 1
        if (whole / left[best] - 1) * df < 4.0**2 or len(chosen) == 4:
            break
        chosen.append(best)
    level = float(log10_p(4.0, 1400))  # that of |t| = 4
    found = lead_terms(genotypes, residuals, 0, PAIRS, level, CHROMOSOMES)
    assert [lead.term for lead in found][: len(chosen)] == chosen
    base = np.column_stack([before, products[:, [lead.term for lead in found]]])
    effects = np.linalg.lstsq(base, y, rcond=None)[0][before.shape[1] :]
    assert [lead.effect for lead in found] == pytest.approx(effects.tolist(), rel=1e-7)
    covariance = np.linalg.inv(base.T @ base) * rss(y, base) / (len(y) - base.shape[1])
    errors = np.sqrt(covariance.diagonal()[before.shape[1] :])
    assert [lead.std_error for lead in found] == pytest.approx(errors.tolist(), rel=1e-7)
    members = np.concatenate([lead.members for lead in found])
    assert sorted(members.tolist()) == list(range(len(PAIRS)))
    lead = found[0]
    others = [one.term for one in found[1:]]
    one, other = PAIRS[lead.term]
    along = np.arange(16)
    whole = rss(y, before, products[:, others])
    lod = [len(y) / 2 * np.log10(whole / rss(y, before, products[:, others], x[:, k] * x[:, other])) for k in along]
    assert one < 16 <= other
    top = int(np.argmax(lod))
    low = high = top
    while low > 0 and lod[low - 1] >= lod[top] - 1.5:
        low -= 1
    while high < 15 and lod[high + 1] >= lod[top] - 1.5:
        high += 1
    assert (lead.low[0], lead.high[0]) == (max(low - 1, 0), min(high + 1, 15))


def test_leads_are_the_true_pairs_and_their_intervals_hold_them():
    genotypes, residuals, *_ = cross()
    found = lead_terms(genotypes, residuals, 0, PAIRS, LEVEL, CHROMOSOMES)
    assert len(found) == 2
    for lead in found:
        pair = min(TRUE, key=lambda true: abs(true[0] - PAIRS[lead.term][0]))
        assert (np.abs(PAIRS[lead.term] - pair) <= 1).all()
        for locus, low, high in zip(pair, lead.low, lead.high, strict=True):
            assert low <= locus <= high
            assert CHROMOSOMES[low] == CHROMOSOMES[high]
        assert len(lead.members) > 10


def test_without_terms_there_are_no_leads():
    genotypes, residuals, *_ = cross()
    assert lead_terms(genotypes, residuals, 0, PAIRS[:0], LEVEL) == []
    assert lead_terms(genotypes, residuals, 0, PAIRS[:50], -300.0) == []


def test_the_command_writes_lead_terms_where_chromosomes_are_known(gpmap, tmp_path):
    cross_data = ("data.linkage=cross", "data.num_loci=40", "data.num_chromosomes=4", "data.num_interactions=3")
    words = ("scan", "data.num_samples=3000", "data.order=2", "data.epsilon=0.5", *cross_data)
    result = gpmap(*words, "hydra.run.dir=out")
    assert result.returncode == 0, result.stderr
    leads, terms = (pd.read_csv(tmp_path / "out" / name) for name in ("lead_terms.csv", "terms.csv"))
    passing = terms[terms.p_bonferroni <= 0.05]
    assert len(leads) + leads.num_merged.sum() == len(passing)
    assert 1 <= len(leads) < len(passing)
    assert f"order 2: {len(passing)} terms beyond Bonferroni's threshold are {len(leads)} lead terms" in result.stdout
    for row in leads.itertuples():
        assert row.low_position <= row.position <= row.high_position
        assert row.low_position_2 <= row.position_2 <= row.high_position_2
        assert row.z == pytest.approx(row.effect / row.std_error, rel=1e-6)
    assert gpmap(*words, "scan.intervals=false", "hydra.run.dir=bare").returncode == 0
    assert not (tmp_path / "bare" / "lead_terms.csv").exists()
