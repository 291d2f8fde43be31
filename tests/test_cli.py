"""The command from outside: exit statuses, messages, what is printed where, what is left on the disk."""

from __future__ import annotations

import json
import os
import re
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import ROOT

from gpmap_cli.config.schema import COMMANDS, SIMULATED_DATA
from gpmap_cli.dataset.settings import FileData, Split
from gpmap_cli.launchers.jobs import expand, job_name
from gpmap_cli.ld_pruning.settings import Pruning
from gpmap_cli.prepare import sources
from gpmap_cli.training.settings import TrainingSettings

TINY = ("data.num_samples=300", "data.num_loci=6")


def refused(result, *texts):
    """Exit status 2, `error:` and `hint:` lines, no traceback, nothing on standard output."""
    assert result.returncode == 2, result.stderr
    lines = result.stderr.splitlines()
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    errors = [line for line in lines if line.startswith("error: ")]
    hints = [line for line in lines if line.startswith("hint: ")]
    assert errors
    assert len(errors) == len(hints)
    for text in texts:
        assert text in result.stderr
    return True


def last_line(result):
    assert result.returncode == 0, result.stderr
    return Path(result.stdout.splitlines()[-1])


# -- help ------------------------------------------------------------------------------------------------


def test_the_module_is_the_command(gpmap_process):
    assert gpmap_process("--version").stdout.startswith("gpmap 0")
    assert refused(gpmap_process("tran"), "did you mean train?")


def test_help_names_every_command(gpmap):
    result = gpmap("--help")
    assert result.returncode == 0
    assert all(f"  {name} " in result.stdout for name in COMMANDS)
    assert gpmap("--version").stdout.startswith("gpmap 0")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_lists_its_keys(gpmap, command):
    result = gpmap(command, "--help")
    assert result.returncode == 0
    for item in fields(COMMANDS[command].root):
        assert re.search(rf"^  {item.name}: ", result.stdout, re.MULTILINE)
    for group in COMMANDS[command].groups:
        assert f"  {group}: " in result.stdout


def test_help_follows_the_choice(gpmap):
    assert "model.additive_penalty" in gpmap("train", "model=pairwise", "--help").stdout


def test_light_commands_import_nothing_heavy(gpmap_process):
    for words in (("--help",), ("train", "model.embeding_dim=3"), ("tran",)):
        result = gpmap_process(*words, env={"PYTHONPROFILEIMPORTTIME": "1"})
        imported = {line.rsplit("|", 1)[-1].strip() for line in result.stderr.splitlines() if "import time:" in line}
        assert imported
        assert not imported & {"torch", "numpy", "pandas", "h5py", "matplotlib"}
        if words == ("--help",):
            assert "hydra" not in imported


# -- configuration ---------------------------------------------------------------------------------------


def keys_of(group):
    return {path.stem: list(yaml.safe_load(path.read_text())) for path in (ROOT / "configs" / group).glob("*.yaml")}


def test_every_configuration_file_has_exactly_the_keys_of_its_settings():
    checked = 0
    for group, of in (
        ("data", lambda name: SIMULATED_DATA.get(name, FileData)),
        ("training", lambda _: TrainingSettings),
        ("split", lambda _: Split),
        ("source", sources.settings_class),
        ("prune", lambda _: Pruning),
    ):
        for name, keys in keys_of(group).items():
            assert keys == [item.name for item in fields(of(name))], f"{group}/{name}"
            checked += 1
    assert checked >= 13
    for name, command in COMMANDS.items():
        primary = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
        assert set(primary) - {"defaults"} == {item.name for item in fields(command.root)}


def test_cfg_prints_the_composed_configuration(gpmap):
    result = gpmap("train", "--cfg", "job", "model=ridge", "seed=7")
    assert result.returncode == 0
    composed = yaml.safe_load(result.stdout)
    assert composed["model"] == {
        "name": "ridge",
        "penalty": None,
        "penalty_choice": "loo",
        "route": "auto",
        "weighted": False,
    }
    assert composed["seed"] == 7
    assert set(composed) == {*COMMANDS["train"].groups, *(item.name for item in fields(COMMANDS["train"].root))}


