# SPDX-License-Identifier: Apache-2.0
"""Street: the plan of a place. A curved centre line, hills, the strips beside the road, junctions.

Everything is placed in street coordinates: s metres along the centre line, d metres to its left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pointdistill_ros.simulation.mesh import Array, Mesh
from pointdistill_ros.simulation.styles import CHARACTERS, NEVER, Character, Style

REACH = 62.0
"""Half width of the world beside the centre line, metres; the tightest curve has 90 m radius."""

_PITCH = 1.5
"""Lattice of bumps in wild ground, metres."""


@dataclass(frozen=True)
class Strip:
    """A lengthwise band of ground beside the road."""

    inner: float
    outer: float
    """Distance of its edges from the centre line, metres."""
    material: str
    """Surface."""
    height: float
    """Above the road, metres."""


@dataclass(frozen=True)
class Side:
    """One side of the street; ``sign`` is +1 left, −1 right. Distances are from the centre line."""

    sign: int
    strips: tuple[Strip, ...]
    """From the road edge to the end of the world."""
    parking: float | None
    """Where the middle of parked cars stands."""
    across: bool
    """Cars park at a right angle to the road."""
    walk: float | None
    """Middle of the sidewalk."""
    edge: float
    """Where public ground ends: fences, hedges, poles."""
    front: float
    """Where house fronts stand."""
    built: bool
    """Houses stand here; else meadow, garden or wood."""
    bank: float
    """Slope of the ground beyond ``edge``, metres per metre."""


@dataclass(frozen=True)
class Junction:
    """A road that crosses at a right angle."""

    s: float
    half_width: float
    walk: float
    """Width of the sidewalks along it, 0 = none."""
    sides: tuple[int, ...]
    """Signs of the sides it leads to."""


class Street:
    """Plan of a street between ``start`` and ``end``, drawn from a random generator."""

    def __init__(self, rng: np.random.Generator, style: Style, start: float, end: float) -> None:
        self.style, self.start, self.end = style, start, end
        self.character = CHARACTERS[style]
        self._draw_line(rng)
        self.half_width = float(rng.uniform(*self.character.road_width)) / 2
        self.left = _draw_side(rng, self.character, style, 1, self.half_width)
        self.right = _draw_side(rng, self.character, style, -1, self.half_width)
        self.junctions = tuple(self._draw_junctions(rng))
        self._waves = rng.uniform(0.03, 0.35, (6, 2)), rng.uniform(0, 2 * np.pi, 6)
        lattice = (int((end - start + 20) / _PITCH), int(2 * REACH / _PITCH) + 3)
        self._bumps = rng.normal(0, 0.045, lattice)

    @property
    def sides(self) -> tuple[Side, Side]:
        """Left, right."""
        return self.left, self.right

    @property
    def lane(self) -> float:
        """d of the lane that the sensor drives in (right-hand traffic)."""
        return -self.half_width * (0.3 if self.style == "highway" else 0.5)

    def _draw_line(self, rng: np.random.Generator) -> None:
        s = np.arange(self.start - 5, self.end + 6)
        curvature = np.zeros(len(s))
        slope = np.full(len(s), rng.normal(0, 0.015))
        for _ in range(max(2, int(len(s) / 45))):
            if rng.random() < 0.7:
                centre, width = rng.uniform(s[0], s[-1]), rng.uniform(12, 40)
                bend = rng.choice([-1, 1]) * rng.uniform(0.2, 1) / self.character.radius
                curvature += bend * np.exp(-(((s - centre) / width) ** 2))
            centre, width = rng.uniform(s[0], s[-1]), rng.uniform(20, 60)
            slope += rng.normal(0, 0.02) * np.exp(-(((s - centre) / width) ** 2))
        heading = np.cumsum(np.clip(curvature, -1 / 90, 1 / 90))
        heading -= heading[np.searchsorted(s, 0.0)]
        self._s, self._heading = s, heading
        self._x, self._y = np.cumsum(np.cos(heading)), np.cumsum(np.sin(heading))
        self._z = np.cumsum(np.clip(slope, -0.09, 0.09))

    def _draw_junctions(self, rng: np.random.Generator) -> Iterator[Junction]:
        for s in self.places(rng, self.character.junction_every):
            if s > self.end - 20:
                return
            walk = 0.0 if self.style == "country" else float(rng.uniform(1.2, 2.5))
            sides = ((1, -1), (1,), (-1,))[int(rng.integers(3))]
            yield Junction(s, float(rng.uniform(2.5, 5.0)), walk, sides)

    def places(self, rng: np.random.Generator, every: float) -> Iterator[float]:
        """Yield irregular places along the street, ``every`` metres on average."""
        if every >= NEVER:
            return
        s = self.start + float(rng.uniform(0, every))
        while s < self.end - 2:
            yield s
            s += every * float(rng.uniform(0.4, 1.6))

    def heading(self, s: ArrayLike) -> Array:
        """Direction of the centre line, radians."""
        return np.asarray(np.interp(np.asarray(s, float), self._s, self._heading))

    def at(self, s: ArrayLike, d: ArrayLike) -> tuple[Array, Array]:
        """World x, y of street coordinates."""
        s, d = np.broadcast_arrays(np.asarray(s, float), np.asarray(d, float))
        heading = self.heading(s)
        x = np.interp(s, self._s, self._x) - d * np.sin(heading)
        y = np.interp(s, self._s, self._y) + d * np.cos(heading)
        return x, y

    def height(self, s: ArrayLike, d: ArrayLike) -> Array:
        """World z of the smooth ground, without the steps of the strips."""
        s, d = np.broadcast_arrays(np.asarray(s, float), np.asarray(d, float))
        along = np.interp(s, self._s, self._z)
        crown = -0.02 * np.minimum(np.abs(d), self.half_width)
        bank = np.where(d > 0, self.left.bank, self.right.bank)
        edge = np.where(d > 0, self.left.edge, self.right.edge)
        beyond = np.maximum(np.abs(d) - edge, 0)
        (waves, phase), rough = self._waves, np.zeros(s.shape)
        for (ks, kd), p in zip(waves, phase, strict=True):
            rough += np.sin(ks * s + kd * d + p)
        wild = np.minimum(beyond / 4, 1)
        for j in self.junctions:  # crossing roads are even
            crossed = np.isin(np.sign(d), j.sides)
            away = np.clip((np.abs(s - j.s) - j.half_width - j.walk) / 3, 0, 1)
            wild = np.where(crossed, np.minimum(wild, away), wild)
        return np.asarray(along + crown + bank * beyond + (0.05 * rough + self._bump(s, d)) * wild)

    def _bump(self, s: Array, d: Array) -> Array:
        """Bilinear in the lattice."""
        u = np.clip((s - self.start + 8) / _PITCH, 0, self._bumps.shape[0] - 1.001)
        v = np.clip((d + REACH) / _PITCH, 0, self._bumps.shape[1] - 1.001)
        i, j = u.astype(int), v.astype(int)
        u, v, b = u - i, v - j, self._bumps
        near = b[i, j] * (1 - u) + b[i + 1, j] * u
        far = b[i, j + 1] * (1 - u) + b[i + 1, j + 1] * u
        return np.asarray(near * (1 - v) + far * v)

    def slope(self, s: ArrayLike) -> Array:
        """Rise of the sensor's lane, metres per metre."""
        s = np.asarray(s, float)
        return (self.height(s + 1.5, self.lane) - self.height(s - 1.5, self.lane)) / 3

    def step(self, d: float) -> float:
        """Height of the strip at ``d`` above the smooth ground."""
        side = self.left if d > 0 else self.right
        for strip in side.strips:
            if strip.inner <= abs(d) < strip.outer:
                return strip.height
        return 0.0

    def free(self, s: float, d: float, margin: float = 0.0) -> bool:
        """True where no crossing road runs."""
        return all(
            abs(s - j.s) > j.half_width + j.walk + margin or (1 if d > 0 else -1) not in j.sides
            for j in self.junctions
        )

    def place(self, mesh: Mesh, s: float, d: float, yaw: float = 0.0) -> Mesh:
        """A mesh whose x axis follows the street, standing on the ground at (s, d)."""
        x, y = self.at(s, d)
        z = float(self.height(s, d)) + self.step(d)
        return mesh.moved(float(x), float(y), z, float(self.heading(s)) + yaw)

    def bend(self, mesh: Mesh, s: float = 0.0, d: float = 0.0, mirror: int = 1) -> Mesh:
        """A mesh in (along, aside, height above ground) from (s, d) → world.

        For what follows the street and its slopes. ``mirror`` −1 turns aside to the right.
        """
        along = mesh.corners[..., 0] + s
        aside = mesh.corners[..., 1] * mirror + d
        x, y = self.at(along, aside)
        z = mesh.corners[..., 2] + self.height(along, aside) + (self.step(d) if d else 0.0)
        return Mesh(np.stack([x, y, z], -1), mesh.material, mesh.tint)


