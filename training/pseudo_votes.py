# SPDX-License-Identifier: Apache-2.0
"""Multi-sweep voting: what the sweeps before and after say of the same static place.

A place is a cell of 0.2 m of the drive's world. A point's class probabilities become the mean of
its own and of those that every other sweep with points in its cell gives there.

- what can move does not vote: points whose likeliest class is a vehicle, a two-wheeler or a person
  neither tell other sweeps anything nor listen to them, parked ones too
- returns of the recording car move with it and do not vote either
- a sweep without a pose, or farther away than 30 m, is no neighbour
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.sweeps import OWN_CAR, may_move
from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.motion.trajectory import Pose
from pointdistill_ros.labels import LabelSet
from training.pseudo_files import ALONE, PseudoFolder, digest
from training.self_training import SoftLabels, dense

CELL = 0.2
"""Edge of a place, metres."""
REACH = 30.0
"""Metres between two sensors that vote together."""
KEPT = 8
"""Classes per point that are kept of what a sweep alone says."""
_BITS = 21
_LIMIT = CELL * ((1 << (_BITS - 1)) - 1)


@dataclass(frozen=True, eq=False)
class Ballots:
    """What one sweep says, place by place."""

    keys: NDArray[np.int64]
    """[m] places, rising."""
    probability: NDArray[np.float32]
    """[m, C] mean of the points there."""

    @classmethod
    def of(cls, xyz: NDArray[np.float64], probability: NDArray[np.float32]) -> Ballots:
        """Points [n, 3] in the world, metres, with class probabilities [n, C]."""
        keys, order = np.unique(_places(xyz), return_inverse=True)
        total = np.zeros((len(keys), probability.shape[1]), np.float32)
        np.add.at(total, order.reshape(-1), probability)
        counts = np.bincount(order.reshape(-1), minlength=len(keys)).astype(np.float32)
        total /= np.maximum(counts, 1)[:, None]
        return cls(keys, total)

    def at(self, xyz: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Which of the points [n, 3] lie in a place with a ballot, and the ballots [k, C]."""
        if not len(self.keys):
            return np.zeros(0, np.int64), self.probability
        wanted = _places(xyz)
        found = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        there = np.flatnonzero(self.keys[found] == wanted)
        return there, self.probability[found[there]]


@dataclass(frozen=True, eq=False)
class Sweep:
    """One scan that a network labelled, in the world of its drive."""

    found: SoftLabels
    xyz: NDArray[np.float64]
    """[n, 3] a point of every row of ``found``, in the world."""
    near: NDArray[np.bool_]
    """[n] whether that is a return of the recording car."""
    movable: NDArray[np.bool_]
    """[C] classes that can move."""

    @cached_property
    def static(self) -> NDArray[np.bool_]:
        """[n] rows that stand still by their likeliest class."""
        if not len(self.xyz):
            return np.zeros(0, np.bool_)
        return np.asarray(~self.movable[self.found.probability.argmax(axis=1)])

    @cached_property
    def ballots(self) -> Ballots:
        """What it tells others."""
        told = self.static & ~self.near
        return Ballots.of(self.xyz[told], self.found.probability[told])

    def heard(self, others: Iterable[Sweep]) -> SoftLabels:
        """What it says after the others have voted."""
        total = self.found.probability.copy()
        listens = np.flatnonzero(self.static & ~self.near)
        for other in others:
            there, said = other.ballots.at(self.xyz[listens])
            total[listens[there]] += said
        if len(total):
            total /= total.sum(axis=1, keepdims=True)
        return SoftLabels(self.found.row, total)


def vote(
    folder: PseudoFolder,
    drive: str,
    names: Sequence[str],
    poses: Sequence[Pose | None],
    around: int,
    settings: str,
    top: int,
    label_set: LabelSet,
    done: Callable[[int], None] = lambda count: None,
) -> None:
    """Write the scores of a drive's scans after voting; those that are there are kept.

    drive: folder of the clouds; names: scans in the order of time, whose scores alone are there;
    poses: in one world; around: sweeps before and after that vote; settings, top: as of
    ``PseudoFolder.write_scores``. Raises InputError where a file is missing or damaged.
    """
    alone = PseudoFolder(folder.root, ALONE)
    movable = may_move(label_set)[: len(label_set)]
    clouds = [_cloud(alone, name) for name in names]
    window: dict[int, Sweep] = {}

    def sweep(i: int) -> Sweep:
        if i not in window:
            window[i] = _read(folder, alone, drive, names[i], poses[i], movable)
        return window[i]

    for i, name in enumerate(names):
        others = neighbours(poses, i, around)
        mark = digest([clouds[i], *([clouds[j], _rounded(poses, i, j)] for j in others)])
        if folder.origin(name) != (settings, mark):
            heard = sweep(i).heard(sweep(j) for j in others)
            folder.write_scores(name, heard, settings, mark, top)
        for old in [j for j in window if j < i - around]:
            del window[old]
        done(i + 1)


def neighbours(poses: Sequence[Pose | None], i: int, around: int) -> list[int]:
    """Sweeps that vote on sweep i, in the order of time."""
    here = poses[i]
    if here is None:
        return []
    found = []
    for j in range(max(i - around, 0), min(i + around + 1, len(poses))):
        there = poses[j]
        if j == i or there is None:
            continue
        if np.linalg.norm(there[:3, 3] - here[:3, 3]) <= REACH:
            found.append(j)
    return found


def _read(
    folder: PseudoFolder,
    alone: PseudoFolder,
    drive: str,
    name: str,
    pose: Pose | None,
    movable: NDArray[np.bool_],
) -> Sweep:
    scores, scan = alone.read_scores(name), folder.read_cloud(name, drive)
    if scores.soft is None or len(scores.soft[0]) != len(scan):
        raise InputError(f"{alone.scores_path(name)}: not of its cloud; remove it and label again")
    row, classes, values = scores.soft
    first = np.zeros(len(classes), np.int64)
    known = np.flatnonzero(row >= 0)[::-1]
    first[row[known]] = known  # the first point of a row is written last
    xyz = scan.xyz[first].astype(np.float64)
    near = np.hypot(xyz[:, 0], xyz[:, 1]) < OWN_CAR
    if pose is not None:
        xyz = xyz @ pose[:3, :3].T + pose[:3, 3]
    probability = dense(classes, values, len(movable))
    return Sweep(SoftLabels(row, probability), xyz, near, movable)


def _cloud(alone: PseudoFolder, name: str) -> str:
    origin = alone.origin(name)
    if origin is None:
        raise InputError(f"{alone.scores_path(name)}: missing or damaged; label it again")
    return origin[1]


def _rounded(poses: Sequence[Pose | None], i: int, j: int) -> list[list[float]]:
    """Pose of one sweep seen from another, as far as it decides a vote."""
    here, there = poses[i], poses[j]
    assert here is not None and there is not None
    moved: list[list[float]] = np.round(np.linalg.inv(here) @ there, 4).tolist()
    return moved


def _places(xyz: NDArray[np.float64]) -> NDArray[np.int64]:
    """[n] one number for the place of each point [n, 3]; those of far away share the last one."""
    cells = np.floor(xyz.clip(-_LIMIT, _LIMIT) / CELL).astype(np.int64) + (1 << (_BITS - 1))
    return np.asarray(cells[:, 0] << (2 * _BITS) | cells[:, 1] << _BITS | cells[:, 2])
