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
SECTORS, LAGS, WAVE_RADIUS, WAVE_BAND = 72, (2, 5), 6.0, 0.5
"""Directions that are compared, so many apart, beyond a radius (m), this near the plane (m)."""
THIN = 3
"""One point of so many is looked at, chosen by the last digits of its x, whatever the order."""
_GRAIN = 256
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
    waves: tuple[float, float]
    """How much its height bends within directions LAGS apart, m; NaN where it shows in few."""
    share: float
    """Of the points in the ring that lie in the last band."""


def fit_ground(xyz: NDArray[np.float32]) -> Ground | None:
    """The ground of finite points float32 [N, 3]; None where too few are near one plane."""
    radius = xyz[:, 0] ** 2 + xyz[:, 1] ** 2
    ring = xyz[(radius > INNER**2) & (radius < OUTER**2) & (np.abs(xyz[:, 2]) < 10)]
    ring = ring[(np.abs(ring[:, 0]) * _GRAIN).astype(np.int32) % THIN == 0]
    if len(ring) < LEAST:
        return None
    height = ring[:, 2].astype(np.float64)
    columns = np.column_stack([np.ones(len(ring)), ring[:, :2].astype(np.float64)])
    plane = np.array([_mode(height), 0.0, 0.0])
    for band in BANDS:
        inside = np.abs(height - columns @ plane) < band
        chosen = columns[inside]
        if len(chosen) < LEAST:
            return None
        normal = chosen.T @ chosen
        if np.linalg.cond(normal) > 1e8:  # all in one line
            return None
        plane = np.linalg.solve(normal, chosen.T @ height[inside])
    residual = height - columns @ plane
    inside = np.abs(residual) < BANDS[-1]
    pitch, roll = np.degrees(np.arctan(plane[1:]))
    return Ground(
        height=float(plane[0]),
        pitch=float(pitch),
        roll=float(roll),
        roughness=float(residual[inside].std()),
        waves=_waves(ring, residual),
        share=float(inside.mean()),
    )


def _waves(ring: NDArray[np.float32], residual: NDArray[np.float64]) -> tuple[float, float]:
    """Median second difference of the mean heights of directions, for both of LAGS, m."""
    outer = (np.abs(residual) < WAVE_BAND) & (np.hypot(ring[:, 0], ring[:, 1]) > WAVE_RADIUS)
    ring, residual = ring[outer], residual[outer]
    turn = np.arctan2(ring[:, 1], ring[:, 0]) * np.float32(0.5 / np.pi) + np.float32(0.5)
    sector = (turn * SECTORS).astype(np.int32) % SECTORS
    points = np.bincount(sector, minlength=SECTORS)
    mean = np.bincount(sector, residual, SECTORS) / np.maximum(points, 1)
    mean[points < 10] = np.nan
    found = []
    for lag in LAGS:
        bends = np.abs(np.roll(mean, lag) - 2 * mean + np.roll(mean, -lag))
        known = bends[np.isfinite(bends)]
        found.append(float(np.median(known)) if len(known) >= SECTORS // 6 else float("nan"))
    return found[0], found[1]


def _mode(z: NDArray[np.float64]) -> float:
    """Where most points lie at one height, m."""
    bins = np.floor(z / _BIN).astype(np.int64)
    least = int(bins.min())
    counts = np.convolve(np.bincount(bins - least), (1, 1, 1), "same")
    return float((int(counts.argmax()) + least + 0.5) * _BIN)
