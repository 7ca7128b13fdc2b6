# SPDX-License-Identifier: Apache-2.0
"""Lidar: beams of a spinning sensor, cast at a world of triangles.

- what a beam meets comes from Embree, how far away it is from our own float64 arithmetic
- noise, rough surfaces, mixed returns at edges, lost pulses, intensity from material, incidence and
  range
- ranges and intensities are rounded to the sensor's steps, which hides how CPUs round
Not here: multiple returns, beams blurred by moving objects, cross-talk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.config import load_config
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.resources import config_path
from pointdistill_ros.simulation import materials
from pointdistill_ros.simulation.mesh import Array, Mesh

_FALLOFF = (
    (0.0, 15.0, 22.0, 28.0, 36.0, 50.0, 80.0, 130.0, 300.0),
    (1.0, 1.0, 0.92, 0.78, 0.58, 0.34, 0.15, 0.06, 0.0),
)
"""Range in metres → factor on the intensity, as KITTI's vegetation shows it."""


@dataclass(frozen=True)
class LidarConfig:
    """A sensor model, read from config/lidars/NAME.yaml."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: str
    """Sensor."""
    elevations: tuple[float, ...]
    """Degrees above the horizon, one per beam, from the top beam down."""
    columns: int
    """Firings of every beam per turn at 10 Hz."""
    azimuth_offsets: tuple[float, ...] = ()
    """Degrees by which each beam looks aside; empty = all beams in one plane."""
    min_range: float = 0.9
    """Metres; nearer returns are dropped."""
    max_range: float = 120.0
    """Metres; farther returns are dropped."""
    sight: float = 120.0
    """Metres at which half of the pulses come back from a dark wall (intensity 0.12)."""
    range_noise: float = 0.02
    """Standard deviation, metres."""
    range_bias: float = 0.01
    """Standard deviation of the beams' constant range errors, metres."""
    range_step: float = 0.002
    """Resolution of the range, metres."""
    intensity_step: float = 0.01
    """Resolution of the intensity (0..1)."""
    gain_spread: float = 0.1
    """Standard deviation of the beams' receiver gains."""
    divergence: float = 0.003
    """Full width of the beam, radians; decides how many returns at edges are mixed."""
    dropout: float = 0.006
    """Share of good returns that go missing."""

    def __post_init__(self) -> None:
        if not self.elevations or not all(-90 < e < 90 for e in self.elevations):
            raise ConfigError(f"lidar {self.name}: elevations must be degrees between -90 and 90")
        if list(self.elevations) != sorted(self.elevations, reverse=True):
            raise ConfigError(f"lidar {self.name}: elevations must run from the top beam down")
        if len(self.azimuth_offsets) not in (0, len(self.elevations)):
            raise ConfigError(f"lidar {self.name}: one azimuth offset per elevation expected")
        if self.columns < 4 or not 0 <= self.min_range < self.max_range:
            raise ConfigError(
                f"lidar {self.name}: columns ≥ 4 and 0 ≤ min_range < max_range expected"
            )
        if min(self.range_step, self.intensity_step) <= 0 or not 0 <= self.dropout < 1:
            raise ConfigError(f"lidar {self.name}: steps must be positive, dropout in 0..1")

    @classmethod
    def named(cls, name: str) -> LidarConfig:
        """A shipped sensor model. Raises ConfigError listing what there is."""
        known = sorted(path.stem for path in config_path("lidars").glob("*.yaml"))
        if name not in known:
            raise ConfigError(f"no lidar {name!r}; known: {', '.join(known)}")
        return load_config(cls, config_path(f"lidars/{name}.yaml"))

    @property
    def beams(self) -> int:
        """Number of beams."""
        return len(self.elevations)


