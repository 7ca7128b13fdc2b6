# SPDX-License-Identifier: Apache-2.0
"""Health of a comparison → three statuses (student, teacher, agreement).

Times are steady seconds, as in diagnostics.py. One thread.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from math import nan

import numpy as np

from pointdistill_ros.evaluation.distance import band_name
from pointdistill_ros.labels import UNLABELLED, LabelSet
from pointdistill_ros.nodes.comparator import Comparison
from pointdistill_ros.nodes.comparison_config import AlarmConfig
from pointdistill_ros.nodes.pairing import SIDES, PairingCounters, Side
from pointdistill_ros.nodes.status import Held, Level, Status
from pointdistill_ros.nodes.timing import rate


class Alarm:
    """Level of a share that should be high, with hysteresis in the share itself."""

    def __init__(self) -> None:
        self.level = Level.OK

    def __call__(self, share: float, limits: AlarmConfig) -> Level:
        """The level after one more value; NaN changes nothing."""
        if share == share:  # noqa: PLR0124 - not NaN
            extra = limits.hysteresis
            error_below = limits.error_below + (extra if self.level >= Level.ERROR else 0)
            warn_below = limits.warn_below + (extra if self.level >= Level.WARN else 0)
            self.level = (
                Level.ERROR
                if share < error_below
                else Level.WARN
                if share < warn_below
                else Level.OK
            )
        return self.level


class ComparisonHealth:
    """Collects what happens; ``statuses`` judges it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held = {name: Held() for name in (*SIDES, "agreement")}
        self._active_since: float | None = None
        self._forget()

    def _forget(self) -> None:
        self._arrivals: dict[Side, deque[float]] = {side: deque(maxlen=256) for side in SIDES}
        self._ages: dict[Side, deque[float]] = {side: deque(maxlen=50) for side in SIDES}
        self._bad: dict[Side, str] = dict.fromkeys(SIDES, "")
        self._invalid: dict[Side, int] = dict.fromkeys(SIDES, 0)
        self._who: dict[Side, dict[str, str]] = {side: {} for side in SIDES}
        self._fault = ""
        self._incomparable = 0
        self._compared_at: float | None = None
        self._last: Comparison | None = None
        self._alarm = Alarm()

    def activated(self) -> None:
        """From now on clouds are expected; what was seen before is forgotten."""
        self._forget()
        self._active_since = self._clock()

    def deactivated(self) -> None:
        """No clouds are expected."""
        self._active_since = None

    def introduced(self, side: Side, model_id: str, label_set: LabelSet) -> None:
        """A side's model is known."""
        self._who[side] = {"model": model_id, "label set": label_set.name}

    def arrived(self, side: Side, age: float) -> None:
        """A readable labelled cloud came in; age in seconds, NaN where unknown."""
        self._arrivals[side].append(self._clock())
        self._ages[side].append(age)
        self._bad[side] = ""

    def refused(self, side: Side, reason: str) -> None:
        """A cloud holds no labels that could be read."""
        self._arrivals[side].append(self._clock())
        self._bad[side] = reason
        self._invalid[side] += 1

    def incomparable(self, reason: str) -> None:
        """Two clouds of one stamp could not be compared."""
        self._fault = reason
        self._incomparable += 1

    def compared(self, comparison: Comparison, limits: AlarmConfig, window: int) -> Level:
        """A cloud was compared; ``window``: clouds of a full window. Returns the alarm's level."""
        self._fault, self._last, self._compared_at = "", comparison, self._clock()
        if comparison.clouds >= min(limits.min_clouds, window):
            self._alarm(comparison.window.agreement, limits)
        return self._alarm.level

    def statuses(
        self,
        counters: Mapping[Side, PairingCounters],
        publishers: Mapping[Side, int],
        limits: AlarmConfig,
    ) -> list[Status]:
        """The three statuses as of now."""
        now = self._clock()
        statuses = [
            self._status(side, *self._judge_side(side, publishers[side], limits, now), {
                **self._who[side],
                "publishers": str(publishers[side]),
                "input Hz": f"{rate(self._arrivals[side], now):.2f}",
                **_percentiles(self._ages[side]),
                "received": str(counters[side].received),
                "paired": str(counters[side].paired),
                "waiting": str(counters[side].waiting),
                "without partner": str(counters[side].expired),
                "repeated": str(counters[side].repeated),
                "invalid": str(self._invalid[side]),
            }, now)
            for side in SIDES
        ]  # fmt: skip
        values = {"incomparable": str(self._incomparable)}
        if self._last is not None:
            values |= _figures(self._last)
        statuses.append(self._status("agreement", *self._judge(limits, now), values, now))
        return statuses

    def _status(
        self, name: str, level: Level, message: str, values: dict[str, str], now: float
    ) -> Status:
        return Status(name, *self._held[name](level, message, now), values)

    def _judge_side(
        self, side: Side, publishers: int, limits: AlarmConfig, now: float
    ) -> tuple[Level, str]:
        if self._active_since is None:
            return Level.STALE, "not active"
        limit = _silent_after(side, limits)
        source = "publisher present" if publishers else "no publisher"
        if not self._arrivals[side]:
            if now - self._active_since < limit:
                return Level.OK, "waiting for the first labels"
            return Level.WARN, f"no labels yet, {source}"
        if now - self._arrivals[side][-1] > limit:
            level = Level.ERROR if side == "student" else Level.WARN
            return level, f"no labels for over {limit:g} s, {source}"
        if self._bad[side]:
            return Level.WARN, f"bad cloud: {self._bad[side]}"
        return Level.OK, "receiving"

    def _judge(self, limits: AlarmConfig, now: float) -> tuple[Level, str]:
        if self._active_since is None:
            return Level.STALE, "not active"
        if self._fault:
            return Level.ERROR, f"cannot compare: {self._fault}"
        patience = max(limits.student_silent_after, limits.teacher_silent_after)
        if self._compared_at is None:
            both = all(self._arrivals[side] for side in SIDES)
            if both and now - max(self._arrivals[side][0] for side in SIDES) > patience:
                return Level.WARN, (
                    "student and teacher label no cloud of the same stamp: do both read the same "
                    "topic, and is pairing.depth enough for how late the slower one is?"
                )
            return Level.OK, "waiting for a cloud with labels of both"
        if now - self._compared_at > patience:
            return Level.STALE, f"no cloud with labels of both for over {patience:g} s"
        if self._alarm.level == Level.OK:
            return Level.OK, "student and teacher agree"
        error = self._alarm.level == Level.ERROR
        limit = limits.error_below if error else limits.warn_below
        return self._alarm.level, f"student and teacher agree on less than {100 * limit:g} %"


