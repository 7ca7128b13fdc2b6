# SPDX-License-Identifier: Apache-2.0
"""Segmentation → ROS messages. Where our own messages are not built, standard ones carry on."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from importlib import util
from typing import Any

import numpy as np
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import String

from pointdistill_ros.evaluation.legend import legend_image, official_entries
from pointdistill_ros.io.pointcloud2 import CloudParts, OutputLayout, encode_labels
from pointdistill_ros.labels import UNLABELLED, LabelSet
from pointdistill_ros.nodes.worker import Counters
from pointdistill_ros.segmentation import Segmentation

try:
    from pointdistill_ros.msg import ClassInfo, SegmentationStats
except ImportError:  # installed without the CMake step
    ClassInfo = SegmentationStats = None
try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:  # not part of every ROS installation
    LabelInfo = VisionClass = None

__all__ = [
    "LEGENDS",
    "ClassInfo",
    "CloudWriter",
    "LabelInfo",
    "SegmentationStats",
    "class_info",
    "class_info_type",
    "label_info",
    "legend",
    "segmentation_stats",
]

LEGENDS = util.find_spec("PIL") is not None
"""Whether there is something to draw them with."""
_LEGEND_TEXT = 16
"""Pixels."""


class CloudWriter:
    """The message of one output topic, used again for every cloud: publishing copies it."""

    def __init__(self) -> None:
        self._message = PointCloud2()

    def write(self, cloud: Any, segmentation: Segmentation, layout: OutputLayout) -> PointCloud2:
        """The labelled form of a PointCloud2, header included. Raises CloudError."""
        parts = encode_labels(cloud, segmentation, layout, buffer=self._message.data)
        return self.fill(cloud.header, parts)

    def fill(self, header: Any, parts: CloudParts) -> PointCloud2:
        """The message made of these."""
        message = self._message
        message.header = header
        message.height, message.width = parts.height, parts.width
        message.fields = [
            PointField(name=f.name, offset=f.offset, datatype=f.datatype, count=f.count)
            for f in parts.fields
        ]
        message.is_bigendian, message.is_dense = parts.is_bigendian, parts.is_dense
        message.point_step, message.row_step = parts.point_step, parts.row_step
        if parts.data is not message.data:
            message.data = parts.data
        return message


def class_info_type() -> Any:
    """Type of ``~/class_info``: ClassInfo, or String (JSON with the same fields) without it."""
    return ClassInfo or String


def class_info(label_set: LabelSet, model_id: str, weights_sha256: str) -> Any:
    """What the class ids mean, as ``class_info_type()``."""
    content: dict[str, Any] = {
        "label_set": label_set.name,
        "model_id": model_id,
        "weights_sha256": weights_sha256,
        "names": list(label_set.names),
        "rgb": [channel for colour in label_set.colours for channel in colour],
        "unlabelled": UNLABELLED,
    }
    return ClassInfo(**content) if ClassInfo else String(data=json.dumps(content))


def legend(label_set: LabelSet) -> Image:
    """A picture of the class names beside the colours of ``~/visualization``."""
    pixels = legend_image({label_set.name: official_entries(label_set)}, size=_LEGEND_TEXT)
    height, width, channels = pixels.shape
    message = Image(height=height, width=width, encoding="rgb8", step=channels * width)
    message.data = array("B", pixels.tobytes())
    return message


def label_info(label_set: LabelSet, stamp: Any) -> Any:
    """What the class ids mean, as vision_msgs/LabelInfo; its threshold is 0: every point counts."""
    message = LabelInfo(threshold=0.0)
    message.header.stamp = stamp
    names = {**dict(enumerate(label_set.names)), UNLABELLED: "UNLABELED"}
    message.class_map = [
        VisionClass(class_id=number, class_name=name) for number, name in names.items()
    ]
    return message


def segmentation_stats(
    header: Any,
    model_id: str,
    segmentation: Segmentation,
    milliseconds: Mapping[str, float],
    drift: float,
    counters: Counters,
    health: tuple[int, str],
) -> Any:
    """SegmentationStats of one cloud; ``milliseconds`` of every step (outputs.TIMES)."""
    histogram = np.bincount(segmentation.labels, minlength=256)
    valid = len(segmentation) - int(histogram[UNLABELLED])
    shares = histogram[: len(segmentation.label_set)] / max(valid, 1)
    return SegmentationStats(
        header=header,
        model_id=model_id,
        points=len(segmentation),
        valid_points=valid,
        voxels=segmentation.voxels,
        age_ms=milliseconds["age"],
        decode_ms=milliseconds["decode"],
        geometry_ms=milliseconds["geometry"],
        network_ms=milliseconds["network"],
        publish_ms=milliseconds["publish"],
        total_ms=milliseconds["total"],
        received=counters.received,
        processed=counters.processed,
        dropped=counters.dropped,
        class_fraction=shares.tolist(),
        mean_probability=float(segmentation.probability.sum(dtype=np.float64)) / max(valid, 1),
        mean_entropy=float(segmentation.entropy.sum(dtype=np.float64)) / max(valid, 1),
        drift_score=drift,
        health=health[0],
        degradation=health[1],
    )
