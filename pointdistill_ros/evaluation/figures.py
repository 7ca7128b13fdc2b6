# SPDX-License-Identifier: Apache-2.0
"""Figures of a split: from the tallies of its scans to what tables, JSON and reports show."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.bootstrap import by_scene, interval, too_few
from pointdistill_ros.evaluation.calibration import Reliability
from pointdistill_ros.evaluation.confusion import (
    ConfusionMatrix,
    iou_per_class,
    mean_over,
    overall_accuracy,
)
from pointdistill_ros.evaluation.distance import EDGES, band_name
from pointdistill_ros.evaluation.tally import ScanTally
from pointdistill_ros.labels import LabelSet

MIN_POINTS = 100
"""Classes with fewer true points do not enter a mean, by default."""


class Figures:
    """Everything that is said about one labelling of one split."""

    def __init__(
        self, tallies: Sequence[ScanTally], label_set: LabelSet, min_points: int = MIN_POINTS
    ) -> None:
        """Tallies of at least one scan, in ``label_set``. Raises InputError without any."""
        if not tallies:
            raise InputError("no scans to judge")
        self.tallies, self.label_set, self.min_points = tallies, label_set, min_points
        self.bands = np.sum([t.bands for t in tallies], axis=0)
        """[bands, C, C + 1] confusion per distance band."""
        self.matrix = ConfusionMatrix(len(label_set), self.bands.sum(axis=0))
        self.reliability = Reliability(np.sum([t.reliability for t in tallies], axis=0))

    @cached_property
    def sequences(self) -> tuple[str, ...]:
        """Drives, in order."""
        return tuple(dict.fromkeys(t.sequence for t in self.tallies))

    @property
    def miou(self) -> float:
        """Mean IoU of the classes with at least ``min_points``."""
        return self.matrix.miou(self.min_points)

    @property
    def accuracy(self) -> float:
        """Share of right points."""
        return self.matrix.accuracy()

    def of_sequence(self, sequence: str) -> Figures:
        """The figures of one drive."""
        tallies = [t for t in self.tallies if t.sequence == sequence]
        return Figures(tallies, self.label_set, self.min_points)

    def left_out(self) -> dict[str, int]:
        """True points of the classes that do not enter the means, by name."""
        counted, points = self.matrix.present(self.min_points), self.matrix.points()
        return {
            name: int(points[i]) for i, name in enumerate(self.label_set.names) if not counted[i]
        }

    @cached_property
    def _scenes(self) -> NDArray[np.int64]:
        return by_scene([t.counts for t in self.tallies], [t.sequence for t in self.tallies])

    @cached_property
    def intervals(self) -> dict[str, NDArray[np.float64]]:
        """95 % intervals over drives: ``miou`` and ``accuracy`` [2], ``iou`` [2, C]."""
        counted = self.matrix.present(self.min_points)
        return {
            "miou": interval(self._scenes, lambda c: mean_over(iou_per_class(c), counted)),
            "accuracy": interval(self._scenes, overall_accuracy),
            "iou": interval(self._scenes, iou_per_class),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain data, shares as floats with four digits, None where there is no figure."""
        matrix, ends = self.matrix, self.intervals
        points, predicted = matrix.points(), matrix.counts.sum(axis=0)
        iou, right = matrix.iou(), matrix.class_accuracy()
        return {
            "label_set": self.label_set.name,
            "scans": len(self.tallies),
            "sequences": len(self.sequences),
            "points": int(points.sum()),
            "accuracy": _short(self.accuracy),
            "mean_accuracy": _short(matrix.mean_class_accuracy(self.min_points)),
            "miou": _short(self.miou),
            "miou_all": _short(matrix.miou_of_all()),
            "fw_iou": _short(matrix.frequency_weighted_iou()),
            "ece": _short(self.reliability.error()),
            "seconds_per_scan": round(float(np.mean([t.seconds for t in self.tallies])), 3),
            "voxels_per_scan": round(float(np.mean([t.voxels for t in self.tallies]))),
            "min_points": self.min_points,
            "left_out": self.left_out(),
            "classes": {
                name: {
                    "points": int(points[i]),
                    "predicted": int(predicted[i]),
                    "iou": _short(iou[i]),
                    "accuracy": _short(right[i]),
                    "interval": [_short(end) for end in ends["iou"][:, i]],
                }
                for i, name in enumerate(self.label_set.names)
                if points[i]
            },
            "intervals": {key: [_short(v) for v in ends[key]] for key in ("miou", "accuracy")},
            "no_intervals": too_few(len(self.sequences)),
            "distance": self._by_distance(),
            "reliability": [
                {"points": int(p), "confidence": _short(c), "accuracy": _short(a)}
                for p, c, a in zip(
                    self.reliability.points,
                    self.reliability.confidence(),
                    self.reliability.accuracy(),
                    strict=True,
                )
            ],
            "confusion": matrix.counts.tolist(),
        }

    def _by_distance(self) -> list[dict[str, Any]]:
        rows = []
        for band, counts in enumerate(self.bands):
            part = ConfusionMatrix(len(self.label_set), counts)
            rows.append(
                {
                    "band": band_name(band),
                    "from": EDGES[band],
                    "points": int(part.points().sum()),
                    "accuracy": _short(part.accuracy()),
                    "mean_accuracy": _short(part.mean_class_accuracy(self.min_points)),
                    "miou": _short(part.miou(self.min_points)),
                    "classes": int(part.present(self.min_points).sum()),
                }
            )
        return rows


def _short(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
