# SPDX-License-Identifier: Apache-2.0
"""Simulated drives as files: an mcap bag, or a sequence folder in SemanticKITTI's layout."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_typestore

from pointdistill_ros.errors import InputError
from pointdistill_ros.io.bag import BagWriter
from pointdistill_ros.io.binfile import write_kitti, write_labels
from pointdistill_ros.io.pointcloud2 import encode_scan
from pointdistill_ros.simulation.drive import Drive, LabelledScan
from pointdistill_ros.simulation.materials import LABEL_SET
from pointdistill_ros.simulation.mesh import Array

TOPIC = "/points"
WORLD = "map"
"""Frame that the poses on /tf refer to."""

Progress = Callable[[int], None]
"""Called with the number of frames written so far."""


def write_bag(drive: Drive, path: Path, progress: Progress) -> None:
    """Write clouds on ``/points`` and poses on ``/tf``; the bag appears whole or not at all.

    Every point carries x y z intensity ring time and ``label``, the raw id (uint16) of its true
    class in ``semantic-kitti``. Raises InputError where no bag can be written.
    """
    transforms = _Transforms()
    with BagWriter(path) as bag:
        for i, frame in enumerate(drive):
            scan, labels, pose = frame
            # a driver publishes when the turn is complete
            time_ns = scan.stamp_ns + 50_000_000
            raw = LABEL_SET.to_raw(labels).astype(np.uint16)
            cloud = encode_scan(scan, {"label": raw})
            bag.write("/tf", transforms.kind, time_ns, transforms(pose, scan.stamp_ns, scan.frame))
            bag.write_cloud(TOPIC, time_ns, cloud, stamp_ns=scan.stamp_ns, frame=scan.frame)
            progress(i + 1)


def write_folder(drive: Drive, path: Path, progress: Progress) -> None:
    """Write velodyne/*.bin, labels/*.label, poses.txt, times.txt and calib.txt.

    The folder appears whole or not at all. Raises InputError where it exists already.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path}: exists already; expected a new or an empty folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        (scratch / "velodyne").mkdir(parents=True)
        (scratch / "labels").mkdir()
        poses, times = [], []
        first: LabelledScan | None = None
        for i, frame in enumerate(drive):
            first = first or frame
            write_kitti(frame.scan, scratch / "velodyne" / f"{i:06d}.bin")
            write_labels(LABEL_SET.to_raw(frame.labels), scratch / "labels" / f"{i:06d}.label")
            relative = np.linalg.inv(first.pose) @ frame.pose
            poses.append(" ".join(f"{v:.9g}" for v in relative[:3].reshape(-1)))
            times.append(f"{(frame.scan.stamp_ns - first.scan.stamp_ns) / 1e9:e}")
            progress(i + 1)
        (scratch / "poses.txt").write_text("\n".join(poses) + "\n")
        (scratch / "times.txt").write_text("\n".join(times) + "\n")
        # KITTI's poses are a camera's; with this Tr the camera frame is the lidar frame
        (scratch / "calib.txt").write_text("Tr: 1 0 0 0 0 1 0 0 0 0 1 0\n")
        scratch.replace(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class _Transforms:
    """Serialises tf2_msgs/TFMessage."""

    kind = "tf2_msgs/msg/TFMessage"

    def __init__(self) -> None:
        self._store = get_typestore(Stores.ROS2_KILTED)

    def __call__(self, pose: Array, stamp_ns: int, frame: str) -> bytes:
        types: Any = self._store.types
        x, y, z = (float(v) for v in pose[:3, 3])
        qx, qy, qz, qw = _quaternion(pose[:3, :3])
        stamped = types["geometry_msgs/msg/TransformStamped"](
            header=types["std_msgs/msg/Header"](
                stamp=types["builtin_interfaces/msg/Time"](
                    sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000
                ),
                frame_id=WORLD,
            ),
            child_frame_id=frame,
            transform=types["geometry_msgs/msg/Transform"](
                translation=types["geometry_msgs/msg/Vector3"](x=x, y=y, z=z),
                rotation=types["geometry_msgs/msg/Quaternion"](x=qx, y=qy, z=qz, w=qw),
            ),
        )
        message = types[self.kind](transforms=[stamped])
        return bytes(self._store.serialize_cdr(message, self.kind))


def _quaternion(r: Array) -> tuple[float, float, float, float]:
    """x, y, z, w of a rotation matrix; by the largest component, so that nothing divides by 0."""
    squares = np.array([r[0, 0], r[1, 1], r[2, 2], r[0, 0] + r[1, 1] + r[2, 2]])
    k = int(np.argmax(squares))
    if k == 3:
        q = np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], 1 + squares[3]])
    else:
        i, j, n = k, (k + 1) % 3, (k + 2) % 3
        q = np.zeros(4)
        q[i] = 1 + r[i, i] - r[j, j] - r[n, n]
        q[j], q[n], q[3] = r[j, i] + r[i, j], r[n, i] + r[i, n], r[n, j] - r[j, n]
    x, y, z, w = (float(v) for v in q / np.sqrt((q**2).sum()))
    return x, y, z, w
