# SPDX-License-Identifier: Apache-2.0
"""CloudParts: everything of a PointCloud2 but its header, and the two ways to make one.

- ``encode_labels``: a cloud and its segmentation → labelled cloud, same height, width and order
- ``encode_scan``: a LidarScan → plain cloud
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import CloudError
from pointdistill_ros.io.cloud_layout import DATATYPE_OF, CloudBytes, CloudField, CloudMessage
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation

OutputLayout: TypeAlias = Literal["xyzcpe_aligned", "xyzcpe_packed", "append", "rgb"]
LAYOUTS: tuple[str, ...] = get_args(OutputLayout)

_INT8, _UINT8, _FLOAT32 = 1, 2, 7
_XYZ = tuple(CloudField(name, 4 * i, _FLOAT32) for i, name in enumerate("xyz"))
_LABEL_FIELDS = ("class_id", "probability", "entropy")


@dataclass(frozen=True, eq=False)
class CloudParts:
    """The body of a PointCloud2; nodes and bags put it into their own message type."""

    height: int
    width: int
    fields: tuple[CloudField, ...]
    is_bigendian: bool
    point_step: int
    row_step: int
    data: array[int]
    """``array.array('B')``: the one type that rclpy assigns without a copy per byte."""
    is_dense: bool
    """True where every coordinate is finite, whatever the input claimed."""


def encode_labels(
    message: CloudMessage,
    segmentation: Segmentation,
    layout: OutputLayout = "xyzcpe_aligned",
    buffer: array[int] | None = None,
) -> CloudParts:
    """Make the labelled form of a cloud: its height, width and point order, one label a point.

    - ``xyzcpe_aligned``: x y z, class_id u8@12, probability f32@16, entropy f32@20; 24 bytes, the
      layout that Autoware's consumers check for
    - ``xyzcpe_packed``: x y z, class_id u8@12, probability f32@13, entropy f32@17; 21 bytes
    - ``append``: every byte of every input point in the input's byte order, then class_id u8, and
      on the next multiples of 4 probability f32 and entropy f32
    - ``rgb``: x y z, rgb f32@12 whose bits are 0x00RRGGBB, black where unlabelled; 16 bytes

    ``buffer`` is written in place and returned as ``data`` where its length fits, else replaced.
    Raises CloudError where the message is broken, the lengths differ, or ``append`` would give two
    fields one name.
    """
    cloud = CloudBytes.of(message)
    if len(cloud) != len(segmentation):
        raise CloudError(f"cloud has {len(cloud)} points, segmentation {len(segmentation)} labels")
    if layout == "append":
        return _append(cloud, segmentation, buffer)
    if layout == "xyzcpe_aligned":
        fields, step = _XYZ + _labels_at(12, 16, 20), 24
    elif layout == "xyzcpe_packed":
        fields, step = _XYZ + _labels_at(12, 13, 17), 21
    elif layout == "rgb":
        fields, step = (*_XYZ, CloudField("rgb", 12, _FLOAT32)), 16
    else:
        raise CloudError(f"unknown output layout {layout!r}; known: {', '.join(LAYOUTS)}")
    data, out = _allocate(cloud.height, cloud.width, step, buffer)
    row_step = step * cloud.width if len(cloud) else 0  # 0 × any width would not fit 32 bits
    if len(cloud):
        xyz = cloud.xyz()
        packed = xyz.astype("<f4", copy=False).view("V12")
        _column(out, 0, "V12")[...] = packed.reshape(out.shape)
        if layout == "rgb":
            _column(out, 12, "<u4")[...] = _rgb(segmentation).reshape(cloud.height, cloud.width)
        else:
            # an aligned class_id is written with its three bytes of padding, which so become zero
            class_type = "<u4" if layout == "xyzcpe_aligned" else "u1"
            _write_labels(out, segmentation, fields[3:], class_type, "<f4")
        dense = bool(np.isfinite(xyz).all())
    else:
        dense = True
    return CloudParts(cloud.height, cloud.width, fields, False, step, row_step, data, dense)


def encode_scan(scan: LidarScan, extra: Mapping[str, NDArray[Any]] | None = None) -> CloudParts:
    """Write a scan as one row of packed points: x y z, then intensity, ring and time as present.

    With all (f32, u16, f32) this is the 22-byte layout of the Velodyne driver. ``extra`` adds
    columns [N] of PointCloud2's number types under their names, e.g. true labels.
    """
    columns: dict[str, NDArray[Any]] = {name: scan.xyz[:, i] for i, name in enumerate("xyz")}
    for name in ("intensity", "ring", "time"):
        if getattr(scan, name) is not None:
            columns[name] = getattr(scan, name)
    columns.update(extra or {})
    fields, step = [], 0
    for name, column in columns.items():
        if column.dtype not in DATATYPE_OF or column.shape != (len(scan),):
            raise CloudError(
                f"column {name!r} is {column.dtype} {list(column.shape)}; "
                f"expected a number type of PointCloud2 and [{len(scan)}]"
            )
        fields.append(CloudField(name, step, DATATYPE_OF[column.dtype]))
        step += column.dtype.itemsize
    data, out = _allocate(1, len(scan), step, None)
    for field in fields if len(scan) else ():
        column = columns[field.name]
        _column(out, field.offset, column.dtype.newbyteorder("<").str)[0] = column
    return CloudParts(
        1, len(scan), tuple(fields), False, step, step * len(scan), data, bool(scan.valid.all())
    )


def _append(cloud: CloudBytes, segmentation: Segmentation, buffer: array[int] | None) -> CloudParts:
    layout = cloud.layout
    if taken := [name for name in _LABEL_FIELDS if name in layout]:
        raise CloudError(
            f"cloud already has field {taken[0]!r}; layout append would write a second one"
        )
    class_at = layout.point_step
    probability_at = (class_at + 4) // 4 * 4  # the next multiple of 4 behind the class_id byte
    labels = _labels_at(class_at, probability_at, probability_at + 4)
    step = probability_at + 8
    data, out = _allocate(cloud.height, cloud.width, step, buffer)
    dense = True
    if len(cloud):
        out.view(np.uint8).reshape(*out.shape, step)[..., class_at:probability_at] = 0
        _column(out, 0, f"V{class_at}")[...] = cloud.points()
        _write_labels(out, segmentation, labels, "u1", ">f4" if layout.bigendian else "<f4")
        dense = bool(np.isfinite(cloud.xyz()).all())
    return CloudParts(
        cloud.height,
        cloud.width,
        layout.fields + labels,
        layout.bigendian,
        step,
        step * cloud.width if len(cloud) else 0,
        data,
        dense,
    )


def _labels_at(class_id: int, probability: int, entropy: int) -> tuple[CloudField, ...]:
    return (
        CloudField("class_id", class_id, _UINT8),
        CloudField("probability", probability, _FLOAT32),
        CloudField("entropy", entropy, _FLOAT32),
    )


def _allocate(
    height: int, width: int, step: int, buffer: array[int] | None
) -> tuple[array[int], NDArray[np.void]]:
    """Return the data array and its view as [height, width] points of ``step`` bytes."""
    size = height * width * step
    if buffer is None or buffer.typecode != "B" or len(buffer) != size:
        buffer = array("B", bytes(1)) * size
    return buffer, np.ndarray((height, width), f"V{step}", buffer)


def _column(out: NDArray[np.void], offset: int, dtype: str) -> NDArray[Any]:
    """[height, width] view of one field of the output."""
    return np.ndarray(out.shape, dtype, out.data, offset, out.strides)


def _write_labels(
    out: NDArray[np.void],
    segmentation: Segmentation,
    fields: tuple[CloudField, ...],
    class_type: str,
    float_type: str,
) -> None:
    class_id, probability, entropy = fields
    _column(out, class_id.offset, class_type)[...] = segmentation.labels.reshape(out.shape)
    _column(out, probability.offset, float_type)[...] = segmentation.probability.reshape(out.shape)
    _column(out, entropy.offset, float_type)[...] = segmentation.entropy.reshape(out.shape)


def _rgb(segmentation: Segmentation) -> NDArray[np.uint32]:
    """[N] colours 0x00RRGGBB."""
    red, green, blue = segmentation.label_set.palette.astype(np.uint32).T
    table: NDArray[np.uint32] = red << 16 | green << 8 | blue
    return table[segmentation.labels]
