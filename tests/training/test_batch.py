# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest

from pointdistill_ros.config import load_config
from pointdistill_ros.resources import config_path
from pointdistill_ros.scan import LidarScan
from training.batch import BatchStream, collate
from training.config import TrainConfig
from training.data_config import AugmentConfig
from training.sources import SourceMix
from training.supervised import class_weights, model_config
from training.transforms import LabelledPoints

from ..tiny import tiny_config


class Drives:
    """Three scans of drive a, one of b; points of scan i have label i and intensity i / 10."""

    sequences = ("a", "a", "a", "b")

    def __len__(self):
        return 4

    def __getitem__(self, i):
        rng = np.random.default_rng(i)
        xyz = rng.uniform([-30, -30, -2], [30, 30, 2], (800, 3)).astype(np.float32)
        xyz[0] = np.nan
        scan = LidarScan(xyz, np.full(800, i / 10, np.float32))
        return scan, np.full(800, i, np.uint8)


class Empty(Drives):
    sequences = ("c",)

    def __len__(self):
        return 1

    def __getitem__(self, i):
        scan, labels = super().__getitem__(i)
        return scan, np.full_like(labels, 255)


CONFIG = TrainConfig(grid_size=0.5, max_voxels=300, augment=AugmentConfig(paste=1.0))


def test_sequences_are_equally_likely_however_many_scans_they_have():
    mix, rng = SourceMix([(Drives(), 1.0)]), np.random.default_rng(0)
    drawn = np.array([mix.draw(rng).labels[0] for _ in range(300)])
    assert 0.4 < np.mean(drawn == 3) < 0.6
    assert set(drawn) == {0, 1, 2, 3}


def test_sources_are_drawn_by_weight_and_nan_points_left_out():
    mix, rng = SourceMix([(Drives(), 3.0), (Empty(), 1.0)]), np.random.default_rng(0)
    drawn = [mix.draw(rng) for _ in range(300)]
    assert 0.65 < np.mean([p.labels[0] != 255 for p in drawn]) < 0.85
    assert all(np.isfinite(p.xyz).all() and len(p) == 799 for p in drawn)


def test_scans_with_a_class_are_found():
    mix, rng = SourceMix([(Drives(), 1.0), (Empty(), 9.0)]), np.random.default_rng(0)
    found = {int(mix.with_class(rng, [2, 3, 11]).labels[0]) for _ in range(30)}
    assert found == {2, 3}


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
    np.testing.assert_allclose(batch.features[:, 3], batch.targets / 10, atol=1e-6)
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


def test_rare_classes_weigh_more_and_absent_ones_nothing():
    mix = SourceMix([(Drives(), 1.0), (Empty(), 1.0)])
    mix.counts[0] = np.array([[100, 1, 0, 0]])
    mix.counts[1] = np.array([[0, 0, 0, 0]])
    weights = class_weights(mix, 0.5)
    assert weights[1] / weights[0] == pytest.approx(10, rel=0.02)
    assert weights[2:].tolist() == [0, 0]
    assert class_weights(mix, 0) is None


@pytest.mark.parametrize(
    "path", sorted(config_path("training").glob("*.yaml")), ids=lambda p: p.stem
)
def test_shipped_recipes_parse(path):
    config = load_config(TrainConfig, path)
    model = model_config(config)
    if config.patch_size:
        assert set(model.patch_sizes) == {config.patch_size}
