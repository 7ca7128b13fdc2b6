# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pointdistill_ros.errors import ConfigError
from training.losses.relation import affinity_loss, structure_loss

from .voxel_batch import draw, make_stage, minimise, shuffle_rows, zero_in_graph

C_S, C_T = 5, 7
LOSSES = (affinity_loss, structure_loss)


def example(seed=0, scans=2, voxels=30):
    stage = make_stage(scans, voxels, extent=5, seed=seed)
    return stage, draw(seed, len(stage), C_S), draw(seed + 1, len(stage), C_T)


def cosine(feature, i, j):
    a, b = feature[i].tolist(), feature[j].tolist()
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def pairs_of(stage):
    return list(
        zip(
            stage.neighbours.output_rows.tolist(), stage.neighbours.input_rows.tolist(), strict=True
        )
    )


@settings(max_examples=8)
@given(st.integers(0, 99))
def test_affinity_equals_the_definition(seed):
    stage, student, teacher = example(seed)
    weights = (draw(seed + 2, len(stage)) + 1).clamp(min=0)
    total = weight = 0.0
    for i, j in pairs_of(stage):
        w_i, w_j = float(weights[i]), float(weights[j])
        if w_i == 0 or w_j == 0:
            continue
        total += (w_i + w_j) / 2 * (cosine(student, i, j) - cosine(teacher, i, j)) ** 2
        weight += (w_i + w_j) / 2
    loss = affinity_loss(student, teacher, stage.neighbours, weights)
    assert loss.item() == pytest.approx(total / weight)


