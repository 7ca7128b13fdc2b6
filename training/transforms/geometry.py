# SPDX-License-Identifier: Apache-2.0
"""Where points are: rotations, flips, size, noise, the sensor's place, and what is cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from training.transforms.points import LabelledPoints, horizontal_range


def rotate(points: LabelledPoints, yaw: float, pitch: float = 0, roll: float = 0) -> LabelledPoints:
    """Turn about z, then y, then x of the sensor; angles in radians."""
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (yaw, pitch, roll))
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    turn = (about_x @ about_y @ about_z).astype(np.float32)
    return replace(points, xyz=points.xyz @ turn.T)


def flip(points: LabelledPoints, rng: Generator, chance: float = 0.5) -> LabelledPoints:
    """Mirror x and y, each with ``chance``."""
    signs = np.array([*np.where(rng.random(2) < chance, -1, 1), 1], np.float32)
    return replace(points, xyz=points.xyz * signs)


def resize(points: LabelledPoints, rng: Generator, share: float) -> LabelledPoints:
    """Scale all axes by one factor in 1 ± ``share``."""
    return replace(points, xyz=points.xyz * np.float32(1 + share * rng.uniform(-1, 1)))


def jitter(points: LabelledPoints, rng: Generator, sigma: float) -> LabelledPoints:
    """Add normal noise of ``sigma`` metres per axis, cut at 4 sigma."""
    noise = rng.standard_normal(points.xyz.shape, dtype=np.float32)
    np.clip(noise, -4, 4, out=noise)
    noise *= np.float32(sigma)
    noise += points.xyz
    return replace(points, xyz=noise)


def move_sensor(
    points: LabelledPoints, rng: Generator, height: float, tilt: float
) -> LabelledPoints:
    """See the scene from a sensor up to ``height`` metres higher or lower, tilted by ``tilt`` rad.

    The points stay those that the real sensor saw.
    """
    pitch, roll = tilt * rng.uniform(-1, 1, 2)
    tilted = rotate(points, 0, pitch, roll)
    tilted.xyz[:, 2] += np.float32(height * rng.uniform(-1, 1))  # an array of our own
    return tilted


def clamp(points: LabelledPoints, low: Sequence[float], high: Sequence[float]) -> LabelledPoints:
    """Move points outside a box onto its sides, as the public Waymo recipe does; none is lost."""
    box = (np.asarray(low, np.float32), np.asarray(high, np.float32))
    return replace(points, xyz=points.xyz.clip(*box))


def crop_range(points: LabelledPoints, limit: float) -> LabelledPoints:
    """Only the points within ``limit`` metres of the sensor axis."""
    return points.select(horizontal_range(points) <= limit)


def crop_sphere(points: LabelledPoints, rng: Generator, most: int) -> LabelledPoints:
    """The ``most`` points nearest to a random one, in their order (public SemanticKITTI recipe)."""
    if len(points) <= most:
        return points
    offset = points.xyz - points.xyz[rng.integers(len(points))]
    distance = np.einsum("ij,ij->i", offset, offset)
    return points.select(np.sort(np.argpartition(distance, most)[:most]))
