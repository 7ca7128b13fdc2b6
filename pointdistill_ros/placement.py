# SPDX-License-Identifier: Apache-2.0
"""Placement: where the network sees a scan. In the sensor's frame, higher or lower, or in another.

Networks know the world from the height and the attitude of the lidar they learned from. A tilted
sensor is levelled by a target frame (of the vehicle, x forward, z up), another height is made up
for by an offset. Only the network sees this: what goes out keeps the cloud's frame.
Node and command line place alike, bit for bit, wherever their transforms come from.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.scan import LidarScan

FAR = 20.0
"""Metres between sensor and target frame beyond which the frame is not the vehicle's."""
GRID = 2.0**-30
"""To multiples of this (1e-9) the entries of a pose are rounded: a nanometre, and 0.1 µm at 100 m.

Chains of transforms are multiplied in another order by tf2 than by others, and differ in the 16th
digit; without rounding so would, now and then, a label."""


class Transforms(Protocol):
    """Knows where frames are."""

    def __call__(self, target: str, source: str, stamp_ns: int) -> NDArray[np.float64]:
        """[4, 4] moves points of ``source`` into ``target``, metres. Raises CloudError."""


class Placement:
    """Moves scans into a frame; an empty name leaves them in their own."""

    def __init__(self, frame: str = "", transforms: Transforms | None = None) -> None:
        """``transforms`` is asked where ``frame`` is not empty, for scans of other frames."""
        self.frame = frame
        self._transforms = transforms

    def __call__(self, scan: LidarScan, z_offset: float = 0.0) -> tuple[LidarScan, str]:
        """The scan as the network shall see it, and what is doubtful about that, or nothing.

        ``z_offset``: metres added to z, after the change of frame. Raises CloudError where there is
        no transform from the scan's frame at its stamp.
        """
        if not self.frame or self._transforms is None or scan.frame == self.frame:
            return scan.lifted(z_offset), ""
        found = self._transforms(self.frame, scan.frame, scan.stamp_ns)
        pose, doubt = np.round(found / GRID) * GRID, ""
        distance = float(np.linalg.norm(pose[:3, 3]))
        if distance > FAR:
            doubt = (
                f"target frame {self.frame} lies {distance:.0f} m from {scan.frame}: "
                "take one that is fixed to the vehicle"
            )
        pose[2, 3] += z_offset
        with np.errstate(invalid="ignore", over="ignore"):  # points without return stay that
            return scan.transformed(pose, self.frame), doubt
