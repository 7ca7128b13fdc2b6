# SPDX-License-Identifier: Apache-2.0
"""What the node needs of a segmenter, and where the real one comes from."""

from __future__ import annotations

import sys
from typing import Protocol

from pointdistill_ros.config import ModelConfig
from pointdistill_ros.errors import PointDistillError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation


class SegmenterLike(Protocol):
    """What the node needs of a segmenter: `pointdistill_ros.Segmenter`, or ten lines in a test."""

    label_set: LabelSet
    model_id: str
    weights_sha256: str
    device: str
    engine: str
    num_parameters: int

    def __call__(self, scan: LidarScan) -> Segmentation: ...  # noqa: D102
    def warm_up(self) -> None: ...  # noqa: D102


def load_segmenter(config: ModelConfig) -> SegmenterLike:
    """The real thing; torch is imported here and not before."""
    try:
        from pointdistill_ros.segmenter import Segmenter

        return Segmenter.load(
            config.path, device=config.device, engine=config.engine, threads=config.threads or None
        )
    except ModuleNotFoundError as error:
        raise PointDistillError(
            f"{error.name} is not installed for {sys.executable}; "
            "activate the environment that has it, or pip install it there"
        ) from error
