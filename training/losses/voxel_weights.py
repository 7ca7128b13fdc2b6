# SPDX-License-Identifier: Apache-2.0
"""Which voxels count in a loss and how much; zero means not at all.

- ``valid_voxels``: those with a label; in a scan that has none, all
- ``labelled_scans``: scans of which the task loss knows something
- ``at_stage``: weights of the finest voxels, carried to a coarser stage
- ``weighted_mean``: Σ w x / Σ w, which is 0 and still part of the graph where nothing counts
- ``finite_rows``: rows in which neither network overflowed
Nothing here asks anything of the host, which would wait for a GPU's answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from pointdistill_ros.model.pyramid import VoxelPyramid

IGNORE = 255


def labelled_scans(targets: Tensor, offsets: Sequence[int], ignore: int = IGNORE) -> Tensor:
    """bool [B]: scans with at least one label.

    targets: int64 [N]; offsets: [B + 1] first row of each scan, and N.
    """
    known = targets != ignore
    return torch.stack([known[a:b].any() for a, b in pairwise(offsets)])


def valid_voxels(targets: Tensor, offsets: Sequence[int], ignore: int = IGNORE) -> Tensor:
    """bool [N]: voxels with a label where their scan has labels, every voxel of the other scans.

    Where a labelled scan leaves voxels out, the teacher was never told what they are: on nuScenes
    28 % of the points are the recording vehicle itself. A scan without any label has nothing but
    the teacher. targets: int64 [N]; offsets: [B + 1] first row of each scan, and N.

    >>> valid_voxels(torch.tensor([3, 255, 255, 255]), (0, 2, 4)).tolist()
    [True, False, True, True]
    """
    known = targets != ignore
    return torch.cat([known[a:b] | ~known[a:b].any() for a, b in pairwise(offsets)])


def at_stage(weights: Tensor, pyramid: VoxelPyramid, stage: int) -> Tensor:
    """Float [n_stage]: mean of the weights [N] of the finest voxels inside each voxel of a stage.

    It is 0 only where no voxel inside counts (weights are ≥ 0).
    """
    if stage == 0:
        return weights.float()
    rows: Tensor | None = None
    for fine in pyramid.stages[:stage]:
        assert fine.parent is not None
        rows = fine.parent if rows is None else fine.parent[rows]
    assert rows is not None
    sums = weights.new_zeros((2, len(pyramid.stages[stage])), dtype=torch.float32)
    sums[0].index_add_(0, rows, weights.float())
    sums[1].index_add_(0, rows, torch.ones_like(weights, dtype=torch.float32))
    return sums[0] / sums[1]


def at_least_single(x: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if it is that already."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def finite_rows(student: Tensor, teacher: Tensor) -> Tensor:
    """bool [n]: rows of [n, C_S] and [n, C_T] in which every number is finite."""
    return (student.detach().sum(1) + teacher.detach().sum(1)).isfinite()


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Σ w x / Σ w of values and weights ≥ 0, both [n]; 0 where all weights are."""
    total = weights.sum()
    return (values * weights).sum() / total.where(total > 0, 1)  # 1 / tiny · λ would be infinite
