# SPDX-License-Identifier: Apache-2.0
"""Vehicles: cars, vans, trucks, buses, trailers. Front towards +x, middle at the origin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pointdistill_ros.simulation.mesh import Mesh, box, loft, merge, quads, tube


@dataclass(frozen=True)
class _Body:
    """Side view of a passenger car as shares of its length and height."""

    length: tuple[float, float]
    width: tuple[float, float]
    height: tuple[float, float]
    bonnet: float
    """Height of the bonnet's front edge / height."""
    belt: float
    """Height of the window line / height."""
    cabin: tuple[float, float, float, float]
    """x / length from the rear: rear foot, rear top, windscreen top, windscreen foot."""
    tail: float
    """Height of the tail / height."""


_BODIES = {
    "hatchback": _Body(
        (3.6, 4.3), (1.65, 1.8), (1.42, 1.55), 0.52, 0.62, (0.02, 0.12, 0.55, 0.75), 0.62
    ),
    "saloon": _Body((4.4, 5.0), (1.75, 1.9), (1.4, 1.5), 0.5, 0.62, (0.16, 0.30, 0.56, 0.73), 0.64),
    "estate": _Body(
        (4.4, 4.9), (1.75, 1.88), (1.42, 1.58), 0.5, 0.6, (0.01, 0.07, 0.58, 0.74), 0.62
    ),
    "suv": _Body((4.2, 4.9), (1.8, 1.98), (1.6, 1.85), 0.56, 0.62, (0.02, 0.09, 0.58, 0.73), 0.62),
    "van": _Body((4.4, 5.6), (1.8, 2.05), (1.85, 2.5), 0.42, 0.55, (0.0, 0.02, 0.76, 0.9), 0.6),
}


def car(rng: np.random.Generator) -> Mesh:
    """A passenger car or van, label car."""
    kind = str(rng.choice(list(_BODIES), p=[0.33, 0.2, 0.22, 0.15, 0.10]))
    b = _BODIES[kind]
    length, width, height = (float(rng.uniform(*r)) for r in (b.length, b.width, b.height))
    half, clear = width / 2, 0.2
    belt = b.belt * height
    rear_foot, rear_top, front_top, front_foot = (length * (c - 0.5) for c in b.cabin)
    # lower body: cross-sections from tail to nose; top height follows boot, belt and bonnet
    stations = [
        (-length / 2, 0.88, 0.42, b.tail * height * 0.9),
        (-length / 2 + 0.12, 0.97, clear + 0.05, b.tail * height),
        (rear_foot + 0.05, 1.0, clear, max(belt, b.tail * height)),
        (front_foot, 1.0, clear, belt),
        (length / 2 - 0.25, 0.96, clear, (b.bonnet + 0.06) * height),
        (length / 2 - 0.05, 0.85, clear + 0.08, b.bonnet * height),
        (length / 2, 0.75, 0.38, b.bonnet * height * 0.85),
    ]
    stations.sort()
    rings = []
    for x, wide, low, top in stations:
        w, mid = half * wide, low + (top - low) * 0.55
        rings.append(
            [
                (x, w * 0.93, low),
                (x, w, mid),
                (x, w * 0.94, top),
                (x, -w * 0.94, top),
                (x, -w, mid),
                (x, -w * 0.93, low),
            ]
        )
    parts = [loft(rings, "car paint")]
    # cabin: a hexahedron narrower at the top; its panes stand a centimetre proud of the pillars
    low, high = half * 0.93, half * 0.74
    foot = belt - 0.05
    corner = {
        (end, side, up): (x, side * (high if up else low), height if up else foot)
        for end, xs in (("r", (rear_foot, rear_top)), ("f", (front_foot, front_top)))
        for side in (1, -1)
        for up, x in zip((0, 1), xs, strict=True)
    }
    panel_van = kind == "van" and rng.random() < 0.6
    for ends in (("r", "r"), ("f", "f"), ("r", "f")):
        for side in (1, -1) if ends[0] != ends[1] else (1,):
            last = side if ends[0] != ends[1] else -1
            face = [
                corner[ends[0], side, 0],
                corner[ends[1], last, 0],
                corner[ends[1], last, 1],
                corner[ends[0], side, 1],
            ]
            parts.append(quads([face], "car paint"))
            if panel_van and ends != ("f", "f"):
                continue
            parts.append(_pane(face, (0, 0, foot), "car glass"))
    roof = [corner["r", 1, 1], corner["f", 1, 1], corner["f", -1, 1], corner["r", -1, 1]]
    parts.append(quads([roof], "car paint"))
    radius = float(rng.uniform(0.29, 0.36)) if height < 1.7 else 0.36
    for x in (-length / 2 + 0.2 * length, length / 2 - 0.19 * length):
        parts.extend(_wheels(x, half, radius, "car tyre"))
    for side in (1, -1):  # mirrors
        x = front_foot - 0.25
        parts.append(
            box(
                (x - 0.06, side * half * 1.08 - 0.09, belt),
                (x + 0.06, side * half * 1.08 + 0.09, belt + 0.15),
                "car paint",
            )
        )
    for x in (-length / 2 - 0.01, length / 2 + 0.01):
        plate = [(x, -0.26, 0.48), (x, 0.26, 0.48), (x, 0.26, 0.59), (x, -0.26, 0.59)]
        parts.append(quads([plate], "car plate"))
    # most cars are dark to the laser, some are bright
    shade = float(
        rng.choice(
            [rng.uniform(0.1, 0.5), rng.uniform(0.7, 1.6), rng.uniform(1.8, 2.8)], p=[0.4, 0.4, 0.2]
        )
    )
    return merge(parts).tinted(shade)


