# SPDX-License-Identifier: Apache-2.0
"""Vegetation: porous canopies of small leaf triangles, trunks with branches, hedges, tufts."""

from __future__ import annotations

import numpy as np

from pointdistill_ros.simulation.mesh import Array, Mesh, box, merge, triangles, tube


def _leaves(rng: np.random.Generator, centres: Array, size: float, name: str) -> Mesh:
    """One randomly turned triangle of about ``size`` metres at every centre [N, 3]."""
    offsets = rng.standard_normal((len(centres), 3, 3)) * (size * 0.6)
    mesh = triangles(centres[:, None] + offsets, name)
    return Mesh(
        mesh.corners, mesh.material, mesh.tint * rng.uniform(0.8, 1.2, len(mesh)).astype(np.float32)
    )


def _blob(
    rng: np.random.Generator, count: int, centre: Array, radii: Array, hollow: float
) -> Array:
    """Points in an ellipsoid; ``hollow`` 0..1 pushes them to the surface."""
    direction = rng.standard_normal((count, 3))
    direction /= np.sqrt((direction**2).sum(1, keepdims=True)) + 1e-9
    radius = hollow + (1 - hollow) * rng.random((count, 1))
    return centre + direction * radius * radii


def tree(rng: np.random.Generator, height: float, conifer: bool = False) -> Mesh:
    """A tree of the given height at the origin: trunk, branches, canopy."""
    girth = height * float(rng.uniform(0.012, 0.022)) + 0.05
    bare = height * float(rng.uniform(0.03, 0.15) if conifer else rng.uniform(0.12, 0.36))
    lean = rng.normal(0, 0.02 * height, 2)
    top = np.array([lean[0], lean[1], height * 0.8])
    parts = [tube((0, 0, -0.3), top, (girth, girth * 0.3), "bark", 8)]
    parts.append(tube((0, 0, -0.3), (0, 0, 0.4), (girth * 1.5, girth), "bark", 8))
    if conifer:
        radius = height * float(rng.uniform(0.15, 0.25))
        count = int(220 * height)
        up = 1 - np.sqrt(rng.random((count, 1)))
        angle = rng.uniform(0, 2 * np.pi, (count, 1))
        out = radius * (1 - up) * (0.5 + 0.5 * rng.random((count, 1)))
        z = bare + (height - bare) * up - 0.15 * out
        centres = np.concatenate([out * np.cos(angle), out * np.sin(angle), z], 1)
        parts.append(_leaves(rng, centres, 0.16, "needles"))
        return merge(parts)
    spread = height * float(rng.uniform(0.2, 0.36))
    blobs = []
    for _ in range(int(rng.integers(5, 10))):
        centre = np.array(
            [*rng.normal(0, spread * 0.45, 2), rng.uniform(bare + 0.15 * height, height * 0.88)]
        )
        radii = spread * rng.uniform(0.35, 0.65) * np.array([1.0, 1.0, 0.8])
        count = int(130 * (radii[0] * radii[1]) + 60)
        blobs.append(_blob(rng, min(count, 900), centre, radii, 0.25))
        if rng.random() < 0.8:
            start = top * rng.uniform(bare / top[2], 0.7)
            parts.append(tube(start, centre, (girth * 0.4, 0.02), "bark", 5))
    parts.append(_leaves(rng, np.concatenate(blobs), 0.17, "leaves"))
    return merge(parts)


def bush(rng: np.random.Generator, radius: float) -> Mesh:
    """A bush at the origin, 1–2 radii high."""
    blobs = []
    for _ in range(int(rng.integers(2, 5))):
        size = radius * rng.uniform(0.45, 0.75)
        centre = np.array([*rng.normal(0, radius * 0.35, 2), size * rng.uniform(0.7, 1.3)])
        radii = size * np.array([1.0, 1.0, rng.uniform(0.8, 1.3)])
        blobs.append(_blob(rng, int(160 * size * size) + 40, centre, radii, 0.35))
    return _leaves(rng, np.concatenate(blobs), 0.14, "leaves")


def hedge(rng: np.random.Generator, length: float, height: float, depth: float) -> Mesh:
    """A clipped hedge along +x: a dense core under a ragged skin of leaves."""
    core = box((0.1, -depth * 0.32, -0.3), (length - 0.1, depth * 0.32, height - 0.15), "hedge")
    area = 2 * length * height + length * depth
    centres = rng.uniform((0, -depth / 2, 0.03), (length, depth / 2, height), (int(area * 45), 3))
    face = rng.random(len(centres)) < 0.75  # three in four sit in the outer skin
    outward = np.where(centres[:, 1] > 0, 1, -1) * depth / 2
    centres[face, 1] = outward[face] + rng.normal(0, 0.05, face.sum())
    return merge([core, _leaves(rng, centres, 0.09, "hedge")])


def thicket(rng: np.random.Generator, length: float, height: float, depth: float) -> Mesh:
    """Undergrowth or the edge of a wood along +x, from y = 0 backwards, with a lumpy front."""
    lumps = []
    for x in np.arange(0, length, 0.8):
        for _ in range(2):
            size = float(rng.uniform(0.5, 1.0)) * min(height, 2.4) * 0.55
            z = float(rng.uniform(0.25, 1.0)) ** 1.3 * max(height - size, size)
            y = float(rng.uniform(0, depth)) * (0.4 + 0.6 * z / height)
            radii = size * np.array([1.0, 0.8, rng.uniform(0.7, 1.2)])
            lumps.append(_blob(rng, int(150 * size * size) + 25, np.array([x, y, z]), radii, 0.45))
    points = np.concatenate(lumps)
    return _leaves(rng, points[points[:, 2] > 0.02], 0.15, "leaves")


def tufts(rng: np.random.Generator, length: float, width: float, height: float) -> Mesh:
    """Tall grass and weeds over a rectangle, x 0..length, y 0..width."""
    count = int(length * width * 14)
    base = rng.uniform((0, 0, 0), (length, width, 0), (count, 3))
    tip = (
        base
        + rng.normal(0, 0.12, (count, 3))
        + [0, 0, 1] * (height * rng.uniform(0.3, 1, (count, 1)))
    )
    side = base + rng.normal(0, 0.1, (count, 3)) * [1, 1, 0.2]
    return triangles(np.stack([base, side, tip], 1), "leaves")
