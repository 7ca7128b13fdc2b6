# SPDX-License-Identifier: Apache-2.0
"""PointCloud2 ⇄ LidarScan and Segmentation, without ROS.

Messages are duck-typed: rclpy's (``data`` an array.array), rosbags' (``data`` an ndarray) and our
own CloudParts all work. Every message is checked on its own; nothing is remembered from the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pointdistill_ros.errors import CloudError
from pointdistill_ros.io.cloud_layout import CloudBytes, CloudField, CloudLayout, CloudMessage
from pointdistill_ros.io.cloud_parts import (
    LAYOUTS,
    CloudParts,
    OutputLayout,
    encode_labels,
    encode_scan,
)
from pointdistill_ros.io.columns import (
    INTENSITY_NAMES,
    RING_NAMES,
    TIME_NAMES,
    IntensityScale,
    first_name,
    relative_seconds,
    ring_index,
    scale_intensity,
)
from pointdistill_ros.scan import LidarScan

__all__ = [
    "LAYOUTS",
    "CloudField",
    "CloudLayout",
    "CloudMessage",
    "CloudParts",
    "DecodeOptions",
    "OutputLayout",
    "decode",
    "encode_labels",
    "encode_scan",
]


@dataclass(frozen=True)
class DecodeOptions:
    """How to read what PointCloud2 leaves open."""

    intensity_field: str = "auto"
    """Field to read as intensity; ``auto`` = the first known name, none where there is none."""
    intensity_scale: IntensityScale = "auto"
    """How to bring it to 0..1, see ``columns.scale_intensity``."""
    zero_is_no_return: bool = False
    """Points at exactly (0, 0, 0) become NaN: some drivers mark missing returns so."""


def decode(message: Any, options: DecodeOptions | None = None) -> LidarScan:
    """Read a PointCloud2-shaped message: LidarScan of height · width points in message order.

    Points that are not finite stay in. An empty cloud gives an empty scan, whatever its fields.
    Raises CloudError where the message contradicts itself or lacks x, y or z.
    """
    options = options or DecodeOptions()
    cloud = CloudBytes.of(message)
    stamp_ns, frame = _header(message)
    if not len(cloud):
        return LidarScan(np.empty((0, 3), np.float32), stamp_ns=stamp_ns, frame=frame)
    xyz = cloud.xyz()
    if options.zero_is_no_return:
        xyz[(xyz == 0).all(axis=1)] = np.nan
    names = cloud.layout.names
    intensity = options.intensity_field
    if intensity == "auto":
        intensity = first_name(names, INTENSITY_NAMES) or ""
    ring, time = first_name(names, RING_NAMES), first_name(names, TIME_NAMES)
    scale = options.intensity_scale
    return LidarScan(
        xyz=xyz,
        intensity=scale_intensity(cloud.column(intensity), scale) if intensity else None,
        ring=ring_index(cloud.column(ring)) if ring else None,
        time=relative_seconds(cloud.column(time), stamp_ns) if time else None,
        stamp_ns=stamp_ns,
        frame=frame,
    )


def _header(message: Any) -> tuple[int, str]:
    """Stamp in nanoseconds and frame of a message; the defaults for CloudParts, which have none."""
    header = getattr(message, "header", None)
    if header is None:
        return 0, "lidar"
    try:
        stamp = int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)
        return stamp, str(header.frame_id)
    except (AttributeError, TypeError, ValueError) as error:
        raise CloudError(f"not a PointCloud2 header ({error})") from error
