# SPDX-License-Identifier: Apache-2.0
"""A camera for point clouds: which point is seen in each pixel, and how deep it lies.

Points are discs that shrink with distance, the nearest hides the others. Shading is eye-dome
lighting (C. Boucheny, 2009): pixels that lie behind their neighbours are darkened, so that edges
and surfaces show without normals or lamps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NOTHING = -1
"""Where no point is seen."""
_NEAR, _FAR = 1.0, 130.0
"""Metres."""
_LARGEST = 5
"""Pixels, radius of a disc."""
_RIM = ((-2, 0), (2, 0), (0, -2), (0, 2), (-1, -1), (1, 1), (-1, 1), (1, -1))
"""Neighbours that a pixel is compared with."""


class View(NamedTuple):
    """What the camera sees."""

    point: NDArray[np.int64]
    """[h, w] row of the point, or NOTHING."""
    depth: NDArray[np.float32]
    """[h, w] metres along the axis of the camera; infinite where there is nothing."""


@dataclass(frozen=True)
class Camera:
    """A pinhole that looks from one place at another, with the sky above."""

    eye: NDArray[np.float64]
    """[3] metres."""
    target: NDArray[np.float64]
    """[3] metres."""
    width: int
    height: int
    opening: float = 62.0
    """Horizontal, degrees."""
    disc: float = 0.05
    """Metres, radius of a point."""

    @property
    def focal(self) -> float:
        """Pixels."""
        return float(self.width / 2 / np.tan(np.radians(self.opening) / 2))

    @property
    def axes(self) -> NDArray[np.float64]:
        """[3, 3] rows: right, down, forward."""
        forward = self.target - self.eye
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right = right / np.linalg.norm(right)
        return np.stack([right, np.cross(forward, right), forward])

    def project(self, xyz: NDArray[np.floating]) -> NDArray[np.float64]:
        """[N, 3] column, row, depth of points [N, 3]; those of negative depth mean nothing."""
        seen = (xyz - self.eye) @ self.axes.T
        with np.errstate(divide="ignore", invalid="ignore"):
            column = self.width / 2 + self.focal * seen[:, 0] / seen[:, 2]
            row = self.height / 2 + self.focal * seen[:, 1] / seen[:, 2]
        return np.column_stack([column, row, seen[:, 2]])

    def look(self, xyz: NDArray[np.floating]) -> View:
        """Which of the points [N, 3] is seen in each pixel."""
        column, row, depth = self.project(xyz).T
        inside = (depth > _NEAR) & (depth < _FAR)
        inside &= (column > -_LARGEST) & (column < self.width + _LARGEST)
        inside &= (row > -_LARGEST) & (row < self.height + _LARGEST)
        chosen = np.flatnonzero(inside)
        chosen = chosen[np.argsort(-depth[chosen], kind="stable")]  # the nearest is written last
        x, y, z = column[chosen].astype(int), row[chosen].astype(int), depth[chosen]
        radius = np.rint(np.clip(self.focal * self.disc / z, 0.6, _LARGEST)).astype(int)
        point = np.full((self.height, self.width), NOTHING, np.int64)
        nearest = np.full((self.height, self.width), np.inf, np.float32)
        for size in range(1, _LARGEST + 1):  # discs of one size share their pixels' offsets
            these = np.flatnonzero(radius == size)
            for dx, dy in _disc(size):
                u, v = x[these] + dx, y[these] + dy
                fits = (u >= 0) & (u < self.width) & (v >= 0) & (v < self.height)
                u, v, who = u[fits], v[fits], these[fits]
                before = z[who] < nearest[v, u]
                u, v, who = u[before], v[before], who[before]
                nearest[v, u] = z[who]
                point[v, u] = chosen[who]
        return View(point, nearest)


def shade(depth: NDArray[np.float32], strength: float = 6.0) -> NDArray[np.float32]:
    """[h, w] 0..1, brightness by eye-dome lighting of depths [h, w]."""
    log = np.log2(np.where(np.isfinite(depth), depth, np.float32(4 * _FAR)))
    behind = np.zeros_like(log)
    for dx, dy in _RIM:
        behind += np.maximum(0, log - np.roll(log, (dy, dx), axis=(0, 1)))
    return np.exp(-strength * behind / len(_RIM)).astype(np.float32)


@cache
def _disc(size: int) -> tuple[tuple[int, int], ...]:
    """Offsets of the pixels of a disc."""
    span = range(-size, size + 1)
    return tuple((dx, dy) for dx in span for dy in span if dx * dx + dy * dy <= (size + 0.35) ** 2)
