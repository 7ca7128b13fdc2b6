# SPDX-License-Identifier: Apache-2.0
"""One feature, several users, and the bound on what a side term may do to it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from training.distillation.branches import branch
from training.losses.weighting import FixedWeights


def pulls(feature, weight, alpha=None, scale=1.0):
    """Gradients at the feature: the main one, and what a side term of some weight makes of it."""
    torch.manual_seed(0)
    a, b = torch.randn(2, *feature.shape)
    main, (side,), record = branch(feature, [alpha])
    total = scale * ((main * a).sum() + weight * (side * b).sum())
    (gradient,) = torch.autograd.grad(total, feature)
    return scale * a, gradient - scale * a, record


@given(st.floats(1e-3, 1e3), st.floats(0.01, 10), st.floats(1e-4, 1e4), st.integers(1, 40))
def test_a_side_term_stays_within_alpha_whatever_its_weight_and_scale(weight, alpha, scale, n):
    feature = torch.zeros(n, 8, requires_grad=True)
    main, side, record = pulls(feature, weight, alpha, scale)
    assert side.norm() <= alpha * main.norm() * 1.001 + 1e-6 * main.norm()
    allowed = alpha * main.norm().item() / record[1, 0].item()
    assert record[1, 1].item() == pytest.approx(min(1.0, allowed), rel=1e-4)


def test_a_hundredfold_weight_pulls_no_harder_than_the_bound():
    feature = torch.zeros(30, 8, requires_grad=True)
    main, one, _ = pulls(feature, 1.0, 0.5)
    _, hundred, record = pulls(feature, 100.0, 0.5)
    assert one.norm().item() == pytest.approx(0.5 * main.norm().item(), rel=1e-4)
    assert torch.allclose(one, hundred, atol=1e-5)
    assert record[1, 1] < 0.02


def test_a_hundredfold_weight_moves_an_encoder_no_further_than_the_bound():
    torch.manual_seed(0)
    encoder, decoder = nn.Linear(4, 6), nn.Linear(6, 3)
    features, targets = torch.randn(20, 4), torch.arange(20) % 3
    pulls = {}
    for weight in (1e-3, 1.0, 100.0):
        shared = encoder(features)
        shared.retain_grad()
        main, (side,), record = branch(shared, [0.5])
        main.retain_grad()
        task = nn.functional.cross_entropy(decoder(main), targets)
        terms = {"task": task, "term": (side - 5).square().mean()}
        total = FixedWeights({"task": 1.0, "term": weight})(terms)
        total.backward()
        pull = shared.grad - main.grad
        term = weight * 2 * (shared.detach() - 5) / shared.numel()
        norms = torch.stack([main.grad.norm(), term.norm()])
        torch.testing.assert_close(record[:, 0], norms, rtol=1e-4, atol=0)
        assert pull.norm() <= 0.5 * main.grad.norm() * (1 + 1e-4)
        torch.testing.assert_close(pull, record[1, 1] * term, rtol=1e-3, atol=1e-6)
        assert (record[1, 1] == 1) == (weight == 1e-3)
        pulls[weight] = pull
    torch.testing.assert_close(pulls[1.0], pulls[100.0], rtol=1e-3, atol=1e-6)


def test_without_a_bound_gradients_add_up():
    feature = torch.zeros(30, 8, requires_grad=True)
    _, one, _ = pulls(feature, 1.0)
    _, hundred, record = pulls(feature, 100.0)
    assert torch.allclose(100 * one, hundred, rtol=1e-3, atol=1e-4)
    assert record[1, 1] == 1
    assert record[1, 0].item() == pytest.approx(hundred.norm().item(), rel=1e-3)


def test_unused_branches_leave_no_trace():
    feature = torch.zeros(3, 2, requires_grad=True)
    main, _, record = branch(feature, [1.0, None])
    main.sum().backward()
    assert feature.grad.equal(torch.ones(3, 2))
    assert record[0, 0].item() == pytest.approx(6**0.5)
    assert record[1:].isnan().all()


def test_a_gradient_that_is_no_number_is_dropped():
    feature = torch.zeros(3, 2, requires_grad=True)
    main, (side,), _ = branch(feature, [1.0])
    (main.sum() + torch.inf * side.sum()).backward()
    assert feature.grad.equal(torch.ones(3, 2))
