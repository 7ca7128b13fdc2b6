# SPDX-License-Identifier: Apache-2.0
"""What a sensor sees: fewer beams, fewer returns, a shorter range. Needs unmixed scans."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from training.transforms.points import (
    LabelledPoints,
    azimuth,
    elevation,
    horizontal_range,
)

_LOWEST, _HIGHEST, _BINS = np.radians(-25), np.radians(5), 64
"""Field of view and beams assumed where the order of the points tells nothing."""
_START = 0.02
"""Beams begin at azimuths that differ by up to this, radians."""


def drop_beams(points: LabelledPoints, rng: Generator) -> LabelledPoints:
    """Keep every second or third beam, by the true beams where they are known."""
    ring = estimate_rings(points) if points.ring is None else points.ring
    step = int(rng.integers(2, 4))
    return points.select(ring % step == rng.integers(step))


def estimate_rings(points: LabelledPoints) -> NDArray[np.int64]:
    """[N] a beam number per point: from the order of the points, else bins of equal elevation.

    Files that are written beam by beam (KITTI) go around once per beam: each time the azimuth of
    the first point is passed, the next one begins. Points in another order pass it without end, or
    as often back as forth.
    """
    angle = azimuth(points)
    steps = np.diff(angle, prepend=angle[:1])
    small = steps[np.abs(steps) < np.pi]
    way = np.sign(np.median(small)) if len(small) else 0.0
    turned = way * (angle - angle[:1]) + _START
    turns = np.diff(turned - 2 * np.pi * np.floor(turned / (2 * np.pi)), prepend=_START)
    passed = (turns < -np.pi).astype(np.int64) - (turns > np.pi)
    beams = 1 + int(passed.sum())
    if 8 <= beams <= 128 and np.count_nonzero(passed) < 1.5 * beams:
        beam = np.cumsum(passed)
        rings: NDArray[np.int64] = beam - beam.min()
    else:
        share = (elevation(points) - _LOWEST) / (_HIGHEST - _LOWEST)
        rings = np.floor(share * _BINS).astype(np.int64)
    return rings


def drop_points(points: LabelledPoints, rng: Generator, share: float) -> LabelledPoints:
    """Lose up to ``share`` of the points, uniformly."""
    lost = np.float32(share * rng.random())
    return points.select(rng.random(len(points), dtype=np.float32) >= lost)


def drop_far(points: LabelledPoints, rng: Generator) -> LabelledPoints:
    """Lose returns with distance, as a weaker laser does.

    All stay within 5 to 20 m; beyond, the share that stays falls by e every 10 to 40 m.
    """
    near, decay = rng.uniform(5, 20), rng.uniform(10, 40)
    kept = np.exp((np.float32(near) - horizontal_range(points)) / np.float32(decay))
    return points.select(rng.random(len(points), dtype=np.float32) < kept)
