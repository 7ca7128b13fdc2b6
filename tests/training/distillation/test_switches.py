# SPDX-License-Identifier: Apache-2.0
"""What a loss makes of several sweeps, cameras and kept scores."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pointdistill_ros.errors import ConfigError
from training.camera.atlas import CameraAtlas, CellIndex
from training.camera.pairing import CameraPairs
from training.distillation.config import (
    CameraTerms,
    DistillConfig,
    Features,
    GradientGuidance,
    SoftTargets,
    TeacherSweeps,
    Topology,
)
from training.distillation.teacher import Teacher
from training.losses.hard_points import HardPointConfig
from training.losses.soft_targets import soft_target_loss
from training.losses.topology import TopologySettings
from training.sweeps import collate_sweeps
from training.voxel_scores import VoxelScores

from ...tiny import tiny_config
from ..test_sweeps import swept_points
from ..toy_run import halves
from .toy import SHARED, toy_parts

ALWAYS = SHARED | {
    "gradient_guidance": GradientGuidance(chance=1.0),
    "topology": Topology(chance=1.0, settings=TopologySettings(m=24)),
    "weighting": "fixed",
}
NO_TEACHER = {
    "gradient_guidance": GradientGuidance(weight=0),
    "topology": Topology(weight=0),
    "teacher": "none",
}
TERMS = ("soft_targets", "gradient_guidance", "topology", "features", "affinity", "structure")


def step(config, batch, teacher=None, atlas=None):
    network, loss = toy_parts(config, teacher=teacher, atlas=atlas)
    torch.manual_seed(5)
    total, parts = loss(network, batch)
    total.backward()
    return total.detach(), parts, network


def swept_batch(other):
    rng = np.random.default_rng(0)
    samples = [swept_points(seed, other=other) for seed in (0, 1)]
    return collate_sweeps(samples, tiny_config(encoder_depths=(2, 3)), 0.5, 10_000, rng)


def test_every_term_works_where_the_teacher_sees_more_than_the_student():
    batch = swept_batch(500)
    assert len(batch.teacher.features) > len(batch.features)
    total, parts, network = step(DistillConfig(**ALWAYS), batch)
    assert total.isfinite() and all(parts[name] > 0 for name in TERMS)
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
    blind = replace(batch.teacher, features=torch.zeros_like(batch.teacher.features))
    _, other, _ = step(DistillConfig(**ALWAYS), replace(batch, teacher=blind))
    assert other["cross_entropy"] == parts["cross_entropy"]
    assert all(other[name] != parts[name] for name in TERMS)


def test_with_one_sweep_it_is_the_plain_loss():
    batch = swept_batch(0)
    config = DistillConfig(**ALWAYS)
    swept, parts, _ = step(config, batch)
    plain, expected, _ = step(config, batch.teacher)
    assert swept == plain
    for name in TERMS:
        assert parts[name] == expected[name], name


def test_a_teacher_in_training_learns_from_all_that_it_sees():
    batch = swept_batch(500)
    config = DistillConfig(**ALWAYS | {"teacher": "together"})
    total, parts, network = step(config, batch)
    assert total.isfinite() and parts["teacher_task"] > 0
    gradients = [p.grad for p in network.extras["teacher"].parameters()]
    assert all(g is not None and g.any() for g in gradients[:4])


def scores_for(batch, rows, seed=0):
    values = torch.rand(len(rows), 3, generator=torch.Generator().manual_seed(seed))
    values = (values / values.sum(1, keepdim=True)).sort(1, descending=True).values
    return VoxelScores(torch.tensor(rows), torch.tensor([[3, 0, 7]] * len(rows)), values)


def test_kept_scores_teach_alone_where_they_are():
    config = DistillConfig(soft_targets=SoftTargets(kept=True), **NO_TEACHER)
    plain = halves()
    plain.targets[50:] = 255  # in a scan with labels, and kept scores count all the same
    batch = replace(plain, scores=scores_for(plain, list(range(40, 60))))
    _, parts, network = step(config, batch)
    network.student.train()
    torch.manual_seed(5)
    logits = network.student(batch.features, batch.pyramid)
    aims = torch.zeros_like(logits)
    aims[40:60] = batch.scores.logits(19)
    where = torch.zeros(len(logits))
    where[40:60] = 1
    share = 20 / len(logits)  # of the voxels: labels of the others are not drowned
    expected = share * soft_target_loss(logits, aims, 2.0, weights=where)
    assert parts["soft_targets"].item() == pytest.approx(expected.item(), rel=1e-5)
    _, none, _ = step(config, plain)
    assert none["soft_targets"].isnan()
    ignored = replace(config, soft_targets=SoftTargets(weight=0))
    assert "soft_targets" not in step(ignored, batch)[1]


def test_kept_scores_stand_in_for_the_teacher_s_voxel_by_voxel():
    quiet = ALWAYS | {"hard_points": HardPointConfig(0, 0, 0)}
    kept, plain = (DistillConfig(**quiet, soft_targets=SoftTargets(kept=k)) for k in (True, False))
    batch = halves()
    said = replace(batch, scores=scores_for(batch, list(range(len(batch.features)))))
    with_scores, without = step(kept, said)[1], step(kept, batch)[1]
    assert with_scores["soft_targets"] != without["soft_targets"]
    assert step(plain, said)[1]["soft_targets"] == without["soft_targets"]
    for name in TERMS[1:]:
        assert with_scores[name] == without[name]


def test_kept_scores_alone_leave_the_teacher_to_the_other_terms():
    quiet = ALWAYS | {"hard_points": HardPointConfig(0, 0, 0)}
    batch = halves()
    said = replace(batch, scores=scores_for(batch, list(range(40, 60))))
    nobody = DistillConfig(soft_targets=SoftTargets(kept=True), **NO_TEACHER)
    alone = DistillConfig(**quiet, soft_targets=SoftTargets(kept=True, alone=True))
    beside = DistillConfig(**quiet, soft_targets=SoftTargets(kept=True))
    parts, first = step(alone, said)[1], step(beside, said)[1]
    assert parts["soft_targets"] == step(nobody, said)[1]["soft_targets"] != first["soft_targets"]
    for name in TERMS[1:]:
        assert parts[name] == first[name]
    assert step(alone, batch)[1]["soft_targets"].isnan()


def test_a_teacher_that_no_term_needs_is_not_asked(monkeypatch):
    off = {
        "gradient_guidance": GradientGuidance(weight=0),
        "topology": Topology(weight=0.1, chance=1e-9),
        "soft_targets": SoftTargets(kept=True, alone=True),
    }
    batch = halves()
    said = replace(batch, scores=scores_for(batch, list(range(40, 60))))
    monkeypatch.setattr(Teacher, "answer", None)
    _, parts, _ = step(DistillConfig(**off), said)
    assert parts["soft_targets"] > 0 and parts["topology"].isnan()
    with pytest.raises(TypeError):
        step(DistillConfig(**off | {"features": Features(weight=1.0, stages=(1,))}), said)


def test_voxels_that_an_image_shows_learn_from_it_and_no_others():
    camera = CameraTerms(scores=1.0, features=0.5)
    config = DistillConfig(camera=camera, **NO_TEACHER, soft_targets=SoftTargets(weight=0))
    torch.manual_seed(0)
    atlas = CameraAtlas(torch.randn(7, 6), torch.randn(7, 19), CellIndex({("0", 0): (1, 2, 3)}, 4))
    pairs = CameraPairs(torch.tensor([3, 9]), torch.tensor([2, 6]), torch.tensor([1.0, 0.5]))
    plain = halves()
    total, parts, network = step(config, replace(plain, camera=pairs), atlas=atlas)
    alone, none, bare = step(config, plain, atlas=atlas)
    assert parts["camera_scores"] > 0 and parts["camera_features"] > 0
    expected = alone + parts["camera_scores"] + 0.5 * parts["camera_features"]
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert none["camera_scores"].isnan() and none["camera_features"].isnan()
    assert network.extras["camera"].projection.weight.grad.any()
    gradient = bare.extras["camera"].projection.weight.grad
    assert gradient is not None and not gradient.any()  # other processes wait for one


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"teacher": "none"}, "soft_targets needs one; .*kept: true"),
        (NO_TEACHER | {"soft_targets": SoftTargets(kept=True), "topology": Topology()}, "topology"),
        ({"sweeps": TeacherSweeps(count=0)}, "count must be at least 1"),
        ({"sweeps": TeacherSweeps(count=2, after=2)}, "after less than count"),
        ({"sweeps": TeacherSweeps(count=2, reach=0)}, "reach must be above 0"),
        (
            NO_TEACHER | {"soft_targets": SoftTargets(kept=True), "sweeps": TeacherSweeps(count=2)},
            "sweeps are for a teacher",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        DistillConfig(**change)
