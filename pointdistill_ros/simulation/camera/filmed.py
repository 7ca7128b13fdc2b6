# SPDX-License-Identifier: Apache-2.0
"""A drive with a camera: the lidar's scans as without, and a picture at the stamp of each."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from pointdistill_ros.datasets.cameras import Camera
from pointdistill_ros.simulation.camera.render import Light, Picture, render
from pointdistill_ros.simulation.drive import PERIOD, Drive
from pointdistill_ros.simulation.lidar import Target
from pointdistill_ros.simulation.mesh import merge

_STREAM = 0x0CA3
"""Keeps the camera's random numbers apart from those of scene and lidar."""


class FilmedDrive(Drive):
    """``drive[i]`` is the scan of a Drive of the same arguments, ``drive.picture(i)`` its picture.

    The picture is taken at the stamp of the scan, when the lidar looks ahead, as in KITTI.
    """

    def picture(self, i: int, camera: Camera | None = None) -> Picture:
        """What a camera on the lidar sees at turn ``i``; default ``kitti_camera()``."""
        if not 0 <= i < len(self):
            raise IndexError(f"frame {i} of a drive with {len(self)}")
        time = i * PERIOD
        moved = [m.at(self._street, time, self.speed * time) for m in self._movers]
        movers = Target(merge([mesh for mesh in moved if mesh is not None]))
        rng = np.random.default_rng([self.seed, _STREAM, i + 1])
        view = kitti_camera() if camera is None else camera
        return render([self._static, movers], view, self._pose(time), self.light, rng)

    @cached_property
    def light(self) -> Light:
        """Weather of the whole drive."""
        return Light.drawn(np.random.default_rng([self.seed, _STREAM, 0]))


def kitti_camera(width: int = 620, height: int = 188) -> Camera:
    """A camera like KITTI's left colour camera, of any size: 81° wide, 0.27 m before the lidar.

    After the recording platform in Geiger et al., IJRR 2013: focal length 719 pixels of 1241, the
    horizon at 49 % of the height of 376 rows, 8 cm below and 6 cm beside the lidar.
    """
    focal = 719.0 * width / 1241
    intrinsics = np.diag([focal, focal, 1.0])
    intrinsics[:2, 2] = 0.489 * width, 0.4925 * height
    mounting = np.eye(4)
    mounting[:3, :3] = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]
    mounting[:3, 3] = -mounting[:3, :3] @ (0.27, 0.06, -0.08)
    return Camera.from_intrinsics(intrinsics, mounting, width, height)
