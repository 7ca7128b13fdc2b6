# SPDX-License-Identifier: Apache-2.0
"""Mesh: triangles with a material each, and the handful of solids that streets are built from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pointdistill_ros.simulation.materials import material

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles without shared vertices: simple to move, to merge and to cast rays at."""

    corners: Array
    """[T, 3, 3] metres: triangle, corner, xyz."""
    material: NDArray[np.uint8]
    """[T] row in the table of materials."""
    tint: NDArray[np.float32]
    """[T] factor on the material's reflectance."""

    def __len__(self) -> int:
        return len(self.corners)

    def moved(
        self,
        x: float = 0.0,
        y: float = 0.0,
        z: float = 0.0,
        yaw: float = 0.0,
        scale: ArrayLike = 1.0,
    ) -> Mesh:
        """Scaled (one number or [3]), turned about z, then shifted."""
        scaled = self.corners * np.asarray(scale, float)
        cos, sin = np.cos(yaw), np.sin(yaw)
        corners = np.empty_like(scaled)
        corners[..., 0] = scaled[..., 0] * cos - scaled[..., 1] * sin + x
        corners[..., 1] = scaled[..., 0] * sin + scaled[..., 1] * cos + y
        corners[..., 2] = scaled[..., 2] + z
        return Mesh(corners, self.material, self.tint)

    def tinted(self, factor: float) -> Mesh:
        """Brighter or darker as a whole."""
        return Mesh(self.corners, self.material, self.tint * np.float32(factor))


def merge(parts: Sequence[Mesh]) -> Mesh:
    """One mesh of many; an empty sequence gives an empty mesh."""
    if not parts:
        return Mesh(np.zeros((0, 3, 3)), np.zeros(0, np.uint8), np.zeros(0, np.float32))
    return Mesh(
        np.concatenate([p.corners for p in parts]),
        np.concatenate([p.material for p in parts]),
        np.concatenate([p.tint for p in parts]),
    )


def triangles(corners: ArrayLike, name: str) -> Mesh:
    """[T, 3, 3] corners of one material."""
    array = np.asarray(corners, float).reshape(-1, 3, 3)
    return Mesh(
        array, np.full(len(array), material(name), np.uint8), np.ones(len(array), np.float32)
    )


def quads(corners: ArrayLike, name: str) -> Mesh:
    """[Q, 4, 3] corners in order around each quadrangle, of one material."""
    q = np.asarray(corners, float).reshape(-1, 4, 3)
    return triangles(np.concatenate([q[:, [0, 1, 2]], q[:, [0, 2, 3]]]), name)


def loft(rings: ArrayLike, name: str, capped: bool = True) -> Mesh:
    """Skin over cross-sections [S, K, 3]: S closed rings of K points, flat caps at both ends."""
    r = np.asarray(rings, float)
    following = np.roll(r, -1, axis=1)
    sides = np.stack([r[:-1], following[:-1], following[1:], r[1:]], axis=2).reshape(-1, 4, 3)
    parts = [quads(sides, name)]
    if capped:
        for ring in (r[0], r[-1]):
            fan = [[ring[0], ring[i], ring[i + 1]] for i in range(1, len(ring) - 1)]
            parts.append(triangles(fan, name))
    return merge(parts)


def box(low: ArrayLike, high: ArrayLike, name: str) -> Mesh:
    """Axis-parallel box between two corners."""
    (x0, y0, z0), (x1, y1, z1) = np.asarray(low, float), np.asarray(high, float)
    ring = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    return loft([[(x, y, z) for x, y in ring] for z in (z0, z1)], name)


def tube(
    start: ArrayLike, end: ArrayLike, radius: float | tuple[float, float], name: str, sides: int = 6
) -> Mesh:
    """Cylinder or cone between two points; ``radius`` may differ at the two ends."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    axis = (b - a) / max(float(np.sqrt(((b - a) ** 2).sum())), 1e-9)
    # any direction not parallel to the axis spans the cross-section
    other = np.array([0.0, 0.0, 1.0]) if abs(axis[2]) < 0.9 else np.array([1.0, 0.0, 0.0])
    u = np.cross(axis, other)
    u /= np.sqrt((u**2).sum())
    v = np.cross(axis, u)
    angle = np.arange(sides)[:, None] * (2 * np.pi / sides)
    circle = np.cos(angle) * u + np.sin(angle) * v
    r0, r1 = radius if isinstance(radius, tuple) else (radius, radius)
    return loft([a + r0 * circle, b + r1 * circle], name)


def ellipsoid(centre: ArrayLike, radii: ArrayLike, name: str, sides: int = 8) -> Mesh:
    """Closed ellipsoid of ``sides`` meridians and half as many parallels."""
    polar = np.linspace(0.02, np.pi - 0.02, sides // 2 + 2)[:, None]
    angle = np.arange(sides)[None] * (2 * np.pi / sides)
    unit = np.stack(
        np.broadcast_arrays(
            np.sin(polar) * np.cos(angle), np.sin(polar) * np.sin(angle), np.cos(polar)
        ),
        axis=-1,
    )
    return loft(np.asarray(centre, float) + unit * np.asarray(radii, float), name)


def relief(
    u: Array, v: Array, kind: NDArray[np.uint8], depth: Array, edge: NDArray[np.uint8] | None = None
) -> tuple[Array, NDArray[np.uint8]]:
    """Stepped surface over a grid: ground with kerbs, facades with set-back windows.

    ``u`` [U+1] and ``v`` [V+1] are the grid lines, ``kind`` [U, V] the material and ``depth``
    [U, V] the offset of every cell. Where neighbours differ in depth a wall joins them; it takes
    the material of the higher cell (``edge`` [U, V], default ``kind``).
    Returns corners [T, 3, 3] in (u, v, depth) and materials [T].
    """
    edge = kind if edge is None else edge

    def face(points: Sequence[tuple[Array, Array, Array]]) -> Array:
        """Four corner columns [..] → [Q, 4, 3]."""
        return np.stack(
            [np.stack(np.broadcast_arrays(*p), axis=-1) for p in points], axis=-2
        ).reshape(-1, 4, 3)

    u0, u1, v0, v1 = u[:-1, None], u[1:, None], v[None, :-1], v[None, 1:]
    cells = face([(u0, v0, depth), (u1, v0, depth), (u1, v1, depth), (u0, v1, depth)])
    found, kinds = [cells], [kind.reshape(-1)]

    low, high = depth[:-1], depth[1:]  # neighbours along u share the line u[1:-1]
    line = u[1:-1, None]
    walls = face([(line, v0, low), (line, v1, low), (line, v1, high), (line, v0, high)])
    step = (low != high).reshape(-1)
    found.append(walls[step])
    kinds.append(np.where(high > low, edge[1:], edge[:-1]).reshape(-1)[step])

    low, high = depth[:, :-1], depth[:, 1:]
    line = v[None, 1:-1]
    walls = face([(u0, line, low), (u1, line, low), (u1, line, high), (u0, line, high)])
    step = (low != high).reshape(-1)
    found.append(walls[step])
    kinds.append(np.where(high > low, edge[:, 1:], edge[:, :-1]).reshape(-1)[step])

    quad, material_of = np.concatenate(found), np.concatenate(kinds)
    return (
        np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]]),
        np.concatenate([material_of, material_of]),
    )
