# SPDX-License-Identifier: Apache-2.0
"""What `pointdistill view` shows: the scans of an input, and labels that somebody gave them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pointdistill_ros.errors import CloudError, InputError, LabelError, ScanError
from pointdistill_ros.io.pointcloud2 import DecodeOptions
from pointdistill_ros.placement import Placement

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pointdistill_ros.evaluation.bags.frames import FrameIndex
    from pointdistill_ros.evaluation.bags.truth import Truth
    from pointdistill_ros.io.bag import BagScans
    from pointdistill_ros.io.source import ScanSource
    from pointdistill_ros.labels import LabelSet
    from pointdistill_ros.scan import LidarScan

NO_LABELS = "none"


class ViewFrame(NamedTuple):
    """One scan."""

    name: str
    """For people and messages: where it is from."""
    scan: LidarScan
    seen: LidarScan
    """As the networks see it: in another frame, higher."""
    labels: NDArray[np.uint8] | None
    """[N] train ids of the input's ``label_set``; None where it has none."""


class ViewInput(Protocol):
    """Scans with the labels that were found for them."""

    @property
    def label_set(self) -> LabelSet | None:
        """What the labels mean; None where there are none for any scan."""

    def __len__(self) -> int: ...

    def frames(self, limit: int | None = None) -> Iterator[ViewFrame]:
        """In order, at most so many. Raises InputError."""


@dataclass(frozen=True)
class ViewOptions:
    """What was asked for. Fields are the options of the same names."""

    topic: str | None = None
    labels: str | None = None
    decode: DecodeOptions = DecodeOptions()  # noqa: RUF009 - frozen
    z_offset: float = 0.0
    target_frame: str = ""


def open_view(source: ScanSource, options: ViewOptions, label_set: LabelSet) -> ViewInput:
    """Find the labels of the scans. Raises InputError.

    ``label_set``: what labels of ``options.labels``, or of the input itself, mean.
    """
    from pointdistill_ros.io.bag import BagScans

    if isinstance(source, BagScans):
        return _open_bag(source, options, label_set)
    if options.target_frame:
        raise InputError(f"{source.path}: scan files have no frames; --target-frame is for bags")
    files = _label_files(source, options.labels)
    return ScanView(source, files, label_set if files else None, options.z_offset)


@dataclass(frozen=True)
class ScanView:
    """Scan files, and .label files of the same names."""

    source: ScanSource
    files: Mapping[str, Path]
    label_set: LabelSet | None
    z_offset: float

    def __len__(self) -> int:
        return len(self.source)

    def frames(self, limit: int | None = None) -> Iterator[ViewFrame]:
        """See ``ViewInput``."""
        for entry in islice(self.source.entries(), limit):
            name = f"{self.source.path}: scan {entry.name}"
            with named(name):
                scan = entry.load()
                labels = self._labels(entry.name, len(scan))
                yield ViewFrame(name, scan, scan.lifted(self.z_offset), labels)

    def _labels(self, name: str, points: int) -> NDArray[np.uint8] | None:
        from pointdistill_ros.io.binfile import read_labels

        path = self.files.get(name)
        if path is None or self.label_set is None:
            return None
        try:
            return self.label_set.from_raw(read_labels(path, points)[0])
        except LabelError as error:
            raise InputError(
                f"{path}: {error}; --label-set names another, --labels none"
            ) from error


@dataclass(frozen=True)
class BagView:
    """Clouds of a bag, and labels from wherever `evaluate-bag` takes them."""

    index: FrameIndex
    truth: Truth | None
    options: ViewOptions
    placement: Placement

    @property
    def label_set(self) -> LabelSet | None:
        """See ``ViewInput``."""
        return self.truth.label_set if self.truth else None

    def __len__(self) -> int:
        return len(self.index)

    def frames(self, limit: int | None = None) -> Iterator[ViewFrame]:
        """See ``ViewInput``."""
        from pointdistill_ros.evaluation.bags.frames import BagFrames

        with BagFrames(self.index, self.options.decode) as frames:
            for frame in islice(frames.all(), limit):
                scan = frame.scan()
                with frame.named():
                    seen, _ = self.placement(scan, self.options.z_offset)
                labels = self.truth.of(frame) if self.truth else None
                name = f"{self.index.path}: cloud {frame.index} on {self.index.topic}"
                yield ViewFrame(name, scan, seen, labels)


@contextmanager
def named(name: str) -> Iterator[None]:
    """Make CloudError and ScanError an InputError that says where the scan came from."""
    try:
        yield
    except (CloudError, ScanError) as error:
        raise InputError(f"{name}: {error}") from error


def _open_bag(source: BagScans, options: ViewOptions, label_set: LabelSet) -> BagView:
    from pointdistill_ros.evaluation.bags.frames import FrameIndex
    from pointdistill_ros.evaluation.bags.mounting import open_mounting
    from pointdistill_ros.evaluation.bags.truth import open_truth, own_truth

    index = FrameIndex.of(source.path, source.topic)
    frame = options.target_frame
    placement = open_mounting(index, frame).placement if frame else Placement()
    if options.labels == NO_LABELS:
        return BagView(index, None, options, placement)
    if options.labels:
        return BagView(index, open_truth(options.labels, index, label_set), options, placement)
    truth, why_not = own_truth(index, label_set)
    if why_not:
        print(f"view: {why_not}", file=sys.stderr)
    return BagView(index, truth, options, placement)


def _label_files(source: ScanSource, named_folder: str | None) -> dict[str, Path]:
    """Scan → its file, from the folder that is named or that a KITTI sequence has."""
    if named_folder == NO_LABELS:
        return {}
    own = source.path / "labels"
    folder = Path(named_folder) if named_folder else own
    if named_folder is None and not ((source.path / "velodyne").is_dir() and own.is_dir()):
        return {}
    found = {name: folder / f"{name}.label" for name in source.names}
    files = {name: path for name, path in found.items() if path.is_file()}
    if named_folder and not files:
        first = next(iter(found.values()))
        raise InputError(
            f"{folder}: no labels for the scans of {source.path}; expected a folder of .label "
            f"files named as these, {first.name} the first"
        )
    return files
