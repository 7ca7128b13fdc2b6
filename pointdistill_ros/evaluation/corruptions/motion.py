# SPDX-License-Identifier: Apache-2.0
"""Motion blur: a sweep of a moving, shaking sensor that nobody has compensated.

A spinning lidar takes a turn to look around. What is recorded at time t is seen from where the
sensor is then: ahead by speed · t, turned by yaw rate · t, shaken by the road. Points are given as
if all had been seen from the pose at the middle of the turn.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.evaluation.corruptions.corrupted import Corrupted, untouched
from pointdistill_ros.scan import LidarScan

PERIOD = 0.1
"""Of a turn, s."""
YAW_PER_SPEED = 0.5
"""Degrees per second of yaw rate for each m/s."""
SHAKE_DEGREES, SHAKE_METRES = 0.04, 0.004
"""Amplitude of pitch and roll, and of heave, for each m/s."""
SHAKE_HZ = (12.0, 60.0)
"""Body and mount of a car on a rough road."""


def motion_blur(
    scan: LidarScan, labels: NDArray[np.uint8], grade: float, rng: np.random.Generator
) -> Corrupted:
    """``grade``: speed in m/s; turning and shaking grow with it."""
    time = sweep_time(scan)
    yaw = np.radians(YAW_PER_SPEED * grade * rng.choice([-1.0, 1.0])) * time
    pitch = np.radians(SHAKE_DEGREES * grade) * _shake(time, rng)
    roll = np.radians(SHAKE_DEGREES * grade) * _shake(time, rng)
    heave = SHAKE_METRES * grade * _shake(time, rng)
    x, y, z = scan.xyz.astype(np.float64).T
    with np.errstate(invalid="ignore"):
        # world → sensor at time t: shift back, turn back; small angles for the shaking
        x, z = x - grade * time, z - heave
        x, y = np.cos(yaw) * x + np.sin(yaw) * y, np.cos(yaw) * y - np.sin(yaw) * x
        x, z = np.cos(pitch) * x - np.sin(pitch) * z, np.cos(pitch) * z + np.sin(pitch) * x
        y, z = np.cos(roll) * y + np.sin(roll) * z, np.cos(roll) * z - np.sin(roll) * y
        xyz = np.stack([x, y, z], axis=1).astype(np.float32)
    return untouched(replace(scan, xyz=xyz), labels)


def sweep_time(scan: LidarScan) -> NDArray[np.float64]:
    """[N] seconds from the middle of the turn: as recorded, else by direction, clockwise."""
    if scan.time is not None and len(scan):
        time: NDArray[np.float64] = np.nan_to_num(scan.time.astype(np.float64))
        return np.asarray(time - (time.min() + time.max()) / 2)
    with np.errstate(invalid="ignore"):
        turn = np.arctan2(scan.xyz[:, 1], scan.xyz[:, 0]).astype(np.float64)
    return np.asarray(np.nan_to_num(-turn) / (2 * np.pi) * PERIOD)


def _shake(time: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """[N] three sines of random phase and frequency, together of amplitude about 1."""
    shake = np.zeros(len(time))
    for rate, phase in zip(rng.uniform(*SHAKE_HZ, 3), rng.uniform(0, 2 * np.pi, 3), strict=True):
        shake += np.sin(2 * np.pi * rate * time + phase) / np.sqrt(3)
    return shake
