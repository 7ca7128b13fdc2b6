# SPDX-License-Identifier: Apache-2.0
"""Temporal stability: whether a static place keeps its label from one scan to the next.

The scan before is moved into the present one. A point is *seen* by a scan that has a point near it,
in one of the eight cells of 0.3 m around it: certainly within 0.15 m, never further than 0.45 m
along an axis. It is *static* where the scan before and one about half a second before have seen
it; what moves faster than about 1 m/s is not. A static point *flips* where the scan before gave its
label to no point near it. So neither other sampling of a surface nor the edge between two classes
counts as a flip, and the figure is a lower bound.

As a table of (label carried over, label now) it is an ``Agreement``: its class IoU is the temporal
consistency of Varghese et al. (CVPR workshops 2020) on points in place of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.evaluation.agreement import Agreement, Labelling, compare
from pointdistill_ros.evaluation.distance import band_of
from pointdistill_ros.labels import UNLABELLED

CELL = 0.3
"""Metres."""
_BITS = 18
_REACH = CELL * (1 << (_BITS - 2))
_CORNERS = tuple(product((0, 1), repeat=3))


@dataclass(frozen=True, eq=False)
class Cells:
    """Where a scan has points, and which labels there. In the frame of the scan compared with."""

    keys: NDArray[np.int64]
    """[M] occupied cells, rising."""
    majority: NDArray[np.uint8]
    """[M] most frequent label; the smallest of equally frequent ones."""
    labelled: NDArray[np.int64]
    """[K] cell · 256 + label that occur, rising."""

    @classmethod
    def of(cls, xyz: NDArray[np.floating], labels: NDArray[np.uint8]) -> Cells:
        """Points [N, 3] in metres with labels [N]; those that are not finite are left out."""
        near = _near(xyz)
        cells = _key(np.floor(xyz[near] / CELL).astype(np.int64))
        labelled, points = np.unique(cells << 8 | labels[near], return_counts=True)
        first = np.flatnonzero(np.diff(labelled >> 8, prepend=-1))
        # stable: in a cell most points first, then the smaller label
        order = np.lexsort((-points, labelled >> 8))
        return cls(labelled[first] >> 8, (labelled[order[first]] & 255).astype(np.uint8), labelled)

    def find(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """[N] position of each key, −1 where there is no point."""
        return _find(self.keys, keys)

    def has_label(self, keys: NDArray[np.int64], labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """[N] whether a cell has a point with that label."""
        return _find(self.labelled, keys << 8 | labels) >= 0


def carry(
    xyz: NDArray[np.floating], labels: NDArray[np.uint8], before: Cells
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """What the scan before says of the points [N, 3] of this one: label [N], and whether seen [N].

    A point whose own label occurs near it keeps that; else it gets the majority of its own cell, or
    of the first of the others that has points. 255 where it was not seen.
    """
    carried = np.full(len(xyz), UNLABELLED, np.uint8)
    seen = np.zeros(len(xyz), bool)
    open_ = np.flatnonzero(_near(xyz))  # points whose own label has not been found yet
    place = xyz[open_] / CELL
    own = np.floor(place).astype(np.int64)
    towards = np.where(place - own < 0.5, -1, 1)  # the nearer neighbour along each axis
    for corner in _CORNERS:  # the own cell first
        keys = _key(own + towards * np.array(corner))
        position = before.find(keys)
        there = position >= 0
        new = there & ~seen[open_]
        carried[open_[new]] = before.majority[position[new]]
        seen[open_[there]] = True
        same = np.zeros(len(open_), bool)
        same[there] = before.has_label(keys[there], labels[open_[there]])
        carried[open_[same]] = labels[open_[same]]
        open_, own, towards = open_[~same], own[~same], towards[~same]
    return carried, seen


def seen_by(xyz: NDArray[np.floating], before: Cells) -> NDArray[np.bool_]:
    """[N] which points another scan has seen."""
    seen = np.zeros(len(xyz), bool)
    open_ = np.flatnonzero(_near(xyz))
    place = xyz[open_] / CELL
    own = np.floor(place).astype(np.int64)
    towards = np.where(place - own < 0.5, -1, 1)
    for corner in _CORNERS:
        there = before.find(_key(own + towards * np.array(corner))) >= 0
        seen[open_[there]] = True
        open_, own, towards = open_[~there], own[~there], towards[~there]
    return seen


def stability(
    xyz: NDArray[np.floating],
    labels: NDArray[np.uint8],
    carried: NDArray[np.uint8],
    static: NDArray[np.bool_],
    num_classes: int,
) -> Agreement:
    """Labels carried over (rows) and present ones (columns) of the static points [N]."""
    nothing = np.uint8(UNLABELLED)
    before = Labelling(np.where(static, carried, nothing))
    now = Labelling(np.where(static, labels, nothing))
    return compare(before, now, num_classes, band_of(xyz.astype(np.float32)))


def _near(xyz: NDArray[np.floating]) -> NDArray[np.bool_]:
    """[N] finite and not beyond what cells can count."""
    with np.errstate(invalid="ignore"):
        return np.asarray((np.abs(xyz) < _REACH).all(axis=1))


def _key(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """[N] one number for a cell [N, 3]."""
    shifted = cells + (1 << (_BITS - 1))
    return np.asarray(shifted[:, 0] << (2 * _BITS) | shifted[:, 1] << _BITS | shifted[:, 2])


def _find(rising: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.int64]:
    if not len(rising):
        return np.full(len(keys), -1)
    position = np.minimum(np.searchsorted(rising, keys), len(rising) - 1)
    return np.where(rising[position] == keys, position, -1)