def _pane(
    face: list[tuple[float, float, float]], inside: tuple[float, float, float], name: str
) -> Mesh:
    """A window that leaves a frame around it, a centimetre outside of ``face``."""
    f = np.array(face)
    middle = f.mean(0)
    outward = np.cross(f[1] - f[0], f[3] - f[0])
    outward /= np.sqrt((outward**2).sum())
    if ((middle - inside) * outward).sum() < 0:
        outward = -outward
    return quads([middle + (f - middle) * 0.86 + 0.012 * outward], name)


def _wheels(x: float, half: float, radius: float, name: str) -> list[Mesh]:
    """The two wheels of an axle."""
    return [
        tube((x, side * (half - 0.2), radius), (x, side * (half + 0.01), radius), radius, name, 12)
        for side in (1, -1)
    ]


def truck(rng: np.random.Generator) -> Mesh:
    """A lorry: cab, gap, box or flat bed, wheels. Label truck."""
    length, half = float(rng.uniform(6.0, 11.0)), float(rng.uniform(1.05, 1.27))
    front, rear = length / 2, -length / 2
    cab = float(rng.uniform(1.7, 2.3))
    top = float(rng.uniform(2.4, 3.1))
    parts = [box((front - cab, -half, 0.55), (front, half, top), "truck paint")]
    shield = [
        (front, -half, 1.5),
        (front, half, 1.5),
        (front, half, top - 0.1),
        (front, -half, top - 0.1),
    ]
    parts.append(_pane(shield, (0, 0, 1), "truck glass"))
    for side in (1, -1):
        window = [(front - 1.2, side * half, 1.5), (front - 0.2, side * half, 1.5)]
        window += [(x, y, top - 0.25) for x, y, _ in reversed(window)]
        parts.append(_pane(window, (0, 0, 1), "truck glass"))
    parts.append(box((rear, -half * 0.45, 0.6), (front - cab, half * 0.45, 0.95), "truck paint"))
    if rng.random() < 0.7:
        load = float(rng.uniform(2.9, 3.9))
        parts.append(box((rear, -half, 0.95), (front - cab - 0.25, half, load), "truck paint"))
    else:
        rails = (-half, half - 0.05)
        parts += [
            box((rear, y, 0.95), (front - cab - 0.25, y + 0.05, 1.5), "truck paint") for y in rails
        ]
        parts.append(box((rear, -half, 0.9), (front - cab - 0.25, half, 1.0), "truck paint"))
    for x in (front - cab * 0.6, rear + 1.2, rear + 2.4):
        parts.extend(_wheels(x, half, 0.48, "truck tyre"))
    return merge(parts).tinted(float(rng.uniform(0.6, 1.4)))


def coach(rng: np.random.Generator) -> Mesh:
    """A bus, a caravan or a car trailer: label other-vehicle."""
    kind = str(rng.choice(["bus", "caravan", "trailer"], p=[0.5, 0.25, 0.25]))
    if kind == "bus":
        length, half, top = float(rng.uniform(8, 12.5)), 1.27, float(rng.uniform(2.9, 3.3))
        parts = [box((-length / 2, -half, 0.35), (length / 2, half, top), "coach paint")]
        for side in (1, -1):
            for x in np.arange(-length / 2 + 0.3, length / 2 - 1.4, 1.5):
                pane = [
                    (x, side * half, 1.3),
                    (x + 1.4, side * half, 1.3),
                    (x + 1.4, side * half, 2.5),
                    (x, side * half, 2.5),
                ]
                parts.append(_pane(pane, (0, 0, 1), "coach glass"))
        for x in (-length / 2, length / 2):
            pane = [(x, -half, 1.2), (x, half, 1.2), (x, half, top - 0.2), (x, -half, top - 0.2)]
            parts.append(_pane(pane, (0, 0, 1), "coach glass"))
        axles = [-length / 2 + 2.6, length / 2 - 2.5]
        radius = 0.48
    else:
        length, half = float(rng.uniform(2.2, 5.5)), float(rng.uniform(0.8, 1.12))
        top = float(rng.uniform(2.2, 2.6)) if kind == "caravan" else float(rng.uniform(0.8, 1.9))
        parts = [box((-length / 2, -half, 0.4), (length / 2, half, top), "coach paint")]
        parts.append(tube((length / 2, 0, 0.45), (length / 2 + 1.2, 0, 0.45), 0.05, "coach paint"))
        axles, radius = [0.0], 0.33
    for x in axles:
        parts.extend(_wheels(x, half, radius, "coach tyre"))
    return merge(parts).tinted(float(rng.uniform(0.7, 1.3)))
