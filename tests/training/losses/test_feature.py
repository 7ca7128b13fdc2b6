# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pointdistill_ros.errors import ConfigError
from training.losses.feature import FeatureDistillation, feature_loss

from .voxel_batch import draw, zero_in_graph

N, C_S, C_T = 15, 6, 8
DISTANCES = ("smooth-l1", "cosine")


def projection(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(C_S, C_T).double()


def slowly(student, teacher, linear, weights, distance):
    """The definition, voxel by voxel."""
    total = 0.0
    for f, g, w in zip(student, teacher, weights, strict=True):
        x = (linear.weight * f).sum(1) + linear.bias
        if distance == "cosine":
            d = 1 - (x * g).sum() / (x.norm() * g.norm())
        else:
            x, y = ((v - v.mean()) / (v.var(correction=0) + 1e-5).sqrt() for v in (x, g))
            size = (x - y).abs()
            d = torch.where(size < 1, size**2 / 2, size - 0.5).mean()
        total += float(w) * float(d.detach())
    return total / float(weights.sum())


@pytest.mark.parametrize("distance", DISTANCES)
@settings(max_examples=15)
@given(seed=st.integers(0, 99))
def test_equals_the_definition(distance, seed):
    student, teacher, weights = draw(seed, N, C_S), draw(seed + 1, N, C_T), draw(seed, N).abs()
    loss = feature_loss(student, teacher, projection(), weights, distance)
    assert loss.item() == pytest.approx(slowly(student, teacher, projection(), weights, distance))


@pytest.mark.parametrize("distance", DISTANCES)
def test_gradients_are_right_and_reach_student_and_projection_only(distance):
    student, teacher = draw(0, N, C_S).requires_grad_(), draw(1, N, C_T).requires_grad_()
    linear = projection()
    torch.autograd.gradcheck(
        lambda x, *_: feature_loss(x, teacher.detach(), linear, None, distance),
        (student, *linear.parameters()),
    )
    feature_loss(student, teacher, linear, None, distance).backward()
    assert teacher.grad is None
    assert student.grad.norm() > 0
    assert linear.weight.grad.norm() > 0


@pytest.mark.parametrize("distance", DISTANCES)
def test_voxels_that_do_not_count_change_nothing(distance):
    student, teacher, linear = draw(0, N, C_S), draw(1, N, C_T), projection()
    counts = torch.arange(N) % 3 != 0
    alone = feature_loss(student[counts], teacher[counts], linear, None, distance)
    student[0], teacher[3] = float("nan"), float("inf")
    student[6] = 100
    student.requires_grad_()
    loss = feature_loss(student, teacher, linear, counts.double(), distance)
    loss.backward()
    torch.testing.assert_close(loss, alone)
    assert bool((student.grad[~counts] == 0).all())
    assert bool(student.grad.isfinite().all())
    assert bool(linear.weight.grad.isfinite().all())


@pytest.mark.parametrize("distance", DISTANCES)
def test_size_of_the_teachers_features_does_not_matter(distance):
    student, teacher, linear = draw(0, N, C_S), draw(1, N, C_T), projection()
    torch.testing.assert_close(
        feature_loss(student, teacher, linear, None, distance),
        feature_loss(student, 300 * teacher, linear, None, distance),
        rtol=1e-3,
        atol=0,
    )


def test_order_of_voxels_does_not_matter():
    student, teacher, linear = draw(0, N, C_S), draw(1, N, C_T), projection()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        feature_loss(student, teacher, linear), feature_loss(student[order], teacher[order], linear)
    )


@pytest.mark.parametrize("n", [0, 5])
@pytest.mark.parametrize("distance", DISTANCES)
def test_where_nothing_counts_the_loss_is_zero_and_in_the_graph(n, distance):
    student, linear = draw(0, n, C_S).requires_grad_(), projection()
    loss = feature_loss(student, draw(1, n, C_T), linear, torch.zeros(n), distance)
    assert zero_in_graph(loss, student)


@pytest.mark.parametrize("distance", DISTANCES)
def test_features_of_zero_are_no_division_by_zero(distance):
    student = torch.zeros(3, C_S).double().requires_grad_()
    linear = projection()
    nn.init.zeros_(linear.bias)
    loss = feature_loss(student, torch.zeros(3, C_T).double(), linear, None, distance)
    loss.backward()
    assert loss.isfinite()
    assert bool(student.grad.isfinite().all())


@pytest.mark.parametrize("distance", DISTANCES)
def test_optimised_alone_it_falls_where_the_teacher_is_a_linear_map_of_what_the_student_knows(
    distance,
):
    student = draw(0, 60, C_S).float()
    teacher = student @ draw(1, C_S, C_T).float()
    torch.manual_seed(0)
    module = FeatureDistillation([C_S], [C_T], [0], distance)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    values = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = module([student], [teacher])
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.05 * values[0]


def test_the_module_takes_its_stages_and_their_weights():
    torch.manual_seed(0)
    module = FeatureDistillation([3, 4, 5], [6, 7, 8], [0, 2]).double()
    student = [draw(i, n, c) for i, (n, c) in enumerate(((9, 3), (7, 4), (4, 5)))]
    teacher = [draw(9 + i, n, c) for i, (n, c) in enumerate(((9, 6), (7, 7), (4, 8)))]
    weights = {2: torch.tensor([0.0, 1.0, 2.0, 0.0])}
    assert module.stages == (0, 2)
    parts = [
        feature_loss(student[s], teacher[s], module.projections[str(s)], weights.get(s))
        for s in (0, 2)
    ]
    torch.testing.assert_close(module(student, teacher, weights), torch.stack(parts).mean())
    assert {p.shape for p in module.parameters() if p.dim() == 2} == {(6, 3), (8, 5)}


def test_refuses_what_cannot_be_compared():
    with pytest.raises(ConfigError, match="no stage 5"):
        FeatureDistillation([1, 2], [1, 2], [5])
    with pytest.raises(ConfigError, match="at least one"):
        FeatureDistillation([1, 2], [1, 2], [])
    with pytest.raises(ConfigError, match="distance"):
        FeatureDistillation([1, 2], [1, 2], [1], "l7")
    with pytest.raises(ConfigError, match="row by row"):
        feature_loss(draw(0, 3, C_S), draw(0, 4, C_T), projection())
