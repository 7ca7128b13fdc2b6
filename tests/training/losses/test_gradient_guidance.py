# SPDX-License-Identifier: Apache-2.0
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pointdistill_ros.errors import ConfigError
from training.losses.gradient_guidance import (
    channel_weights,
    gradient_guidance_loss,
    guidance_map,
)

from .voxel_batch import draw, minimise, shuffle_in_scans, zero_in_graph

OFFSETS = (0, 9, 14, 26)
N, C_S, C_T = OFFSETS[-1], 6, 10
FORMS = [("standard", False), ("standard", True), ("min-max", False), ("min-max", True)]


def example(seed=0):
    """Features and task gradients of student and teacher."""
    shapes = (C_S, C_T, C_S, C_T)
    return [draw(seed + i, N, width) for i, width in enumerate(shapes)]


def slowly(student, teacher, grad_s, grad_t, offsets, normalise, magnitude):
    """The definition, scan by scan and voxel by voxel."""
    losses = []
    for a, b in pairwise(offsets):
        maps = []
        for feature, gradient in ((student, grad_s), (teacher, grad_t)):
            w = [sum(abs(float(g)) for g in gradient[a:b, k]) for k in range(gradient.shape[1])]
            w = [value / sum(w) for value in w]
            m = [sum(x * float(f) for x, f in zip(w, row, strict=True)) for row in feature[a:b]]
            m = [abs(value) if magnitude else value for value in m]
            if normalise == "standard":
                mean = sum(m) / len(m)
                variance = sum((value - mean) ** 2 for value in m) / len(m)
                m = [(value - mean) / (variance + 1e-6) ** 0.5 for value in m]
            else:
                m = [(value - min(m)) / (max(m) - min(m)) for value in m]
            maps.append(m)
        cost = 0.0
        for x, y in zip(*maps, strict=True):
            d = abs(x - y)
            cost += d * d / 2 if d < 1 else d - 0.5
        losses.append(cost / (b - a))
    return sum(losses) / len(losses)


@pytest.mark.parametrize(("normalise", "magnitude"), FORMS)
@settings(max_examples=10)
@given(seed=st.integers(0, 99))
def test_equals_the_definition(normalise, magnitude, seed):
    tensors = example(seed)
    loss = gradient_guidance_loss(*tensors, OFFSETS, None, normalise, magnitude)
    assert loss.item() == pytest.approx(slowly(*tensors, OFFSETS, normalise, magnitude))


@pytest.mark.parametrize(("normalise", "magnitude"), FORMS)
def test_gradient_is_right(normalise, magnitude):
    student, *others = example()
    torch.autograd.gradcheck(
        lambda x: gradient_guidance_loss(x, *others, OFFSETS, None, normalise, magnitude),
        student.requires_grad_(),
    )


def test_only_the_student_feature_gets_a_gradient():
    tensors = [t.requires_grad_() for t in example()]
    gradient_guidance_loss(*tensors, OFFSETS).backward()
    student, *others = tensors
    assert student.grad.norm() > 0
    assert [t.grad for t in others] == [None] * 3


def test_channel_weights_are_mean_sizes_per_scan_with_sum_one():
    gradient = draw(0, N, C_S)
    weights = channel_weights(gradient, OFFSETS)
    torch.testing.assert_close(weights.sum(1), torch.ones(3).double())
    middle = gradient[9:14].abs().mean(0)
    torch.testing.assert_close(weights[1], middle / middle.sum())
    tiny = channel_weights(1e-30 * gradient.float(), OFFSETS)
    torch.testing.assert_close(tiny, weights.float())


def test_a_channel_that_the_task_does_not_use_has_no_say():
    student, teacher, grad_s, grad_t = example()
    grad_s[:, 2] = 0
    loss = gradient_guidance_loss(student, teacher, grad_s, grad_t, OFFSETS)
    changed = student.clone()
    changed[:, 2] = 100
    assert gradient_guidance_loss(changed, teacher, grad_s, grad_t, OFFSETS) == loss


@pytest.mark.parametrize("normalise", ["standard", "min-max"])
def test_shift_and_scale_of_a_network_do_not_matter(normalise):
    student, *others = example()
    loss = gradient_guidance_loss(student, *others, OFFSETS, None, normalise)
    other = gradient_guidance_loss(7 * student + 3, *others, OFFSETS, None, normalise)
    torch.testing.assert_close(other, loss, rtol=1e-4, atol=1e-5)


