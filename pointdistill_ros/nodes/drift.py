# SPDX-License-Identifier: Apache-2.0
"""DriftMonitor: how far clouds are from what is usual; measured in one thread, told in another.

Scores, limits and hysteresis: evaluation/drift. Not measured unless a reference is named: it
belongs to weights and sensor, and costs some 5 % of the network's time.
"""

from __future__ import annotations

from pathlib import Path

from pointdistill_ros.config import DriftConfig, ModelConfig
from pointdistill_ros.evaluation.drift.alarm import AlarmConfig, DriftAlarm, DriftWatch, Verdict
from pointdistill_ros.evaluation.drift.reference import reference_path
from pointdistill_ros.nodes.status import Level, Status
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation

AUTO = "auto"


class DriftMonitor:
    """Drift of the clouds of one lidar."""

    def __init__(self, watch: DriftWatch) -> None:
        self._watch = watch
        self._verdict: Verdict | None = None

    @classmethod
    def open(
        cls, drift: DriftConfig, model: ModelConfig, weights_sha256: str
    ) -> DriftMonitor | None:
        """As the parameters say; None where drift is not to be measured.

        Raises InputError where the reference is missing, damaged or of other weights.
        """
        if not drift.reference:
            return None
        return cls(DriftWatch.read(_path(drift.reference, model), weights_sha256))

    def forget(self) -> None:
        """What was seen before counts no more."""
        self._watch.alarm, self._verdict = DriftAlarm(), None

    def measure(self, seen: LidarScan, segmentation: Segmentation, limits: DriftConfig) -> float:
        """Score of a cloud as the network saw it, with the network's own classes."""
        self._watch.alarm.config = AlarmConfig(limits.warn, limits.alarm)
        self._verdict = self._watch(seen, segmentation)
        return self._verdict.score

    def status(self, active: bool) -> Status:
        """A line for /diagnostics; any thread."""
        verdict, reference = self._verdict, self._watch.reference
        values = {"reference": f"{reference.places} places: {reference.data}"}
        if not active:
            return Status("drift", Level.STALE, "not active", values)
        if verdict is None:
            return Status("drift", Level.OK, "no cloud measured yet", values)
        values = {
            "score": f"{verdict.score:.2f}",
            "median of the last clouds": f"{verdict.median:.2f}",
            **values,
        }
        return Status("drift", Level(int(verdict.level)), verdict.message, values)


def _path(reference: str, model: ModelConfig) -> Path:
    if reference != AUTO:
        return Path(reference)
    from pointdistill_ros.checkpoint import find_weights  # imports torch, which takes seconds

    return reference_path(find_weights(model.path))
