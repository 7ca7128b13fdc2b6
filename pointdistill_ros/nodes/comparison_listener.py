# SPDX-License-Identifier: Apache-2.0
"""ComparisonListener: what the comparison node tells, for a program that is not a node itself."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import PointCloud2

from pointdistill_ros.nodes.comparison_messages import (
    DISAGREEMENT as POINT,
)
from pointdistill_ros.nodes.comparison_messages import (
    comparison_fields,
    comparison_type,
)
from pointdistill_ros.nodes.pairing import SIDES
from pointdistill_ros.nodes.process import COMPARISON, DISAGREEMENT, WINDOW
from pointdistill_ros.nodes.transport import prepare_transport

POLL = 0.1


class ComparisonListener:
    """Listens in a thread of its own while the ``with`` block runs."""

    def __init__(self) -> None:
        self.window: dict[str, Any] = {}
        """Fields of the last ModelComparison over all clouds so far; empty before the first."""
        self.disagreement: np.ndarray[Any, np.dtype[np.void]] | None = None
        """[D] of ``comparison_messages.DISAGREEMENT``: the last cloud's disagreeing points."""
        self._heard = 0.0
        self._introduced: set[str] = set()
        self._ending = threading.Event()

    def __enter__(self) -> ComparisonListener:
        prepare_transport()
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node(
            "comparison_listener", context=self._context, start_parameter_services=False
        )
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._node.create_subscription(comparison_type(), WINDOW, self._take_window, latched)
        self._node.create_subscription(PointCloud2, DISAGREEMENT, self._take_points, 5)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._take_health, 20)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name="listener", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._thread.join()
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def wait_for_sides(self, timeout: float) -> bool:
        """Wait until the comparison node knows student and teacher; False if it never does."""
        until = time.monotonic() + timeout
        while len(self._introduced) < len(SIDES):
            if time.monotonic() > until:
                return False
            time.sleep(POLL)
        return True

    def wait_for_last(self, first: float) -> None:
        """Wait until the teacher, who is behind, is done; ``first``: seconds for its first cloud.

        It is done when nothing has come for three times as long as it was last behind.
        """
        until = time.monotonic() + first
        while not self.window and time.monotonic() < until:
            time.sleep(POLL)
        while self.window:
            behind = 3e-3 * abs(self.window["teacher_lag_ms"]) + 1.0
            if time.monotonic() - self._heard > min(behind, first):
                break
            time.sleep(POLL)

    def _spin(self) -> None:
        while not self._ending.is_set():
            self._executor.spin_once(timeout_sec=POLL)

    def _take_health(self, message: DiagnosticArray) -> None:
        for status in message.status:
            node, _, side = status.name.partition(": ")
            known = any(entry.key == "model" for entry in status.values)
            if node == COMPARISON and side in SIDES and known:
                self._introduced.add(side)

    def _take_window(self, message: Any) -> None:
        self.window, self._heard = comparison_fields(message), time.monotonic()

    def _take_points(self, cloud: PointCloud2) -> None:
        self.disagreement = np.frombuffer(cloud.data, POINT).copy()
