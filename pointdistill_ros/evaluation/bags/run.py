# SPDX-License-Identifier: Apache-2.0
"""The evaluation of a bag from beginning to end; what has been computed before is not again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.bags.block_pool import run_blocks
from pointdistill_ros.evaluation.bags.check import check_bag
from pointdistill_ros.evaluation.bags.frame_record import FrameRecord
from pointdistill_ros.evaluation.bags.frame_store import FrameStore
from pointdistill_ros.evaluation.bags.frames import BagFrames, FrameIndex
from pointdistill_ros.evaluation.bags.labelling import STUDENT, TEACHER, TRUTH, LabellingJob
from pointdistill_ros.evaluation.bags.mounting import Mounting
from pointdistill_ros.evaluation.bags.reference import Reference
from pointdistill_ros.evaluation.bags.result import FORMAT, BagEvaluation, Network
from pointdistill_ros.evaluation.bags.stability import FrameStability, StabilityJob, partners
from pointdistill_ros.evaluation.bags.truth import Truth
from pointdistill_ros.evaluation.figures import MIN_POINTS, Figures
from pointdistill_ros.evaluation.motion.ego_motion import (
    EgoMotion,
    dump_motion,
    ego_motion,
    load_motion,
)
from pointdistill_ros.evaluation.motion.trajectory import Trajectory
from pointdistill_ros.evaluation.progress import Bar
from pointdistill_ros.evaluation.walk import Labeller, shared_label_set
from pointdistill_ros.io.pointcloud2 import DecodeOptions
from pointdistill_ros.placement import Placement

LABELS, MOTION, STABILITY = "labels", "motion", "stability"
_BLOCK = 8
_BUSY = 0.8
"""A process that computes less than this share of its time is kept waiting."""


@dataclass(frozen=True, eq=False)
class BagRun:
    """What to evaluate, and the folder that keeps what is known."""

    index: FrameIndex
    folder: Path
    networks: Mapping[str, Network]
    loaders: Mapping[str, Callable[[], Labeller]]
    reference: Reference
    options: DecodeOptions = field(default_factory=DecodeOptions)
    z_offset: float = 0.0
    """Metres that the networks see the clouds higher; everything else is measured as sent."""
    mounting: Mounting | None = None
    """Frame in which they see them, and where the sensors are in it; None: the clouds' own."""
    classes: str = "model"
    """Classes of the labels: the networks' own, or a label set to which theirs have a remap. Those
    of ``networks`` are these already."""
    truth: Truth | None = None
    poses: str = "auto"
    """See ``ego_motion``."""
    workers: int = 1
    keep_going: bool = False
    min_points: int = MIN_POINTS
    command: str = ""
    version: str = ""

    @cached_property
    def labelled(self) -> FrameStore:
        """Labels and records of all frames."""
        return FrameStore(self.folder, LABELS, self._measured)

    @cached_property
    def _measured(self) -> dict[str, Any]:
        """All that decides the labels of a frame and what is counted about them."""
        return {
            "format": FORMAT,
            "bag": self.index.fingerprint,
            "options": self._input,
            "mounting": self.mounting and self.mounting.facts(),
            "networks": {name: (n.sha256, n.engine) for name, n in self.networks.items()},
            "labels": self.truth and [self.truth.detail, self.truth.label_set.name],
        }

    @property
    def _input(self) -> dict[str, Any]:
        return {
            **asdict(self.options),
            "z_offset": self.z_offset,
            "target_frame": self.mounting.target if self.mounting else "",
            "classes": self.classes,
        }

    @property
    def placement(self) -> Placement:
        """Where the networks see the clouds."""
        return Placement() if self.mounting is None else self.mounting.placement

    def evaluate(self, bar: Bar) -> BagEvaluation:
        """Label, compare, measure. Raises InputError; what is known by then is kept."""
        for half in self.folder.glob(".*.tmp"):  # what a killed run was writing
            half.unlink(missing_ok=True)
        with BagFrames(self.index, self.options) as frames:
            check = check_bag(
                frames, self.reference, self.keep_going, self.z_offset, self.placement
            )
        records = self._label(bar)
        if all(record.error for record in records):
            raise InputError(f"{self.index.path}: {records[0].error}")
        truth_set = self.truth.label_set if self.truth else None
        if self.truth and not any(record.scores for record in records):
            raise InputError(f"{self.truth.detail}: no cloud of {self.index.path} has labels there")
        motion, times = self._motion(records, check.facts["first"]["frame_id"], bar)
        stabilities = self._stability(records, motion, times, bar)
        student = self.networks[STUDENT].label_set
        teacher = self.networks.get(TEACHER)
        scores = {}
        if truth_set is not None:
            judged = shared_label_set(student, truth_set)
            scores = {
                name: Figures(
                    [r.scores[name] for r in records if r.scores], judged, self.min_points
                )
                for name in self.networks
            }
        return BagEvaluation(
            data=self._data(),
            networks=self.networks,
            records=records,
            stabilities=stabilities,
            motion=_described(motion),
            poses=motion.poses,
            scores=scores,
            agreement_set=shared_label_set(student, teacher.label_set) if teacher else None,
            truth_set=truth_set,
            check=check,
            command=self.command,
            version=self.version,
            notes=self._notes(records),
        )

    def _data(self) -> dict[str, Any]:
        return {
            "bag": str(self.index.path),
            "name": self.index.path.name,
            "topic": self.index.topic,
            "clouds": len(self.index),
            "labels": self.truth.detail if self.truth else None,
            "input": self._input,
            "workers": self.workers,
        }

    def _notes(self, records: Sequence[FrameRecord]) -> tuple[str, ...]:
        notes = [self.index.damage] if self.index.damage else []
        with_truth = sum(bool(record.scores) for record in records)
        if self.truth and with_truth < len(records):
            notes.append(f"{with_truth} of {len(records)} clouds have true labels")
        if self.workers > 1:
            notes.append(
                f"latencies were measured while {self.workers} processes shared the machine"
            )
        total, cpu = (
            sum(record.milliseconds.get(step, 0.0) for record in records)
            for step in ("total", "cpu")
        )
        if cpu < _BUSY * total and "cuda" not in self.networks[STUDENT].engine:
            notes.append(
                f"the student computed {cpu / total:.0%} of the time that a cloud took: something "
                "else used this machine, alone on it latencies are shorter"
            )
        return tuple(notes)

    def _label(self, bar: Bar) -> list[FrameRecord]:
        job = LabellingJob(
            self.index,
            self.options,
            self.loaders[STUDENT],
            self.loaders.get(TEACHER),
            self.truth,
            self.labelled,
            self.keep_going,
            self.z_offset,
            self.placement,
            self.classes,
        )
        blocks = self._open_blocks(self.labelled)
        total = sum(map(len, blocks))
        run_blocks(job, blocks, self.workers, bar("label", total))
        return [self._record(i) for i in range(len(self.index))]

    def _record(self, index: int) -> FrameRecord:
        stored = self.labelled.load(index)
        if stored is None:
            raise InputError(f"{self.labelled.path(index)}: vanished or changed; run again")
        return FrameRecord.from_dict(stored.record)

    def _open_blocks(self, store: FrameStore) -> list[range]:
        """Blocks with a frame that is not known."""
        size = min(_BLOCK, max(1, len(self.index) // (2 * self.workers)))
        return [b for b in self.index.blocks(size) if not all(store.has(i) for i in b)]

    def _motion(
        self, records: Sequence[FrameRecord], frame_id: str, bar: Bar
    ) -> tuple[EgoMotion, list[int]]:
        """Where the sensor was, and the times of the frames that go with it; kept on disk."""
        stamps = [record.stamp_ns for record in records]
        rising = all(a < b for a, b in pairwise(stamps))
        times = stamps if rising else [record.time_ns for record in records]
        notes = () if rising else ("stamps do not rise: recording times are used in their place",)
        store = FrameStore(
            self.folder, MOTION, {**self._measured, "poses": self.poses, "file": _mtime(self.poses)}
        )
        known = store.load(0)
        if known is None:
            with BagFrames(self.index, self.options) as frames:
                found = ego_motion(self.poses, frames, times, frame_id, bar("poses", len(times)))
            record, poses = dump_motion(found)
            store.save(0, record, poses=poses)
            if found.known:
                keep = [i for i, pose in enumerate(found.poses) if pose is not None]
                Trajectory.of_matrices([times[i] for i in keep], poses[keep]).save(
                    self.folder / "trajectory.txt"
                )
        else:
            found = load_motion(dict(known.record), known.arrays["poses"])
        return EgoMotion(found.poses, found.source, (*notes, *found.notes)), times

    def _stability(
        self, records: Sequence[FrameRecord], motion: EgoMotion, times: Sequence[int], bar: Bar
    ) -> dict[int, FrameStability]:
        readable = [
            pose is not None and not record.error
            for pose, record in zip(motion.poses, records, strict=True)
        ]
        pairs = partners(times, readable)
        if not any(pairs):
            return {}
        classes = {name: len(network.label_set) for name, network in self.networks.items()}
        if self.truth:
            classes[TRUTH] = len(self.truth.label_set)
        poses = dump_motion(motion)[1]
        store = FrameStore(
            self.folder, STABILITY, {**self._measured, "poses": np.round(poses, 9).tolist()}
        )
        job = StabilityJob(
            self.index, self.options, motion.poses, tuple(pairs), classes, self.labelled, store
        )
        blocks = [
            block
            for block in self.index.blocks(4 * _BLOCK)
            if any(pairs[i] and not store.has(i) for i in block)
        ]
        total = sum(map(len, blocks))
        run_blocks(job, blocks, self.workers, bar("stability", total))
        found = {i: store.load(i) for i, pair in enumerate(pairs) if pair}
        return {i: FrameStability.of(stored) for i, stored in found.items() if stored is not None}


def _described(motion: EgoMotion) -> dict[str, Any]:
    places = np.array([pose[:3, 3] for pose in motion.poses if pose is not None]).reshape(-1, 3)
    metres = float(np.linalg.norm(np.diff(places, axis=0), axis=1).sum())
    return {
        "source": motion.source,
        "known": motion.known,
        "metres": round(metres, 2),
        "notes": list(motion.notes),
    }


def _mtime(poses: str) -> int | None:
    """So that a changed file is read again."""
    path = Path(poses)
    return path.stat().st_mtime_ns if path.is_file() else None
