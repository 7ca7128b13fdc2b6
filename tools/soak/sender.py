# SPDX-License-Identifier: Apache-2.0
"""Sender: clouds over DDS at a steady rate, and what comes back, into a Record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from pointdistill_ros.errors import PointDistillError
from tools.soak.process import Process
from tools.soak.record import Look, Record, Told

LOOK_PERIOD = 0.5
"""Seconds between two looks at the node's process."""


class Sender:
    """One publisher; clouds in turns."""

    def __init__(self, clouds: Sequence[Any], pid: int) -> None:
        """pid: of the node's process."""
        import rclpy
        from pointdistill_ros.msg import SegmentationStats
        from rclpy.executors import SingleThreadedExecutor
        from sensor_msgs.msg import PointCloud2

        from pointdistill_ros.nodes.process import INPUT, OUTPUT

        self._clouds, self._process, self._next = clouds, Process(pid), 0
        self._node = rclpy.create_node("soak", start_parameter_services=False)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._publisher = self._node.create_publisher(PointCloud2, INPUT, 5)
        self._record, self._began = Record(1.0), time.monotonic()
        self.last: Told | None = None
        """What the node told last."""
        self._node.create_subscription(
            SegmentationStats, "/segmentation_node/stats", self._hear, 200
        )
        self._node.create_subscription(PointCloud2, OUTPUT, self._take_labels, 20, raw=True)

    def connect(self, patience: float) -> None:
        """Until the node answers, and has counted all that was sent to find that out.

        Raises PointDistillError where no answer comes.
        """
        self.one_by_one(patience, again_after=2.0)
        self._drain()
        self.one_by_one(patience)

    def one_by_one(self, patience: float, again_after: float = 30.0) -> float:
        """Send one cloud, wait for the answer, return the seconds of work it took.

        Sends it again after a while: best effort may lose it, and the node may not know us yet.
        Raises PointDistillError where no answer comes.
        """
        before, until = self.last, time.monotonic() + patience
        again = 0.0
        while (told := self.last) is None or told is before:
            now = time.monotonic()
            if now > until:
                raise PointDistillError(f"the node labelled no cloud within {patience:g} s")
            if now >= again:
                self._send()
                again = now + again_after
            self._executor.spin_once(timeout_sec=0.05)
        return told.total

    def run(self, period: float, seconds: float) -> Record:
        """Send for so long, then wait until the node has answered what it took."""
        record = self._record = Record(period)
        record.first = self.last or record.first
        self._began = due = time.monotonic()
        look = due
        try:
            while (now := time.monotonic()) < self._began + seconds:
                if now >= look:
                    record.looks.append(Look(now - self._began, self._process.state()))
                    look = now + LOOK_PERIOD
                if now >= due:
                    record.late += now > due + period
                    self._send()
                    record.sent += 1
                    due = max(due + period, now)  # a late cloud shifts the next: never a burst
                self._spin(min(due, look))
            record.seconds = time.monotonic() - self._began
            self._spin(time.monotonic() + 2 * period)
            self._drain()
        except (FileNotFoundError, ProcessLookupError):
            record.seconds = time.monotonic() - self._began
            record.ending = f"the node's process was gone after {record.seconds:.0f} s"
        return record

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._node.destroy_node()

    def _send(self) -> None:
        cloud = self._clouds[self._next % len(self._clouds)]
        self._next += 1
        cloud.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(cloud)

    def _spin(self, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def _drain(self) -> None:
        """Until nothing has come for as long as a cloud lately takes."""
        patience = 2.0 + (3 * self.last.total if self.last else 0.0)
        heard = -1
        while heard != len(self._record.told):
            heard = len(self._record.told)
            self._spin(time.monotonic() + patience)

    def _hear(self, stats: Any) -> None:
        self.last = Told(
            time.monotonic() - self._began,
            1e-3 * stats.age_ms,
            1e-3 * stats.total_ms,
            stats.received,
            stats.processed,
            stats.dropped,
        )
        self._record.told.append(self.last)

    def _take_labels(self, serialised: bytes) -> None:
        from pointdistill_ros.nodes.player import cdr_stamp

        sec, nanosec = cdr_stamp(serialised)
        self._record.ages.append(time.time() - sec - 1e-9 * nanosec)
