# SPDX-License-Identifier: Apache-2.0
"""The geometry of one scan on the device, in buffers of fixed capacity. Twin of model/pyramid.py.

- input: z codes in ascending order, padded; everything else follows without a host round trip
- all stages lie one after another in arrays of T rows (T = sum of the capacities), so one pass, one
  scatter or one binary search serves all of them; sizes stay on the device
- a padded row has code ``PADDING``, no neighbours, no children, and is its own place on every curve
Only operations that a CUDA graph can capture: no shape and no branch depends on a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from pointdistill_ros.engine.cuda.buckets import Capacities
from pointdistill_ros.engine.cuda.operations import LEVEL_BIT, NeighbourOffsets, Operations
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.curves import Curve

PADDING = torch.iinfo(torch.int64).max
"""The code of rows without a voxel; sorts last."""


@dataclass(frozen=True, eq=False)
class DeviceStage:
    """One stage in buffers of N rows."""

    size: Tensor
    """int32 [1] rows with a voxel."""
    neighbours: Tensor
    """int32 [27, N], strided: row at each offset, -1 = none."""
    positions: tuple[Tensor | None, ...]
    """Per block slot, int32 [N] position of each row along the curve, padding last; None = along z,
    where position and row are the same."""
    parent: Tensor | None
    """int32 [N] row of the enclosing voxel in the next stage; None in the last."""
    child_begin: Tensor | None
    """int32 [N + 1] first child of each row in the finer stage; None in the first."""


@dataclass(frozen=True, eq=False)
class DevicePyramid:
    """Stages from fine to coarse, and the stem's table."""

    stages: tuple[DeviceStage, ...]
    stem: Tensor
    """int32 [125, N0] rows of the stem at the finest stage, -1 = none; [27, N0] of a 3³ one."""


@dataclass(frozen=True)
class PyramidShape:
    """What of a network's configuration decides its geometry."""

    shifts: tuple[int, ...]
    """Per stage, bits per axis dropped from the finest stage."""
    slots: tuple[tuple[Curve, ...], ...]
    """Per stage and block slot, the curve; none where no block has attention."""
    stem_size: int
    """Edge of the stem's kernel, voxels."""

    @classmethod
    def of(cls, config: PTv3Config) -> PyramidShape:
        """The shape a network of ``config`` needs at evaluation."""
        steps = (stride.bit_length() - 1 for stride in config.strides)
        return cls(
            shifts=tuple(accumulate(steps, initial=0)),
            slots=tuple(
                tuple(config.curves[permutation[slot]] for slot in range(count))
                for permutation, count in zip(config.permutation, config.walks, strict=True)
            ),
            stem_size=config.stem_size,
        )

    @property
    def curves(self) -> tuple[Curve, ...]:
        """Curves other than z that some block walks."""
        return tuple(sorted({curve for stage in self.slots for curve in stage} - {"z"}))


def stage_firsts(code: Tensor, shifts: tuple[int, ...]) -> Tensor:
    """bool [stages, n]: a row is the first of its voxel in a stage. code: ascending int64 [n]."""
    valid = code != PADDING
    firsts = []
    for shift in shifts:
        cell = code >> (3 * shift)
        new = torch.ones_like(valid)
        new[1:] = cell[1:] != cell[:-1]
        firsts.append(new & valid)
    return torch.stack(firsts)