def test_all_problems_are_reported_at_once(gpmap, tmp_path):
    result = gpmap(
        "train", "model.embeding_dim=3", "data.ordr=2", "training.epochs=0", "split=radnom", "seed=-1",
        "precision=float16", "data.num_samples=many", "+nope=1",
    )  # fmt: skip
    assert refused(
        result,
        "error: model.embeding_dim is not a setting of attention\nhint: did you mean model.embedding_dim?",
        "data.ordr is not a setting of simulated\nhint: did you mean data.order?",
        "training.epochs must be at least 1, got `0`",
        "`radnom` is not a choice of split\nhint: did you mean split=random?",
        "seed must be at least 0",
        "precision must be one of",
        "data.num_samples must be a whole number, got `many`",
        "nope is not a setting of train",
    )
    assert result.stderr.count("error: ") == 8
    assert list(tmp_path.iterdir()) == []


def test_rules_across_fields_do_not_wait_for_other_fields(gpmap):
    result = gpmap(
        "train", "data.noise=-1", "data.num_loci=5", "data.order=6", "split.seed=x", "split.test_fraction=0.9",
        "split.validation_fraction=0.5", "memory_limit=lots", "seed=-1",
    )  # fmt: skip
    assert refused(
        result,
        "data.noise must be at least 0",
        "data.order must be 1..data.num_loci (5), got `6`",
        "split.seed must be a whole number",
        "leave no training samples",
        "memory_limit must be a size",
        "seed must be at least 0",
    )
    assert result.stderr.count("error: ") == 6


def test_all_choices_of_a_group_are_listed(gpmap):
    result = gpmap("prepare", "source=foo", "out=x.h5")
    assert refused(result, "`foo` is not a choice of source")
    assert "more" not in result.stderr
    assert all(f"`source={name}`" in result.stderr for name in sources.names())


REFUSED = {
    "unknown command": (("tran",), "did you mean train?"),
    "unknown flag": (("train", "--multrun"), "did you mean --multirun?"),
    "no override": (("train", "ridge"), "neither a flag nor an override"),
    "unknown model": (("train", "model=rigde"), "did you mean model=ridge?"),
    "unknown data": (("train", "data=rdb"), "did you mean data=rbd?"),
    "unknown group": (("evaluate", "run=x", "model=ridge"), "model is not a group of gpmap evaluate"),
    "list without -m": (("train", "data.order=1,2"), "add -m"),
    "syntax": (("train", "data.order=[1,"), "cannot be parsed"),
    "hydra key": (("train", "hydra.run.dri=x"), "did you mean hydra.run.dir?"),
    "missing run": (("evaluate",), "run is not set"),
    "missing out": (("prepare",), "out is not set"),
    "missing path": (("info",), "path is not set"),
    "config-dir": (("train", "--config-dir", "nowhere"), "not a directory"),
    "bad cfg": (("train", "--cfg", "jobs"), "did you mean job?"),
    "no such file": (("train", "data=file", "data.path=nowhere.h5"), "no such file"),
    "no path": (("train", "data=file"), "data.path is not set"),
    "yeast": (("train", "data=yeast"), "10.5061/dryad.1rn8pk0vd"),
    "too many interactions": (("train", "data.num_loci=5", "data.order=2", "data.num_interactions=11"), "error"),
    "order": (("train", "data.num_loci=5", "data.order=6"), "data.order"),
    "no such run": (("evaluate", "run=nowhere"), "no such run directory"),
    "resume nowhere": (("train", "resume=nowhere"), "no such run directory"),
    "resume with changes": (("train", "resume=nowhere", "seed=3"), "cannot be changed"),
    "sweep of info": (("info", "-m", "x"), "nothing to sweep"),
    "report nowhere": (("report", "nowhere"), "nowhere"),
    "simulate a file": (("simulate", "data=rbd"), "read, not simulated"),
    "environment": (("train", "data=rbd", "data.environments=[ACE3]"), "did you mean data.environments=ACE2?"),
    "locus": (("train", "data=rbd", "data.loci=[G339]"), "did you mean data.loci=G339D?"),
    "too many samples": (("train", "data=rbd", "data.num_samples=40000"), "at most 32768"),
    "launcher": (("train", "-m", "hydra/launcher=slrum", "seed=1"), "launcher"),
    "no group": (("train", "data=null"), "data is not set"),
    "impossible directory": (("train", "model=mean", *TINY, "hydra.run.dir=/proc/nowhere/run"), "cannot be made"),
    "who decides nothing": (("train", "prune.rows=all"), "add prune.max_abs_r=0.94"),
    "split of no pruning": (("simulate", "prune.split=paper"), "prune.split is about LD pruning, which is off"),
    "all and some": (("train", "prune.max_abs_r=0.9", "prune.rows=all", "prune.split=paper"), "leave one of"),
    "fractions": (("train", "split.test_fraction=0.6", "split.validation_fraction=0.5"), "below 1"),
    "cuda": (("train", *TINY, "device=cuda", "training=debug"), "device=cpu"),
}


