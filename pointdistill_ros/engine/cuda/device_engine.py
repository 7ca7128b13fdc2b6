# SPDX-License-Identifier: Apache-2.0
"""One way of computing a scan on one device: operations, dtype, with or without graphs and chunks.

A scan makes one round trip to the host: the sizes of all stages come back once its voxels are known
and choose the plan, that is the capacities. Everything else stays on the device and in one stream.
On a CPU the same code runs without stream, graph and pinned memory; the tests live from that.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointdistill_ros.engine.cuda.buckets import MINIMUM, Capacities, PlanCache
from pointdistill_ros.engine.cuda.device_network import Chunks, DeviceNetwork
from pointdistill_ros.engine.cuda.graph import Lane, Region
from pointdistill_ros.engine.cuda.operations import Operations
from pointdistill_ros.engine.cuda.points import Answers, voxelise
from pointdistill_ros.engine.cuda.pyramid import (
    PADDING,
    PyramidBuilder,
    PyramidShape,
    stage_firsts,
)
from pointdistill_ros.engine.cuda.weights import NetworkWeights
from pointdistill_ros.engine.interface import PointScores
from pointdistill_ros.errors import ConfigError, ScanError
from pointdistill_ros.labels import UNLABELLED
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.curves import MAX_DEPTH, interleave


class DeviceEngine:
    """Serves scan after scan; not to be shared between threads."""

    def __init__(
        self,
        config: PTv3Config,
        weights: NetworkWeights,
        operations: Operations,
        dtype: torch.dtype,
        grid_size: float,
        max_range: float,
        graphs: bool = False,
        chunks: Chunks | None = None,
        plans: int = 8,
        minimum: int = MINIMUM,
    ) -> None:
        """dtype: of ``weights``. graphs: needs a GPU. plans: how many shapes are held."""
        self.device = weights.head.weight.device
        self._config = config
        self._shape = PyramidShape.of(config)
        self._operations = operations
        self._network = DeviceNetwork(weights, config.xcpe, operations, dtype, chunks)
        self._grid_size, self._max_range = grid_size, max_range
        self._lane = Lane.on(self.device, graphs)
        self._plans = PlanCache(self._voxel_plan, plans, minimum)
        self._point_plans = PlanCache(self._point_plan, plans, minimum)

    def release(self) -> None:
        """Free the memory of all plans; the next scan builds its own anew."""
        self._plans.clear()
        self._point_plans.clear()
        if self._lane.stream is not None:
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def logits(self, features: Tensor, coords: Tensor) -> Tensor:
        """features: float [n, F]; coords: int [n, 3] unique cells, 0 ≤ q < 2¹⁶. Rows in any order.

        Returns float32 [n, classes] on the device, ready for the caller's stream.
        Raises ScanError when empty, on cells beyond 16 bits and on duplicate voxels.
        """
        if len(coords) == 0:
            raise ScanError("cannot build a pyramid without voxels")
        with self._lane() as caller:
            coords = coords.to(self.device, torch.int64)
            features = features.to(self.device, torch.float32)
            outside = ((coords < 0) | (coords >= 1 << MAX_DEPTH)).any()
            code, order = interleave(*coords.unbind(1)).sort()
            sizes = stage_firsts(code, self._shape.shifts).sum(1)
            *counts, beyond = torch.cat([sizes, outside[None]]).tolist()  # the one round trip
            if beyond:
                raise ScanError(f"voxel cells must lie in 0..{(1 << MAX_DEPTH) - 1}")
            if counts[0] != len(coords):
                raise ScanError("a voxel appears twice; voxelise before building a pyramid")
            plan = self._plans.fit(counts)
            plan.run(code, features[order])
            logits = torch.empty(len(coords), self._config.num_classes, device=self.device)
            logits.index_copy_(0, order, plan.logits[: len(coords)])
            if caller is not None:
                logits.record_stream(caller)
        return logits

    @torch.inference_mode()
    def segment(self, xyz: NDArray[np.float32], intensity: NDArray[np.float32]) -> PointScores:
        """xyz: [N, 3] metres, intensity: [N] finite. Points out of reach get no label.

        Raises ConfigError where the network wants other features than these four.
        """
        if self._config.in_channels != 4:
            raise ConfigError(
                f"points have 4 features, the network wants {self._config.in_channels}; "
                "compute its features and use logits()"
            )
        begin = time.perf_counter()
        with self._lane():
            points = self._point_plans.fit((len(xyz),))
            points.run(xyz, intensity)
            sizes = points.sizes.tolist()  # the one round trip
            middle = time.perf_counter()
            if sizes[0] == 0:
                answers = _no_answers(len(xyz))
            else:
                plan = self._plans.fit(sizes)
                plan.run(points.code, points.features)
                answers = points.fetch(plan.answers, len(xyz))
        timing = {
            "geometry": 1e3 * (middle - begin),  # points to voxels; that of the stages is below
            "network": 1e3 * (time.perf_counter() - middle),
            "points": 0.0,  # enqueued with the network, no time of its own
        }
        columns = (answers.label.numpy(), answers.probability.numpy(), answers.entropy.numpy())
        return PointScores(*columns, voxels=sizes[0], timing=timing)

    def _voxel_plan(self, capacities: Capacities) -> VoxelPlan:
        builder = PyramidBuilder(self._shape, capacities, self._operations, self.device)
        return VoxelPlan(builder, self._network, self._config, capacities[0], self._lane)

    def _point_plan(self, capacities: Capacities) -> PointPlan:
        (count,) = capacities
        return PointPlan(count, self._grid_size, self._max_range, self._shape.shifts, self._lane)


class VoxelPlan:
    """Voxels → logits and answers, in one set of capacities."""

    def __init__(
        self,
        builder: PyramidBuilder,
        network: DeviceNetwork,
        config: PTv3Config,
        rows: int,
        lane: Lane,
    ) -> None:
        self._builder = builder
        self._network = network
        self._code = torch.full((rows,), PADDING, device=lane.device)
        self._features = torch.zeros(rows, config.in_channels, device=lane.device)
        self.logits = torch.zeros(rows, config.num_classes, device=lane.device)
        self.answers = Answers.of(self.logits)
        self._region = Region(self.compute, lane)

    def run(self, code: Tensor, features: Tensor) -> None:
        """code: int64 [m] ascending, PADDING allowed at the end; features: float32 [m, F]."""
        rows = min(len(code), len(self._code))  # what is beyond is padding: there is a bucket more
        self._code[:rows].copy_(code[:rows])
        self._code[rows:].fill_(PADDING)
        self._features[:rows].copy_(features[:rows])
        self._region()

    def compute(self) -> None:
        """The captured part: geometry, network, answers."""
        self.logits.copy_(self._network(self._features, self._builder.build(self._code)))
        answers = Answers.of(self.logits)
        self.answers.label.copy_(answers.label)
        self.answers.probability.copy_(answers.probability)
        self.answers.entropy.copy_(answers.entropy)


class PointPlan:
    """Points → voxels, and answers back to points, for fewer than ``count`` points."""

    def __init__(
        self,
        count: int,
        grid_size: float,
        max_range: float,
        shifts: tuple[int, ...],
        lane: Lane,
    ) -> None:
        self._grid_size, self._max_range = grid_size, max_range
        self._shifts = shifts
        self._stream = lane.stream
        device = lane.device
        self._host = torch.empty(count, 4, pin_memory=lane.stream is not None)
        self._input = torch.empty(count, 4, device=device)
        self.code = torch.empty(count, dtype=torch.int64, device=device)
        self.features = torch.empty(count, 4, device=device)
        self._voxel = torch.empty(count, dtype=torch.int64, device=device)
        self.sizes = torch.empty(len(shifts), dtype=torch.int64, device=device)
        self._region = Region(self.compute, lane)

    def run(self, xyz: NDArray[np.float32], intensity: NDArray[np.float32]) -> None:
        """Copy a scan to the device and voxelise it."""
        host = self._host.numpy()
        host[: len(xyz), :3] = xyz
        host[: len(xyz), 3] = intensity
        host[len(xyz) :, :3] = np.nan
        self._input.copy_(self._host, non_blocking=True)
        self._region()

    def compute(self) -> None:
        """The captured part."""
        voxels = voxelise(
            self._input[:, :3], self._input[:, 3], self._grid_size, self._max_range, self._shifts
        )
        self.code.copy_(voxels.code)
        self.features.copy_(voxels.features)
        self._voxel.copy_(voxels.voxel)
        self.sizes.copy_(voxels.sizes)

    def fetch(self, answers: Answers, points: int) -> Answers:
        """Answers of voxels → answers of the first ``points`` points, on the host."""
        answers = answers.at(self._voxel[:points])
        host = Answers(
            self._to_host(answers.label),
            self._to_host(answers.probability),
            self._to_host(answers.entropy),
        )
        if self._stream is not None:
            self._stream.synchronize()
        return host

    def _to_host(self, column: Tensor) -> Tensor:
        """Enqueue a copy; nothing to do on a CPU."""
        if self._stream is None:
            return column
        host = torch.empty_like(column, device="cpu", pin_memory=True)
        return host.copy_(column, non_blocking=True)


def _no_answers(points: int) -> Answers:
    zeros = torch.zeros(points)
    return Answers(torch.full((points,), UNLABELLED, dtype=torch.uint8), zeros, zeros.clone())
