"""The published attention networks: golden outputs, initial weights, and that training finds epistasis."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_samples, split_samples

from gpmap_cli.errors import InputError
from gpmap_cli.layers.attention_paths import FIRST, REST
from gpmap_cli.layers.published_attention import PublishedAttention
from gpmap_cli.metrics import r2_score
from gpmap_cli.models.attention import Attention
from gpmap_cli.models.attention import Settings as AttentionSettings
from gpmap_cli.models.attention_multi_env import AttentionMultiEnv
from gpmap_cli.models.attention_multi_env import Settings as MultiSettings
from gpmap_cli.training import memory
from gpmap_cli.training.context import FitContext
from gpmap_cli.training.settings import TrainingSettings


def golden(shared, name, network):
    with np.load(shared / "golden" / f"{name}.npz") as stored:
        values = {key: torch.from_numpy(stored[key]) for key in stored.files}
    genotypes, expected = values.pop("genotypes"), values.pop("expected")
    environment = values.pop("environment", None)
    network = network.double()
    network.load_state_dict(values)  # strict: exactly the published names and shapes
    with torch.no_grad():
        return network(genotypes, environment), expected


@pytest.mark.parametrize("path", [f"{first}+{rest}" for first in FIRST for rest in REST])
@pytest.mark.parametrize(
    ("name", "shape"), [("attention_single", (7, 4, 0)), ("attention_multi_env", (5, 3, 4))], ids=["single", "multi"]
)
def test_golden_outputs(shared, path, name, shape):
    network = PublishedAttention(*shape)
    network.settle_path(path)
    found, expected = golden(shared, name, network)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=0, atol=1e-10)


def naive(weights, genotype, extra_token=None):
    """One genotype through the network, from the formulas, in NumPy."""
    tokens = np.concatenate([genotype[:, None] * weights["random_matrix"], np.ones((len(genotype), 1))], axis=1)
    if extra_token is not None:
        tokens = np.concatenate([tokens, extra_token[None]])
    for layer in (1, 2, 3):
        scores = tokens @ weights[f"query_matrix_{layer}"] @ (tokens @ weights[f"key_matrix_{layer}"]).T
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        tokens = scores / scores.sum(axis=1, keepdims=True) @ tokens @ weights[f"value_matrix_{layer}"]
    return (tokens * weights["coeffs_attended"]).sum() + weights["offset"][0]


def test_environments_in_the_slots_of_the_embedding():
    network = PublishedAttention(5, 6, 3, "embedding").double()
    network.draw(np.random.default_rng(0), 0.5)
    weights = {name: value.detach().numpy() for name, value in network.named_parameters()}
    genotypes = np.random.default_rng(1).choice([-1.0, 1.0], (4, 5))
    environments = np.array([0, 2, 1, 2])
    expected = [
        naive(weights, genotype, np.concatenate([np.eye(6)[environment], [1.0]]))
        for genotype, environment in zip(genotypes, environments, strict=True)
    ]
    found = network(torch.from_numpy(genotypes), torch.from_numpy(environments)).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_too_many_environments_for_the_embedding():
    samples = make_samples(num_environments=4)
    model = AttentionMultiEnv(MultiSettings(embedding_dim=3, environment_slots="embedding"))
    context = FitContext(0, ("a", "b", "c", "d"), TrainingSettings("test", 1, 32, 0.01))
    with pytest.raises(InputError, match="do not fit into the 3 slots"):
        model.fit(*split_samples(samples), context)


@pytest.mark.parametrize("model", [Attention(AttentionSettings()), AttentionMultiEnv(MultiSettings())])
def test_a_step_that_memory_cannot_hold_is_refused_before_the_fit(model, monkeypatch):
    """All SNPs of the yeast cross on a machine of 128 MB."""
    monkeypatch.setattr(memory, "device_memory", lambda device: 2**27)
    samples = make_samples(num_samples=60, num_loci=41_594)
    schedule = TrainingSettings("test", 1, 64, 0.01)
    with pytest.raises(InputError, match=r"a step of \d+ (samples|cells) at 41594 loci needs about") as refused:
        model.fit(samples, samples, FitContext(0, ("a", "b"), schedule))
    for word in ("prune.max_abs_r=0.94", "data.num_loci", "data.loci", "training.batch_size"):
        assert word in refused.value.problems[0].hint


def test_initial_weights_have_the_scale_asked_for():
    network = PublishedAttention(200, 12)
    network.draw(np.random.default_rng(0), 0.04)
    drawn = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    assert drawn.std() == pytest.approx(0.04, rel=4 / np.sqrt(2 * len(drawn)))
    assert abs(drawn.mean()) < 4 * 0.04 / np.sqrt(len(drawn))


@pytest.mark.parametrize(
    "model", [Attention(AttentionSettings()), AttentionMultiEnv(MultiSettings())], ids=["single", "multi"]
)
def test_training_finds_third_order_epistasis(model):
    """What no additive or pairwise model can: a third-order term of half the variance."""
    samples = make_samples(num_samples=3000, num_loci=5, num_environments=2, order=3, seed=1)
    train, validation = split_samples(samples, 500)
    schedule = TrainingSettings("test", 25, 64, 0.01, initial_scale=0.3, max_gradient_norm=1.0)
    model.fit(train, validation, FitContext(0, ("a", "b"), schedule))
    predicted = model.predict(validation.genotypes)
    for column in range(2):
        x = validation.genotypes.rows(slice(None))
        additive = np.linalg.lstsq(x, validation.phenotypes[:, column], rcond=None)[0]
        ceiling_of_additive = r2_score(validation.phenotypes[:, column], x @ additive)
        assert r2_score(validation.phenotypes[:, column], predicted[:, column]) > ceiling_of_additive + 0.2


def test_labels_of_a_joint_fit_belong_to_their_environments():
    """Two environments with opposite phenotypes: mixed-up labels would leave nothing to learn."""
    samples = make_samples(num_samples=1500, num_loci=4, num_environments=1, order=1, seed=2)
    both = np.concatenate([samples.phenotypes, -samples.phenotypes], axis=1)
    both[::2, 0] = np.nan  # uneven numbers of cells, so that no accidental order matches
    joint = type(samples)(samples.genotypes, both)
    model = AttentionMultiEnv(MultiSettings())
    schedule = TrainingSettings("test", 20, 64, 0.01, initial_scale=0.3, max_gradient_norm=1.0)
    train, validation = split_samples(joint, 300)
    model.fit(train, validation, FitContext(0, ("a", "b"), schedule))
    predicted = model.predict(validation.genotypes)
    for column in range(2):
        assert r2_score(validation.phenotypes[:, column], predicted[:, column]) > 0.9
