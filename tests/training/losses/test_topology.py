# SPDX-License-Identifier: Apache-2.0
import doctest
from itertools import pairwise

import numpy as np
import pytest
import torch

import training.losses.topology as module
from pointdistill_ros.config import load_config
from pointdistill_ros.errors import ConfigError
from training.losses.topology import TopologyLoss, TopologySettings, topology_loss
from training.persistence.distances import chamfer
from training.persistence.filtration import rips_diagrams
from training.persistence.sliced_wasserstein import sliced_wasserstein


def features(n, d, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, d)))


def circle(n, seed=0):
    """On a circle, in a plane of 8-D."""
    turn = torch.arange(n, dtype=torch.float64) * (2 * torch.pi / n)
    return torch.stack([turn.cos(), turn.sin()], 1) @ torch.linalg.qr(features(8, 8, seed)).Q[:2]


def everything(*sizes):
    bounds = np.cumsum([0, *sizes])
    return [torch.arange(a, b) for a, b in pairwise(bounds.tolist())]


def test_the_example_in_the_docstring_is_true():
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("name", "distance"), [("chamfer", chamfer), ("sliced-wasserstein", sliced_wasserstein)]
)
def test_the_loss_is_the_weighted_distance_of_normalised_diagrams(name, distance):
    student, teacher = features(50, 6), features(50, 9, 1)
    settings = TopologySettings(weights=(0.5, 2.0, 0.25), m=20, distance=name)
    rows = [torch.arange(0, 40, 2), torch.arange(41, 50)]
    loss, report = topology_loss(student, teacher, rows, settings)
    expected = 0.0
    for r in rows:
        ours = rips_diagrams(student[r] / torch.pdist(student[r]).mean(), 2)
        theirs = rips_diagrams(teacher[r] / torch.pdist(teacher[r]).mean(), 2)
        pairs = zip(settings.weights, ours, theirs, strict=True)
        expected += sum(weight * distance(a, b) for weight, a, b in pairs) / 2
    torch.testing.assert_close(loss, expected)
    assert (report.scans, report.small, report.skipped) == (2, 0, 0)


@pytest.mark.parametrize("seed", range(3))
def test_the_same_shape_costs_nothing_at_any_scale_rotation_or_width(seed):
    student = features(40, 5, seed)
    basis = torch.linalg.qr(features(12, 12, seed + 1)).Q[:5]  # 5-D into 12-D
    loss, report = topology_loss(student, 7 * student @ basis + 3, everything(25, 15))
    assert float(loss) == pytest.approx(0, abs=1e-12)
    assert report.student == pytest.approx(report.teacher)
    other, _ = topology_loss(student, features(40, 12, seed + 2), everything(25, 15))
    assert float(other) > 1e-5


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"distance": "sliced-wasserstein"},
        {"normalisation": "median"},
        {"normalisation": "unit"},
        {"normalisation": "none"},
        {"scale": "batch"},
        {"quantiles": (0.05, 0.5)},
        {"bars": 3},
        {"weights": (1.0, 0.0, 0.0)},
        {"weights": (0.0, 1.0, 0.0)},
        {"weights": (1.0, 1.0, 1.0), "m": 16},
    ],
    ids=str,
)
def test_gradients_equal_finite_differences(changes):
    settings = TopologySettings(**changes)
    # around a sphere: bars in H2
    student = torch.nn.functional.normalize(features(26, 3), dim=1) + 0.1 * features(26, 3, 1)
    teacher, rows = features(26, 5, 2), everything(14, 12)
    assert torch.autograd.gradcheck(
        lambda x: topology_loss(x, teacher, rows, settings)[0],
        student.requires_grad_(),
        fast_mode=True,
    )


def test_a_detached_scale_is_a_constant_to_the_gradient():
    student = features(20, 4).requires_grad_()
    grads = []
    for detach in (False, True):
        settings = TopologySettings(detach_scale=detach)
        loss, _ = topology_loss(student, features(20, 4, 1), everything(20), settings)
        grads.append(torch.autograd.grad(loss, student)[0])
    # With the scale in the graph, growing all features does nothing.
    assert float((grads[0] * student.detach()).sum()) == pytest.approx(0, abs=1e-12)
    assert abs(float((grads[1] * student.detach()).sum())) > 1e-4


