# SPDX-License-Identifier: Apache-2.0
"""Labels for scans that nobody labelled: a network under test-time augmentation, and a filter.

- SoftLabeller: class probabilities of one network or several, averaged over turned and scaled
  views of a scan, one pass per view; with ``every_point`` the passes of protocols P2 and P3
- Thresholds: one confidence for all classes and, beside it, the surest share of each class, so that
  rare classes survive; thresholds per class after Zou et al., ECCV 2018 (class-balanced
  self-training)
- top_classes, dense: probabilities as float16 of the k likeliest classes, and back
Files and folders: pseudo_files.py. Command: pseudo_label.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.labels import UNLABELLED
from pointdistill_ros.model.voxels import canonical_points, voxelise
from pointdistill_ros.protocols.fragments import fragments, sub_sample
from pointdistill_ros.protocols.softmax import VoxelSoftmax, voxel_softmax
from pointdistill_ros.protocols.views import PLAIN, SCALES_AND_FLIPS, View
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmenter import Segmenter

VIEWS: dict[int, tuple[View, ...]] = {
    1: PLAIN,
    4: (View(), View(1, 0.9), View(2, 1.1), View(3)),
    10: SCALES_AND_FLIPS,
}
"""Test-time augmentation by number of views. Scales are worth more than turns and than every point:
four scans of SemanticKITTI 07 and 10, one student, mean mIoU and CPU seconds a scan: 1 view 0.556,
0.5; four turns 0.581, 1.7; the 4 here 0.593, 2.0; the 10 here 0.597, 4.3; P3 0.579, 15.8. The 4
were the best of 11 sets on these very scans: their own figure is optimistic."""


@dataclass(frozen=True, eq=False)
class SoftLabels:
    """Class probabilities of the points of one scan; points of one cell share a row."""

    row: NDArray[np.int32]
    """[N] row of ``probability``, −1 = no label (not finite, out of reach)."""
    probability: NDArray[np.float32]
    """[n, C], rows sum to 1."""

    def labels(self) -> NDArray[np.uint8]:
        """[N] likeliest class, 255 = none."""
        best = self.probability.argmax(axis=1).astype(np.uint8)
        return np.append(best, np.uint8(UNLABELLED))[self.row]

    def confidence(self) -> NDArray[np.uint8]:
        """[N] largest probability in 0..100, rounded down; 0 where there is no label."""
        largest = np.floor(100 * np.minimum(self.probability.max(axis=1), 1)).astype(np.uint8)
        return np.append(largest, np.uint8(0))[self.row]


class SoftLabeller:
    """Scan → class probabilities, averaged over networks and views."""

    def __init__(
        self,
        segmenters: Sequence[Segmenter],
        views: Sequence[View] = VIEWS[4],
        every_point: bool = False,
        threads: int | None = None,
        softmaxes: Sequence[VoxelSoftmax] | None = None,
    ) -> None:
        """Networks and views to average over, and how thoroughly.

        ``every_point``: points are thinned to half a voxel and all of them seen, in as many passes
        per view as the fullest voxel has, as in P2 and P3 (about eight times the cost); else one
        pass per view, in which the canonical point of a voxel speaks for the others.
        ``softmaxes``: default the segmenters' networks, compiled where their engine is ``native``.
        Raises ConfigError where the networks differ in classes or voxels.
        """
        if not views or not segmenters:
            raise ConfigError("test-time augmentation needs at least one network and one view")
        self.segmenters, self.views = tuple(segmenters), tuple(views)
        first = self.segmenters[0]
        for other in self.segmenters[1:]:
            if (other.label_set.names, other.meta.grid_size) != (
                first.label_set.names,
                first.meta.grid_size,
            ):
                raise ConfigError(
                    f"{first.model_id} and {other.model_id} cannot be averaged: they differ in "
                    f"classes ({first.label_set.name}, {other.label_set.name}) or voxels "
                    f"({first.meta.grid_size:g} m, {other.meta.grid_size:g} m)"
                )
        self.every_point = every_point
        self._softmaxes = softmaxes or [voxel_softmax(s, threads) for s in self.segmenters]
        scaled = any(view.scale != 1 for view in self.views)
        self.cell = first.meta.grid_size / (2 if every_point or scaled else 1)
        """Edge of the cells whose points share a label, metres; turned views have equal voxels."""

    def __call__(self, scan: LidarScan) -> SoftLabels:
        """Probabilities of all points. Raises ScanError where intensity is needed and missing."""
        first = self.segmenters[0]
        reach = min(s.max_range for s in self.segmenters)
        reach /= max(1.0, *(view.scale for view in self.views))
        valid = (np.abs(scan.xyz) <= reach - self.cell).all(axis=1)
        row = np.full(len(scan), -1, np.int32)
        classes = len(first.label_set)
        if not valid.any():
            return SoftLabels(row, np.zeros((0, classes), np.float32))
        xyz = scan.xyz[valid]
        seen_as = [s.intensity(scan)[valid] for s in self.segmenters]
        point, inverse = sub_sample(xyz, seen_as[0], self.cell)
        xyz, row[valid] = xyz[point], inverse
        votes = np.zeros((len(xyz), classes), np.float32)  # [n, C] summed softmax
        for softmax, intensity in zip(self._softmaxes, seen_as, strict=True):
            self._vote(softmax, xyz, intensity[point], votes)
        return SoftLabels(row, votes / votes.sum(axis=1, keepdims=True))

    def _vote(
        self,
        softmax: VoxelSoftmax,
        xyz: NDArray[np.float32],
        intensity: NDArray[np.float32],
        votes: NDArray[np.float32],
    ) -> None:
        """Add what one network says of points [n, 3] in all views."""
        grid = self.segmenters[0].meta.grid_size
        for view in self.views:
            seen = view.apply(xyz)
            voxels = voxelise(seen, grid)
            forward = softmax.prepare(voxels.coords)
            if self.every_point:
                for chosen in fragments(voxels):  # every point once per voxel: no collisions
                    votes[chosen] += forward(np.column_stack([seen[chosen], intensity[chosen]]))
            else:
                chosen = canonical_points(voxels, seen, intensity, grid)
                found = forward(np.column_stack([seen[chosen], intensity[chosen]]))
                votes += found[voxels.inverse]


@dataclass(frozen=True)
class Thresholds:
    """Which pseudo-labels are kept."""

    min_confidence: int = 0
    """0..100: labels at least this confident are kept …"""
    keep_share: float = 0.0
    """… and, of every class, at least this share, the most confident ones first; 0 = none …"""
    floor: int = 40
    """… but none below this confidence by their class's share alone."""

    def __post_init__(self) -> None:
        for name in ("min_confidence", "floor"):
            if not 0 <= getattr(self, name) <= 100:
                raise ConfigError(f"{name} must lie in 0 .. 100, got {getattr(self, name)}")
        if not 0 <= self.keep_share <= 1:
            raise ConfigError(f"keep_share must lie in 0 .. 1, got {self.keep_share}")
        if self.keep_share and self.min_confidence <= self.floor:
            raise ConfigError(
                f"keep_share adds labels between floor {self.floor} and min_confidence "
                f"{self.min_confidence}; raise min_confidence or lower floor"
            )

    def per_class(self, histogram: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Lowest confidence that is kept, uint8 [C].

        histogram: int64 [C, 101] points of all scans by predicted class and confidence.
        """
        bounds = np.full(len(histogram), self.min_confidence, np.uint8)
        if not self.keep_share:
            return bounds
        above = histogram[:, ::-1].cumsum(axis=1)[:, ::-1]  # [C, 101] at least this confident
        enough = above >= self.keep_share * histogram.sum(axis=1, keepdims=True)
        share = 100 - enough[:, ::-1].argmax(axis=1)  # the highest threshold that keeps enough
        found: NDArray[np.uint8] = np.minimum(bounds, share.clip(self.floor)).astype(np.uint8)
        return found


def confidence_histogram(
    labels: NDArray[np.uint8], confidence: NDArray[np.uint8], classes: int
) -> NDArray[np.int64]:
    """int64 [C, 101] points by label and confidence; 255 is not counted."""
    known = labels != UNLABELLED
    cell = labels[known].astype(np.int64) * 101 + confidence[known]
    counts: NDArray[np.int64] = np.bincount(cell, minlength=classes * 101).reshape(classes, 101)
    return counts


def filtered(
    labels: NDArray[np.uint8], confidence: NDArray[np.uint8], bounds: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Labels [N] with 255 where the confidence lies below the bound [C] of the class."""
    table = np.append(bounds, np.full(256 - len(bounds), 255, np.uint8))
    kept: NDArray[np.uint8] = np.where(confidence >= table[labels], labels, np.uint8(UNLABELLED))
    return kept


def top_classes(
    probability: NDArray[np.float32], k: int
) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """The k likeliest classes of each row [n, C], falling: uint8 [n, k], float16 [n, k]."""
    if not 1 <= k <= probability.shape[1]:
        raise ConfigError(f"soft targets keep 1 .. {probability.shape[1]} classes, not {k}")
    classes = np.argsort(-probability, axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(probability, classes, axis=1).astype(np.float16)
    # 0 would say that nothing is known of the class (voxel_scores.py)
    return classes.astype(np.uint8), np.maximum(values, np.finfo(np.float16).smallest_subnormal)


def dense(
    classes: NDArray[np.uint8], values: NDArray[Any], num_classes: int
) -> NDArray[np.float32]:
    """Inverse of ``top_classes``: float32 [n, C], rows sum to 1.

    What the k kept classes leave is spread evenly over the others.
    """
    rest = num_classes - classes.shape[1]
    kept = values.astype(np.float32)
    left = np.maximum(1 - kept.sum(axis=1, keepdims=True), 0)
    found = np.broadcast_to(left / max(rest, 1), (len(kept), num_classes)).copy()
    np.put_along_axis(found, classes.astype(np.int64), kept, axis=1)
    return np.asarray(found / found.sum(axis=1, keepdims=True), np.float32)
