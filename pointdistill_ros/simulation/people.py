# SPDX-License-Identifier: Apache-2.0
"""People on foot, bicycles, motorcycles, riders. Front towards +x, feet or wheels at z = 0."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from pointdistill_ros.simulation.mesh import Mesh, ellipsoid, merge, tube


def person(rng: np.random.Generator, stride: float = 0.0) -> Mesh:
    """A standing or walking person, child or adult; ``stride`` −1..1 is the phase of the legs."""
    height = float(rng.uniform(1.05, 1.5)) if rng.random() < 0.12 else float(rng.normal(1.72, 0.09))
    broad = float(rng.uniform(0.85, 1.2))
    step = 0.28 * stride
    hip, shoulder = 0.5, 0.82
    parts = []
    for side in (1, -1):
        foot = (side * step, side * 0.08, 0.0)
        knee = (side * step * 0.55 + 0.03 * abs(stride), side * 0.085, 0.27)
        parts.append(tube(foot, knee, (0.045, 0.06), "cloth", 7))
        parts.append(tube(knee, (0, side * 0.07, hip), (0.06, 0.085), "cloth", 7))
        parts.append(tube(foot, (foot[0] + 0.13, foot[1], 0.015), 0.03, "cloth", 5))
        hand = (-side * step * 0.8 + 0.04, side * 0.17 * broad, 0.47)
        elbow = (-side * step * 0.35 - 0.02, side * 0.175 * broad, 0.63)
        parts.append(
            tube((0, side * 0.13 * broad, shoulder - 0.02), elbow, (0.042, 0.035), "cloth", 6)
        )
        parts.append(tube(elbow, hand, (0.035, 0.025), "cloth", 6))
    parts.append(ellipsoid((0, 0, 0.66), (0.085 * broad, 0.125 * broad, 0.2), "cloth", 10))
    parts.append(ellipsoid((0, 0, 0.52), (0.08 * broad, 0.11 * broad, 0.09), "cloth", 8))
    parts.append(ellipsoid((0.01, 0, 0.935), (0.055, 0.047, 0.068), "cloth", 8))
    parts.append(tube((0, 0, 0.8), (0, 0, 0.9), 0.033, "cloth", 6))
    if rng.random() < 0.3:
        parts.append(ellipsoid((-0.12, 0, 0.69), (0.07, 0.09, 0.13), "cloth", 6))  # rucksack
    return merge(parts).moved(scale=height).tinted(float(rng.uniform(0.6, 1.3)))


def bicycle(rng: np.random.Generator, name: str = "bicycle") -> Mesh:
    """Two wheels with tyre and spokes, frame, saddle, handlebar."""
    radius, base = float(rng.uniform(0.32, 0.36)), float(rng.uniform(0.98, 1.1))
    rear, front = (-base / 2, 0.0, radius), (base / 2, 0.0, radius)
    crank, seat, head = (-0.08, 0.0, 0.28), (-0.22, 0.0, 0.82), (base / 2 - 0.2, 0.0, 0.85)
    parts = []
    for x, _, z in (rear, front):
        angle = np.arange(13) * (2 * np.pi / 12)
        rim = np.stack([x + radius * np.cos(angle), 0 * angle, z + radius * np.sin(angle)], 1)
        parts += [tube(a, b, 0.028, name, 4) for a, b in pairwise(rim)]
        parts += [tube((x, 0, z), p, 0.006, name, 3) for p in rim[:-1:2]]
    for a, b in (
        (rear, crank),
        (rear, seat),
        (crank, seat),
        (crank, head),
        (seat, head),
        (head, front),
    ):
        parts.append(tube(a, b, 0.024, name, 5))
    x, _, z = head
    parts.append(tube((x, 0, z), (x - 0.03, 0, z + 0.17), 0.02, name, 5))
    parts.append(tube((x - 0.03, -0.3, z + 0.17), (x - 0.03, 0.3, z + 0.17), 0.018, name, 5))
    parts.append(ellipsoid((seat[0], 0, seat[2] + 0.09), (0.14, 0.08, 0.04), name, 6))
    if rng.random() < 0.4:
        parts.append(ellipsoid((-base / 2, 0, 0.8), (0.2, 0.16, 0.1), name, 6))  # basket or bag
    return merge(parts).tinted(float(rng.uniform(0.6, 1.4)))


def motorcycle(rng: np.random.Generator, name: str = "motorcycle") -> Mesh:
    """Motorcycle or scooter: fat wheels, tank, engine block, seat, fork, fairing."""
    radius, base = float(rng.uniform(0.24, 0.33)), float(rng.uniform(1.25, 1.5))
    parts = [
        tube((x, -0.07, radius), (x, 0.07, radius), radius, name, 12) for x in (-base / 2, base / 2)
    ]
    parts.append(ellipsoid((0.02, 0, 0.45), (0.36, 0.17, 0.22), name, 8))
    parts.append(ellipsoid((0.16, 0, 0.82), (0.28, 0.15, 0.14), name, 8))
    parts.append(ellipsoid((-0.38, 0, 0.78), (0.4, 0.15, 0.09), name, 8))
    parts.append(tube((base / 2, 0, radius), (base / 2 - 0.3, 0, 1.0), 0.06, name, 6))
    parts.append(tube((base / 2 - 0.3, -0.36, 1.02), (base / 2 - 0.3, 0.36, 1.02), 0.025, name, 5))
    if rng.random() < 0.5:
        parts.append(ellipsoid((base / 2 - 0.2, 0, 1.02), (0.12, 0.2, 0.25), name, 8))
    if rng.random() < 0.35:
        parts.append(ellipsoid((-base / 2 - 0.1, 0, 0.95), (0.2, 0.22, 0.17), name, 6))  # top case
    return merge(parts).tinted(float(rng.uniform(0.5, 1.6)))


def _rider(
    rng: np.random.Generator,
    name: str,
    seat: tuple[float, float],
    hands: tuple[float, float],
    feet: float,
) -> Mesh:
    """A seated body; ``seat`` and ``hands`` are (x, z), ``feet`` the height of the pedals."""
    size, lean = rng.uniform((0.92, 0.15), (1.06, 0.32)).tolist()
    hip_x, hip_z = seat[0], seat[1] + 0.08
    top_x, top_z = hip_x + lean * size, hip_z + 0.5 * size
    parts = [
        tube((hip_x, 0, hip_z), (top_x, 0, top_z), (0.15, 0.19), name, 9),
        ellipsoid((top_x + 0.06, 0, top_z + 0.24), (0.12, 0.1, 0.14), name, 8),
    ]
    for side, lift in ((1, 0.0), (-1, float(rng.uniform(0.05, 0.3)))):  # one pedal is up
        knee = (seat[0] + 0.4, side * 0.13, seat[1] - 0.12 + lift * 0.6)
        foot = (seat[0] + 0.17, side * 0.12, feet + lift)
        parts.append(tube((hip_x, side * 0.1, hip_z), knee, (0.1, 0.07), name, 7))
        parts.append(tube(knee, foot, (0.065, 0.05), name, 7))
        shoulder = (top_x + 0.02, side * 0.2, top_z - 0.02)
        hand = (hands[0], side * 0.27, hands[1])
        elbow = ((shoulder[0] + hand[0]) / 2, side * 0.3, (shoulder[2] + hand[2]) / 2 - 0.06)
        parts.append(tube(shoulder, elbow, 0.055, name, 6))
        parts.append(tube(elbow, hand, 0.045, name, 6))
    return merge(parts)


def bicyclist(rng: np.random.Generator) -> Mesh:
    """Rider and bicycle; both carry the label bicyclist, as in SemanticKITTI."""
    rider = _rider(rng, "cyclist", (-0.22, 0.86), (0.33, 1.03), 0.15)
    return merge([bicycle(rng, "cyclist"), rider.tinted(float(rng.uniform(0.6, 1.3)))])


def motorcyclist(rng: np.random.Generator) -> Mesh:
    """Rider and motorcycle; both carry the label motorcyclist."""
    rider = _rider(rng, "motorcyclist", (-0.25, 0.8), (0.38, 1.02), 0.3)
    return merge([motorcycle(rng, "motorcyclist"), rider.tinted(float(rng.uniform(0.6, 1.8)))])
