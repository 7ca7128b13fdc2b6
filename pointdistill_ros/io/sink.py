# SPDX-License-Identifier: Apache-2.0
"""Where labels go: a folder with one file per scan, or a bag with the clouds and their labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

from pointdistill_ros.errors import InputError
from pointdistill_ros.io.bag_writer import BagWriter
from pointdistill_ros.io.cloud_parts import OutputLayout, encode_labels, encode_scan
from pointdistill_ros.io.source import PERIOD_NS, ScanEntry, ScanSource
from pointdistill_ros.labels import UNLABELLED, LabelSet
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation

CLASS_INFO_TOPIC = "/class_info"
_FILE_SUFFIXES = (".label", ".npz", ".npy", ".bin", ".pcd", ".db3", ".bag")


class LabelSink(Protocol):
    """Takes one segmentation after the other. A context manager."""

    def __enter__(self) -> LabelSink: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def write(self, entry: ScanEntry, scan: LidarScan, segmentation: Segmentation) -> None:
        """Keep the labels of a scan."""
        ...


def open_sink(
    path: Path,
    sources: Sequence[ScanSource],
    *,
    suffix: str = ".label",
    layout: OutputLayout = "xyzcpe_aligned",
    class_info: str = "",
) -> LabelSink:
    """Choose by the path: NAME.mcap is a bag, anything else a folder of ``suffix`` files.

    ``class_info`` is the text for the bag's latched ``/class_info``. Raises InputError, before
    anything is written, where results would overwrite an input or each other.
    """
    if path.suffix in _FILE_SUFFIXES and not path.is_dir():
        raise InputError(f"{path}: cannot write labels here; expected a folder or NAME.mcap")
    inputs = {source.path.resolve() for source in sources}
    if path.resolve() in inputs and (path.suffix == ".mcap" or suffix == ".npz"):
        raise InputError(f"{path}: input and output are the same")
    if path.suffix == ".mcap":
        return LabelledBag(path, layout, class_info)
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: a file; expected a folder or NAME.mcap")
    targets: set[Path] = set()
    for source in sources:
        for target in (path / f"{name}{suffix}" for name in source.names):
            if target in targets:
                raise InputError(
                    f"{target}: two scans would write this file; label the inputs one by one"
                )
            if target.resolve() in inputs:
                raise InputError(f"{target}: input and output are the same")
            targets.add(target)
    return LabelFolder(path, suffix)


class LabelFolder:
    """One ``.label`` (raw ids) or ``.npz`` (labels, probability, entropy) per scan."""

    def __init__(self, path: Path, suffix: str = ".label") -> None:
        self.path = path
        self.suffix = suffix

    def __enter__(self) -> LabelFolder:
        return self

    def __exit__(self, *_: object) -> None:
        """Every file is complete already."""

    def write(self, entry: ScanEntry, scan: LidarScan, segmentation: Segmentation) -> None:
        """Write the file of a scan, whole or not at all."""
        segmentation.save(self.path / f"{entry.name}{self.suffix}")


class LabelledBag:
    """An mcap bag: every input cloud, on ``<its topic>/labeled`` the labels, latched class names.

    Clouds of a bag are copied byte for byte and the labelled ones carry their header. Scans of
    files become clouds on ``/points``.
    """

    def __init__(self, path: Path, layout: OutputLayout, class_info: str = "") -> None:
        self._writer = BagWriter(path)
        self._layout: OutputLayout = layout
        self._class_info = class_info
        self._last_ns = -PERIOD_NS

    def __enter__(self) -> LabelledBag:
        self._writer.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def write(self, entry: ScanEntry, scan: LidarScan, segmentation: Segmentation) -> None:
        """Append a cloud and its labels. Raises CloudError where the layout does not fit it."""
        writer = self._writer
        if entry.recorded is not None and entry.cloud is not None:
            topic, time_ns, stamp_ns = entry.recorded.topic, entry.time_ns, scan.stamp_ns
            labelled = encode_labels(entry.cloud(), segmentation, self._layout)
            writer.write(topic, "sensor_msgs/msg/PointCloud2", time_ns, entry.recorded.cdr)
        else:
            # a second folder starts at 0 again: it follows the first one in time
            behind = entry.time_ns > self._last_ns
            time_ns = stamp_ns = entry.time_ns if behind else self._last_ns + PERIOD_NS
            topic, cloud = "/points", encode_scan(scan)
            labelled = encode_labels(cloud, segmentation, self._layout)
            writer.write_cloud(topic, time_ns, cloud, stamp_ns=stamp_ns, frame=scan.frame)
        if self._class_info:
            writer.write_text(CLASS_INFO_TOPIC, time_ns, self._class_info, latched=True)
            self._class_info = ""  # once is enough: the topic is latched
        writer.write_cloud(
            f"{topic}/labeled", time_ns, labelled, stamp_ns=stamp_ns, frame=scan.frame
        )
        self._last_ns = max(self._last_ns, time_ns)


def class_info_json(label_set: LabelSet, model_id: str, weights_sha256: str = "") -> str:
    """What the class ids mean, with the fields of ClassInfo.msg, so that a bag explains itself."""
    return json.dumps(
        {
            "label_set": label_set.name,
            "model_id": model_id,
            "weights_sha256": weights_sha256,
            "names": list(label_set.names),
            "rgb": [channel for colour in label_set.colours for channel in colour],
            "unlabelled": UNLABELLED,
        }
    )
