# SPDX-License-Identifier: Apache-2.0
"""CloudBudget: the node's time for a cloud, of which the segmenter gets what the rest leaves.

``model.max_latency_ms`` runs from taking a cloud to having published its labels; the segmenter's
own budget only from scan to labels. The rest, decoding and publishing, is a median of recent
clouds: one slow cloud changes nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import nan
from statistics import median

from pointdistill_ros.nodes.model import SegmenterLike
from pointdistill_ros.nodes.status import Level

RECENT = 5
"""Clouds in the median of decoding and publishing."""
LEAST_MS = 1e-3
"""What the segmenter gets where decoding and publishing alone take all the time."""


@dataclass(frozen=True)
class Shedding:
    """What the budget did with one cloud."""

    limit_ms: float = 0.0
    """From taking the cloud to having published its labels; 0 = no limit."""
    expected_ms: float = nan
    """What the chosen step was expected to take, all of it; NaN before the first measure."""
    step: str = ""
    """What was taken away, a name of ``model.degradation.LADDER``; empty for nothing."""
    exhausted: bool = False
    """Even the last step is not expected to fit."""

    def judge(self) -> tuple[Level, str]:
        """How bad it is, and why; OK says nothing."""
        if self.exhausted:
            expected = float(f"{self.expected_ms:.2g}")  # two digits: told again only if it matters
            return Level.ERROR, (
                f"cannot stay within {self.limit_ms:g} ms, {expected:g} ms expected even with "
                f"{self.step}"
            )
        if self.step:
            return Level.WARN, f"sheds load to stay within {self.limit_ms:g} ms: {self.step}"
        return Level.OK, ""

    @property
    def values(self) -> dict[str, str]:
        """For the diagnostics."""
        return {
            "degradation": self.step or "none",
            "latency budget ms": f"{self.limit_ms:g}" if self.limit_ms else "off",
            "predicted ms": f"{self.expected_ms:.1f}",
        }


class CloudBudget:
    """Per cloud ``begin`` before it is segmented and ``end`` after it was published; one thread."""

    def __init__(self, segmenter: SegmenterLike) -> None:
        self._segmenter = segmenter
        self._rests: deque[float] = deque(maxlen=RECENT)
        self._limit = self._rest = 0.0

    def begin(self, max_latency_ms: float) -> None:
        """Give the segmenter its share of the time for this cloud; 0 = no limit."""
        self._limit = max_latency_ms
        self._rest = median(self._rests) if self._rests else 0.0
        share = max(max_latency_ms - self._rest, LEAST_MS) if max_latency_ms else 0.0
        self._segmenter.max_latency_ms = share

    def end(self, rest: float) -> Shedding:
        """What was done with this cloud. rest: seconds it took beside the segmenter."""
        self._rests.append(1e3 * rest)
        budget = self._segmenter.budget
        if budget is None:
            return Shedding(self._limit)
        return Shedding(
            self._limit,
            budget.predicted_ms + self._rest if budget.predicted_ms else nan,
            budget.degradation.name if budget.degradation.step else "",
            budget.exhausted,
        )
