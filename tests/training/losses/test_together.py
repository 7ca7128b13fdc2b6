# SPDX-License-Identifier: Apache-2.0
"""All terms on two networks over one pyramid, as a distillation step puts them together."""

import pytest
import torch

from training.batch import Batch
from training.distillation.branches import branch
from training.distillation.teacher import Teacher
from training.losses.feature import FeatureDistillation
from training.losses.gradient_guidance import gradient_guidance_loss
from training.losses.hard_points import HardPointConfig, hard_point_weights
from training.losses.relation import affinity_loss, structure_loss
from training.losses.segmentation import segmentation_loss
from training.losses.soft_targets import soft_target_loss
from training.losses.voxel_weights import at_stage, labelled_scans, valid_voxels
from training.losses.weighting import FixedWeights, LearnedWeights

from ...tiny import tiny_network
from .voxel_batch import IGNORE, draw, make_pyramid

CLASSES, COARSE = 19, 1
TERMS = ("task", "soft", "gradient", "feature", "affinity", "structure")


@pytest.fixture
def example():
    pyramid = make_pyramid(scans=3, voxels=30)
    teacher = tiny_network(1, encoder_channels=(16, 64), encoder_heads=(1, 4))
    teacher = Teacher(teacher)
    teacher.network.head.weight *= 20  # sure of its classes, as trained networks are
    features = draw(0, len(pyramid), 4, dtype=torch.float32)
    targets = teacher.network(features, pyramid).argmax(1)  # a teacher that is right
    targets[::5] = IGNORE
    first, last = pyramid.stages[0].offsets[1:3]
    targets[first:last] = IGNORE  # a scan without labels
    return pyramid, teacher, tiny_network(2).train(), features, targets


def step(example, module, weights):
    """Terms of one step, and what backward tells of the gradients at the shared feature."""
    pyramid, teacher, student, features, targets = example
    stage, fine = pyramid.stages[COARSE], pyramid.stages[0]

    def task_loss(logits, batch):
        return segmentation_loss(logits, batch.targets)[0]

    batch = Batch(features, targets, pyramid)
    answer = teacher.answer(batch, task_loss)
    above, teacher_logits = answer.stages, answer.logits
    outputs = student.encode(features, pyramid)
    shared, (guide,), record = branch(outputs[COARSE], [1.0])
    logits = student.head(student.decode([*outputs[:COARSE], shared], pyramid))
    task = task_loss(logits, batch)
    (pull,) = torch.autograd.grad(task, shared, retain_graph=True)

    valid = valid_voxels(targets, fine.offsets)
    shares = torch.ones(CLASSES) / CLASSES
    hard = hard_point_weights(
        HardPointConfig(), targets, fine.neighbours, teacher_logits, shares, valid=valid
    )
    coarse = at_stage(hard, pyramid, COARSE)
    guided = gradient_guidance_loss(
        guide,
        above[COARSE],
        pull,
        answer.gradient,
        stage.offsets,
        labelled_scans(targets, fine.offsets),
    )
    pair = (outputs[COARSE], above[COARSE], stage.neighbours, coarse)
    terms = (
        task,
        soft_target_loss(logits, teacher_logits, 2.0, valid, hard),
        guided,
        module(outputs, above, {COARSE: coarse}),
        affinity_loss(*pair),
        structure_loss(*pair),
    )
    return weights(dict(zip(TERMS, terms, strict=True))), terms, record


@pytest.mark.parametrize("kind", [FixedWeights, LearnedWeights])
def test_a_student_learns_from_all_terms_and_the_teacher_stays(example, kind):
    _, teacher, student, _, _ = example
    before = {k: v.clone() for k, v in teacher.network.state_dict().items()}
    torch.manual_seed(0)
    module = FeatureDistillation([16, 32], [16, 64], [COARSE])
    weights = kind(dict.fromkeys(TERMS, 1.0))
    parameters = [*student.parameters(), *module.parameters(), *weights.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3)
    history = []
    for _ in range(10):
        optimizer.zero_grad()
        total, terms, record = step(example, module, weights)
        total.backward()
        main, guide = record.tolist()
        assert 0 < guide[1] * guide[0] <= main[0] * 1.001
        assert all(bool(p.grad.isfinite().all()) for p in parameters)
        optimizer.step()
        history.append([term.item() for term in terms])
    for name, start, end in zip(TERMS, history[0], history[-1], strict=True):
        assert end < start, name
    assert all(p.grad is None for p in teacher.network.parameters())
    assert all(v.equal(before[k]) for k, v in teacher.network.state_dict().items())


def test_the_scan_without_labels_learns_from_the_teacher_alone(example):
    pyramid, _, student, _, targets = example
    student.eval()  # batch norms of a training pass join the scans
    a, b = pyramid.stages[0].offsets[1:3]
    module = FeatureDistillation([16, 32], [16, 64], [COARSE])
    _, terms, _ = step(example, module, FixedWeights(dict.fromkeys(TERMS, 1.0)))
    logits = student.head.weight  # every logit comes from it
    assert bool((targets[a:b] == IGNORE).all())
    slopes = [torch.autograd.grad(t, logits, retain_graph=True)[0].norm() for t in terms[:2]]
    assert all(s > 0 for s in slopes)
