# SPDX-License-Identifier: Apache-2.0
"""Ground: road, lane marks, parking, sidewalks with kerbs, driveways, crossing roads, terrain."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from pointdistill_ros.simulation.materials import material
from pointdistill_ros.simulation.mesh import Array, Mesh, merge, quads, relief
from pointdistill_ros.simulation.street import REACH, Street
from pointdistill_ros.simulation.styles import NEVER

Patch = tuple[float, float, float, float, str, float]
"""s from, s to, d from, d to, material, height: painted over what lies below."""


def ground(street: Street, rng: np.random.Generator) -> Mesh:
    """All ground of a street, in the world frame."""
    patches = [*_strips(street), *_driveways(street, rng), *_crossings(street)]
    s = _lines([edge for p in patches for edge in p[0:2]], street.start, street.end, 2.0)
    d = _lines([edge for p in patches for edge in p[2:4]], -REACH, REACH, 2.0)
    kind = np.full((len(s) - 1, len(d) - 1), material("grass"), np.uint8)
    height = np.zeros(kind.shape)
    middle_s, middle_d = (s[:-1] + s[1:]) / 2, (d[:-1] + d[1:]) / 2
    for s0, s1, d0, d1, name, z in patches:
        cells = np.ix_((middle_s > s0) & (middle_s < s1), (middle_d > d0) & (middle_d < d1))
        kind[cells], height[cells] = material(name), z
    # the vertical face of a paved step is kerb stone
    paved = np.isin(kind, [material("paving"), material("parking")])
    edge = np.where(paved, np.uint8(material("kerb")), kind)
    corners, kinds = relief(s, d, kind, height, edge)
    tint = np.float32(1) + np.float32(0.08) * rng.standard_normal(256, np.float32)[kinds]
    mesh = Mesh(corners, kinds, tint * rng.uniform(0.9, 1.12))
    return merge([street.bend(mesh), *map(street.bend, _lane_marks(street, rng))])


def _lines(wanted: list[float], low: float, high: float, step: float) -> Array:
    """Grid lines through all wanted places, never further apart than ``step``."""
    exact = np.unique(np.round(np.clip([low, high, *wanted], low, high), 2))
    fill = [
        np.linspace(a, b, max(2, int(np.ceil((b - a) / step)) + 1))[:-1] for a, b in pairwise(exact)
    ]
    return np.concatenate([*fill, exact[-1:]])


def _span(sign: int, inner: float, outer: float) -> tuple[float, float]:
    return (inner, outer) if sign > 0 else (-outer, -inner)


def _strips(street: Street) -> list[Patch]:
    w = street.half_width
    patches: list[Patch] = [(street.start, street.end, -w, w, "asphalt", 0.0)]
    for side in street.sides:
        for strip in side.strips:
            d0, d1 = _span(side.sign, strip.inner, strip.outer)
            patches.append((street.start, street.end, d0, d1, strip.material, strip.height))
    return patches


def _driveways(street: Street, rng: np.random.Generator) -> list[Patch]:
    """Lowered kerbs and paved ways to the houses."""
    patches: list[Patch] = []
    every = street.character.driveway_every
    if every >= NEVER:
        return patches
    for side in street.sides:
        s = street.start + float(rng.uniform(0, every))
        while s < street.end - 5:
            width = float(rng.uniform(2.6, 5.0))
            surface = str(rng.choice(["parking", "paving", "gravel"], p=[0.35, 0.5, 0.15]))
            if street.free(s + width / 2, side.sign, 4):
                for strip in side.strips:
                    outer = min(strip.outer, side.front + 5)
                    if strip.inner >= side.front + 5 or strip.material == "asphalt":
                        continue
                    name = surface if strip.inner >= side.edge else strip.material
                    name = "paving" if name == "grass" and strip.inner < side.edge else name
                    low = min(max(strip.height, 0.0), 0.03)
                    patches.append((s, s + width, *_span(side.sign, strip.inner, outer), name, low))
            s += width + every * float(rng.uniform(0.5, 1.6))
    return patches


def _crossings(street: Street) -> list[Patch]:
    patches: list[Patch] = []
    w = street.half_width
    for j in street.junctions:
        for sign in j.sides:
            d0, d1 = _span(sign, w, REACH)
            side = street.left if sign > 0 else street.right
            kerb = next((t.height for t in side.strips if t.material == "paving"), 0.1)
            if j.walk:
                outer = j.half_width + j.walk
                patches.append((j.s - outer, j.s + outer, d0, d1, "paving", kerb))
            patches.append((j.s - j.half_width, j.s + j.half_width, d0, d1, "asphalt", 0.0))
            # rounded corners, in three steps
            for reach, out in ((2.4, 0.5), (1.3, 1.3), (0.5, 2.4)):
                e0, e1 = _span(sign, w, w + out)
                half = j.half_width + reach
                patches.append((j.s - half, j.s + half, e0, e1, "asphalt", 0.0))
    return patches


def _lane_marks(street: Street, rng: np.random.Generator) -> list[Mesh]:
    """Paint a few millimetres above the asphalt: centre dashes, edge lines, zebra crossings."""
    rectangles: list[tuple[float, float, float, float]] = []
    w = street.half_width

    def dashes(d: float, length: float, gap: float) -> None:
        s = street.start + 1
        while s + length < street.end:
            if street.free(s, d, 3) and street.free(s, -d - 0.01, 3):
                rectangles.append((s, s + length, d - 0.07, d + 0.07))
            s += length + gap

    if street.style == "highway":
        lanes = round(2 * w / 3.6)
        for k in range(1, lanes):
            dashes(-w + k * 2 * w / lanes, 4.0, 8.0)
    elif rng.random() < street.character.marks:
        dashes(0.0, 3.0, float(rng.choice([3.0, 6.0])))
    if street.style in ("highway", "country") and rng.random() < 0.8:
        dashes(w - 0.25, 6.0, 0.0)
        dashes(0.25 - w, 6.0, 0.0)
    for j in street.junctions:
        if j.walk and rng.random() < 0.5:
            s = j.s + float(rng.choice([-1, 1])) * (j.half_width + 3.5)
            bars = np.arange(-w + 0.3, w - 0.5, 1.0).tolist()
            rectangles += [(s - 1.5, s + 1.5, d, d + 0.5) for d in bars]
    if not rectangles:
        return []
    r = np.array(rectangles)
    z = np.full(len(r), 0.006)
    corners = [(r[:, a], r[:, b], z) for a, b in ((0, 2), (1, 2), (1, 3), (0, 3))]
    return [quads(np.stack([np.stack(c, -1) for c in corners], 1), "lane paint")]
