# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.errors import ConfigError
from training.losses.weighting import (
    LARGEST_CHANGE,
    FixedWeights,
    LearnedWeights,
    alpha_factor,
    bound_gradient,
)

from .voxel_batch import draw

LAMBDAS = {"task": 1.0, "soft": 0.5, "topology": 0.1}
scale = st.sampled_from([0.0, 1e-30, 1e-6, 1.0, 1e6, 1e30])


def terms(*values):
    return dict(zip(LAMBDAS, map(torch.tensor, values), strict=False))


def test_fixed_weights_are_a_weighted_sum():
    weights = FixedWeights(LAMBDAS)
    assert weights(terms(1.0, 2.0, 30.0)).item() == pytest.approx(5.0)
    assert weights(terms(1.0, 2.0)).item() == pytest.approx(2.0)
    assert weights.weight("soft") == 0.5
    assert list(weights.parameters()) == []


def test_learned_weights_start_as_fixed_ones_and_equal_the_definition():
    learned, x = LearnedWeights(LAMBDAS), draw(0, 3, dtype=torch.float32).requires_grad_()
    values = dict(zip(LAMBDAS, x.square(), strict=True))
    learned(values).backward()
    (expected,) = torch.autograd.grad(
        FixedWeights(LAMBDAS)({n: x[i] ** 2 for i, n in enumerate(LAMBDAS)}), x
    )
    torch.testing.assert_close(x.grad, expected)
    with torch.no_grad():
        learned.log_variance.copy_(torch.tensor([0.3, -0.2, 2.0]))
    total = learned(terms(1.0, 2.0, 3.0)).item()
    s = (0.3, -0.2, 2.0)
    assert total == pytest.approx(
        sum(math.exp(-a) * v + a for a, v in zip(s, (1.0, 2.0, 3.0), strict=True))
    )


def test_gradient_of_learned_weights_is_right():
    learned = LearnedWeights(LAMBDAS).double()

    def total(values):
        return learned(dict(zip(LAMBDAS, values, strict=True)))

    torch.autograd.gradcheck(total, draw(0, 3).abs().requires_grad_())
    values = draw(0, 3).abs()
    total(values).backward()
    expected = 1 - (-learned.log_variance.detach()).exp() * values
    torch.testing.assert_close(learned.log_variance.grad, expected)


def test_a_learned_weight_settles_where_its_term_weighs_one():
    learned = LearnedWeights(LAMBDAS)
    optimizer = torch.optim.Adam(learned.parameters(), lr=0.02)
    for _ in range(600):
        optimizer.zero_grad()
        learned(terms(0.5, 4.0, 3.0)).backward()
        optimizer.step()
    for name, value in terms(0.5, 4.0, 3.0).items():
        assert learned.weight(name) * value.item() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_learned_weights_stay_finite_and_bounded_over_a_thousand_steps(kind):
    """One term goes to 0, one explodes up to the largest floats, one is fitted beside them."""
    learned = LearnedWeights(LAMBDAS)
    x = torch.full((4,), 3.0, requires_grad=True)
    options = {} if kind is torch.optim.SGD else {"fused": False}
    optimizer = kind([*learned.parameters(), x], lr=0.01, weight_decay=0, **options)
    for step in range(1000):
        optimizer.zero_grad()
        growing = torch.tensor(10.0 ** min(38, step * 0.05))
        values = {
            "task": x.square().mean(),
            "soft": torch.tensor(0.5**step),
            "topology": growing,
        }
        total = learned(values)
        total.backward()
        optimizer.step()
        assert total.isfinite()
        assert all(math.isfinite(learned.weight(name)) for name in LAMBDAS)
    for name, start in LAMBDAS.items():
        assert (
            start / LARGEST_CHANGE * 0.999 < learned.weight(name) < start * LARGEST_CHANGE * 1.001
        )
    assert learned.weight("soft") > 2 * LAMBDAS["soft"]
    assert learned.weight("topology") == pytest.approx(0.1 / LARGEST_CHANGE)
    assert bool(learned.log_variance.isfinite().all())
    assert x.abs().max() < 1


def test_a_weight_at_its_bound_comes_back():
    learned = LearnedWeights({"task": 1.0})
    with torch.no_grad():
        learned.log_variance.fill_(50.0)  # far outside
    assert learned.weight("task") == pytest.approx(1 / LARGEST_CHANGE)
    optimizer = torch.optim.SGD(learned.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        learned({"task": torch.tensor(1.0)}).backward()
        optimizer.step()
    assert learned.weight("task") == pytest.approx(1, rel=0.01)


def test_state_of_learned_weights_is_kept():
    learned, other = LearnedWeights(LAMBDAS), LearnedWeights(dict.fromkeys(LAMBDAS, 1.0))
    with torch.no_grad():
        learned.log_variance += 0.3
    other.load_state_dict(learned.state_dict())
    assert [other.weight(n) for n in LAMBDAS] == [learned.weight(n) for n in LAMBDAS]


def test_weights_are_checked():
    for weights in (FixedWeights, LearnedWeights):
        with pytest.raises(ConfigError, match="soft"):
            weights({"soft": -1.0})
        with pytest.raises(ConfigError, match="no weight for the term other"):
            weights(LAMBDAS)({"other": torch.tensor(1.0)})
        with pytest.raises(ConfigError, match="at least one"):
            weights(LAMBDAS)({})
    with pytest.raises(ConfigError, match="above 0"):
        LearnedWeights({"soft": 0.0})
    with pytest.raises(ConfigError, match="alpha"):
        alpha_factor(torch.ones(1), torch.ones(1), -1)


@given(st.integers(0, 99), scale, scale, st.floats(0, 10))
def test_the_bound_holds_at_any_scale(seed, size_task, size_other, alpha):
    task = size_task * draw(seed, 7, 3, dtype=torch.float32)
    other = size_other * draw(seed + 1, 7, 3, dtype=torch.float32)
    bounded, factor = bound_gradient(task, other, alpha)
    assert 0 <= factor <= 1
    assert bool(bounded.isfinite().all())
    limit = alpha * task.double().norm()
    assert bounded.double().norm() <= limit * (1 + 1e-6) + 1e-44
    if other.double().norm() <= limit:
        assert factor == 1
        assert bounded.equal(other)
    elif limit > 1e-25:
        assert bounded.double().norm().item() == pytest.approx(limit.item(), rel=1e-5)


def test_no_gradient_is_within_any_bound_and_none_is_allowed_without_a_task():
    zero, one = torch.zeros(3), torch.ones(3)
    for task, other, factor in ((zero, zero, 1), (one, zero, 1), (zero, one, 0)):
        bounded, found = bound_gradient(task, other)
        assert found == factor
        assert bounded.equal(other * factor)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_becomes_nothing(bad):
    bounded, factor = bound_gradient(torch.ones(2), torch.tensor([1.0, bad]))
    assert factor == 0
    assert bounded.equal(torch.zeros(2))
