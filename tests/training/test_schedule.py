# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pointdistill_ros.errors import ConfigError
from training.config import TrainConfig
from training.schedule import Budget, OneCycle


@pytest.mark.parametrize("cycle", [True, False])
def test_schedule_equals_torch_one_cycle_per_step(cycle):
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=1.0)
    steps = 50
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        1.0,
        total_steps=steps,
        pct_start=0.1,
        div_factor=25,
        final_div_factor=1000,
        cycle_momentum=cycle,
    )
    # torch starts at step 0 and ends at step total - 1; its warm-up ends at pct * total - 1
    peak, last = 0.1 * steps - 1, steps - 1
    changes = {} if cycle else {"cycle_beta1": None}
    config = TrainConfig(warmup=peak / last, div_factor=25, final_div_factor=1000, **changes)
    schedule = OneCycle.of(config)
    for step in range(steps):
        group = optimizer.param_groups[0]
        rate, beta1 = schedule(step / last)
        assert rate == pytest.approx(group["lr"], abs=1e-6)
        assert beta1 == pytest.approx(group["betas"][0], abs=1e-6)
        optimizer.step()
        if step < last:
            scheduler.step()


def test_defaults_are_the_published_ones():
    schedule = OneCycle.of(TrainConfig())
    assert schedule(0) == pytest.approx((0.1, 0.95))
    assert schedule(0.04) == pytest.approx((1, 0.85))
    assert schedule(1) == pytest.approx((0.001, 0.95))


@given(st.floats(0, 1))
def test_rate_never_leaves_its_bounds(share):
    rate, beta1 = OneCycle.of(TrainConfig())(share)
    assert 0.001 - 1e-9 <= rate <= 1 and 0.85 <= beta1 <= 0.95 + 1e-9


def test_budget_counts_steps_or_minutes_never_both():
    assert Budget(steps=10).share(5, 1e9) == 0.5
    assert Budget(minutes=1).share(10**9, 30) == 0.5
    assert Budget(minutes=1).share(0, 90) == 1
    for bad in ({}, {"steps": 1, "minutes": 1.0}):
        with pytest.raises(ConfigError):
            Budget(**bad)


def test_an_epoch_draws_as_many_samples_as_there_are_scans():
    config = TrainConfig(epochs=3, scans_per_step=2, accumulate=5)
    assert Budget.of(config, scans=1000) == Budget(steps=300)
    assert Budget.of(config, scans=1000, processes=4) == Budget(steps=75)
    assert Budget.of(config, scans=1) == Budget(steps=1)
    assert Budget.of(TrainConfig(minutes=2.0), scans=9) == Budget(minutes=2.0)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"steps": 3, "minutes": 1.0}, "steps and minutes"),
        ({"steps": -1}, "steps"),
        ({"warmup": 0.0}, "warmup"),
        ({"accumulate": 0}, "accumulate"),
        ({"clip_norm": float("nan")}, "clip_norm"),
        ({"sources": ()}, "sources"),
        ({"ema_decay": 1.0}, "ema_decay"),
    ],
)
def test_contradictions_are_refused_by_name(changes, word):
    with pytest.raises(ConfigError, match=word):
        TrainConfig(**changes)


def test_the_last_share_of_a_run_begins_at_a_step():
    assert Budget(steps=100).first_of_last(0.25, 2) == 150
    assert Budget(steps=100).first_of_last(1.0, 2) == 0
    assert Budget(steps=100).first_of_last(0.0, 2) is None
    with pytest.raises(ConfigError, match="whole_scans"):
        Budget(minutes=5).first_of_last(0.25, 2)
