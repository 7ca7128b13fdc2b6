# SPDX-License-Identifier: Apache-2.0
"""Pictures for the report of a bag: its worst and best frames, and the whole drive from above."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.evaluation.bags.frames import BagFrames
from pointdistill_ros.evaluation.bags.labelling import STUDENT, TEACHER, TRUTH
from pointdistill_ros.evaluation.bags.result import BagEvaluation
from pointdistill_ros.evaluation.gallery import REACH, class_shares, data_uri
from pointdistill_ros.evaluation.paint import (
    EMPTY,
    RIGHT,
    WRONG,
    class_colours,
    error_colours,
    paint_from_above,
)
from pointdistill_ros.evaluation.progress import Bar

if TYPE_CHECKING:
    from pointdistill_ros.evaluation.bags.run import BagRun

WORST, BEST = 3, 1
SIZE, MAP_SIZE = 440, 900
"""Pixels of the pictures."""
_MAP_FRAMES, _MAP_REACH = 400, 40.0


@dataclass(frozen=True)
class BagExhibit:
    """One frame in pictures."""

    index: int
    seconds: float
    """Since the first frame."""
    verdict: str
    """``worst`` or ``best``."""
    remarks: tuple[str, ...]
    """Its figures in words."""
    images: tuple[tuple[str, str], ...]
    """Caption and PNG as data URI."""
    shares: tuple[tuple[str, str, float], ...]
    """Class, CSS colour, share of the student's points."""


@dataclass(frozen=True)
class DriveMap:
    """All frames in one place, from above; x of the first frame to the right."""

    images: tuple[tuple[str, str], ...]
    """Caption and PNG as data URI."""
    metres: float
    """Width of the pictures."""


