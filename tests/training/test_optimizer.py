# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn

from training.config import TrainConfig
from training.optimizer import AveragedWeights, make_optimizer

from ..tiny import tiny_network


def test_blocks_have_their_own_rate():
    network = tiny_network()
    optimizer = make_optimizer(network, TrainConfig(learning_rate=1.0, block_learning_rate=0.1))
    blocks, rest = optimizer.param_groups
    assert (blocks["peak"], rest["peak"]) == (0.1, 1.0)
    inside = {id(p) for name, p in network.named_parameters() if "block" in name}
    assert {id(p) for p in blocks["params"]} == inside
    assert len(blocks["params"]) + len(rest["params"]) == len(list(network.parameters()))
    assert inside and rest["params"]


def test_a_step_with_found_inf_changes_nothing():
    network = nn.Linear(3, 2)
    optimizer = make_optimizer(network, TrainConfig())
    network.weight.grad = torch.full_like(network.weight, float("nan"))
    before = network.weight.detach().clone()
    optimizer.found_inf = torch.ones(())
    optimizer.step()
    assert network.weight.equal(before)
    optimizer.found_inf = torch.zeros(())
    network.weight.grad.fill_(1)
    optimizer.step()
    assert bool((network.weight < before).all())
    assert int(optimizer.state[network.weight]["step"]) == 1


def test_average_follows_the_weights():
    network = nn.Linear(1, 1)
    average = AveragedWeights(network, decay=0.5)
    with torch.no_grad():
        for step in range(1, 30):
            network.weight.fill_(7.0)
            average.update(network, step)
    assert average.state["weight"].item() == pytest.approx(7, abs=1e-4)


def test_average_is_the_moving_mean_and_counts_are_copied():
    network = nn.BatchNorm1d(1)
    average = AveragedWeights(network, decay=0.9)
    expected = 0.0
    for step in range(1, 6):
        with torch.no_grad():
            network.running_mean.fill_(step)
            network.num_batches_tracked.fill_(step)
        average.update(network, step)
        decay = min(0.9, step / (step + 10))
        expected = decay * expected + (1 - decay) * step
    assert average.state["running_mean"].item() == pytest.approx(expected)
    assert average.state["num_batches_tracked"].item() == 5
