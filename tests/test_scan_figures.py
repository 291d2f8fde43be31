"""The figures of `gpmap scan` and of a model that chooses terms: that they hold the numbers, and fit on the page."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT
from matplotlib.colors import to_hex

from gpmap_cli.commands import model_figures
from gpmap_cli.errors import InputError
from gpmap_cli.explain.true_terms import TrueTerms, Truth
from gpmap_cli.report import scan_figures
from gpmap_cli.report.drawn_terms import DrawnTerms, OrderTerms, chosen_terms
from gpmap_cli.report.effect_size_figure import draw_effect_sizes
from gpmap_cli.report.explain_figures import MOST_PANELS
from gpmap_cli.report.genome_axis import GenomeAxis, genome_axis
from gpmap_cli.report.manhattan_figure import CAP, draw_manhattan
from gpmap_cli.report.network_figure import MOST_TERMS, draw_network
from gpmap_cli.report.observed_predicted_figure import draw_observed_predicted
from gpmap_cli.report.pair_map_figure import MOST_BINS, bin_edges, draw_pair_map
from gpmap_cli.report.term_figures import draw_terms
from gpmap_cli.scan.p_values import log10_p

BLUE, VERMILION = "#0072b2", "#d55e00"


def genome(num_loci=12, num_chromosomes=3, name="locus {}") -> GenomeAxis:
    chromosomes = np.repeat([f"chr{at + 1}" for at in range(num_chromosomes)], num_loci // num_chromosomes)
    positions = np.tile(1000 * np.arange(1, num_loci // num_chromosomes + 1), num_chromosomes)
    return genome_axis(np.array([name.format(at) for at in range(num_loci)], dtype=object), chromosomes, positions)


def order_terms(loci, strength, environment=0, effect=None, true=None, thresholds=None, candidates=66) -> OrderTerms:
    """Terms that pass from -log10 p of 5 on."""
    loci, strength = np.array(loci, dtype=np.int32), np.array(strength, dtype=np.float64)
    effect = np.linspace(1.0, 0.1, len(loci)) if effect is None else np.array(effect, dtype=np.float64)
    return OrderTerms(
        environment,
        loci,
        effect,
        np.full(len(loci), 0.01),
        strength,
        strength >= 5,
        None if true is None else np.array(true),
        {"Bonferroni 0.05": 5.0, "permutation 0.05": 4.8, "FDR 0.05": 3.9} if thresholds is None else thresholds,
        candidates,
    )


def drawn(*terms, names=("30C",), axis=None) -> DrawnTerms:
    return DrawnTerms(axis or genome(), names, terms, "Bonferroni 0.05")


def random_terms(order, number, num_loci, environment=0, seed=0) -> OrderTerms:
    rng = np.random.default_rng(seed)
    loci = np.array([np.sort(rng.permutation(num_loci)[:order]) for _ in range(number)])
    strength = np.sort(rng.exponential(4, number))[::-1]
    return order_terms(loci, strength, environment, rng.normal(size=number), rng.random(number) < 0.1, None, 10**6)


SINGLES = order_terms([[4], [0]], [9.0, 1.0], candidates=12)
PAIRS = order_terms([[1, 6], [2, 11], [0, 3]], [8.0, 6.0, 2.0], effect=[0.5, -0.25, 0.1], true=[True, False, False])
TRIPLES = order_terms([[0, 5, 10]], [7.0], effect=[-0.4], candidates=220)
ALL = drawn(SINGLES, PAIRS, TRIPLES)


class TestWhereLociLie:
    def test_chromosomes_lie_one_after_the_other_by_position(self):
        ids = np.array(list("abcdef"), dtype=object)
        axis = genome_axis(ids, np.array(["X", "I", "X", "I", "X", "I"]), np.array([300, 50, 100, 70, 200, 150]))
        assert [name for name, _, _ in axis.spans] == ["X", "I"]
        assert axis.x.argsort().tolist() == [2, 4, 0, 1, 3, 5]
        x = dict(zip("abcdef", axis.x, strict=True))
        assert x["e"] - x["c"] == pytest.approx(x["a"] - x["e"])
        assert (x["d"] - x["b"]) / (x["a"] - x["c"]) == pytest.approx(20 / 200)
        (edge,) = axis.edges
        assert x["a"] < edge < x["b"]
        assert (axis.x.min(), axis.x.max()) == (0, 1)
        assert [text for _, text in axis.ticks] == ["X", "I"]
        assert len(set(axis.shades.tolist())) == 2

    def test_loci_without_positions_lie_in_the_order_of_the_columns(self):
        ids = np.array([f"l{at}" for at in range(4)], dtype=object)
        axis = genome_axis(ids, np.array(["b", "a", "b", "a"]), None)
        assert axis.x.argsort().tolist() == [0, 2, 1, 3]
        alone = genome_axis(ids, None, None)
        assert alone.x.tolist() == [0.125, 0.375, 0.625, 0.875]
        assert [text for _, text in alone.ticks] == ["l0", "l1", "l2", "l3"]
        many = genome_axis(np.arange(1000), None, None)
        assert (np.diff(many.x) > 0).all()
        assert [text for _, text in many.ticks] == ["200", "400", "600", "800", "1000"]
        assert many.label == "locus, in the order of the data"

    def test_few_loci_of_one_chromosome_lie_apart_however_near(self):
        ids = np.array(["late", "early", "same"], dtype=object)
        axis = genome_axis(ids, np.array(["IV"] * 3), np.array([10**6, 5, 6]))
        assert [text for _, text in axis.ticks] == ["early", "same", "late"]
        assert np.diff(sorted(axis.x)).tolist() == pytest.approx([1 / 3, 1 / 3])
        many = genome_axis(np.arange(40), np.array(["IV"] * 40), np.arange(40) * 100_000)
        assert many.label == "position on IV (bp)"
        assert [text for _, text in many.ticks] == ["0", "1M", "2M", "3M"]

    def test_long_names_keep_where_they_differ(self):
        axis = genome_axis(np.array([f"chromosome_4_{at}_A>G" for at in (1234567, 1234568)], dtype=object), None, None)
        assert axis.names == ("chromo…34567_A>G", "chromo…34568_A>G")

    def test_a_chromosome_of_one_locus_has_a_place(self):
        axis = genome_axis(np.arange(3), np.array(["a", "b", "c"]), np.array([7, 7, 7]))
        assert (np.diff(axis.x) > 0.1).all()


def points(axes):
    """Markers by their shape, as (x, y)."""
    return [(len(one.get_paths()[0].vertices), one.get_offsets().data) for one in axes.collections
            if len(one.get_offsets()) and len(one.get_paths()) == 1 and one.get_sizes().size]  # fmt: skip


class TestManhattan:
    def test_each_term_stands_at_all_its_loci(self):
        (axes,) = draw_manhattan(ALL, 2).axes
        found = {(round(x, 9), y) for _, offsets in points(axes) for x, y in offsets.tolist()}
        x = ALL.genome.x.round(9)
        assert found == {(x[1], 8), (x[6], 8), (x[2], 6), (x[11], 6), (x[0], 2), (x[3], 2)}
        (joined,) = (one for one in axes.collections if hasattr(one, "get_segments"))
        ends = [segment.tolist() for segment in joined.get_segments()]
        assert np.round(ends, 9).tolist() == [[[x[1], 8], [x[6], 8]], [[x[2], 6], [x[11], 6]]]  # those that pass

    def test_true_terms_are_another_mark_and_only_what_is_drawn_is_explained(self):
        figure = draw_manhattan(ALL, 2)
        shapes = {shape for shape, offsets in points(figure.axes[0]) if 8 in offsets[:, 1]}
        others = {shape for shape, offsets in points(figure.axes[0]) if 8 not in offsets[:, 1]}
        assert not shapes & others
        texts = [text.get_text() for text in figure.legends[0].get_texts()]
        assert texts[:2] == ["true term", "not a true term"]
        false = draw_manhattan(drawn(replace(PAIRS, true=np.zeros(3, dtype=bool))), 2)
        texts = [text.get_text() for text in false.legends[0].get_texts()]
        assert "not a true term" in texts
        assert "true term" not in texts

    def test_thresholds_are_drawn_where_they_are_given(self):
        figure = draw_manhattan(ALL, 2)
        lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
        for name, height in PAIRS.thresholds.items():
            assert set(lines[name].get_ydata()) == {height}
        assert len({lines[name].get_linestyle() for name in PAIRS.thresholds}) == 3  # told apart without colour
        assert {text.get_text() for text in figure.legends[0].get_texts()} >= set(PAIRS.thresholds)
        none = draw_manhattan(drawn(replace(PAIRS, thresholds={})), 2)
        assert not any("0.05" in line.get_label() for line in none.axes[0].get_lines())

    def test_chromosomes_are_dark_and_light_in_turn(self):
        axes = draw_manhattan(drawn(order_terms([[at] for at in range(12)], np.arange(12)[::-1])), 1).axes[0]
        (marks,) = (one for one in axes.collections if len(one.get_offsets()) == 12)
        colours = [to_hex(colour) for colour in marks.get_facecolors()]
        assert colours == [BLUE] * 4 + ["#56b4e9"] * 4 + [BLUE] * 4

    def test_what_is_beyond_the_smallest_p_is_above_the_cap_in_its_order(self):
        strength = [np.inf, 2400.0, 300.5, 299.0, 4.0]
        terms = order_terms([[at, at + 1] for at in range(5)], strength)
        figure = draw_manhattan(drawn(terms), 2)
        (axes,) = figure.axes
        heights = np.sort(np.unique(np.concatenate([offsets[:, 1] for _, offsets in points(axes)])))
        assert heights[:2].tolist() == [4, 299]
        assert (heights[2:] > CAP).all()
        assert len(heights) == 5
        assert axes.get_ylim()[1] > heights[-1]
        assert axes.get_yscale() == "function"  # of square roots, so that thresholds are seen beside it
        assert any("1e−300" in text.get_text() for text in figure.legends[0].get_texts())

    def test_what_is_not_drawn_is_said(self):
        figure = draw_manhattan(ALL, 2)
        assert figure.get_suptitle() == "order 2: the 3 strongest of 66 pairs"
        (band,) = figure.axes[0].patches
        assert band.get_y() + band.get_height() == 2
        whole = draw_manhattan(drawn(replace(PAIRS, num_candidates=3)), 2)
        assert whole.get_suptitle() == "order 2: all 3 pairs"
        assert not whole.axes[0].patches


class TestPairMap:
    def test_pairs_are_above_and_higher_orders_below_the_diagonal(self):
        figure = draw_pair_map(ALL)
        (mesh,) = (one for one in figure.axes[0].collections if one.get_array() is not None)
        heat = np.ma.filled(mesh.get_array().reshape(12, 12), 0)
        expected = np.zeros((12, 12))
        expected[1, 6], expected[2, 11], expected[0, 3] = 8, 6, 2
        expected[5, 0], expected[10, 0], expected[10, 5] = 7, 7, 7
        np.testing.assert_array_equal(heat, expected)
        assert figure.axes[0].yaxis_inverted()
        assert "below the diagonal: terms of order 3" in figure.get_suptitle().replace("\n", " ")
        assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["chr1", "chr2", "chr3"]

    def test_true_pairs_are_ringed(self):
        figure = draw_pair_map(ALL)
        (rings,) = (one for one in figure.axes[0].collections if one.get_array() is None)
        x = ALL.genome.x
        np.testing.assert_allclose(rings.get_offsets(), [[x[6], x[1]]])
        assert figure.legends

    def test_many_loci_share_bins_and_the_strongest_counts(self):
        axis = genome_axis(np.arange(1000), None, None)
        assert len(bin_edges(axis)) == MOST_BINS + 1
        assert len(bin_edges(genome())) == 13
        terms = order_terms([[0, 999], [1, 998]], [9.0, 6.0])
        figure = draw_pair_map(drawn(terms, axis=axis))
        (mesh,) = (one for one in figure.axes[0].collections if one.get_array() is not None)
        heat = mesh.get_array().reshape(MOST_BINS, MOST_BINS)
        assert heat.count() == 1
        assert heat[0, -1] == 9

    def test_noise_is_pale(self):
        noise = order_terms([[0, 1], [2, 3]], [1.5, 1.0])
        figure = draw_pair_map(drawn(noise))
        (mesh,) = (one for one in figure.axes[0].collections if one.get_array() is not None)
        assert mesh.norm.vmax > 5  # the scale reaches beyond the threshold
        (mark,) = (line for line in figure.axes[1].get_lines() if line.get_marker() == ">")
        assert mark.get_ydata() == [5]


class TestNetwork:
    def test_chords_and_stars_tell_sign_and_size(self):
        axes = draw_network(ALL).axes[0]
        positive, negative = axes.patches  # the pairs that pass
        assert (to_hex(positive.get_edgecolor()), to_hex(negative.get_edgecolor())) == (BLUE, VERMILION)
        assert positive.get_linestyle() != negative.get_linestyle()  # told apart in grey print
        assert positive.get_linewidth() > negative.get_linewidth()
        arms = [line for line in axes.get_lines() if line.get_color() == "#D55E00"]
        assert len(arms) == 3
        assert len({tuple(line.get_xydata()[0]) for line in arms}) == 1  # from one hub
        ends = np.array([line.get_xydata()[1] for line in arms])
        np.testing.assert_allclose(np.hypot(*ends.T), 1)
        np.testing.assert_allclose(positive.get_path().vertices[[0, -1]], ends_of(axes, ALL.genome, [1, 6]), atol=1e-9)

    def test_the_loci_of_the_strongest_are_named(self):
        texts = [text.get_text() for text in draw_network(ALL).axes[0].texts]
        assert {"chr1", "chr2", "chr3", "locus 1", "locus 6"} <= set(texts)
        assert "locus 3" not in texts  # of a term that does not pass

    def test_only_the_strongest_are_drawn(self):
        strength = np.linspace(100, 50, 66)
        loci = [(a, b) for a in range(12) for b in range(a + 1, 12)]
        higher = order_terms([(0, a, b) for a, b in loci if a], np.linspace(80, 1, 55), effect=np.ones(55))
        figure = draw_network(drawn(order_terms(loci, strength), higher))
        num_pairs = len(figure.axes[0].patches)
        num_arms = sum(line.get_color() == "#0072B2" for line in figure.axes[0].get_lines())
        assert num_pairs == (np.argsort(np.concatenate([-strength, -higher.strength]))[:MOST_TERMS] < 66).sum()
        assert num_pairs + num_arms / 3 == MOST_TERMS
        assert f"at most the {MOST_TERMS} strongest" in figure.get_suptitle()

    def test_where_nothing_passes_it_says_so(self):
        axes = draw_network(drawn(order_terms([[0, 1]], [1.0]))).axes[0]
        assert not axes.patches
        assert "no interaction passes\nBonferroni 0.05" in [text.get_text() for text in axes.texts]


def ends_of(axes, axis, loci):
    """Where these loci are on the circle, by their dots."""
    dots = next(one for one in axes.collections).get_offsets().data
    order = [1, 6, 0, 5, 10, 2, 11]  # by the strength of their terms
    return dots[[order.index(locus) for locus in loci]]


class TestEffectSizes:
    def test_effects_are_ranked_by_order_with_bars_where_they_pass(self):
        axes = draw_effect_sizes(ALL).axes[0]
        heights = [line.get_ydata().tolist() for line in axes.get_lines() if len(line.get_xdata())]
        assert heights == [[1.0], [0.1], [0.5, 0.25], [0.1], [0.4]]
        bars = [segments for one in axes.collections for segments in one.get_segments()]
        assert len(bars) == 4
        assert bars[1][:, 1].tolist() == pytest.approx([0.48, 0.52])  # two standard errors
        assert (axes.get_ylabel(), axes.get_ylim()[0]) == ("size of the effect", 0)

    def test_a_wide_range_is_on_a_logarithmic_axis_with_plain_numbers(self):
        effect = np.geomspace(10, 0.001, 66)
        loci = [(a, b) for a in range(12) for b in range(a + 1, 12)]
        figure = draw_effect_sizes(drawn(order_terms(loci, np.linspace(50, 1, 66), effect=effect)))
        (axes,) = figure.axes
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        figure.draw_without_rendering()
        assert "10" in [text.get_text() for text in axes.get_xticklabels()]
        assert not any("$" in text.get_text() for text in axes.get_xticklabels() + axes.get_yticklabels())

    def test_terms_that_lower_orders_determine_have_no_size(self):
        terms = order_terms([[0, 1], [2, 3]], [9.0, 8.0], effect=[np.nan, 0.3])
        axes = draw_effect_sizes(drawn(terms)).axes[0]
        assert [line.get_ydata().tolist() for line in axes.get_lines() if len(line.get_xdata())] == [[0.3]]


class TestObservedAgainstPredicted:
    def test_samples_are_points_about_the_line(self):
        rng = np.random.default_rng(0)
        observed = rng.normal(size=(60, 2))
        predicted = observed + 0.5 * rng.normal(size=(60, 2))
        observed[:10, 1] = np.nan
        figure = draw_observed_predicted(observed, predicted, ["a", "b"], "test")
        for environment, axes in enumerate(figure.axes):
            known = ~np.isnan(observed[:, environment])
            expected = np.column_stack([predicted[known, environment], observed[known, environment]])
            np.testing.assert_array_equal(axes.collections[0].get_offsets(), expected)
            assert axes.get_xlim() == axes.get_ylim()
        assert [axes.texts[0].get_text().split("\n")[0] for axes in figure.axes] == ["n = 60", "n = 50"]
        assert "R² = 0.695" in figure.axes[0].texts[0].get_text()

    def test_many_samples_are_counted(self):
        y = np.random.default_rng(0).normal(size=(3000, 1))
        figure = draw_observed_predicted(y, y, ["a"], "test")
        assert figure.axes[0].collections[0].get_array().sum() == 3000

    def test_an_environment_without_phenotypes_is_empty(self):
        figure = draw_observed_predicted(np.full((5, 1), np.nan), np.zeros((5, 1)), ["a"], "test")
        assert figure.axes[0].texts[0].get_text() == "n = 0"


def every_figure(found: DrawnTerms):
    yield from (draw_manhattan(found, order) for order in found.orders)
    yield draw_effect_sizes(found)
    yield draw_pair_map(found)
    yield draw_network(found)


class TestOnThePage:
    @pytest.mark.parametrize("number", [1, 4, 20])
    def test_nothing_is_cut_and_the_legend_covers_nothing(self, number):
        axis = genome(300, 15, "a name that is much too long for any figure {}")
        names = tuple(f"environment {at}" + " of a long name" * (at == 1) for at in range(number))
        terms = [
            random_terms(order, 25, 300, e, e) for order in ((2,) if number == 20 else (1, 2, 3)) for e in range(number)
        ]
        for figure in every_figure(drawn(*terms, names=names, axis=axis)):
            figure.draw_without_rendering()
            boxes = [axes.get_tightbbox() for axes in figure.axes] + [one.get_window_extent() for one in figure.legends]
            for box in boxes:
                assert figure.bbox.x0 - 1 <= box.x0 < box.x1 <= figure.bbox.x1 + 1
                assert figure.bbox.y0 - 1 <= box.y0 < box.y1 <= figure.bbox.y1 + 1
            legend = figure.legends[0].get_window_extent()
            assert not any(legend.overlaps(axes.get_tightbbox()) for axes in figure.axes)
            panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
            assert len(panels) == min(number, MOST_PANELS)
            assert ("the first 18 of 20 environments" in figure.get_suptitle().replace("\n", " ")) == (number == 20)

    def test_an_environment_may_lack_an_order_or_all_terms(self):
        found = drawn(PAIRS, replace(TRIPLES, environment=1), names=("a", "b", "c"))
        for figure in every_figure(found):
            figure.draw_without_rendering()

    def test_strange_names_are_drawn_as_they_are(self):
        axis = genome_axis(np.array(["_a", "$x^2", r"\frac"], dtype=object), None, None)
        found = drawn(order_terms([[0, 1], [1, 2]], [9.0, 8.0]), names=("$_{", "_b"), axis=axis)
        for figure in every_figure(found):
            figure.draw_without_rendering()


class TestFiles:
    def test_figures_are_pictures_and_drawings_the_same_bytes_twice(self, tmp_path):
        one, two = (draw_terms(ALL, tmp_path / name) for name in ("one", "two"))
        names = ["manhattan_order_1", "manhattan_order_2", "manhattan_order_3", "effect_sizes", "pair_map", "network"]
        assert [path.name for path in one] == [f"{name}.{kind}" for name in names for kind in ("png", "svg")]
        assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
        texts = {text.text for text in ElementTree.parse(one[3]).iter("{http://www.w3.org/2000/svg}text")}
        assert {"−log10 p", "Bonferroni 0.05", "chr2", "true term"} <= texts
        assert b"dc:date" not in one[3].read_bytes()

    def test_nothing_is_drawn_of_nothing(self, tmp_path):
        assert draw_terms(drawn(), tmp_path / "figures") == []
        empty = order_terms(np.zeros((0, 2)), [])
        assert draw_terms(drawn(empty), tmp_path / "figures") == []
        assert not (tmp_path / "figures").exists()

    def test_single_loci_alone_have_no_pairs(self, tmp_path):
        written = draw_terms(drawn(SINGLES), tmp_path / "figures")
        assert {path.stem for path in written} == {"manhattan_order_1", "effect_sizes"}


class TestRuns:
    def test_a_scan_draws_what_its_table_says(self, gpmap, tmp_path, monkeypatch):
        taken = []

        def draw(found, directory):
            taken.append(found)
            return draw_terms(found, directory)

        monkeypatch.setattr(scan_figures, "draw_terms", draw)
        words = ["data=simulated", "data.num_samples=600", "data.num_loci=10", "data.order=2", "scan.order=[1,2]"]
        assert gpmap("scan", *words, "scan.permutations=100", "hydra.run.dir=run").returncode == 0
        (found,) = taken
        names = ("manhattan_order_1", "manhattan_order_2", "effect_sizes", "pair_map", "network")
        written = {path.name for path in (tmp_path / "run/figures").iterdir()}
        assert written == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
        metrics = json.loads((tmp_path / "run/metrics.json").read_text())
        with (tmp_path / "run/terms.csv").open() as stream:
            rows = [row for row in csv.DictReader(stream) if row["order"] == "2"]
        (terms,) = found.of(0, 2)
        assert terms.num_candidates == metrics["orders"]["2"]["num_candidates"] == 45
        np.testing.assert_allclose(terms.strength, [-float(row["log10_p"]) for row in rows], rtol=1e-6, atol=1e-9)
        assert terms.true.tolist() == [row["is_true"] == "true" for row in rows]
        assert terms.passes.tolist() == [float(row["p_bonferroni"]) <= 0.05 for row in rows]
        limits = dict(terms.thresholds)
        assert limits["Bonferroni 0.05"] == pytest.approx(-math.log10(0.05 / 45))
        above = terms.strength >= limits["FDR 0.05"] - 1e-9
        assert above.tolist() == [float(row["q"]) <= 0.05 for row in rows]
        z, df = metrics["orders"]["2"]["environments"]["30C"]["thresholds"]["permutation"], 600 - 11 - 1
        r2 = z**2 / 599
        expected = -log10_p(math.sqrt(r2 * df / (1 - r2)), df)
        assert limits["permutation 0.05"] == pytest.approx(float(expected))
        # By permutation the screening statistics are judged, which are nearly those of the joint fit.
        permuted = np.array([float(row["p_permutation"]) <= 0.05 for row in rows])
        assert permuted[terms.strength > limits["permutation 0.05"] + 0.3].all()
        assert not permuted[terms.strength < limits["permutation 0.05"] - 0.3].any()
        assert 0 < permuted.sum() < len(permuted)

    def test_a_model_that_chooses_terms_leaves_figures_and_others_none(self, gpmap, tmp_path, monkeypatch):
        def refuse(*_):
            raise InputError("`truth` of the data is not as written", "use others")

        monkeypatch.setattr(model_figures, "true_terms", refuse)  # no reason to lose a fit
        words = ["data=simulated", "data.num_samples=800", "data.num_loci=6", "data.order=2"]
        result = gpmap("train", "model=sparse_epistasis", *words, "hydra.run.dir=run")
        assert result.returncode == 0, result.stderr
        assert "true terms are not marked" in result.stderr
        names = {path.stem for path in (tmp_path / "run/figures").iterdir()}
        assert {"manhattan_order_2", "effect_sizes", "pair_map", "network", "observed_predicted"} <= names
        assert gpmap("train", "model=ridge", *words, "hydra.run.dir=other").returncode == 0
        assert not (tmp_path / "other/figures").exists()

    def test_a_model_s_terms_are_its_table_s(self):
        table = {
            "environment": np.array([1, 0, 0, 0]),
            "order": np.array([2, 2, 1, 2]),
            "locus": np.array([3, 0, 5, 7]),
            "locus_2": np.array([4, 1, -1, 8]),
            "effect": np.array([1.0, 2.0, 3.0, 4.0]),
            "std_error": np.array([0.1, 0.2, 0.3, 0.4]),
            "log10_p": np.array([-9.0, -4.0, -2.0, -6.0]),
        }
        truth = Truth({2: TrueTerms(np.array([[4, 3]]), np.array([[0.0, 1.0]]))})
        found = chosen_terms(table, genome(), ("a", "b"), truth)
        assert found.orders == [1, 2]
        (pairs,) = found.of(1, 2)
        assert (pairs.loci.tolist(), pairs.effect.tolist(), pairs.true.tolist()) == ([[3, 4]], [1.0], [True])
        (others,) = found.of(0, 2)
        assert (others.loci.tolist(), others.strength.tolist()) == ([[7, 8], [0, 1]], [6, 4])
        assert (others.true.tolist(), others.std_error.tolist()) == ([False, False], [0.4, 0.2])
        assert pairs.passes.all()
        assert draw_network(found).get_suptitle() == "interactions that were chosen; width: size of the effect"

    def test_training_draws_without_loading_what_it_does_not_need(self):
        words = "import sys, gpmap_cli.commands.train; print(sorted({'torch', 'matplotlib'} & set(sys.modules)))"
        found = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True, cwd=ROOT)
        assert found.stdout == "[]\n"
