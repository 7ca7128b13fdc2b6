# SPDX-License-Identifier: Apache-2.0
"""A sensor that is not where it is thought to be: tilted, or too high or low. Nothing is lost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.evaluation.corruptions.corrupted import Corrupted, untouched
from pointdistill_ros.scan import LidarScan


def tilt(
    scan: LidarScan, labels: NDArray[np.uint8], grade: float, rng: np.random.Generator
) -> Corrupted:
    """``grade``: degrees about some horizontal axis through the sensor."""
    direction = rng.uniform(0.0, 2 * np.pi)
    axis = np.array([np.cos(direction), np.sin(direction), 0.0])
    pose = np.eye(4)
    pose[:3, :3] = rotation(axis, np.radians(grade))
    with np.errstate(invalid="ignore"):
        return untouched(scan.transformed(pose, scan.frame), labels)


def height(
    scan: LidarScan, labels: NDArray[np.uint8], grade: float, rng: np.random.Generator
) -> Corrupted:
    """``grade``: metres by which the sensor hangs too high or, as often, too low."""
    return untouched(scan.lifted(-grade if rng.random() < 0.5 else grade), labels)


def rotation(axis: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """[3, 3] about a unit axis by radians (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    found: NDArray[np.float64] = (
        np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    )
    return found
