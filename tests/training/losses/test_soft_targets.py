# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from pointdistill_ros.errors import ConfigError
from training.losses.soft_targets import soft_target_loss

from .voxel_batch import draw, minimise, zero_in_graph

N, C = 12, 5


def slowly(student, teacher, temperature, valid, weights):
    """The definition, voxel by voxel."""
    total = weight = 0.0
    for v in range(len(student)):
        if not valid[v]:
            continue
        p = (teacher[v] / temperature).softmax(0)
        q = (student[v] / temperature).softmax(0)
        total += float(weights[v]) * float((p * (p / q).log()).sum())
        weight += float(weights[v])
    return temperature**2 * total / weight


@given(st.integers(0, 99), st.floats(0.5, 8), st.lists(st.booleans(), min_size=N, max_size=N))
def test_equals_the_definition(seed, temperature, flags):
    flags[0] = True
    student, teacher = 3 * draw(seed, N, C), 3 * draw(seed + 100, N, C)
    weights, valid = draw(seed + 200, N).abs() + 0.1, torch.tensor(flags)
    loss = soft_target_loss(student, teacher, temperature, valid, weights)
    assert loss.item() == pytest.approx(slowly(student, teacher, temperature, valid, weights))


def test_without_temperature_it_is_the_usual_divergence():
    student, teacher = draw(0, N, C), draw(1, N, C)
    usual = functional.kl_div(
        student.log_softmax(1), teacher.log_softmax(1), log_target=True, reduction="batchmean"
    )
    torch.testing.assert_close(soft_target_loss(student, teacher, temperature=1), usual)


def test_gradient_is_right_and_reaches_the_student_only():
    student, teacher = draw(0, N, C).requires_grad_(), draw(1, N, C).requires_grad_()
    valid, weights = draw(2, N) > 0, draw(3, N).abs()
    torch.autograd.gradcheck(
        lambda x: soft_target_loss(x, teacher.detach(), 2.0, valid, weights), student
    )
    soft_target_loss(student, teacher, 2.0, valid, weights).backward()
    assert teacher.grad is None
    assert bool((student.grad[valid] != 0).any(1).all())
    assert bool((student.grad[~valid] == 0).all())


def test_size_of_the_gradient_stays_when_the_temperature_rises():
    student, teacher = 0.1 * draw(0, N, C), 0.1 * draw(1, N, C)  # small logits: the limit of high T
    sizes = []
    for temperature in (10.0, 100.0):
        x = student.clone().requires_grad_()
        soft_target_loss(x, teacher, temperature).backward()
        sizes.append(x.grad.norm().item())
    assert sizes[1] == pytest.approx(sizes[0], rel=1e-2)


def test_voxels_that_do_not_count_change_nothing():
    student, teacher = draw(0, N, C), draw(1, N, C)
    valid = torch.arange(N) % 3 != 0
    alone = soft_target_loss(student[valid], teacher[valid])
    student[~valid], teacher[~valid] = 1e4, -1e4
    torch.testing.assert_close(soft_target_loss(student, teacher, valid=valid), alone)
    torch.testing.assert_close(soft_target_loss(student, teacher, weights=valid.double()), alone)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_an_overflow_of_one_voxel_does_not_count(bad):
    student, teacher = draw(0, N, C), draw(1, N, C)
    alone = soft_target_loss(student[2:], teacher[2:])
    student[0, 1], teacher[1, 2] = bad, bad
    student.requires_grad_()
    loss = soft_target_loss(student, teacher)
    loss.backward()
    torch.testing.assert_close(loss.detach(), alone)
    assert bool(student.grad.isfinite().all())
    assert bool((student.grad[:2] == 0).all())


def test_scale_of_the_weights_does_not_matter():
    student, teacher, weights = draw(0, N, C), draw(1, N, C), draw(2, N).abs()
    torch.testing.assert_close(
        soft_target_loss(student, teacher, weights=weights),
        soft_target_loss(student, teacher, weights=1000 * weights),
    )


@pytest.mark.parametrize("n", [0, 4])
def test_where_nothing_counts_the_loss_is_zero_and_in_the_graph(n):
    student = draw(0, n, C).requires_grad_()
    valid = torch.zeros(n, dtype=torch.bool)
    assert zero_in_graph(soft_target_loss(student, draw(1, n, C), valid=valid), student)
    assert zero_in_graph(soft_target_loss(student, draw(1, n, C), weights=valid * 1.0), student)


def test_order_of_voxels_does_not_matter():
    student, teacher, weights = draw(0, N, C), draw(1, N, C), draw(2, N).abs()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        soft_target_loss(student, teacher, weights=weights),
        soft_target_loss(student[order], teacher[order], weights=weights[order]),
    )


def test_optimised_alone_it_falls_and_the_student_agrees():
    teacher = 3 * draw(1, N, C)
    first, last = minimise(lambda x: soft_target_loss(x, teacher), draw(0, N, C), steps=200)
    assert last < 0.01 * first


def test_half_precision_is_computed_in_float32():
    student, teacher = draw(0, N, C).bfloat16(), draw(1, N, C).bfloat16()
    loss = soft_target_loss(student, teacher)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, soft_target_loss(student.float(), teacher.float()))


def test_large_logits_stay_finite():
    student = torch.tensor([[3e4, -3e4]], requires_grad=True)
    loss = soft_target_loss(student, torch.tensor([[-3e4, 3e4]]))
    loss.backward()
    assert loss.item() == pytest.approx(4 * 3e4)
    assert student.grad.isfinite().all()


def test_refuses_what_does_not_match():
    with pytest.raises(ConfigError, match="temperature"):
        soft_target_loss(draw(0, N, C), draw(1, N, C), temperature=0)
    with pytest.raises(ConfigError, match="same classes"):
        soft_target_loss(draw(0, N, C), draw(1, N, 1))
