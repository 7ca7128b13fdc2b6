# SPDX-License-Identifier: Apache-2.0
"""Timing: does the node keep up? Ages, latencies, rates, drops and load shedding of lately."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np

from pointdistill_ros.config import DiagnosticsConfig
from pointdistill_ros.nodes.shedding import Shedding
from pointdistill_ros.nodes.status import Level
from pointdistill_ros.nodes.worker import Counters

WINDOW = 10.0
"""Seconds over which rates, percentiles and drops are taken."""


class Timing:
    """What clouds took; times are steady seconds. Not for several threads at once."""

    def __init__(self) -> None:
        self._results: deque[tuple[float, float, float]] = deque(maxlen=512)
        self._late: deque[tuple[float, int, int]] = deque(maxlen=512)
        self.shedding = Shedding()
        """Of the last cloud."""

    def finished(self, now: float, age: float, total: float, shedding: Shedding) -> None:
        """A cloud was labelled: age of the result and time spent on it, seconds."""
        self._results.append((now, age, total))
        self.shedding = shedding

    def judge(self, now: float, counters: Counters, limits: DiagnosticsConfig) -> tuple[Level, str]:
        """The worst level and every reason, worst first."""
        self._late.append((now, counters.overwritten + counters.stale, counters.received))
        while self._late[0][0] < now - WINDOW:
            self._late.popleft()
        ages = [age for when, age, _ in self._results if when > now - WINDOW]
        age = float(np.percentile(ages, 95)) if ages else 0.0
        reasons = [self.shedding.judge()]
        if age > limits.error_age:
            reasons.append((Level.ERROR, f"results older than {limits.error_age:g} s"))
        elif age > limits.warn_age:
            reasons.append((Level.WARN, f"results older than {limits.warn_age:g} s"))
        if limits.warn_dropped and self._late[-1][1] > self._late[0][1]:
            reasons.append((Level.WARN, "slower than the sensor: old clouds are dropped"))
        ill = sorted((r for r in reasons if r[0] != Level.OK), key=lambda r: -r[0])
        if not ill:
            return Level.OK, "in time"
        return ill[0][0], "; ".join(message for _, message in ill)

    def values(self, now: float) -> dict[str, str]:
        """For the diagnostics."""
        recent = [result for result in self._results if result[0] > now - WINDOW]
        values = {"output Hz": f"{rate([when for when, _, _ in recent], now):.2f}"}
        for name, column in (("age", 1), ("latency", 2)):
            for percent in (50, 95):
                at = np.percentile([r[column] for r in recent], percent) if recent else np.nan
                values[f"{name} p{percent} ms"] = f"{1e3 * at:.1f}"
        return {**values, **self.shedding.values}


def rate(times: Iterable[float], now: float) -> float:
    """Events per second within the window; 0 with fewer than two."""
    recent = [when for when in times if when > now - WINDOW]
    return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 else 0.0
