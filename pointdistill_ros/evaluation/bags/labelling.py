# SPDX-License-Identifier: Apache-2.0
"""Label every frame of a bag with one or two networks, exactly as the node does; keep the results.

- a frame takes the node's path: decode, place, label, remap, encode; only publishing is left out
- frames are shared among processes and kept on disk one by one, so the result is the same for any
  number of processes and after any interruption
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.agreement import Labelling, compare
from pointdistill_ros.evaluation.bags.frame_record import FrameRecord
from pointdistill_ros.evaluation.bags.frame_store import FrameStore
from pointdistill_ros.evaluation.bags.frames import BagFrame, BagFrames, FrameIndex
from pointdistill_ros.evaluation.bags.truth import Truth, stamp_of
from pointdistill_ros.evaluation.distance import band_of
from pointdistill_ros.evaluation.tally import tally
from pointdistill_ros.evaluation.walk import Labeller, shared_label_set
from pointdistill_ros.io.pointcloud2 import DecodeOptions, encode_labels
from pointdistill_ros.labels import UNLABELLED
from pointdistill_ros.placement import Placement
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation
from pointdistill_ros.sent_classes import SentClasses

STUDENT, TEACHER, TRUTH = "student", "teacher", "truth"
"""Names of labellings, in records and files."""


@dataclass(frozen=True)
class LabellingJob:
    """Everything a process needs to label frames. Picklable where its parts are."""

    index: FrameIndex
    options: DecodeOptions
    load_student: Callable[[], Labeller]
    load_teacher: Callable[[], Labeller] | None
    truth: Truth | None
    store: FrameStore
    keep_going: bool = False
    z_offset: float = 0.0
    """Metres that the networks see the clouds higher, as the node's ``input.z_offset``."""
    placement: Placement = field(default_factory=Placement)
    """The frame in which they see them, as its ``input.target_frame``."""
    classes: str = "model"
    """The classes of the labels, as its ``output.classes``."""

    def __call__(self) -> FrameLabeller:
        """What does the work in a process."""
        return FrameLabeller(self)


class FrameLabeller:
    """A BlockWorker. Raises InputError for a frame that cannot be read, unless it shall go on."""

    def __init__(self, job: LabellingJob) -> None:
        self._job = job
        self._frames = BagFrames(job.index, job.options)
        self._student = _Sender(job.load_student(), job.classes)
        self._teacher = _Sender(job.load_teacher(), job.classes) if job.load_teacher else None

    def __enter__(self) -> FrameLabeller:
        self._frames.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._frames.__exit__(*error)

    def __call__(self, block: range, on_frame: Callable[[], None]) -> None:
        """Label the frames that are not known yet."""
        store = self._job.store
        missing = [index for index in block if not store.has(index)]
        if missing:
            for frame in self._frames.read(range(missing[0], missing[-1] + 1)):
                if frame.index in missing:
                    record, labels = self._frame(frame)
                    store.save(frame.index, record.to_dict(), **labels)
                    on_frame()
        for _ in range(len(block) - len(missing)):
            on_frame()

    def _frame(self, frame: BagFrame) -> tuple[FrameRecord, dict[str, NDArray[np.uint8]]]:
        stamp_ns = stamp_of(frame.message.cdr)
        try:
            return self._label(frame, stamp_ns)
        except InputError as error:
            if not self._job.keep_going:
                raise
            return FrameRecord(frame.index, frame.message.time_ns, stamp_ns, 0, str(error)), {}

    def _label(
        self, frame: BagFrame, stamp_ns: int
    ) -> tuple[FrameRecord, dict[str, NDArray[np.uint8]]]:
        cloud = frame.cloud
        began, computed = time.perf_counter(), time.process_time()
        scan = frame.scan()
        seen = self._placed(scan, frame)
        decoded = time.perf_counter()
        student = self._student(seen, frame)
        segmented = time.perf_counter()
        parts = encode_labels(cloud, student)
        ended = time.perf_counter()
        milliseconds = {
            "decode": 1e3 * (decoded - began),
            **{name: value for name, value in student.timing.items() if name != "total"},
            "encode": 1e3 * (ended - segmented),
            "total": 1e3 * (ended - began),
            "cpu": 1e3 * (time.process_time() - computed),
        }
        truth = self._job.truth.of(frame) if self._job.truth else None
        results, agreement = {STUDENT: student}, None
        labels = {STUDENT: student.labels}
        if self._teacher is not None:
            began = time.perf_counter()
            teacher = self._teacher(seen, frame)
            milliseconds[TEACHER] = 1e3 * (time.perf_counter() - began)
            results[TEACHER], labels[TEACHER] = teacher, teacher.labels
            judged = shared_label_set(student.label_set, teacher.label_set)
            first, second = (
                Labelling(r.label_set.remap_to(judged)[r.labels], r.probability)
                for r in (teacher, student)
            )
            agreement = compare(first, second, len(judged), band_of(scan.xyz))
        scores = {}
        if truth is not None:
            assert self._job.truth is not None
            labels[TRUTH] = truth
            known = self._job.truth.label_set
            judged = shared_label_set(student.label_set, known)
            table = known.remap_to(judged)
            scores = {
                name: tally(scan, result, table[truth], judged, name=f"{frame.index:06d}")
                for name, result in results.items()
            }
        counts = np.bincount(student.labels, minlength=256)
        labelled = max(len(scan) - int(counts[UNLABELLED]), 1)
        record = FrameRecord(
            frame.index,
            frame.message.time_ns,
            stamp_ns,
            len(scan),
            sha256=hashlib.sha256(parts.data).hexdigest(),
            counts=(*counts[: len(student.label_set)].tolist(), int(counts[UNLABELLED])),
            probability=float(student.probability.sum(dtype=np.float64)) / labelled,
            entropy=float(student.entropy.sum(dtype=np.float64)) / labelled,
            voxels=student.voxels,
            milliseconds=milliseconds,
            agreement=agreement,
            scores=scores,
        )
        return record, labels

    def _placed(self, scan: LidarScan, frame: BagFrame) -> LidarScan:
        with frame.named():
            return self._job.placement(scan, self._job.z_offset)[0]


class _Sender:
    """A network, and the classes in which its labels go out."""

    def __init__(self, network: Labeller, classes: str) -> None:
        self._network, self._classes = network, SentClasses(network.label_set, classes)

    def __call__(self, scan: LidarScan, frame: BagFrame) -> Segmentation:
        with frame.named():
            return self._classes(self._network(scan))
