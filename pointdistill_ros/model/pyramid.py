# SPDX-License-Identifier: Apache-2.0
"""VoxelPyramid: all geometry of a batch of scans, computed once and shared by every network.

- stages by shifting z codes; rows of the coarser stages come in z order, whatever the permutation,
  so row i is the same voxel in teacher and student
- curve orders, pooling maps, neighbour tables; nothing here depends on weights
Not here: features, patches (attention derives them from ``offsets``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pointdistill_ros.errors import ScanError
from pointdistill_ros.model.config import Permutation, PTv3Config
from pointdistill_ros.model.curves import MAX_DEPTH, encode
from pointdistill_ros.model.neighbours import NeighbourTable, build_neighbours


@dataclass(frozen=True, eq=False)
class CurveOrder:
    """A walk through all voxels of a stage along one curve, scan after scan."""

    order: Tensor
    """int64 [n] row at each position."""
    inverse: Tensor
    """int64 [n] position of each row."""


@dataclass(frozen=True, eq=False)
class Stage:
    """The voxels of one resolution."""

    coords: Tensor
    """int64 [n, 3] cell, ≥ 0."""
    scan: Tensor
    """int64 [n] scan index, ascending."""
    offsets: tuple[int, ...]
    """[B + 1] first row of each scan, and n."""
    orders: tuple[CurveOrder, ...]
    """Curve order per block slot: block i walks ``orders[i % len(orders)]``."""
    neighbours: NeighbourTable
    """Pairs of the 3³ kernel."""
    parent: Tensor | None
    """int64 [n] row of the enclosing voxel in the next stage; None in the last."""

    def __len__(self) -> int:
        return len(self.coords)


@dataclass(frozen=True, eq=False)
class VoxelPyramid:
    """Stages from fine to coarse."""

    stages: tuple[Stage, ...]
    stem: NeighbourTable
    """Pairs of the 5³ kernel at the finest stage."""
    depth: int
    """Bits per axis at the finest stage."""
    permutation: Permutation
    """Per stage, the curve of each block slot."""

    def __len__(self) -> int:
        return len(self.stages[0])


def draw_permutation(config: PTv3Config, rng: np.random.Generator) -> Permutation:
    """A random curve order per stage, as PTv3 trains with (at the input and at every pooling)."""
    return tuple(
        tuple(int(i) for i in rng.permutation(len(config.curves))) for _ in config.encoder_depths
    )


class PyramidPlan(NamedTuple):
    """What is known of a pyramid before it is built."""

    depth: int
    """Bits per axis at the finest stage."""
    permutation: Permutation
    """Per stage, the curve of each block slot."""
    shifts: list[int]
    """Bits per axis from each stage to the next."""
    slots: list[int]
    """Curves that the blocks of each stage walk."""


def plan_pyramid(
    coords: Tensor, config: PTv3Config, depth: int | None, permutation: Permutation | None
) -> PyramidPlan:
    """Arguments and errors of ``build_pyramid``, with its defaults."""
    if len(coords) == 0:
        raise ScanError("cannot build a pyramid without voxels")
    shifts = [stride.bit_length() - 1 for stride in config.strides]
    needed = max(int(coords.max()).bit_length(), sum(shifts), 1)
    depth = needed if depth is None else depth
    if needed > depth or depth > MAX_DEPTH:
        raise ScanError(f"voxel cells need {needed} bits, depth is {depth}, at most {MAX_DEPTH}")
    depths = zip(config.encoder_depths, (*config.decoder_depths, 0), strict=True)
    slots = [min(max(pair), len(config.curves)) for pair in depths]
    permutation = config.permutation if permutation is None else permutation
    return PyramidPlan(depth, permutation, shifts, slots)


def build_pyramid(
    coords: Tensor,
    scan: Tensor,
    config: PTv3Config,
    depth: int | None = None,
    permutation: Permutation | None = None,
) -> VoxelPyramid:
    """All geometry of a batch for networks with the strides and curves of ``config``.

    coords: int64 [n ≥ 1, 3] unique cells per scan, each scan from 0; scan: int64 [n] ascending.
    depth: bits per axis; default the smallest that fits the whole batch. Hilbert orders depend on
    it, so fix it where a scan must not depend on its batch mates.
    permutation: default ``config.permutation``.
    Raises ScanError when empty, when cells exceed ``depth`` or 16 bits, or on duplicate voxels.
    """
    depth, permutation, shifts, slots = plan_pyramid(coords, config, depth, permutation)
    used = {p[slot] for p, count in zip(permutation, slots, strict=True) for slot in range(count)}

    scan_bits = scan << (3 * depth)
    codes = {c: encode(coords, depth, config.curves[c]) | scan_bits for c in sorted(used)}
    z_code = encode(coords, depth, "z") | scan_bits
    stem = build_neighbours(coords, scan, 5)

    stages = []
    for s, count in enumerate(slots):
        curve_orders = {c: _walk(codes[c]) for c in {permutation[s][i] for i in range(count)}}
        parent = None
        if s < len(shifts):
            coarse, parent = torch.unique(z_code >> (3 * shifts[s]), return_inverse=True)
        stages.append(
            Stage(
                coords=coords,
                scan=scan,
                offsets=_offsets(scan),
                orders=tuple(curve_orders[permutation[s][i]] for i in range(count)),
                neighbours=build_neighbours(coords, scan, 3),
                parent=parent,
            )
        )
        if parent is None:
            break
        child = torch.empty_like(coarse).scatter_(0, parent, torch.arange(len(parent)).to(parent))
        coords, scan = coords[child] >> shifts[s], scan[child]
        codes = {c: code[child] >> (3 * shifts[s]) for c, code in codes.items()}
        z_code = coarse
    return VoxelPyramid(tuple(stages), stem, depth, permutation)


def _walk(code: Tensor) -> CurveOrder:
    order = code.argsort()
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order), device=order.device)
    return CurveOrder(order, inverse)


def _offsets(scan: Tensor) -> tuple[int, ...]:
    counts: Sequence[int] = torch.bincount(scan).tolist()
    return (0, *np.cumsum(counts).tolist())
