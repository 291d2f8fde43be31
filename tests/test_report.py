"""The report: which runs are found, what was varied, what is written, and that damaged runs stop nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from report_runs import (
    ORDER_SCORES,
    config_of,
    metrics_of,
    scores,
    split_scores,
    write_failed,
    write_order_sweep,
    write_run,
)

from gpmap_cli.errors import InputError
from gpmap_cli.report.collect import Runs, collect_runs, in_step, natural, replicate_keys, swept_keys
from gpmap_cli.report.tables import render, results_table
from gpmap_cli.report.write import write_report


@pytest.fixture
def order_sweep(tmp_path: Path) -> Path:
    return write_order_sweep(tmp_path / "sweep")


class TestCollect:
    def test_values_land_in_their_fields(self, tmp_path: Path) -> None:
        write_run(tmp_path / "a", "ridge", {"23C": 0.4, "30C": 0.6}, seed=7, noise_ceiling_r2={"23C": 0.9, "30C": None})
        (run,) = collect_runs([tmp_path / "a"])
        assert (run.name, run.status, run.model, run.data, run.seed) == ("a", "completed", "ridge", "simulated", 7)
        assert run.mean_r2 == pytest.approx({"train": 0.55, "validation": 0.52, "test": 0.5})
        cell = run.splits["test"].environments["30C"]
        assert (cell.r2, cell.r2_ci95, cell.pearson_r, cell.num_samples) == (0.6, pytest.approx((0.58, 0.61)), 0.9, 300)
        assert cell.mse == pytest.approx(0.4)
        assert run.noise_ceiling_r2 == {"23C": 0.9}
        assert (run.num_parameters, run.seconds["fit"], run.peak_memory_mb) == (101, 2.5, 321.5)
        assert run.config["data.order"] == 2
        assert run.config["data.num_samples"] is None
        assert run.config["data.environments"] == "30C"
        assert run.trouble == ""

    def test_runs_are_found_at_any_depth_each_once_and_in_the_order_of_their_jobs(self, tmp_path: Path) -> None:
        for name in ("day/2", "day/10", "day/1", "other/deep/er/0"):
            write_run(tmp_path / name)
        (tmp_path / "link").symlink_to(tmp_path / "day")
        (tmp_path / "day" / "loop").symlink_to(tmp_path)
        names = [run.name for run in collect_runs([tmp_path, tmp_path / "day", tmp_path / "day" / "1"])]
        assert len(names) == 4
        assert [name.rpartition("/")[2] for name in names if "er" not in name] == ["1", "2", "10"]
        assert [run.name for run in collect_runs([tmp_path / "day" / "10", tmp_path / "day" / "2"])] == ["2", "10"]
        assert sorted(["b10", "b9", "b", "10", "9"], key=natural) == ["9", "10", "b", "b9", "b10"]

    def test_only_runs_that_score_something_count(self, tmp_path: Path) -> None:
        write_run(tmp_path / "run")
        write_run(tmp_path / "run" / "evaluate")  # within a run: belongs to it
        write_run(tmp_path / ".hidden")
        for name, config in (
            ("run/.hydra", config_of("ridge", 0, {})),
            ("predictions", {"run": "somewhere"}),
            ("simulation", {"data": {"name": "simulated"}}),
        ):
            (tmp_path / name).mkdir(parents=True)
            (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(config))
        assert [run.name for run in collect_runs([tmp_path])] == ["run"]

    def test_what_cannot_be_collected_is_the_users_error(self, tmp_path: Path) -> None:
        write_run(tmp_path / "multirun")
        (tmp_path / "empty").mkdir()
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError) as caught:
            collect_runs([tmp_path / "multrun", tmp_path / "file"])
        text = "\n".join(caught.value.lines())
        assert "multrun is not there" in text
        assert f"did you mean {tmp_path}/multirun?" in text
        assert "file is a file" in text
        with pytest.raises(InputError, match="no runs in"):
            collect_runs([tmp_path / "empty"])
        with pytest.raises(InputError, match="no run directory"):
            collect_runs([])

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("", "cannot be read"),
            ('{"status": "comp', "cannot be read"),
            ("\xff\xfe", "cannot be read"),
            ("[" * 100_000, "cannot be read"),
            ('{"peak_memory_mb": NaN}', "NaN is no JSON number"),
            ("null", "the whole file must be a mapping"),
            ("[1]", "the whole file must be a mapping"),
            ({"status": "done"}, "status must be one of completed, failed"),
            ({"splits": {}}, "splits must be the scores by split"),
            ({"splits": {"test": {"environments": {}}}}, "splits.test.mean_r2 is missing"),
            (
                {"splits": {"test": {"mean_r2": 0.5, "environments": {"23C": scores(0.5) | {"r2": "high"}}}}},
                "splits.test.environments.23C.r2 must be a number or null, got 'high'",
            ),
            (
                {"splits": {"test": {"mean_r2": 0.5, "environments": {"23C": scores(0.5) | {"r2_ci95": [0.1]}}}}},
                "splits.test.environments.23C.r2_ci95 must be two numbers or null",
            ),
            ({"seed": 1.5}, "seed must be a whole number"),
            ({"num_parameters": True}, "num_parameters must be a whole number"),
            ({"peak_memory_mb": 10**400}, "peak_memory_mb must be a number"),
            ({"seconds": [1]}, "seconds must be a mapping"),
            ({"noise_ceiling_r2": {"23C": []}}, "noise_ceiling_r2.23C must be a number"),
            ({"model": 3}, "model must be a text, got 3"),
        ],
    )
    def test_a_damaged_metrics_file_is_a_problem_of_its_run(
        self, tmp_path: Path, content: str | dict[str, Any], said: str
    ) -> None:
        write_run(tmp_path / "good", test=0.7)
        write_run(tmp_path / "bad", "attention")
        if isinstance(content, dict):
            content = json.dumps(metrics_of("attention", {"23C": 0.5}) | content)
        (tmp_path / "bad" / "metrics.json").write_bytes(content.encode("latin-1"))
        bad, good = collect_runs([tmp_path])
        assert good.completed
        assert (bad.status, bad.model, bad.splits) == ("unreadable", "attention", {})
        assert said in bad.trouble
        assert "bad: unreadable: metrics.json" in render(results_table(Runs((bad, good))))

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (None, "config.yaml is missing"),
            ("a: [", "config.yaml cannot be read"),
            ("- 1", "config.yaml holds no settings"),
            ("a: !!timestamp nonsense", "config.yaml cannot be read"),
            ("a: &a [*a]", "config.yaml holds more than"),
            ("\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else '0'] * 9)}]" for n in range(9)), "more than"),
        ],
    )
    def test_a_damaged_config_leaves_the_scores(self, tmp_path: Path, content: str | None, said: str) -> None:
        write_run(tmp_path / "run", test=0.7)
        (tmp_path / "run" / "config.yaml").unlink()
        if content is not None:
            (tmp_path / "run" / "config.yaml").write_text(content)
        (run,) = collect_runs([tmp_path])
        assert (run.status, run.mean_r2["test"]) == ("completed", 0.7)
        assert said in run.trouble

    def test_a_file_from_a_stranger_executes_nothing_and_steers_no_terminal(self, tmp_path: Path) -> None:
        write_run(tmp_path / "run", "ridge", {"\x1b[31mred\n": 0.4})
        trap = tmp_path / "trap"
        (tmp_path / "run" / "config.yaml").write_text(f"a: !!python/object/apply:os.mkdir ['{trap}']\n")
        (run,) = collect_runs([tmp_path])
        assert not trap.exists()
        assert "config.yaml cannot be read" in run.trouble
        assert list(run.splits["test"].environments) == ["?[31mred"]

    def test_a_run_without_metrics_is_listed_as_unfinished(self, tmp_path: Path) -> None:
        run = write_run(tmp_path / "run", "attention", seed=3)
        (run / "metrics.json").unlink()
        (found,) = collect_runs([tmp_path])
        assert (found.status, found.model, found.seed) == ("unfinished", "attention", 3)
        assert "metrics.json is missing" in found.trouble

    def test_of_a_traceback_the_last_line_is_the_error(self, tmp_path: Path) -> None:
        write_failed(tmp_path / "run", "ridge", {}, "Traceback (most recent call last):\n  File x\nValueError: boom\n")
        (run,) = collect_runs([tmp_path])
        assert (run.status, run.error) == ("failed", "ValueError: boom")


class TestWhatWasVaried:
    def test_the_sweep_is_what_differs_but_for_models_and_seeds(self, tmp_path: Path) -> None:
        write_run(tmp_path / "0", "ridge", settings={"data.order": 1}, seed=1)
        write_run(tmp_path / "1", "attention", settings={"data.order": 2, "split.fold": 1}, seed=2)
        runs = collect_runs([tmp_path])
        assert swept_keys(runs) == ["data.order"]
        assert replicate_keys(runs) == ["split.fold", "seed"]

    def test_a_models_own_setting_counts_when_it_differs_within_the_model(self, tmp_path: Path) -> None:
        for dim in (12, 30):
            write_run(tmp_path / f"{dim}", "attention", settings={"model.embedding_dim": dim})
        write_run(tmp_path / "ridge", "ridge")
        assert swept_keys(collect_runs([tmp_path])) == ["model.embedding_dim"]

    def test_another_dataset_is_one_difference_however_many_settings_it_brings(self, tmp_path: Path) -> None:
        write_run(tmp_path / "0", settings={"data.name": "simulated", "data.order": 3})
        write_run(tmp_path / "1", settings={"data.name": "yeast", "data.order": None, "data.path": "yeast.h5"})
        write_run(tmp_path / "2", settings={"training.name": "paper", "training.epochs": 200, "data.order": 3})
        assert swept_keys(collect_runs([tmp_path])) == ["data.name", "training.name"]

    def test_a_list_of_one_is_its_element(self, tmp_path: Path) -> None:
        write_run(tmp_path / "0", settings={"data.order": [3], "data.environments": ["23C", "30C"]})
        (run,) = collect_runs([tmp_path])
        assert run.config["data.order"] == 3
        assert run.config["data.environments"] == "23C,30C"

    def test_a_run_without_a_readable_config_is_no_difference(self, tmp_path: Path) -> None:
        write_run(tmp_path / "0")
        write_run(tmp_path / "1")
        (write_run(tmp_path / "2") / "config.yaml").write_text("")
        assert swept_keys(collect_runs([tmp_path])) == []

    def test_settings_that_change_together_are_one_variable(self) -> None:
        columns = {"a": [1, 2, 1], "b": ["x", "y", "x"], "c": [1, 1, 2], "d": [True, 1, True]}
        assert in_step(columns) == [["a", "b", "d"], ["c"]]


class TestReport:
    def test_everything_is_written_whole(self, order_sweep: Path, tmp_path: Path) -> None:
        write_failed(order_sweep / "9", "ridge", {"data.order": 3}, "boom")
        lines = write_report([order_sweep], tmp_path / "report")
        written = sorted(
            path.relative_to(tmp_path / "report").as_posix() for path in (tmp_path / "report").rglob("*.*")
        )
        assert written == ["figures/r2.png", "figures/r2.svg", "report.txt", "results.csv"]
        assert lines[-1] == "wrote results.csv, report.txt, figures/r2.png, figures/r2.svg"
        assert (tmp_path / "report" / "report.txt").read_text().splitlines() == lines[:-2]
        table = pd.read_csv(tmp_path / "report" / "results.csv", dtype={"run": str})
        assert table.columns[0] == "data.order"
        assert list(table["data.order"]) == [1, 1, 1, 2, 2, 2, 10, 10, 10, 3]
        assert list(table["r2"][:9]) == list(ORDER_SCORES.values())
        assert table.loc[9, ["status", "run", "problem"]].tolist() == ["failed", "9", "boom"]

    def test_evaluations_of_other_data_are_compared_by_what_they_scored(self, tmp_path: Path) -> None:
        for model, r2 in (("ridge", 0.4), ("attention", 0.5)):
            write_run(tmp_path / "runs" / model, model, splits={"all": split_scores({"30C": r2})})
        lines = write_report([tmp_path / "runs"], tmp_path / "report")
        assert lines[0].split()[:3] == ["model", "all", "R^2"]
        assert lines[1].split()[:2] == ["attention", "0.500"]
        assert b"of all samples" in (tmp_path / "report" / "figures" / "r2.svg").read_bytes()

    def test_a_job_refused_before_it_began_is_listed_and_makes_no_column(
        self, order_sweep: Path, tmp_path: Path
    ) -> None:
        (order_sweep / "9").mkdir()
        (order_sweep / "9" / "metrics.json").write_text('{"status": "failed", "error": "no such order", "splits": {}}')
        lines = write_report([order_sweep], tmp_path / "report")
        assert lines[1].split() == ["data.order", "ridge", "pairwise", "attention", "ceiling"]
        assert [line.split()[0] for line in lines[2:5]] == ["1", "2", "10"]
        assert lines[5:8] == ["", lines[6], "  9: failed: no such order"]
        alone = render(results_table(collect_runs([order_sweep / "9"])))
        assert alone.splitlines()[1].split() == ["unknown", "failed", "-", "-", "9"]

    def test_with_no_score_at_all_there_is_no_figure(self, tmp_path: Path) -> None:
        write_failed(tmp_path / "runs" / "0", "ridge", {}, "boom")
        lines = write_report([tmp_path / "runs"], tmp_path / "report")
        assert "  0: failed: boom" in lines
        assert lines[-1] == "wrote results.csv, report.txt"
        assert not (tmp_path / "report" / "figures").exists()

    def test_the_report_needs_neither_torch_nor_hydra_nor_a_display(self, order_sweep: Path, tmp_path: Path) -> None:
        script = (
            "import sys\n"
            "from pathlib import Path\n"
            "from gpmap_cli.report.write import write_report\n"
            "assert not {'matplotlib', 'pandas'} & set(sys.modules)\n"
            "write_report([sys.argv[1]], Path(sys.argv[2]))\n"
            "print(sorted({'torch', 'hydra', 'omegaconf', 'h5py', 'matplotlib.pyplot', 'scipy'} & set(sys.modules)))"
        )
        command = [sys.executable, "-c", script, str(order_sweep), str(tmp_path / "report")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == "[]\n"