def choose_frames(evaluation: BagEvaluation) -> dict[int, str]:
    """Frames to show and their verdict, worst first, none next to another.

    Ranked by the best evidence there is: share of right points, agreement with the teacher, flips,
    else mean probability.
    """
    scores = {r.index: _score(evaluation, i) for i, r in enumerate(evaluation.labelled)}
    ranked = sorted((i for i in scores if scores[i] is not None), key=lambda i: (scores[i], i))
    apart = max(1, len(evaluation.records) // 6)
    chosen: dict[int, str] = {}
    for verdict, order, wanted in (("worst", ranked, WORST), ("best", ranked[::-1], BEST)):
        taken = 0
        for i in order:
            if taken < wanted and all(abs(i - other) >= apart for other in chosen):
                chosen[i] = verdict
                taken += 1
    return chosen


def _score(evaluation: BagEvaluation, position: int) -> float | None:
    record = evaluation.labelled[position]
    if evaluation.scores:
        tally = record.scores.get(STUDENT)
        return tally.accuracy if tally is not None and np.isfinite(tally.accuracy) else None
    if evaluation.agreement is not None:
        return record.agreement.agreement if record.agreement is not None else None
    if evaluation.stability:
        flips = evaluation.flips(record.index)
        return None if flips is None else -flips
    return record.probability


def exhibits(run: BagRun, evaluation: BagEvaluation, bar: Bar) -> list[BagExhibit]:
    """Pictures of the chosen frames."""
    chosen = choose_frames(evaluation)
    done = bar("pictures", len(chosen))
    shown = []
    with BagFrames(run.index, run.options) as frames:
        for index, verdict in chosen.items():
            xyz = frames.one(index).scan().xyz
            shown.append(_exhibit(run, evaluation, index, verdict, xyz))
            done(len(shown))
    return shown


def _exhibit(
    run: BagRun, evaluation: BagEvaluation, index: int, verdict: str, xyz: NDArray[np.float32]
) -> BagExhibit:
    stored = run.labelled.load(index)
    assert stored is not None
    labels = stored.arrays
    student = labels[STUDENT]

    def painted(colours: NDArray[np.uint8], order: NDArray[np.bool_] | None = None) -> str:
        return data_uri(paint_from_above(xyz, colours, REACH, SIZE, order))

    images = [(STUDENT, painted(class_colours(student, evaluation.set_of(STUDENT))))]
    record = evaluation.records[index]
    remarks = [f"mean probability {record.probability:.2f}"]
    if TEACHER in labels and evaluation.agreement_set is not None:
        own, other = (
            evaluation.set_of(name).remap_to(evaluation.agreement_set)[labels[name]]
            for name in (STUDENT, TEACHER)
        )
        images.append(
            (TEACHER, painted(class_colours(labels[TEACHER], evaluation.set_of(TEACHER))))
        )
        images.append(("disagreement in red", painted(*_marked(own != other))))
        if record.agreement is not None:
            remarks.insert(0, f"agreement {record.agreement.agreement:.1%}")
    if TRUTH in labels and STUDENT in record.scores:
        judged = next(iter(evaluation.scores.values())).label_set
        truth = evaluation.set_of(TRUTH).remap_to(judged)[labels[TRUTH]]
        own = evaluation.set_of(STUDENT).remap_to(judged)[student]
        images.append(("true labels", painted(class_colours(truth, judged))))
        images.append(("errors in red", painted(*error_colours(own, truth))))
        remarks.insert(0, f"accuracy {record.scores[STUDENT].accuracy:.1%}")
    found = evaluation.stabilities.get(index)
    if found is not None:
        images.append(("flips in red", painted(*_marked(found.flipped))))
        flips = evaluation.flips(index)
        if flips is not None:
            remarks.append(f"{flips:.1%} of its static points flip")
    seconds = (record.time_ns - evaluation.records[0].time_ns) * 1e-9
    shares = class_shares(student, evaluation.set_of(STUDENT))
    return BagExhibit(index, seconds, verdict, tuple(remarks), tuple(images), shares)


def _marked(what: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Colours of points, marked ones red, and the order to paint them in."""
    colours = np.full((len(what), 3), RIGHT, np.uint8)
    colours[what] = WRONG
    return colours, what


def drive_map(run: BagRun, evaluation: BagEvaluation, bar: Bar) -> DriveMap | None:
    """The drive from above, at most 400 of its frames; None where the ego-motion is not known."""
    poses = {
        record.index: pose
        for record, pose in zip(evaluation.records, evaluation.poses, strict=True)
        if pose is not None and not record.error
    }
    if len(poses) < 2:
        return None
    known = list(poses)
    chosen = [known[i] for i in np.unique(np.linspace(0, len(known) - 1, _MAP_FRAMES).astype(int))]
    first = np.linalg.inv(poses[known[0]])
    track = np.array([(first @ pose)[:2, 3] for pose in poses.values()])
    low, high = track.min(axis=0) - _MAP_REACH, track.max(axis=0) + _MAP_REACH
    metres = float((high - low).max())
    corner = (low + high - metres) / 2
    canvas = _Canvas(corner, metres)
    flips = _Canvas(corner, metres)
    label_set = evaluation.set_of(STUDENT)
    done = bar("map", len(chosen))
    with BagFrames(run.index, run.options) as frames:
        for number, index in enumerate(chosen):
            stored = run.labelled.load(index)
            assert stored is not None
            xyz = frames.one(index).scan().xyz.astype(np.float64)
            with np.errstate(invalid="ignore"):
                near = (np.abs(xyz) < _MAP_REACH).all(axis=1)
            pose = first @ poses[index]
            world = xyz[near] @ pose[:3, :3].T + pose[:3, 3]
            canvas.paint(world, class_colours(stored.arrays[STUDENT][near], label_set))
            flips.paint(world, np.full((len(world), 3), RIGHT, np.uint8), keep=True)
            found = evaluation.stabilities.get(index)
            if found is not None:
                marked = world[found.flipped[near]]
                flips.paint(marked, np.full((len(marked), 3), WRONG, np.uint8))
            done(number + 1)
    images = [("labels", canvas.finished(track))]
    if evaluation.stability:
        images.append(("flips in red", flips.finished(track)))
    return DriveMap(tuple(images), metres)


class _Canvas:
    """A square of the ground."""

    def __init__(self, corner: NDArray[np.float64], metres: float) -> None:
        self._corner, self._scale = corner, MAP_SIZE / metres
        self._image = np.full((MAP_SIZE, MAP_SIZE, 3), EMPTY, np.uint8)
        self._height = np.full((MAP_SIZE, MAP_SIZE), -np.inf)

    def paint(
        self, xyz: NDArray[np.float64], colours: NDArray[np.uint8], *, keep: bool = False
    ) -> None:
        """Points, the highest on top; ``keep``: only where nothing has been painted."""
        column, row, inside = self._pixels(xyz[:, :2])
        xyz, colours = xyz[inside], colours[inside]
        order = np.argsort(xyz[:, 2], kind="stable")
        column, row, z, colours = column[order], row[order], xyz[order, 2], colours[order]
        if keep:
            free = (self._image[row, column] == EMPTY).all(axis=1)
            column, row, colours = column[free], row[free], colours[free]
        else:
            top = z >= self._height[row, column] - 0.5
            column, row, z, colours = column[top], row[top], z[top], colours[top]
            self._height[row, column] = z
        self._image[row, column] = colours

    def finished(self, track: NDArray[np.float64]) -> str:
        """A PNG as data URI with the way [K, 2] that the sensor took."""
        fine = np.linspace(0, len(track) - 1, 4 * MAP_SIZE)
        way = np.column_stack([np.interp(fine, np.arange(len(track)), t) for t in track.T])
        column, row, _ = self._pixels(way)
        for dx, dy in ((0, 0), (1, 0), (0, 1), (-1, 0), (0, -1)):
            x, y = np.clip(column + dx, 0, MAP_SIZE - 1), np.clip(row + dy, 0, MAP_SIZE - 1)
            self._image[y, x] = (255, 255, 255)
        return data_uri(self._image)

    def _pixels(
        self, xy: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        place = np.floor((xy - self._corner) * self._scale)
        inside = np.asarray(((place >= 0) & (place < MAP_SIZE)).all(axis=1))
        column, row = place[inside].astype(np.int64).T  # [K] each
        return column, MAP_SIZE - 1 - row, inside
