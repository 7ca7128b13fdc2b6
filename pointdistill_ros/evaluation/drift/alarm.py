# SPDX-License-Identifier: Apache-2.0
"""DriftAlarm: scores of frames → OK, WARN, ALARM, with hysteresis; DriftWatch: all of it at once.

watch = DriftWatch.beside(weights_path, segmenter.weights_sha256)
verdict = watch(scan, segmentation)        # every frame; scan as the network got it

- the median of the last frames decides: some strange frames are no alarm, nor do some good ones end
  it
- a level rises at once when the median passes its limit, and falls when the median has stayed below
  a part of it for a while
One thread; no clock: what counts is frames.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from statistics import median

from pointdistill_ros.errors import ConfigError, InputError
from pointdistill_ros.evaluation.drift.gauges import read_gauges
from pointdistill_ros.evaluation.drift.reference import Drift, DriftReference, reference_path
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation


class DriftLevel(IntEnum):
    """Values as of SegmentationStats.health and of DiagnosticStatus (ALARM = ERROR)."""

    OK = 0
    WARN = 1
    ALARM = 2


@dataclass(frozen=True)
class AlarmConfig:
    """When to shout."""

    warn: float = 1.0
    """Median score that warns; 1 is what the calibration found."""
    alarm: float = 1.5
    """Median score that alarms."""
    window: int = 10
    """Frames in the median."""
    least: int = 5
    """Frames without which nothing is said."""
    release: float = 0.8
    """Part of a limit that the median must stay below …"""
    hold: int = 20
    """… for so many frames, before the level falls."""

    def __post_init__(self) -> None:
        if not 0 < self.warn <= self.alarm < math.inf:
            raise ConfigError(f"drift needs 0 < warn ≤ alarm, got {self.warn:g}, {self.alarm:g}")
        if not 1 <= self.least <= self.window:
            raise ConfigError(f"drift needs 1 ≤ least ≤ window, got {self.least}, {self.window}")
        if not 0 < self.release <= 1 or self.hold < 0:
            raise ConfigError(f"drift needs 0 < release ≤ 1 and hold ≥ 0, got {self.release:g}, "
                              f"{self.hold}")  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What is to be told after a frame."""

    level: DriftLevel
    """With hysteresis."""
    score: float
    """Of this frame; 1 = the limit."""
    median: float
    """Of the last frames, which decides."""
    reasons: tuple[str, ...] = ()
    """What was furthest off when the level rose last; empty where all is well."""

    @property
    def message(self) -> str:
        """One sentence for /diagnostics."""
        if self.level is DriftLevel.OK:
            return "scene is like the calibration's"
        return (
            f"scene is unlike the calibration's, labels are not to be trusted: "
            f"{', '.join(self.reasons)}"
        )


class DriftAlarm:
    """Level of a stream of frames."""

    def __init__(self, config: AlarmConfig | None = None) -> None:
        """Begins at OK, with no frame seen."""
        self.config = config or AlarmConfig()
        self._scores: deque[float] = deque(maxlen=self.config.window)
        self._level, self._calm = DriftLevel.OK, 0
        self._reasons: tuple[str, ...] = ()

    def update(self, drift: Drift) -> Verdict:
        """Take the drift of the next frame; one without a score (NaN) changes nothing."""
        if not math.isnan(drift.score):
            self._scores.append(drift.score)
        middle = median(self._scores) if self._scores else math.nan
        reached = self._level_of(middle) if len(self._scores) >= self.config.least else None
        if reached is not None and reached > self._level:
            self._level, self._reasons, self._calm = reached, drift.reasons, 0
        elif self._level is not DriftLevel.OK:
            self._fall(middle)
        return Verdict(self._level, drift.score, middle, self._reasons)

    def _fall(self, middle: float) -> None:
        """Lower the level where the median stayed low for long enough."""
        calm = middle < self.config.release * self._limit(self._level)
        self._calm = self._calm + 1 if calm else 0
        if self._calm > self.config.hold:
            self._level, self._calm = self._level_of(middle), 0
            if self._level is DriftLevel.OK:
                self._reasons = ()

    def _level_of(self, middle: float) -> DriftLevel:
        if middle >= self.config.alarm:
            return DriftLevel.ALARM
        return DriftLevel.WARN if middle >= self.config.warn else DriftLevel.OK

    def _limit(self, level: DriftLevel) -> float:
        return self.config.alarm if level is DriftLevel.ALARM else self.config.warn


class DriftWatch:
    """Gauges, score and alarm of a stream of labelled scans."""

    def __init__(self, reference: DriftReference, config: AlarmConfig | None = None) -> None:
        """``reference``: of the weights that label and the sensor that scans."""
        self.reference, self.alarm = reference, DriftAlarm(config)

    @classmethod
    def beside(
        cls, weights: Path, weights_sha256: str, config: AlarmConfig | None = None
    ) -> DriftWatch | None:
        """With the reference beside a checkpoint; None where there is none.

        Raises InputError where it is damaged, or was made with other weights.
        """
        path = reference_path(weights)
        return cls.read(path, weights_sha256, config) if path.is_file() else None

    @classmethod
    def read(cls, path: Path, weights_sha256: str, config: AlarmConfig | None = None) -> DriftWatch:
        """With the reference of a file.

        Raises InputError where there is none, it is damaged, or was made with other weights.
        """
        reference = DriftReference.load(path)
        if reference.weights_sha256 != weights_sha256:
            raise InputError(
                f"{path}: made with other weights ({reference.weights_sha256[:12]}, not "
                f"{weights_sha256[:12]}); run training.calibrate_drift again"
            )
        return cls(reference, config)

    def __call__(self, scan: LidarScan, result: Segmentation) -> Verdict:
        """The verdict after this frame; scan and labels as the network got and gave them."""
        return self.alarm.update(self.reference(read_gauges(scan, result)))
