"""State dicts of the published notebooks become run directories that predict and evaluate accept."""

from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.writer import write_dataset
from gpmap_cli.layers.published_attention import PublishedAttention


def network(num_loci=7, dim=4, num_environments=0, slots="own", seed=0):
    made = PublishedAttention(num_loci, dim, num_environments, slots)
    made.draw(np.random.default_rng(seed), 0.5)
    return made


def save(made, path):
    torch.save(made.state_dict(), path)


def dataset(path, num_loci=7, environments=("a",), seed=1, num_samples=40):
    rng = np.random.default_rng(seed)
    genotypes = rng.integers(0, 2, (num_samples, num_loci)).astype(np.int8)
    names = np.array([f"s{number}" for number in range(num_samples)], dtype=object)
    loci = np.array([f"l{number}" for number in range(num_loci)], dtype=object)
    phenotypes = rng.normal(size=(num_samples, len(environments))).astype(np.float32)
    write_dataset(path, Dataset(genotypes, phenotypes, names, loci, environments))
    return 2.0 * genotypes - 1


def predictions(tmp_path, result):
    assert result.returncode == 0, result.stderr
    return pd.read_csv(tmp_path / result.stdout.splitlines()[-1] / "predictions.csv.gz")


def expected(made, x, environment=None):
    where = None if environment is None else torch.full((len(x),), environment)
    with torch.no_grad():
        return made.double()(torch.from_numpy(x), where).numpy()


def test_one_environment(gpmap, tmp_path):
    made = network()
    save(made, tmp_path / "epoch_3.pt")
    x = dataset(tmp_path / "new.h5")
    result = gpmap("prepare", "source=notebook_checkpoint", "source.path=epoch_3.pt", "out=published")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "published"
    words = ("run=published", "data=file", "data.path=new.h5", "precision=float64")
    predicted = gpmap("predict", *words)
    np.testing.assert_allclose(predictions(tmp_path, predicted).predicted, expected(made, x), atol=1e-7)
    assert "match by order" in predicted.stderr
    evaluated = gpmap("evaluate", *words)
    np.testing.assert_allclose(predictions(tmp_path, evaluated).predicted, expected(made, x), atol=1e-7)
    metrics = json.loads((tmp_path / evaluated.stdout.splitlines()[-1] / "metrics.json").read_text())
    assert set(metrics["splits"]["all"]["environments"]) == {"a"}


def test_the_golden_files_go_through(gpmap, tmp_path, shared):
    for name, environments in (("attention_single", ("e0",)), ("attention_multi_env", ("e0", "e1", "e2", "e3"))):
        with np.load(shared / "golden" / f"{name}.npz") as stored:
            values = {key: stored[key] for key in stored.files}
        genotypes, golden = values.pop("genotypes"), values.pop("expected")
        environment = values.pop("environment", np.zeros(len(genotypes), int))
        torch.save({key: torch.from_numpy(array) for key, array in values.items()}, tmp_path / "weights.pt")
        allele_counts = ((genotypes + 1) / 2).astype(np.int8)
        names = np.array([f"s{row}" for row in range(len(genotypes))], dtype=object)
        loci = np.array([f"l{row}" for row in range(genotypes.shape[1])], dtype=object)
        write_dataset(
            tmp_path / f"{name}.h5",
            Dataset(allele_counts, np.empty((len(genotypes), 0), np.float32), names, loci, ()),
        )
        gpmap("prepare", "source=notebook_checkpoint", "source.path=weights.pt", f"out={name}",
              f"source.environments=[{','.join(environments)}]")  # fmt: skip
        table = predictions(
            tmp_path, gpmap("predict", f"run={name}", "data=file", f"data.path={name}.h5", "precision=float64")
        )
        wide = table.pivot(index="sample_id", columns="environment", values="predicted").loc[names]
        found = wide.to_numpy()[np.arange(len(golden)), environment]
        np.testing.assert_allclose(found, golden, rtol=1e-8)  # nine digits are written