@pytest.mark.parametrize(("words", "text"), REFUSED.values(), ids=REFUSED)
def test_misuse(gpmap, tmp_path, words, text):
    if "device=cuda" in words:
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a CUDA device")
    assert refused(gpmap(*words), text)
    if "device=cuda" not in words:  # found out only when torch is there; the run directory says failed
        assert list(tmp_path.iterdir()) == []


def test_config_dir_adds_choices(gpmap, tmp_path):
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "stiff.yaml").write_text("name: ridge\npenalty: 1e6\npenalty_choice: loo\n")
    directory = tmp_path / last_line(gpmap("train", "--config-dir", "mine", "model=stiff", *TINY))
    assert yaml.safe_load((directory / "config.yaml").read_text())["model"]["penalty"] == 1e6
    bad = tmp_path / "mine" / "model" / "bad.yaml"
    bad.write_text("name: ridge\npenalti: 3\n")
    assert refused(gpmap("train", "--config-dir", "mine", "model=bad"), "did you mean model.penalty?")
    bad.write_text("name: [ridge\n")
    assert refused(gpmap("train", "--config-dir", "mine", "model=bad"))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(gpmap, shell):
    result = gpmap("-sc", f"install={shell}")
    assert result.returncode == 0
    assert result.stdout


@pytest.mark.parametrize(
    ("line", "offered", "not_offered"),
    [
        ("gpmap ", {"train", "simulate", "report"}, set()),
        ("gpmap tr", {"train"}, set()),
        ("gpmap train model=", {"model=ridge", "model=attention"}, set()),
        ("gpmap train data.nu", {"data.num_samples=", "data.num_loci="}, set()),
        ("gpmap transfer ", {"target=", "num_target=", "model="}, {"source=", "experiment="}),
        ("gpmap evaluate ", {"run=", "rows="}, {"model=", "source="}),
    ],
)
def test_completion(gpmap, line, offered, not_offered):
    result = gpmap("-sc", "query=bash", env={"COMP_LINE": line, "COMP_POINT": str(len(line))})
    assert result.returncode == 0
    words = set(result.stdout.split())
    if line.startswith("gpmap train data.nu"):
        words = {word if word.endswith("=") else word.split("=")[0] + "=" for word in words}
    assert offered <= words
    assert not not_offered & words


# -- runs ------------------------------------------------------------------------------------------------


