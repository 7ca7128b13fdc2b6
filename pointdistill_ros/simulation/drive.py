# SPDX-License-Identifier: Apache-2.0
"""Drive: a lidar carried along a simulated street, one labelled scan every 0.1 s."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.simulation.lidar import Lidar, LidarConfig, Target
from pointdistill_ros.simulation.mesh import Array, merge
from pointdistill_ros.simulation.scenes import Scene
from pointdistill_ros.simulation.styles import CHARACTERS, STYLES, Style, named_style

PERIOD = 0.1
"""Seconds per turn of the lidar."""
_MARGIN = 95.0
"""Street before the first and after the last place of the sensor, metres."""
_RACK = (
    (166.0, 17.0, -17.5),
    (-166.0, 18.0, -19.0),
    (-67.0, 9.0, -15.5),
    (-5.0, 19.0, -20.5),
    (-130.0, 5.0, -20.5),
    (140.0, 11.0, -21.5),
)
"""Azimuth, half width, top elevation in degrees of what KITTI's car carries on its roof."""
_START_NS = 1_700_000_000_000_000_000


class LabelledScan(NamedTuple):
    """A scan whose every point has its true class."""

    scan: LidarScan
    """Sensor frame, moved to where the sensor was at ``stamp_ns`` (middle of the turn)."""
    labels: NDArray[np.uint8]
    """[N] train ids of ``semantic-kitti``; 255 where a return mixes two surfaces."""
    pose: Array
    """[4, 4] sensor → world at ``stamp_ns``."""


