# SPDX-License-Identifier: Apache-2.0
"""Which voxels touch which: the pairs a submanifold convolution multiplies.

One binary search per (dx, dy) column finds a whole run along z, and the mirror half follows from
symmetry: 4 searches for a 3³ kernel, 12 for 5³, instead of 26 and 124.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pointdistill_ros.errors import ScanError


@dataclass(frozen=True, eq=False)
class NeighbourTable:
    """Pairs (output row, input row) per kernel offset, for a kernel of size³.

    Offset k = (kx·size + ky)·size + kz means input cell = output cell + (kx, ky, kz) − size // 2.
    The centre offset pairs every row with itself and is left out.
    """

    size: int
    output_rows: Tensor
    """int64 [P], grouped by offset; unique within one offset."""
    input_rows: Tensor
    """int64 [P]."""
    counts: tuple[int, ...]
    """[size³] pairs per offset; 0 at the centre."""


def build_neighbours(coords: Tensor, scan: Tensor, size: int) -> NeighbourTable:
    """Neighbour pairs of n voxels, never across scans.

    coords: int64 [n, 3] ≥ 0; scan: int64 [n] scan index. Raises ScanError on duplicate voxels.
    """
    half = size // 2
    # A margin of ``half`` empty cells per axis keeps offsets from wrapping into the next column.
    span = coords.amax(0) + 1 + 2 * half
    stride_y = int(span[2])
    stride_x = int(span[1]) * stride_y
    stride_scan = int(span[0]) * stride_x
    x, y, z = coords.unbind(1)
    key, rows = (scan * stride_scan + x * stride_x + y * stride_y + z).sort()
    if bool((key[1:] == key[:-1]).any()):
        raise ScanError("a voxel appears twice; voxelise before building a pyramid")

    pairs: dict[int, tuple[Tensor, Tensor]] = {}
    for dx in range(-half, 1):
        for dy in range(-half, half + 1):
            if (dx, dy) > (0, 0):
                break
            column = dx * stride_x + dy * stride_y
            # first voxel at or after z − half of that column, then a walk along z
            position = torch.searchsorted(key, key + (column - half))
            for dz in range(-half, half + 1):
                if (dx, dy, dz) >= (0, 0, 0):
                    break
                hit = key[position.clamp(max=len(key) - 1)] == key + (column + dz)
                hit &= position < len(key)
                found = hit.nonzero().squeeze(1)
                neighbour = position[found]
                offset = ((dx + half) * size + dy + half) * size + dz + half
                pairs[offset] = (rows[found], rows[neighbour])
                pairs[size**3 - 1 - offset] = (rows[neighbour], rows[found])
                position = position + hit

    offsets = [k for k in range(size**3) if k in pairs]
    counts = [0] * size**3
    for k in offsets:
        counts[k] = len(pairs[k][0])
    return NeighbourTable(
        size,
        torch.cat([pairs[k][0] for k in offsets]),
        torch.cat([pairs[k][1] for k in offsets]),
        tuple(counts),
    )
