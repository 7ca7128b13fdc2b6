# SPDX-License-Identifier: Apache-2.0
"""A small street between two walls, as a spinning lidar sees it: rays against planes."""

import numpy as np

from pointdistill_ros.labels import LabelSet
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation

KITTI = LabelSet.named("semantic-kitti")
ROAD, BUILDING = KITTI.names.index("road"), KITTI.names.index("building")


def street(seed=0, beams=32, turns=360, height=1.75, ring=False):
    """LidarScan of beams · turns points, and their labels; places differ by their seed."""
    rng = np.random.default_rng(seed)
    left, right, ahead = rng.uniform(6, 14), rng.uniform(6, 14), rng.uniform(25, 60)
    elevation, azimuth = np.meshgrid(
        np.radians(np.linspace(-24, 2, beams)),
        np.linspace(-np.pi, np.pi, turns, endpoint=False),
        indexing="ij",
    )
    ray = np.stack(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ],
        axis=-1,
    ).reshape(-1, 3)
    with np.errstate(divide="ignore"):
        to = np.stack([
            np.where(ray[:, 2] < 0, -height / ray[:, 2], np.inf),
            np.where(ray[:, 1] > 0, left / ray[:, 1], np.inf),
            np.where(ray[:, 1] < 0, -right / ray[:, 1], np.inf),
            ahead / np.abs(ray[:, 0]),
        ])  # fmt: skip
    which, distance = to.argmin(axis=0), to.min(axis=0)
    distance += rng.normal(0, 0.015, len(distance))
    brightness = np.array([0.28, *rng.uniform(0.3, 0.45, 3)])[which]
    intensity = np.clip(brightness + rng.normal(0, 0.05, len(which)), 0, 1)
    scan = LidarScan.from_arrays(
        ray * distance[:, None],
        intensity,
        ring=np.repeat(np.arange(beams), turns) if ring else None,
    )
    return scan, np.where(which == 0, ROAD, BUILDING).astype(np.uint8)


def sure(scan, seed=0, entropy=0.2):
    """What a network might say, with a little of its own noise."""
    rng = np.random.default_rng(seed)
    spread = np.clip(rng.normal(entropy, 0.05, len(scan)), 0, 1).astype(np.float32)
    return Segmentation(np.zeros(len(scan), np.uint8), 1 - spread, spread, KITTI)
