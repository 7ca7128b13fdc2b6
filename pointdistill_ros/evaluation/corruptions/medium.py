# SPDX-License-Identifier: Apache-2.0
"""What a pulse meets in air that is not clear: the lidar equation with an echo on the way.

power = reflectivity · exp(−2 · extinction · range) / range²     (Beer–Lambert, there and back)

- the strongest return counts; weaker than the sensor's threshold, it is none
- a point that was seen in clear air had an unknown reserve above the threshold: at least what its
  intensity says, times a random factor (speckle)
After Rasshofer et al. 2011, "Influences of weather phenomena on automotive laser radar systems";
Hahner et al. 2021 (fog) and 2022 (snow), Kilic et al. 2021 (LISA). Beams that returned nothing in
clear air are not in a cloud, so what drops or fog would show towards the sky is missing.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.evaluation.corruptions.corrupted import (
    Corrupted,
    distances,
    with_phantoms,
)
from pointdistill_ros.scan import LidarScan

THRESHOLD = 0.1 / 50.0**2
"""Least power that returns: a target of 10 % reflectivity at 50 m, 1/m²."""
LEAST_REFLECTIVITY, UNKNOWN_REFLECTIVITY = 0.02, 0.2
"""Of surfaces: darker ones are taken as this dark; of scans without intensity."""
BEYOND = 1e6
"""Where nothing is seen of anything, m."""
NEAREST = 1.0
"""No return from closer than this, m."""


def power(
    reflectivity: NDArray[np.float64], distance: NDArray[np.float64], extinction: float
) -> NDArray[np.float64]:
    """[N] received power of targets that fill the beam, 1/m²; extinction in 1/m."""
    found: NDArray[np.float64] = (
        reflectivity * np.exp(-2 * extinction * distance) / np.maximum(distance, 1e-3) ** 2
    )
    return found


def through_medium(
    scan: LidarScan,
    labels: NDArray[np.uint8],
    extinction: float,
    echo_range: NDArray[np.float64],
    echo_reflectivity: NDArray[np.float64],
    rng: np.random.Generator,
) -> Corrupted:
    """Attenuate a clear scan; every beam also has one echo of the medium (range inf: none).

    extinction: 1/m; echo_range [N] m; echo_reflectivity [N] of a target that would fill the beam.
    More extinction loses more of the same points.
    """
    distance = distances(scan)
    known = np.isfinite(distance) & (distance > 0)
    far = np.where(known, distance, BEYOND)
    reflectivity = np.full(len(scan), UNKNOWN_REFLECTIVITY)
    if scan.intensity is not None:
        given = np.nan_to_num(scan.intensity.astype(np.float64), nan=UNKNOWN_REFLECTIVITY)
        reflectivity = np.clip(given, LEAST_REFLECTIVITY, 1.0)
    reserve = 1.0 + rng.exponential(1.0, len(scan))
    loss = np.where(known, np.exp(-2 * extinction * np.where(known, distance, 0.0)), 0.0)
    clear = np.maximum(power(reflectivity, far, 0.0), THRESHOLD)
    seen = clear * reserve * loss >= THRESHOLD

    there = np.isfinite(echo_range) & (echo_range < far) & (echo_range >= NEAREST) & known
    echo = power(echo_reflectivity, np.where(there, echo_range, BEYOND), extinction)
    phantom = there & (echo >= THRESHOLD) & (~seen | (echo > clear * loss))

    if scan.intensity is not None:
        dimmed = scan.intensity * np.where(known, loss, 1.0).astype(np.float32)
        scan = replace(scan, intensity=dimmed)
    echo_intensity = np.where(
        there, echo_reflectivity * np.exp(-2 * extinction * np.where(there, echo_range, 0)), 0.0
    )
    found = with_phantoms(scan, labels, phantom, echo_range, echo_intensity)
    kept = seen | phantom | ~known
    return Corrupted(found.scan.select(kept), found.labels[kept], found.source[kept])
