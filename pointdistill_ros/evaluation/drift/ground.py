# SPDX-License-Identifier: Apache-2.0
"""The plane a sensor stands above: height, tilt, roughness, from one cloud and nothing else.

Least squares over the points near the plane found so far, in a band that narrows. It judges a
mounting; it is no ground segmentation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

INNER, OUTER = 3.0, 14.0
"""Metres from the sensor between which the ground is looked at."""
BANDS = (1.0, 0.6, 0.35, 0.25, 0.25)
"""Half widths of the band around the plane, one per iteration, m."""
LEAST = 200
"""Points without which there is no plane."""
_BIN = 0.1


@dataclass(frozen=True)
class Ground:
    """A plane z = height + tan(pitch) · x + tan(roll) · y in the sensor's frame."""

    height: float
    """z of the plane below the sensor, m; negative."""
    pitch: float
    """Rise towards x, degrees."""
    roll: float
    """Rise towards y, degrees."""
    roughness: float
    """Standard deviation of the points around it, m, within the last band."""
    share: float
    """Of the points in the ring that lie in the last band."""


def fit_ground(xyz: NDArray[np.float32]) -> Ground | None:
    """The ground of finite points float32 [N, 3]; None where too few are near one plane."""
    radius = xyz[:, 0] ** 2 + xyz[:, 1] ** 2
    ring = xyz[(radius > INNER**2) & (radius < OUTER**2) & (np.abs(xyz[:, 2]) < 10)]
    if len(ring) < LEAST:
        return None
    ring = ring.astype(np.float64)
    columns = np.column_stack([np.ones(len(ring)), ring[:, :2]])
    plane = np.array([_lowest_mode(ring[:, 2]), 0.0, 0.0])
    inside = residual = np.zeros(0)
    for band in BANDS:
        residual = ring[:, 2] - columns @ plane
        inside = np.abs(residual) < band
        chosen = columns[inside]
        if len(chosen) < LEAST:
            return None
        normal = chosen.T @ chosen
        if np.linalg.cond(normal) > 1e8:  # all in one line
            return None
        plane = np.linalg.solve(normal, chosen.T @ ring[inside, 2])
    residual = ring[:, 2] - columns @ plane
    inside = np.abs(residual) < BANDS[-1]
    pitch, roll = np.degrees(np.arctan(plane[1:]))
    return Ground(
        float(plane[0]), float(pitch), float(roll), float(residual[inside].std()),
        float(inside.mean()),
    )  # fmt: skip


def _lowest_mode(z: NDArray[np.float64]) -> float:
    """Where most points lie at one height, m."""
    bins = np.floor(z / _BIN).astype(np.int64)
    least = int(bins.min())
    counts = np.convolve(np.bincount(bins - least), (1, 1, 1), "same")
    return float((int(counts.argmax()) + least + 0.5) * _BIN)
