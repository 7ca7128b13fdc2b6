# SPDX-License-Identifier: Apache-2.0
"""Degradation: one step of load shedding, and the ladder of all steps, least harmful first.

Each step only says which voxels may go; model/thinning.py picks them, budget.py picks the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from pointdistill_ros.errors import ConfigError

NEAR_RADIUS = 20.0
"""Metres around the sensor that step 1 thins; docs/latency.md has the figures for 10, 20, 30."""
VOXEL_CAPS = (32000, 24000, 16000, 12000, 8000, 6000, 4000, 3000, 2000, 1500, 1000)
"""Voxels that the last steps leave."""


@dataclass(frozen=True)
class Degradation:
    """What one step takes away from a scan. All voxels of a cell that is thinned but one go."""

    step: int = 0
    """Place in the ladder, 0 = nothing is taken away."""
    name: str = "none"
    """Shown to operators and written into messages."""
    near_radius: float = 0.0
    """Cells of 2×2×2 voxels are thinned up to this horizontal distance, metres."""
    coarse: bool = False
    """All cells of 2×2×2 voxels are thinned, at any distance."""
    max_voxels: int | None = None
    """At most this many voxels stay: the densest cells are thinned first, then the nearest."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.near_radius < float("inf"):
            raise ConfigError(f"near_radius must be ≥ 0 metres, got {self.near_radius}")
        if self.max_voxels is not None and not 1 <= self.max_voxels < 1 << 31:
            raise ConfigError(f"max_voxels must be 1 to 2^31 - 1, got {self.max_voxels}")


NONE = Degradation()
"""Every voxel stays."""


def ladder(
    near_radius: float = NEAR_RADIUS, caps: tuple[int, ...] = VOXEL_CAPS
) -> tuple[Degradation, ...]:
    """All steps: none, near field, everywhere, then ever lower caps. Raises ConfigError."""
    if any(low >= high for high, low in pairwise(caps)):
        raise ConfigError(f"voxel caps must fall, got {caps}")
    return (
        NONE,
        Degradation(1, "near field 2x", near_radius),
        Degradation(2, "everywhere 2x", near_radius, coarse=True),
        *(
            Degradation(3 + i, f"voxel cap {cap}", near_radius, coarse=True, max_voxels=cap)
            for i, cap in enumerate(caps)
        ),
    )


LADDER = ladder()
"""The steps that a time budget climbs down."""
