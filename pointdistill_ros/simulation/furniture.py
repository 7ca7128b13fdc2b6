# SPDX-License-Identifier: Apache-2.0
"""Street furniture: lamp posts, traffic signs and lights, bollards, fences, walls, guard rails."""

from __future__ import annotations

import numpy as np

from pointdistill_ros.simulation.mesh import Mesh, box, loft, merge, tube


def lamp_post(rng: np.random.Generator) -> Mesh:
    """A post of 4–9 m with an arm towards +y."""
    height, radius = float(rng.uniform(4.0, 9.0)), float(rng.uniform(0.05, 0.11))
    name = "wood pole" if rng.random() < 0.2 else "galvanised"
    arm = float(rng.uniform(0.3, 2.0))
    parts = [
        tube((0, 0, -0.3), (0, 0, height), (radius, radius * 0.6), name, 8),
        tube((0, 0, -0.3), (0, 0, 0.9), radius * 1.5, name, 8),
        tube((0, 0, height - 0.05), (0, arm, height + 0.1), 0.035, name, 5),
        box((-0.1, arm - 0.1, height), (0.1, arm + 0.5, height + 0.12), name),
    ]
    return merge(parts)


def traffic_sign(rng: np.random.Generator) -> Mesh:
    """Post with one to three plates that face −x (towards traffic that comes along +x)."""
    height = float(rng.uniform(2.0, 2.9))
    radius = float(rng.uniform(0.028, 0.045))
    parts = [tube((0, 0, -0.3), (0, 0, height + 0.7), radius, "galvanised", 6)]
    z = height
    for _ in range(int(rng.choice([1, 2, 3], p=[0.65, 0.27, 0.08]))):
        corners = int(rng.choice([12, 3, 4, 8], p=[0.45, 0.2, 0.25, 0.1]))
        size = float(rng.uniform(0.28, 0.45))
        parts.append(_plate(z + size, size, corners))
        z -= size * 1.7
    return merge(parts)


def direction_board(rng: np.random.Generator) -> Mesh:
    """A large board on two posts, facing −x."""
    width, low = float(rng.uniform(1.5, 4.0)), float(rng.uniform(0.8, 2.2))
    high = low + float(rng.uniform(0.8, 2.0))
    posts = [
        tube((0, y, -0.3), (0, y, high), 0.06, "galvanised", 6)
        for y in (-width * 0.35, width * 0.35)
    ]
    front = box((-0.07, -width / 2, low), (-0.05, width / 2, high), "sign front")
    back = box((-0.05, -width / 2, low), (-0.03, width / 2, high), "sign back")
    return merge([*posts, front, back])


def _plate(z: float, size: float, corners: int) -> Mesh:
    angle = (np.arange(corners) + 0.5) * (2 * np.pi / corners) - np.pi / 2
    if corners == 3:
        angle = np.array([np.pi / 2, np.pi * 7 / 6, np.pi * 11 / 6])
    y, up = size * np.cos(angle), z + size * np.sin(angle)

    def ring(x: float) -> list[tuple[float, float, float]]:
        return [(x, float(a), float(b)) for a, b in zip(y, up, strict=True)]

    return merge(
        [
            loft([ring(-0.06), ring(-0.052)], "sign front"),
            loft([ring(-0.052), ring(-0.045)], "sign back"),
        ]
    )


def traffic_light(rng: np.random.Generator) -> Mesh:
    """Post with a signal box; SemanticKITTI calls both pole."""
    parts = [tube((0, 0, -0.3), (0, 0, 3.3), 0.07, "galvanised", 8)]
    parts.append(box((-0.32, -0.16, 2.3), (-0.08, 0.16, 3.2), "galvanised"))
    if rng.random() < 0.4:
        parts.append(tube((0, 0, 3.3), (0, 4.0, 5.2), 0.06, "galvanised", 6))
        parts.append(box((-0.2, 3.8, 4.3), (0.1, 4.1, 5.2), "galvanised"))
    return merge(parts)


def bollard(rng: np.random.Generator) -> Mesh:
    """A post of about 1 m."""
    radius = float(rng.uniform(0.04, 0.1))
    return tube((0, 0, -0.2), (0, 0, float(rng.uniform(0.7, 1.1))), radius, "galvanised", 8)


def fence(rng: np.random.Generator, length: float) -> Mesh:
    """A fence along +x: pickets, boards, wire mesh, railings or a low wall with railings."""
    kind = str(
        rng.choice(["picket", "board", "wire", "railing", "wall"], p=[0.3, 0.2, 0.2, 0.1, 0.2])
    )
    height = float(rng.uniform(0.8, 1.9))
    parts: list[Mesh] = []
    if kind == "wall":
        parts.append(box((0, -0.12, -0.4), (length, 0.12, height * 0.55), "garden wall"))
        kind = "railing" if rng.random() < 0.4 else "wall"
    wood = kind in ("picket", "board")
    name = "wood fence" if wood else "metal fence"
    if kind != "wall":
        along = np.arange(0, length, 2.4)
        parts += [box((x, -0.05, -0.3), (x + 0.09, 0.05, height), name) for x in along]
        across = (0.25, height - 0.15)
        parts += [box((0, -0.02, z), (length, 0.02, z + 0.07), name) for z in across]
    pitch, width = {
        "picket": (0.16, 0.09),
        "board": (0.15, 0.135),
        "wire": (0.10, 0.012),
        "railing": (0.12, 0.025),
    }.get(kind, (1.0, 0.0))
    if width:
        x = np.arange(0.1, length - 0.1, pitch)
        bar = box((0, -0.025, 0.05), (width, -0.005, height), name)
        corners = bar.corners[None] + np.stack([x, 0 * x, 0 * x], 1)[:, None, None]
        parts.append(
            Mesh(
                corners.reshape(-1, 3, 3), np.tile(bar.material, len(x)), np.tile(bar.tint, len(x))
            )
        )
    return merge(parts).tinted(float(rng.uniform(0.75, 1.25)))


def guard_rail(length: float) -> Mesh:
    """Steel beam on posts along +x."""
    parts = [box((0, -0.03, 0.45), (length, 0.03, 0.75), "guard rail")]
    parts += [
        box((x, -0.05, -0.3), (x + 0.1, 0.08, 0.7), "guard rail") for x in np.arange(0, length, 4.0)
    ]
    return merge(parts)