def test_a_scan_contributes_the_same_in_any_company():
    tensors = example()
    whole = gradient_guidance_loss(*tensors, OFFSETS)
    alone = [
        gradient_guidance_loss(*(t[a:b] for t in tensors), (0, b - a)) for a, b in pairwise(OFFSETS)
    ]
    torch.testing.assert_close(whole, torch.stack(alone).mean())
    louder = [t.clone() for t in tensors]  # an outlier in the last scan
    louder[0][20] *= 1e4
    outlier = gradient_guidance_loss(*(t[14:] for t in louder), (0, 12))
    whole = gradient_guidance_loss(*louder, OFFSETS)
    torch.testing.assert_close(3 * whole - outlier, alone[0] + alone[1])


def test_scans_without_labels_do_not_count():
    tensors = example()
    labelled = torch.tensor([True, False, True])
    loss = gradient_guidance_loss(*tensors, OFFSETS, labelled)
    kept = torch.cat([torch.arange(9), torch.arange(14, 26)])
    alone = gradient_guidance_loss(*(t[kept] for t in tensors), (0, 9, 21))
    torch.testing.assert_close(loss, alone)
    tensors[2][9:14] = 0  # no gradient says the same as no label
    torch.testing.assert_close(gradient_guidance_loss(*tensors, OFFSETS), alone)
    student = tensors[0].requires_grad_()
    gradient_guidance_loss(*tensors, OFFSETS).backward()
    assert bool((student.grad[9:14] == 0).all())
    assert bool((student.grad[kept] != 0).any())


@pytest.mark.parametrize("which", range(4))
def test_a_scan_with_an_overflow_does_not_count(which):
    tensors = example()
    kept = torch.cat([torch.arange(9), torch.arange(14, 26)])
    alone = gradient_guidance_loss(*(t[kept] for t in tensors), (0, 9, 21))
    tensors[which][10, 0] = float("inf")
    student = tensors[0].requires_grad_()
    loss = gradient_guidance_loss(*tensors, OFFSETS)
    loss.backward()
    torch.testing.assert_close(loss.detach(), alone)
    assert bool(student.grad.isfinite().all())


def test_where_no_scan_counts_the_loss_is_zero_and_in_the_graph():
    student, teacher, grad_s, grad_t = example()
    student.requires_grad_()
    none = torch.zeros(3, dtype=torch.bool)
    assert zero_in_graph(
        gradient_guidance_loss(student, teacher, grad_s, grad_t, OFFSETS, none), student
    )
    assert zero_in_graph(
        gradient_guidance_loss(student, teacher, 0 * grad_s, 0 * grad_t, OFFSETS), student
    )
    empty = [t[:0].detach() for t in (student, teacher, grad_s, grad_t)]
    empty[0].requires_grad_()
    assert zero_in_graph(gradient_guidance_loss(*empty, (0, 0)), empty[0])


@pytest.mark.parametrize("normalise", ["standard", "min-max"])
@pytest.mark.parametrize("n", [1, 3])
def test_one_voxel_and_equal_voxels_are_no_division_by_zero(n, normalise):
    student = torch.ones(n, C_S).double().requires_grad_()
    others = (torch.ones(n, C_T).double(), draw(0, n, C_S), draw(1, n, C_T))
    loss = gradient_guidance_loss(student, *others, (0, n), None, normalise)
    loss.backward()
    assert loss.isfinite()
    assert bool(student.grad.isfinite().all())


def test_order_of_voxels_in_a_scan_does_not_matter():
    tensors, order = example(), shuffle_in_scans(OFFSETS)
    torch.testing.assert_close(
        gradient_guidance_loss(*(t[order] for t in tensors), OFFSETS),
        gradient_guidance_loss(*tensors, OFFSETS),
    )


@pytest.mark.parametrize(("normalise", "magnitude"), FORMS)
def test_optimised_alone_it_falls(normalise, magnitude):
    student, *others = example()
    first, last = minimise(
        lambda x: gradient_guidance_loss(x, *others, OFFSETS, None, normalise, magnitude), student
    )
    assert last < 0.1 * first


def test_maps_are_normalised_over_the_scan():
    feature, weights = draw(0, 50, C_S), torch.full((C_S,), 1 / C_S).double()
    standard = guidance_map(feature, weights)
    assert standard.mean().item() == pytest.approx(0, abs=1e-9)
    assert standard.std(correction=0).item() == pytest.approx(1, rel=1e-4)
    low, high = guidance_map(feature, weights, "min-max").aminmax()
    assert (low.item(), high.item()) == pytest.approx((0, 1))


def test_refuses_other_rows():
    student, teacher, grad_s, grad_t = example()
    with pytest.raises(ConfigError, match="row by row"):
        gradient_guidance_loss(student, teacher[1:], grad_s, grad_t[1:], OFFSETS)
