# SPDX-License-Identifier: Apache-2.0
"""Camera: where in an image a lidar's points lie, and which of them the camera sees.

    [u·d, v·d, d]ᵀ = P · T · [x, y, z, 1]ᵀ

T is the rigid transform lidar → camera [4, 4], P the projection [3, 4] of a rectified camera (K
with a zero column, or KITTI's P2, whose last column shifts the camera; Geiger et al., "Vision meets
Robotics", IJRR 2013), d the depth in metres. u points right, v down, in pixels; integers are the
centres of pixels, so the image reaches from −0.5 to width − 0.5.

A camera stands beside the lidar and does not see all that the lidar sees: ``see`` leaves out what
lies behind the camera, outside the image, and, by a small depth buffer, behind something nearer.
Not here: distortion (images must be rectified), rolling shutters, motion between the two sensors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pointdistill_ros.errors import ConfigError

Array = NDArray[np.float64]

TOLERANCE = 0.2
"""Share of the depth by which two depths of one surface may differ. Along a road seen from 1.65 m
at 40 m, two pixels of half-size KITTI images are 12 % of the depth."""


@dataclass(frozen=True, eq=False)
class Sight:
    """The points of a cloud that a camera sees, V of N, in the order of the cloud."""

    point: NDArray[np.int64]
    """[V] which points."""
    row: NDArray[np.int64]
    """[V] of the pixel that shows the point …"""
    column: NDArray[np.int64]
    """… and its column."""
    depth: Array
    """[V] metres."""
    agreement: NDArray[np.float32]
    """[V] how sure it is that the pixel shows this point and nothing nearer, above 0 to 1."""


@dataclass(frozen=True, eq=False)
class Camera:
    """A calibrated camera beside a lidar."""

    projection: Array
    """[3, 4] camera frame → pixels × depth."""
    lidar_to_camera: Array
    """[4, 4] lidar frame → camera frame (x right, y down, z forward), metres."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""

    def __post_init__(self) -> None:
        p, t = self.projection, self.lidar_to_camera
        if p.shape != (3, 4) or not np.isfinite(p).all() or abs(np.linalg.det(p[:, :3])) < 1e-9:
            raise ConfigError("camera: projection must be 3×4 numbers, its left part invertible")
        if not np.allclose(p[2, :3], (0, 0, 1), atol=1e-6):
            raise ConfigError("camera: the last row of the projection must be 0 0 1 and a number")
        if not _is_rigid(t):
            raise ConfigError("camera: lidar_to_camera must be a 4×4 rotation and translation")
        if min(self.width, self.height) < 1:
            raise ConfigError(f"camera: an image of {self.width}×{self.height} pixels is none")

    @classmethod
    def from_intrinsics(
        cls, intrinsics: ArrayLike, lidar_to_camera: ArrayLike, width: int, height: int
    ) -> Camera:
        """A camera given by K [3, 3]. Raises ConfigError."""
        k = np.asarray(intrinsics, np.float64)
        if k.shape != (3, 3):
            raise ConfigError(f"camera: intrinsics must be 3×3 numbers, got {list(k.shape)}")
        projection = np.column_stack([k, np.zeros(3)])
        return cls(projection, np.asarray(lidar_to_camera, np.float64), width, height)

    @property
    def matrix(self) -> Array:
        """[3, 4] lidar frame → pixels × depth."""
        return np.asarray(self.projection @ self.lidar_to_camera)

    @property
    def centre(self) -> Array:
        """[3] where the camera is in the lidar frame, metres."""
        return np.asarray(-np.linalg.solve(self.matrix[:, :3], self.matrix[:, 3]))

    def rays(self) -> Array:
        """[height, width, 3] from ``centre`` through every pixel, in the lidar frame.

        They are as long as a depth of 1 m needs: what pixel (v, u) shows at depth d lies at
        ``centre + d * rays[v, u]``.
        """
        v, u = np.meshgrid(np.arange(self.height), np.arange(self.width), indexing="ij")
        pixels = np.stack([u, v, np.ones_like(u)], -1).astype(np.float64)
        return np.asarray(pixels @ np.linalg.inv(self.matrix[:, :3]).T)

    def scaled(self, factor: float, width: int, height: int) -> Camera:
        """The camera of the same picture, resized by ``factor`` to ``width`` × ``height``."""
        resize = np.diag([factor, factor, 1.0])
        resize[:2, 2] = (factor - 1) / 2  # corners of the image stay corners
        return replace(self, projection=resize @ self.projection, width=width, height=height)

    def in_frame(self, transform: Array) -> Camera:
        """The camera for points that were moved by ``transform`` [4, 4] after the lidar's frame."""
        return replace(self, lidar_to_camera=self.lidar_to_camera @ np.linalg.inv(transform))

    def project(self, xyz: NDArray[np.floating[Any]]) -> tuple[Array, Array]:
        """Pixel (u, v) [N, 2] and depth [N] in metres of points [N, 3], in or out of the image.

        Pixels are NaN where the depth is not above 0 or the point is not finite.
        """
        with np.errstate(invalid="ignore"):  # infinite coordinates
            image = xyz.astype(np.float64) @ self.matrix[:, :3].T + self.matrix[:, 3]
        depth = image[:, 2]
        ahead = (depth > 0) & np.isfinite(image).all(axis=1)
        pixel = np.full((len(xyz), 2), np.nan)
        np.divide(image[:, :2], depth[:, None], out=pixel, where=ahead[:, None])
        return pixel, depth

    def see(
        self, xyz: NDArray[np.floating[Any]], min_depth: float = 1.0, radius: int | None = 2
    ) -> Sight:
        """What the camera sees of points [N, 3]: deeper than ``min_depth`` metres, in the image.

        ``radius``: points with something nearer within so many pixels around are hidden; None asks
        nothing, and all agree. Lidar points cover few pixels, hence the neighbourhood; it should
        reach the next ring of the lidar. Only other points of the cloud hide.
        """
        pixel, depth = self.project(xyz)
        point = np.flatnonzero((depth > min_depth) & np.isfinite(pixel[:, 0]))
        column, row = np.floor(np.clip(pixel[point].T + 0.5, -1, 1 << 30)).astype(np.int64)
        inside = (row >= 0) & (row < self.height) & (column >= 0) & (column < self.width)
        point, row, column = point[inside], row[inside], column[inside]
        depth = depth[point]
        if radius is None:
            return Sight(point, row, column, depth, np.ones(len(point), np.float32))
        nearest = nearest_depth(row, column, depth, (self.height, self.width), radius)
        agreement = depth_agreement(depth, nearest)
        seen = agreement > 0
        return Sight(point[seen], row[seen], column[seen], depth[seen], agreement[seen])


