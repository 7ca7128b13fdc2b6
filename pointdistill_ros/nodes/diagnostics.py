# SPDX-License-Identifier: Apache-2.0
"""Health of a node: what it saw lately → three statuses (model, input, timing) → DiagnosticArray.

Times are steady seconds (time.monotonic): a paused or foreign ROS clock must not hide a silent
sensor. Not here: how timing is judged (timing.py), levels and their hysteresis (status.py).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from pointdistill_ros.config import DiagnosticsConfig
from pointdistill_ros.errors import PointDistillError
from pointdistill_ros.nodes.age import Arrival
from pointdistill_ros.nodes.shedding import Shedding
from pointdistill_ros.nodes.status import Held, Level, Status
from pointdistill_ros.nodes.timing import Timing, rate
from pointdistill_ros.nodes.worker import Counters
from pointdistill_ros.scan import LidarScan

PERIODS, MARGIN = 2.0, 0.05
"""A sensor is late after this many of its periods, plus this many seconds."""
OLD_IN_A_ROW = 3
"""So many clouds one after the other come in too old before the clocks are blamed."""

SAMPLE = 64
"""Intensities are judged by every 64th point."""


class Health:
    """Collects events from any thread; ``statuses`` is for one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._held = {"model": Held(), "input": Held(), "timing": Held()}
        self._model: dict[str, str] = {}
        self._model_fault = ""
        self._network_fault = ""
        self._summary = (0, "")
        self._active_since: float | None = None
        self._forget()

    def _forget(self) -> None:
        self._arrivals: deque[float] = deque(maxlen=512)
        self._stamps = "none seen"
        self._old_in_a_row, self._old, self._unheard, self._idle = 0, 0.0, 0, False
        self._timing = Timing()
        self._bad_in_a_row = 0
        self._bad_reason = self._incompatible = self._doubt = ""
        self._cloud: dict[str, str] = {}

    @property
    def summary(self) -> tuple[int, str]:
        """Worst level of the last ``statuses`` as 0, 1, 2 and its messages.

        Load shedding is that of the last cloud, even if ``statuses`` has not seen it yet.
        """
        with self._lock:
            worst, reasons = self._summary
            shedding = self._timing.shedding
        level, reason = shedding.judge()
        if shedding.step not in reasons:
            reasons = "; ".join(filter(None, (f"timing: {reason}", reasons)))
        return max(worst, int(level)), reasons

    @property
    def active(self) -> bool:
        """Whether clouds are expected."""
        return self._active_since is not None

    def loaded(self, facts: dict[str, str]) -> None:
        """The model is ready; ``facts`` are shown with its status."""
        with self._lock:
            self._model, self._model_fault, self._network_fault = facts, "", ""

    def runs(self, engine: str) -> None:
        """What computes at present: it may be another way while device memory is short."""
        with self._lock:
            if self._model:
                self._model = {**self._model, "engine": engine}

    def unloaded(self, fault: str = "") -> None:
        """There is no model, because of ``fault`` or on purpose."""
        with self._lock:
            self._model, self._model_fault = {}, fault

    def activated(self) -> None:
        """From now on clouds are expected; what was seen before is forgotten."""
        with self._lock:
            self._forget()
            self._active_since = self._clock()

    def deactivated(self) -> None:
        """No clouds are expected."""
        with self._lock:
            self._active_since = None

    def arrived(self, *, heard: bool = True) -> None:
        """A cloud came in; it is not labelled where nobody listens."""
        with self._lock:
            self._arrivals.append(self._clock())
            self._idle = not heard
            self._unheard += not heard

    def stamped(self, arrival: Arrival, max_age: float) -> None:
        """How old the cloud that came in was; ``max_age`` seconds are too old, 0 = never."""
        with self._lock:
            self._stamps = "of another clock" if arrival.foreign else "of this clock"
            too_old = bool(max_age) and arrival.age > max_age
            self._old_in_a_row = self._old_in_a_row + 1 if too_old else 0
            self._old = arrival.age

    def incompatible(self, policy: str) -> None:
        """A publisher offers a QoS ``policy`` that the subscription cannot accept."""
        with self._lock:
            self._incompatible = policy

    def described(self, facts: dict[str, str], doubt: str = "") -> None:
        """What the last readable cloud looked like, and why its labels may be wrong."""
        with self._lock:
            self._cloud, self._doubt = facts, doubt

    def finished(self, age: float, total: float, shedding: Shedding) -> None:
        """A cloud was labelled: age of the result and time spent on it, seconds."""
        with self._lock:
            self._timing.finished(self._clock(), age, total, shedding)
            self._bad_in_a_row, self._network_fault = 0, ""

    def refused(self, error: Exception) -> None:
        """A cloud got no labels: it is bad (PointDistillError), or the network failed."""
        reason = f"{error}" if str(error) else type(error).__name__
        with self._lock:
            if isinstance(error, PointDistillError):
                self._bad_in_a_row += 1
                self._bad_reason = reason
            else:
                self._network_fault = f"{type(error).__name__}: {reason}"

    def statuses(
        self,
        counters: Counters,
        publishers: int,
        limits: DiagnosticsConfig,
        skipped: int = 0,
        *also: Status,
    ) -> list[Status]:
        """The three statuses as of now, and those that others judged.

        ``skipped``: clouds left out to keep the pace.
        """
        with self._lock:
            now = self._clock()
            statuses = [
                self._status("model", *self._judge_model(), self._model, now),
                self._status("input", *self._judge_input(now, publishers, limits), {
                    "publishers": str(publishers),
                    "input Hz": f"{rate(self._arrivals, now):.2f}",
                    "stamps": self._stamps,
                    "last bad cloud": self._bad_reason or "none",
                    **self._cloud,
                }, now),
                self._status("timing", *self._judge_timing(now, counters, limits), {
                    **self._timing.values(now),
                    "skipped on purpose": str(skipped),
                    "skipped, nobody listens": str(self._unheard),
                    "received": str(counters.received),
                    "processed": str(counters.processed),
                    "dropped: overwritten": str(counters.overwritten),
                    "dropped: stale": str(counters.stale),
                    "dropped: invalid": str(counters.invalid),
                    "dropped: failed": str(counters.failed),
                }, now),
                *also,
            ]  # fmt: skip
            ill = [s for s in statuses if s.level != Level.OK]
            worst = min(max((s.level for s in ill), default=Level.OK), Level.ERROR)
            self._summary = int(worst), "; ".join(f"{s.name}: {s.message}" for s in ill)
        return statuses

    def _status(
        self, name: str, level: Level, message: str, values: dict[str, str], now: float
    ) -> Status:
        return Status(name, *self._held[name](level, message, now), dict(values))

    def _judge_model(self) -> tuple[Level, str]:
        if self._model_fault:
            return Level.ERROR, self._model_fault
        if not self._model:
            return Level.STALE, "not loaded"
        if self._network_fault:
            return Level.ERROR, f"failed on the last cloud: {self._network_fault}"
        return Level.OK, "loaded"

    def _judge_input(
        self, now: float, publishers: int, limits: DiagnosticsConfig
    ) -> tuple[Level, str]:
        if self._active_since is None:
            return Level.STALE, "not active"
        source = "publisher present" if publishers else "no publisher"
        if not self._arrivals:
            if self._incompatible:
                return Level.ERROR, f"publisher with incompatible QoS: {self._incompatible}"
            if now - self._active_since < limits.silent_after:
                return Level.OK, "waiting for the first cloud"
            if publishers:
                return Level.WARN, (
                    "publisher present, no data: large best-effort clouds need larger DDS buffers, "
                    "see config/fastdds_large_clouds.xml"
                )
            return Level.WARN, "no publisher"
        silence = now - self._arrivals[-1]
        if silence > limits.silent_after:
            return Level.ERROR, f"no cloud for over {limits.silent_after:g} s, {source}"
        period = _period(self._arrivals)
        if period and silence > PERIODS * period + MARGIN:
            return Level.WARN, f"cloud late: the sensor's period is {period:.2f} s, {source}"
        if self._old_in_a_row >= OLD_IN_A_ROW:
            return Level.ERROR, (
                f"clouds come in {self._old:.2g} s old, older than input.max_age: the clocks of "
                "driver and node differ, or a bag plays without /clock"
            )
        if self._bad_in_a_row:
            level = Level.WARN if self._bad_in_a_row < 3 else Level.ERROR
            return level, f"bad cloud: {self._bad_reason}"
        return (Level.WARN, self._doubt) if self._doubt else (Level.OK, "receiving")

    def _judge_timing(
        self, now: float, counters: Counters, limits: DiagnosticsConfig
    ) -> tuple[Level, str]:
        if self._active_since is None:
            return Level.STALE, "not active"
        if self._idle:
            return Level.OK, "nobody listens: clouds are not labelled"
        return self._timing.judge(now, counters, limits)


def cloud_facts(cloud: Any, scan: LidarScan) -> dict[str, str]:
    """What the diagnostics show of a cloud; quantiles from every SAMPLE-th point."""
    facts = {
        "frame": cloud.header.frame_id,
        "points": f"{cloud.height} x {cloud.width}",
        "fields": " ".join(f"{field.name}@{field.offset}" for field in cloud.fields),
    }
    if scan.intensity is not None and len(scan):
        low, middle, high = np.quantile(scan.intensity[::SAMPLE], (0.05, 0.5, 0.95))
        facts["intensity p5 p50 p95"] = f"{low:.3f} {middle:.3f} {high:.3f}"
    return facts


def _period(times: Iterable[float]) -> float:
    """Median distance of the last 20 events, seconds; 0 with fewer than 3."""
    last = list(times)[-20:]
    return float(np.median(np.diff(last))) if len(last) > 2 else 0.0