def test_a_run_leaves_what_the_contract_says(gpmap, tmp_path):
    result = gpmap("train", "training=debug", *TINY, "data.environments=[23C,30C]", "hydra.run.dir=run")
    assert last_line(result) == Path("run")
    directory = tmp_path / "run"
    assert {path.name for path in directory.iterdir()} == {
        "config.yaml", "metrics.json", "metrics.csv", "history.csv", "predictions.csv.gz", "checkpoints",
        "provenance.json", "run.log",
    }  # fmt: skip
    assert {path.name for path in (directory / "checkpoints").iterdir()} == {"best.npz", "last.npz"}
    metrics = json.loads((directory / "metrics.json").read_text())
    assert metrics["status"] == "completed"
    assert (metrics["model"], metrics["data"], metrics["seed"]) == ("attention", "simulated", 0)
    assert metrics["num_parameters"] > 0
    assert set(metrics["seconds"]) == {"load", "fit", "evaluate"}
    assert metrics["peak_memory_mb"] > 10
    assert metrics["noise_ceiling_r2"] == {"23C": pytest.approx(1 / 1.04), "30C": pytest.approx(1 / 1.04)}
    assert set(metrics["splits"]) == {"train", "validation", "test"}
    predictions = pd.read_csv(directory / "predictions.csv.gz")
    assert list(predictions) == ["split", "sample_id", "environment", "observed", "predicted"]
    assert len(predictions) == 600
    tidy = pd.read_csv(directory / "metrics.csv")
    assert list(tidy) == ["split", "environment", "metric", "value", "num_samples"]
    for split, scores in metrics["splits"].items():
        r2 = []
        for environment, values in scores["environments"].items():
            assert set(values) == {"r2", "r2_ci95", "pearson_r", "mse", "num_samples"}
            part = predictions[(predictions.split == split) & (predictions.environment == environment)]
            residual = ((part.observed - part.predicted) ** 2).sum()
            expected = 1 - residual / ((part.observed - part.observed.mean()) ** 2).sum()
            assert values["r2"] == pytest.approx(expected, abs=1e-6)
            assert values["num_samples"] == len(part)
            r2.append(values["r2"])
        assert scores["mean_r2"] == pytest.approx(sum(r2) / 2)
    history = pd.read_csv(directory / "history.csv")
    assert ",".join(history) == "environment,epoch,train_loss,validation_loss,validation_r2,learning_rate,seconds"
    assert history.environment.tolist() == ["23C", "23C", "30C", "30C"]
    provenance = json.loads((directory / "provenance.json").read_text())
    assert provenance["ended"] >= provenance["started"]
    assert len(provenance["split_sha256"]) == 64
    assert provenance["command_line"][:2] == ["gpmap", "train"]
    log = (directory / "run.log").read_text()
    assert "300 samples (210 train, 45 validation, 45 test)" in log
    assert "\r" not in log + result.stderr


def test_a_directory_that_holds_a_run_is_refused(gpmap, tmp_path):
    assert last_line(gpmap("train", "model=mean", *TINY, "hydra.run.dir=run"))
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert refused(gpmap("train", "model=mean", *TINY, "hydra.run.dir=run"), "already holds a run")
    assert refused(gpmap("simulate", *TINY, "hydra.run.dir=run"), "already holds a run")
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_directories_may_have_any_name(gpmap, tmp_path):
    for name in ("mes données", "a b/ü", "x=y"):
        assert last_line(gpmap("train", "model=mean", *TINY, f"hydra.run.dir={name}")) == Path(name)
        assert gpmap("evaluate", f"run={name}").returncode == 0
        assert gpmap("info", f"path={name}").returncode == 0
        assert gpmap("train", f"resume={name}").returncode == 0


def test_two_runs_of_the_same_second_do_not_meet(gpmap, tmp_path):
    first, second = (last_line(gpmap("train", "model=mean", *TINY)) for _ in range(2))
    assert first != second
    assert re.fullmatch(r"outputs/train/\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d-[0-9a-f]{6}", str(first))


def test_the_configuration_of_a_run_is_enough_to_run_it_again(gpmap, tmp_path):
    gpmap("train", "model=ridge", *TINY, "seed=5", "hydra.run.dir=first")
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "config.yaml").write_bytes((tmp_path / "first" / "config.yaml").read_bytes())
    assert last_line(gpmap("train", "resume=second")) == Path("second")
    first, second = ((tmp_path / name / "predictions.csv.gz").read_bytes() for name in ("first", "second"))
    assert first == second


