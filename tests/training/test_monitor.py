# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest

from pointdistill_ros.labels import LabelSet
from training.config import TrainConfig
from training.data_config import AugmentConfig
from training.monitor import whole_scan
from training.networks import Release
from training.transforms import LabelledPoints

from ..tiny import tiny_config


class OneHead:
    """What Release asks of a mix: heads, their classes, scans."""

    heads = ("common",)

    def __init__(self):
        self.sets = {"common": self}
        self.label_set = LabelSet.named("semantic-kitti")

    def draw_head(self, rng):
        return "common"

    def draw(self, rng, head):
        return points(rng)


def points(rng):
    xyz = rng.uniform(-10, 10, (500, 3)).astype(np.float32)
    return LabelledPoints(xyz, rng.random(500, np.float32), np.zeros(500, np.uint8))


@pytest.mark.parametrize(
    ("drop", "missing", "used"), [(0.0, None, True), (0.1, 0.0, True), (1.0, 0.0, False)]
)
def test_weights_say_what_intensity_they_know(tmp_path, drop, missing, used):
    config = TrainConfig(augment=AugmentConfig(intensity_drop=drop))
    intensity = Release(tmp_path, config, tiny_config(), OneHead()).intensity
    assert (intensity.missing, intensity.used) == (missing, used)
    assert 0 < intensity.low < intensity.median < intensity.high < 1


def test_a_network_without_intensity_is_watched_without():
    config = TrainConfig(grid_size=0.2)
    blind = replace(config, augment=AugmentConfig(intensity_drop=1.0))
    scan = points(np.random.default_rng(0))
    seen = whole_scan(scan, tiny_config(), config, "common").features
    unseen = whole_scan(scan, tiny_config(), blind, "common").features
    assert seen[:, 3].any() and not unseen[:, 3].any()
    assert seen[:, :3].equal(unseen[:, :3])
