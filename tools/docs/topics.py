# SPDX-License-Identifier: Apache-2.0
"""What the nodes publish and subscribe to, asked of the nodes themselves.

Both nodes are configured and activated in a DDS domain of their own; the network is a stand-in, as
no topic depends on it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import rclpy
from rclpy.context import Context
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from pointdistill_ros.errors import PointDistillError, ScanError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.nodes import messages
from pointdistill_ros.nodes.comparison_node import ComparisonNode
from pointdistill_ros.nodes.outputs import CLASS_INFO, LABEL_INFO
from pointdistill_ros.nodes.segmentation_node import SegmentationNode
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation
from tools.docs.table import code, table

HEAD = ("topic", "direction", "type", "QoS")
_ROS_OWN = ("/rosout", "/parameter_events", "~/transition_event")


class Endpoint(NamedTuple):
    """A publisher or a subscription."""

    topic: str
    direction: str
    kind: str
    qos: str


class _NoNetwork:
    """Stands where the network is: nothing is labelled while topics are looked at."""

    label_set = LabelSet.named("semantic-kitti")
    model_id, weights_sha256 = "none", "0" * 64
    device, engine, engine_detail, num_parameters = "cpu", "none", "", 0
    sheds_load, max_latency_ms, budget = False, 0.0, None

    def __call__(self, scan: LidarScan) -> Segmentation:
        """Nobody sends a scan."""
        raise ScanError(f"no network here for a scan of {len(scan)} points")

    def warm_up(self) -> None:
        """Nothing is cold."""

    def intensity_warning(self, _: Any) -> None:
        """No opinion."""


def topic_sections() -> str:
    """Both nodes' topics. Raises PointDistillError where the messages are not built."""
    if messages.SegmentationStats is None:
        raise PointDistillError("pointdistill_ros.msg is not built: `make msgs`")
    segmentation = [row for row in endpoints(_segmentation) if row.topic != LABEL_INFO]
    latched = next(row for row in segmentation if row.topic == CLASS_INFO)
    segmentation.append(
        latched._replace(topic=LABEL_INFO, kind="vision_msgs/LabelInfo, where it is installed")
    )
    parts = []
    for name, rows in (
        ("segmentation_node", segmentation),
        ("comparison_node", endpoints(ComparisonNode)),
    ):
        cells = [(code(r.topic), r.direction, r.kind, r.qos) for r in rows]
        parts.append(f"### Topics of {name}\n\n{table(HEAD, cells)}")
    return "\n\n".join(parts)


def endpoints(make: Callable[..., LifecycleNode]) -> list[Endpoint]:
    """Every publisher and subscription of an active node, less those that every ROS node has."""
    context = Context()
    rclpy.init(context=context, domain_id=random.SystemRandom().randint(1, 101))
    found: list[Endpoint] = []
    try:
        with _recorded(found):
            node = make(context=context, start_parameter_services=False)
            try:
                node.trigger_configure()
                node.trigger_activate()
            finally:
                node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
    rows = [row for row in dict.fromkeys(found) if row.topic not in _ROS_OWN]
    return sorted(rows, key=lambda row: (row.direction, row.topic.startswith("/")))


def _segmentation(**options: Any) -> SegmentationNode:
    return SegmentationNode(segmenter=_NoNetwork(), **options)


@contextmanager
def _recorded(found: list[Endpoint]) -> Iterator[None]:
    """Note every publisher and subscription that is created."""
    publish, subscribe = Node.create_publisher, Node.create_subscription

    def publisher(self: Node, kind: Any, topic: str, qos: Any, *rest: Any, **options: Any) -> Any:
        found.append(Endpoint(topic, "out", _type(kind), _qos(qos)))
        return publish(self, kind, topic, qos, *rest, **options)

    def subscription(
        self: Node, kind: Any, topic: str, callback: Any, qos: Any, **options: Any
    ) -> Any:
        found.append(Endpoint(topic, "in", _type(kind), _qos(qos)))
        return subscribe(self, kind, topic, callback, qos, **options)

    with (
        mock.patch.object(Node, "create_publisher", publisher),
        mock.patch.object(Node, "create_subscription", subscription),
    ):
        yield


def _type(kind: Any) -> str:
    return code(f"{kind.__module__.split('.')[0]}/{kind.__name__}")


def _qos(qos: QoSProfile | int) -> str:
    depth = qos if isinstance(qos, int) else qos.depth
    unreliable = not isinstance(qos, int) and qos.reliability == ReliabilityPolicy.BEST_EFFORT
    latched = not isinstance(qos, int) and qos.durability == DurabilityPolicy.TRANSIENT_LOCAL
    words = ["best effort" if unreliable else "reliable", f"keep last {depth}"]
    return ", ".join([*words, "latched"] if latched else words)
