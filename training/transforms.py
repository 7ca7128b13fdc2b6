# SPDX-License-Identifier: Apache-2.0
"""Augmentations: pure functions of labelled points and a random generator.

- geometry: yaw, pitch and roll, flips, scale, jitter, height
- sensor: intensity scale, shift and drop-out, lost beams and points, shorter range
- places: azimuth sectors of several scans in one, rare objects pasted from other scans
Each keeps the pairing point - intensity - label; the same generator state gives the same result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from training.data_config import AugmentConfig


@dataclass(frozen=True, eq=False)
class LabelledPoints:
    """Points of one scan, or of a mixture of scans, all finite."""

    xyz: NDArray[np.float32]
    """[N, 3] metres, x forward, z up."""
    intensity: NDArray[np.float32]
    """[N] 0..1."""
    labels: NDArray[np.uint8]
    """[N] train ids, 255 = ignore."""

    def __len__(self) -> int:
        return len(self.xyz)

    def select(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> LabelledPoints:
        """The points of a mask or index array, in that order."""
        return LabelledPoints(self.xyz[index], self.intensity[index], self.labels[index])


def concatenate(parts: Sequence[LabelledPoints]) -> LabelledPoints:
    """All points of several clouds, in order."""
    return LabelledPoints(
        np.concatenate([p.xyz for p in parts]),
        np.concatenate([p.intensity for p in parts]),
        np.concatenate([p.labels for p in parts]),
    )


def azimuth(points: LabelledPoints) -> NDArray[np.float32]:
    """[N] angle about z in -pi..pi."""
    return np.arctan2(points.xyz[:, 1], points.xyz[:, 0])


# --- geometry --------------------------------------------------------------------------------


def rotate(points: LabelledPoints, yaw: float, pitch: float = 0, roll: float = 0) -> LabelledPoints:
    """Turn about z, then y, then x of the sensor; angles in radians."""
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (yaw, pitch, roll))
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    turn = (about_x @ about_y @ about_z).astype(np.float32)
    return replace(points, xyz=points.xyz @ turn.T)


def flip(points: LabelledPoints, rng: Generator) -> LabelledPoints:
    """Mirror x and y, each with probability 1/2."""
    signs = np.array([rng.choice([-1, 1]), rng.choice([-1, 1]), 1], np.float32)
    return replace(points, xyz=points.xyz * signs)


def jitter(points: LabelledPoints, rng: Generator, sigma: float) -> LabelledPoints:
    """Add normal noise of ``sigma`` metres per axis, cut at 4 sigma."""
    noise = rng.standard_normal(points.xyz.shape, dtype=np.float32).clip(-4, 4)
    return replace(points, xyz=points.xyz + np.float32(sigma) * noise)


# --- sensor ----------------------------------------------------------------------------------


def change_intensity(
    points: LabelledPoints, rng: Generator, config: AugmentConfig
) -> LabelledPoints:
    """Scale and shift all intensities, sometimes set all to 0; the result stays in 0..1."""
    if rng.random() < config.intensity_drop:
        return replace(points, intensity=np.zeros_like(points.intensity))
    scale = 1 + config.intensity_scale * rng.uniform(-1, 1)
    shift = config.intensity_shift * rng.uniform(-1, 1)
    return replace(
        points, intensity=(points.intensity * scale + shift).clip(0, 1).astype(np.float32)
    )


def drop_beams(points: LabelledPoints, rng: Generator, beams: int = 64) -> LabelledPoints:
    """Keep every second or third ring: bins of equal elevation stand in for the rings."""
    elevation = np.arctan2(points.xyz[:, 2], np.hypot(points.xyz[:, 0], points.xyz[:, 1]))
    low, high = np.radians(-25), np.radians(5)
    ring = np.floor((elevation - low) / (high - low) * beams).astype(np.int64)
    step = int(rng.integers(2, 4))
    return points.select(ring % step == rng.integers(step))


def drop_points(points: LabelledPoints, rng: Generator, share: float) -> LabelledPoints:
    """Lose up to ``share`` of the points, uniformly."""
    return points.select(rng.random(len(points)) >= share * rng.random())


def crop_range(points: LabelledPoints, limit: float) -> LabelledPoints:
    """Only the points within ``limit`` metres of the sensor axis."""
    return points.select(np.hypot(points.xyz[:, 0], points.xyz[:, 1]) <= limit)


# --- places ----------------------------------------------------------------------------------


def mix_sectors(scans: Sequence[LabelledPoints], rng: Generator) -> LabelledPoints:
    """One cloud whose azimuth is shared out: scan i fills sector i, of random width."""
    widths = rng.uniform(0.5, 1.5, len(scans))
    edges = np.cumsum(widths / widths.sum()) * 2 * np.pi
    start = rng.uniform(0, 2 * np.pi)
    parts = []
    for i, scan in enumerate(scans):
        sector = np.searchsorted(edges[:-1], (azimuth(scan) - start) % (2 * np.pi), side="right")
        parts.append(scan.select(sector == i))
    return concatenate(parts)


def paste_objects(
    points: LabelledPoints, other: LabelledPoints, classes: Sequence[int], rng: Generator
) -> LabelledPoints:
    """Add the points of ``classes`` of another scan, turned about the sensor by a random angle.

    Distance to the sensor, and with it point density, stays true; nothing is removed.
    """
    objects = other.select(np.isin(other.labels, classes))
    return concatenate([points, rotate(objects, rng.uniform(-np.pi, np.pi))])


def augment(points: LabelledPoints, rng: Generator, config: AugmentConfig) -> LabelledPoints:
    """All of the geometry and sensor augmentations, in the strengths of ``config``."""
    if rng.random() < config.beam_drop:
        points = drop_beams(points, rng)
    if config.point_drop:
        points = drop_points(points, rng, config.point_drop)
    if rng.random() < config.crop_chance:
        points = crop_range(points, rng.uniform(*config.crop_metres))
    tilt = np.radians(config.tilt_degrees) * rng.uniform(-1, 1, 2)
    points = rotate(points, rng.uniform(-np.pi, np.pi), *tilt)
    points = flip(points, rng)
    scale = np.float32(1 + config.scale * rng.uniform(-1, 1))
    height = np.array([0, 0, config.height * rng.uniform(-1, 1)], np.float32)
    points = replace(points, xyz=points.xyz * scale + height)
    points = jitter(points, rng, config.jitter)
    return change_intensity(points, rng, config)
