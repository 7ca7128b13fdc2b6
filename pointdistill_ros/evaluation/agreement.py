# SPDX-License-Identifier: Apache-2.0
"""Agreement: how far two labellings of one cloud, such as student's and teacher's, are the same.

- compared are the points to which at least one side gives a class; a point that only one side
  labels is a disagreement
- everything is a whole number that adds up over clouds, exactly and in any order
- divergence: Jensen–Shannon, in bits, 0..1 (divergence.py). From whole distributions where both
  sides have them, else from the top probabilities, else from labels alone, where it is 1 for
  different labels; ``Basis`` says which. It is 1 where only one side labels a point.
Neither side is the truth here: see confusion.py for scores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import InputError, LabelError
from pointdistill_ros.evaluation import divergence
from pointdistill_ros.evaluation.confusion import Counts, Scores
from pointdistill_ros.evaluation.distance import EDGES
from pointdistill_ros.labels import UNLABELLED

Basis: TypeAlias = Literal["distributions", "tops", "labels"]
"""What a divergence was computed from."""

UNIT = 2.0**-24
"""Divergences of points are rounded to multiples of this, so that sums are exact."""


@dataclass(frozen=True, eq=False)
class Labelling:
    """What one side says of the N points of a cloud."""

    labels: NDArray[np.uint8]
    """[N] classes, 255 = none."""
    probability: NDArray[np.floating] | None = None
    """[N] of the class given, 0..1."""
    distribution: NDArray[np.floating] | None = None
    """[N, C] of every class."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """Counts of one cloud, or of many added up."""

    counts: Counts
    """[bands, C + 1, C + 1] points by distance, class of the first and class of the second side;
    row and column C: no class. Points without a class on both sides are left out."""
    divergences: NDArray[np.int64]
    """[bands] sum over the compared points, in UNITs."""
    basis: Basis

    @property
    def num_classes(self) -> int:
        """C."""
        return int(self.counts.shape[-1]) - 1

    @property
    def points_by_band(self) -> NDArray[np.int64]:
        """[bands] points compared."""
        return np.asarray(self.counts.sum(axis=(1, 2)), np.int64)

    @property
    def agreement_by_band(self) -> Scores:
        """[bands] share of the compared points with equal labels; NaN without points."""
        return _ratio(np.trace(self.counts, axis1=1, axis2=2), self.points_by_band)

    @property
    def divergence_by_band(self) -> Scores:
        """[bands] mean divergence of the compared points, bits; NaN without points."""
        return _ratio(self.divergences * UNIT, self.points_by_band)

    @property
    def points(self) -> int:
        """Points compared."""
        return int(self.counts.sum())

    @property
    def agreement(self) -> float:
        """Share of the compared points with equal labels; NaN without points."""
        return float(_ratio(np.trace(self.counts.sum(axis=0)), self.counts.sum()))

    @property
    def divergence(self) -> float:
        """Mean divergence of the compared points, bits; NaN without points."""
        return float(_ratio(self.divergences.sum() * UNIT, self.counts.sum()))

    @property
    def class_iou(self) -> Scores:
        """[C] points both call c / points either calls c; NaN where none does."""
        counts = self.counts.sum(axis=0)
        both = np.diagonal(counts)
        return _ratio(both, counts.sum(axis=0) + counts.sum(axis=1) - both)[:-1]

    @property
    def mean_iou(self) -> float:
        """Mean of ``class_iou`` over the classes that occur; NaN where none does."""
        known = np.isfinite(self.class_iou)
        return float(self.class_iou[known].mean()) if known.any() else float("nan")

    def greatest_differences(self, most: int = 5) -> list[tuple[int, int, int]]:
        """(first class, second class, points), most frequent first; 255 stands for no class."""
        counts = self.counts.sum(axis=0)
        np.fill_diagonal(counts, 0)
        order = np.argsort(-counts, axis=None, kind="stable")[:most]
        pairs = zip(*np.unravel_index(order, counts.shape), counts.flat[order], strict=True)
        return [(_id(a, len(counts)), _id(b, len(counts)), int(n)) for a, b, n in pairs if n]

    def __add__(self, other: Agreement) -> Agreement:
        """Both together. Raises LabelError where classes, bands or basis differ."""
        if self.counts.shape != other.counts.shape or self.basis != other.basis:
            raise LabelError(
                f"agreements of {self.num_classes} and {other.num_classes} classes, from "
                f"{self.basis} and from {other.basis}, cannot be added up"
            )
        return Agreement(
            self.counts + other.counts, self.divergences + other.divergences, self.basis
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data; of the counts only what is not zero."""
        where = np.flatnonzero(self.counts)
        return {
            "shape": list(self.counts.shape),
            "cells": where.tolist(),
            "counts": self.counts.reshape(-1)[where].tolist(),
            "divergences": self.divergences.tolist(),
            "basis": self.basis,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Agreement:
        """Inverse of ``to_dict``. Raises InputError."""
        try:
            counts = np.zeros(data["shape"], np.int64)
            counts.reshape(-1)[data["cells"]] = data["counts"]
            divergences = np.array(data["divergences"], np.int64).reshape(len(counts))
            basis = data["basis"]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(f"not an agreement ({error!r})") from error
        if basis not in get_args(Basis):
            raise InputError(f"not an agreement (basis {basis!r})")
        return cls(counts, divergences, basis)


def compare(
    first: Labelling,
    second: Labelling,
    num_classes: int,
    bands: NDArray[np.int64] | None = None,
) -> Agreement:
    """Compare two labellings of the same N points in the same order.

    bands: [N] distance band of each point (``distance.band_of``); None puts all into the first.
    Raises LabelError on different lengths or a label that is neither a class nor 255.
    """
    for side in (first, second):
        _check(side, len(first.labels), num_classes)
    if bands is None:
        bands = np.zeros(len(first.labels), np.int64)
    elif bands.shape != first.labels.shape:
        raise LabelError(f"distance bands {bands.shape} for labels {first.labels.shape}")
    compared = (first.labels != UNLABELLED) | (second.labels != UNLABELLED)
    columns = num_classes + 1
    rows = np.minimum(first.labels, num_classes).astype(np.int64)  # 255 → C
    cells = (bands * columns + rows) * columns + np.minimum(second.labels, num_classes)
    shape = (len(EDGES), columns, columns)
    counts = np.bincount(cells[compared], minlength=int(np.prod(shape))).reshape(shape)
    values, basis = _divergence(first, second, num_classes)
    whole = np.rint(values[compared] / UNIT)  # sums of whole numbers, exact in float64
    sums = np.bincount(bands[compared], whole, minlength=len(EDGES))
    return Agreement(counts.astype(np.int64), sums.astype(np.int64), basis)


def disagreement(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """[N] True where two labellings differ, one side without a class included."""
    return np.asarray(first != second)


class AgreementWindow:
    """The sum over the last so many clouds."""

    def __init__(self, length: int) -> None:
        """length: clouds, at least 1."""
        self.length = length
        self._clouds: deque[Agreement] = deque()

    def __len__(self) -> int:
        return len(self._clouds)

    def add(self, agreement: Agreement) -> None:
        """Add a cloud and forget the oldest beyond ``length``.

        What does not add up with the clouds before, because a side now has other classes, begins a
        new window.
        """
        last = self._clouds[-1] if self._clouds else agreement
        if last.counts.shape != agreement.counts.shape or last.basis != agreement.basis:
            self._clouds.clear()
        self._clouds.append(agreement)
        while len(self._clouds) > self.length:
            self._clouds.popleft()

    def clear(self) -> None:
        """Forget all clouds."""
        self._clouds.clear()

    @property
    def total(self) -> Agreement | None:
        """All clouds of the window together; None without any."""
        if not self._clouds:
            return None
        return Agreement(
            np.sum([cloud.counts for cloud in self._clouds], axis=0),
            np.sum([cloud.divergences for cloud in self._clouds], axis=0),
            self._clouds[-1].basis,
        )


def _check(side: Labelling, points: int, num_classes: int) -> None:
    if side.labels.shape != (points,):
        raise LabelError(f"labellings of {points} and of {side.labels.shape} points")
    if ((side.labels >= num_classes) & (side.labels != UNLABELLED)).any():
        raise LabelError(f"a label is not below {num_classes} and not {UNLABELLED}")
    if side.probability is not None and side.probability.shape != (points,):
        raise LabelError(f"probabilities {side.probability.shape} for {points} points")
    if side.distribution is not None and side.distribution.shape != (points, num_classes):
        raise LabelError(
            f"distributions {side.distribution.shape} for {points} points, {num_classes} classes"
        )


def _divergence(
    first: Labelling, second: Labelling, num_classes: int
) -> tuple[divergence.Divergence, Basis]:
    """[N] divergence, 1 where only one side labels a point, and what it was computed from."""
    basis: Basis
    if first.distribution is not None and second.distribution is not None:
        values = divergence.of_distributions(first.distribution, second.distribution)
        basis = "distributions"
    elif first.probability is not None and second.probability is not None:
        tops = first.probability, second.probability
        values = divergence.of_tops((first.labels, second.labels), tops, num_classes)
        basis = "tops"
    else:
        values, basis = disagreement(first.labels, second.labels).astype(np.float64), "labels"
    values[(first.labels == UNLABELLED) != (second.labels == UNLABELLED)] = 1.0
    return values, basis


def _id(row: np.integer[Any], rows: int) -> int:
    return UNLABELLED if row == rows - 1 else int(row)


def _ratio(part: Any, whole: Any) -> Scores:
    ratio = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=ratio, where=np.asarray(whole) > 0)
    return ratio