def _draw_side(
    rng: np.random.Generator, character: Character, style: Style, sign: int, start: float
) -> Side:
    """Strips from the road edge outwards."""
    strips: list[Strip] = []

    def add(width: float, material: str, height: float) -> float:
        """Append a strip and return its middle."""
        inner = strips[-1].outer if strips else start
        strips.append(Strip(inner, inner + width, material, height))
        return inner + width / 2

    # sidewalks are not always above the road
    heights = [-0.04, 0.0, rng.uniform(0.02, 0.08), rng.uniform(0.09, 0.17)]
    kerb = float(rng.choice(heights, p=[0.07, 0.18, 0.30, 0.45]))
    built, across = rng.random() < character.built, rng.random() < 0.15
    parking = walk = None
    if rng.random() < character.parking:
        surface = "parking" if across or rng.random() < 0.45 else "asphalt"
        width = rng.uniform(4.6, 5.2) if across else rng.uniform(2.0, 2.5)
        parking = add(width, surface, kerb if surface == "parking" and rng.random() < 0.3 else 0.0)
    elif style == "highway":
        add(rng.uniform(0.5, 3.0), "asphalt", 0.0)
    if rng.random() < character.verge:
        level = float(rng.uniform(-0.15, 0.08)) if style == "country" else max(kerb, 0.0)
        add(rng.uniform(0.8, 3.5), "grass", level)
    if rng.random() < character.walk:
        surface = "gravel" if rng.random() < 0.1 else "paving"
        walk = add(rng.uniform(1.4, 4.5 if style == "urban" else 3.2), surface, kerb)
    edge = strips[-1].outer if strips else start
    front = edge + max(float(rng.uniform(*character.front)), 0.0)
    if style == "urban" and front > edge:
        add(front - edge, str(rng.choice(["grass", "paving", "gravel", "parking"])), kerb)
    if rng.random() < 0.12:
        add(rng.uniform(2, 8), "gravel", kerb)
    wild = rng.uniform(-0.2, 0.1) if style == "country" else kerb + rng.uniform(-0.03, 0.1)
    add(REACH - (strips[-1].outer if strips else start), "grass", float(wild))
    bank = float(rng.normal(0, character.bank))
    return Side(sign, tuple(strips), parking, across, walk, edge, front, built, bank)
