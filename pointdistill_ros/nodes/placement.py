# SPDX-License-Identifier: Apache-2.0
"""TfPlacement: scans placed by what tf2 knows at their stamps.

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
from pointdistill_ros.evaluation.motion.trajectory import pose_of
from pointdistill_ros.placement import Placement

TF_TIMEOUT = 0.1
"""Seconds to wait for a transform that is not there yet."""


class TfPlacement(Placement):
    """A Placement that listens to /tf and /tf_static, where a frame is asked for."""

    def __init__(self, node: Node, target_frame: str = "") -> None:
        """Raises ConfigError where tf2_ros is absent and needed."""
        super().__init__(target_frame, self._look_up)
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

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.unregister()
            self._listener = self._buffer = None

    def _look_up(self, target: str, source: str, stamp_ns: int) -> NDArray[np.float64]:
        try:
            found = self._buffer.lookup_transform(
                target,
                source,
                Time(nanoseconds=stamp_ns),
                timeout=Duration(seconds=TF_TIMEOUT),
            ).transform
        except self._refusal as error:
            raise CloudError(f"no transform {source} → {target}: {error}") from error
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
    return pose_of(numbers[4:], numbers[:4] / length)
