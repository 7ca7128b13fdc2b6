# SPDX-License-Identifier: Apache-2.0
"""Points → voxels and voxel labels → points, on the device. Twin of model/voxels.py.

Fixed capacity, and only operations that a CUDA graph can capture. Padding points are NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pointdistill_ros.engine.cuda.pyramid import PADDING, stage_firsts
from pointdistill_ros.labels import UNLABELLED
from pointdistill_ros.model.curves import interleave


@dataclass(frozen=True, eq=False)
class DeviceVoxels:
    """The occupied voxels of P points, in P rows."""

    code: Tensor
    """int64 [P] z codes, strictly ascending, then PADDING."""
    features: Tensor
    """float32 [P, 4] x, y, z, intensity of the point that represents each voxel."""
    voxel: Tensor
    """int64 [P] row of each point's voxel, -1 where the point is not valid."""
    sizes: Tensor
    """int64 [stages] voxels of every stage."""


def voxelise(
    xyz: Tensor, intensity: Tensor, grid_size: float, max_range: float, shifts: tuple[int, ...]
) -> DeviceVoxels:
    """Voxels of ``grid_size`` metres and their canonical points (``voxels.canonical_points``).

    xyz: float32 [P, 3], intensity: float32 [P]. Valid: all |coordinate| <= max_range, which must
    keep cells below 2¹⁵ on either side. shifts: per stage, bits per axis dropped.
    """
    count = len(xyz)
    valid = (xyz.abs() <= max_range).all(1)  # False for NaN, too
    scaled = torch.where(valid[:, None], xyz, 0.0).double() / grid_size
    cells = scaled.floor()
    lowest = torch.where(valid[:, None], cells, torch.inf).amin(0)
    coords = torch.where(valid[:, None], cells - lowest, 0.0).long()
    code = torch.where(valid, interleave(*coords.unbind(1)), PADDING)
    code, order = code.sort(stable=True)

    first = stage_firsts(code, (0,))[0]
    row = torch.cumsum(first, 0) - 1
    row = torch.where(code == PADDING, count, row)  # [P] voxel of each sorted point; count = none
    voxel = torch.empty_like(row).scatter_(0, order, torch.where(row == count, -1, row))
    inside = ((scaled - cells) * (1 << 21)).long()  # 3 × 21 bits in one key
    keys = [(inside[:, 0] << 42) | (inside[:, 1] << 21) | inside[:, 2], *xyz.unbind(1), intensity]
    winner = order[_smallest(row, [key[order] for key in keys])]
    codes = torch.full_like(code, PADDING)
    codes = torch.cat([codes, codes[:1]]).scatter_(0, torch.where(first, row, count), code)
    return DeviceVoxels(
        code=codes[:count],
        features=torch.cat([xyz[winner], intensity[winner, None]], 1),
        voxel=voxel,
        sizes=stage_firsts(code, shifts).sum(1),
    )


def _smallest(group: Tensor, keys: list[Tensor]) -> Tensor:
    """Per group the place of its smallest entry by the first key, then the next; int64 [P].

    group: int64 [P], each 0..P; group P and groups without entry answer anything.
    """
    count = len(group)
    running = torch.ones_like(group, dtype=torch.bool)
    for key in keys:
        largest = torch.inf if key.is_floating_point() else torch.iinfo(key.dtype).max
        value = torch.where(running, key, largest)
        best = value.new_full((count + 1,), largest)
        best.scatter_reduce_(0, group, value, "amin")
        running = running & (key == best[group])
    place = torch.arange(count, device=group.device)
    first = place.new_full((count + 1,), count - 1)
    return first.scatter_reduce_(0, group, torch.where(running, place, count - 1), "amin")[:count]


@dataclass(frozen=True, eq=False)
class Answers:
    """What the network says about each row."""

    label: Tensor
    """uint8 [N]."""
    probability: Tensor
    """float32 [N] softmax maximum."""
    entropy: Tensor
    """float32 [N] entropy of the softmax divided by ln C, 0..1."""

    @classmethod
    def of(cls, logits: Tensor) -> Answers:
        """logits: float32 [N, C]."""
        spread = torch.log_softmax(logits, 1)
        best, label = spread.max(1)
        entropy = -(spread.exp() * spread).sum(1) / math.log(max(2, logits.shape[1]))
        return cls(label.to(torch.uint8), best.exp(), entropy.clamp(0.0, 1.0))

    def at(self, voxel: Tensor) -> Answers:
        """For points: int64 [P] rows, -1 = unlabelled."""
        row, known = voxel.clamp(min=0), voxel >= 0
        return Answers(
            torch.where(known, self.label[row], UNLABELLED),
            torch.where(known, self.probability[row], 0.0),
            torch.where(known, self.entropy[row], 0.0),
        )
