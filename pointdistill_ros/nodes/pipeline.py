# SPDX-License-Identifier: Apache-2.0
"""CloudPipeline: one cloud, from the message to what is published about it. Worker's thread.

message → scan → where the network sees it → segmentation → classes that go out → clouds, figures
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from pointdistill_ros.config import InputConfig, NodeConfig
from pointdistill_ros.errors import CloudError
from pointdistill_ros.io.pointcloud2 import DecodeOptions, decode
from pointdistill_ros.nodes.diagnostics import SAMPLE, Health, cloud_facts
from pointdistill_ros.nodes.drift import DriftMonitor
from pointdistill_ros.nodes.model import SegmenterLike
from pointdistill_ros.nodes.outputs import Labelled, Outputs
from pointdistill_ros.nodes.placement import TfPlacement
from pointdistill_ros.nodes.shedding import CloudBudget
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.sent_classes import SentClasses


class CloudPipeline:
    """Everything between a cloud and its labels, for one loaded model."""

    def __init__(
        self,
        segmenter: SegmenterLike,
        classes: SentClasses,
        placement: TfPlacement,
        outputs: Outputs,
        health: Health,
        drift: DriftMonitor | None = None,
    ) -> None:
        self.outputs, self._drift = outputs, drift
        self._segmenter, self._classes = segmenter, classes
        self._placement, self._health = placement, health
        self._budget = CloudBudget(segmenter)

    def __call__(self, cloud: Any, age: Callable[[], float], config: NodeConfig) -> Labelled:
        """Label a cloud and publish it; ``age`` is asked when it has gone out, seconds.

        Raises CloudError or ScanError where the cloud cannot be labelled.
        """
        began = time.perf_counter()
        scan = read_scan(cloud, config.input)
        seen, misplaced = self._placement(scan, config.input.z_offset)
        decoded = time.perf_counter()
        self._budget.begin(config.model.max_latency_ms)
        found = self._segmenter(seen)
        segmentation = self._classes(found)
        segmented = time.perf_counter()
        unfiltered = self.outputs.publish_clouds(cloud, segmentation, config)
        total = time.perf_counter() - began
        old = age()
        self._health.finished(old, total, self._budget.end(total - (segmented - decoded)))
        doubts = (misplaced, self._intensity_doubt(scan), unfiltered)
        facts = cloud_facts(cloud, scan)
        if seen is not scan:
            facts["seen by the network"] = f"in {seen.frame}, z {config.input.z_offset:+g} m"
        self._health.described(facts, "; ".join(filter(None, doubts)))
        # after the labels have gone out: nobody waits for it
        drift = math.nan if self._drift is None else self._drift.measure(seen, found, config.drift)
        return Labelled(
            cloud.header,
            segmentation,
            {
                "age": 1e3 * old,
                "decode": 1e3 * (decoded - began),
                "geometry": float(segmentation.timing.get("geometry", 0.0)),
                "network": float(segmentation.timing.get("network", 0.0)),
                "publish": 1e3 * (began + total - segmented),
                "total": 1e3 * total,
            },
            drift,
        )

    def close(self) -> None:
        """Destroy the publishers and stop listening to transforms. Executor's thread."""
        self.outputs.close()
        self._placement.close()

    def _intensity_doubt(self, scan: LidarScan) -> str:
        """The most frequent reason for bad labels on another lidar, or nothing."""
        if scan.intensity is None:
            return ""
        return self._segmenter.intensity_warning(scan.intensity[::SAMPLE]) or ""


def read_scan(cloud: Any, config: InputConfig) -> LidarScan:
    """A cloud's points as ``config`` wants them read. Raises CloudError."""
    points = cloud.height * cloud.width
    if points > config.max_points:
        raise CloudError(
            f"cloud has {points} points ({cloud.height} x {cloud.width}); input.max_points is "
            f"{config.max_points}"
        )
    return decode(
        cloud,
        DecodeOptions(config.intensity_field, config.intensity_scale, config.zero_is_no_return),
    )
