# SPDX-License-Identifier: Apache-2.0
"""Clouds to send: frames of a simulated street with exactly the points that were asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.scan import LidarScan

LIDAR, POINTS = "hdl64e", 120_000
"""What is sent where nothing else is asked for; the lidar gives a little more."""
SEED = 100_024
"""Of the simulated street; training uses seeds below 100 000 only."""


def street_clouds(lidar: str, points: int, frames: int, turns: int) -> list[Any]:
    """``frames`` × ``turns`` PointCloud2 messages of ``points`` points, in driving order.

    Each frame of the street comes turned by so many angles about the upright axis: other voxels,
    the same surroundings. Raises ConfigError where the lidar has too few points.
    """
    from pointdistill_ros.simulation.drive import Drive

    random = np.random.default_rng(SEED)
    scans = [frame.scan for frame in Drive(SEED, frames, lidar=lidar, style="suburban")]
    messages = []
    for turn in range(turns):
        angle = 2 * np.pi * turn / turns
        cos, sin = np.cos(angle), np.sin(angle)
        rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], np.float32)
        for scan in scans:
            if len(scan) < points:
                raise ConfigError(f"a frame of {lidar} has {len(scan)} points, not {points}")
            kept = np.sort(random.permutation(len(scan))[:points])
            chosen = scan.select(kept)
            messages.append(_message(LidarScan(chosen.xyz @ rotation.T, chosen.intensity)))
    return messages


def _message(scan: LidarScan) -> Any:
    from sensor_msgs.msg import PointCloud2, PointField

    from pointdistill_ros.io.pointcloud2 import encode_scan

    parts = encode_scan(scan)
    message = PointCloud2(height=parts.height, width=parts.width, is_dense=parts.is_dense)
    message.point_step, message.row_step, message.data = (
        parts.point_step,
        parts.row_step,
        parts.data,
    )
    message.fields = [
        PointField(name=f.name, offset=f.offset, datatype=f.datatype, count=1) for f in parts.fields
    ]
    message.header.frame_id = "lidar"
    return message
