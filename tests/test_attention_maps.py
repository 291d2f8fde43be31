"""Attention maps against a softmax written by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from explain_examples import coded, predictor_of

from gpmap_cli.explain.scores import symmetric_attention


def softmax(scores):
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("name", "slots"), [("attention", ""), ("attention_multi_env", "own"), ("attention_multi_env", "embedding")]
)
def test_published_maps_are_a_hand_written_softmax(monkeypatch, name, slots):
    settings = {"environment_slots": slots} if name == "attention_multi_env" else {}
    predictor, genotypes = predictor_of(name, embedding_dim=4, **settings)
    monkeypatch.setattr("gpmap_cli.layers.attention_maps._MOST_WEIGHTS", 300)  # batches of 6
    maps = predictor.attention_maps(genotypes)
    state, joint = predictor.model.state(), name == "attention_multi_env"
    assert list(maps) == ["layer_1", "layer_2", "layer_3"]
    for environment in range(2):
        weights = {key: state[key if joint else f"{environment}/{key}"] for key in keys_of(state)}
        x, width = coded(genotypes), len(weights["query_matrix_1"])
        z = np.zeros((len(x), 6 + joint, width))
        z[:, :6, :4] = x[:, :, None] * weights["random_matrix"]
        if joint:
            z[:, 6, environment + (4 if slots == "own" else 0)] = 1
        z[:, :, -1] = 1
        for layer in (1, 2, 3):
            scores = z @ weights[f"query_matrix_{layer}"] @ (z @ weights[f"key_matrix_{layer}"]).transpose(0, 2, 1)
            attention = softmax(scores)
            np.testing.assert_allclose(maps[f"layer_{layer}"][environment, 0], attention.mean(axis=0), atol=1e-10)
            z = attention @ z @ weights[f"value_matrix_{layer}"]
        # The same tokens and weights give the network's prediction: nothing of the plain form is left out.
        plain = (z * weights["coeffs_attended"]).sum(axis=(1, 2)) + weights["offset"]
        predicted = predictor.scale.standardise(predictor.predict(genotypes))[:, environment]
        np.testing.assert_allclose(plain, predicted, atol=1e-8)
    mean = symmetric_attention(maps, 1, 6)["mean"]
    assert mean.shape == (6, 6)
    np.testing.assert_array_equal(mean, mean.T)


def keys_of(state):
    return {key.split("/")[-1] for key in state} - {"num_loci", "num_environments", "num_slots"}


def test_maps_of_the_transformer_are_those_its_blocks_use():
    predictor, genotypes = predictor_of("transformer", width=8, num_heads=2, num_blocks=2, num_members=2)
    maps = predictor.attention_maps(genotypes)
    assert [layer.shape for layer in maps.values()] == [(1, 4, 6, 6)] * 2
    for layer in maps.values():
        np.testing.assert_allclose(layer.sum(axis=-1), 1, atol=1e-10)
    weights = {
        key.removeprefix("members.1."): array
        for key, array in predictor.model.state().items()
        if key.startswith("members.1.")
    }
    z = coded(genotypes)[:, :, None] * weights["allele"] + weights["locus"]
    blocks = predictor.model._fitted(6).networks[1].attention_blocks
    for number in range(2):
        normed = z / np.sqrt((z**2).mean(axis=2, keepdims=True) + np.finfo(float).eps)
        normed *= weights[f"blocks.{number}.norms"][0]
        query, key, _ = np.split(normed @ weights[f"blocks.{number}.query_key_value"].T, 3, axis=2)
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            expected = softmax(query[:, :, part] @ key[:, :, part].transpose(0, 2, 1) / 2).mean(axis=0)
            np.testing.assert_allclose(maps[f"layer_{number + 1}"][0, 2 + head], expected, atol=1e-10)
        with torch.no_grad():
            z = blocks[number](torch.from_numpy(z)).numpy()


def test_models_without_attention_offer_no_maps():
    for name, settings in (("ridge", {}), ("transformer", {"num_blocks": 0})):
        predictor, genotypes = predictor_of(name, **settings)
        assert predictor.attention_maps(genotypes) is None