def test_test_phenotypes_change_scores_and_nothing_else(gpmap, tmp_path):
    """What is learned never sees them: permuting them leaves every prediction and every penalty as it was."""
    import h5py
    import numpy as np

    directory = last_line(gpmap("simulate", *TINY, "data.environments=[23C,30C]", "hydra.run.dir=sim"))
    source = tmp_path / directory / "dataset.h5"
    changed = tmp_path / "changed.h5"
    changed.write_bytes(source.read_bytes())
    first = {}
    for model in ("mean", "ridge", "pairwise", "attention", "attention_multi_env"):
        words = ("train", f"model={model}", "training=debug", "data=file")
        gpmap(*words, "data.path=sim/dataset.h5", f"hydra.run.dir=first_{model}")
        first[model] = pd.read_csv(tmp_path / f"first_{model}" / "predictions.csv.gz")
    ids = first["mean"].query("split == 'test'").sample_id.unique()
    with h5py.File(changed, "r+") as file:
        rows = np.flatnonzero(np.isin(file["samples/id"].asstr()[...], ids))
        values = file["phenotypes"][...]
        values[rows] = values[np.random.default_rng(0).permutation(rows)]
        file["phenotypes"][...] = values
    for model, before in first.items():
        gpmap(
            "train",
            f"model={model}",
            "training=debug",
            "data=file",
            "data.path=changed.h5",
            f"hydra.run.dir=second_{model}",
        )
        after = pd.read_csv(tmp_path / f"second_{model}" / "predictions.csv.gz")
        assert (after.predicted == before.predicted).all()
        assert not (after.observed == before.observed).all()
        r2 = [
            json.loads((tmp_path / f"{run}_{model}" / "metrics.json").read_text())["splits"]
            for run in ("first", "second")
        ]
        assert r2[0]["train"] == r2[1]["train"]
        assert r2[0]["validation"] == r2[1]["validation"]
        assert r2[0]["test"] != r2[1]["test"]


def test_simulated_data_are_those_of_gpmap_simulate(gpmap, tmp_path):
    gpmap("simulate", *TINY, "seed=4", "hydra.run.dir=sim")
    gpmap("train", "model=ridge", *TINY, "seed=4", "hydra.run.dir=drawn")
    gpmap("train", "model=ridge", "data=file", "data.path=sim/dataset.h5", "seed=4", "hydra.run.dir=read")
    drawn, read = ((tmp_path / name / "predictions.csv.gz").read_bytes() for name in ("drawn", "read"))
    assert drawn == read


# -- evaluate, predict, info ----------------------------------------------------------------------------


@pytest.fixture
def trained(gpmap):
    gpmap("simulate", *TINY, "data.environments=[23C,30C]", "hydra.run.dir=sim")
    gpmap("train", "model=ridge", "data=file", "data.path=sim/dataset.h5", "hydra.run.dir=run")
    return gpmap


def test_evaluate_gives_the_scores_of_training(trained, tmp_path):
    directory = tmp_path / last_line(trained("evaluate", "run=run"))
    again, first = (json.loads((path / "metrics.json").read_text()) for path in (directory, tmp_path / "run"))
    assert again["splits"] == first["splits"]
    assert (directory / "predictions.csv.gz").read_bytes() == (tmp_path / "run" / "predictions.csv.gz").read_bytes()
    only = tmp_path / last_line(trained("evaluate", "run=run", "rows=test"))
    assert json.loads((only / "metrics.json").read_text())["splits"] == {"test": first["splits"]["test"]}
    assert set(pd.read_csv(only / "predictions.csv.gz").split) == {"test"}


def test_evaluate_on_the_same_file_keeps_the_split(trained, tmp_path):
    (tmp_path / "copy.h5").write_bytes((tmp_path / "sim" / "dataset.h5").read_bytes())
    directory = tmp_path / last_line(trained("evaluate", "run=run", "data=file", "data.path=copy.h5"))
    first = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert json.loads((directory / "metrics.json").read_text())["splits"] == first["splits"]


def test_evaluate_on_new_data_scores_all_rows(trained, tmp_path):
    trained("simulate", *TINY, "seed=1", "hydra.run.dir=new")
    directory = tmp_path / last_line(trained("evaluate", "run=run", "data=file", "data.path=new/dataset.h5"))
    metrics = json.loads((directory / "metrics.json").read_text())
    assert set(metrics["splits"]) == {"all"}
    assert set(metrics["splits"]["all"]["environments"]) == {"30C"}  # 23C is not in the new data
    part = tmp_path / last_line(trained("evaluate", "run=run", "data=file", "data.path=new/dataset.h5", "rows=test"))
    assert json.loads((part / "metrics.json").read_text())["splits"]["test"]["environments"]["30C"]["num_samples"] == 45


