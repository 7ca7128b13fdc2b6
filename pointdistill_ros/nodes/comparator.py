# SPDX-License-Identifier: Apache-2.0
"""Comparator: labelled clouds of student and teacher in, how far they agree out.

- clouds are brought together by their stamp (pairing.py); of a cloud that waits only labels,
  probabilities and every SAMPLE-th point are kept, 5 bytes a point
- before two are compared they must be the same cloud: frame, number of points, sampled points
- classes are the student's; the teacher's are mapped to them, and one without a counterpart is a
  disagreement
Not here: ROS messages other than by their fields, diagnostics.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import CloudError, LabelError
from pointdistill_ros.evaluation.agreement import (
    Agreement,
    AgreementWindow,
    Labelling,
    compare,
    disagreement,
)
from pointdistill_ros.evaluation.distance import band_of
from pointdistill_ros.io.cloud_layout import CloudBytes
from pointdistill_ros.labels import UNLABELLED, LabelSet
from pointdistill_ros.nodes.pairing import Pairing, PairingCounters, Side

SAMPLE = 64
ROUNDING = 1e-3
"""By which a probability may exceed 1."""


@dataclass(frozen=True)
class Labeller:
    """Who labels: the model of one side."""

    model_id: str
    label_set: LabelSet


class Times(NamedTuple):
    """Seconds; NaN where unknown."""

    student_age: float
    """now − stamp when the labels arrived."""
    teacher_age: float
    lag: float
    """How much later the teacher's labels arrived than the student's."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Student and teacher on one cloud."""

    header: Any
    """Of the cloud."""
    student: Labeller
    teacher: Labeller
    agreement: Agreement
    """Of this cloud, in the student's classes."""
    window: Agreement
    """Of the last clouds together."""
    clouds: int
    """In ``window``."""
    times: Times
    window_times: Times
    """Medians over ``window``."""
    differs: Differences


@dataclass(frozen=True, eq=False)
class Differences:
    """The D points on which the sides disagree; probabilities are NaN where a side gives none."""

    xyz: NDArray[np.float32]
    """[D, 3] metres, in the frame of the cloud."""
    labels: tuple[NDArray[np.uint8], NDArray[np.uint8]]
    """[D] student's and teacher's classes, both in the student's ids, 255 = none."""
    probability: tuple[NDArray[np.float32], NDArray[np.float32]]
    """[D] of these."""


@dataclass(frozen=True, eq=False)
class _Waiting:
    """What is kept of a labelled cloud."""

    frame: str
    labels: NDArray[np.uint8]
    probability: NDArray[np.float32] | None
    sample: NDArray[np.float32]
    age: float
    arrived: float


