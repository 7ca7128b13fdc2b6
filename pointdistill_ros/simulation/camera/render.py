# SPDX-License-Identifier: Apache-2.0
"""Render: one ray per pixel, the class and depth of what it meets, and how the sun lights it.

- the same triangles, the same Embree tree and the same float64 planes as the lidar's rays
- Lambert's law (light ∝ cosine of incidence) for the sun, an even sky, cast shadows, haze with
  distance, gain and noise of the sensor, sRGB's transfer curve (IEC 61966-2-1)
Not here: mirrors, transparency, blur, lens. Glass and paint are as dull as everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.cameras import Camera
from pointdistill_ros.labels import UNLABELLED
from pointdistill_ros.simulation.camera.appearance import albedo
from pointdistill_ros.simulation.lidar import Target
from pointdistill_ros.simulation.materials import LABEL
from pointdistill_ros.simulation.mesh import Array

_ZENITH, _HORIZON = np.array((0.30, 0.48, 0.80)), np.array((0.80, 0.86, 0.92))
"""Colours of a clear sky."""
_CLOUD = np.array((0.80, 0.82, 0.85))


@dataclass(frozen=True, eq=False)
class Picture:
    """What a camera shows, and what it is."""

    pixels: NDArray[np.uint8]
    """[height, width, 3] red, green, blue."""
    labels: NDArray[np.uint8]
    """[height, width] train ids of semantic-kitti; 255 = sky."""
    depth: NDArray[np.float32]
    """[height, width] metres along the optical axis; inf = sky."""
    camera: Camera
    """Calibrated to the lidar frame of the same turn."""


@dataclass(frozen=True)
class Light:
    """Weather and exposure."""

    azimuth: float = 0.8
    """Of the sun, radians in the world frame."""
    elevation: float = 0.9
    """Of the sun above the horizon, radians."""
    clouds: float = 0.2
    """0 = clear sky and sharp shadows, 1 = no sun."""
    haze: float = 0.003
    """Share of the light that a metre of air replaces by the sky's."""
    gain: float = 1.0
    """Exposure; 1 shows a sunlit plaster wall bright."""
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """White balance."""
    noise: float = 0.01
    """Standard deviation of the sensor's noise, of full scale."""

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Light:
        """Another day."""
        balance = rng.normal(1, 0.05, 3)
        return cls(
            float(rng.uniform(0, 2 * np.pi)),
            float(rng.uniform(0.35, 1.2)),
            float(rng.choice([rng.uniform(0, 0.4), rng.uniform(0.7, 1.0)])),
            float(rng.uniform(0.0002, 0.004)),
            float(rng.uniform(0.5, 1.3)),
            (float(balance[0]), float(balance[1]), float(balance[2])),
            float(rng.uniform(0.003, 0.02)),
        )

    @property
    def sun(self) -> Array:
        """[3] unit vector towards it."""
        flat = np.cos(self.elevation)
        return np.array(
            [flat * np.cos(self.azimuth), flat * np.sin(self.azimuth), np.sin(self.elevation)]
        )


def render(
    targets: Sequence[Target],
    camera: Camera,
    pose: Array,
    light: Light,
    rng: np.random.Generator,
) -> Picture:
    """The picture of ``targets`` (world frame) by a camera on a lidar at ``pose`` [4, 4] (→ world).

    ``rng`` draws the sensor's noise and nothing else: class and depth do not depend on it.
    """
    shape = (camera.height, camera.width)
    rays = camera.rays().reshape(-1, 3) @ pose[:3, :3].T
    origin = pose[:3, :3] @ camera.centre + pose[:3, 3]
    origins = np.broadcast_to(origin, rays.shape)

    # 1. what every pixel shows
    depth, kind, tint, normal = _first_hits(targets, origins, rays)
    met = np.flatnonzero(np.isfinite(depth))
    labels = np.full(len(rays), UNLABELLED, np.uint8)
    labels[met] = LABEL[kind[met]]

    # 2. how it is lit: sun where nothing stands before it, sky from above
    place = origins[met] + depth[met, None] * rays[met]
    towards = normal[met] * -np.sign((normal[met] * rays[met]).sum(1))[:, None]  # to the camera
    cosine = np.clip(towards @ light.sun, 0, None)
    lit = np.flatnonzero(cosine > 0)
    starts = place[lit] + 0.02 * towards[lit]
    shadow = _any_hit(targets, starts, np.broadcast_to(light.sun, starts.shape))
    cosine[lit[shadow]] = 0
    sky = (0.32 + 0.2 * light.clouds) * (0.65 + 0.35 * towards[:, 2])
    brightness = 0.85 * (1 - light.clouds) * cosine + sky

    # 3. air, sensor
    colour = _sky(rays, light)
    surface = albedo(kind[met], tint[met], place) * brightness[:, None]
    air = np.exp(-light.haze * depth[met])[:, None]
    colour[met] = surface * air + colour[met] * 0.8 * (1 - air)
    colour = colour * light.gain * np.asarray(light.tint)
    shown = _srgb(colour) + light.noise * rng.standard_normal(colour.shape)
    return Picture(
        np.round(255 * shown.clip(0, 1)).astype(np.uint8).reshape(*shape, 3),
        labels.reshape(shape),
        depth.astype(np.float32).reshape(shape),
        camera,
    )


def _first_hits(
    targets: Sequence[Target], origins: Array, rays: Array
) -> tuple[Array, NDArray[np.uint8], NDArray[np.float32], Array]:
    """Per ray: lengths of it to the first hit (inf = none), material, tint, normal [R, 3]."""
    count = len(rays)
    reach, kind = np.full(count, np.inf), np.zeros(count, np.uint8)
    tint, normal = np.ones(count, np.float32), np.zeros((count, 3))
    for target in targets:
        found = target.hit(
            np.ascontiguousarray(origins, np.float32), np.ascontiguousarray(rays, np.float32)
        )
        index = np.flatnonzero(found >= 0)
        triangle = found[index]
        plane, ray = target.normal[triangle], rays[index]
        facing = (plane * ray).sum(1)
        behind = (plane * origins[index]).sum(1)
        away = (target.offset[triangle] - behind) / np.where(facing == 0, 1e-12, facing)
        nearer = (away > 0) & (away < reach[index])
        index, triangle = index[nearer], triangle[nearer]
        reach[index], normal[index] = away[nearer], plane[nearer]
        kind[index], tint[index] = target.material[triangle], target.tint[triangle]
    return reach, kind, tint, normal


def _any_hit(targets: Sequence[Target], origins: Array, rays: Array) -> NDArray[np.bool_]:
    """[R] whether a ray meets anything."""
    met = np.zeros(len(rays), np.bool_)
    start, ray = np.ascontiguousarray(origins, np.float32), np.ascontiguousarray(rays, np.float32)
    for target in targets:
        met |= target.hit(start, ray) >= 0
    return met


def _sky(rays: Array, light: Light) -> Array:
    """[R, 3] colour of the sky where a ray leaves."""
    rise = np.clip(rays[:, 2] / np.sqrt((rays**2).sum(1)), 0, 1)[:, None] ** 0.5
    clear = _HORIZON + (_ZENITH - _HORIZON) * rise
    return np.asarray(clear + (_CLOUD - clear) * light.clouds)


def _srgb(linear: Array) -> Array:
    """Light → what a file holds."""
    x = np.clip(linear, 0, 1)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
