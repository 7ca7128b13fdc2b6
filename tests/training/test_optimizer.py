# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn

from training.bad_batch import NonFiniteError
from training.config import TrainConfig
from training.optimizer import AveragedWeights, make_optimizer

from ..tiny import tiny_network
from .toy_run import halves, toy_loss, toy_run


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


class Weighed(nn.Module):
    """A network and a learned weight of its loss, which pulls as hard as it is told."""

    def __init__(self):
        super().__init__()
        self.network = tiny_network()
        self.log_variance = nn.Parameter(torch.zeros(2))


def weighed_run(folder, network, pull, **changes):
    run = toy_run(folder, network.train(), steps=2, **changes)

    def loss(network, batch):
        total, parts = toy_loss(network.network, batch)
        return total + pull * network.log_variance.sum(), parts

    run.state.unwrapped.loss = loss
    return run


def test_learned_weights_of_a_loss_take_nothing_from_the_network_s_gradient(tmp_path):
    ends = []
    for pull in (0.0, 1e6):
        run = weighed_run(tmp_path / f"{pull}", Weighed(), pull, clip_norm=0.01)
        run.fit(halves)
        ends.append(run.state.network)
        assert run.state.network.log_variance.isfinite().all()
    quiet, loud = ends
    assert not loud.log_variance.equal(quiet.log_variance)
    for mine, theirs in zip(quiet.network.parameters(), loud.network.parameters(), strict=True):
        assert mine.equal(theirs)


def test_a_pull_that_is_no_number_stops_the_run(tmp_path):
    network = Weighed()
    network.log_variance.register_hook(lambda gradient: gradient * float("nan"))
    run = weighed_run(tmp_path, network, 1.0)
    with pytest.raises(NonFiniteError, match="not a finite number"):
        run.fit(halves)
