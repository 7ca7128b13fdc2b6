# SPDX-License-Identifier: Apache-2.0
"""Temporal stability of every frame of a bag that was labelled; see temporal.py for what it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.agreement import Agreement
from pointdistill_ros.evaluation.bags.frame_store import FrameStore, StoredFrame
from pointdistill_ros.evaluation.bags.frames import BagFrame, BagFrames, FrameIndex
from pointdistill_ros.evaluation.bags.labelling import STUDENT
from pointdistill_ros.evaluation.motion.trajectory import Pose
from pointdistill_ros.evaluation.temporal import Cells, carry, seen_by, stability
from pointdistill_ros.io.pointcloud2 import DecodeOptions

BEFORE_NS = 500_000_000
"""The scan before is at most so old."""
OLDER_NS = 450_000_000, 1_000_000_000
"""Age of the other scan that must have seen a static point: about half a second."""


def partners(times_ns: Sequence[int], known: Sequence[bool]) -> list[tuple[int, int] | None]:
    """For every frame the one before and the older one; None where there is no such pair.

    ``known``: which frames have labels and a pose.
    """
    found: list[tuple[int, int] | None] = []
    times = np.asarray(times_ns, np.int64)
    for i, time_ns in enumerate(times):
        older = int(np.searchsorted(times, time_ns - OLDER_NS[0], side="right")) - 1
        ok = (
            0 <= older < i - 1
            and time_ns - times[older] <= OLDER_NS[1]
            and 0 < time_ns - times[i - 1] <= BEFORE_NS
            and known[i]
            and known[i - 1]
            and known[older]
        )
        found.append((i - 1, older) if ok else None)
    return found


@dataclass(frozen=True)
class FrameStability:
    """One frame against those before it."""

    index: int
    points: int
    seen: int
    """Points that the scan before has seen."""
    static: int
    tables: Mapping[str, Agreement] = field(default_factory=dict)
    """By labelling: labels carried over (rows) and present ones (columns) of the static points."""
    flipped: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    """[N] static points whose label by the student has changed."""

    @classmethod
    def of(cls, stored: StoredFrame) -> FrameStability:
        """From disk."""
        record = stored.record
        tables = {name: Agreement.from_dict(data) for name, data in record["tables"].items()}
        flipped = np.unpackbits(stored.arrays["flipped"], count=record["points"]).astype(bool)
        return cls(
            record["index"], record["points"], record["seen"], record["static"], tables, flipped
        )

    def record(self) -> dict[str, Any]:
        """Plain data without ``flipped``."""
        return {
            "index": self.index,
            "points": self.points,
            "seen": self.seen,
            "static": self.static,
            "tables": {name: table.to_dict() for name, table in self.tables.items()},
        }


@dataclass(frozen=True)
class StabilityJob:
    """Everything a process needs. Picklable."""

    index: FrameIndex
    options: DecodeOptions
    poses: tuple[Pose | None, ...]
    pairs: tuple[tuple[int, int] | None, ...]
    classes: Mapping[str, int]
    """Labelling → its number of classes."""
    labelled: FrameStore
    store: FrameStore

    def __call__(self) -> FrameComparer:
        """What does the work in a process."""
        return FrameComparer(self)


@dataclass(eq=False)
class _Seen:
    """A frame that is still needed."""

    frame: BagFrame
    xyz: NDArray[np.float32] | None = None
    labels: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)


class FrameComparer:
    """A BlockWorker."""

    def __init__(self, job: StabilityJob) -> None:
        self._job = job
        self._frames = BagFrames(job.index, job.options)

    def __enter__(self) -> FrameComparer:
        self._frames.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._frames.__exit__(*error)

    def __call__(self, block: range, on_frame: Callable[[], None]) -> None:
        """Compare the frames that are not known yet with those before them."""
        job = self._job
        missing = [i for i in block if job.pairs[i] is not None and not job.store.has(i)]
        if missing:
            first = min(pair[1] for i in missing if (pair := job.pairs[i]) is not None)
            window: dict[int, _Seen] = {}
            for frame in self._frames.read(range(first, missing[-1] + 1)):
                window[frame.index] = _Seen(frame)
                if frame.index in missing:
                    found = self._compare(frame.index, window)
                    flipped = np.packbits(found.flipped)
                    job.store.save(frame.index, found.record(), flipped=flipped)
                    on_frame()
                    pair = job.pairs[frame.index]
                    assert pair is not None
                    for old in [i for i in window if i < pair[1]]:
                        del window[old]
        for _ in range(len(block) - len(missing)):
            on_frame()

    def _compare(self, index: int, window: dict[int, _Seen]) -> FrameStability:
        job = self._job
        pair = job.pairs[index]
        assert pair is not None
        now, before, older = (self._loaded(window[i]) for i in (index, *pair))
        assert now.xyz is not None
        moved_older = Cells.of(self._moved(older, index), older.labels[STUDENT])
        in_older = seen_by(now.xyz, moved_older)
        moved = self._moved(before, index)
        tables: dict[str, Agreement] = {}
        seen = static = flipped = np.zeros(len(now.xyz), bool)
        for name, classes in job.classes.items():
            if name not in now.labels or name not in before.labels:
                continue  # true labels of some frames only
            carried, seen = carry(now.xyz, now.labels[name], Cells.of(moved, before.labels[name]))
            static = seen & in_older
            tables[name] = stability(now.xyz, now.labels[name], carried, static, classes)
            if name == STUDENT:
                flipped = static & (carried != now.labels[name])
        return FrameStability(
            index, len(now.xyz), int(seen.sum()), int(static.sum()), tables, flipped
        )

    def _moved(self, seen: _Seen, index: int) -> NDArray[np.float64]:
        """Points of a scan in the frame of another one."""
        here, there = self._job.poses[index], self._job.poses[seen.frame.index]
        assert here is not None and there is not None and seen.xyz is not None
        pose = np.linalg.inv(here) @ there
        with np.errstate(invalid="ignore"):
            return np.asarray(seen.xyz.astype(np.float64) @ pose[:3, :3].T + pose[:3, 3])

    def _loaded(self, seen: _Seen) -> _Seen:
        if seen.xyz is None:
            stored = self._job.labelled.load(seen.frame.index)
            if stored is None:
                raise InputError(
                    f"{self._job.labelled.path(seen.frame.index)}: vanished or changed; run again"
                )
            seen.xyz, seen.labels = seen.frame.scan().xyz, stored.arrays
        return seen