def test_predict_needs_no_phenotypes_and_any_order_of_loci(trained, tmp_path):
    import h5py
    import numpy as np

    from gpmap_cli.dataset.contents import Dataset
    from gpmap_cli.dataset.writer import write_dataset

    with h5py.File(tmp_path / "sim" / "dataset.h5") as file:
        genotypes, loci = file["genotypes"][...], file["loci/id"].asstr()[...]
        samples = file["samples/id"].asstr()[...]
    order = np.array([3, 0, 5, 1, 2, 4])
    write_dataset(
        tmp_path / "bare.h5",
        Dataset(genotypes[:, order], np.empty((300, 0), np.float32), samples, loci[order], ()),
    )
    directory = tmp_path / last_line(trained("predict", "run=run", "data=file", "data.path=bare.h5"))
    predicted = pd.read_csv(directory / "predictions.csv.gz")
    trained_on = pd.read_csv(tmp_path / "run" / "predictions.csv.gz")
    assert (predicted.predicted == trained_on.predicted).all()
    assert (predicted.sample_id == trained_on.sample_id).all()
    assert predicted.split.isna().all()
    assert predicted.observed.isna().all()
    assert refused(trained("evaluate", "run=run", "data=file", "data.path=bare.h5"), "gpmap predict")
    write_dataset(
        tmp_path / "fewer.h5",
        Dataset(genotypes[:, :4], np.empty((300, 0), np.float32), samples, loci[:4], ()),
    )
    assert refused(trained("predict", "run=run", "data=file", "data.path=fewer.h5"), "2 of the model's 6 loci")


def test_info(trained, tmp_path):
    result = trained("info", "sim/dataset.h5")
    assert result.returncode == 0
    assert "300" in result.stdout
    assert "30C" in result.stdout
    result = trained("info", "run", "sim/dataset.h5")
    assert "status: completed" in result.stdout
    assert "model: ridge" in result.stdout


def test_a_damaged_checkpoint_is_refused(trained, tmp_path):
    path = tmp_path / "run" / "checkpoints" / "best.npz"
    whole = path.read_bytes()
    for content in (b"", whole[:500], whole[:-100], b"PK" + whole[2:1000], b"not an archive"):
        path.write_bytes(content)
        assert refused(trained("predict", "run=run"), "checkpoint")


def test_a_checkpoint_that_would_execute_something_does_not(trained, tmp_path):
    import numpy as np

    class Bomb:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path}/exploded",))

    np.savez(tmp_path / "run" / "checkpoints" / "best.npz", **{"facts.json": np.array([Bomb()], dtype=object)})
    assert refused(trained("predict", "run=run"), "checkpoint")
    assert not (tmp_path / "exploded").exists()
    (tmp_path / "run" / "config.yaml").write_text(f"!!python/object/apply:os.system ['touch {tmp_path}/exploded']")
    assert refused(trained("train", "resume=run"))
    assert not (tmp_path / "exploded").exists()


# -- sweeps ----------------------------------------------------------------------------------------------


def test_a_sweep(gpmap, tmp_path):
    result = gpmap("train", "-m", "model=mean,ridge", "data.order=1,2", *TINY, "hydra.sweep.dir=sweep")
    assert last_line(result) == Path("sweep")
    names = {
        "model-mean_data.order-1",
        "model-mean_data.order-2",
        "model-ridge_data.order-1",
        "model-ridge_data.order-2",
    }
    assert {path.name for path in (tmp_path / "sweep").iterdir()} == names
    for name in names:
        assert json.loads((tmp_path / "sweep" / name / "metrics.json").read_text())["status"] == "completed"
    table = result.stdout.splitlines()
    assert any("mean" in line and "ridge" in line for line in table)


