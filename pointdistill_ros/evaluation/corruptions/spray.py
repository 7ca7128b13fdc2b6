# SPDX-License-Identifier: Apache-2.0
"""Spray: water that tyres throw up, as drifting clouds behind vehicles on a wet road.

A wake is a row of soft balls that grow and thin out behind a vehicle (Shih et al. 2022; Piroli et
al. 2023, SemanticSpray, describe such clusters). A beam returns from a ball with the probability
1 − exp(−optical depth), weakly, from somewhere inside it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.evaluation.corruptions.corrupted import (
    Corrupted,
    distances,
    with_phantoms,
)
from pointdistill_ros.evaluation.corruptions.medium import NEAREST
from pointdistill_ros.scan import LidarScan

LANES = (-3.5, 0.0, 3.5)
"""Offsets of the lanes in which vehicles drive ahead, m."""
BALLS, SPACING = 14, 1.0
"""Of one wake, and metres between two."""
ROAD = -1.75
"""Height of the road, m."""
BRIGHTNESS = (0.01, 0.08)
"""Intensities of returns from spray."""


def spray(
    scan: LidarScan, labels: NDArray[np.uint8], grade: float, rng: np.random.Generator
) -> Corrupted:
    """``grade``: extinction in the middle of a fresh wake, 1/m."""
    distance = distances(scan)
    known = np.isfinite(distance) & (distance > NEAREST)
    safe = np.where(known, distance, 1.0)
    ray = np.where(known[:, None], scan.xyz / safe[:, None], 0.0).astype(np.float32)
    found = np.full(len(scan), np.inf)
    for centre, size, density in _balls(rng):
        draw, depth_in = rng.random(len(scan)), rng.standard_normal(len(scan))
        along = ray @ centre.astype(np.float32)
        miss = np.maximum(float(centre @ centre) - along.astype(np.float64) ** 2, 0.0)
        near = np.flatnonzero((along > 0) & (miss < (3 * size) ** 2))
        depth = grade * density * size * np.sqrt(2 * np.pi) * np.exp(-miss[near] / (2 * size**2))
        at = along[near] + size * depth_in[near]
        hit = (draw[near] < -np.expm1(-depth)) & (at > NEAREST) & (at < distance[near])
        found[near[hit]] = np.minimum(found[near[hit]], at[hit])
    brightness = rng.uniform(*BRIGHTNESS, len(scan))
    return with_phantoms(scan, labels, np.isfinite(found) & known, found, brightness)


def _balls(
    rng: np.random.Generator,
) -> list[tuple[NDArray[np.float64], float, float]]:
    """Centre [3], radius (one standard deviation) and relative density of every ball."""
    balls = []
    ahead = [(rng.uniform(10, 30), lane) for lane in LANES]
    own = [(-1.5, -0.8), (-1.5, 0.8)]  # the sensor's own rear wheels
    for begin, lane in ahead + own:
        for i in range(BALLS):
            age = i * SPACING
            size = 0.35 + 0.06 * age
            height = ROAD + 0.4 + 0.05 * age
            centre = np.array([begin - age, lane, height])
            centre += rng.normal(0.0, 0.3, 3) * (1.0, 1.0, 0.5)
            balls.append((centre, size, float(rng.uniform(0.3, 1.0) * np.exp(-age / 8))))
    return balls
