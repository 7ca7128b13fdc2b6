# SPDX-License-Identifier: Apache-2.0
"""An engine out of any function voxels → logits: the torch form itself, ONNX Runtime, OpenVINO."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from pointdistill_ros.engine.interface import Choose, EngineName, PointScores
from pointdistill_ros.labels import UNLABELLED
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.curves import MAX_DEPTH, interleave
from pointdistill_ros.model.degradation import NEAR_RADIUS
from pointdistill_ros.model.ptv3 import PTv3
from pointdistill_ros.model.pyramid import VoxelPyramid, build_pyramid
from pointdistill_ros.model.thinned_pyramid import thin_pyramid
from pointdistill_ros.model.thinning import Thinning, count_voxels, sensor_cell, thin
from pointdistill_ros.model.voxels import Voxels, canonical_points, voxelise

Logits = Callable[[torch.Tensor, VoxelPyramid], torch.Tensor]


class VoxelwiseEngine:
    """Geometry by numpy and torch, logits by ``logits``, softmax and the way back to the points."""

    sheds_load = True

    def __init__(
        self,
        name: EngineName,
        detail: str,
        logits: Logits,
        config: PTv3Config,
        grid_size: float,
        max_range: float,
        device: str = "cpu",
    ) -> None:
        """logits: (features float32 [n, in], pyramid), both on ``device`` → [n, classes] there.

        A point is valid where all its coordinates are within ±max_range metres.
        """
        self.name: EngineName = name
        self.detail = detail
        self._logits, self._config, self._device = logits, config, device
        self._grid_size, self._max_range = grid_size, max_range

    @torch.inference_mode()
    def __call__(
        self,
        xyz: NDArray[np.float32],
        intensity: NDArray[np.float32],
        choose: Choose | None = None,
    ) -> PointScores:
        """One scan; see ``Engine``."""
        begin = time.perf_counter()
        valid = (np.abs(xyz) <= self._max_range).all(axis=1)  # False for NaN and Inf, too
        label = np.full(len(xyz), UNLABELLED, np.uint8)
        probability = np.zeros(len(xyz), np.float32)
        entropy = np.zeros(len(xyz), np.float32)
        if not valid.all():
            xyz, intensity = xyz[valid], intensity[valid]
        if len(xyz) == 0:
            return PointScores(label, probability, entropy, 0, _timing(begin))

        # 1. points → voxels, and the geometry of all stages
        voxels = voxelise(xyz, self._grid_size)
        point = canonical_points(voxels, xyz, intensity, self._grid_size)
        inverse: NDArray[np.integer] = voxels.inverse
        coords = torch.from_numpy(voxels.coords).to(self._device)
        scan_index = torch.zeros(len(voxels), dtype=torch.int64, device=self._device)
        pyramid = build_pyramid(coords, scan_index, self._config, depth=MAX_DEPTH)
        if choose is not None:
            thinning = self._shed(voxels, xyz[point[0]], choose)
            if thinning is not None:
                pyramid = thin_pyramid(pyramid, thinning)
                point, inverse = point[thinning.kept], thinning.owner[inverse]
        features = np.column_stack([xyz[point], intensity[point]])
        geometry = time.perf_counter()

        # 2. voxels → class, probability, entropy
        logits = self._logits(torch.from_numpy(features).to(self._device), pyramid).float()
        log_softmax = torch.log_softmax(logits, 1)
        best, winner = log_softmax.max(1)
        spread = -(log_softmax.exp() * log_softmax).sum(1) / np.log(max(2, logits.shape[1]))
        spread = spread.clamp(0.0, 1.0)
        columns = [t.cpu().numpy() for t in (winner.to(torch.uint8), best.exp(), spread)]
        network = time.perf_counter()

        # 3. voxels → every point
        label[valid] = columns[0][inverse]
        probability[valid] = columns[1][inverse]
        entropy[valid] = columns[2][inverse]
        timing = _timing(begin, geometry, network)
        return PointScores(label, probability, entropy, len(point), timing)

    def _shed(self, voxels: Voxels, first: NDArray[np.float32], choose: Choose) -> Thinning | None:
        """Which voxels stay; None where all do. first: [3] the point of the first voxel."""
        code = interleave(*voxels.coords.T)
        sensor = sensor_cell(first, code, self._grid_size)
        grid, strides = self._grid_size, self._config.strides
        step = choose(count_voxels(code, sensor, grid, NEAR_RADIUS, strides))
        return None if step.step == 0 else thin(code, sensor, grid, step)


def torch_engine(
    network: PTv3, grid_size: float, max_range: float, device: str = "cpu"
) -> VoxelwiseEngine:
    """The plain torch form, on any device."""
    network = network.to(device).eval()
    detail = f"float32 on {device}"
    return VoxelwiseEngine("torch", detail, network, network.config, grid_size, max_range, device)


def _timing(begin: float, geometry: float = 0.0, network: float = 0.0) -> dict[str, float]:
    end = time.perf_counter()
    geometry, network = geometry or end, network or end
    return {
        "geometry": 1e3 * (geometry - begin),
        "network": 1e3 * (network - geometry),
        "points": 1e3 * (end - network),
    }
