# SPDX-License-Identifier: Apache-2.0
"""The suite: every corruption by name, graded from 1 (hardly) to 5 (strong).

corrupt("fog", scan, labels, strength=4, seed=0).scan

The same arguments give the same points; the strength changes the grade alone, not the dice.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.evaluation.corruptions.corrupted import Corrupted
from pointdistill_ros.evaluation.corruptions.motion import motion_blur
from pointdistill_ros.evaluation.corruptions.mounting import height, tilt
from pointdistill_ros.evaluation.corruptions.sensor import (
    beam_loss,
    crosstalk,
    cut_sectors,
    intensity_scale,
)
from pointdistill_ros.evaluation.corruptions.spray import spray
from pointdistill_ros.evaluation.corruptions.weather import fog, rain, snow
from pointdistill_ros.scan import LidarScan


class Corrupt(Protocol):
    """What a corruption is: a function of scan, labels, grade and dice."""

    def __call__(
        self, scan: LidarScan, labels: NDArray[np.uint8], grade: float, rng: np.random.Generator
    ) -> Corrupted:
        """The corrupted scan."""


@dataclass(frozen=True)
class Corruption:
    """One corruption with its five grades."""

    apply: Corrupt
    grades: tuple[float, float, float, float, float]
    """What strengths 1 to 5 mean …"""
    unit: str
    """… in this unit."""


STRENGTHS = (1, 2, 3, 4, 5)
STRONG = (4, 5)
"""What an alarm is expected to notice."""
CORRUPTIONS: Mapping[str, Corruption] = {
    "rain": Corruption(rain, (2, 10, 25, 50, 100), "mm/h"),
    "fog": Corruption(fog, (500, 200, 100, 50, 25), "m visibility"),
    "snow": Corruption(snow, (0.5, 1, 2, 3.5, 5), "mm/h of water"),
    "spray": Corruption(spray, (0.05, 0.1, 0.2, 0.4, 0.8), "1/m"),
    "beam-loss": Corruption(beam_loss, (0.1, 0.2, 0.35, 0.5, 0.75), "of the beams"),
    "crosstalk": Corruption(crosstalk, (0.005, 0.01, 0.02, 0.05, 0.1), "of the points"),
    "tilt": Corruption(tilt, (1, 2, 4, 7, 10), "degrees"),
    "height": Corruption(height, (0.1, 0.25, 0.5, 0.9, 1.4), "m"),
    "intensity-scale": Corruption(intensity_scale, (1.3, 1.7, 2.5, 4, 8), "× or ÷"),
    "cut-sectors": Corruption(cut_sectors, (20, 45, 90, 135, 200), "degrees"),
    "motion-blur": Corruption(motion_blur, (5, 10, 20, 30, 40), "m/s"),
}


def corrupt(
    name: str, scan: LidarScan, labels: NDArray[np.uint8], strength: int, seed: int
) -> Corrupted:
    """A scan as it would have been; ``labels`` uint8 [N]. Raises ConfigError."""
    if name not in CORRUPTIONS:
        raise ConfigError(f"unknown corruption {name!r}; known: {', '.join(CORRUPTIONS)}")
    if strength not in STRENGTHS:
        raise ConfigError(f"strength of {name} must be 1 to 5, got {strength}")
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    found = CORRUPTIONS[name]
    return found.apply(scan, labels, found.grades[strength - 1], rng)
