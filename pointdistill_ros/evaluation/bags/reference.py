# SPDX-License-Identifier: Apache-2.0
"""Reference: what a network expects of a sensor."""

from __future__ import annotations

from dataclasses import dataclass

ROAD_HEIGHT = -1.73
"""z of the road that all data sets and streets are brought to before training, metres. Checkpoints
do not say it: it is a convention of the training, not a property of one network."""
VOXELS = 20_000, 60_000
"""Of one scan at 0.15 m from 32 beams on, as in training; checkpoints do not say it either."""


@dataclass(frozen=True)
class Reference:
    """What a network expects."""

    model_id: str
    grid_size: float
    intensity_low: float
    intensity_median: float
    intensity_high: float
    needs_intensity: bool
    uses_intensity: bool = True
    without_intensity: str = ""
    """Name of weights that look at no intensity; empty where none are there."""
    road_height: float = ROAD_HEIGHT
    voxels: tuple[int, int] = VOXELS
    """Fewest and most at a grid of 0.15 m."""
