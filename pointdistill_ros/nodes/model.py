# SPDX-License-Identifier: Apache-2.0
"""What the node needs of a segmenter, and where the real one comes from."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.config import ModelConfig
from pointdistill_ros.errors import PointDistillError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.nodes.model_thread import ModelThread
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation

if TYPE_CHECKING:
    from pointdistill_ros.budget import LatencyBudget


class SegmenterLike(Protocol):
    """What the node needs of a segmenter: `pointdistill_ros.Segmenter`, or ten lines in a test."""

    max_latency_ms: float

    @property
    def label_set(self) -> LabelSet: ...  # noqa: D102
    @property
    def model_id(self) -> str: ...  # noqa: D102
    @property
    def weights_sha256(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def engine(self) -> str: ...  # noqa: D102
    @property
    def engine_detail(self) -> str: ...  # noqa: D102
    @property
    def sheds_load(self) -> bool: ...  # noqa: D102
    @property
    def budget(self) -> LatencyBudget | None: ...  # noqa: D102
    @property
    def num_parameters(self) -> int: ...  # noqa: D102
    def __call__(self, scan: LidarScan) -> Segmentation: ...  # noqa: D102
    def warm_up(self) -> None: ...  # noqa: D102
    def intensity_warning(self, intensity: NDArray[np.float32]) -> str | None: ...  # noqa: D102


class ModelHost(Protocol):
    """Where a node gets the thread for its network and the network itself."""

    def thread(self) -> ModelThread:
        """The thread to load and label in; the node ends it when it is done with the network."""

    def load(self, config: ModelConfig) -> SegmenterLike:
        """The segmenter; called in the thread. Raises CheckpointError or ConfigError."""


class OwnModel:
    """A thread and a network for one node; ``segmenter`` replaces the one of the parameters."""

    def __init__(self, segmenter: SegmenterLike | None = None) -> None:
        self._segmenter = segmenter

    def thread(self) -> ModelThread:
        """A new thread."""
        return ModelThread()

    def load(self, config: ModelConfig) -> SegmenterLike:
        """The real thing, or what stands in for it."""
        return load_segmenter(config) if self._segmenter is None else self._segmenter


def model_facts(segmenter: SegmenterLike) -> dict[str, str]:
    """What people want to know of a loaded model."""
    return {
        "model": segmenter.model_id,
        "weights sha256": segmenter.weights_sha256,
        "parameters": str(segmenter.num_parameters),
        "device": segmenter.device,
        "engine": f"{segmenter.engine}: {segmenter.engine_detail}",
        "label set": segmenter.label_set.name,
    }


def load_segmenter(config: ModelConfig) -> SegmenterLike:
    """The real thing, without a latency budget; torch is imported here and not before."""
    try:
        from pointdistill_ros.segmenter import Segmenter

        return Segmenter.load(
            config.path,
            device=config.device,
            engine=cast("Any", config.engine),  # the segmenter knows and checks its engines
            precision=config.precision,
            threads=config.threads or default_threads(),
        )
    except ModuleNotFoundError as error:
        raise PointDistillError(
            f"{error.name} is not installed for {sys.executable}; "
            "activate the environment that has it, or pip install it there"
        ) from error


def default_threads() -> int:
    """Leave one core to DDS and the executor, unless that would halve the speed."""
    cores = len(os.sched_getaffinity(0))
    return cores - 1 if cores > 2 else cores