def test_a_sweep_keeps_what_succeeded_and_names_what_failed(gpmap, tmp_path):
    result = gpmap("train", "-m", "model=mean,rigde", "data.order=1,2,7", *TINY, "hydra.sweep.dir=sweep")
    assert result.returncode == 1
    assert "4 of 6 jobs failed" in result.stderr
    for name in ("model-rigde_data.order-1", "model-mean_data.order-7"):
        assert name in result.stderr
    assert "did you mean model=ridge?" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout.splitlines()[-1] == "sweep"
    for order in (1, 2):
        metrics = json.loads((tmp_path / "sweep" / f"model-mean_data.order-{order}" / "metrics.json").read_text())
        assert metrics["status"] == "completed"


def test_a_sweep_in_which_everything_is_refused_leaves_nothing(gpmap, tmp_path):
    assert refused(gpmap("train", "-m", "model=ridge", "model.penalti=1", "seed=1,2"), "did you mean model.penalty?")
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_that_is_run_again_keeps_what_is_done(gpmap, tmp_path):
    words = ("train", "-m", "model=mean", *TINY, "hydra.sweep.dir=sweep")
    gpmap(*words, "seed=0,1")
    before = (tmp_path / "sweep" / "seed-0" / "metrics.json").stat().st_mtime_ns
    result = gpmap(*words, "seed=0,1,2")
    assert result.returncode == 0
    assert (tmp_path / "sweep" / "seed-0" / "metrics.json").stat().st_mtime_ns == before
    assert (tmp_path / "sweep" / "seed-2" / "metrics.json").exists()
    other = gpmap("train", "-m", "model=ridge", *TINY, "hydra.sweep.dir=sweep", "seed=0,3")
    assert other.returncode == 1
    assert "another configuration" in other.stderr


def test_a_sweep_of_before_a_setting_existed_is_run_again(gpmap, tmp_path):
    words = ("train", "-m", "model=mean", *TINY, "hydra.sweep.dir=sweep", "seed=0,1")
    gpmap(*words)
    for seed in (0, 1):
        path = tmp_path / "sweep" / f"seed-{seed}" / "config.yaml"
        older = yaml.safe_load(path.read_text())
        del older["prune"], older["memory_limit"]
        path.write_text(yaml.safe_dump(older))
    (tmp_path / "sweep" / "seed-1" / "metrics.json").unlink()
    again = gpmap(*words)
    assert again.returncode == 0, again.stderr
    assert f"{Path('sweep/seed-0')} is completed already" in again.stderr
    assert f"continuing {Path('sweep/seed-1')}" in again.stderr
    assert gpmap("train", "resume=sweep/seed-1").returncode == 0
    other = gpmap(*words, "memory_limit=1GB")
    assert all(f"error: sweep/seed-{seed}: this directory holds a run of another" in other.stderr for seed in (0, 1))


def test_an_experiment_may_hold_its_own_sweep(gpmap, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "orders.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /model: mean\ndata:\n  num_samples: 300\n  num_loci: 6\n"
        "hydra:\n  sweeper:\n    params:\n      data.order: 1,2\n"
    )
    result = gpmap("train", "-m", "--config-dir", "mine", "experiment=orders", "hydra.sweep.dir=sweep")
    assert last_line(result) == Path("sweep")
    assert {path.name for path in (tmp_path / "sweep").iterdir()} == {"data.order-1", "data.order-2"}


def test_job_names():
    jobs = expand(["model=ridge,mean", "++data.order=1,2", "seed=3"], {})
    assert [job.name for job in jobs][:2] == ["model-ridge_data.order-1", "model-ridge_data.order-2"]
    assert jobs[0].overrides == ("seed=3", "model=ridge", "++data.order=1")
    odd = [job_name([f"data.environments={value}"]) for value in ("[23C,30C]", "[23C 30C]", "['23C/30C']", "x" * 300)]
    assert len(set(odd)) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,140}", name) for name in odd)
    assert [job.name for job in expand(["seed=1,1,2"], {})] == ["seed-1", "seed-2"]
    assert next(job.name for job in expand(["data.order=[1,2],[3]"], {})).startswith("data.order--1-2-")
