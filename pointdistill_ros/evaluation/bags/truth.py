# SPDX-License-Identifier: Apache-2.0
"""Where the true labels of a bag's clouds come from: a field, another topic, a folder.

Each source is small and picklable, so that every worker process has it. A frame without labels is
no error, a source without labels for any frame is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import CloudError, InputError, LabelError
from pointdistill_ros.evaluation.bags.frames import BagFrame, BagFrames, FrameIndex
from pointdistill_ros.io.bag import POINTCLOUD2, BagReader
from pointdistill_ros.io.binfile import read_labels
from pointdistill_ros.io.cloud_layout import CloudBytes
from pointdistill_ros.labels import LabelSet

RAW_FIELD, TRAIN_FIELD = "label", "class_id"
"""Fields with raw ids (as in the data set's files) and with train ids (as our nodes publish)."""


class Truth(Protocol):
    """Source of true labels."""

    @property
    def label_set(self) -> LabelSet:
        """What they mean."""

    @property
    def detail(self) -> str:
        """Where they come from, for people."""

    def of(self, frame: BagFrame) -> NDArray[np.uint8] | None:
        """Train ids [N] of a frame's points, None where it has none. Raises InputError."""


@dataclass(frozen=True)
class FieldTruth:
    """The clouds carry their labels themselves, as simulated ones do."""

    label_set: LabelSet
    field: str = RAW_FIELD

    @property
    def detail(self) -> str:
        """See ``Truth``."""
        return f"field {self.field!r} of the clouds"

    def of(self, frame: BagFrame) -> NDArray[np.uint8] | None:
        """See ``Truth``."""
        return _labels(frame.cloud, self.field, self.label_set, _name(frame))


@dataclass(frozen=True)
class TopicTruth:
    """Clouds of another topic with the same stamps and points."""

    label_set: LabelSet
    topic: str
    times_ns: Mapping[int, int]
    """Stamp → recording time."""

    @property
    def detail(self) -> str:
        """See ``Truth``."""
        return f"topic {self.topic}"

    def of(self, frame: BagFrame) -> NDArray[np.uint8] | None:
        """See ``Truth``."""
        stamp = stamp_of(frame.message.cdr)
        time_ns = self.times_ns.get(stamp)
        if time_ns is None:
            return None
        for message in frame.bag.messages(self.topic, start_ns=time_ns, stop_ns=time_ns + 1):
            if stamp_of(message.cdr) == stamp:
                cloud = frame.bag.deserialise(message, POINTCLOUD2)
                where = f"{frame.bag.path}: labels of cloud {frame.index} on {self.topic}"
                labels = _labels(cloud, None, self.label_set, where)
                return _counted(labels, frame, where)
        return None


@dataclass(frozen=True)
class FolderTruth:
    """``.label`` files as in SemanticKITTI, one a frame."""

    label_set: LabelSet
    folder: Path
    files: Mapping[int, Path]
    """Frame → file."""

    @property
    def detail(self) -> str:
        """See ``Truth``."""
        return f"{self.folder}"

    def of(self, frame: BagFrame) -> NDArray[np.uint8] | None:
        """See ``Truth``."""
        path = self.files.get(frame.index)
        if path is None:
            return None
        cloud = CloudBytes.of(frame.cloud)
        raw, _ = read_labels(path, len(cloud))
        try:
            return self.label_set.from_raw(raw)
        except LabelError as error:
            raise InputError(f"{path}: {error}") from error


def open_truth(named: str, index: FrameIndex, label_set: LabelSet) -> Truth:
    """``named``: a folder of .label files, ``field:NAME`` or a topic. Raises InputError."""
    if named.startswith("field:"):
        return FieldTruth(label_set, named.removeprefix("field:"))
    folder = Path(named)
    if folder.is_dir():
        return _folder(folder, index, label_set)
    with BagReader(index.path) as bag:
        topic = "/" + named.lstrip("/")
        if topic not in bag.topics:
            clouds = ", ".join(t for t, kind in bag.topics.items() if kind == POINTCLOUD2)
            raise InputError(
                f"{named}: neither a folder of .label files nor a topic of {index.path}, which "
                f"has clouds on {clouds}; a field of the clouds is named field:NAME"
            )
        topic = bag.cloud_topic(topic)
        times = {stamp_of(message.cdr): message.time_ns for message in bag.messages(topic)}
        wanted = {stamp_of(message.cdr) for message in bag.messages(index.topic)}
    if not wanted & times.keys():
        raise InputError(
            f"{index.path}: no cloud on {topic} has the stamp of one on {index.topic}; "
            "labels are matched by header.stamp"
        )
    return TopicTruth(label_set, topic, times)


def _folder(folder: Path, index: FrameIndex, label_set: LabelSet) -> FolderTruth:
    """Files in order where there is one a frame, else by their number."""
    files = sorted(folder.glob("*.label"), key=lambda path: (len(path.stem), path.stem))
    if len(files) == len(index):
        return FolderTruth(label_set, folder, dict(enumerate(files)))
    numbered = {int(path.stem): path for path in files if path.stem.isdecimal()}
    if not files or len(numbered) < len(files) or max(numbered) >= len(index):
        raise InputError(
            f"{folder}: {len(files)} .label files for {len(index)} clouds; expected one a cloud in "
            "their order, or names that are the numbers of the clouds, 000000.label the first"
        )
    return FolderTruth(label_set, folder, numbered)


def own_truth(index: FrameIndex, label_set: LabelSet) -> tuple[FieldTruth | None, str]:
    """The labels that the clouds themselves carry, if they do; else why such a field is not it."""
    with BagFrames(index) as frames:
        frame = frames.one(0)
        truth = FieldTruth(label_set)
        try:
            if RAW_FIELD not in CloudBytes.of(frame.cloud).layout:
                return None, ""
            truth.of(frame)
        except (InputError, CloudError) as error:
            return None, f"{error}; field {RAW_FIELD!r} is not taken for true labels"
        return truth, ""


def stamp_of(cdr: bytes) -> int:
    """Nanoseconds of the header that a serialised message begins with."""
    order = "<" if cdr[1:2] == b"\x01" else ">"
    seconds, nanoseconds = np.frombuffer(cdr[4:12], f"{order}u4") if len(cdr) >= 12 else (0, 0)
    return int(np.int32(np.uint32(seconds))) * 1_000_000_000 + int(nanoseconds)


def _labels(cloud: Any, field: str | None, label_set: LabelSet, where: str) -> NDArray[np.uint8]:
    """Labels of the raw or the train ids of a cloud."""
    try:
        data = CloudBytes.of(cloud)
        if not len(data):
            return np.empty(0, np.uint8)
        raw = field or (RAW_FIELD if RAW_FIELD in data.layout else TRAIN_FIELD)
        ids = data.column(raw)
        if ids.dtype.kind not in "iu":
            raise InputError(f"{where}: field {raw!r} is {ids.dtype}; expected whole numbers")
        if raw != TRAIN_FIELD:
            return label_set.from_raw(ids)
        if ((ids >= len(label_set)) & (ids != 255)).any() or (ids < 0).any():
            raise InputError(f"{where}: a class_id is not one of {label_set.name} and not 255")
        return ids.astype(np.uint8)
    except (CloudError, LabelError) as error:
        raise InputError(f"{where}: {error}") from error


def _counted(labels: NDArray[np.uint8], frame: BagFrame, where: str) -> NDArray[np.uint8]:
    points = len(CloudBytes.of(frame.cloud))
    if len(labels) != points:
        raise InputError(f"{where}: {len(labels)} labels for {points} points")
    return labels


def _name(frame: BagFrame) -> str:
    return f"{frame.bag.path}: cloud {frame.index} on {frame.message.topic}"