def _is_rigid(transform: Array) -> bool:
    """Whether a matrix is a rotation and a translation, as far as printed calibrations are."""
    if transform.shape != (4, 4) or not np.isfinite(transform).all():
        return False
    turn = transform[:3, :3]
    orthogonal = np.allclose(turn @ turn.T, np.eye(3), atol=1e-3)
    return bool(orthogonal and np.linalg.det(turn) > 0 and np.allclose(transform[3], (0, 0, 0, 1)))


def nearest_depth(
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    depth: Array,
    shape: tuple[int, int],
    radius: int,
) -> Array:
    """[V] smallest depth of any point within ``radius`` rows and columns, the point included."""
    height, width = shape
    buffer = np.full((height + 2 * radius, width + 2 * radius), np.inf)
    np.minimum.at(buffer, (row + radius, column + radius), depth)
    size = 2 * radius + 1
    across = np.minimum.reduce([buffer[:, k : k + width] for k in range(size)])
    around = np.minimum.reduce([across[k : k + height] for k in range(size)])
    return np.asarray(around[row, column])


def depth_agreement(depth: Array, reference: Array, tolerance: float = TOLERANCE) -> Any:
    """float32 [V] in 0..1: 1 where two depths are the same surface, 0 where they cannot be.

    With e = |depth − reference| / max of both: 1 up to half the tolerance, falling to 0 at it.

    >>> depth_agreement(np.array([10.0, 10.0, 10.0]), np.array([9.5, 8.5, 5.0])).tolist()
    [1.0, 0.5, 0.0]
    """
    error = np.abs(depth - reference) / np.maximum(depth, reference)
    return np.clip(2 * (1 - error / tolerance), 0, 1).astype(np.float32)
