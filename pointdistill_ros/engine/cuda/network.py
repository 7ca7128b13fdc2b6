# SPDX-License-Identifier: Apache-2.0
"""CudaNetwork: a trained PTv3 compiled for one GPU. Same function, same labels.

Status: written and tested in its plain form on a CPU and with Triton's interpreter; not yet run or
measured on a GPU (docs/gpu.md).
"""

from __future__ import annotations

from functools import cached_property
from importlib.util import find_spec
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointdistill_ros.engine.cuda.buckets import MINIMUM
from pointdistill_ros.engine.cuda.device_engine import DeviceEngine
from pointdistill_ros.engine.cuda.device_network import Chunks
from pointdistill_ros.engine.cuda.fallback import FallbackLadder
from pointdistill_ros.engine.cuda.operations import Operations
from pointdistill_ros.engine.cuda.weights import fold
from pointdistill_ros.engine.interface import Choose, EngineName, PointScores, Precision
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.curves import MAX_DEPTH
from pointdistill_ros.model.ptv3 import PTv3

Kernels = Literal["auto", "triton", "torch"]
"""``auto``: Triton where it is installed and the device is a GPU."""

DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


class CudaEngine:
    """A CudaNetwork as an ``Engine``: points in, labels out."""

    name: EngineName = "cuda"
    sheds_load = False

    def __init__(
        self,
        network: PTv3,
        grid_size: float,
        max_range: float,
        device: str = "cuda",
        precision: Precision = "float16",
    ) -> None:
        self.network = CudaNetwork(network, grid_size, device, DTYPES[precision], max_range)
        self._precision = precision

    @property
    def detail(self) -> str:
        """What exactly runs, for people."""
        network = self.network
        parts = f"{self._precision} on {network.device}, {network.kernels} kernels"
        return parts if network.at_full_speed else f"{parts}, {network.memory_saving}"

    def __call__(
        self,
        xyz: NDArray[np.float32],
        intensity: NDArray[np.float32],
        choose: Choose | None = None,
    ) -> PointScores:
        """One scan; see ``Engine``. Sheds no load: ConfigError with ``choose``."""
        if choose is not None:
            raise ConfigError("engine 'cuda' cannot shed load; use max_latency_ms 0")
        return self.network.segment(xyz, intensity)


class CudaNetwork:
    """One lidar's network: own stream, own buffers. Not to be shared between threads.

    Short of device memory it goes on without graphs and in chunks, then on the CPU in float32, each
    with a warning, and tries the faster way again later.
    """

    def __init__(
        self,
        network: PTv3,
        grid_size: float,
        device: str | torch.device = "cuda",
        dtype: torch.dtype = torch.float16,
        max_range: float | None = None,
        graphs: bool = True,
        kernels: Kernels = "auto",
        plans: int = 8,
        minimum: int = MINIMUM,
    ) -> None:
        """grid_size: voxel edge in metres.

        max_range: largest absolute coordinate that gets a label, metres; as far as the grid reaches
        by default. plans: how many shapes (and graphs) are held. minimum: smallest capacity of a
        stage, a power of two. Raises ConfigError.
        """
        self.device = torch.device(device)
        if dtype not in DTYPES.values():
            raise ConfigError(f"dtype {dtype} is unknown here; use float16, bfloat16 or float32")
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise ConfigError("no CUDA device here; use the engine for the CPU")
        if self.device.type == "cuda" and self.device.index is None:
            self.device = torch.device("cuda", torch.cuda.current_device())
        self.dtype = dtype
        self._network = network
        self._grid_size = grid_size
        reach = grid_size * (1 << (MAX_DEPTH - 1)) - grid_size
        self._max_range = reach if max_range is None else max_range
        if self._max_range > reach + grid_size / 2:
            raise ConfigError(f"max_range {max_range} m: cells of {grid_size} m reach {reach} m")
        self._plans, self._minimum = plans, minimum
        self._weights = fold(network, self.device, dtype)
        self._operations = _operations(kernels, self.device)
        self._fast = self._engine(graphs and self.device.type == "cuda")
        self._chunked = self._engine(graphs=False, chunks=Chunks())
        rungs = (
            ("the whole scan at once", lambda: self._fast),
            ("chunks without graphs", lambda: self._chunked),
            ("the CPU", lambda: self._cpu),
        )
        self._ladder = FallbackLadder(rungs, self.release)

    @property
    def kernels(self) -> str:
        """``triton`` or ``torch``."""
        return self._operations.name

    @property
    def at_full_speed(self) -> bool:
        """False while memory is short."""
        return self._ladder.level == 0

    @property
    def memory_saving(self) -> str:
        """How scans are computed at present, in words."""
        return self._ladder.name

    def logits(self, features: Tensor, coords: Tensor) -> Tensor:
        """features: float [n, F]; coords: int [n, 3] unique cells, 0 ≤ q < 2¹⁶. Rows in any order.

        Returns float32 [n, classes] on the device. Raises ScanError on bad cells.
        """
        return self._ladder(lambda engine: engine.logits(features, coords).to(self.device))

    def segment(self, xyz: NDArray[np.float32], intensity: NDArray[np.float32]) -> PointScores:
        """Label all N points. xyz: [N, 3] metres, sensor frame; intensity: [N] finite."""
        return self._ladder(lambda engine: engine.segment(xyz, intensity))

    def release(self) -> None:
        """Free the memory of all plans and graphs; weights stay."""
        self._fast.release()
        self._chunked.release()

    def _engine(self, graphs: bool, chunks: Chunks | None = None) -> DeviceEngine:
        return DeviceEngine(
            self._network.config,
            self._weights,
            self._operations,
            self.dtype,
            self._grid_size,
            self._max_range,
            graphs,
            chunks,
            self._plans,
            self._minimum,
        )

    @cached_property
    def _cpu(self) -> DeviceEngine:
        """The last resort."""
        dtype = torch.float32
        weights = fold(self._network, torch.device("cpu"), dtype)
        return DeviceEngine(
            self._network.config,
            weights,
            Operations(),
            dtype,
            self._grid_size,
            self._max_range,
            plans=1,
            minimum=self._minimum,
        )


def _operations(kernels: Kernels, device: torch.device) -> Operations:
    if kernels == "torch" or (
        kernels == "auto" and (device.type != "cuda" or find_spec("triton") is None)
    ):
        return Operations()
    if find_spec("triton") is None:
        raise ConfigError("kernels triton: Triton is not installed; use kernels='torch'")
    from pointdistill_ros.engine.cuda.triton_operations import TritonOperations

    return TritonOperations()