class Target:
    """Triangles prepared for rays: Embree's tree, planes in float64, materials."""

    def __init__(self, mesh: Mesh) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        # a multiple of 1/4096 m is the same number whatever rounding the sines before it had
        corners = np.round(mesh.corners * 4096) / 4096
        a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
        self.normal = _cross(b - a, c - a)
        length = np.sqrt((self.normal**2).sum(1))
        solid = length > 1e-7
        self.normal = self.normal[solid] / length[solid, None]
        self.offset = (self.normal * a[solid]).sum(1)
        self.material, self.tint = mesh.material[solid], mesh.tint[solid]
        self._scene: Any = None
        if solid.any():
            self._scene = EmbreeScene()
            vertices = np.ascontiguousarray(corners[solid].reshape(-1, 3), np.float32)
            TriangleMesh(
                self._scene, vertices, np.arange(len(vertices), dtype=np.int32).reshape(-1, 3)
            )

    def hit(self, origins: NDArray[np.float32], rays: NDArray[np.float32]) -> NDArray[np.int32]:
        """First triangle of every ray [R], −1 = none."""
        if self._scene is None:
            return np.full(len(rays), -1, np.int32)
        found: NDArray[np.int32] = self._scene.run(origins, rays)
        return found


def _cross(a: Array, b: Array) -> Array:
    """Cross product of rows without fused multiply-add."""
    x, y, z = (a[:, i] for i in range(3))
    u, v, w = (b[:, i] for i in range(3))
    return np.stack([y * w - z * v, z * u - x * w, x * v - y * u], 1)


@dataclass(frozen=True, eq=False)
class Sweep:
    """What one turn measured, organised as [beams, columns]; range NaN = no return."""

    range: NDArray[np.float64]
    """Metres."""
    intensity: NDArray[np.float32]
    """0..1."""
    labels: NDArray[np.uint8]
    """Train ids of semantic-kitti; 255 where a return mixes two surfaces or there is none."""


