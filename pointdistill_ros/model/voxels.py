# SPDX-License-Identifier: Apache-2.0
"""Points → occupied voxels of a regular grid, and the way back to every point.

- cell = floor(p / grid_size) in float64 (float32 moves points on cell borders), from the scan's
  minimum
- voxel rows come in z order, so the finest stage of the pyramid needs no reordering
- one point represents a voxel: the first in message order, a random one (training), or a canonical
  one that does not depend on the order of the points (run time)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import ScanError
from pointdistill_ros.model.curves import MAX_DEPTH, interleave


@dataclass(frozen=True, eq=False)
class Voxels:
    """The occupied voxels of one scan of N points."""

    coords: NDArray[np.int64]
    """[M, 3] cell of each voxel, per axis from 0, unique, in ascending z code."""
    inverse: NDArray[np.int64]
    """[N] voxel row of each point."""
    point: NDArray[np.int64]
    """[M] the point that represents each voxel."""
    order: NDArray[np.int64]
    """[N] points grouped by voxel, ascending within a voxel."""
    start: NDArray[np.int64]
    """[M + 1] where each voxel's points begin in ``order``."""

    def __len__(self) -> int:
        return len(self.coords)


def voxelise(
    xyz: NDArray[np.float32], grid_size: float, rng: np.random.Generator | None = None
) -> Voxels:
    """Group N finite points (metres) into voxels of ``grid_size`` metres.

    With ``rng`` a random point represents each voxel, else the first in message order.
    Raises ScanError where the scan spans 2**16 cells or more along an axis.
    """
    cells = np.floor(xyz.astype(np.float64) / grid_size)
    if len(cells):
        cells -= cells.min(axis=0)
    extent = int(cells.max(initial=0.0))
    if extent >= 1 << MAX_DEPTH:
        raise ScanError(
            f"scan spans {extent} cells of {grid_size} m along one axis, at most "
            f"{(1 << MAX_DEPTH) - 1} fit; drop far outliers or use a larger grid_size"
        )
    coords = cells.astype(np.int64)
    code, order = _sorted_codes(coords, extent)
    first = np.flatnonzero(np.diff(code, prepend=-1))
    start = np.append(first, len(code))
    inverse = np.empty(len(code), np.int64)
    inverse[order] = np.repeat(np.arange(len(first)), np.diff(start))
    if rng is None:
        chosen = first
    else:
        counts = np.diff(start)
        chosen = first + (rng.random(len(first)) * counts).astype(np.int64)
    return Voxels(coords[order[first]], inverse, order[chosen], order, start)


def _sorted_codes(
    coords: NDArray[np.int64], extent: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """z codes in ascending order and the stable permutation that sorts them."""
    code = interleave(coords[:, 0], coords[:, 1], coords[:, 2])
    index_bits = max(1, len(code) - 1).bit_length()
    if 3 * max(1, extent).bit_length() + index_bits <= 63:
        # one sort of code|index is several times faster than a stable argsort of the codes
        packed = np.sort((code << index_bits) | np.arange(len(code)))
        return packed >> index_bits, packed & ((1 << index_bits) - 1)
    order = np.argsort(code, kind="stable")
    return code[order], order


def canonical_points(
    voxels: Voxels,
    xyz: NDArray[np.float32],
    intensity: NDArray[np.float32],
    grid_size: float,
) -> NDArray[np.int64]:
    """[M] one point per voxel, the same for any order of the points.

    The smallest position inside the cell (x, then y, then z, then intensity) wins; points equal in
    all four are interchangeable.
    """
    cells = xyz.astype(np.float64) / grid_size
    inside = ((cells - np.floor(cells)) * (1 << 21)).astype(np.int64)  # 3 × 21 bits in one key
    key = ((inside[:, 0] << 42) | (inside[:, 1] << 21) | inside[:, 2])[voxels.order]
    if not len(key):
        return voxels.point
    smallest = np.minimum.reduceat(key, voxels.start[:-1])
    winners: NDArray[np.int64] = voxels.order[key == np.repeat(smallest, np.diff(voxels.start))]
    if len(winners) > len(voxels):  # closer than 2⁻²¹ of a cell: compare the exact values
        x, y, z = xyz[winners].T
        ranked = winners[np.lexsort((intensity[winners], z, y, x, voxels.inverse[winners]))]
        winners = ranked[np.flatnonzero(np.diff(voxels.inverse[ranked], prepend=-1))]
    return winners