class Comparator:
    """One thread. Forgets nothing but what ``depth`` and ``window`` leave no room for."""

    def __init__(self, depth: int, window: int) -> None:
        """depth: clouds per side that wait for the other; window: clouds summed up."""
        self._pairing: Pairing[_Waiting] = Pairing(depth)
        self._window = AgreementWindow(window)
        self._times: deque[Times] = deque()
        self._labellers: dict[Side, Labeller] = {}

    def resize(self, depth: int, window: int) -> None:
        """Change both limits; the window shrinks with the next cloud."""
        self._pairing.depth = depth
        self._window.length = window

    def introduce(self, side: Side, labeller: Labeller) -> None:
        """From now on a side's clouds come from this model. Another one begins a new window."""
        if self._labellers.get(side, labeller) != labeller:
            self._window.clear()
        self._labellers[side] = labeller

    def labeller(self, side: Side) -> Labeller | None:
        """The model of a side; None while it has not been introduced."""
        return self._labellers.get(side)

    def counters(self, side: Side) -> PairingCounters:
        """Clouds of one side."""
        return self._pairing.counters(side)

    def take(self, side: Side, cloud: Any, age: float, now: float) -> Comparison | None:
        """Take a labelled PointCloud2; the comparison if the other side's was here already.

        age: seconds, NaN where unknown; now: steady seconds. Raises CloudError where the cloud is
        broken or holds no labels, LabelError where the two cannot be compared; the next pair can.
        """
        content = CloudBytes.of(cloud)
        xyz = content.xyz() if len(content) else np.empty((0, 3), np.float32)
        stamp = cloud.header.stamp
        pair = self._pairing.put(
            side,
            int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec),
            _waiting(content, xyz, cloud.header.frame_id, age, now),
        )
        if pair is None:
            return None
        return self._compare(cloud.header, xyz, pair.student, pair.teacher)

    def _compare(
        self, header: Any, xyz: NDArray[np.float32], student: _Waiting, teacher: _Waiting
    ) -> Comparison:
        who, whom = self._introduced("student"), self._introduced("teacher")
        _check_same(student, teacher)
        unknown = (teacher.labels >= len(whom.label_set)) & (teacher.labels != UNLABELLED)
        if unknown.any():
            raise LabelError(
                f"teacher's class {teacher.labels[unknown][0]} is not in its label set, "
                f"{whom.label_set.name}; is teacher/class_info of another node?"
            )
        classes = _mapping(whom.label_set, who.label_set)[teacher.labels]
        labels = student.labels, classes
        agreement = compare(
            Labelling(student.labels, student.probability),
            Labelling(classes, teacher.probability),
            len(who.label_set),
            band_of(xyz),
        )
        times = Times(student.age, teacher.age, teacher.arrived - student.arrived)
        self._window.add(agreement)
        self._times.append(times)
        while len(self._times) > len(self._window):
            self._times.popleft()
        total = self._window.total
        assert total is not None
        where = np.flatnonzero(disagreement(*labels))
        return Comparison(
            header,
            who,
            whom,
            agreement,
            total,
            len(self._window),
            times,
            Times(*(_median(column) for column in zip(*self._times, strict=True))),
            Differences(
                xyz[where],
                (labels[0][where], labels[1][where]),
                (_at(student.probability, where), _at(teacher.probability, where)),
            ),
        )

    def _introduced(self, side: Side) -> Labeller:
        labeller = self._labellers.get(side)
        if labeller is None:
            raise LabelError(
                f"what the {side}'s class ids mean is unknown: no message on {side}/class_info; "
                f"remap it, or set input.{side}_label_set"
            )
        return labeller


def _waiting(
    content: CloudBytes, xyz: NDArray[np.float32], frame: str, age: float, now: float
) -> _Waiting:
    if not len(content):
        nothing = np.empty(0, np.float32)
        return _Waiting(frame, np.empty(0, np.uint8), nothing, xyz, age, now)
    labels = content.column("class_id")
    if labels.dtype != np.uint8:
        raise CloudError(f"field 'class_id' is {labels.dtype}; expected uint8")
    probability = _probability(content) if "probability" in content.layout else None
    sample = xyz[::SAMPLE].copy()  # a view would keep all points
    return _Waiting(frame, labels, probability, sample, age, now)


def _probability(content: CloudBytes) -> NDArray[np.float32]:
    """[N] in 0..1. Raises CloudError on anything else: sums would carry it through a window."""
    with np.errstate(over="ignore"):
        values = content.column("probability").astype(np.float32, copy=False)
    if not ((values >= 0) & (values <= 1 + ROUNDING)).all():  # written so that NaN is refused too
        raise CloudError("field 'probability' holds values outside 0..1")
    return np.minimum(values, np.float32(1))


def _check_same(student: _Waiting, teacher: _Waiting) -> None:
    """Raise LabelError unless both labelled the same cloud."""
    if student.frame != teacher.frame:
        raise LabelError(
            f"student's cloud is in frame {student.frame!r}, teacher's of the same stamp in "
            f"{teacher.frame!r}; both must label the same cloud"
        )
    points = len(student.labels), len(teacher.labels)
    if points[0] != points[1]:
        raise LabelError(
            f"student's cloud has {points[0]} points, teacher's of the same stamp {points[1]}; "
            "both must label the same cloud"
        )
    if not np.array_equal(student.sample, teacher.sample, equal_nan=True):
        raise LabelError(
            "student's and teacher's clouds of one stamp have different points; "
            "both must label the same cloud"
        )


def _mapping(teacher: LabelSet, student: LabelSet) -> NDArray[np.uint8]:
    """Lookup table [256] from the teacher's ids to the student's. Raises LabelError."""
    if teacher.names == student.names:
        table = np.full(256, UNLABELLED, np.uint8)
        table[: len(student)] = np.arange(len(student))
        return table
    return teacher.remap_to(student)


def _at(probability: NDArray[np.float32] | None, where: NDArray[np.intp]) -> NDArray[np.float32]:
    return np.full(len(where), nan, np.float32) if probability is None else probability[where]


def _median(values: tuple[float, ...]) -> float:
    known = [value for value in values if value == value]  # noqa: PLR0124 - not NaN
    return float(np.median(known)) if known else nan
