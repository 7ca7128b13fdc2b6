# SPDX-License-Identifier: Apache-2.0
"""Rain, fog and snow: what the air holds, as extinction and echoes for ``medium``.

- rain: drops of Marshall and Palmer 1948; snow: flakes of Gunn and Marshall 1958
- a beam of finite width meets the first particle that is large enough to be seen at its range
- fog: Koschmieder's visibility gives the extinction; the echo is the soft one of many droplets,
  strongest where the beam enters the receiver's view (Rasshofer 2011, Hahner 2021)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.evaluation.corruptions.corrupted import Corrupted
from pointdistill_ros.evaluation.corruptions.medium import NEAREST, THRESHOLD, through_medium
from pointdistill_ros.scan import LidarScan

BEAM_WIDTH, DIVERGENCE = 0.01, 0.003
"""Of the beam at the sensor, m, and what it widens by per metre."""
FARTHEST_PARTICLE = 30.0
"""No single drop or flake is seen beyond, m."""
OVERLAP = 2.0
"""Range from which the receiver sees all of the beam, m."""
PULSE = 1.5
"""Half the length of the pulse (10 ns), m: so much fog answers at once."""
PATCHINESS = 0.5
"""Standard deviation of the logarithm of the fog's density from beam to beam."""


@dataclass(frozen=True)
class Particles:
    """Exponential size distribution n(D) = density · exp(−slope · D) of equivalent drops."""

    density: float
    """1 / (m³ mm)."""
    slope: float
    """1 / mm."""
    swelling: float
    """Diameter of the particle per diameter of its water."""
    reflectivity: float
    """Of a particle that fills the beam."""

    @property
    def extinction(self) -> float:
        """1/m: twice the cross sections of all particles (large against the wave length)."""
        square_mm = np.pi * self.density * self.swelling**2 / self.slope**3
        return float(square_mm * 1e-6)

    def first_seen(
        self, rng: np.random.Generator, count: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """[count] range of the first visible particle of each beam (inf: none), reflectivity."""
        steps = np.arange(NEAREST, FARTHEST_PARTICLE, 0.05)
        width = BEAM_WIDTH + DIVERGENCE * steps
        least = self._least_diameter(steps)  # mm
        rate = self.density / self.slope * np.exp(-self.slope * least / self.swelling)
        rate = rate * np.pi / 4 * width**2  # visible particles per metre of beam
        met = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(steps))])
        wait = rng.exponential(1.0, count)
        extra = rng.exponential(self.swelling / self.slope, count)
        distance = np.where(wait < met[-1], np.interp(wait, met, steps), np.inf)
        at = np.where(np.isfinite(distance), distance, FARTHEST_PARTICLE)
        filled = (self._least_diameter(at) + extra) * 1e-3 / (BEAM_WIDTH + DIVERGENCE * at)
        return distance, self.reflectivity * np.minimum(filled, 1.0) ** 2

    def _least_diameter(self, distance: NDArray[np.float64]) -> NDArray[np.float64]:
        """mm of a particle whose return just reaches the threshold."""
        needed = THRESHOLD * distance**2 * np.exp(2 * self.extinction * distance)
        width = BEAM_WIDTH + DIVERGENCE * distance
        found: NDArray[np.float64] = 1e3 * width * np.sqrt(needed / self.reflectivity)
        return found


def rain(
    scan: LidarScan, labels: NDArray[np.uint8], grade: float, rng: np.random.Generator
) -> Corrupted:
    """``grade``: mm of water per hour."""
    return _precipitation(scan, labels, Particles(8000.0, 4.1 * grade**-0.21, 1.0, 0.1), rng)


def snow(
    scan: LidarScan, labels: NDArray[np.uint8], grade: float, rng: np.random.Generator
) -> Corrupted:
    """``grade``: mm of water per hour, as flakes of a tenth of its density."""
    flakes = Particles(3800.0 * grade**-0.87, 2.55 * grade**-0.48, 10 ** (1 / 3), 0.8)
    return _precipitation(scan, labels, flakes, rng)


def _precipitation(
    scan: LidarScan, labels: NDArray[np.uint8], particles: Particles, rng: np.random.Generator
) -> Corrupted:
    distance, reflectivity = particles.first_seen(rng, len(scan))
    return through_medium(scan, labels, particles.extinction, distance, reflectivity, rng)


def fog(
    scan: LidarScan, labels: NDArray[np.uint8], grade: float, rng: np.random.Generator
) -> Corrupted:
    """``grade``: visibility (meteorological optical range) in metres."""
    extinction, backscatter = np.log(20.0) / grade, 0.046 / grade
    steps = np.arange(OVERLAP, FARTHEST_PARTICLE, 0.05)
    answer = np.cumsum(np.exp(-2 * extinction * steps) / steps**2)
    distance = np.interp(rng.random(len(scan)) * answer[-1], answer, steps)
    patches = np.exp(PATCHINESS * rng.standard_normal(len(scan)))
    return through_medium(
        scan, labels, extinction, distance, np.pi * backscatter * PULSE * patches, rng
    )
