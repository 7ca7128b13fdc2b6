# SPDX-License-Identifier: Apache-2.0
"""What an engine is: points in, a class with probability and entropy for each of them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.model.degradation import Degradation
from pointdistill_ros.model.thinning import VoxelCounts

EngineName = Literal["native", "cuda", "torch", "onnxruntime", "openvino"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True, eq=False)
class PointScores:
    """The answer for all N points of a scan, in its order."""

    label: NDArray[np.uint8]
    """[N] class, 255 where the point was not finite or out of reach."""
    probability: NDArray[np.float32]
    """[N] softmax maximum, 0 where unlabelled."""
    entropy: NDArray[np.float32]
    """[N] entropy of the softmax over its largest value, 0..1, 0 where unlabelled."""
    voxels: int
    """Voxels the network saw."""
    timing: Mapping[str, float]
    """Milliseconds: ``geometry``, ``network``, ``points``."""


Choose = Callable[[VoxelCounts], Degradation]
"""Load shedding: told the voxels of a scan, answers what to take away."""


class Engine(Protocol):
    """A network in one of its forms. Equal weights give equal labels in all of them."""

    @property
    def name(self) -> EngineName:
        """Which form."""

    @property
    def detail(self) -> str:
        """What exactly runs, for people: tier, precision, threads, device."""

    @property
    def sheds_load(self) -> bool:
        """Whether ``choose`` may be given."""

    def __call__(
        self,
        xyz: NDArray[np.float32],
        intensity: NDArray[np.float32],
        choose: Choose | None = None,
    ) -> PointScores:
        """xyz: float32 [N, 3] metres, anything; intensity: float32 [N], finite.

        choose: sheds load; called once per scan that has voxels, of ``NEAR_RADIUS``. Raises
        ScanError, and ConfigError where this engine cannot shed load.
        """
