# SPDX-License-Identifier: Apache-2.0
"""Reporter: statuses of a node → /diagnostics, once a second and when something changes."""

from __future__ import annotations

import time
from collections.abc import Sequence

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from pointdistill_ros.nodes.status import Status, diagnostic_array

PERIOD = 1.0
"""Seconds after which nothing new is told again."""


class Reporter:
    """Publisher of one node; lives as long as the node, model or not."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._told: object = None
        self._when = 0.0

    def report(self, statuses: Sequence[Status], publishers: int, hardware_id: str) -> None:
        """Publish where a level, its reason or the number of publishers is new, or time is up."""
        telling = [(status.level, status.message) for status in statuses], publishers
        now = time.monotonic()
        if telling == self._told and now - self._when < PERIOD:
            return
        self._told, self._when = telling, now
        name = self._node.get_fully_qualified_name().lstrip("/")
        stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(diagnostic_array(name, hardware_id, stamp, statuses))
