# SPDX-License-Identifier: Apache-2.0
"""The pyramid of the voxels that stayed, in which the others still count as neighbours.

A convolution over thinned voxels alone would find every second neighbour missing and see a scan
of half the density, which no network was trained on. So a kept voxel keeps all its neighbours, and
one that went is replaced by the voxel that speaks for it: its features are nearly the same, as they
share a cell. What this is worth stands in docs/latency.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pointdistill_ros.model.neighbours import NeighbourTable
from pointdistill_ros.model.pyramid import CurveOrder, Stage, VoxelPyramid
from pointdistill_ros.model.thinning import Thinning


def thin_pyramid(pyramid: VoxelPyramid, thinning: Thinning) -> VoxelPyramid:
    """Keep the rows ``thinning.kept`` of the finest stage, and their ancestors.

    pyramid: of all voxels. A thinning of several scans must not mix them. Feed the network the
    features of the kept rows; ``logits[thinning.owner]`` are those of all voxels.
    """
    device = pyramid.stages[0].coords.device
    kept = torch.from_numpy(thinning.kept).to(device, torch.int64)
    owner = torch.from_numpy(thinning.owner).to(device, torch.int64)
    stem = _lend(pyramid.stem, kept, owner)
    stages = []
    for s, stage in enumerate(pyramid.stages):
        parent = None
        if stage.parent is not None:
            parents = len(pyramid.stages[s + 1])
            kept_parents, parent = torch.unique_consecutive(stage.parent[kept], return_inverse=True)
            # a cell that went whole is spoken for by the cell of the voxel that speaks for its own
            parent_owner = torch.empty(parents, dtype=torch.int64, device=device)
            parent_owner[stage.parent] = parent[owner]
        stages.append(
            Stage(
                coords=stage.coords[kept],
                scan=stage.scan[kept],
                offsets=_offsets(stage, kept),
                orders=tuple(_walk(order, kept) for order in stage.orders),
                neighbours=_lend(stage.neighbours, kept, owner),
                parent=parent,
            )
        )
        if parent is None:
            break
        kept, owner = kept_parents, parent_owner
    return VoxelPyramid(tuple(stages), stem, pyramid.depth, pyramid.permutation)


def _lend(table: NeighbourTable, kept: Tensor, owner: Tensor) -> NeighbourTable:
    """Pairs of the kept rows; an input row that went is replaced by its owner."""
    output = _positions(kept, len(owner))[table.output_rows]
    stays = output >= 0
    counts = tuple(int(part.sum()) for part in torch.split(stays, list(table.counts)))
    return NeighbourTable(table.size, output[stays], owner[table.input_rows[stays]], counts)


def _walk(walk: CurveOrder, kept: Tensor) -> CurveOrder:
    """The same walk, past the rows that went."""
    order = _positions(kept, len(walk.order))[walk.order]
    order = order[order >= 0]
    return CurveOrder(order, _positions(order, len(order)))


def _positions(rows: Tensor, length: int) -> Tensor:
    """int64 [length] where each row stands in ``rows``, -1 = nowhere."""
    positions = torch.full((length,), -1, dtype=torch.int64, device=rows.device)
    positions[rows] = torch.arange(len(rows), device=rows.device)
    return positions


def _offsets(stage: Stage, kept: Tensor) -> tuple[int, ...]:
    ends = torch.tensor(stage.offsets, device=kept.device)
    return tuple(int(end) for end in torch.searchsorted(kept, ends))
