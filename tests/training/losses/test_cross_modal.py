# SPDX-License-Identifier: Apache-2.0
import doctest

import pytest
import torch

from pointdistill_ros.errors import ConfigError
from training.camera.atlas import CameraAtlas, CellIndex
from training.camera.pairing import CameraPairs
from training.losses import cross_modal
from training.losses.cross_modal import CrossModalConfig, CrossModalDistillation

from .voxel_batch import draw, minimise, zero_in_graph

N, WIDTH, CLASSES, IMAGE = 20, 6, 5, 8
BOTH = CrossModalConfig()
INDEX = CellIndex({("00", 0): (1, 3, 4)}, 4)
NOBODY = CameraPairs(*(torch.zeros(0, dtype=d) for d in (torch.int64, torch.int64, torch.float32)))


def make_atlas(seed=0, cells=12, classes=CLASSES):
    features, logits = draw(seed, cells + 1, IMAGE), draw(seed + 1, cells + 1, classes)
    return CameraAtlas(features.float(), 3 * logits.float(), INDEX)


def make_pairs():
    weights = torch.tensor([1.0, 0.5, 0.25, 1.0])
    return CameraPairs(torch.tensor([1, 4, 5, 17]), torch.tensor([3, 3, 12, 1]), weights)


def make_loss(config=BOTH, seed=0):
    torch.manual_seed(seed)
    return CrossModalDistillation(config, WIDTH, IMAGE)


def student(seed=5):
    features, logits = draw(seed, N, WIDTH).float(), draw(seed + 1, N, CLASSES).float()
    return features.requires_grad_(), logits.requires_grad_()


def test_equals_the_definition():
    loss, atlas, pairs = make_loss(CrossModalConfig(0.7, 1.3, 3.0)), make_atlas(), make_pairs()
    features, logits = student()
    scores = shapes = 0.0
    for v, c, w in zip(pairs.voxels, pairs.cells, pairs.weights, strict=True):
        p, q = ((x / 3).softmax(0) for x in (atlas.logits[c], logits[v]))
        scores += w * 9 * (p * (p.log() - q.log())).sum()
        x, y = loss.projection(features[v]), atlas.features[c]
        x, y = ((z - z.mean()) / (z.var(correction=0) + 1e-5).sqrt() for z in (x, y))
        size = (x - y).abs()
        shapes += w * torch.where(size < 1, size**2 / 2, size - 0.5).mean()
    parts = loss(features, logits, pairs, atlas)
    total = pairs.weights.sum()
    torch.testing.assert_close(parts["camera_scores"], scores / total)
    torch.testing.assert_close(parts["camera_features"], shapes / total)


def test_only_paired_voxels_and_the_projection_learn():
    loss, atlas = make_loss(), make_atlas()
    atlas.features.requires_grad_(), atlas.logits.requires_grad_()
    features, logits = student()
    sum(loss(features, logits, make_pairs(), atlas).values()).backward()
    paired = torch.zeros(N, dtype=torch.bool)
    paired[make_pairs().voxels] = True
    for tensor in (features, logits):
        assert bool((tensor.grad[~paired] == 0).all())
        assert bool((tensor.grad[paired].abs().sum(1) > 0).all())
    assert loss.projection.weight.grad.norm() > 0
    assert atlas.features.grad is None and atlas.logits.grad is None


def test_weights_decide_how_much_a_pair_counts():
    loss, atlas, pairs = make_loss(), make_atlas(), make_pairs()
    features, logits = student()
    alone = CameraPairs(pairs.voxels[:1], pairs.cells[:1], pairs.weights[:1])
    only = CameraPairs(pairs.voxels, pairs.cells, torch.tensor([0.3, 0, 0, 0]))
    for name, value in loss(features, logits, only, atlas).items():
        torch.testing.assert_close(value, loss(features, logits, alone, atlas)[name])
    values = {n: v.item() for n, v in loss(features, logits, pairs, atlas).items()}
    for name, value in loss(features, logits, alone, atlas).items():
        assert abs(values[name] - value.item()) > 1e-3


@pytest.mark.parametrize(
    "pairs", [NOBODY, CameraPairs(*make_pairs().__dict__.values())], ids=["none", "unsure"]
)
def test_without_a_pair_that_counts_the_loss_is_zero_in_the_graph(pairs):
    config = CrossModalConfig(min_confidence=0.999999) if len(pairs) else BOTH
    loss, atlas = make_loss(config), make_atlas()
    features, logits = student()
    parts = loss(features, logits, pairs, atlas)
    assert zero_in_graph(parts["camera_scores"], logits)
    assert zero_in_graph(parts["camera_features"], features)


def test_cells_the_teacher_is_unsure_of_do_not_count():
    atlas = make_atlas()
    atlas.logits[1:] = 0
    atlas.logits[3, 2] = 9.0
    features, logits = student()
    loss = make_loss(CrossModalConfig(min_confidence=0.5))
    sum(loss(features, logits, make_pairs(), atlas).values()).backward()
    assert logits.grad.any(1).nonzero().flatten().tolist() == [1, 4]  # cell 3


def test_terms_that_weigh_nothing_are_absent():
    features, logits = student()
    scores = make_loss(CrossModalConfig(features=0.0))
    assert not list(scores.parameters())
    assert set(scores(features, logits, make_pairs(), make_atlas())) == {"camera_scores"}
    only = make_loss(CrossModalConfig(scores=0.0))
    assert set(only(features, logits, make_pairs(), make_atlas())) == {"camera_features"}


def test_each_term_lowers_itself_when_optimised_alone():
    loss, atlas, pairs = make_loss(), make_atlas(), make_pairs()
    pairs = CameraPairs(pairs.voxels, torch.tensor([3, 4, 12, 1]), pairs.weights)
    features, logits = student()
    first, last = minimise(lambda x: loss(features, x, pairs, atlas)["camera_scores"], logits)
    assert last < 0.1 * first
    first, last = minimise(lambda x: loss(x, logits, pairs, atlas)["camera_features"], features)
    assert last < 0.5 * first


def test_half_precision_students_and_atlases_are_served():
    loss, atlas = make_loss(), make_atlas()
    half = CameraAtlas(atlas.features.half(), atlas.logits.half(), INDEX)
    features, logits = student()
    for name, value in loss(features, logits.bfloat16(), make_pairs(), half).items():
        torch.testing.assert_close(
            value, loss(features, logits, make_pairs(), atlas)[name], rtol=2e-2, atol=1e-2
        )


def test_misfits_and_settings_are_refused():
    features, logits = student()
    with pytest.raises(ConfigError, match="classes"):
        make_loss()(features, logits, make_pairs(), make_atlas(classes=4))
    with pytest.raises(ConfigError, match="image features"):
        CrossModalDistillation(BOTH, WIDTH, 7)(features, logits, make_pairs(), make_atlas())
    for settings in (
        {"scores": -1.0},
        {"features": float("nan")},
        {"scores": 0.0, "features": 0.0},
        {"min_confidence": 1.0},
    ):
        with pytest.raises(ConfigError, match="cross-modal"):
            CrossModalConfig(**settings)


def test_examples():
    result = doctest.testmod(cross_modal)
    assert result.attempted and not result.failed
