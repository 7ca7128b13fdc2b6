# SPDX-License-Identifier: Apache-2.0
"""Outputs: everything a configured segmentation node publishes, made only where someone listens.

- ``~/labeled_points``, ``~/visualization``, ``~/filtered``: clouds with the input's header
- ``~/stats``: what the cloud cost and what came out (where our messages are built)
- ``~/debug/…``: the times of ~/stats one by one, as plain numbers for plots
- ``~/class_info``, ``~/label_info`` (where vision_msgs is installed), ``~/legend`` (a picture, with
  Pillow): latched, from configure on
Not here: /diagnostics, which also lives while there is no model.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Float64

from pointdistill_ros.config import FilterConfig, NodeConfig
from pointdistill_ros.errors import CloudError
from pointdistill_ros.io.cloud_filter import reduce_points
from pointdistill_ros.io.cloud_parts import CloudParts
from pointdistill_ros.nodes import messages
from pointdistill_ros.nodes.worker import Counters
from pointdistill_ros.segmentation import Segmentation
from pointdistill_ros.sent_classes import SentClasses

CLOUDS = ("~/labeled_points", "~/visualization", "~/filtered")
STATS = "~/stats"
TIMES = {
    "decode": "~/debug/processing_time/decode_ms",
    "geometry": "~/debug/processing_time/geometry_ms",
    "network": "~/debug/processing_time/network_ms",
    "publish": "~/debug/processing_time/publish_ms",
    "total": "~/debug/processing_time/total_ms",
    "age": "~/debug/pipeline_latency_ms",
}
"""Step → topic of its milliseconds (std_msgs/Float64)."""
CLASS_INFO, LABEL_INFO, LEGEND = "~/class_info", "~/label_info", "~/legend"


class Labelled(NamedTuple):
    """A cloud that has gone out with labels."""

    header: Any
    segmentation: Segmentation
    milliseconds: dict[str, float]
    """Of every step of TIMES."""
    drift: float = math.nan
    """Score; NaN where it is not measured."""


class Outputs:
    """Publishers of one model. Publish from the worker's thread, close from the executor's."""

    def __init__(
        self, node: LifecycleNode, classes: SentClasses, model_id: str, weights_sha256: str
    ) -> None:
        """Create the publishers and tell what the class ids mean. Raises on a bad QoS override."""
        self._node, self._classes, self._model_id = node, classes, model_id
        self._publishers: dict[str, Any] = {}
        self._depend_on_labels: tuple[Any, ...] = ()
        self._writers = {topic: messages.CloudWriter() for topic in CLOUDS}
        kinds: dict[str, Any] = dict.fromkeys(CLOUDS, PointCloud2)
        if messages.SegmentationStats is not None:
            kinds[STATS] = messages.SegmentationStats
        try:
            for topic, kind in kinds.items():
                self._publishers[topic] = node.create_lifecycle_publisher(
                    kind,
                    topic,
                    1,
                    qos_overriding_options=QoSOverridingOptions.with_default_policies(),
                )
        except Exception:
            self.close()
            raise
        for topic in TIMES.values():
            self._publishers[topic] = node.create_lifecycle_publisher(Float64, topic, 1)
        self._depend_on_labels = tuple(self._publishers.values())
        self._tell_classes(weights_sha256)

    def _tell_classes(self, weights_sha256: str) -> None:
        """Not by lifecycle publishers: what the ids mean is known, and told, from configure on."""
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        label_set = self._classes.label_set
        told = {CLASS_INFO: messages.class_info(label_set, self._model_id, weights_sha256)}
        if messages.LEGENDS:
            told[LEGEND] = messages.legend(label_set)
        if messages.LabelInfo is not None:
            told[LABEL_INFO] = messages.label_info(label_set, self._node.get_clock().now().to_msg())
        for topic, message in told.items():
            publisher = self._node.create_publisher(type(message), topic, latched)
            publisher.publish(message)
            self._publishers[topic] = publisher

    @property
    def heard(self) -> bool:
        """Whether someone listens to anything that depends on labels."""
        return any(publisher.get_subscription_count() for publisher in self._depend_on_labels)

    def publish_clouds(self, cloud: Any, segmentation: Segmentation, config: NodeConfig) -> str:
        """Make and publish the clouds. Returns why the filtered one could not be made, or nothing.

        Raises CloudError where the labelled one cannot be made.
        """
        labelled, visualization, filtered = CLOUDS
        if self._listened(labelled):
            message = self._writers[labelled].write(cloud, segmentation, config.output.layout)
            self._publishers[labelled].publish(message)
        if self._listened(visualization):
            message = self._writers[visualization].write(cloud, segmentation, "rgb")
            self._publishers[visualization].publish(message)
        if self._listened(filtered):
            try:
                parts = self._filter(cloud, segmentation, config.filter)
            except CloudError as error:
                return f"no {filtered}: {error}"
            message = self._writers[filtered].fill(cloud.header, parts)
            self._publishers[filtered].publish(message)
        return ""

    def publish_figures(
        self, labelled: Labelled, counters: Counters, health: tuple[int, str]
    ) -> None:
        """Statistics and times of a cloud, after it was counted."""
        if self._listened(STATS):
            message = messages.segmentation_stats(
                labelled.header,
                self._model_id,
                labelled.segmentation,
                labelled.milliseconds,
                labelled.drift,
                counters,
                health,
            )
            self._publishers[STATS].publish(message)
        for step, topic in TIMES.items():
            if self._listened(topic):
                self._publishers[topic].publish(Float64(data=labelled.milliseconds[step]))

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers, self._depend_on_labels = {}, ()
        self._writers = {}  # their messages are as large as clouds

    def _filter(self, cloud: Any, segmentation: Segmentation, config: FilterConfig) -> CloudParts:
        """The input less the points of the classes that are to go. Raises CloudError."""
        leave_out = self._classes.members(config.classes)[segmentation.labels]
        leave_out &= segmentation.probability >= np.float32(config.class_probability_threshold)
        return reduce_points(cloud, ~leave_out, config.output_format)

    def _listened(self, topic: str) -> bool:
        publisher = self._publishers.get(topic)
        return publisher is not None and bool(publisher.get_subscription_count())
