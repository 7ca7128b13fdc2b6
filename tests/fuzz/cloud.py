# SPDX-License-Identifier: Apache-2.0
"""PointCloud2: any numbers in a message give CloudError or labels for exactly its points."""

import struct
from types import SimpleNamespace

import numpy as np

from pointdistill_ros import LabelSet, Segmentation
from pointdistill_ros.errors import CloudError
from pointdistill_ros.io.cloud_filter import FILTER_FORMATS, reduce_points
from pointdistill_ros.io.cloud_layout import CloudBytes, CloudField
from pointdistill_ros.io.columns import INTENSITY_SCALES
from pointdistill_ros.io.pointcloud2 import (
    LAYOUTS,
    DecodeOptions,
    decode,
    encode_labels,
    encode_scan,
)
from tests.fuzz.target import Choices, Target

KITTI = LabelSet.named("semantic-kitti")
NAMES = (
    *("x", "y", "z", "intensity", "ring", "t", "timestamp", "i", "signal", "channel", "time"),
    *("rgb", "class_id", "probability", "entropy", "", "é\0", "offset_time", "line"),
)
_SIZES = struct.Struct("<IIIIiIBBB")  # height width point_step row_step sec nanosec and three flags
_FIELD = struct.Struct("<BIBI")  # name (index) offset datatype count


def message_of(data: bytes):
    """A message of SIZES, FIELDs and points; options for reading it."""
    choices = Choices(data)
    height, width, step, row, sec, nanosec, big, options, count = _SIZES.unpack(
        choices.take(_SIZES.size)
    )
    fields = []
    for _ in range(count):
        name, *numbers = _FIELD.unpack(choices.take(_FIELD.size))
        fields.append(CloudField(NAMES[name % len(NAMES)], *numbers))
    header = SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id="lidar")
    message = SimpleNamespace(
        header=header,
        height=height,
        width=width,
        point_step=step,
        row_step=row,
        is_bigendian=bool(big & 1),
        fields=fields,
        data=choices.rest(),
    )
    scale = INTENSITY_SCALES[options % len(INTENSITY_SCALES)]
    return message, DecodeOptions(("auto", "signal")[options >> 6 & 1], scale, options > 127)


def check(data: bytes) -> None:
    message, options = message_of(data)
    scan = decode(message, options)
    points = message.height * message.width
    assert len(scan) == points <= len(message.data)
    header = message.header
    assert scan.stamp_ns == header.stamp.sec * 10**9 + header.stamp.nanosec
    assert scan.frame == "lidar"
    if scan.intensity is not None and options.intensity_scale != "none":
        assert ((scan.intensity >= 0) & (scan.intensity <= 1)).all()
    labels = (np.arange(points) % 19).astype(np.uint8)
    share = np.linspace(0, 1, points, dtype=np.float32)
    segmentation = Segmentation(labels, share, 1 - share, KITTI)
    plain = scan if not options.zero_is_no_return else decode(message)
    for layout in LAYOUTS:
        _check_layout(message, plain, segmentation, layout)
    keep = (labels % 3 != 0) | (labels > 15)
    for layout in FILTER_FORMATS:
        _check_filtered(message, keep, layout)


def _check_layout(message, scan, segmentation, layout: str) -> None:
    try:
        parts = encode_labels(message, segmentation, layout)
    except CloudError:
        assert layout == "append"
        assert any(f.name in ("class_id", "probability", "entropy") for f in message.fields)
        return
    assert (parts.height, parts.width) == (message.height, message.width)
    assert parts.point_step <= message.point_step + 24
    assert len(parts.data) == len(scan) * parts.point_step
    assert parts.row_step == (parts.point_step * parts.width if len(scan) else 0)
    if not len(scan):
        return
    assert parts.is_dense == bool(np.isfinite(scan.xyz).all())
    if layout != "append":
        np.testing.assert_array_equal(decode(parts).xyz, scan.xyz)
    if layout != "rgb":
        at = next(f.offset for f in parts.fields if f.name == "class_id")
        written = np.frombuffer(parts.data, np.uint8).reshape(len(scan), parts.point_step)
        np.testing.assert_array_equal(written[:, at], segmentation.labels)


def _check_filtered(message, keep, layout: str) -> None:
    try:
        parts = reduce_points(message, keep, layout)
    except CloudError:
        assert layout != "input"  # the cloud has all that it needs
        return
    assert (parts.height, parts.width) == (1, keep.sum())
    assert len(parts.data) == parts.row_step == parts.width * parts.point_step
    if layout == "input":
        points = CloudBytes.of(message).points().reshape(-1)[keep]
        assert bytes(parts.data) == points.tobytes()


def bytes_of(message, *, sec=1, nanosec=2, options=0, row_step=None) -> bytes:
    """Inverse of ``message_of`` for messages whose fields have known names."""
    sizes = _SIZES.pack(
        *(message.height, message.width, message.point_step),
        message.row_step if row_step is None else row_step,
        *(sec, nanosec, message.is_bigendian, options, len(message.fields)),
    )
    fields = (
        _FIELD.pack(NAMES.index(f.name), f.offset, f.datatype, f.count) for f in message.fields
    )
    return sizes + b"".join(fields) + bytes(message.data)


def seeds() -> dict[str, bytes]:
    from pointdistill_ros.scan import LidarScan

    xyz = np.array([[1, 2, 3], [np.nan, 5, 6], [0, 0, 0], [-8, np.inf, 9]])
    columns = {"intensity": [0, 0.5, 300, 7], "ring": [0, 1, 2, 3], "time": [0, 0.01, 0.02, 2e6]}
    velodyne = encode_scan(LidarScan.from_arrays(xyz, **columns))
    bare = encode_scan(LidarScan.from_arrays(xyz[:1]))
    big = SimpleNamespace(**vars(bare) | {"is_bigendian": True})
    rows = SimpleNamespace(**vars(velodyne) | {"height": 2, "width": 2, "row_step": 44})
    ouster = SimpleNamespace(
        height=2,
        width=1,
        point_step=48,
        row_step=52,
        is_bigendian=False,
        fields=[
            *(CloudField(name, 4 * i, 7) for i, name in enumerate("xyz")),
            *(CloudField("signal", 16, 7), CloudField("t", 20, 6), CloudField("ring", 24, 4, 0)),
        ],
        data=bytes(range(104)),
    )
    return {
        "velodyne": bytes_of(velodyne),
        "bare": bytes_of(bare, options=128),
        "big-endian": bytes_of(big, options=7),
        "two-rows": bytes_of(rows, options=1),
        "ouster-padded": bytes_of(ouster, options=3),
        "labelled": bytes_of(
            encode_labels(
                bare, Segmentation(np.uint8([3]), np.float32([1]), np.float32([0]), KITTI)
            )
        ),
        "empty": bytes_of(SimpleNamespace(**vars(bare) | {"width": 0, "data": b""})),
    }


TARGET = Target("cloud", check, seeds, share=35, max_len=1024)