def test_only_the_student_and_only_sampled_rows_get_a_gradient():
    student, teacher = features(30, 4).requires_grad_(), features(30, 4, 1).requires_grad_()
    rows = [torch.arange(0, 30, 2)]
    loss, _ = topology_loss(student, teacher, rows)
    loss.backward()
    assert teacher.grad is None
    assert bool((student.grad[1::2] == 0).all())
    assert int((student.grad != 0).any(1).sum()) > 5


def test_scans_are_compared_one_by_one():
    student, teacher = features(45, 4), features(45, 6, 1)
    rows = everything(20, 25)
    both, _ = topology_loss(student, teacher, rows)
    one, other = (topology_loss(student, teacher, [r])[0] for r in rows)
    torch.testing.assert_close(both, (one + other) / 2)


def test_the_order_of_rows_does_not_matter():
    student, teacher = features(30, 4), features(30, 6, 1)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    straight, _ = topology_loss(student, teacher, [torch.arange(30)])
    mixed, _ = topology_loss(student, teacher, [order])
    torch.testing.assert_close(straight, mixed)


@pytest.mark.parametrize("side", ["student", "teacher"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_scan_that_is_not_finite_is_skipped_and_counted(side, bad):
    student, teacher = features(40, 4), features(40, 6, 1)
    rows = everything(18, 22)
    expected, _ = topology_loss(student, teacher, rows[1:])
    (student if side == "student" else teacher)[3, 2] = bad
    student.requires_grad_()
    loss, report = topology_loss(student, teacher, rows)
    loss.backward()
    assert (report.scans, report.skipped) == (1, 1)
    torch.testing.assert_close(loss.detach(), expected)
    assert bool(student.grad.isfinite().all())


@pytest.mark.parametrize("sizes", [(3, 2), (), (0,)])
def test_without_a_scan_the_loss_is_zero_and_in_the_graph(sizes):
    student = features(5, 4).requires_grad_()
    loss, report = topology_loss(student, features(5, 6, 1), everything(*sizes))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(student.grad, torch.zeros(5, 4, dtype=torch.float64))
    assert (report.scans, report.small) == (0, len(sizes))


def test_without_a_finite_scan_the_gradient_is_zero():
    student = torch.full((6, 4), torch.nan, requires_grad=True)
    loss, report = topology_loss(student, torch.zeros(6, 4), everything(6))
    loss.backward()
    assert loss.item() == 0
    assert report.skipped == 1
    assert torch.equal(student.grad, torch.zeros(6, 4))


@pytest.mark.parametrize("scale", ["scan", "batch"])
def test_collapsed_features_show_in_the_report_and_give_a_finite_gradient(scale):
    student = torch.ones(12, 4, requires_grad=True)
    settings = TopologySettings(scale=scale)
    loss, report = topology_loss(student, features(12, 6, 1).float(), everything(12), settings)
    loss.backward()
    assert report.student == (0, 0)
    assert report.teacher[0] > 1
    assert loss.item() > 0
    assert bool(student.grad.isfinite().all())


def test_a_median_of_zero_has_no_scale():
    student = torch.cat([torch.ones(20, 3), features(4, 3).float()])
    settings = TopologySettings(normalisation="median")
    loss, report = topology_loss(student, features(24, 3, 1).float(), everything(24), settings)
    assert (loss.item(), report.skipped) == (0, 1)


def test_half_precision_is_computed_in_float64():
    student, teacher = features(20, 8).bfloat16(), features(20, 8, 1).bfloat16()
    loss, _ = topology_loss(student, teacher, everything(20))
    exact, _ = topology_loss(student.double(), teacher.double(), everything(20))
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(exact), rel=1e-6)


def test_one_scale_for_the_batch_keeps_the_sizes_of_scans_apart():
    student = features(40, 4)
    student[20:] *= 3
    teacher = features(40, 6, 1)
    rows = everything(20, 20)
    batch = TopologySettings(scale="batch")
    assert topology_loss(3 * student, teacher, rows, batch)[0] == pytest.approx(
        topology_loss(student, teacher, rows, batch)[0]
    )
    student[:20] *= 3  # invisible to a scale per scan
    changed = [topology_loss(student, teacher, rows, s)[0] for s in (TopologySettings(), batch)]
    student[:20] /= 3
    before = [topology_loss(student, teacher, rows, s)[0] for s in (TopologySettings(), batch)]
    assert changed[0] == pytest.approx(before[0])
    assert abs(float(changed[1] - before[1])) > 1e-3


def test_a_learned_factor_finds_the_scale_and_stays_finite():
    points = features(20, 4).float()
    loss_of = TopologyLoss(TopologySettings(scale="learned", normalisation="none"))
    optimizer = torch.optim.Adam(loss_of.parameters(), lr=0.1)
    for _ in range(30):
        optimizer.zero_grad()
        loss, _ = loss_of(points, 2 * points, everything(20))
        loss.backward()
        optimizer.step()
    assert 1.5 < loss_of.log_scale.exp().item() < 2.5
    with torch.no_grad():
        loss_of.log_scale.fill_(1e9)
    loss, _ = loss_of(points, points, everything(20))
    assert bool(loss.isfinite())
    assert list(TopologyLoss().parameters()) == []


def test_quantiles_leave_out_what_lies_outside():
    """A circle's loop lives between its step and its diameter; a short window does not see it."""
    ring, blob = circle(24), features(24, 8)
    whole, low = TopologySettings(weights=(0, 1, 0)), TopologySettings(
        weights=(0, 1, 0), quantiles=(0.0, 0.04)
    )  # fmt: skip
    _, seen = topology_loss(blob, ring, everything(24), whole)
    _, unseen = topology_loss(blob, ring, everything(24), low)
    assert seen.teacher[1] > 0.5
    assert unseen.teacher[1] == 0


@pytest.mark.parametrize("distance", ["chamfer", "sliced-wasserstein"])
def test_optimised_alone_a_blob_becomes_a_circle(distance):
    teacher = circle(24)
    student = features(24, 2).requires_grad_()
    settings = TopologySettings(distance=distance)
    optimizer = torch.optim.Adam([student], lr=0.1)
    losses, reports = [], []
    for _ in range(120):
        optimizer.zero_grad()
        loss, report = topology_loss(student, teacher, everything(24), settings)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        reports.append(report)
    assert losses[-1] < 0.4 * losses[0]
    assert reports[0].student[1] < 0.5 * report.teacher[1]  # a blob
    assert report.student[1] == pytest.approx(report.teacher[1], rel=0.2)
    spans = [float(b[1] - b[0]) for b in rips_diagrams(student.detach())[1]]
    assert max(spans) > 0.9 * sum(spans)  # in one loop


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"m": 3}, "m = 3"),
        ({"weights": (1.0, 1.0, 1.0)}, "at most 128"),
        ({"weights": (0.0, 0.0, 0.0)}, "weights"),
        ({"weights": (1.0, -1.0, 0.0)}, "weights"),
        ({"quantiles": (0.5, 0.5)}, "quantiles"),
        ({"bars": 0}, "bars"),
        ({"directions": 0}, "directions"),
    ],
)
def test_settings_that_cannot_be_computed_are_refused(changes, named):
    with pytest.raises(ConfigError, match=named):
        TopologySettings(**changes)


def test_settings_are_read_from_a_file(tmp_path):
    path = tmp_path / "topology.yaml"
    path.write_text("weights: [1, 0.5, 0]\ndistance: sliced-wasserstein\nquantiles: [0, 0.7]\n")
    settings = load_config(TopologySettings, path)
    assert settings.weights == (1, 0.5, 0)
    assert settings.max_dimension == 1
