# SPDX-License-Identifier: Apache-2.0
"""Pairing: which cell of which image shows a point, as columns that travel with the points.

    scan ─► see (before augmentation) ─► columns ─► augmentation, mixing ─► voxels ─► CameraPairs

A point is paired where it was measured, before anything turns, mixes or thins the cloud; its
columns then stay with it whatever happens to its coordinates. A voxel is paired as the point that
represents it is. Points of other clouds have 0 in both columns: no image shows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointdistill_ros.datasets.camera_images import CameraImage, FrameKey, frame_of
from pointdistill_ros.datasets.cameras import Camera
from training.camera.atlas import CellIndex
from training.sources import SourceMix
from training.transforms.points import LabelledPoints

CELL = "camera_cell"
"""Column int64 [N]: row of the point's cell in the atlas, 0 = not paired."""
AGREEMENT = "camera_agreement"
"""Column float32 [N]: agreement in depth of point and pixel, 0..1."""


@dataclass(frozen=True, eq=False)
class CameraPairs:
    """The voxels of a batch that an image shows, P of N."""

    voxels: Tensor
    """int64 [P] rows of the finest stage, ascending."""
    cells: Tensor
    """int64 [P] rows of the atlas."""
    weights: Tensor
    """float32 [P] above 0 to 1."""

    def __len__(self) -> int:
        return len(self.voxels)


def camera_columns(
    xyz: NDArray[np.float32], camera: Camera, index: CellIndex, key: FrameKey
) -> dict[str, NDArray[Any]]:
    """Columns of the points [N, 3] of a scan whose image has cells in an atlas.

    xyz: in the lidar's frame, as measured; ``Camera.in_frame`` serves points that were moved.
    """
    cell, agreement = np.zeros(len(xyz), np.int64), np.zeros(len(xyz), np.float32)
    sight = camera.see(xyz)
    cell[sight.point] = index.rows(key, sight.row, sight.column)
    agreement[sight.point] = sight.agreement
    return {CELL: cell, AGREEMENT: agreement}


class ScanPairing:
    """Columns for the scans of a data set, those without an image included."""

    def __init__(self, cameras: Mapping[FrameKey, Camera], index: CellIndex) -> None:
        """``cameras``: calibration of every image; ``index``: of the atlas."""
        self.cameras, self.index = dict(cameras), index

    @classmethod
    def of(cls, images: Mapping[FrameKey, CameraImage], index: CellIndex) -> ScanPairing:
        """For the images that an atlas was made of; reads each once. Raises InputError."""
        return cls({key: images[key].camera for key in index.places}, index)

    def columns(self, key: FrameKey | None, xyz: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Columns of a scan's points; empty where no image belongs to it."""
        if key is None or key not in self.cameras:
            return {}
        return camera_columns(xyz, self.cameras[key], self.index, key)


class CameraMix(SourceMix):
    """A SourceMix whose points carry the columns of the images that show them."""

    pairing: ScanPairing | None = None
    """Set it after construction; without, nothing is paired."""

    def _points(self, k: int, i: int) -> LabelledPoints:
        points = super()._points(k, i)
        if self.pairing is None:
            return points
        key = frame_of(self._sources[k].scans, i)
        columns = self.pairing.columns(key, points.xyz)
        return replace(points, columns={**points.columns, **columns}) if columns else points


def camera_pairs(samples: Sequence[LabelledPoints]) -> CameraPairs:
    """Pairs of a batch; ``samples``: the points that represent its voxels, scan by scan."""
    cells = [p.columns.get(CELL, np.zeros(len(p), np.int64)) for p in samples]
    weights = [p.columns.get(AGREEMENT, np.zeros(len(p), np.float32)) for p in samples]
    cell, weight = np.concatenate(cells), np.concatenate(weights)
    voxels = np.flatnonzero((cell > 0) & (weight > 0))
    return CameraPairs(
        torch.from_numpy(voxels),
        torch.from_numpy(cell[voxels].astype(np.int64)),
        torch.from_numpy(weight[voxels].astype(np.float32)),
    )
