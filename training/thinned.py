# SPDX-License-Identifier: Apache-2.0
"""A network on thinned scans, to measure what a step of load shedding costs in accuracy.

The plain form of the network on the CPU, so that the figures belong to the method and to no engine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import process_time

import numpy as np
import torch

from pointdistill_ros.checkpoint import CheckpointMeta
from pointdistill_ros.labels import UNLABELLED, LabelSet
from pointdistill_ros.model.curves import MAX_DEPTH, interleave
from pointdistill_ros.model.degradation import NONE, Degradation
from pointdistill_ros.model.ptv3 import PTv3
from pointdistill_ros.model.pyramid import build_pyramid
from pointdistill_ros.model.thinned_pyramid import thin_pyramid
from pointdistill_ros.model.thinning import sensor_cell, thin
from pointdistill_ros.model.voxels import canonical_points, voxelise
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation


@dataclass
class ThinnedSegmenter:
    """Scan → segmentation after one step of load shedding; scans must carry finite intensity."""

    network: PTv3
    meta: CheckpointMeta
    degradation: Degradation = NONE
    grid_factor: float = 1.0
    """Voxels this much larger than the network was trained on: the other way to save time."""
    lend: bool = True
    """Voxels that went still count as neighbours (model/thinned_pyramid.py)."""
    voxels: list[int] = field(default_factory=list)
    """Voxels the network saw, per scan."""
    seconds: list[float] = field(default_factory=list)
    """CPU time of the network alone, per scan."""

    @property
    def label_set(self) -> LabelSet:
        """Meaning of the labels."""
        return self.meta.label_set

    @torch.inference_mode()
    def __call__(self, scan: LidarScan) -> Segmentation:
        """Labels of all points that lie within the range of the grid."""
        grid_size = self.meta.grid_size * self.grid_factor
        limit = self.meta.grid_size * ((1 << (MAX_DEPTH - 1)) - 1)
        valid = (np.abs(scan.xyz) <= limit).all(axis=1)
        assert scan.intensity is not None, "evaluation scans carry intensity"
        xyz, intensity = scan.xyz[valid], scan.intensity[valid]
        voxels = voxelise(xyz, grid_size)
        point = canonical_points(voxels, xyz, intensity, grid_size)
        x, y, z = voxels.coords.T
        code = interleave(x, y, z)
        sensor = sensor_cell(xyz[point[0]], code, grid_size)
        thinning = thin(code, sensor, grid_size, self.degradation)
        point = point[thinning.kept]
        coords = torch.from_numpy(voxels.coords if self.lend else voxels.coords[thinning.kept])
        index = torch.zeros(len(coords), dtype=torch.int64)
        pyramid = build_pyramid(coords, index, self.meta.config, depth=MAX_DEPTH)
        if self.lend and self.degradation.step:
            pyramid = thin_pyramid(pyramid, thinning)
        features = np.column_stack([xyz[point], intensity[point]])
        begin = process_time()
        label = self.network(torch.from_numpy(features), pyramid).argmax(1).to(torch.uint8).numpy()
        self.seconds.append(process_time() - begin)
        self.voxels.append(len(point))
        labels = np.full(len(scan), UNLABELLED, np.uint8)
        labels[valid] = label[thinning.owner][voxels.inverse]
        zeros = np.zeros(len(scan), np.float32)
        return Segmentation(labels, zeros, zeros, self.label_set, voxels=len(point))
