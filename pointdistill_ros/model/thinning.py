# SPDX-License-Identifier: Apache-2.0
"""Thinning: which voxels of a scan stay when there is no time for all, who speaks for the rest.

- voxels fall into groups: those of one cell of the z-order octree; one of each group stays, the one
  nearest to the group's centroid, and its label goes to all points of the group
- the groups depend on the voxels alone, not on the order of points, and are never random
- z codes ascend, so groups are runs and nothing is sorted
The twin of engine/native/thinning.cpp, entry for entry. How the network still sees the voxels that
went: model/thinned_pyramid.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import ScanError
from pointdistill_ros.model.curves import MAX_DEPTH
from pointdistill_ros.model.degradation import Degradation

Codes = NDArray[np.uint64] | NDArray[np.int64]
Sensor = Sequence[int] | NDArray[np.int64]
"""Cell (x, y, z) that begins at the sensor, counted as the voxels are."""

_RINGS = 256
"""Distances are told apart in so many steps of 16 cells."""


@dataclass(frozen=True, eq=False)
class Thinning:
    """Which of M voxels stay."""

    kept: NDArray[np.int32]
    """[M'] rows that stay, ascending."""
    owner: NDArray[np.int32]
    """[M] index into ``kept`` of the voxel that speaks for each voxel, non-decreasing."""

    def __len__(self) -> int:
        return len(self.kept)


@dataclass(frozen=True)
class VoxelCounts:
    """What there is to thin in one scan."""

    stages: tuple[int, ...]
    """Voxels per stage of the network."""
    coarse: int
    """Voxels of the finest stage that stay when cells of 2×2×2 are thinned everywhere …"""
    near: int
    """… and when they are thinned in the near field."""

    def rows(self, steps: Sequence[Degradation]) -> list[list[int]]:
        """[steps][stages] voxels that each step leaves, all of one near radius.

        Exact without a cap; a cap is met to within 6 voxels, coarser stages may have fewer.
        """
        table = []
        for step in steps:
            finest = self.coarse if step.coarse else self.near if step.near_radius else None
            row = [self.stages[0] if finest is None else finest, *self.stages[1:]]
            table.append([min(n, n if step.max_voxels is None else step.max_voxels) for n in row])
        return table


def thin(code: Codes, sensor: Sensor, grid_size: float, degradation: Degradation) -> Thinning:
    """Choose the voxels of one scan that stay.

    code: [M] z codes, strictly ascending. Every group keeps exactly one voxel; a cap that cells of
    2×2×2 voxels cannot meet turns to cells of 4×4×4, then 8×8×8 …
    Raises ScanError where the codes do not ascend.
    """
    z = _checked(code)
    rows = len(z)
    level = np.zeros(rows, np.int64)  # a voxel's group: its cell of 2^level voxels per axis
    if degradation.coarse:
        level[:] = 1
    elif degradation.near_radius > 0:
        level[_near(z, sensor, near_limit(degradation.near_radius, grid_size))] = 1
    start = np.flatnonzero(_differs(z) >> (3 * level))
    if degradation.max_voxels is not None:
        start = _cap(z, sensor, start, degradation.max_voxels)
    return Thinning(*_spokesmen(z, start))


def count_voxels(
    code: Codes, sensor: Sensor, grid_size: float, near_radius: float, strides: Sequence[int]
) -> VoxelCounts:
    """Count what each step would leave, without thinning; strides: between the stages."""
    z = _checked(code)
    differs = _differs(z)
    shifts = np.cumsum([0, *(stride.bit_length() - 1 for stride in strides)])
    parents = differs >> 3 != 0
    near = _near(z, sensor, near_limit(near_radius, grid_size))
    return VoxelCounts(
        tuple(int(np.count_nonzero(differs >> (3 * shift))) for shift in shifts),
        int(np.count_nonzero(parents)),
        len(z) - int(np.count_nonzero(near & ~parents)),
    )


def sensor_cell(position: NDArray[np.float32], code: Codes, grid_size: float) -> NDArray[np.int64]:
    """[3] ``Sensor`` of a scan, from its first voxel: any point inside (metres) and the codes."""
    cell = np.floor(np.asarray(position, np.float64) / grid_size).astype(np.int64)
    sensor: NDArray[np.int64] = cells_of(code[:1])[0] - cell
    return sensor


def cells_of(code: Codes) -> NDArray[np.int64]:
    """[M, 3] cells of z codes: inverse of ``curves.interleave``."""
    z = np.asarray(code).astype(np.int64)
    return np.column_stack([_gather(z >> 2), _gather(z >> 1), _gather(z)])


def near_limit(radius: float, grid_size: float) -> int:
    """Largest squared distance in cells that lies within ``radius`` metres."""
    return int(min((radius / grid_size) ** 2, 2.0**40))


def _checked(code: Codes) -> NDArray[np.int64]:
    z: NDArray[np.int64] = np.asarray(code).astype(np.int64)
    if len(z) and (z[0] < 0 or z[-1] >> (3 * MAX_DEPTH) or not (z[1:] > z[:-1]).all()):
        raise ScanError("z codes of one scan must ascend strictly; voxelise before thinning")
    return z


def _differs(z: NDArray[np.int64]) -> NDArray[np.int64]:
    """[M] bits in which a code differs from the one before; the first differs at every level."""
    differs: NDArray[np.int64] = z ^ np.concatenate([z[:1] ^ np.int64(1 << 62), z[:-1]])
    return differs


def _gather(z: NDArray[np.int64]) -> NDArray[np.int64]:
    """Every third bit, closed up."""
    z = z & 0x1249249249249249
    z = (z | z >> 2) & 0x10C30C30C30C30C3
    z = (z | z >> 4) & 0x100F00F00F00F00F
    z = (z | z >> 8) & 0x1F0000FF0000FF
    return (z | z >> 16) & 0xFFFF


def _squared_range(z: NDArray[np.int64], sensor: Sensor, level: int) -> NDArray[np.int64]:
    """[M] squared horizontal distance, in cells, of the centre of each code's cell (level ≥ 1)."""
    middle = 1 << (level - 1)
    x = (_gather(z >> 2) >> level << level) + (middle - int(sensor[0]))
    y = (_gather(z >> 1) >> level << level) + (middle - int(sensor[1]))
    return x * x + y * y


def _near(z: NDArray[np.int64], sensor: Sensor, limit: int) -> NDArray[np.bool_]:
    return _squared_range(z, sensor, 1) <= limit


def _cap(
    z: NDArray[np.int64], sensor: Sensor, start: NDArray[np.int64], most: int
) -> NDArray[np.int64]:
    """Merge groups, level by level, until ``most`` are left; returns where the groups begin."""
    for level in range(1, MAX_DEPTH + 1):
        excess = len(start) - most
        if excess <= 0:
            break
        first = np.flatnonzero(_differs(z[start]) >> (3 * level))
        size = np.diff(first, append=len(start))  # groups per cell, 1 to 8
        merge = size > 1
        if len(start) - len(first) > excess:
            ring = np.sqrt(_squared_range(z[start[first]], sensor, level)).astype(np.int64) >> 4
            key = (8 - size) * _RINGS + np.minimum(ring, _RINGS - 1)
            merge = _select(key, size - 1, excess)
        keep = np.ones(len(start), np.bool_)
        keep[first] = False
        keep &= np.repeat(~merge, size)
        keep[first] = True
        start = start[keep]
    return start


def _select(key: NDArray[np.int64], saving: NDArray[np.int64], excess: int) -> NDArray[np.bool_]:
    """Cells in ascending (key, position) until their savings reach ``excess``; key knows saving."""
    saved = np.cumsum(np.bincount(key, weights=saving))
    last = int(np.searchsorted(saved, excess))
    chosen: NDArray[np.bool_] = (key < last) & (saving > 0)
    tied = np.flatnonzero(key == last)
    left = excess - (int(saved[last - 1]) if last else 0)
    chosen[tied[: -(-left // int(saving[tied[0]]))]] = True
    return chosen


def _spokesmen(
    z: NDArray[np.int64], start: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Per group the row nearest to the centroid (in 16ths of a cell), the first among equals."""
    size = np.diff(start, append=len(z))
    owner = np.repeat(np.arange(len(start), dtype=np.int32), size)
    if len(start) == len(z):
        return start.astype(np.int32), owner
    distance = np.zeros(len(z), np.int64)
    for cell in (_gather(z >> 2), _gather(z >> 1), _gather(z)):
        centroid = 16 * np.add.reduceat(cell, start) // size
        distance += (16 * cell - centroid[owner]) ** 2
    nearest = np.flatnonzero(distance == np.minimum.reduceat(distance, start)[owner])
    first = np.flatnonzero(np.diff(owner[nearest], prepend=-1))
    return nearest[first].astype(np.int32), owner
