# SPDX-License-Identifier: Apache-2.0
"""Recording: what the demo keeps of every cloud that came back with labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import LabelError
from pointdistill_ros.evaluation.confusion import ConfusionMatrix
from pointdistill_ros.io.bag import POINTCLOUD2, BagReader, BagWriter
from pointdistill_ros.io.cloud_layout import CloudBytes
from pointdistill_ros.io.sink import CLASS_INFO_TOPIC, class_info_json
from pointdistill_ros.io.source import BagMessage
from pointdistill_ros.labels import LabelSet

TRUTH_FIELD = "label"
"""Field of simulated clouds with the true class, as raw id of semantic-kitti."""


@dataclass(frozen=True, eq=False)
class LabelledCloud:
    """One cloud for the pictures."""

    xyz: NDArray[np.float32]
    """[N, 3] metres."""
    labels: NDArray[np.uint8]
    """[N] train ids from the node."""
    truth: NDArray[np.uint8] | None
    """[N] true train ids, where the input has them."""


class Recording:
    """Writes input and labelled clouds to a bag, scores them where the truth is known."""

    def __init__(
        self,
        bag: BagWriter,
        reader: BagReader,
        topics: tuple[str, str],
        label_set: LabelSet,
        model_id: str,
    ) -> None:
        """``reader`` deserialises; ``topics``: names of the input and the labelled clouds."""
        self._bag, self._reader, self._topics = bag, reader, topics
        self._label_set, self._model_id = label_set, model_id
        self.confusion = ConfusionMatrix(len(label_set))
        self.latencies: list[float] = []
        """Seconds from publishing a cloud to holding its labels, one per cloud."""
        self.points: list[int] = []
        """Points per cloud."""
        self.has_truth = True
        self.last: LabelledCloud | None = None

    def add(self, sent: BagMessage, labelled: bytes, seconds: float) -> None:
        """Take a cloud and its labelled form, both serialised. Raises LabelError if they differ."""
        input_topic, output_topic = self._topics
        if not self.latencies:
            classes = class_info_json(self._label_set, self._model_id)
            self._bag.write_text(CLASS_INFO_TOPIC, sent.time_ns, classes, latched=True)
        self._bag.write(input_topic, POINTCLOUD2, sent.time_ns, sent.cdr)
        self._bag.write(output_topic, POINTCLOUD2, sent.time_ns, labelled)

        cloud = CloudBytes.of(self._reader.cloud(sent))
        result = CloudBytes.of(self._reader.cloud(BagMessage(output_topic, sent.time_ns, labelled)))
        if len(result) != len(cloud):
            raise LabelError(f"a cloud of {len(cloud)} points came back with {len(result)} labels")
        labels = result.column("class_id")
        truth = self._truth(cloud)
        if truth is not None:
            self.confusion.update(labels, truth)
        self.latencies.append(seconds)
        self.points.append(len(cloud))
        self.last = LabelledCloud(result.xyz(), labels, truth)

    def _truth(self, cloud: CloudBytes) -> NDArray[np.uint8] | None:
        """True train ids; None for good once a cloud has none, or ids of another label set."""
        if self.has_truth and TRUTH_FIELD in cloud.layout:
            try:
                return self._label_set.from_raw(cloud.column(TRUTH_FIELD))
            except (LabelError, TypeError, IndexError):
                pass
        self.has_truth = False
        return None

    def summary(self) -> dict[str, Any]:
        """Figures for people and programs; ``iou`` only of classes that occur."""
        milliseconds = 1e3 * np.asarray(self.latencies or [np.nan])
        figures: dict[str, Any] = {
            "points": sum(self.points),
            "latency_ms": {
                f"p{percent}": round(float(np.percentile(milliseconds, percent)), 1)
                for percent in (50, 90, 99)
            },
        }
        if self.has_truth and self.points:
            present = self.confusion.points() > 0
            scores = zip(self._label_set.names, self.confusion.iou(), present, strict=True)
            figures["accuracy"] = round(self.confusion.accuracy(), 4)
            figures["miou"] = round(self.confusion.miou(), 4)
            figures["iou"] = {name: round(float(iou), 4) for name, iou, here in scores if here}
        return figures

    def write_pictures(self, folder: Path) -> list[Path]:
        """Draw the last cloud from above and as the sensor sees it; beside the truth if known."""
        from pointdistill_ros.evaluation.pictures import birds_eye, comparison, range_view

        if self.last is None:
            return []
        xyz, labels, truth = self.last.xyz, self.last.labels, self.last.truth
        birds_eye(xyz, labels, self._label_set, folder / "birds_eye.png")
        range_view(xyz, labels, self._label_set, folder / "range_view.png")
        written = [folder / "birds_eye.png", folder / "range_view.png"]
        if truth is not None:
            comparison(xyz, labels, truth, self._label_set, folder / "comparison.png")
            written.append(folder / "comparison.png")
        return written
