"""The report's figure: what is compared with what, that the axes hold the numbers, and that nothing is covered."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from report_runs import ORDER_SCORES, write_failed, write_order_sweep, write_run
from scipy import stats

from gpmap_cli.report.collect import collect_runs
from gpmap_cli.report.figures import draw, r2_figure
from gpmap_cli.report.layout import arrange, label_of, t_quantile


@pytest.fixture
def order_sweep(tmp_path: Path) -> Path:
    return write_order_sweep(tmp_path / "sweep")


class TestLayout:
    def test_a_numeric_sweep_is_an_axis_in_order(self, order_sweep: Path) -> None:
        layout = arrange(collect_runs([order_sweep]))
        assert layout is not None
        assert (layout.xs, layout.numeric, layout.x_label, layout.y_label) == (
            [1, 2, 10], True, "epistasis order", "test R²"
        )  # fmt: skip
        (panel,) = layout.panels
        drawn = {(model, point.x): point.r2 for model, points in panel.series.items() for point in points}
        assert drawn == ORDER_SCORES
        assert panel.ceiling == {1: 0.9615, 2: 0.9615, 10: 0.9615}

    def test_three_seeds_give_the_interval_of_their_spread_two_that_of_the_bootstrap(self, tmp_path: Path) -> None:
        values = {1: (0.4, 0.5), 2: (0.4, 0.5, 0.9)}
        for order, seeds in values.items():
            for seed, r2 in enumerate(seeds):
                write_run(tmp_path / f"{order}{seed}", "ridge", r2, {"data.order": order}, seed)
        layout = arrange(collect_runs([tmp_path]))
        assert layout is not None
        two, three = layout.panels[0].series["ridge"]
        assert (two.r2, two.low, two.high) == pytest.approx((0.45, 0.43, 0.46))
        low, high = stats.t.interval(0.95, 2, np.mean(values[2]), stats.sem(values[2]))
        assert (three.r2, three.low) == pytest.approx((0.6, low), abs=1e-4)
        assert three.high == min(high, 1.0) == 1.0
        assert not two.over_runs
        assert three.over_runs

    def test_repeats_of_the_same_seed_are_no_replicates(self, tmp_path: Path) -> None:
        for job in range(3):
            write_run(tmp_path / f"{job}", "ridge", 0.5)
        layout = arrange(collect_runs([tmp_path]))
        assert layout is not None
        (point,) = layout.panels[0].series["ridge"]
        assert (point.low, point.high) == pytest.approx((0.48, 0.51))

    def test_the_t_quantile(self) -> None:
        for degrees in (2, 3, 9, 10, 11, 50, 1000):
            assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), abs=1e-3)

    def test_environments_are_panels_of_a_sweep_unless_they_are_too_many_or_differ(self, tmp_path: Path) -> None:
        def titles(directory: Path) -> list[str]:
            layout = arrange(collect_runs([directory]))
            assert layout is not None
            return [panel.title for panel in layout.panels]

        for order in (1, 2):
            settings = {"data.order": order}
            few, many = ({f"e{n}": 0.01 * n for n in range(number)} for number in (3, 25))
            write_run(tmp_path / "few" / f"{order}", "ridge", few, settings, noise_ceiling_r2={"e1": 0.9})
            write_run(tmp_path / "many" / f"{order}", "ridge", many, settings)
            write_run(tmp_path / "differ" / f"{order}", "ridge", {"same": 0.3, f"own{order}": 0.5}, settings)
        assert titles(tmp_path / "few") == ["e0", "e1", "e2"]
        assert titles(tmp_path / "many") == titles(tmp_path / "differ") == [""]
        layout = arrange(collect_runs([tmp_path / "many"]))
        assert layout is not None
        assert layout.y_label == "test R², mean over 25 environments"
        assert [point.r2 for point in layout.panels[0].series["ridge"]] == pytest.approx([0.12, 0.12])

    def test_the_second_variable_makes_the_panels(self, tmp_path: Path) -> None:
        job = 0
        for effects in ("gaussian", "exponential"):
            for order in (1, 2, 3):
                write_run(tmp_path / f"{job}", "ridge", 0.1 * job, {"data.effects": effects, "data.order": order})
                job += 1
        layout = arrange(collect_runs([tmp_path]))
        assert layout is not None
        assert layout.xs == [1, 2, 3]
        assert [panel.title for panel in layout.panels] == [
            "effect size distribution = gaussian", "effect size distribution = exponential"
        ]  # fmt: skip
        assert [point.r2 for point in layout.panels[1].series["ridge"]] == pytest.approx([0.3, 0.4, 0.5])

    def test_the_axis_is_the_numeric_variable_with_the_most_values(self, tmp_path: Path) -> None:
        job = 0
        for data in ("a", "b", "c", "d"):
            for order in ([1], [2]):
                for epsilon in (0.0, 0.5, 1.0):
                    settings = {"data.order": order, "data.epsilon": epsilon, "data.name": data}
                    write_run(tmp_path / f"{job}", "ridge", 0.5, settings)
                    job += 1
        layout = arrange(collect_runs([tmp_path]))
        assert layout is not None
        assert layout.x_label == "epsilon (additive share)"
        assert len(layout.panels) == 8
        assert layout.panels[1].title == "data = a, epistasis order = 2"

    def test_failed_runs_and_undefined_scores_are_not_drawn(self, tmp_path: Path) -> None:
        write_failed(tmp_path / "0", "ridge", {}, "boom")
        write_run(tmp_path / "1", "attention", {"30C": None})
        write_run(tmp_path / "2", "attention", 0.5, status="interrupted")
        assert arrange(collect_runs([tmp_path])) is None

    @pytest.mark.parametrize(
        ("key", "words"),
        [
            ("data.epsilon", "epsilon (additive share)"),
            ("data.num_samples", "number of samples"),
            ("training.learning_rate", "learning rate"),
            ("device", "device"),
        ],
    )
    def test_settings_are_named_in_words(self, key: str, words: str) -> None:
        assert label_of(key) == words


def drawn(directory: Path) -> Any:
    layout = arrange(collect_runs([directory]))
    assert layout is not None
    return draw(layout)


class TestFigures:
    def test_the_axes_hold_the_numbers(self, order_sweep: Path) -> None:
        (axes,) = drawn(order_sweep).axes
        lines = {line.get_label(): line for line in axes.get_lines()}
        for model in ("ridge", "pairwise", "attention"):
            assert list(lines[model].get_xdata()) == [1, 2, 10]
            assert list(lines[model].get_ydata()) == [ORDER_SCORES[model, order] for order in (1, 2, 10)]
        assert set(lines["noise ceiling"].get_ydata()) == {0.9615}
        assert lines["noise ceiling"].get_linestyle() == "--"
        (bars,) = (bar for bar in axes.containers if bar.lines[2][0].get_segments()[0][0][1] == pytest.approx(0.89))
        assert [[y for _, y in segment] for segment in bars.lines[2][0].get_segments()] == [
            pytest.approx([r2 - 0.02, r2 + 0.01]) for r2 in (0.91, 0.51, 0.11)
        ]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "10"]
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("epistasis order", "test R²")
        assert axes.get_ylim() == (0, 1)
        looks = {(lines[model].get_color(), lines[model].get_marker()) for model in ("ridge", "pairwise", "attention")}
        assert len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == 3

    def test_the_scale_reaches_down_to_the_worst_score(self, tmp_path: Path) -> None:
        write_run(tmp_path / "0", "ridge", -0.5)
        write_run(tmp_path / "1", "attention", 0.5)
        (axes,) = drawn(tmp_path).axes
        bottom, top = axes.get_ylim()
        assert bottom == pytest.approx(-0.52 - 0.03 * 1.52)  # the interval too
        assert top == 1
        assert [label.get_text() for label in axes.get_xticklabels()] == ["ridge", "attention"]

    def test_environments_stand_side_by_side_where_nothing_was_varied(self, tmp_path: Path) -> None:
        ceiling = {"23C": 0.9, "30C": 0.8}
        write_run(tmp_path / "0", "ridge", {"23C": 0.4, "30C": 0.6}, noise_ceiling_r2=ceiling)
        write_run(tmp_path / "1", "attention", {"23C": 0.5, "30C": 0.7}, noise_ceiling_r2=ceiling)
        (axes,) = drawn(tmp_path).axes
        by_model = {line.get_label(): line for line in axes.get_lines()}
        assert list(by_model["attention"].get_ydata()) == [0.5, 0.7]
        assert np.round(by_model["ridge"].get_xdata()).tolist() == [0, 1]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["23C", "30C"]
        heights = {
            y for lines in axes.collections if lines.get_label() == "noise ceiling"
            for segment in lines.get_segments() for _, y in segment
        }  # fmt: skip
        assert heights == {0.9, 0.8}

    def test_panels_share_their_scale_and_nothing_covers_the_data(self, tmp_path: Path) -> None:
        for job, (model, samples) in enumerate((m, n) for m in ("ridge", "attention") for n in (100, 1000, 10000)):
            test = {f"e{n}": -0.1 + 0.1 * n for n in range(5)}
            write_run(tmp_path / f"{job}", model, test, {"data.num_samples": samples})
        figure = drawn(tmp_path)
        assert len(figure.axes) == 5
        assert {axes.get_ylim() for axes in figure.axes} == {figure.axes[0].get_ylim()}
        assert {axes.get_xscale() for axes in figure.axes} == {"log"}
        figure.draw_without_rendering()
        legend = figure.legends[0].get_window_extent()
        boxes = [axes.get_tightbbox() for axes in figure.axes]
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ridge", "attention"]
        assert not any(legend.overlaps(box) for box in boxes)
        whole = figure.bbox
        for box in [legend, *boxes]:
            assert whole.x0 <= box.x0 < box.x1 <= whole.x1
            assert whole.y0 <= box.y0 < box.y1 <= whole.y1

    def test_a_model_without_the_swept_setting_is_a_level(self, tmp_path: Path) -> None:
        write_run(tmp_path / "0", "ridge", 0.4)
        for dim in (12, 30):
            write_run(tmp_path / f"{dim}", "attention", 0.5, {"model.embedding_dim": dim})
        figure = drawn(tmp_path)
        dotted = [line for line in figure.axes[0].get_lines() if line.get_linestyle() == ":"]
        assert [set(line.get_ydata()) for line in dotted] == [{0.4}]
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ridge", "attention"]

    def test_strange_names_are_drawn_as_they_are(self, tmp_path: Path) -> None:
        for order in (1, 2):
            write_run(tmp_path / f"{order}", r"_$\nonsense{$", {"$a_": 0.3, "b" * 300: 0.4}, {"data.order": order})
        figure = drawn(tmp_path)
        figure.draw_without_rendering()
        assert [text.get_text() for text in figure.legends[0].get_texts()] == [r" _$\nonsense{$"]
        assert figure.axes[0].get_title() == "$a_"
        assert len(figure.axes[1].get_title().replace("\n", "")) == 90

    def test_files_are_a_picture_and_a_drawing_the_same_bytes_twice(self, order_sweep: Path, tmp_path: Path) -> None:
        runs = collect_runs([order_sweep])
        png, svg = r2_figure(runs, tmp_path / "one")
        assert (png.name, svg.name) == ("r2.png", "r2.svg")
        height, width, _ = matplotlib.image.imread(png).shape
        assert (width, height) == (1200, 840)  # 6 x 4.2 inches at 200 dpi
        root = ElementTree.fromstring(svg.read_bytes())
        texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
        assert {"epistasis order", "attention", "noise ceiling", "test R²"} <= texts
        assert b"dc:date" not in svg.read_bytes()
        again = r2_figure(runs, tmp_path / "two")
        assert [path.read_bytes() for path in again] == [png.read_bytes(), svg.read_bytes()]
