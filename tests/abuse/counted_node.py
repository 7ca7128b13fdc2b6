# SPDX-License-Identifier: Apache-2.0
"""The real node in a process of its own that tells its counters whenever they change.

Only ``SegmentationNode.counters`` is used. The network is that of the node's ``model.path``, or
with COUNTED_FAKE the one of tests/nodes/fake_node.py, which needs no torch.
"""

import json
import os
import runpy
import sys
import time
from dataclasses import asdict
from pathlib import Path

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from std_msgs.msg import String

from pointdistill_ros.nodes.segmentation_node import SegmentationNode, spin

PERIOD = 0.002
"""Seconds between two looks at the counters."""
AGAIN = 0.5
"""Seconds after which they are told again, though they are the same."""
FAKE = Path(__file__).parents[1] / "nodes" / "fake_node.py"


class CountedNode(SegmentationNode):
    """Beside its own topics ``/counters``: Counters as JSON, and ``at``, when they were read."""

    def __init__(self, segmenter=None) -> None:
        super().__init__(segmenter=segmenter)
        self._told, self._when = None, 0.0
        self._teller = self.create_publisher(String, "/counters", 100)
        self.create_timer(PERIOD, self._tell, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _tell(self) -> None:
        now, counters = time.time(), self.counters
        if counters != self._told or now - self._when > AGAIN:
            self._told, self._when = counters, now
            self._teller.publish(String(data=json.dumps({**asdict(counters), "at": now})))


def main() -> int:
    """Run until interrupted."""
    fake = "COUNTED_FAKE" in os.environ
    segmenter = runpy.run_path(str(FAKE))["AboveOrBelow"]() if fake else None
    return spin(lambda: CountedNode(segmenter))


if __name__ == "__main__":
    sys.exit(main())