def test_several_environments_scale_and_names(gpmap, tmp_path):
    made = network(5, 3, 2)
    save(made, tmp_path / "multi.pt")
    x = dataset(tmp_path / "new.h5", 5, ("cold", "warm"))
    gpmap("prepare", "source=notebook_checkpoint", "source.path=multi.pt", "out=published",
          "source.environments=[cold,warm]", "source.mean=[10,20]", "source.std=[2,0.5]")  # fmt: skip
    words = ("run=published", "data=file", "data.path=new.h5", "precision=float64")
    table = predictions(tmp_path, gpmap("predict", *words))
    for number, (name, mean, std) in enumerate((("cold", 10, 2), ("warm", 20, 0.5))):
        found = table[table.environment == name].predicted
        np.testing.assert_allclose(found, expected(made, x, number) * std + mean, rtol=1e-8)


def test_environments_in_the_slots_of_the_embedding_must_be_named(gpmap, tmp_path):
    made = network(5, 6, 3, "embedding")
    save(made, tmp_path / "transfer.pt")
    x = dataset(tmp_path / "new.h5", 5)
    words = ("prepare", "source=notebook_checkpoint", "source.path=transfer.pt", "out=published")
    result = gpmap(*words)
    assert result.returncode == 2
    assert "source.environments=" in result.stderr
    assert gpmap(*words, "source.environments=[a,b,c]").returncode == 0
    table = predictions(
        tmp_path, gpmap("predict", "run=published", "data=file", "data.path=new.h5", "precision=float64")
    )
    np.testing.assert_allclose(table[table.environment == "c"].predicted, expected(made, x, 2), atol=1e-7)


class Bomb:
    def __reduce__(self):
        return (os.system, (f"touch {os.environ['BOMB']}",))


@pytest.mark.parametrize(
    "damage",
    ["missing", "empty", "text", "pickle", "bomb", "list", "lacks", "extra", "shapes", "nan", "truncated", "loci"],
)
def test_what_is_no_published_model_is_refused(gpmap, tmp_path, monkeypatch, damage):
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    path = tmp_path / "model.pt"
    state = dict(network().state_dict())
    if damage == "lacks":
        del state["key_matrix_2"]
    elif damage == "extra":
        state["more"] = torch.zeros(2)
    elif damage == "shapes":
        state["query_matrix_1"] = torch.zeros(4, 4)
    elif damage == "nan":
        state["offset"] = torch.tensor([float("nan")])
    elif damage == "loci":
        state["random_matrix"] = torch.zeros(0, 4)
    torch.save([1, 2] if damage == "list" else {**state, "bomb": Bomb()} if damage == "bomb" else state, path)
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("no model\n" * 100)
    elif damage == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    result = gpmap("prepare", "source=notebook_checkpoint", "source.path=model.pt", "out=published")
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: ")
    assert "hint: " in result.stderr
    assert not (tmp_path / "published").exists()
    assert not (tmp_path / "exploded").exists()
    assert {entry.name for entry in tmp_path.iterdir()} <= {"model.pt"}


def test_another_number_of_loci_is_refused(gpmap, tmp_path):
    save(network(), tmp_path / "epoch_3.pt")
    dataset(tmp_path / "new.h5", 6)
    gpmap("prepare", "source=notebook_checkpoint", "source.path=epoch_3.pt", "out=published")
    result = gpmap("predict", "run=published", "data=file", "data.path=new.h5")
    assert result.returncode == 2
    assert "the model has 7 loci and the data have 6" in result.stderr
    result = gpmap("evaluate", "run=published")
    assert result.returncode == 2
    assert "without data" in result.stderr


def test_an_existing_directory_is_kept(gpmap, tmp_path):
    save(network(), tmp_path / "epoch_3.pt")
    words = ("prepare", "source=notebook_checkpoint", "source.path=epoch_3.pt", "out=published")
    assert gpmap(*words).returncode == 0
    assert gpmap(*words).returncode == 2
    assert gpmap(*words, "overwrite=true").returncode == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    assert gpmap(*words[:-1], "out=mine", "overwrite=true").returncode == 2
    assert (tmp_path / "mine" / "thesis.txt").exists()
    result = gpmap(*words[:-1], "out=mine/thesis.txt", "overwrite=true")
    assert (result.returncode, result.stderr.count("error:")) == (2, 1), result.stderr
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "all of it"
