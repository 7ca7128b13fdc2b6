# SPDX-License-Identifier: Apache-2.0
"""The drive that is shown: scans of a simulated street with the student's labels, and a trail.

Points of what stands still stay for a moment after their scan, each with the label that it got
then; of what can move only the present scan is shown.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros import LabelSet, LidarScan, Segmentation
from pointdistill_ros.labels import UNLABELLED
from pointdistill_ros.simulation import Drive

SEED, STYLE, LIDAR = 900_004, "urban", "hdl64e"
"""A street that no network was trained on: trainings count their streets from 0."""
NAME = f"{LIDAR}_{STYLE}_{SEED}"
TRAIL = 20
"""Scans that stay."""
_THINNED = 3
"""Of the trail one point in so many is shown."""
_MOVES = (
    *("car", "bicycle", "motorcycle", "truck", "other-vehicle", "person", "bicyclist"),
    "motorcyclist",
)
"""Classes of what can move."""

Label = Callable[[LidarScan], Segmentation]


class Shown(NamedTuple):
    """Everything that one frame shows, N points of the present scan and its trail."""

    xyz: NDArray[np.float32]
    """[N, 3] metres, world."""
    intensity: NDArray[np.float32]
    """[N] 0..1."""
    labels: NDArray[np.uint8]
    """[N] train ids from the network."""
    truth: NDArray[np.uint8]
    """[N] true train ids; 255 where a return mixes two surfaces."""
    age: NDArray[np.float32]
    """[N] 0 = of this scan, 1 = of the oldest."""
    pose: NDArray[np.float64]
    """[4, 4] sensor → world."""
    points: int
    """Of this scan."""


def labelled_drive(label: Label, label_set: LabelSet, frames: int) -> Iterator[Shown]:
    """Render, label and keep; one frame every 0.1 s, the first with a full trail."""
    drive = Drive(SEED, frames + TRAIL, LIDAR, STYLE)
    moves = np.isin(np.arange(256), [label_set.index(name) for name in _MOVES])
    moves[UNLABELLED] = True
    kept: deque[Shown] = deque(maxlen=TRAIL)
    for number, (scan, truth, pose) in enumerate(drive):
        labels = label(scan).labels
        world = (scan.xyz @ pose[:3, :3].T + pose[:3, 3]).astype(np.float32)
        assert scan.intensity is not None
        age = np.zeros(len(scan), np.float32)
        now = Shown(world, scan.intensity, labels, truth, age, pose, len(scan))
        if number >= TRAIL:
            yield _together(now, kept)
        stays = np.flatnonzero(~moves[labels])[::_THINNED]
        kept.append(now._replace(**{name: getattr(now, name)[stays] for name in _ARRAYS}))


_ARRAYS = ("xyz", "intensity", "labels", "truth", "age")


def _together(now: Shown, kept: deque[Shown]) -> Shown:
    """The present scan and those before it."""
    scans = [now, *reversed(kept)]
    ages = [np.full(len(scan.xyz), i / len(scans), np.float32) for i, scan in enumerate(scans)]
    arrays = {name: np.concatenate([getattr(scan, name) for scan in scans]) for name in _ARRAYS}
    return now._replace(**arrays | {"age": np.concatenate(ages)})
