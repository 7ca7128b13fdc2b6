# SPDX-License-Identifier: Apache-2.0
"""Placement: where the network sees a scan. In the sensor's frame, higher or lower, or in another.

Networks know the world from the height and the attitude of the lidar they learned from. A tilted
sensor is levelled by ``target_frame`` (a frame of the vehicle, x forward, z up), another height is
made up for by ``z_offset``. Only the network sees this: what goes out keeps the cloud's frame.
tf2_ros is imported here, and only where a target frame is asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time

from pointdistill_ros.errors import CloudError, ConfigError
from pointdistill_ros.scan import LidarScan

TF_TIMEOUT = 0.1
"""Seconds to wait for a transform that is not there yet."""
FAR = 20.0
"""Metres between sensor and target frame beyond which the frame is not the vehicle's."""


class Placement:
    """Moves scans into ``target_frame``; empty leaves them in their own."""

    def __init__(self, node: Node, target_frame: str = "") -> None:
        """Listen to /tf where a frame is asked for. Raises ConfigError where tf2_ros is absent."""
        self._frame = target_frame
        self._buffer: Any = None
        self._listener: Any = None
        if target_frame:
            try:
                import tf2_ros
            except ImportError as error:
                raise ConfigError(
                    f"input.target_frame {target_frame!r} needs tf2_ros, which cannot be imported "
                    f"({error}); install ros-$ROS_DISTRO-tf2-ros-py or leave it empty"
                ) from error
            self._refusal: type[Exception] = tf2_ros.TransformException
            self._buffer = tf2_ros.Buffer(node=node)
            self._listener = tf2_ros.TransformListener(self._buffer, node)

    def __call__(self, scan: LidarScan, z_offset: float = 0.0) -> tuple[LidarScan, str]:
        """The scan as the network shall see it, and what is doubtful about that, or nothing.

        ``z_offset``: metres added to z, after the change of frame. Raises CloudError where there is
        no transform from the scan's frame at its stamp.
        """
        if not self._frame or scan.frame == self._frame:
            return scan.lifted(z_offset), ""
        pose, doubt = self._look_up(scan), ""
        distance = float(np.linalg.norm(pose[:3, 3]))
        if distance > FAR:
            doubt = (
                f"target frame {self._frame} lies {distance:.0f} m from {scan.frame}: "
                "take one that is fixed to the vehicle"
            )
        pose[2, 3] += z_offset
        with np.errstate(invalid="ignore", over="ignore"):  # points without return stay that
            return scan.transformed(pose, self._frame), doubt

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.unregister()
            self._listener = self._buffer = None

    def _look_up(self, scan: LidarScan) -> NDArray[np.float64]:
        """4×4 transform scan's frame → target frame at the scan's stamp."""
        try:
            found = self._buffer.lookup_transform(
                self._frame,
                scan.frame,
                Time(nanoseconds=scan.stamp_ns),
                timeout=Duration(seconds=TF_TIMEOUT),
            ).transform
        except self._refusal as error:
            raise CloudError(f"no transform {scan.frame} → {self._frame}: {error}") from error
        q, t = found.rotation, found.translation
        return pose_matrix((q.x, q.y, q.z, q.w), (t.x, t.y, t.z))


def pose_matrix(
    quaternion: tuple[float, float, float, float], translation: tuple[float, float, float]
) -> NDArray[np.float64]:
    """4×4 float64 of a rotation (x, y, z, w; normalised here) and a translation in metres.

    Raises CloudError where they are not finite or the quaternion is zero.
    """
    numbers = np.array([*quaternion, *translation])
    length = float(np.linalg.norm(numbers[:4]))
    if not np.isfinite(numbers).all() or length == 0:
        raise CloudError(f"not a transform: rotation {quaternion}, translation {translation}")
    x, y, z, w = numbers[:4] / length
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = translation
    return pose
