# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.persistence.distances import chamfer, longest
from training.persistence.sliced_wasserstein import sliced_wasserstein

DISTANCES = [chamfer, sliced_wasserstein]


def diagram(n, seed):
    generator = torch.Generator().manual_seed(seed)
    births, spans = torch.rand(2, n, generator=generator, dtype=torch.float64)
    return torch.stack([births, births + spans], 1)


def chamfer_by_definition(a, b):
    total = 0.0
    for ours, theirs in ((a, b), (b, a)):
        for p in ours:
            choices = [(p[1] - p[0]) ** 2 / 2, *[(p - q).square().sum() for q in theirs]]
            total += min(float(choice) for choice in choices)
    return total / (len(a) + len(b)) if len(a) + len(b) else 0.0


def sliced_by_definition(a, b, directions=50):
    total = 0.0
    for i in range(directions):
        angle = -np.pi / 2 + i * np.pi / directions
        axis = np.array([np.cos(angle), np.sin(angle)])
        ours = [p @ axis for p in a.numpy()] + [q.mean() * axis.sum() for q in b.numpy()]
        theirs = [q @ axis for q in b.numpy()] + [p.mean() * axis.sum() for p in a.numpy()]
        total += np.abs(np.sort(ours) - np.sort(theirs)).sum()
    return total / directions / (len(a) + len(b)) if len(a) + len(b) else 0.0


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 10**6))
def test_they_equal_their_definitions(p, q, seed):
    a, b = diagram(p, seed), diagram(q, seed + 1)
    assert float(chamfer(a, b)) == pytest.approx(chamfer_by_definition(a, b), abs=1e-12)
    assert float(sliced_wasserstein(a, b)) == pytest.approx(sliced_by_definition(a, b), abs=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 10**6))
def test_they_are_symmetric_and_zero_for_equal_diagrams(distance, p, q, seed):
    a, b = diagram(p, seed), diagram(q, seed + 1)
    assert float(distance(a, b)) == pytest.approx(float(distance(b, a)), abs=1e-12)
    assert float(distance(a, a)) == pytest.approx(0, abs=1e-12)
    if p or q:
        assert float(distance(a, b)) > 0


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize(("p", "q"), [(5, 3), (4, 0), (0, 4)])
def test_gradients_equal_finite_differences(distance, p, q):
    a, b = diagram(p, 1).requires_grad_(), diagram(q, 2).requires_grad_()
    assert torch.autograd.gradcheck(distance, (a, b))


@pytest.mark.parametrize("distance", DISTANCES)
def test_empty_diagrams_cost_nothing_and_stay_in_the_graph(distance):
    empty = torch.empty(0, 2, dtype=torch.float64, requires_grad=True)
    cost = distance(empty, empty)
    cost.backward()
    assert cost.item() == 0


@pytest.mark.parametrize("distance", DISTANCES)
def test_short_bars_hardly_count(distance):
    a = diagram(6, 3)
    noise = torch.tensor([[0.5, 0.5 + 1e-6]], dtype=torch.float64).repeat(6, 1)
    assert float(distance(a, torch.cat([a, noise]))) < 1e-6


def test_only_sliced_wasserstein_counts_multiplicities():
    one = torch.tensor([[0.0, 1.0]])
    three = one.repeat(3, 1)
    assert chamfer(one, three) == 0
    assert sliced_wasserstein(one, three) > 0.1


def test_the_longest_bars_are_kept():
    bars = torch.tensor([[0.0, 1.0], [0.0, 3.0], [2.0, 4.5]])
    assert longest(bars, 2).tolist() == [[0.0, 3.0], [2.0, 4.5]]
    assert longest(bars, 5) is bars