class Drive:
    """A sequence of labelled scans. The same arguments give the same scans, in any order of access.

    Arrays are equal bit for bit as long as numpy's generators are; see docs/simulation.md.
    """

    def __init__(
        self,
        seed: int,
        frames: int = 100,
        lidar: str = "hdl64e",
        style: Style | None = None,
        organised: bool = False,
        compensated: bool = True,
    ) -> None:
        """Build the street (about a second; longer drives take longer).

        ``style`` None draws one from the seed. ``organised`` keeps rays without return as NaN, row
        by row from the top beam. ``compensated`` False leaves the points where the moving sensor
        saw them, as a live driver does. Raises ConfigError on an unknown lidar or style.
        """
        if frames < 1 or seed < 0:
            raise ConfigError(f"a drive needs seed ≥ 0 and frames ≥ 1, got {seed} and {frames}")
        self.seed, self._frames = seed, frames
        self.organised, self.compensated = organised, compensated
        self._lidar = Lidar(LidarConfig.named(lidar))
        rng = _generator(seed, 0)
        drawn = named_style(
            str(rng.choice(STYLES, p=[CHARACTERS[style].share for style in STYLES]))
        )
        self.style = drawn if style is None else named_style(style)
        self.speed = float(rng.uniform(*CHARACTERS[self.style].ego_speed))
        self.height = float(rng.normal(1.73, 0.03))
        scene = Scene(rng, self.style, -_MARGIN, self.speed * PERIOD * frames + _MARGIN, self.speed)
        self._street, self._movers = scene.street, scene.movers
        self._static = Target(scene.static)
        self._sway = rng.normal(0, 0.004, (2, 3)), rng.uniform(0, 2 * np.pi, (2, 3))
        self._blocked = _own_vehicle(rng, self._lidar)

    def __len__(self) -> int:
        return self._frames

    def __iter__(self) -> Iterator[LabelledScan]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> LabelledScan:
        if not 0 <= i < self._frames:
            raise IndexError(f"frame {i} of a drive with {self._frames}")
        lidar, config = self._lidar, self._lidar.config
        time = i * PERIOD
        since = (
            np.arange(config.columns) + 0.5
        ) / config.columns * PERIOD - PERIOD / 2  # [columns]

        # 1. where the sensor is, at every firing
        pose = self._pose(time)
        turn, origins = self._poses(time, since)
        rays = _rotate(turn[None], lidar.directions)  # [beams, columns, 3]

        # 2. what stands and what moves
        moved = [m.at(self._street, time, self.speed * time) for m in self._movers]
        targets = [self._static, Target(merge([mesh for mesh in moved if mesh is not None]))]

        # 3. measure
        sweep = lidar.sweep(targets, origins, rays, _generator(self.seed, i + 1), self._blocked)

        # 4. back into the sensor frame
        if self.compensated:
            seen = origins[None] + sweep.range[..., None] * rays - pose[:3, 3]
            xyz = _rotate(np.broadcast_to(pose[:3, :3].T, (*seen.shape, 3)), seen)
        else:
            xyz = sweep.range[..., None] * lidar.directions
        shape = sweep.range.shape
        ring = np.broadcast_to(np.arange(config.beams, dtype=np.uint16)[:, None], shape)
        scan = LidarScan.from_arrays(
            xyz.reshape(-1, 3),
            sweep.intensity.reshape(-1),
            np.broadcast_to(since, shape).reshape(-1),
            ring.reshape(-1),
            _START_NS + round(time * 1e9),
        )
        labels = sweep.labels.reshape(-1)
        if not self.organised:
            kept = np.isfinite(sweep.range.reshape(-1))
            scan, labels = scan.select(kept), labels[kept]
        return LabelledScan(scan, labels, pose)

    def _pose(self, time: float) -> Array:
        rotation, place = self._poses(time, np.zeros(1))
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation[0], place[0]
        return pose

    def _poses(self, time: float, since: Array) -> tuple[Array, Array]:
        """Rotation [T, 3, 3] and place [T, 3] of the sensor at ``time + since``."""
        street = self._street
        s = self.speed * (time + since)
        x, y = street.at(s, street.lane)
        z = street.height(s, street.lane) + self.height
        (size, phase), t = self._sway, time + since
        rate = np.array([2.0, 3.3, 5.1])
        roll, sway = ((size[k] * np.sin(rate * t[:, None] + phase[k])).sum(1) for k in (0, 1))
        pitch = sway - np.arctan(street.slope(s))
        yaw = street.heading(s)
        cr, sr, cp, sp, cy, sy = (f(a) for a in (roll, pitch, yaw) for f in (np.cos, np.sin))
        rotation = np.stack(
            [
                np.stack([cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr], -1),
                np.stack([sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr], -1),
                np.stack([-sp, cp * sr, cp * cr], -1),
            ],
            1,
        )
        # on a grid, so that the last bit of a sine cannot show (see lidar.Target)
        place = np.round(np.stack([x, y, z], -1) * 2**20) / 2**20
        return np.round(rotation * 2**30) / 2**30, place


def _generator(seed: int, stream: int) -> np.random.Generator:
    """Independent random numbers for the scene (stream 0) and every frame."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, stream])))


def _rotate(rotation: Array, vectors: Array) -> Array:
    """[..., 3, 3] · [..., 3], written out: matrix libraries round differently on every CPU."""
    x, y, z = (vectors[..., i] for i in range(3))
    return np.stack(
        [
            rotation[..., k, 0] * x + rotation[..., k, 1] * y + rotation[..., k, 2] * z
            for k in range(3)
        ],
        -1,
    )


def _own_vehicle(rng: np.random.Generator, lidar: Lidar) -> NDArray[np.bool_] | None:
    """Directions hidden by the roof rack, [beams, columns]: steep beams at a few azimuths."""
    if rng.random() < 0.15:
        return None
    elevation = np.asarray(lidar.config.elevations)[:, None]
    hidden = np.zeros((lidar.config.beams, lidar.config.columns), bool)
    for azimuth, half, top in _RACK:
        away = np.abs((lidar.azimuth - azimuth - rng.normal(0, 3) + 180) % 360 - 180)[None]
        away = away / (half * rng.uniform(0.85, 1.15))
        hidden |= elevation < top + rng.normal(0, 0.7) - 6 * away**4
    hidden |= elevation < -24.6
    return hidden
