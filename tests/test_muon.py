"""Muon, the choice of optimiser by parameter, and the moving average of weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gpmap_cli.training.average import Average
from gpmap_cli.training.muon import Muon, orthogonalised
from gpmap_cli.training.optimizers import Optimizers
from gpmap_cli.training.settings import TrainingSettings


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 5, 12), (2, 12, 5)])
def test_orthogonalised_keeps_directions_and_levels_lengths(shape):
    matrices = torch.from_numpy(np.random.default_rng(0).normal(size=shape))
    found = orthogonalised(matrices)
    assert found.shape == matrices.shape
    values = torch.linalg.svdvals(found)
    assert values.max() < 1.3
    # Directions that the gradient has hardly any of stay small; five steps bring a fiftieth to where the others are.
    relative = torch.linalg.svdvals(matrices) / matrices.norm(dim=(1, 2))[:, None]
    assert values[relative > 0.02].min() > 0.6
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    nearest = u @ v
    likeness = (found * nearest).sum(dim=(1, 2)) / (found.norm(dim=(1, 2)) * nearest.norm(dim=(1, 2)))
    assert likeness.min() > 0.93


def test_a_zero_gradient_moves_nothing():
    assert (orthogonalised(torch.zeros(1, 3, 4)) == 0).all()


def test_matrices_of_a_shape_move_as_each_alone_and_decay():
    rng = np.random.default_rng(0)
    start = [torch.from_numpy(rng.normal(size=shape)) for shape in ((4, 6), (4, 6), (6, 2))]
    gradients = [[torch.from_numpy(rng.normal(size=one.shape)) for one in start] for _ in range(3)]

    def moved(which):
        parameters = [torch.nn.Parameter(start[number].clone()) for number in which]
        optimizer = Muon(parameters, lr=0.1, weight_decay=0.5)
        for step in gradients:
            for parameter, number in zip(parameters, which, strict=True):
                parameter.grad = step[number].clone()
            optimizer.step()
        return [parameter.detach() for parameter in parameters]

    for number, together in enumerate(moved([0, 1, 2])):
        torch.testing.assert_close(together, moved([number])[0], rtol=1e-12, atol=1e-12)
    tall = torch.nn.Parameter(start[2].clone())
    tall.grad = gradients[0][2].clone()
    Muon([tall], lr=0.1, weight_decay=0.5, momentum=0.0).step()
    expected = start[2] * (1 - 0.1 * 0.5) - 0.1 * 3**0.5 * orthogonalised(gradients[0][2][None])[0]
    torch.testing.assert_close(tall.detach(), expected, rtol=1e-12, atol=1e-12)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.map = torch.nn.Parameter(torch.ones(3, 3))
        self.offset = torch.nn.Parameter(torch.ones(3))

    def matrices(self):
        return [self.map]


def stepped(settings, steps=3, network=None, optimizers=None):
    network = network or Net()
    optimizers = optimizers or Optimizers(network, settings, "cpu")
    for number in range(steps):
        optimizers.zero_grad()
        loss = ((network.map @ torch.arange(3.0) + network.offset - number) ** 2).sum()
        loss.backward()
        optimizers.step(0.01)
    return network, optimizers


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_decay_is_of_the_matrices_alone(optimizer):
    bare = TrainingSettings("test", 1, 1, 0.01, optimizer=optimizer)
    heavy = TrainingSettings("test", 1, 1, 0.01, optimizer=optimizer, weight_decay=10.0)
    (light, _), (decayed, _) = stepped(bare, 1), stepped(heavy, 1)
    torch.testing.assert_close(light.offset, decayed.offset)
    assert not torch.allclose(light.map, decayed.map)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_saved_and_restored_the_steps_are_the_same(optimizer):
    settings = TrainingSettings("test", 1, 1, 0.01, optimizer=optimizer, weight_decay=1.0)
    network, optimizers = stepped(settings)
    again = Net()
    again.load_state_dict(network.state_dict())
    restored = Optimizers(again, settings, "cpu")
    restored.restore(optimizers.arrays())
    stepped(settings, 2, network, optimizers)
    stepped(settings, 2, again, restored)
    for one, other in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_average_follows_and_steps_aside():
    network = Net()
    average = Average(network, 4)
    with torch.no_grad():
        network.offset.fill_(3.0)
    average.update()
    kept = min(0.75, 2 / 11)
    with average.in_place():
        torch.testing.assert_close(network.offset, torch.full((3,), kept * 1 + (1 - kept) * 3))
    assert (network.offset == 3).all()
    other = Average(network, 4)
    other.restore(average.arrays(), 1)
    for both in (average, other):
        both.update()
    assert all(
        np.array_equal(one, two) for one, two in zip(average.arrays().values(), other.arrays().values(), strict=True)
    )
