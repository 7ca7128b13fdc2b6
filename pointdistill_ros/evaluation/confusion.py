# SPDX-License-Identifier: Apache-2.0
"""Confusion matrix over raw points: accuracy, IoU and mIoU exactly as benchmarks count them.

- one matrix for a whole split; points without a true class are left out
- a point predicted as unlabelled is a miss of its true class, never a hit of another
- the figures are functions of counts [..., C, C + 1], so that many matrices (distance bands,
  bootstrap samples) are judged at once
Not here: averaging over scans. Scores of scans are not scores of a split.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import LabelError
from pointdistill_ros.labels import UNLABELLED

Counts = NDArray[np.int64]
"""[..., C, C + 1] rows = truth, columns = prediction, column C = unlabelled."""
Scores = NDArray[np.float64]


def count(labels: NDArray[np.uint8], truth: NDArray[np.uint8], num_classes: int) -> Counts:
    """[C, C + 1] matrix of predicted and true train ids [N]; truth 255 is ignored.

    Raises LabelError on different lengths or ids that are neither a class nor 255.
    """
    if labels.shape != truth.shape:
        raise LabelError(f"{labels.shape} predictions for {truth.shape} true labels")
    for what, ids in (("predicted", labels), ("true", truth)):
        if ((ids >= num_classes) & (ids != UNLABELLED)).any():
            raise LabelError(f"a {what} label is not below {num_classes} and not {UNLABELLED}")
    known = truth != UNLABELLED
    rows = truth[known].astype(np.int64)
    columns = np.minimum(labels[known], num_classes).astype(np.int64)  # 255 → column C
    shape = (num_classes, num_classes + 1)
    cells = np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1])
    return cells.reshape(shape).astype(np.int64)


def true_points(counts: NDArray[Any]) -> NDArray[Any]:
    """[..., C] true points per class."""
    return np.asarray(counts.sum(axis=-1))


def iou_per_class(counts: NDArray[Any]) -> Scores:
    """[..., C] hits / (true + predicted − hits); NaN for a class neither true nor predicted."""
    classes = counts.shape[-2]
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    return _ratio(hits, true_points(counts) + counts[..., :classes].sum(axis=-2) - hits)


def accuracy_per_class(counts: NDArray[Any]) -> Scores:
    """[..., C] hits / true points (recall); NaN without true points."""
    return _ratio(np.diagonal(counts, axis1=-2, axis2=-1), true_points(counts))


def overall_accuracy(counts: NDArray[Any]) -> Scores:
    """[...] share of labelled points with the right class; NaN without points."""
    return _ratio(np.trace(counts, axis1=-2, axis2=-1), counts.sum(axis=(-2, -1)))


def frequency_weighted_iou(counts: NDArray[Any]) -> Scores:
    """[...] IoU of the classes, weighted by their true points; NaN without points."""
    points = true_points(counts)
    weighted = np.where(points > 0, points * np.nan_to_num(iou_per_class(counts)), 0.0)
    return _ratio(weighted.sum(axis=-1), points.sum(axis=-1))


def mean_over(scores: Scores, classes: NDArray[np.bool_]) -> Scores:
    """[...] mean of scores [..., C] over ``classes`` [C] that have one; NaN where none has."""
    known = np.isfinite(scores) & classes
    return _ratio(np.where(known, scores, 0.0).sum(axis=-1), known.sum(axis=-1))


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Scores:
    ratio = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=ratio, where=np.asarray(whole) > 0)
    return ratio


class ConfusionMatrix:
    """Counts of (true class, predicted class) pairs; the last column counts "predicted nothing"."""

    def __init__(self, num_classes: int, counts: Counts | None = None) -> None:
        """counts: int64 [C, C + 1] to begin with, default none."""
        self.num_classes = num_classes
        self.counts = np.zeros((num_classes, num_classes + 1), np.int64)
        if counts is not None:
            self.counts += counts

    def update(self, labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Add points; see ``count``. Raises LabelError."""
        self.counts += count(labels, truth, self.num_classes)

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """The matrix of both splits together."""
        return ConfusionMatrix(self.num_classes, self.counts + other.counts)

    def points(self) -> NDArray[np.int64]:
        """[C] true points per class."""
        return true_points(self.counts)

    def present(self, min_points: int = 1) -> NDArray[np.bool_]:
        """[C] True where a class has at least ``min_points`` (and at least one) true points."""
        return np.asarray(self.points() >= max(min_points, 1))

    def iou(self) -> Scores:
        """[C] see ``iou_per_class``."""
        return iou_per_class(self.counts)

    def class_accuracy(self) -> Scores:
        """[C] see ``accuracy_per_class``."""
        return accuracy_per_class(self.counts)

    def accuracy(self) -> float:
        """Share of labelled points with the right class; NaN without points."""
        return float(overall_accuracy(self.counts))

    def miou(self, min_points: int = 0) -> float:
        """Mean IoU over the classes with at least ``min_points`` (and at least one) true points."""
        return float(mean_over(self.iou(), self.present(min_points)))

    def miou_of_all(self) -> float:
        """Mean IoU over all classes of the label set, 0 for those without points.

        What public code prints; it depends on which classes a split happens to show.
        """
        return float(np.nan_to_num(self.iou()).mean())

    def mean_class_accuracy(self, min_points: int = 0) -> float:
        """Mean share of right points over the classes that ``miou`` counts."""
        return float(mean_over(self.class_accuracy(), self.present(min_points)))

    def frequency_weighted_iou(self) -> float:
        """Mean IoU weighted by true points."""
        return float(frequency_weighted_iou(self.counts))

    def share(self, truth: int, predicted: int) -> float:
        """Share of the true points of one class that were called another; NaN without any."""
        points = int(self.points()[truth])
        return float(self.counts[truth, predicted] / points) if points else float("nan")
