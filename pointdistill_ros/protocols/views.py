# SPDX-License-Identifier: Apache-2.0
"""Views: the same scan turned, scaled or mirrored, as test-time augmentation shows it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class View:
    """One way to look at a scan."""

    quarter_turns: int = 0
    """Rotations by 90° about z."""
    scale: float = 1.0
    flip: bool = False
    """x and y negated."""

    def apply(self, xyz: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [N, 3] metres → the same points in this view."""
        x, y, z = xyz.T
        for _ in range(self.quarter_turns % 4):
            x, y = -y, x  # exact: no rounding of a sine
        sign = -1 if self.flip else 1
        return np.column_stack([sign * x, sign * y, z]).astype(np.float32) * np.float32(self.scale)


PLAIN = (View(),)
QUARTER_TURNS = tuple(View(quarter_turns=turns) for turns in range(4))
SCALES_AND_FLIPS = tuple(
    View(scale=scale, flip=flip) for scale in (0.9, 0.95, 1.0, 1.05, 1.1) for flip in (False, True)
)


def views_for(dataset: str) -> tuple[View, ...]:
    """The views that published figures of a data set use: ten for nuScenes, else four rotations."""
    return SCALES_AND_FLIPS if dataset == "nuscenes" else QUARTER_TURNS
