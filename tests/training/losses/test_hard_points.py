# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pointdistill_ros.errors import ConfigError
from training.losses.hard_points import (
    HardPointConfig,
    class_boundaries,
    hard_point_weights,
    rarity,
    uncertainty,
)

from .voxel_batch import IGNORE, draw, make_stage, shuffle_rows

CLASSES = 4
NONE = HardPointConfig(boundary=0, rarity=0, uncertainty=0)
SHARES = torch.tensor([0.5, 0.4, 0.05, 0.0005])


def example(seed=0, scans=2):
    """A stage, labels (some missing) and logits of a teacher."""
    stage = make_stage(scans, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES + 1, (len(stage),), generator=generator)
    return stage, labels.where(labels < CLASSES, IGNORE), draw(seed, len(stage), CLASSES)


def touching(stage, i, j):
    near = bool(((stage.coords[i] - stage.coords[j]).abs() <= 1).all())
    return i != j and near and bool(stage.scan[i] == stage.scan[j])


@settings(max_examples=10)
@given(st.integers(0, 99))
def test_boundaries_equal_the_definition(seed):
    stage, labels, _ = example(seed)
    expected = [
        any(
            touching(stage, i, j)
            and IGNORE not in (labels[i], labels[j])
            and bool(labels[i] != labels[j])
            for j in range(len(stage))
        )
        for i in range(0, len(stage), 9)
    ]
    assert class_boundaries(labels, stage.neighbours)[::9].tolist() == expected


def test_unions_are_a_boundary_only_where_they_exclude_each_other():
    stage = make_stage(1, voxels=8, extent=2)  # every voxel touches every other
    members = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]]).bool()
    labels = torch.full((len(stage),), 3)
    labels[0] = 1  # one of the union's classes
    assert not bool(class_boundaries(labels, stage.neighbours, members).any())
    labels[0] = 2
    assert bool(class_boundaries(labels, stage.neighbours, members).all())
    labels[0] = IGNORE
    assert not bool(class_boundaries(labels, stage.neighbours, members).any())
    assert bool(class_boundaries(labels.where(labels != IGNORE, 2), stage.neighbours).all())


def test_exact_labels_have_the_same_boundaries_with_and_without_members():
    stage, labels, _ = example()
    plain = class_boundaries(labels, stage.neighbours)
    assert plain.equal(class_boundaries(labels, stage.neighbours, torch.eye(CLASSES).bool()))
    assert 0 < int(plain.sum()) < len(plain)


def test_rare_classes_are_rare():
    labels = torch.tensor([0, 1, 2, 3, IGNORE])
    assert rarity(labels, SHARES, 0.05).tolist() == pytest.approx([0.1, 0.125, 1, 1, 0])
    absent = rarity(labels, torch.tensor([0.6, 0.4, 0.0, 0.0]), 0.05)
    assert absent[2:].tolist() == [1, 1, 0]
    union = torch.cat([torch.eye(CLASSES), torch.tensor([[1.0, 0, 0, 1]])]).bool()
    assert rarity(torch.tensor([4]), SHARES, 0.05, union).item() == pytest.approx(0.55)


def test_uncertainty_is_the_entropy_in_units_of_its_maximum():
    logits = torch.tensor([[0.0, 0, 0, 0], [1e3, 0, 0, 0], [50, 50, 0, 0]])
    assert uncertainty(logits).tolist() == pytest.approx([1, 0, 0.5], abs=1e-6)
    assert uncertainty(torch.tensor([[float("nan"), 0.0]])).item() == 0


@settings(max_examples=25)
@given(st.integers(0, 99), *[st.floats(0, 5)] * 3)
def test_weights_equal_the_definition_and_have_mean_one(seed, b, r, u):
    stage, labels, logits = example(seed)
    valid = labels != IGNORE
    config = HardPointConfig(b, r, u, rare_share=0.05)
    weights = hard_point_weights(
        config, labels, stage.neighbours, logits, SHARES, torch.eye(CLASSES).bool(), valid
    )
    raw = 1 + b * class_boundaries(labels, stage.neighbours).float()
    raw = raw + r * rarity(labels, SHARES, 0.05) + u * uncertainty(logits)
    torch.testing.assert_close(weights, (raw / raw[valid].mean()).where(valid, 0))
    assert weights[valid].mean().item() == pytest.approx(1, rel=1e-5)
    largest, smallest = weights[valid].max().item(), weights[valid].min().item()
    assert largest <= (1 + b + r + u) * smallest * 1.0001


def test_switched_off_every_voxel_weighs_one():
    stage, labels, logits = example()
    assert hard_point_weights(NONE, labels, stage.neighbours, logits).eq(1).all()


@pytest.mark.parametrize("part", ["boundary", "rarity", "uncertainty"])
def test_each_part_alone_raises_its_voxels(part):
    stage, labels, logits = example()
    weights = hard_point_weights(
        replace(NONE, **{part: 3.0}), labels, stage.neighbours, logits, SHARES
    )
    measure = {
        "boundary": class_boundaries(labels, stage.neighbours).float(),
        "rarity": rarity(labels, SHARES),
        "uncertainty": uncertainty(logits),
    }[part]
    assert weights[measure.argmax()] > 1 > weights[measure.argmin()]
    torch.testing.assert_close(weights / weights[0], (1 + 3 * measure) / (1 + 3 * measure[0]))


def test_less_trust_where_the_teacher_is_unsure():
    stage, labels, _ = example()
    logits = torch.zeros(len(stage), CLASSES)
    logits[1:, 0] = 100
    weights = hard_point_weights(replace(NONE, uncertainty=-1.0), labels, stage.neighbours, logits)
    assert weights[0].item() == pytest.approx(0, abs=1e-6)
    assert bool((weights[1:] > 1).all())


def test_without_a_valid_voxel_all_weights_are_zero():
    stage, labels, logits = example()
    nothing = torch.zeros(len(stage), dtype=torch.bool)
    weights = hard_point_weights(
        HardPointConfig(), labels, stage.neighbours, logits, SHARES, valid=nothing
    )
    assert weights.equal(torch.zeros(len(stage)))


def test_order_of_voxels_does_not_matter_and_the_teacher_gets_no_gradient():
    stage, labels, logits = example()
    logits.requires_grad_()
    config = HardPointConfig()
    weights = hard_point_weights(config, labels, stage.neighbours, logits, SHARES)
    assert not weights.requires_grad
    order = torch.randperm(len(stage), generator=torch.Generator().manual_seed(0))
    table = shuffle_rows(stage.neighbours, order)
    shuffled = hard_point_weights(config, labels[order], table, logits[order], SHARES)
    torch.testing.assert_close(shuffled, weights[order])


def test_settings_are_checked():
    for wrong in ({"boundary": -0.1}, {"uncertainty": -1.1}, {"rarity": float("inf")}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            HardPointConfig(**wrong)
    with pytest.raises(ConfigError, match="rare_share"):
        HardPointConfig(rare_share=0)
    stage, labels, logits = example()
    with pytest.raises(ConfigError, match="shares"):
        hard_point_weights(HardPointConfig(), labels, stage.neighbours, logits)
