# SPDX-License-Identifier: Apache-2.0
"""Geometry of Waymo's range images: pixels to points of the vehicle frame, labels back to pixels.

Facts: waymo-open-dataset, utils/range_image_utils.py and v2/perception/utils/lidar_utils.py. Row 0
is the highest beam. The columns run clockwise: the first looks just right of straight back in the
vehicle's frame, whatever the yaw of the mount. A pixel is a return where its range is above 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def row_inclinations(
    values: Floats | None, lowest: float, highest: float, height: int
) -> NDArray[np.float64]:
    """[H] radians above the horizon of each row, highest first.

    ``values``: [H] of the calibration, lowest first; None spreads the beams evenly, each in the
    middle of its share of ``lowest`` .. ``highest``.
    """
    if values is None:
        values = lowest + (np.arange(height) + 0.5) / height * (highest - lowest)
    return np.asarray(values, np.float64)[::-1]


def column_azimuths(width: int, extrinsic: Floats) -> NDArray[np.float64]:
    """[W] radians, counter-clockwise from the x axis of the lidar, of each column's middle."""
    yaw = np.arctan2(extrinsic[1, 0], extrinsic[0, 0])
    azimuth: NDArray[np.float64] = np.pi - (np.arange(width) + 0.5) / width * 2 * np.pi - yaw
    return azimuth


def points_of(
    ranges: NDArray[np.float32],
    inclination: NDArray[np.float64],
    extrinsic: NDArray[np.float64],
    pixel_pose: NDArray[np.float32],
    frame_pose: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Returns of a range image → xyz float32 [N, 3], metres in the vehicle frame at frame time.

    ``ranges`` [H, W] metres; ``inclination`` [H]; ``extrinsic`` [4, 4] lidar → vehicle;
    ``pixel_pose`` [H, W, 6] roll pitch yaw x y z of the vehicle in the world while the pixel was
    measured; ``frame_pose`` [4, 4] vehicle → world at frame time. Points in order of row, column.
    """
    rows, columns = np.nonzero(ranges > 0)
    distance = ranges[rows, columns].astype(np.float64)
    beam, azimuth = inclination[rows], column_azimuths(ranges.shape[1], extrinsic)[columns]
    flat = distance * np.cos(beam)
    lidar = np.stack(
        [flat * np.cos(azimuth), flat * np.sin(azimuth), distance * np.sin(beam)], axis=1
    )
    vehicle = lidar @ extrinsic[:3, :3].T + extrinsic[:3, 3]
    pose = pixel_pose[rows, columns].astype(np.float64)
    # First to the frame's own origin: world coordinates are large.
    world = _rotated(vehicle, pose[:, :3]) + (pose[:, 3:] - frame_pose[:3, 3])
    return np.asarray(world @ frame_pose[:3, :3], np.float32)  # rows, so not the transpose


def to_range_images(labels: NDArray[np.uint32], returned: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Classes of points [N] → label images int32 [R, H, W, 2] (instance = 0, class).

    ``returned`` [R, H, W] says which pixels of each return are the points, in their order.
    """
    images = np.zeros((*returned.shape, 2), np.int32)
    images[returned, 1] = labels
    return images


def _rotated(points: NDArray[np.float64], angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each point turned by its roll (about x), then pitch (y), then yaw (z); both [N, 3]."""
    x, y, z = points.T
    roll, pitch, yaw = angles.T
    y, z = np.cos(roll) * y - np.sin(roll) * z, np.sin(roll) * y + np.cos(roll) * z
    x, z = np.cos(pitch) * x + np.sin(pitch) * z, np.cos(pitch) * z - np.sin(pitch) * x
    x, y = np.cos(yaw) * x - np.sin(yaw) * y, np.sin(yaw) * x + np.cos(yaw) * y
    return np.stack([x, y, z], axis=1)