def _silent_after(side: Side, limits: AlarmConfig) -> float:
    return limits.student_silent_after if side == "student" else limits.teacher_silent_after


def _percentiles(ages: deque[float]) -> dict[str, str]:
    known = [age for age in ages if age == age]  # noqa: PLR0124 - not NaN
    return {
        f"age p{percent} ms": f"{1e3 * (np.percentile(known, percent) if known else nan):.1f}"
        for percent in (50, 95)
    }


def _figures(comparison: Comparison) -> dict[str, str]:
    """The window, for people."""
    window, names = comparison.window, comparison.student.label_set.names
    values = {
        "agreement": f"{window.agreement:.4f}",
        "mean IoU of the labellings": f"{window.mean_iou:.4f}",
        "divergence, bits": f"{window.divergence:.4f}",
        "clouds": str(comparison.clouds),
        "points": str(window.points),
        "teacher later by ms": f"{1e3 * comparison.window_times.lag:.1f}",
    }
    for band, share in enumerate(window.agreement_by_band):
        values[f"agreement {band_name(band)}"] = f"{share:.4f}"
    for student, teacher, points in window.greatest_differences(3):
        said, meant = ("unlabelled" if i == UNLABELLED else names[i] for i in (student, teacher))
        values[f"student {said}, teacher {meant}"] = f"{points / window.points:.4f}"
    return values
