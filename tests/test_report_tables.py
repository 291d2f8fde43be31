"""The report's tables: every score in its cell, failures in theirs, and all of it within a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from report_runs import metrics_of, split_scores, write_failed, write_order_sweep, write_run

from gpmap_cli.report.collect import collect_runs
from gpmap_cli.report.tables import render, results_table, run_table


@pytest.fixture
def order_sweep(tmp_path: Path) -> Path:
    return write_order_sweep(tmp_path / "sweep")


def rows_of(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


class TestTables:
    def test_the_tidy_table_holds_a_mean_row_and_a_row_per_environment(self, tmp_path: Path) -> None:
        ceiling = {"23C": 0.9, "mean": 0.8}
        write_run(tmp_path / "0", "ridge", {"23C": 0.4, "mean": 0.6}, {"data.order": 1}, 1, noise_ceiling_r2=ceiling)
        write_run(tmp_path / "1", "ridge", 0.3, {"data.order": 2}, 2)
        table = results_table(collect_runs([tmp_path]))
        assert list(table.columns) == [
            "data.order", "model", "seed", "split", "environment", "r2", "ci_low", "ci_high", "pearson_r",
            "num_samples", "noise_ceiling_r2", "seconds_fit", "peak_memory_mb", "status", "run", "problem",
        ]  # fmt: skip
        assert list(table["environment"]) == ["mean", "23C", "environment mean", "mean"]
        assert list(table["r2"]) == pytest.approx([0.5, 0.4, 0.6, 0.3])
        assert list(table["ci_low"].isna()) == [True, False, False, False]
        assert list(table["ci_high"][1:]) == pytest.approx([0.41, 0.61, 0.31])
        assert list(table["noise_ceiling_r2"][:3]) == pytest.approx([0.85, 0.9, 0.8])
        assert list(table["data.order"]) == [1, 1, 1, 2]
        assert list(table["seed"]) == [1, 1, 1, 2]
        assert set(table["seconds_fit"]) == {2.5}
        assert list(results_table(collect_runs([tmp_path]), "train")["r2"])[-1] == pytest.approx(0.35)

    def test_a_sweep_of_one_setting_is_shown_with_models_side_by_side(self, order_sweep: Path) -> None:
        lines = rows_of(render(results_table(collect_runs([order_sweep]))))
        assert lines == [
            ["test", "R^2"],
            ["data.order", "ridge", "pairwise", "attention", "ceiling"],
            ["1", "0.910", "0.920", "0.930", "0.962"],
            ["2", "0.510", "0.820", "0.830", "0.962"],
            ["10", "0.110", "0.120", "0.730", "0.962"],
        ]

    def test_a_failed_run_says_so_in_its_place_and_why_below(self, order_sweep: Path) -> None:
        write_failed(order_sweep / "9", "transformer", {"data.order": 2}, "FitFailed: the loss is not finite")
        text = render(results_table(collect_runs([order_sweep])))
        assert ["2", "0.510", "0.820", "0.830", "failed", "0.962"] in rows_of(text)
        assert ["1", "0.910", "0.920", "0.930", "-", "0.962"] in rows_of(text)
        assert "1 of 10 runs did not complete" in text
        assert text.endswith("  9: failed: FitFailed: the loss is not finite")

    def test_seeds_are_averaged_and_a_missing_one_is_marked(self, tmp_path: Path) -> None:
        for order in (1, 2):
            for seed in (0, 1, 2):
                write_run(tmp_path / f"{order}{seed}", "ridge", 0.1 * order + 0.01 * seed, {"data.order": order}, seed)
        text = render(results_table(collect_runs([tmp_path])))
        assert rows_of(text)[2:4] == [["1", "0.110"], ["2", "0.210"]]
        assert text.endswith("each value is the mean over 3 runs that differ in seed")
        metrics = json.loads((tmp_path / "12" / "metrics.json").read_text()) | {"status": "interrupted"}
        (tmp_path / "12" / "metrics.json").write_text(json.dumps(metrics))
        text = render(results_table(collect_runs([tmp_path])))
        assert rows_of(text)[2:4] == [["1", "0.105*"], ["2", "0.210"]]
        assert "* over fewer than 3 runs" in text
        assert "12: interrupted" in text

    def test_seeds_alone_are_listed_and_summarised(self, tmp_path: Path) -> None:
        for seed, r2 in enumerate((0.4, 0.5, 0.9)):
            write_run(tmp_path / f"{seed}", "ridge", r2, seed=seed)
        lines = rows_of(render(results_table(collect_runs([tmp_path]))))
        assert lines[1][:3] == ["ridge", "0", "0.400"]
        assert lines[-1] == ["ridge", "0.600", f"{np.std([0.4, 0.5, 0.9], ddof=1):.3f}", "3"]

    def test_without_a_sweep_the_environments_are_the_rows(self, tmp_path: Path) -> None:
        write_run(tmp_path / "0", "ridge", {"23C": 0.4, "30C": 0.6})
        write_run(tmp_path / "1", "attention", {"23C": 0.5, "30C": None})
        write_failed(tmp_path / "2", "pairwise", {}, "out of memory")
        lines = rows_of(render(results_table(collect_runs([tmp_path]))))
        assert lines[:5] == [
            ["test", "R^2"],
            ["environment", "ridge", "attention", "pairwise"],
            ["23C", "0.400", "0.500", "-"],
            ["30C", "0.600", "undefined", "-"],
            ["mean", "0.500", "0.500", "failed"],
        ]

    def test_a_sweep_over_many_environments_says_that_it_shows_their_mean(self, tmp_path: Path) -> None:
        for order in (1, 2):
            write_run(tmp_path / f"{order}", "ridge", {"23C": 0.4, "30C": 0.6}, {"data.order": order})
        assert render(results_table(collect_runs([tmp_path]))).startswith("test R^2, mean over 2 environments\n")
        write_run(tmp_path / "3", "ridge", 0.4, {"data.order": 3})
        assert render(results_table(collect_runs([tmp_path]))).startswith("test R^2, mean over environments\n")

    def test_two_swept_settings_make_a_list_that_fits_the_terminal(self, tmp_path: Path) -> None:
        job = 0
        for order in (1, 2):
            for epsilon in (0.0, 0.5):
                settings = {"data.order": order, "data.epsilon": epsilon}
                write_run(tmp_path / f"a-rather-long-name-of-a-job-{job}", "attention", 0.25 * job, settings)
                job += 1
        text = render(results_table(collect_runs([tmp_path])))
        assert rows_of(text)[2][:8] == ["1", "0.5", "attention", "0.250", "0.230", "to", "0.260", "0.900"]
        assert max(map(len, text.splitlines())) <= 100
        narrow = render(results_table(collect_runs([tmp_path])), width=50)
        assert max(map(len, narrow.splitlines())) <= 50
        assert rows_of(narrow)[2][:4] == ["1", "0.5", "attention", "0.250"]

    def test_settings_that_change_together_are_the_rows_of_one_table(self, tmp_path: Path) -> None:
        for loci in (10, 20):
            settings = {"data.num_loci": loci, "data.num_interactions": loci}
            write_run(tmp_path / f"{loci}", "ridge", loci / 100, settings)
        lines = rows_of(render(results_table(collect_runs([tmp_path]))))
        assert lines[1:] == [
            ["data.num_loci", "data.num_interactions", "ridge"], ["10", "10", "0.100"], ["20", "20", "0.200"]
        ]  # fmt: skip

    def test_a_single_run_shows_all_it_knows(self, tmp_path: Path) -> None:
        run = write_run(tmp_path / "run", "ridge", {"23C": 0.4, "30C": 0.6})
        lines = rows_of(render(results_table(collect_runs([run]))))
        assert [line[1:3] for line in lines[1:]] == [["mean", "0.500"], ["23C", "0.400"], ["30C", "0.600"]]
        alone = write_run(tmp_path / "alone", "ridge", 0.4, noise_ceiling_r2={"30C": 0.9})
        assert rows_of(render(results_table(collect_runs([alone]))))[1] == [
            "ridge", "0.400", "0.380", "to", "0.410", "0.900", "300", "0.900", "2.5", "322", "alone"
        ]  # fmt: skip

    def test_where_all_failed_each_run_is_listed(self, tmp_path: Path) -> None:
        for order in (1, 2):
            write_failed(tmp_path / f"{order}", "ridge", {"data.order": order}, "boom")
        lines = rows_of(render(results_table(collect_runs([tmp_path]))))
        assert lines[1] == ["1", "ridge", "failed", "-", "-", "1"]

    def test_evaluations_of_fits_of_one_model_are_told_apart(self, tmp_path: Path) -> None:
        for name in ("x", "y"):
            write_run(tmp_path / name, "ridge", 0.5, {"run": f"outputs/{name}"})
        table = results_table(collect_runs([tmp_path]))
        assert list(table["setting run"]) == ["outputs/x", "outputs/y"]
        assert list(table["run"]) == ["x", "y"]

    def test_undefined_scores_are_missing_not_zero(self, tmp_path: Path) -> None:
        nulls = {"num_parameters": None, "peak_memory_mb": None, "seconds": {"fit": None}, "seed": None}
        run = write_run(tmp_path / "run", "ridge", {"23C": None}, **nulls)
        table = results_table(collect_runs([run]))
        assert table[["r2", "ci_low", "pearson_r", "seconds_fit", "peak_memory_mb"]].isna().all(axis=None)
        assert rows_of(render(table))[1] == ["ridge", "undefined", "-", "300", "run"]


class TestRunTable:
    def test_rows_are_environments_and_columns_the_splits(self) -> None:
        metrics = metrics_of("ridge", {"23C": 0.4, "30C": 0.6}, noise_ceiling_r2={"23C": 0.9, "30C": 0.8})
        assert run_table(metrics).splitlines() == [
            "environment  train R^2  validation R^2  test R^2  test 95% interval      r    n  ceiling",
            "23C              0.450           0.420     0.400     0.380 to 0.410  0.900  300    0.900",
            "30C              0.650           0.620     0.600     0.580 to 0.610  0.900  300    0.800",
            "mean             0.550           0.520     0.500                  -  0.900    -    0.850",
        ]

    def test_one_environment_has_no_mean_row_and_unknown_ceilings_no_column(self) -> None:
        lines = rows_of(run_table(metrics_of("ridge", {"30C": None})))
        assert len(lines) == 2
        assert lines[0][-1] == "n"
        assert lines[1] == ["30C", "-", "-", "-", "-", "-", "300"]

    def test_names_do_not_steer_the_terminal(self) -> None:
        assert "\x1b" not in run_table(metrics_of("ridge", {"\x1b[31mred": 0.4}))

    def test_an_evaluation_of_other_rows_shows_those(self) -> None:
        table = run_table({"splits": {"all": split_scores({"30C": 0.6})}})
        assert table.splitlines()[0] == "environment  all R^2  all 95% interval      r    n"
        assert run_table({"status": "failed", "splits": {}}) == "no scores"
