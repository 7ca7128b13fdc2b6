# SPDX-License-Identifier: Apache-2.0
import dataclasses
import pickle
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from pointdistill_ros.config import load_config
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.resources import config_path
from training.batch import BatchStream, collate
from training.config import TrainConfig
from training.data_config import AugmentConfig
from training.networks import model_config
from training.sources import SourceMix
from training.supervised import target_weights
from training.transforms import LabelledPoints

from ..tiny import tiny_config
from .drives import Drives

CONFIG = TrainConfig(grid_size=0.5, max_voxels=300, augment=AugmentConfig(paste=1.0))
EVERYTHING = AugmentConfig(
    mix=0.7, mix_by=("sectors", "bands"), merge=0.5, paste=0.5, paste_copies=3, place=1.0,
    range_drop=0.5, intensity_gamma=0.2, intensity_curve=0.2, intensity_noise=0.02,
)  # fmt: skip
NUSCENES = LabelSet.named("nuscenes")


def test_batches_depend_on_seed_and_number_only():
    stream = BatchStream(SourceMix([(Drives(), 1.0)]), tiny_config(), CONFIG)
    first, again, other = stream(7), stream(7), stream(8)
    assert first.features.equal(again.features)
    assert first.targets.equal(again.targets)
    assert first.pyramid.permutation == again.pyramid.permutation
    assert not (len(first.targets) == len(other.targets) and first.features.equal(other.features))
    reseeded = BatchStream(stream.sources, tiny_config(), dataclasses.replace(CONFIG, seed=1))
    assert not reseeded(7).features[:50].equal(first.features[:50])


def test_labels_follow_their_points_into_the_batch():
    plain = AugmentConfig(
        intensity_scale=0, intensity_shift=0, intensity_drop=0, paste=1.0, mix=1.0
    )
    config = dataclasses.replace(CONFIG, augment=plain, scans_per_step=2)
    batch = BatchStream(SourceMix([(Drives(), 1.0)]), tiny_config(), config)(0)
    assert len(batch.features) == len(batch.targets) == len(batch.pyramid)
    np.testing.assert_allclose(batch.features[:, 3], batch.targets / 20, atol=1e-6)
    assert len(batch.targets.unique()) > 1
    assert len(batch.pyramid.stages[0].offsets) == 3
    assert max(np.diff(batch.pyramid.stages[0].offsets)) <= 300


def test_a_cut_sample_is_a_sector():
    rng = np.random.default_rng(0)
    xyz = rng.uniform([-30, -30, 0], [30, 30, 0.4], (4000, 3)).astype(np.float32)
    points = LabelledPoints(xyz, np.zeros(4000, np.float32), np.zeros(4000, np.uint8))
    batch = collate([points], tiny_config(), 0.5, 1000, rng)
    x, y = batch.features[:, :2].numpy().T
    angle = np.sort(np.arctan2(y, x))
    gap = np.diff(np.append(angle, angle[0] + 2 * np.pi)).max()
    assert len(angle) == 1000
    assert gap > np.pi  # about 1000 of 3800 voxels: a quarter turn


def test_evaluation_batches_take_the_first_point_and_the_fixed_permutation():
    config = tiny_config()
    xyz = np.float32([[0.1, 0.1, 0.1], [0.2, 0.2, 0.2], [5, 5, 5]])
    points = LabelledPoints(xyz, np.float32([1, 0, 0]), np.uint8([4, 5, 6]))
    batch = collate([points], config, 0.5, 1, None)
    assert sorted(batch.targets.tolist()) == [4, 6]
    assert batch.pyramid.permutation == config.permutation


def test_a_stream_travels_to_other_processes_and_makes_the_same_batches():
    config = dataclasses.replace(CONFIG, augment=EVERYTHING)
    stream = BatchStream(SourceMix([(Drives(), 1.0)]), tiny_config(), config)
    again = pickle.loads(pickle.dumps(stream))
    for k in range(4):
        assert stream(k).features.equal(again(k).features)
        assert stream(k).targets.equal(again(k).targets)


def test_everything_at_once_gives_finite_batches_of_known_targets():
    sources = [(Drives("ab", [5, 8]), 1.0), (Drives("cd", [15, 10], NUSCENES), 1.0)]
    mix = SourceMix(sources)
    config = dataclasses.replace(CONFIG, augment=EVERYTHING, scans_per_step=2)
    stream, allowed = BatchStream(mix, tiny_config(), config), {5, 8, 255}
    allowed |= {mix.sets["common"].names.index(n) for n in ("vegetation|trunk", "road|parking")}
    seen = set()
    for k in range(12):
        batch = stream(k)
        assert batch.head == "common"
        assert batch.features.isfinite().all()
        assert 0 <= batch.features[:, 3].min() <= batch.features[:, 3].max() <= 1
        seen |= set(batch.targets.tolist())
    assert seen == allowed - {255}