class PyramidBuilder:
    """Builds pyramids of one shape in one set of capacities; holds the constants for that."""

    def __init__(
        self,
        shape: PyramidShape,
        capacities: Capacities,
        operations: Operations,
        device: torch.device,
    ) -> None:
        self._shape = shape
        self._capacities = capacities
        self._operations = operations
        self._bases = tuple(accumulate(capacities[:-1], initial=0))
        counts = torch.tensor(capacities, device=device)
        base = torch.tensor(self._bases, device=device)
        self._rows = sum(capacities)
        self._stage = torch.repeat_interleave(counts, output_size=self._rows)  # [T]
        self._local = torch.arange(self._rows, device=device) - base[self._stage]  # [T]
        self._base = base[self._stage]  # [T]
        self._stage_base = base[:, None]  # [stages, 1]
        self._dump = (base + counts - 1)[:, None]  # [stages, 1]
        self._bits = 3 * torch.tensor(shape.shifts, device=device)[self._stage]  # [T]
        self._level = self._stage << LEVEL_BIT  # [T]
        self._padding = self._level + ((1 << LEVEL_BIT) - 1)  # [T]
        self._next_dump = (counts - 1).roll(-1)[self._stage]  # [T]
        self._block_offsets = NeighbourOffsets.of(3, device)
        self._stem_offsets = NeighbourOffsets.of(5, device)

    def build(self, code: Tensor) -> DevicePyramid:
        """code: int64 [N0] strictly ascending z codes of 16 bits per axis, then PADDING."""
        firsts = stage_firsts(code, self._shape.shifts)  # [stages, N0]
        sizes = firsts.sum(1, dtype=torch.int32)  # [stages]
        voxel = torch.cumsum(firsts, 1) - 1  # [stages, N0] row in each stage of a finest row
        real = self._local < sizes[self._stage]  # [T]
        first = self._first_rows(firsts, voxel)  # [T] finest row that begins each voxel
        keys = self._level | (code[first] >> self._bits)
        keys = torch.where(real, keys, self._padding)  # [T] ascending

        neighbours = self._operations.neighbours(keys, self._base, self._block_offsets)
        finest = self._capacities[0]
        stem = neighbours[:, :finest]
        if self._shape.stem_size == 5:
            stem = self._operations.neighbours(
                keys[:finest], self._base[:finest], self._stem_offsets
            )
        positions = self._positions(code, voxel, real)
        parent = torch.where(real, voxel.roll(-1, 0)[self._stage, first], self._next_dump).int()
        begin = voxel.roll(1, 0)[self._stage, first]
        finer = sizes.roll(1)[self._stage]
        begin = torch.where(real, begin, finer).int()  # [T] first child, in the finer stage

        stages = []
        for s, (base, count) in enumerate(zip(self._bases, self._capacities, strict=True)):
            rows = slice(base, base + count)
            slots = self._shape.slots[s]
            stages.append(
                DeviceStage(
                    size=sizes[s : s + 1],
                    neighbours=neighbours[:, rows],
                    positions=tuple(positions[c][rows] if c != "z" else None for c in slots),
                    parent=parent[rows] if s + 1 < len(self._capacities) else None,
                    child_begin=torch.cat([begin[rows], sizes[s - 1 : s]]) if s else None,
                )
            )
        return DevicePyramid(tuple(stages), stem)

    def _first_rows(self, firsts: Tensor, voxel: Tensor) -> Tensor:
        """int64 [T] finest row that begins each voxel; some row of the scan for padding."""
        target = torch.where(firsts, voxel + self._stage_base, self._dump)
        row = torch.arange(firsts.shape[1], device=firsts.device).expand_as(target)
        first = torch.zeros_like(self._local)
        return first.scatter_(0, target.flatten(), row.flatten())

    def _positions(self, code: Tensor, voxel: Tensor, real: Tensor) -> dict[Curve, Tensor]:
        """int32 [T] per curve: one sort of the finest stage; coarser orders are runs of it."""
        positions = {}
        for curve in self._shape.curves:
            along, finest = self._operations.curve_codes(code, curve).sort()
            firsts = stage_firsts(along, self._shape.shifts)  # [stages, N0] along the curve
            place = torch.cumsum(firsts, 1) - 1
            target = torch.where(firsts, voxel[:, finest] + self._stage_base, self._dump)
            position = torch.zeros_like(self._local)
            position.scatter_(0, target.flatten(), place.flatten())
            positions[curve] = torch.where(real, position, self._local).int()
        return positions
