# SPDX-License-Identifier: Apache-2.0
"""Class scores that a network gave to scans beforehand, as columns of points and in batches.

A point keeps its scores whatever happens to its coordinates. A voxel has those of the point that
represents it; points of clouds without scores have none. Files: pseudo_scores.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.transforms.points import LabelledPoints

CLASS, VALUE = "soft_class", "soft_value"
"""Columns uint8 [N, k] and float16 [N, k]: likeliest classes and their probabilities, falling; a
value of 0 says nothing of its class."""
LEAST = 1e-6
"""Probability below which classes are not told apart."""


@dataclass(frozen=True, eq=False)
class VoxelScores:
    """The voxels of a batch that have scores, P of N."""

    voxels: Tensor
    """int64 [P] rows of the finest stage, ascending."""
    classes: Tensor
    """int64 [P, k]."""
    values: Tensor
    """float32 [P, k] probabilities; what they leave of 1 belongs to the other classes evenly."""

    def __len__(self) -> int:
        return len(self.voxels)

    def logits(self, num_classes: int) -> Tensor:
        """Float32 [P, C]: logarithms of the probabilities of all classes, which add up to 1."""
        kept = self.values.new_zeros(len(self), num_classes)
        kept.scatter_add_(1, self.classes, self.values)
        others = kept == 0
        left = (1 - kept.sum(1, keepdim=True)).clamp(min=0) / others.sum(1, keepdim=True).clamp(1)
        found = torch.where(others, left, kept).clamp(min=LEAST)
        return (found / found.sum(1, keepdim=True)).log()


def voxel_scores(samples: Sequence[LabelledPoints]) -> VoxelScores | None:
    """Of a batch; ``samples``: the points that represent its voxels. None where there are none."""
    if not any(VALUE in points.columns for points in samples):
        return None
    width = max(p.columns[VALUE].shape[1] for p in samples if VALUE in p.columns)

    def column(name: str, kind: Any) -> NDArray[Any]:
        empty = np.zeros((0, width))
        parts = [p.columns.get(name, np.zeros((len(p), width))) for p in samples]
        return np.concatenate([empty, *parts]).astype(kind)

    values = column(VALUE, np.float32)
    voxels = np.flatnonzero(values[:, 0] > 0)
    if not len(voxels):
        return None
    return VoxelScores(
        torch.from_numpy(voxels),
        torch.from_numpy(column(CLASS, np.int64)[voxels]),
        torch.from_numpy(values[voxels]),
    )