def test_a_batch_is_of_one_head_in_its_own_classes():
    sources = [(Drives("ab", [5, 8]), 1.0), (Drives("cd", [15, 10], NUSCENES), 1.0)]
    config = dataclasses.replace(CONFIG, augment=EVERYTHING, scans_per_step=2)
    stream = BatchStream(SourceMix(sources, per_dataset=True), tiny_config(), config)
    classes = {"semantic-kitti": {5, 8}, "nuscenes": {15, 10}}
    batches = [stream(k) for k in range(12)]
    assert {batch.head for batch in batches} == set(classes)
    for batch in batches:
        assert set(batch.targets.tolist()) <= classes[batch.head]


def test_merged_samples_share_one_grid_without_double_voxels():
    config = dataclasses.replace(CONFIG, augment=AugmentConfig(merge=1.0), max_voxels=10**6)
    batch = BatchStream(SourceMix([(Drives(), 1.0)]), tiny_config(), config)(0)
    coords = batch.pyramid.stages[0].coords
    assert len(coords.unique(dim=0)) == len(coords) > 800


def test_compiled_geometry_is_the_same_geometry():
    points = LabelledPoints(
        np.random.default_rng(0).uniform(-9, 9, (900, 3)).astype(np.float32),
        np.zeros(900, np.float32),
        np.zeros(900, np.uint8),
    )
    plain, quick = (
        collate([points] * 2, tiny_config(), 0.5, 400, np.random.default_rng(1), compiled=c)
        for c in (False, True)
    )
    assert plain.features.equal(quick.features)
    for a, b in zip(plain.pyramid.stages, quick.pyramid.stages, strict=True):
        assert a.coords.equal(b.coords)
        assert a.orders[0].order.equal(b.orders[0].order)
        assert a.neighbours.counts == b.neighbours.counts


def test_batches_move_between_devices_with_all_their_tensors():
    batch = BatchStream(SourceMix([(Drives(), 1.0)]), tiny_config(), CONFIG)(0)
    moved = batch.to("meta")
    stage = moved.pyramid.stages[0]
    tensors = [moved.features, moved.targets, moved.pyramid.stem.input_rows, stage.coords]
    tensors += [stage.orders[0].inverse, stage.neighbours.output_rows, stage.parent]
    assert {t.device.type for t in tensors} == {"meta"}
    assert moved.head == batch.head
    assert moved.pyramid.permutation == batch.pyramid.permutation
    assert batch.features.device.type == "cpu"


def test_rare_targets_weigh_more_and_absent_ones_nothing():
    members = torch.eye(4, dtype=torch.bool)
    unions = torch.tensor([[True, True, False, False], [False, False, True, True]])

    class Counted:
        heads = ("common",)
        sets: ClassVar = {"common": SimpleNamespace(members=torch.cat([members, unions]))}

        def class_counts(self, head=None):
            return np.array([1_000_000, 10_000, 0, 0])

    weights = target_weights(Counted(), 0.5)
    assert weights[1] / weights[0] == pytest.approx(10, rel=0.02)
    assert weights[:2].mean() == pytest.approx(1)
    assert weights[2:4].tolist() == [0, 0]
    assert weights[4] == pytest.approx(weights[0].item(), rel=0.01)  # as frequent as both
    assert weights[5] == 0
    assert target_weights(Counted(), 0) is None


@pytest.mark.parametrize(
    "path",
    sorted(p for r in ("student", "teacher") for p in config_path(f"training/{r}").glob("*.yaml")),
    ids=lambda p: f"{p.parent.name}-{p.stem}",
)
def test_shipped_recipes_parse(path):
    config = load_config(TrainConfig, path)
    model = model_config(config)
    if config.patch_size:
        assert set(model.patch_sizes) == {config.patch_size}


def test_the_last_batches_are_whole_single_scans():
    config = dataclasses.replace(CONFIG, augment=EVERYTHING)
    mix = SourceMix([(Drives("ab", [5, 8]), 1.0)])
    plain, ending = (BatchStream(mix, tiny_config(), config, last) for last in (None, 3))
    whole = dataclasses.replace(config, augment=config.augment.whole())
    alone = BatchStream(mix, tiny_config(), whole)
    for k in range(6):
        expected = (alone if k >= 3 else plain)(k)
        assert ending(k).features.equal(expected.features)
        assert (k < 3) == plain(k).features.equal(expected.features)
    for name in ("mix", "merge", "paste", "place", "crop_chance"):
        assert getattr(EVERYTHING, name) > 0 == getattr(whole.augment, name)