@settings(max_examples=8)
@given(st.integers(0, 99), st.sampled_from([0.0, 1.0, 2.5]))
def test_structure_equals_the_definition(seed, focus):
    stage, student, teacher = example(seed)
    weights = (draw(seed + 2, len(stage)) + 1).clamp(min=0)
    near = {i: [] for i in range(len(stage))}
    for i, j in pairs_of(stage):
        if weights[i] > 0 and weights[j] > 0:
            near[i].append(j)
    kept = [i for i, others in near.items() if len(others) >= 2]
    peaks = teacher.amax(1)
    mean, spread = peaks[kept].mean(), peaks[kept].std(correction=0)
    total = weight = 0.0
    for i in kept:
        logs = [
            torch.tensor([cosine(f, i, j) / 0.3 for j in near[i]]).double().log_softmax(0)
            for f in (student, teacher)
        ]
        divergence = (logs[1].exp() * (logs[1] - logs[0])).sum()
        w = float(weights[i]) * math.exp(focus * float((peaks[i] - mean) / spread))
        total += w * float(divergence)
        weight += w
    loss = structure_loss(student, teacher, stage.neighbours, weights, temperature=0.3, focus=focus)
    assert loss.item() == pytest.approx(total / weight, rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_is_right_and_reaches_the_student_only(loss):
    stage, student, teacher = example(voxels=12)
    student.requires_grad_()
    teacher.requires_grad_()
    torch.autograd.gradcheck(lambda x: loss(x, teacher.detach(), stage.neighbours), student)
    loss(student, teacher, stage.neighbours).backward()
    assert teacher.grad is None
    assert student.grad.norm() > 0


@pytest.mark.parametrize("loss", LOSSES)
def test_a_turned_and_longer_teacher_has_the_same_relations(loss):
    stage, student, _ = example()
    turn, _ = torch.linalg.qr(draw(5, C_T, C_T))
    teacher = 30 * torch.nn.functional.pad(student, (0, C_T - C_S)) @ turn
    assert loss(student, teacher, stage.neighbours).item() == pytest.approx(0, abs=1e-9)
    assert loss(student, -student.roll(1, 0), stage.neighbours).item() > 0.01


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("bad", [0.0, float("nan")])
def test_voxels_that_do_not_count_change_nothing(loss, bad):
    stage, student, teacher = example()
    out = torch.arange(len(stage)) % 4 == 0
    weights = torch.ones(len(stage)).double()
    if bad == 0:
        weights[out] = 0
    changed = student.clone()
    changed[out] = 50.0 if bad == 0 else bad
    changed.requires_grad_()
    value = loss(changed, teacher, stage.neighbours, weights)
    value.backward()
    removed = loss(student, teacher, stage.neighbours, (~out).double())
    torch.testing.assert_close(value.detach(), removed)
    assert bool(changed.grad.isfinite().all())
    assert bool((changed.grad[out] == 0).all())


@pytest.mark.parametrize("loss", LOSSES)
def test_order_of_voxels_does_not_matter(loss):
    stage, student, teacher = example()
    weights = draw(4, len(stage)).abs()
    order = torch.randperm(len(stage), generator=torch.Generator().manual_seed(0))
    table = shuffle_rows(stage.neighbours, order)
    torch.testing.assert_close(
        loss(student[order], teacher[order], table, weights[order]),
        loss(student, teacher, stage.neighbours, weights),
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_scans_add_up(loss):
    """Pairs never cross scans: two copies of a scan give what one gives."""
    stage, student, teacher = example(scans=1)
    twice = make_stage(1, 30, 5, 0)
    table = twice.neighbours
    n = len(twice)
    parts = zip(
        table.output_rows.split(table.counts), table.input_rows.split(table.counts), strict=True
    )
    pairs = [(torch.cat([a, a + n]), torch.cat([b, b + n])) for a, b in parts]
    rows, others = (torch.cat(side) for side in zip(*pairs, strict=True))
    both = type(table)(3, rows, others, tuple(2 * count for count in table.counts))
    once = loss(student, teacher, stage.neighbours)
    torch.testing.assert_close(loss(student.repeat(2, 1), teacher.repeat(2, 1), both), once)


@pytest.mark.parametrize("loss", LOSSES)
def test_where_nothing_counts_the_loss_is_zero_and_in_the_graph(loss):
    stage, student, teacher = example()
    student.requires_grad_()
    nothing = torch.zeros(len(stage))
    assert zero_in_graph(loss(student, teacher, stage.neighbours, nothing), student)
    lonely = make_stage(scans=3, voxels=1)
    alone = draw(0, 3, C_S).requires_grad_()
    assert zero_in_graph(loss(alone, draw(1, 3, C_T), lonely.neighbours), alone)


@pytest.mark.parametrize("loss", LOSSES)
def test_wide_features_are_gathered_in_pieces_with_the_same_result(loss):
    stage, student, teacher = example()
    results = []
    for width in (C_S, 2**14):  # four pairs a piece
        x = student.clone().requires_grad_()
        wide = torch.nn.functional.pad(x, (0, width - C_S))
        value = loss(wide, teacher, stage.neighbours)
        value.backward()
        results.append((value.detach(), x.grad))
    torch.testing.assert_close(*results)


def test_one_neighbour_is_no_structure():
    pair = make_stage(scans=1, voxels=40, extent=6)
    rows = pair.neighbours.output_rows[:1], pair.neighbours.input_rows[:1]
    counts = (1, *[0] * 25, 1)
    table = type(pair.neighbours)(3, torch.cat(rows), torch.cat(rows[::-1]), counts)
    student = draw(0, len(pair), C_S).requires_grad_()
    assert zero_in_graph(structure_loss(student, draw(1, len(pair), C_T), table), student)


@pytest.mark.parametrize("loss", LOSSES)
def test_features_of_zero_are_no_division_by_zero(loss):
    stage, student, teacher = example()
    student[::2] = 0
    teacher[::3] = 0
    student.requires_grad_()
    value = loss(student, teacher, stage.neighbours)
    value.backward()
    assert value.isfinite()
    assert bool(student.grad.isfinite().all())


@pytest.mark.parametrize("loss", LOSSES)
def test_optimised_alone_it_falls(loss):
    stage, student, teacher = example()
    teacher = teacher[:, : C_S - 1]  # no more than the student can say
    first, last = minimise(
        lambda x: loss(x, teacher, stage.neighbours), student, steps=100, rate=0.05
    )
    assert last < 0.2 * first


@pytest.mark.parametrize(("loss", "limit"), [(affinity_loss, "pairs"), (structure_loss, "voxels")])
def test_a_sample_estimates_the_whole_and_is_drawn_by_its_seed(loss, limit):
    stage, student, teacher = example(voxels=60)
    extra = {"focus": 0.0} if limit == "voxels" else {}
    whole = loss(student, teacher, stage.neighbours, **{limit: None}, **extra)

    def sample(seed):
        generator = torch.Generator().manual_seed(seed)
        return loss(student, teacher, stage.neighbours, **{limit: 25}, generator=generator, **extra)

    drawn = torch.stack([sample(seed) for seed in range(200)])
    assert drawn.unique().numel() > 100
    assert sample(7).equal(drawn[7])
    error = drawn.std() / len(drawn) ** 0.5
    assert abs(drawn.mean() - whole) < 4 * error
    everything = loss(student, teacher, stage.neighbours, **{limit: 10**6}, **extra)
    assert everything.equal(whole)


def test_focus_weighs_important_voxels():
    stage, _, teacher = example()
    rows = stage.neighbours.output_rows
    top = rows[teacher.amax(1)[rows].argmax()]  # what only this voxel sees is changed
    others = stage.neighbours.input_rows[rows == top]
    assert len(others) >= 2
    agreeing = teacher.clone()
    agreeing[top] = -teacher[top]
    calm, keen = (
        structure_loss(agreeing, teacher, stage.neighbours, focus=focus) for focus in (0.0, 3.0)
    )
    assert keen > 1.5 * calm


def test_affinity_asks_how_alike_and_structure_which():
    """A student in which all is a little more alike has the same local structure."""
    stage, _, teacher = example()
    unit = torch.nn.functional.normalize(teacher)
    offset = torch.cat([unit, torch.ones(len(unit), 1).double()], 1)  # every cosine is (a + 1) / 2
    assert affinity_loss(offset, teacher, stage.neighbours) > 0.1
    sharper = structure_loss(offset, teacher, stage.neighbours, temperature=0.5)
    assert sharper < 0.5 * structure_loss(-offset.roll(1, 0), teacher, stage.neighbours)


def test_refuses_what_cannot_be_compared():
    stage, student, teacher = example()
    for loss in LOSSES:
        with pytest.raises(ConfigError, match="row by row"):
            loss(student, teacher[1:], stage.neighbours)
    with pytest.raises(ConfigError, match="temperature"):
        structure_loss(student, teacher, stage.neighbours, temperature=0)