class Lidar:
    """A sensor model with its beams as directions."""

    def __init__(self, config: LidarConfig) -> None:
        self.config = config
        elevation = np.radians(np.asarray(config.elevations))[:, None]
        # KITTI starts behind the car and turns clockwise
        firing = np.arange(config.columns, dtype=np.float64) + 0.5
        self.azimuth: Array = 180 - firing * (360 / config.columns)
        """[columns] degrees, left is positive."""
        aside = np.asarray(config.azimuth_offsets or np.zeros(config.beams))[:, None]
        azimuth = np.radians(self.azimuth[None] + aside)
        directions = np.stack(
            np.broadcast_arrays(
                np.cos(elevation) * np.cos(azimuth),
                np.cos(elevation) * np.sin(azimuth),
                np.broadcast_to(np.sin(elevation), (config.beams, config.columns)),
            ),
            -1,
        )
        self.directions: Array = np.round(directions * 2**30) / 2**30
        """[beams, columns, 3] unit vectors in the sensor frame, on a grid (see ``Target``)."""
        # the receivers of one sensor type differ in the same way in every drive
        seed = int.from_bytes(config.name.encode(), "little")
        draws = np.random.Generator(np.random.PCG64(seed)).standard_normal((2, config.beams))
        self.gain = np.clip(1 + config.gain_spread * draws[0], 0.6, 1.4).astype(np.float32)
        self.bias: Array = config.range_bias * np.clip(draws[1], -2, 2)

    def sweep(
        self,
        targets: Sequence[Target],
        origins: Array,
        rays: Array,
        rng: np.random.Generator,
        blocked: NDArray[np.bool_] | None = None,
    ) -> Sweep:
        """Measure one turn.

        ``origins`` [columns, 3] and ``rays`` [beams, columns, 3] are in the world frame,
        ``blocked`` [beams, columns] marks directions that the own vehicle hides.
        """
        c = self.config
        shape = (c.beams, c.columns)
        start = np.broadcast_to(origins, (*shape, 3)).reshape(-1, 3)
        ray = rays.reshape(-1, 3)
        distance, kind, tint, cosine = _nearest(targets, start, ray)
        seen = np.isfinite(distance)
        if blocked is not None:
            seen &= ~blocked.reshape(-1)

        noise = rng.standard_normal((3, len(ray)), np.float32)
        chance = rng.random((4, len(ray)), np.float32)
        measured, mixed = self._mix(
            distance.reshape(shape),
            materials.LABEL[kind].reshape(shape),
            chance[0].reshape(shape),
            chance[1].reshape(shape),
        )
        measured = (
            (measured + self.bias[:, None]).reshape(-1)
            + c.range_noise * noise[0]
            + materials.ROUGHNESS[kind] * noise[1]
        )

        falloff = np.interp(distance, *_FALLOFF).astype(np.float32)
        grazing = np.maximum(materials.GRAZING[kind], 1e-3)
        scatter = np.clip((cosine - 0.5 * grazing) / (0.7 * grazing), 0, 1)
        scatter = np.where(materials.GRAZING[kind] > 0, scatter, 1)
        body = materials.REFLECTANCE[kind] * tint
        gain = np.repeat(self.gain, c.columns)
        intensity = body * falloff * scatter * gain * (1 + materials.SPREAD[kind] * noise[2])

        # energy that comes back, in the unit of intensity at the distance ``sight``
        signal = body * np.sqrt(cosine) * (c.sight / np.maximum(distance, 1)) ** 2
        seen &= signal > 0.12 * (0.4 + 1.2 * chance[2])
        seen &= chance[3] >= c.dropout + (1 - c.dropout) * materials.LOSS[kind]
        measured = np.round(measured / c.range_step) * c.range_step
        seen &= (measured >= c.min_range) & (measured <= c.max_range)

        steps = round(1 / c.intensity_step)
        intensity = np.round(np.clip(intensity, 0, 1) * steps) / np.float32(steps)
        label = np.where(seen & ~mixed.reshape(-1), materials.LABEL[kind], 255).astype(np.uint8)
        return Sweep(
            np.where(seen, measured, np.nan).reshape(shape),
            intensity.astype(np.float32).reshape(shape),
            label.reshape(shape),
        )

    def _mix(
        self,
        distance: Array,
        label: NDArray[np.uint8],
        chance: NDArray[np.float32],
        share: NDArray[np.float32],
    ) -> tuple[Array, NDArray[np.bool_]]:
        """Distances [beams, columns] after blurring, and where two classes were blurred.

        A beam that is wide enough to cover the next firing's surface too returns something between
        the two. Only steps shorter than a pulse (1.2 m) blur; at longer ones the sensor keeps the
        stronger echo.
        """
        width = self.config.divergence * self.config.columns / (2 * np.pi)
        following = np.roll(distance, -1, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):  # inf where a beam meets nothing
            step = following - distance
            # along a plane 1 / distance is linear, however grazing; elsewhere is an edge
            straight = 1 / (2 / distance - 1 / np.roll(distance, 1, axis=1))
            edge = (np.abs(step) < 1.2) & (np.abs(step) > 0.2) & (chance < 0.5 * width)
            edge &= np.abs(following - straight) > 0.2
        blurred = distance + np.where(edge, share * np.where(edge, step, 0), 0)
        return blurred, edge & (share > 0.1) & (label != np.roll(label, -1, axis=1))


def _nearest(
    targets: Sequence[Target], start: Array, ray: Array
) -> tuple[Array, NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Distance (inf = none), material, tint, cosine of incidence at the first hit of every ray."""
    count = len(ray)
    distance = np.full(count, np.inf)
    kind, tint = np.zeros(count, np.uint8), np.ones(count, np.float32)
    cosine = np.ones(count, np.float32)
    origins32, rays32 = start.astype(np.float32), ray.astype(np.float32)
    for target in targets:
        found = target.hit(origins32, rays32)
        index = np.flatnonzero(found >= 0)
        triangle = found[index]
        normal, o, r = target.normal[triangle], start[index], ray[index]
        facing = normal[:, 0] * r[:, 0] + normal[:, 1] * r[:, 1] + normal[:, 2] * r[:, 2]
        behind = normal[:, 0] * o[:, 0] + normal[:, 1] * o[:, 1] + normal[:, 2] * o[:, 2]
        away = (target.offset[triangle] - behind) / np.where(facing == 0, 1e-12, facing)
        nearer = (away > 0) & (away < distance[index])
        index, triangle = index[nearer], triangle[nearer]
        distance[index] = away[nearer]
        kind[index], tint[index] = target.material[triangle], target.tint[triangle]
        cosine[index] = np.minimum(np.abs(facing[nearer]), 1)
    return distance, kind, tint, cosine
