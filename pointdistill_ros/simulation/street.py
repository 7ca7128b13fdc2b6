# SPDX-License-Identifier: Apache-2.0
"""Street: the plan of a place. A curved centre line, hills, the strips beside the road, junctions.

Everything is placed in street coordinates: s metres along the centre line, d metres to its left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.simulation.mesh import Array, Mesh, merge

Style = Literal["suburban", "urban", "country", "highway"]
STYLES: tuple[Style, ...] = get_args(Style)


def named_style(name: str) -> Style:
    """The style of that name. Raises ConfigError listing what there is."""
    for style in STYLES:
        if style == name:
            return style
    raise ConfigError(f"unknown street style {name!r}; known: {', '.join(STYLES)}")


REACH = 62.0
"""Half width of the world beside the centre line, metres; the tightest curve has 90 m radius."""


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
    walk: float | None
    """Middle of the sidewalk."""
    edge: float
    """Where public ground ends: fences, hedges, poles."""
    front: float
    """Where house fronts stand."""
    bank: float
    """Slope of the ground beyond ``edge``, metres per metre."""


@dataclass(frozen=True)
class Junction:
    """A road that crosses at right angles."""

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
        self._draw_line(rng)
        low, high = {
            "suburban": (5.5, 8.5),
            "urban": (7.0, 13.0),
            "country": (5.5, 8.0),
            "highway": (15.0, 22.0),
        }[style]
        self.half_width = float(rng.uniform(low, high)) / 2
        self.left, self.right = (
            _draw_side(rng, style, 1, self.half_width),
            _draw_side(rng, style, -1, self.half_width),
        )
        self.junctions = tuple(self._draw_junctions(rng))
        self._waves = rng.uniform(0.03, 0.35, (6, 2)), rng.uniform(0, 2 * np.pi, 6)

    @property
    def sides(self) -> tuple[Side, Side]:
        """Left, right."""
        return self.left, self.right

    @property
    def lane(self) -> float:
        """d of the lane that the sensor drives in (right-hand traffic)."""
        return -self.half_width / 2 if self.style != "highway" else -self.half_width * 0.3

    def _draw_line(self, rng: np.random.Generator) -> None:
        s = np.arange(self.start - 5, self.end + 6)
        sharp = {"suburban": 90, "urban": 150, "country": 90, "highway": 600}[self.style]
        curvature = np.zeros(len(s))
        slope = np.full(len(s), rng.normal(0, 0.015))
        for _ in range(max(2, int(len(s) / 90))):
            if rng.random() < 0.6:
                centre, width = rng.uniform(s[0], s[-1]), rng.uniform(15, 40)
                curvature += rng.uniform(-1, 1) / sharp * np.exp(-(((s - centre) / width) ** 2))
            centre, width = rng.uniform(s[0], s[-1]), rng.uniform(20, 60)
            slope += rng.normal(0, 0.02) * np.exp(-(((s - centre) / width) ** 2))
        heading = np.cumsum(np.clip(curvature, -1 / 90, 1 / 90))
        heading -= heading[np.searchsorted(s, 0.0)]
        self._s, self._heading = s, heading
        self._x, self._y = np.cumsum(np.cos(heading)), np.cumsum(np.sin(heading))
        self._z = np.cumsum(np.clip(slope, -0.09, 0.09))

    def _draw_junctions(self, rng: np.random.Generator) -> list[Junction]:
        if self.style == "highway":
            return []
        every = {"suburban": 110, "urban": 90, "country": 220}[self.style]
        junctions: list[Junction] = []
        s = self.start + rng.uniform(0, every)
        while s < self.end - 20:
            walk = 0.0 if self.style == "country" else float(rng.uniform(1.2, 2.5))
            sides = ((1, -1), (1,), (-1,))[int(rng.integers(3))]
            junctions.append(Junction(float(s), float(rng.uniform(2.5, 5.0)), walk, sides))
            s += every * rng.uniform(0.6, 1.6)
        return junctions

    def heading(self, s: ArrayLike) -> Array:
        """Direction of the centre line, radians."""
        heading: Array = np.interp(np.asarray(s, float), self._s, self._heading)
        return heading

    def at(self, s: ArrayLike, d: ArrayLike) -> tuple[Array, Array]:
        """World x, y of street coordinates."""
        s, d = np.broadcast_arrays(np.asarray(s, float), np.asarray(d, float))
        heading = self.heading(s)
        x = np.interp(s, self._s, self._x) - d * np.sin(heading)
        y = np.interp(s, self._s, self._y) + d * np.cos(heading)
        return x, y

    def slope(self, s: float) -> float:
        """Rise of the road, metres per metre."""
        ahead, behind = self.height(s + 1.5, self.lane), self.height(s - 1.5, self.lane)
        return float(ahead - behind) / 3

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
        z: Array = along + crown + bank * beyond + 0.05 * rough * np.minimum(beyond / 4, 1)
        return z

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

    def place(self, mesh: Mesh, s: float, d: float, yaw: float = 0.0, lift: float = 0.0) -> Mesh:
        """A mesh whose x axis follows the street, standing on the ground at (s, d)."""
        x, y = self.at(s, d)
        z = float(self.height(s, d)) + self.step(d) + lift
        return mesh.moved(float(x), float(y), z, float(self.heading(s)) + yaw)

    def bend(self, mesh: Mesh) -> Mesh:
        """A mesh in (s, d, height above smooth ground) → world: for what follows the ground."""
        s, d, z = (mesh.corners[..., i] for i in range(3))
        x, y = self.at(s, d)
        return Mesh(np.stack([x, y, z + self.height(s, d)], -1), mesh.material, mesh.tint)

    def bend_all(self, meshes: Sequence[Mesh]) -> Mesh:
        """``bend`` of many."""
        return self.bend(merge(meshes))


def _draw_side(rng: np.random.Generator, style: Style, sign: int, start: float) -> Side:
    """Strips from the road edge outwards."""
    strips: list[Strip] = []
    d = start

    def add(width: float, material: str, height: float) -> float:
        nonlocal d
        strips.append(Strip(d, d + width, material, height))
        d += width
        return d - width / 2

    kerb = float(
        rng.choice(
            [-0.04, 0.0, rng.uniform(0.02, 0.08), rng.uniform(0.09, 0.17)],
            p=[0.07, 0.18, 0.3, 0.45],
        )
    )
    parking = walk = None
    odds = {
        "suburban": (0.45, 0.85),
        "urban": (0.7, 1.0),
        "country": (0.05, 0.15),
        "highway": (0, 0),
    }
    park_odds, walk_odds = odds[style]
    if rng.random() < park_odds:
        marked = rng.random() < 0.6
        surface = "parking" if marked else "asphalt"
        parking = add(
            rng.uniform(2.0, 2.5), surface, 0.0 if not marked or rng.random() < 0.7 else kerb
        )
    elif style == "highway":
        add(rng.uniform(0.5, 3.0), "asphalt", 0.0)
    if style in ("suburban", "country") and rng.random() < (0.3 if style == "suburban" else 0.7):
        add(
            rng.uniform(0.8, 3.5),
            "grass",
            max(kerb, 0.0) if style == "suburban" else float(rng.uniform(-0.15, 0.08)),
        )
    if rng.random() < walk_odds:
        surface = "gravel" if rng.random() < 0.06 else "paving"
        walk = add(rng.uniform(1.3, 4.2 if style == "urban" else 2.6), surface, kerb)
    edge = d
    if style == "urban":
        front = edge + (0.0 if rng.random() < 0.6 else rng.uniform(1, 5))
    elif style == "suburban":
        front = edge + rng.uniform(2.0, 9.0)
    else:
        front = edge + rng.uniform(8, 20)
    ground = "grass"
    if front - edge > 0.3 and style == "urban":
        add(front - edge, str(rng.choice(["grass", "paving", "gravel", "parking"])), kerb)
    add(
        REACH - d,
        ground,
        kerb + float(rng.uniform(-0.03, 0.10))
        if style != "country"
        else float(rng.uniform(-0.2, 0.1)),
    )
    spread = {"suburban": 0.04, "urban": 0.01, "country": 0.12, "highway": 0.15}[style]
    return Side(sign, tuple(strips), parking, walk, edge, front, float(rng.normal(0, spread)))
