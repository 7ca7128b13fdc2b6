# SPDX-License-Identifier: Apache-2.0
import doctest
import importlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from training.losses.feature import FeatureDistillation
from training.losses.gradient_guidance import gradient_guidance_loss
from training.losses.hard_points import HardPointConfig, hard_point_weights
from training.losses.relation import affinity_loss
from training.losses.soft_targets import soft_target_loss
from training.losses.voxel_weights import at_stage, labelled_scans, valid_voxels, weighted_mean
from training.losses.weighting import LearnedWeights, bound_gradient

from ...tiny import tiny_config
from .voxel_batch import IGNORE, draw, make_pyramid

MODULES = (
    "feature",
    "gradient_guidance",
    "hard_points",
    "relation",
    "soft_targets",
    "voxel_weights",
    "weighting",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_the_docstrings_are_true(name):
    module = importlib.import_module(f"training.losses.{name}")
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_in_a_labelled_scan_only_labelled_voxels_are_valid():
    targets = torch.tensor([1, IGNORE, 0, IGNORE, IGNORE, IGNORE, 3])
    offsets = (0, 3, 5, 7)
    assert labelled_scans(targets, offsets).tolist() == [True, False, True]
    assert valid_voxels(targets, offsets).tolist() == [True, False, True, True, True, False, True]


def test_weights_of_a_stage_are_means_over_the_finest_voxels_inside():
    pyramid = make_pyramid()
    weights = draw(0, len(pyramid)).abs().float()
    expected = torch.zeros(len(pyramid.stages[1]))
    for parent in range(len(expected)):
        expected[parent] = weights[pyramid.stages[0].parent == parent].mean()
    torch.testing.assert_close(at_stage(weights, pyramid, 1), expected)
    torch.testing.assert_close(at_stage(weights, pyramid, 0), weights)


def test_weights_of_the_third_stage_are_means_over_the_finest_voxels_too():
    three = tiny_config(
        encoder_depths=(1, 1, 1),
        encoder_channels=(16, 16, 16),
        encoder_heads=(1, 1, 1),
        decoder_depths=(1, 1),
        decoder_channels=(16, 16),
        decoder_heads=(1, 1),
        strides=(2, 2),
        patch_sizes=(64, 64, 64),
    )
    pyramid = make_pyramid(config=three)
    weights = draw(0, len(pyramid)).abs().float()
    cells = pyramid.stages[0].coords >> 2
    for row, (cell, scan) in enumerate(
        zip(pyramid.stages[2].coords, pyramid.stages[2].scan, strict=True)
    ):
        inside = (cells == cell).all(1) & (pyramid.stages[0].scan == scan)
        mean = weights[inside].mean()
        torch.testing.assert_close(at_stage(weights, pyramid, 2)[row], mean)


def test_a_coarse_voxel_counts_if_anything_in_it_does():
    pyramid = make_pyramid()
    counts = draw(0, len(pyramid)) > 1
    above = at_stage(counts, pyramid, 1) > 0
    assert set(above.nonzero().flatten().tolist()) == set(pyramid.stages[0].parent[counts].tolist())
    assert not bool(above.all())


def test_mean_of_nothing_is_zero():
    values = torch.ones(3, requires_grad=True)
    mean = weighted_mean(values, torch.zeros(3))
    mean.backward()
    assert mean == 0
    assert values.grad.equal(torch.zeros(3))


class NoAnswerToTheHost(TorchDispatchMode):
    """Refuses what makes a host wait for a GPU: values and shapes that depend on values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        refused = ("_local_scalar_dense", "nonzero", "unique", "_unique2", "masked_select", "item")
        if func.overloadpacket.__name__ in refused:
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


def test_no_loss_waits_for_a_gpu():
    pyramid = make_pyramid()
    n, stage = len(pyramid), pyramid.stages[0]
    student, teacher = draw(0, n, 8).requires_grad_(), draw(1, n, 8)
    targets = torch.arange(n) % 9
    targets[targets == 8] = IGNORE
    feature, learned = FeatureDistillation([8], [8], [0]).double(), LearnedWeights({"all": 1.0})
    with NoAnswerToTheHost():
        valid = valid_voxels(targets, stage.offsets)
        weights = hard_point_weights(
            HardPointConfig(),
            targets,
            stage.neighbours,
            teacher,
            torch.ones(8) / 8,
            torch.eye(8, dtype=torch.bool),
            valid,
        )
        labelled = labelled_scans(targets, stage.offsets)
        total = soft_target_loss(student, teacher, 2.0, valid, weights)
        total = total + feature([student], [teacher], {0: at_stage(weights, pyramid, 0)})
        total = total + affinity_loss(student, teacher, stage.neighbours, weights, pairs=40)
        gradients = (draw(2, n, 8), draw(3, n, 8))
        total = total + gradient_guidance_loss(
            student, teacher, *gradients, stage.offsets, labelled
        )
        learned({"all": total}).backward()
        bound_gradient(student.grad, gradients[0])
    assert bool(student.grad.isfinite().all())
