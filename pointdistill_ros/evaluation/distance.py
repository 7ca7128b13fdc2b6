# SPDX-License-Identifier: Apache-2.0
"""Distance bands: rings around the sensor, by horizontal distance (the height does not matter)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EDGES = (0.0, 10.0, 20.0, 30.0, 50.0)
"""Metres at which a band begins; the last one has no end."""


def band_of(xyz: NDArray[np.float32]) -> NDArray[np.int64]:
    """[N] band of each point of xyz [N, 3]; points that are not finite count as far away."""
    with np.errstate(invalid="ignore"):
        distance = np.hypot(xyz[:, 0], xyz[:, 1])
    distance = np.nan_to_num(distance, nan=np.inf)
    return np.searchsorted(EDGES, distance, side="right").astype(np.int64) - 1


def band_name(band: int) -> str:
    """For people."""
    if band + 1 < len(EDGES):
        return f"{EDGES[band]:g} to {EDGES[band + 1]:g} m"
    return f"beyond {EDGES[band]:g} m"
