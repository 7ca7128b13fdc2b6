# SPDX-License-Identifier: Apache-2.0
"""Faults of the sensor itself: dead beams, foreign pulses, wrong gain, a covered window.

Beam loss and crosstalk are two of the sensor failures of Robo3D (Kong et al. 2023); here foreign
pulses come from directions, as other lidars do, and at any range within reach.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.evaluation.corruptions.corrupted import (
    Corrupted,
    distances,
    keep,
    untouched,
    with_phantoms,
)
from pointdistill_ros.evaluation.corruptions.medium import NEAREST
from pointdistill_ros.scan import LidarScan

BANDS = 64
"""Elevation bands that stand for beams where a scan does not say which beam a point is of."""
REACH = 80.0
"""Foreign pulses seem to come from up to here, m."""
SOURCES, WIDTH = 5, 0.35
"""Foreign lidars, and the width of the directions in which each disturbs, radians (one sigma)."""
EVERYWHERE = 0.2
"""Share of foreign pulses that come by reflection, from any direction."""


def beam_loss(
    scan: LidarScan, labels: NDArray[np.uint8], grade: float, rng: np.random.Generator
) -> Corrupted:
    """``grade``: share of the beams that are dead."""
    beam = beams(scan)
    count = int(beam.max()) + 1 if len(beam) else 0
    dead = np.zeros(count + 1, np.bool_)  # the last: points without a return
    dead[rng.permutation(count)[: round(grade * count)]] = True
    return keep(scan, labels, ~dead[beam])


def beams(scan: LidarScan) -> NDArray[np.int64]:
    """[N] beam of each point: its ring, else its band of elevation; −1 without a return."""
    if scan.ring is not None:
        return scan.ring.astype(np.int64)
    distance = distances(scan)
    known = np.isfinite(distance) & (distance > 0)
    elevation = np.arcsin(np.clip(scan.xyz[known, 2] / distance[known], -1.0, 1.0))
    found = np.full(len(scan), -1, np.int64)
    if not len(elevation):
        return found
    low, high = np.quantile(elevation, (0.002, 0.998))
    share = (elevation - low) / max(float(high - low), 1e-6)
    found[known] = np.clip(share * BANDS, 0, BANDS - 1).astype(np.int64)
    return found


def crosstalk(
    scan: LidarScan, labels: NDArray[np.uint8], grade: float, rng: np.random.Generator
) -> Corrupted:
    """``grade``: share of the points that are pulses of other lidars."""
    distance = distances(scan)
    known = np.isfinite(distance) & (distance > 0)
    turn = np.arctan2(scan.xyz[:, 1], scan.xyz[:, 0])
    weight = np.full(len(scan), EVERYWHERE)
    for direction in rng.uniform(-np.pi, np.pi, SOURCES):
        away = np.angle(np.exp(1j * np.where(known, turn - direction, 0.0)))
        weight += (1 - EVERYWHERE) * np.exp(-0.5 * (away / WIDTH) ** 2)
    weight = np.where(known, weight, 0.0)
    chance = grade * weight / max(float(weight[known].mean()) if known.any() else 1.0, 1e-9)
    struck = rng.random(len(scan)) < chance
    return with_phantoms(
        scan, labels, struck, rng.uniform(NEAREST, REACH, len(scan)), rng.random(len(scan))
    )


def intensity_scale(
    scan: LidarScan, labels: NDArray[np.uint8], grade: float, rng: np.random.Generator
) -> Corrupted:
    """``grade``: factor by which intensities are too high or, as often, too low; clipped to 1."""
    factor = np.float32(grade if rng.random() < 0.5 else 1 / grade)
    if scan.intensity is None:
        return untouched(scan, labels)
    bright = np.minimum(scan.intensity * factor, np.float32(1.0))
    return untouched(replace(scan, intensity=np.maximum(bright, np.float32(0.0))), labels)


def cut_sectors(
    scan: LidarScan, labels: NDArray[np.uint8], grade: float, rng: np.random.Generator
) -> Corrupted:
    """``grade``: degrees about the vertical axis in which nothing returns any more, in one piece.

    Dirt or ice on the window, or a load on the roof.
    """
    begin = rng.uniform(0.0, 360.0)
    with np.errstate(invalid="ignore"):
        turn = np.degrees(np.arctan2(scan.xyz[:, 1], scan.xyz[:, 0]).astype(np.float64))
        covered = (turn - begin) % 360.0 < grade
    return keep(scan, labels, ~covered)
