# SPDX-License-Identifier: Apache-2.0
"""Confusion matrix over raw points: accuracy, IoU and mIoU exactly as benchmarks count them.

- one matrix for a whole split; points without a true class are left out
- a point predicted as unlabelled is a miss of its true class, never a hit of another
Not here: averaging over scans. Scores of scans are not scores of a split.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import LabelError
from pointdistill_ros.labels import UNLABELLED


class ConfusionMatrix:
    """Counts of (true class, predicted class) pairs; the last column counts "predicted nothing"."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts: NDArray[np.int64] = np.zeros((num_classes, num_classes + 1), np.int64)
        """[C, C + 1] rows = truth, columns = prediction, column C = unlabelled."""

    def update(self, labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Add points: predicted and true train ids [N], truth 255 is ignored.

        Raises LabelError on different lengths or ids that are neither a class nor 255.
        """
        if labels.shape != truth.shape:
            raise LabelError(f"{labels.shape} predictions for {truth.shape} true labels")
        classes = self.num_classes
        for what, ids in (("predicted", labels), ("true", truth)):
            if ((ids >= classes) & (ids != UNLABELLED)).any():
                raise LabelError(f"a {what} label is not below {classes} and not {UNLABELLED}")
        known = truth != UNLABELLED
        rows = truth[known].astype(np.int64)
        columns = np.minimum(labels[known], classes).astype(np.int64)  # 255 → column C
        cells = np.bincount(rows * (classes + 1) + columns, minlength=self.counts.size)
        self.counts += cells.reshape(self.counts.shape)

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """The matrix of both splits together."""
        total = ConfusionMatrix(self.num_classes)
        total.counts = self.counts + other.counts
        return total

    def points(self) -> NDArray[np.int64]:
        """[C] true points per class."""
        return np.asarray(self.counts.sum(axis=1), np.int64)

    def iou(self) -> NDArray[np.float64]:
        """[C] hits / (true + predicted − hits); NaN for a class neither true nor predicted."""
        hits = np.diagonal(self.counts).astype(np.float64)
        union = self.points() + self.counts[:, : self.num_classes].sum(axis=0) - hits
        iou = np.full(self.num_classes, np.nan)
        np.divide(hits, union, out=iou, where=union > 0)
        return iou

    def accuracy(self) -> float:
        """Share of labelled points with the right class; NaN without points."""
        total = int(self.counts.sum())
        return float(np.trace(self.counts) / total) if total else float("nan")

    def miou(self, min_points: int = 0) -> float:
        """Mean IoU over the classes with at least ``min_points`` (and at least one) true points."""
        present = self.points() >= max(min_points, 1)
        return float(self.iou()[present].mean()) if present.any() else float("nan")
