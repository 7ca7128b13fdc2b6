# SPDX-License-Identifier: Apache-2.0
import json
import time

import numpy as np
import pytest
import torch
from torch import nn

from pointdistill_ros.errors import ConfigError
from training.batch import Batch, collate, prefetch
from training.config import TrainConfig
from training.loop import AveragedWeights, Budget, Run, make_optimizer, one_cycle
from training.losses.segmentation import segmentation_loss
from training.replicas import Replicas
from training.transforms import LabelledPoints

from ..tiny import tiny_config, tiny_network


def halves(k=0, n=400):
    """A plane whose class is the sign of x: any network learns it in a few steps."""
    rng = np.random.default_rng(k)
    xyz = rng.uniform([-10, -10, 0], [10, 10, 0.1], (n, 3)).astype(np.float32)
    labels = (xyz[:, 0] > 0).astype(np.uint8)
    points = LabelledPoints(xyz, np.zeros(n, np.float32), labels)
    return collate([points], tiny_config(), 0.5, 10_000, rng)


def run(folder, steps=None, network=None, **changes):
    network = tiny_network(drop_path=0.1) if network is None else network
    config = TrainConfig(**({"ema_decay": 0.5} | changes))
    return Run(folder, network, segmentation_loss, config, Budget(steps=steps))


def test_schedule_equals_torch_one_cycle_per_step():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=1.0)
    steps = 50
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=steps, pct_start=0.1, div_factor=10, final_div_factor=100
    )
    # torch starts at step 0 and ends at step total - 1; its warm-up ends at pct * total - 1
    peak, last = 0.1 * steps - 1, steps - 1
    for step in range(steps):
        group = optimizer.param_groups[0]
        rate, beta1 = one_cycle(step / last, peak / last)
        assert rate == pytest.approx(group["lr"], abs=1e-6)
        assert beta1 == pytest.approx(group["betas"][0], abs=1e-6)
        optimizer.step()
        if step < last:
            scheduler.step()
    assert one_cycle(0, 0.04) == pytest.approx((0.1, 0.95))
    assert one_cycle(1, 0.04) == pytest.approx((0.001, 0.95))


def test_budget_counts_steps_or_minutes_never_both():
    assert Budget(steps=10).share(5, 1e9) == 0.5
    assert Budget(minutes=1).share(10**9, 30) == 0.5
    assert Budget(minutes=1).share(0, 90) == 1
    for bad in ({}, {"steps": 1, "minutes": 1.0}):
        with pytest.raises(ConfigError):
            Budget(**bad)


def test_blocks_have_their_own_rate():
    network = tiny_network()
    optimizer = make_optimizer(network, TrainConfig(learning_rate=1.0, block_learning_rate=0.1))
    blocks, rest = optimizer.param_groups
    assert (blocks["peak"], rest["peak"]) == (0.1, 1.0)
    inside = {id(p) for name, p in network.named_parameters() if "block" in name}
    assert {id(p) for p in blocks["params"]} == inside
    assert len(blocks["params"]) + len(rest["params"]) == len(list(network.parameters()))
    assert inside and rest["params"]


def test_training_learns_and_leaves_metrics(tmp_path):
    trainer = run(tmp_path, steps=40)
    final = trainer.fit(halves)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 41))
    assert lines[-1]["loss"] < 0.4 * lines[0]["loss"]
    network = tiny_network()
    network.load_state_dict(final)
    batch = halves(999)
    accuracy = (network(batch.features, batch.pyramid).argmax(1) == batch.targets).float().mean()
    assert accuracy > 0.9


def test_a_killed_run_resumes_to_the_same_weights(tmp_path):
    whole = run(tmp_path / "whole", steps=6).fit(halves)

    def broken(k):
        if k == 3:
            raise KeyboardInterrupt  # the kill
        return halves(k)

    victim = run(tmp_path / "cut", steps=6)
    victim.checkpoint_seconds = 0  # after every step
    with pytest.raises(KeyboardInterrupt):
        victim.fit(broken)
    resumed = run(tmp_path / "cut", steps=6, network=tiny_network(seed=5, drop_path=0.1))
    final = resumed.fit(halves)
    assert resumed.step == 6
    for name, value in whole.items():
        torch.testing.assert_close(final[name], value, msg=name)


def test_minutes_end_the_run_on_time(tmp_path):
    trainer = run(tmp_path, steps=1)
    trainer.budget = Budget(minutes=1 / 60)
    begin = time.monotonic()
    trainer.fit(halves)
    assert 0.9 < time.monotonic() - begin < 10
    assert trainer.step > 1


def test_a_bad_loss_stops_the_run(tmp_path):
    def poisoned(k):
        batch = halves(k)
        return Batch(batch.features * float("nan"), batch.targets, batch.pyramid)

    with pytest.raises(FloatingPointError, match="step 0"):
        run(tmp_path, steps=3).fit(poisoned)


def test_average_follows_the_weights():
    network = nn.Linear(1, 1)
    average = AveragedWeights(network, decay=0.5)
    with torch.no_grad():
        for step in range(1, 30):
            network.weight.fill_(7.0)
            average.update(network, step)
    assert average.state["weight"].item() == pytest.approx(7, abs=1e-4)


def test_replicas_add_up_to_the_sequential_gradient():
    batches = [halves(k) for k in range(3)]

    def backward(network, batch):
        loss, _ = segmentation_loss(network(batch.features, batch.pyramid), batch.targets)
        loss.backward()
        return loss.item()

    alone, together = tiny_network().eval(), tiny_network().eval()
    losses = [backward(alone, batch) for batch in batches]
    replicas = Replicas(together, 3)
    for _ in range(2):  # a second step starts from clean gradients and current weights
        together.zero_grad(set_to_none=True)
        assert replicas.backward(batches, backward) == pytest.approx(losses, abs=1e-5)
    for (name, mine), theirs in zip(alone.named_parameters(), together.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, msg=name, atol=1e-5, rtol=1e-4)


def test_replicas_see_new_weights_and_share_statistics():
    network = nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 1))
    replicas = Replicas(network, 2)
    with torch.no_grad():
        network[1].weight.fill_(3.0)
        network[1].bias.fill_(0.0)
    inputs = [torch.tensor([[0.0], [2.0]]), torch.tensor([[10.0], [14.0]])]

    def backward(net, x):
        out = net(x)
        out.sum().backward()
        return out.detach()

    outputs = replicas.backward(inputs, backward)
    torch.testing.assert_close(outputs[0], torch.tensor([[-3.0], [3.0]]), atol=1e-3, rtol=0)
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-3, rtol=0)
    assert network[0].running_mean.item() == pytest.approx((0.1 * 1 + 0.1 * 12) / 2)


def test_prefetch_keeps_order_raises_errors_and_stops():
    made = []

    def make(k):
        made.append(k)
        if k == 5:
            raise ValueError("scan 5")
        return k

    batches = prefetch(make, start=2, depth=1)
    assert [next(batches) for _ in range(3)] == [2, 3, 4]
    with pytest.raises(ValueError, match="scan 5"):
        next(batches)

    endless = prefetch(made.append, start=100)
    next(endless)
    endless.close()
    count = len(made)
    time.sleep(0.3)
    assert len(made) == count
