# SPDX-License-Identifier: Apache-2.0
"""Fragments: as many passes as the fullest voxel has points, so that every point is seen.

Fragment i takes the (i mod n)-th of the n points of every voxel: all fragments have the same
voxels, and every point occurs in at least one of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.model.voxels import Voxels, canonical_points, voxelise


def fragments(voxels: Voxels) -> Iterator[NDArray[np.int64]]:
    """Per fragment, int64 [M] the point that stands for each voxel."""
    counts = np.diff(voxels.start)
    for i in range(int(counts.max(initial=0))):
        yield voxels.order[voxels.start[:-1] + i % counts]


def sub_sample(
    xyz: NDArray[np.float32], intensity: NDArray[np.float32], cell: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One point per cell of ``cell`` metres, and the way back.

    xyz [N, 3], intensity [N] → points int64 [n] into xyz, inverse int64 [N] into those. The point
    does not depend on the order of the input (published code draws one at random).
    """
    voxels = voxelise(xyz, cell)
    return canonical_points(voxels, xyz, intensity, cell), voxels.inverse
