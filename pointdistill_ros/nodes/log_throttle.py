# SPDX-License-Identifier: Apache-2.0
"""LogThrottle: what happens with every cloud is logged now and then. Its period may change.

rclpy's own throttle keeps the period of the first call, and the time of the system clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class LogThrottle:
    """Asked before a line is logged. Use one from one thread."""

    def __init__(
        self, period: Callable[[], float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``period``: seconds between two lines, asked anew each time; ``clock``: steady."""
        self._period, self._clock = period, clock
        self._last = float("-inf")

    def due(self) -> bool:
        """Whether the line may be logged; then the period begins."""
        now = self._clock()
        if now - self._last < self._period():
            return False
        self._last = now
        return True
