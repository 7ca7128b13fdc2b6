# SPDX-License-Identifier: Apache-2.0
"""Buildings: facades with set-back windows and doors, bays, balconies, roofs."""

from __future__ import annotations

import numpy as np

from pointdistill_ros.simulation.materials import material
from pointdistill_ros.simulation.mesh import Mesh, box, merge, quads, relief

_BELOW = 2.0
"""Walls reach this far under the ground, so that slopes leave no gap."""


def building(rng: np.random.Generator, width: float, depth: float, floors: int) -> Mesh:
    """A house: front along x from 0 to ``width`` at y = 0, body towards +y, ground at z = 0."""
    storey = float(rng.uniform(2.7, 3.3))
    height = floors * storey + float(rng.uniform(0.2, 0.8))
    wall = str(rng.choice(["plaster", "brick"], p=[0.7, 0.3]))
    back = float(rng.uniform(0.08, 0.25))
    front = _facade(rng, width, height, floors, storey, wall, back, doors=True)
    left = _facade(rng, depth, height, floors, storey, wall, back, doors=False)
    right = _facade(rng, depth, height, floors, storey, wall, back, doors=False)
    rear = [
        (width, depth, -_BELOW),
        (0, depth, -_BELOW),
        (0, depth, height),
        (width, depth, height),
    ]
    parts = [
        front,
        left.moved(0, depth, 0, -np.pi / 2),
        right.moved(width, 0, 0, np.pi / 2),
        quads([rear], wall),
        _roof(rng, width, depth, height),
    ]
    if rng.random() < 0.35 and width > 7:  # bay
        a = float(rng.uniform(1, width - 4))
        out = float(rng.uniform(0.4, 1.3))
        parts.append(box((a, -out, -_BELOW), (a + 2.8, 0.1, min(height, storey * 2)), wall))
    if floors > 1 and rng.random() < 0.4:
        for floor in range(1, floors):
            z = floor * storey + 0.1
            for a in np.arange(1.0, width - 3.2, float(rng.uniform(4, 7))):
                parts += [
                    box((a, -1.2, z), (a + 2.4, 0, z + 0.15), "plaster"),
                    box((a, -1.2, z + 0.15), (a + 2.4, -1.12, z + 1.0), "plaster"),
                ]
    if rng.random() < 0.5:  # steps before the door
        parts.append(box((0.8, -0.9, -_BELOW), (2.4, 0, 0.18), "plaster"))
    # rain pipes
    parts += [
        box((a, -0.12, 0), (a + 0.1, -0.02, height), "door") for a in np.arange(0.1, width, 8.0)
    ]
    return merge(parts).tinted(float(rng.uniform(0.8, 1.15)))


def _facade(
    rng: np.random.Generator,
    width: float,
    height: float,
    floors: int,
    storey: float,
    wall: str,
    back: float,
    doors: bool,
) -> Mesh:
    """One wall in the plane y = 0 from x = 0 to ``width``, seen from −y; openings lie behind it."""
    pitch = float(rng.uniform(2.0, 3.6))
    pane = pitch * float(rng.uniform(0.35, 0.6))
    columns = max(1, int(width / pitch))
    margin = (width - columns * pitch) / 2 + (pitch - pane) / 2
    left = margin + pitch * np.arange(columns)
    x = np.unique(np.round(np.concatenate([[0, width], left, left + pane]), 3))
    sill, lintel = float(rng.uniform(0.7, 1.1)), float(rng.uniform(2.1, 2.5))
    bottom = storey * np.arange(floors)
    z = np.unique(
        np.round(np.concatenate([[-_BELOW, 0.05, height], bottom + sill, bottom + lintel]), 3)
    )
    kind = np.full((len(x) - 1, len(z) - 1), material(wall), np.uint8)
    depth = np.zeros(kind.shape)
    mid_x, mid_z = (x[:-1] + x[1:]) / 2, (z[:-1] + z[1:]) / 2
    for column in left:
        across = (mid_x > column) & (mid_x < column + pane)
        for floor in range(floors):
            if rng.random() < (0.1 if doors else 0.45):
                continue
            door = doors and floor == 0 and rng.random() < 0.25
            low = 0.05 if door else bottom[floor] + sill
            cells = np.ix_(across, (mid_z > low) & (mid_z < bottom[floor] + lintel))
            kind[cells] = material("door" if door or rng.random() < 0.15 else "window")
            depth[cells] = back
    corners, kinds = relief(x, z, kind, depth, np.full_like(kind, material(wall)))
    corners = corners[..., [0, 2, 1]]  # (x, z, depth) → (x, y = depth, z)
    return Mesh(corners, kinds, np.ones(len(kinds), np.float32))


def _roof(rng: np.random.Generator, width: float, depth: float, height: float) -> Mesh:
    """Gable along x or across, or flat; eaves stand over the walls."""
    over = float(rng.uniform(0.2, 0.6))
    slopes: list[list[tuple[float, float, float]]]
    x0, x1, y0, y1 = -over, width + over, -over, depth + over
    shape = int(rng.integers(3))
    if shape == 0:
        return box(
            (x0 + over, y0 + over, height), (x1 - over, y1 - over, height + 0.3), "roof tile"
        )
    rise = height + min(width, depth) * float(rng.uniform(0.3, 0.55))
    if shape == 1:
        ym = (y0 + y1) / 2
        ridge = [(x0, ym, rise), (x1, ym, rise)]
        slopes = [
            [(x0, y0, height), (x1, y0, height), ridge[1], ridge[0]],
            [(x1, y1, height), (x0, y1, height), ridge[0], ridge[1]],
            [
                (0, 0, height),
                (0, depth, height),
                (0, depth / 2, rise - 0.1),
                (0, depth / 2, rise - 0.1),
            ],
            [(width, 0, height), (width, depth, height)] + [(width, depth / 2, rise - 0.1)] * 2,
        ]
    else:
        xm = (x0 + x1) / 2
        ridge = [(xm, y0, rise), (xm, y1, rise)]
        slopes = [
            [(x0, y0, height), (x0, y1, height), ridge[1], ridge[0]],
            [(x1, y1, height), (x1, y0, height), ridge[0], ridge[1]],
            [
                (0, 0, height),
                (width, 0, height),
                (width / 2, 0, rise - 0.1),
                (width / 2, 0, rise - 0.1),
            ],
            [(0, depth, height), (width, depth, height)] + [(width / 2, depth, rise - 0.1)] * 2,
        ]
    return quads(slopes, "roof tile")
